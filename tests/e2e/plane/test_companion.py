"""Does the real HPA controller set what we publish, through the real aggregator, with the certificate that we made ourselves?

The companion runs as it would in a cluster: a service account with the rights that are shipped, its certificate in a Secret that
lies there empty, an APIService that trusts nothing yet. Its Service is a name for loopback, which the API server dials.
"""

from __future__ import annotations

import base64
import json
import os
import random
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from autoscaler.companion.certificates import Issued, issue, new_keys
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.policy.autoscalers import horizontal
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane, Refused
from tests.e2e.plane.servers import free_ports
from tests.e2e.plane.workloads import Place
from tests.policy_documents import edited

pytestmark = [pytest.mark.plane, pytest.mark.slow]

HOME = "default"  # the namespace of a kubeconfig that names none
NAME = "pd-autoscaler-companion"
GROUP = "external.metrics.k8s.io"
API_SERVICE = f"v1beta1.{GROUP}"
DESIRED = "pdautoscaler_desired_replicas"
STEPS = 50
MOST = 64
REST_S = 6.0  # six looks of the HPA controller
COMPONENTS = Path(__file__).parents[3] / "manifests" / "components"


def documents(port: int, watched: str) -> Iterator[dict[str, Any]]:
    """What an installation brings, its APIService last: as shipped, but for the namespaces, the Service and its port."""
    for path in ("companion/role.yaml", "companion/secret.yaml", "external-metrics/apiservice.yaml"):
        text = (COMPONENTS / path).read_text(encoding="utf-8").replace("namespace: pd-autoscaler", f"namespace: {HOME}")
        for document in yaml.safe_load_all(text):
            if document["kind"] == "APIService":
                yield service()
                document["spec"]["service"]["port"] = port
            if document["kind"] in ("Role", "RoleBinding"):
                yield {**document, "metadata": document["metadata"] | {"namespace": watched}}
            if not document["kind"].startswith(("Cluster", "APIService")):
                document["metadata"]["namespace"] = HOME
            yield document


def service() -> dict[str, Any]:
    """A name for loopback, where a cluster has pods."""
    spec = {"type": "ExternalName", "externalName": "localhost"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": HOME}, "spec": spec}


@contextmanager
def companion(plane: Plane, port: int, namespace: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of it, killed at the end."""
    command = [sys.executable, "-m", "autoscaler", "serve", "--listen", f"127.0.0.1:{port}", "--namespace", namespace, *options]
    environment = {**os.environ, "KUBECONFIG": str(plane.kubeconfig_for(HOME, NAME))}
    with (plane.folder / "companion.log").open("ab") as log:
        process = subprocess.Popen(command, stderr=log, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Stage:
    """A fleet whose decode pool an HPA is to set, and a companion."""

    process: subprocess.Popen[bytes]

    def __init__(self, plane: Plane, port: int) -> None:
        self.plane, self.port, self.place = plane, port, Place(plane)
        changes = {"metadata.namespace": self.place.namespace, "spec.mode": "Auto", "spec.pools.decode.max": MOST}
        self.raw = edited(changes)
        self.place.kubectl("create", "-f", "-", input=json.dumps(self.raw))
        self.place.leader_worker_set("chat-decode", 1)

    def tell(self, desired: int, age_s: float = 0.0) -> None:
        """What a controller would write into the status."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age_s))
        status = {"mode": "Auto", "lastTick": at, "pools": {"decode": {"target": desired, "actuation": "hpa"}}}
        patch = json.dumps({"status": status})
        self.place.kubectl("patch", "pdautoscaler", "chat", "--subresource=status", "--type=merge", "-p", patch)

    def autoscaler(self) -> None:
        """The HPA that we print for such a pool."""
        made = horizontal(Document.model_validate(self.raw), Role.DECODE)
        self.place.kubectl("create", "-f", "-", input=json.dumps(made))

    def wanted(self) -> int:
        return self.place.wanted("leaderworkerset/chat-decode")

    def available(self) -> bool:
        found = json.loads(self.plane.kubectl("get", "apiservice", API_SERVICE, "-o", "json"))
        conditions = found.get("status", {}).get("conditions", ())
        return ("Available", "True") in [(one["type"], one["status"]) for one in conditions]

    def value(self) -> str:
        """What the API server answers when it is asked for the count."""
        (item,) = json.loads(self.plane.kubectl("get", "--raw", self.path()))["items"]
        return str(item["value"])

    def path(self) -> str:
        query = "labelSelector=policy%3Dchat%2Crole%3Ddecode"
        return f"/apis/{GROUP}/v1beta1/namespaces/{self.place.namespace}/{DESIRED}?{query}"


@pytest.fixture(scope="module")
def installed(plane: Plane) -> Iterator[Stage]:
    """The whole installation; the APIService goes first, or no namespace would ever end."""
    plane.install_crd()
    (port,) = free_ports(1)
    stage = Stage(plane, port)
    plane.kubeconfig_for(HOME, NAME)
    made = list(documents(port, stage.place.namespace))
    for document in made:
        plane.kubectl("create", "-f", "-", input=json.dumps(document))
    yield stage
    for document in reversed(made):
        plane.kubectl("delete", "--wait=false", "-f", "-", input=json.dumps(document))
    plane.kubectl("delete", "namespace", stage.place.namespace, "--wait=false")


@pytest.fixture(scope="module")
def serving(installed: Stage) -> Iterator[Stage]:
    """One whose companion the API server has found."""
    with companion(installed.plane, installed.port, installed.place.namespace) as installed.process:
        wait_until(installed.available, "the APIService is available")
        yield installed


def test_discovery_and_a_value_come_through_the_aggregator(serving: Stage) -> None:
    serving.tell(7)
    found = json.loads(serving.plane.kubectl("get", "--raw", f"/apis/{GROUP}/v1beta1"))
    assert (found["kind"], DESIRED in {one["name"] for one in found["resources"]}) == ("APIResourceList", True)
    wait_until(lambda: serving.value() == "7", "the value that was told")
    assert DESIRED in serving.plane.kubectl("api-resources", f"--api-group={GROUP}", "-o", "name")


def test_the_real_hpa_sets_exactly_what_is_published_over_a_random_walk_and_holds_when_it_is_stale(serving: Stage) -> None:
    serving.tell(1)
    serving.autoscaler()
    walk, chance = [1], random.Random(8)
    while len(walk) <= STEPS:
        step = chance.choice((-13, -5, -2, -1, 1, 2, 5, 13))
        walk.append(min(MOST, max(1, walk[-1] + step)))
    walk += [MOST, MOST - 1, MOST, 10, 9, 10, 11, 1]
    for desired in walk:
        serving.tell(desired)
        wait_until(lambda: serving.wanted() == desired, f"{desired} replicas")  # noqa: B023 - waited for at once
    serving.tell(33, age_s=3600.0)
    with pytest.raises(Refused, match=r"last word is 36\d\d s old"):
        wait_until(lambda: serving.value() == "33", "nothing")
    time.sleep(REST_S)
    assert serving.wanted() == walk[-1]
    hpa = json.loads(serving.place.kubectl("get", "hpa", "chat-decode", "-o", "json"))
    active = next(one for one in hpa["status"]["conditions"] if one["type"] == "ScalingActive")
    assert (active["status"], active["reason"]) == ("False", "FailedGetExternalMetric")


def test_a_namespace_can_be_deleted_while_the_companion_is_registered(serving: Stage) -> None:
    namespace = serving.plane.namespace()
    serving.plane.kubectl("delete", "namespace", namespace, "--timeout=60s")


def test_after_a_kill_the_next_one_is_found_with_the_same_certificate(serving: Stage) -> None:
    certificate = ("get", "secret", NAME, "-n", HOME, "-o", r"jsonpath={.data.tls\.crt}")
    before = serving.plane.kubectl(*certificate)
    serving.process.kill()
    serving.process.wait()
    serving.tell(5)
    assert _quietly(serving) == ""
    with companion(serving.plane, serving.port, serving.place.namespace):
        wait_until(lambda: _quietly(serving) == "5", "the value that was told")
    assert before
    assert serving.plane.kubectl(*certificate) == before


def test_another_certificate_under_load_costs_no_request(serving: Stage, tmp_path: Path) -> None:
    """Files that are written one after the other, as nobody should; each change is also half a change for a moment."""
    serving.process.kill()
    serving.process.wait()
    pairs = [issue(time.time(), [f"{NAME}.{HOME}.svc"], 3600.0, new_keys()) for _ in range(2)]
    bundle = base64.b64encode(b"".join(one.authority for one in pairs)).decode()
    patch = json.dumps({"spec": {"caBundle": bundle}})
    serving.plane.kubectl("patch", "apiservice", API_SERVICE, "--type=merge", "-p", patch)
    files = tmp_path / "tls.crt", tmp_path / "tls.key"

    def write(issued: Issued) -> None:
        files[0].write_bytes(issued.pair.certificate)
        time.sleep(0.05)
        files[1].write_bytes(issued.pair.key)

    def served(issued: Issued) -> bool:
        return ssl.get_server_certificate(("127.0.0.1", serving.port)).split() == issued.pair.certificate.decode().split()

    write(pairs[0])
    options = ("--cert", str(files[0]), "--key", str(files[1]))
    with companion(serving.plane, serving.port, serving.place.namespace, *options):
        wait_until(lambda: bool(_quietly(serving)), "it is found")
        with Load(serving) as load:
            for turn in range(1, 7):
                write(pairs[turn % 2])
                wait_until(lambda: served(pairs[turn % 2]), "the other certificate")  # noqa: B023 - waited for at once
    assert load.failed == []
    assert load.answered > 100


class Load:
    """Requests through the API server from three threads, each with a connection of its own."""

    def __init__(self, stage: Stage) -> None:
        self._url = f"{stage.plane.server}{stage.path()}"
        self._session = stage.plane._session
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        self.answered, self.failed = 0, list[str]()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        headers, verify = self._session.headers, self._session.verify
        with requests.Session() as session:
            session.trust_env = False
            while not self._stop.is_set():
                answer = session.get(self._url, headers=headers, verify=verify, timeout=20)
                self.answered += 1
                if not answer.ok:
                    self.failed.append(f"{answer.status_code} {answer.text}")
                time.sleep(0.01)


def _quietly(stage: Stage) -> str:
    try:
        return stage.value()
    except Refused:
        return ""


def test_what_is_shipped_is_accepted_in_any_namespace(serving: Stage, tmp_path: Path) -> None:
    here, namespace = tmp_path.resolve(), serving.place.namespace
    parts = [os.path.relpath(COMPONENTS / part, here) for part in ("companion", "external-metrics")]
    overlay = {"namespace": namespace, "components": parts}
    (here / "kustomization.yaml").write_text(json.dumps(overlay))
    told = serving.plane.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-k", str(here)
    )
    assert len(told.splitlines()) == 11
    made = list(yaml.safe_load_all(serving.plane.kubectl("kustomize", str(here))))
    assert {one["metadata"].get("namespace", namespace) for one in made} == {namespace}
    (registration,) = [one for one in made if one["kind"] == "APIService"]
    bindings = [one["subjects"][0]["namespace"] for one in made if one["kind"].endswith("Binding")]
    assert [registration["spec"]["service"]["namespace"], *bindings] == [namespace] * 3


def test_what_the_log_tells_has_no_traceback(installed: Stage) -> None:
    assert "Traceback" not in Path(installed.plane.folder / "companion.log").read_text()
