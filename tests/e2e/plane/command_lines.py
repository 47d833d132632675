"""With which options does each program of the plane run, and why?

Leader elections are off (one of each runs, and a restart would wait for a lease), and so is every port that nobody
reads. What an autoscaler meets is on: RBAC, quota, garbage collection, HPA, roll-outs, taints, disruption budgets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.plane.binaries import Binaries
from tests.e2e.plane.credentials import FRONT_PROXY, Credentials

STAGES = Path(__file__).parent / "stages.yaml"
ADVERTISED, NODE = "198.51.100.1", "198.51.100.2"  # from a range that is routed nowhere (RFC 5737)
SERVICES = "127.96.0.0/16"  # never dialled: there is no kube-proxy
PODS = 90  # ranges of pods to choose from, below that of services

# No EndpointSlices: nobody reads them here, and they do not take the loopback addresses that pods have.
CONTROLLERS = (
    "deployment replicaset statefulset job garbage-collector namespace pod-garbage-collector "
    "serviceaccount serviceaccount-token root-ca-certificate-publisher resourcequota horizontal-pod-autoscaler "
    "disruption node-lifecycle taint-eviction"
)


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of one plane."""

    etcd: int
    etcd_peer: int
    api: int
    webhooks: int


def command_lines(binaries: Binaries, credentials: Credentials, folder: Path, ports: Ports) -> Mapping[str, list[str]]:
    """Program name to command line, in the order in which they start."""
    (folder / "lws.yaml").write_text(json.dumps(_lws_configuration(folder, ports)))
    options = {
        "etcd": _etcd(folder, ports),
        "kube-apiserver": _api_server(credentials, ports),
        "kube-controller-manager": _controller_manager(credentials),
        "kube-scheduler": [f"--kubeconfig={credentials.kubeconfig('kube-scheduler')}", "--secure-port=0", "--leader-elect=false"],
        "kwok": _kwok(binaries, credentials, ports),
        "lws-manager": [f"--kubeconfig={credentials.kubeconfig('lws-manager')}", f"--config={folder / 'lws.yaml'}"],
    }
    return {name: [str(binaries.programs[name]), *words] for name, words in options.items()}


def _etcd(folder: Path, ports: Ports) -> list[str]:
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    return [
        "--name=plane",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=plane={peer}",
        "--heartbeat-interval=10",  # ms, and the election below: a lone member waits for nobody
        "--election-timeout=100",
        "--unsafe-no-fsync",  # a crash of the whole machine ends the tests anyway
        "--log-level=warn",
    ]


def _api_server(credentials: Credentials, ports: Ports) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={ports.api}",
        f"--advertise-address={ADVERTISED}",
        "--endpoint-reconciler-type=none",
        f"--service-cluster-ip-range={SERVICES}",
        f"--tls-cert-file={credentials.certificate}",
        f"--tls-private-key-file={credentials.key}",
        f"--token-auth-file={credentials.tokens}",
        "--authorization-mode=RBAC",
        "--anonymous-auth=false",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={credentials.certificate}",
        f"--service-account-signing-key-file={credentials.key}",
        f"--requestheader-client-ca-file={credentials.front_proxy}",  # and below: how requests are passed on to others
        f"--requestheader-allowed-names={FRONT_PROXY}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={credentials.front_proxy}",
        f"--proxy-client-key-file={credentials.front_proxy_key}",
        "--profiling=false",
    ]


def _controller_manager(credentials: Credentials) -> list[str]:
    return [
        f"--kubeconfig={credentials.kubeconfig('kube-controller-manager')}",
        "--secure-port=0",
        "--leader-elect=false",
        f"--controllers={','.join(f'{name}-controller' for name in CONTROLLERS.split())}",
        f"--service-account-private-key-file={credentials.key}",
        f"--root-ca-file={credentials.certificate}",
        "--horizontal-pod-autoscaler-sync-period=1s",  # 15 s by default: a test would wait for it
        "--resource-quota-sync-period=10s",  # 5 min by default
    ]


def _kwok(binaries: Binaries, credentials: Credentials, ports: Ports) -> list[str]:
    """All of 127.0.0.0/8 is loopback, so a test can listen at a pod's own address. Another range for another plane beside it."""
    return [
        f"--kubeconfig={credentials.kubeconfig('kwok')}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        f"--cidr=127.{1 + ports.api % PODS}.0.0/16",
        f"--node-ip={NODE}",
        f"--config={STAGES}",
        f"--config={binaries.manifests / 'node-initialize.yaml'}",
    ]


def _lws_configuration(folder: Path, ports: Ports) -> dict[str, object]:
    """The LWS manager's own document: webhooks on loopback with our certificate, everything else off."""
    return {
        "apiVersion": "config.lws.x-k8s.io/v1alpha1",
        "kind": "Configuration",
        "internalCertManagement": {"enable": False},
        "leaderElection": {"leaderElect": False},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": ports.webhooks, "certDir": str(folder)},
    }
