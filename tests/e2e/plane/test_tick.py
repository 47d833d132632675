"""Does one tick of the real command read a real cluster, and write to it exactly when it was told to?

Prometheus is a page of canned numbers here, the same for every query: each pod idle, and more arrivals than the fleet
can serve. What a real Prometheus answers is another test's matter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.workloads import Place, policy

pytestmark = [pytest.mark.plane, pytest.mark.slow]

MODEL = "llama"


def rows(namespace: str, pods: Sequence[str], offered_rps: float) -> list[dict[str, Any]]:
    """A Prometheus answer: idle pods, and this many requests a second from the gateway."""
    found = [
        {"signal": f"pods.{name}", "namespace": namespace, "pod": pod, "value": value}
        for pod in pods
        for name, value in {"waiting": 0.0, "running": 1.0, "kv_usage": 0.1, "age_s": 1.0}.items()
    ]
    traffic = {"offered_rps": offered_rps, "age_s": 1.0}
    found += [
        {"signal": f"traffic.{name}", "namespace": namespace, "model_name": MODEL, "value": v} for name, v in traffic.items()
    ]
    return [{"value": [0.0, str(row.pop("value"))], "metric": row} for row in found]


@pytest.fixture
def prometheus() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its address, and the rows that it answers."""
    answer: list[dict[str, Any]] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": answer}}).encode()
            self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answer
        server.shutdown()


def tick(kubeconfig: Path, policies: Path, prometheus: str, *options: str, cluster: str = "kubernetes") -> dict[str, Any]:
    """The status that the command prints."""
    arguments = ["tick", "--policy", str(policies), "--prometheus", prometheus, "--cluster", cluster, "--json", *options]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "autoscaler", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    (status,) = json.loads(done.stdout)
    assert isinstance(status, dict)
    return status


def test_a_tick_writes_what_it_decided_only_if_it_may_act(
    plane: Plane, tmp_path: Path, prometheus: tuple[str, list[dict[str, Any]]]
) -> None:
    place, (url, answer) = Place(plane), prometheus
    place.deployment("other", 1)
    place.leader_worker_set("engines", 1, size=2)
    wait_until(lambda: len(place.ready_pods()) == 3, "one pod of the Deployment, two of the group")
    answer.extend(rows(place.namespace, sorted(place.ready_pods()), offered_rps=200.0))
    document = policy(place.namespace, {"name": "engines"})
    document["spec"] |= {"mode": "Auto", "gateway": "llm-d", "requestShape": {"promptTokens": 2000, "outputTokens": 100}}
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(document))

    dry = tick(plane.kubeconfig, file, url)
    assert dry["pools"]["prefill"]["phases"] == {"serving": 1}
    wanted = dry["pools"]["prefill"]["target"]
    assert wanted > 1, dry
    assert (place.wanted("leaderworkerset/engines"), place.wanted("deployment/other")) == (1, 1)

    context = plane.kubectl("config", "current-context").strip()
    acted = tick(plane.kubeconfig, file, url, "--act", cluster=f"kubernetes:{context}")
    assert {action["verdict"] for action in acted["actions"]} == {"Applied"}
    assert place.wanted("leaderworkerset/engines") == wanted
    wait_until(lambda: len(place.ready_pods()) >= 2 * wanted, "pods follow")
    plane.kubectl("delete", "namespace", place.namespace, "--wait=false")
