"""How does a test put several fleets side by side under one real controller, and break one of them?

A `Site` is one fleet: a namespace of its own, two pools, the PDAutoscaler "chat" that is looked at every second, and a load
of its own on the page of canned numbers of test_tick.py. `Running` is the real command over some of them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.adapters.kubernetes import KubeApi, connect
from autoscaler.adapters.kubernetes.api import ApiFault
from tests.e2e.plane.hanging import Extension, Webhook
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.test_tick import prometheus, rows
from tests.e2e.plane.workloads import Place, policy
from tests.e2e.processes import Process, wait_for

__all__ = ["prometheus"]  # a fixture that `sites` uses

STEPS = (60.0, 160.0, 400.0, 900.0)  # requests a second, each more than the replicas for the one before can serve
AT_ONCE = {"replicas": 100, "percent": 1000, "periodSeconds": 1}  # what a fleet needs is written in one go
LWS = "/apis/leaderworkerset.x-k8s.io/v1"


class Load:
    """The page of canned numbers, of many fleets."""

    def __init__(self, url: str, answer: list[dict[str, Any]]) -> None:
        self.url, self._answer = url, answer
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def put(self, namespace: str, numbers: list[dict[str, Any]]) -> None:
        """From now on the fleet of this namespace has these numbers."""
        self._rows[namespace] = numbers
        self._answer[:] = [row for rows in self._rows.values() for row in rows]


class Site:
    """One fleet. Its prefill pool is `target`, the LeaderWorkerSet "engines" unless told otherwise; decode a Deployment."""

    def __init__(self, plane: Plane, api: KubeApi, load: Load, target: Mapping[str, str] | None = None) -> None:
        self.place, self.api, self._load = Place(plane), api, load
        self.namespace, self._target = self.place.namespace, dict(target or {"name": "engines"})
        self.place.deployment("other", 1)
        if target is None:
            self.place.leader_worker_set("engines", 1)

    def create(self, **spec: Any) -> None:
        """Make its PDAutoscaler, in mode Auto, with other values in `spec`."""
        document = policy(self.namespace, self._target)
        document["spec"] |= {"mode": "Auto", "gateway": "llm-d", "requestShape": {"promptTokens": 2000, "outputTokens": 100}}
        document["spec"]["behaviour"] = {"tickSeconds": 1, "scaleUp": {"step": AT_ONCE}}
        for pool in document["spec"]["pools"].values():
            pool["max"] = 100
        document["spec"] |= spec
        self.kubectl("create", "-f", "-", input=json.dumps(document))

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        return self.place.kubectl(*arguments, input=input)

    def edit(self, **spec: Any) -> None:
        """Change the spec of its PDAutoscaler."""
        self.kubectl("patch", "pda/chat", "--type=merge", "-p", json.dumps({"spec": spec}))

    def offer(self, rps: float) -> None:
        """From now on so many requests a second, over the pods that are ready."""
        pods = wait_for(lambda: len(ready := self.place.ready_pods()) >= 2 and ready, "a pod of each role is ready")
        self._load.put(self.namespace, rows(self.namespace, sorted(pods), offered_rps=rps))

    def wanted(self, path: str = "", name: str = "engines") -> int:
        """What the target is asked for, without the 100 ms that kubectl takes."""
        path = path or f"{LWS}/namespaces/{self.namespace}/leaderworkersets"
        answer = self.api.get(f"{path}/{name}")
        assert not isinstance(answer, ApiFault), answer
        return int(answer["spec"].get("replicas", 0))

    def grows(self, rps: float, patience_s: float = 60.0) -> float:
        """Offer more than it can serve; the seconds from there to the count it is then asked for."""
        before = self.wanted()
        self.offer(rps)
        began_s = time.monotonic()
        while self.wanted() <= before:
            assert time.monotonic() < began_s + patience_s, f"{self.namespace} stays at {before}: {self.told()}"
            time.sleep(0.01)
        return time.monotonic() - began_s

    def status(self) -> dict[str, Any]:
        """What stands in its PDAutoscaler."""
        stored: dict[str, Any] = json.loads(self.kubectl("get", "pda", "chat", "-o", "json")).get("status") or {}
        return stored

    def condition(self, kind: str) -> tuple[str, str, str]:
        """(status, reason, message) of a condition; empty texts before there is one."""
        found: dict[str, str] = next((one for one in self.status().get("conditions") or () if one["type"] == kind), {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def events(self) -> list[tuple[str, str]]:
        """(reason, note) of the Events about it."""
        found = json.loads(self.kubectl("get", "events", "-o", "json"))["items"]
        return [(one["reason"], one["message"]) for one in found if one["involvedObject"].get("kind") == "PDAutoscaler"]

    def until_able(self, reason: str) -> None:
        """Until its condition AbleToScale has this reason."""
        self.until(lambda: self.condition("AbleToScale")[1] == reason, f"AbleToScale says {reason}")

    def told(self) -> str:
        """For the message of a test that fails."""
        return json.dumps({**self.status(), "events": self.events()})

    def until(self, holds: Callable[[], Any], what: str, patience_s: float = 60.0) -> Any:
        """The first true value; its status is told if there is none in time."""
        try:
            return wait_for(holds, what, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.told()}") from None


class Running:
    """`autoscaler run` over these namespaces."""

    def __init__(self, log: Path, load: Load, namespaces: Sequence[str], lease: str) -> None:
        arguments = ["run", "--port", "0", "--listen", "127.0.0.1:0", "--prometheus", load.url, "--cluster", "kubernetes"]
        for namespace in namespaces:
            arguments += ["--namespace", namespace]
        self.process = Process([*arguments, "--lease", lease], log)
        self._session = requests.Session()
        self._session.trust_env = False
        self._address = self.process.address("metrics and probes")

    def until_leading(self) -> int:
        """Wait until it may act; the term that it was last given."""
        return int(wait_for(lambda: re.findall(r"leading in term (\d+) ", self.log()), "it leads")[-1])

    def log(self) -> str:
        """What it has logged so far."""
        return self.process.log.read_text()

    def healthz(self) -> int:
        """What a kubelet gets."""
        return self._session.get(f"{self._address}/healthz", timeout=10).status_code

    def metric(self, name: str, **labels: str) -> float:
        """A sample of its own metrics; 0 if there is none."""
        text = self._session.get(f"{self._address}/metrics", timeout=10).text
        found = (one for family in text_string_to_metric_families(text) for one in family.samples)
        return sum(one.value for one in found if one.name == name and labels.items() <= one.labels.items())

    def series(self) -> int:
        """How many samples its own metrics have."""
        text = self._session.get(f"{self._address}/metrics", timeout=10).text
        return sum(len(family.samples) for family in text_string_to_metric_families(text))

    def threads(self) -> int:
        """How many it has."""
        return len(list(Path(f"/proc/{self.process.process.pid}/task").iterdir()))

    def is_punctual(self) -> bool:
        """Whether no tick was skipped but for one: a busy machine may cost that, a hanging request would cost five."""
        return self.metric("pd_autoscaler_ticks_skipped_total") <= 1

    def close(self) -> None:
        """End it, however it is."""
        self._session.close()
        if self.process.process.poll() is None:
            self.process.process.kill()
            self.process.process.wait()


class Sites:
    """What the tests here are made of; all of it ends with the test."""

    def __init__(self, plane: Plane, folder: Path, load: Load, closing: ExitStack) -> None:
        self.plane, self.load, self._folder, self._closing = plane, load, folder, closing
        self.api: KubeApi = connect()
        self._controllers = 0

    def site(self, **options: Any) -> Site:
        made = Site(self.plane, self.api, self.load, **options)
        self._closing.callback(self.plane.kubectl, "delete", "namespace", made.namespace, "--wait=false", "--ignore-not-found")
        return made

    def webhook(self) -> Webhook:
        made = Webhook(self.plane)
        self._closing.callback(made.stop)
        return made

    def extension(self, group: str, kinds: Sequence[dict[str, Any]]) -> Extension:
        made = Extension(self.plane, group, kinds)
        self._closing.callback(made.stop)
        return made

    def running(self, *namespaces: str) -> Running:
        self._controllers += 1
        log = self._folder / f"{self._controllers}.log"
        made = Running(log, self.load, namespaces, f"{namespaces[0]}/pd-autoscaler")
        self._closing.callback(made.close)
        made.until_leading()
        return made


@pytest.fixture
def sites(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prometheus: tuple[str, list[dict[str, Any]]]
) -> Iterator[Sites]:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    plane.install_crd()
    with ExitStack() as closing:
        yield Sites(plane, tmp_path, Load(*prometheus), closing)
