"""Does the loop close through a real Prometheus?

    real Azure conversation trace -> simulated fleet in real time, an exporter per replica   (process 1)
        -> real Prometheus, one scrape a second                                              (process 2)
            -> the controller, which sees the fleet's load only through it                   (process 3)
                -> scales the simulated fleet

Minutes 13 to 37 of the trace, played ten times as fast: 20 s whose load hardly moves, 80 s of rising prompts, a fall,
the end of the trace, silence. Decode's load rises with the first requests, stays, and falls when they end. Time-outs
are generous and bound how long the test waits, never what it asserts; order and values come from the status frames.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.adapters.prometheus_server import RealPrometheus, find_prometheus
from tests.e2e.processes import Process, wait_for

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.alone]

COMPRESS = 10.0
FIRST_MINUTE, MINUTES = 13, 24
FLAT_UNTIL_S = 26.0  # minutes 13 to 17 of the trace: 4,900 to 5,150 prompt tokens per second
POLICY = {
    "apiVersion": "pdautoscaler.io/v1alpha1",
    "kind": "PDAutoscaler",
    "metadata": {"name": "loop", "namespace": "e2e"},
    "spec": {
        "mode": "Auto",
        "model": "llama-3-8b",
        "engine": "vllm",
        "gateway": "llm-d",
        "profile": "llama-3-8b-a100-tp1",
        "slo": {"ttft": {"seconds": 2.0, "percentile": 95}, "tpot": {"seconds": 0.05, "percentile": 95}},
        "pools": {
            "prefill": {"target": {"name": "loop-prefill"}, "min": 1, "max": 14},
            "decode": {"target": {"name": "loop-decode"}, "min": 1, "max": 14},
        },
        "metrics": {"windowSeconds": 8, "scrapeIntervalSeconds": 1},
        "freshness": {"maxAgeSeconds": 5, "graceSeconds": 10},
        "forecast": {"horizonSeconds": 8, "gapSeconds": 10},
        "behaviour": {
            "tickSeconds": 2,
            "gapSeconds": 6,
            "scaleUp": {"tolerance": 0.15},
            "scaleDown": {
                "tolerance": 0.15,
                "stabilizationSeconds": 20,
                "cooldownSeconds": 4,
                "step": {"replicas": 2, "percent": 30, "periodSeconds": 4},
            },
        },
    },
}


class Loop:
    """The three processes at work."""

    def __init__(self, folder: Path, trace: Path, binary: str) -> None:
        policy = folder / "loop.yaml"
        policy.write_text(yaml.safe_dump(POLICY))
        self.prometheus = RealPrometheus(binary, folder, [])
        self.prometheus.start()
        part = ["--trace", str(trace), "--start", str(FIRST_MINUTE * 60), "--length", str(MINUTES * 60)]
        played = ["--compress", str(COMPRESS), "--startup", "5", "--initial", "prefill=4", "--initial", "decode=3"]
        files = ["--policy", str(policy), "--targets-file", str(folder / "targets.json"), "--port", "0"]
        self.fleet = Process(["fleet", *files, *part, *played], folder / "fleet.log")
        control = self.fleet.address("control")
        self.began = time.monotonic()
        where = ["--prometheus", self.prometheus.url, "--cluster", f"sim:{control}"]
        self.controller = Process(["run", "--policy", str(policy), "--port", "0", *where], folder / "run.log")
        self.page = self.controller.address("live page")
        self.session = requests.Session()
        self.session.trust_env = False

    def history(self) -> list[dict[str, Any]]:
        """Every status so far, oldest first."""
        answer = self.session.get(f"{self.page}/api/history", timeout=10)
        return [frame["status"] for frame in answer.json()] if answer.ok else []

    def latest(self) -> dict[str, Any]:
        """The newest status, findings included."""
        answer = self.session.get(f"{self.page}/api/explain", timeout=10)
        return answer.json() if answer.ok else {}

    def wait_until(self, second: float) -> None:
        """Until so many seconds after the first request."""
        time.sleep(max(0.0, self.began + second - time.monotonic()))

    def close(self) -> None:
        """End what still runs."""
        for one in (self.controller.process, self.fleet.process):
            if one.poll() is None:
                one.kill()
                one.wait()
        self.prometheus.stop()


@pytest.fixture
def loop(tmp_path: Path, shared: Path) -> Iterator[Loop]:
    binary = find_prometheus()
    if binary is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no prometheus on PATH: the loop was not closed through a real one (Debian: apt-get install prometheus)")
    trace = shared / "traces" / "AzureLLMInferenceTrace_2023_conv.csv.gz"
    if not trace.is_file():
        pytest.skip(f"no {trace}: set PDA_SHARED to the folder that holds traces/")
    running = Loop(tmp_path, trace, binary)
    yield running
    running.close()


def actions(history: list[dict[str, Any]], role: str | None = None) -> list[dict[str, Any]]:
    return [action for status in history for action in status["actions"] if role in (None, action["role"])]


def desired(status: dict[str, Any], role: str) -> int:
    return int(status["pools"][role]["desired"])


def at_minimum(status: dict[str, Any]) -> bool:
    return all(pool["desired"] == pool["min_replicas"] for pool in status["pools"].values())


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in status["conditions"] if one["type"] == kind)
    return found


def test_replicas_follow_the_load_hold_while_blind_and_recover(loop: Loop) -> None:
    """One run, since starting three processes and playing a trace is what costs."""
    wait_for(lambda: loop.latest().get("offered_rps"), "the first load seen")

    loop.wait_until(FLAT_UNTIL_S)
    flat = loop.history()
    assert len(flat) >= 8
    assert [desired(flat[-1], role) for role in ("prefill", "decode")] == [4, 3]
    assert actions(flat) == [], "the load hardly moved, so nothing should have"

    risen = wait_for(lambda: desired(loop.latest(), "prefill") >= 8 and loop.latest(), "prefill grown with the prompts", 150)
    assert all(action["to_replicas"] > action["from_replicas"] for action in actions(loop.history(), "prefill"))
    assert condition(risen, "AbleToScale")["status"] is True

    ends_s = MINUTES * 60 / COMPRESS
    loop.wait_until(ends_s - 20)
    loop.prometheus.stop()
    blind = wait_for(lambda: (s := loop.latest()) and not condition(s, "ScalingActive")["status"] and s, "blindness")
    assert condition(blind, "ScalingActive")["reason"] == "SignalsUnreachable"
    seen_blind = len(loop.history())
    time.sleep(8)
    held = loop.history()[seen_blind:]
    assert len(held) >= 2
    assert actions(held) == []
    assert {desired(status, "prefill") for status in held} == {desired(blind, "prefill")}
    loop.prometheus.start()
    wait_for(lambda: condition(loop.latest(), "ScalingActive")["status"], "sight recovered")

    loop.wait_until(ends_s)
    low = wait_for(lambda: (s := loop.latest()) and at_minimum(s) and s, "both pools at their minimum", 180)
    before = len(loop.history())
    time.sleep(10)
    assert actions(loop.history()[before:]) == [], "at the minimum without load there is nothing to do"
    assert low["offered_rps"] == 0

    assert loop.controller.end() < 2
    loop.fleet.end()
