"""Do two controllers on one cluster ever act at once, and does the second take over when the first is paused or killed?

Both are real processes over the real API server and follow the same PDAutoscaler; Prometheus is the page of canned numbers
of test_tick.py.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.plane.plane import Plane
from tests.e2e.plane.test_tick import prometheus, rows
from tests.e2e.plane.workloads import Place, policy
from tests.e2e.processes import Process, wait_for

__all__ = ["prometheus"]  # a fixture

pytestmark = [pytest.mark.plane, pytest.mark.slow]

FAIL_OVER_S = 20.0
PAUSE_S = 60.0


class Pair:
    """Two controllers with one Lease, and the load that both see."""

    def __init__(self, plane: Plane, folder: Path, url: str, answer: list[dict[str, Any]]) -> None:
        self.place, self.answer = Place(plane), answer
        self.place.deployment("other", 1)
        self.place.leader_worker_set("engines", 1)
        document = policy(self.place.namespace, {"name": "engines"})
        document["spec"] |= {"mode": "Auto", "gateway": "llm-d", "requestShape": {"promptTokens": 2000, "outputTokens": 100}}
        document["spec"]["behaviour"] = {"tickSeconds": 1}
        document["spec"].pop("gpuBudget", None)
        for pool in document["spec"]["pools"].values():
            pool["max"] = 100
        plane.install_crd()
        self.place.kubectl("create", "-f", "-", input=json.dumps(document))
        where = ["--prometheus", url, "--cluster", "kubernetes", "--namespace", self.place.namespace]
        where += ["--lease", f"{self.place.namespace}/autoscaler"]
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        self.controllers = []
        for number in range(2):
            started = Process(["run", "--port", "0", *where], folder / f"{number}.log")
            self.controllers.append(started)
            started.address("live page")  # one after the other, so that the first leads

    def offer(self, rps: float) -> None:
        """From now on this many requests a second, over the pods there are."""
        wait_for(lambda: len(self.place.ready_pods()) >= 2, "a pod of each role is ready")
        self.answer[:] = rows(self.place.namespace, sorted(self.place.ready_pods()), offered_rps=rps)

    def wanted(self) -> int:
        """What the LeaderWorkerSet is asked for."""
        return self.place.wanted("leaderworkerset/engines")

    def epoch(self) -> int:
        """The term whose leader wrote to the PDAutoscaler last; -1 before any has."""
        return int(self.place.kubectl("get", "pda/chat", "-o", "jsonpath={.status.state.epoch}") or -1)

    def leads(self, number: int, term: int) -> bool:
        """Whether this controller has said that it leads in this term."""
        return f"leading in term {term} " in self.controllers[number].log.read_text()

    def reasons(self, number: int) -> set[str]:
        """The reasons of this controller's last tick."""
        page = self.controllers[number].address("live page")
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{page}/api/explain", timeout=10).json()
        return {finding["reason"] for finding in answer.get("findings", ())}

    def signal(self, number: int, name: signal.Signals) -> None:
        """Send a controller a signal."""
        self.controllers[number].process.send_signal(name)


@pytest.fixture
def pair(plane: Plane, tmp_path: Path, prometheus: tuple[str, list[dict[str, Any]]]) -> Iterator[Pair]:
    pair = Pair(plane, tmp_path, *prometheus)
    yield pair
    for controller in pair.controllers:
        if controller.process.poll() is None:
            controller.process.send_signal(signal.SIGCONT)
            controller.process.kill()
            controller.process.wait()
    plane.kubectl("delete", "namespace", pair.place.namespace, "--wait=false")


def test_a_paused_leader_is_replaced_and_writes_nothing_when_it_wakes_and_a_killed_one_is_replaced_too(pair: Pair) -> None:
    """One run: starting two controllers and waiting for Leases to run out is what costs."""
    wait_for(lambda: pair.leads(0, term=0), "the first leads")
    pair.offer(rps=60.0)
    first = wait_for(lambda: (count := pair.wanted()) > 1 and count, "the leader scales up")
    assert pair.epoch() == 0

    pair.signal(0, signal.SIGSTOP)
    paused = began = time.monotonic()
    wait_for(lambda: pair.leads(1, term=1), "the second takes over")
    assert time.monotonic() - began <= FAIL_OVER_S
    pair.offer(rps=160.0)
    second = wait_for(lambda: (count := pair.wanted()) > first and count, "the successor scales further")

    assert pair.epoch() == 1

    time.sleep(max(0.0, PAUSE_S - (time.monotonic() - paused)))
    pair.offer(rps=400.0)
    pair.signal(1, signal.SIGSTOP)
    pair.signal(0, signal.SIGCONT)
    wait_for(lambda: "StandingBy" in pair.reasons(0), "the woken one wants to act, may not, and says so")
    stopped_at = pair.wanted()
    assert stopped_at >= second
    pair.signal(1, signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: pair.leads(0, term=2), "the first leads again")
    assert time.monotonic() - began <= FAIL_OVER_S
    wait_for(lambda: pair.wanted() > stopped_at, "and acts")
    assert pair.epoch() == 2
    assert pair.controllers[0].end() < 2
