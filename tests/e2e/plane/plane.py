"""How does a test get a real Kubernetes?

`with Plane(binaries, folder) as plane:` starts etcd, the API server, the controller manager, the scheduler, kwok with a
few fake GPU nodes and the LeaderWorkerSet manager with its webhooks, all on loopback, all data and logs in the folder.
Everything has ended when the block has, however it was left. `Plane` has what tests share: kubectl, a namespace of their
own, accounts with few rights, and the API server failing.

It must be started, and its API server restarted, by a thread that lives on: the kernel ends what a thread has started
when the thread ends (see servers.py).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from tests.e2e.plane import manifests
from tests.e2e.plane.binaries import Binaries
from tests.e2e.plane.command_lines import Ports, command_lines
from tests.e2e.plane.credentials import make_credentials
from tests.e2e.plane.servers import Server, free_ports, wait_for

CRD = Path(__file__).parents[3] / "manifests" / "crd" / "pdautoscalers.yaml"
ADMIN = "admin"
CLIENTS = ("kube-controller-manager", "kube-scheduler", "kwok", "lws-manager")
NODES = 4
PATIENCE_S = 20.0  # of one request
KUBECTL_S = 120.0  # more than any `kubectl wait` here asks for; against a frozen API server it would wait for ever


class Refused(Exception):
    """kubectl failed; the message is what it said."""


class Plane:
    """One control plane. `kubeconfig` is the administrator's, `folder` has the logs."""

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        self.folder, self._binaries = folder, binaries
        self._ports = Ports(*free_ports(4))
        self.server = f"https://127.0.0.1:{self._ports.api}"
        self._credentials = make_credentials(binaries.programs["openssl"], folder, self.server, (ADMIN, *CLIENTS))
        self.kubeconfig = self._credentials.kubeconfig(ADMIN)
        lines = command_lines(binaries, self._credentials, folder, self._ports)
        self.servers = {name: Server(name, line, binaries.programs["setpriv"], folder) for name, line in lines.items()}
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy is for elsewhere
        self._session.verify = str(self._credentials.certificate)
        self._session.headers["Authorization"] = f"Bearer {self._credentials.tokens.read_text().split(',')[0]}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and wait until pods can run. Raises ServerFailed with the log's end; then nothing is left."""
        try:
            self.servers["etcd"].start()
            self.start_api()
            for name in ("kube-controller-manager", "kube-scheduler", "kwok"):
                self.servers[name].start()
            self._install_leader_worker_sets()
            self._add_nodes()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every program and drop the data; the logs stay."""
        for server in reversed(self.servers.values()):
            server.kill()
        self._session.close()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)  # 64 MB at least: etcd reserves its log ahead

    def stop_api(self) -> None:
        """The API server dies: connections are reset, new ones refused."""
        self.servers["kube-apiserver"].kill()

    def start_api(self) -> None:
        """The API server comes (back) up on the same port with the same data; returns when it is ready."""
        api = self.servers["kube-apiserver"]
        api.start()
        wait_for("the API server is ready", lambda: self._answers("/readyz"), api)

    def pause_api(self) -> None:
        """The API server freezes: connections stay open and nothing answers."""
        self.servers["kube-apiserver"].pause()

    def resume_api(self) -> None:
        """The API server goes on where it was frozen."""
        self.servers["kube-apiserver"].resume()

    def kubectl(self, *arguments: str, input: str | None = None, kubeconfig: Path | None = None) -> str:  # noqa: A002
        """What kubectl prints, as the administrator or as the kubeconfig's owner. Raises Refused with its words."""
        command = [str(self._binaries.programs["kubectl"]), f"--kubeconfig={kubeconfig or self.kubeconfig}", *arguments]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder)}  # its cache goes to HOME
        done = subprocess.run(
            command, input=input, env=environment, timeout=KUBECTL_S, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Refused(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def namespace(self) -> str:
        """The name of a fresh namespace in which pods can be made."""
        made = self._create("/api/v1/namespaces", {"metadata": {"generateName": "test-"}})
        name: str = made["metadata"]["name"]
        # Pods are refused until its controller has made the account that they run as; after an outage that backs off.
        controllers, account = self.servers["kube-controller-manager"], f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_for(f"{name} is ready", lambda: self._answers(account), controllers, 240.0)
        return name

    def install_crd(self) -> None:
        """Serve PDAutoscalers, as the manifest has them."""
        self.kubectl("apply", "--server-side", "-f", str(CRD))
        path = "/apis/pdautoscaler.io/v1alpha1/pdautoscalers"
        wait_for(f"{path} is served", lambda: self._answers(path), self.servers["kube-apiserver"])

    def kubeconfig_for(self, namespace: str, serviceaccount: str) -> Path:
        """The kubeconfig of a service account, made if need be: without a RoleBinding it may do nothing."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        if not self._answers(f"{accounts}/{serviceaccount}"):
            self._create(accounts, {"metadata": {"name": serviceaccount}})
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        token = self._create(f"{accounts}/{serviceaccount}/token", request)["status"]["token"]
        return self._credentials.add_kubeconfig(f"{namespace}.{serviceaccount}", token)

    def rss_mib(self) -> Mapping[str, float]:
        """Resident memory of each program in MiB, the pages that they share counted in each."""
        return {name: server.rss_mib() for name, server in self.servers.items()}

    def _install_leader_worker_sets(self) -> None:
        """CRDs, then the manager, then its webhooks, in the order in which each needs the one before."""
        api, manager = self.servers["kube-apiserver"], self.servers["lws-manager"]
        served = []
        for document in manifests.custom_resources(self._binaries.manifests):
            self._create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", document)
            spec = document["spec"]
            served.append(f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}")
        for path in served:
            wait_for(f"{path} is served", partial(self._answers, path), api)
        manager.start()
        address = f"https://127.0.0.1:{self._ports.webhooks}"
        configurations = manifests.webhooks(self._binaries.manifests, address, self._credentials.certificate)
        for url in manifests.webhook_urls(configurations):
            wait_for(f"the webhook {url} answers", partial(self._is_served, url), manager)
        for document in configurations:
            self._create(f"/apis/admissionregistration.k8s.io/v1/{document['kind'].lower()}s", document)

    def _add_nodes(self) -> None:
        for number in range(NODES):
            self._create("/api/v1/nodes", manifests.node(f"gpu-node-{number}"))
        wait_for("all nodes are ready", self._nodes_are_ready, self.servers["kwok"])

    def _nodes_are_ready(self) -> bool:
        nodes = self._session.get(f"{self.server}/api/v1/nodes", timeout=PATIENCE_S).json()["items"]
        conditions = [(entry["type"], entry["status"]) for node in nodes for entry in node["status"].get("conditions", ())]
        return conditions.count(("Ready", "True")) == NODES

    def _create(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        response = self._session.post(f"{self.server}{path}", json=document, timeout=PATIENCE_S)
        if not response.ok:
            raise Refused(f"POST {path}: {response.status_code} {response.text}")
        made: dict[str, Any] = response.json()
        return made

    def _answers(self, path: str) -> bool:
        try:
            return self._session.get(f"{self.server}{path}", timeout=PATIENCE_S).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def _is_served(self, url: str) -> bool:
        """Whether the webhook server knows this address: to an empty review it says 400, to an unknown address 404."""
        try:
            return self._session.post(url, json={}, timeout=PATIENCE_S).status_code != HTTPStatus.NOT_FOUND
        except (requests.ConnectionError, requests.Timeout):
            return False
