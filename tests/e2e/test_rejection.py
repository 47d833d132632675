"""Does a sidecar say no within two seconds of an overload, and yes as soon as nobody leads?

    stub engines and the address of their fleet                (this process)
        -> the controller, which asks them itself              (process 1)
            -> the sidecar, which judges by what it says       (process 2)

There is no Prometheus: what is rejected rests on what engines tell, the owner's word on their speed and on the mean request.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.apps.fleet_control import create_app
from autoscaler.apps.loopback import serve
from autoscaler.core.action import Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Phase, Pool, Replica, Role
from tests.e2e.processes import Process, wait_for
from tests.engines.contract import Launch
from tests.engines.fleet import StubFleet
from tests.engines.vllm import Vllm

pytestmark = [pytest.mark.slow, pytest.mark.alone]  # processes

DARK = "http://127.0.0.1:9"  # nobody listens at the discard port
KEY = "e2e/chat"
JUDGED = ("fits", "idle")
PROMPT = json.dumps({"prompt_tokens": 900, "uncached_tokens": 900}).encode()
POLICY: dict[str, Any] = {
    "apiVersion": "pdautoscaler.io/v1alpha1",
    "kind": "PDAutoscaler",
    "metadata": {"name": "chat", "namespace": "e2e"},
    "spec": {
        "mode": "Auto",
        "model": "llama-3-8b",
        "engine": "vllm",
        "profile": "llama-3-8b-a100-tp1",
        "speed": "profile",
        "slo": {"ttft": {"seconds": 2.0, "percentile": 95}, "tpot": {"seconds": 0.05, "percentile": 95}},
        "pools": {
            "prefill": {"target": {"name": "chat-prefill"}, "min": 2, "max": 2},
            "decode": {"target": {"name": "chat-decode"}, "min": 2, "max": 2},
        },
        "requestShape": {"promptTokens": 1000, "uncachedTokens": 1000, "outputTokens": 200},
        "behaviour": {"tickSeconds": 1},
    },
}


class Standing:
    """A fleet that stands as it is: nobody may change it."""

    def __init__(self, engines: StubFleet) -> None:
        self._engines = engines

    def fleet(self) -> tuple[Fleet, float]:
        now = time.time()
        pools = {}
        for role in Role:
            own = [engine for engine in self._engines.engines.values() if engine.role is role]
            replicas = tuple(
                Replica(one.name, Phase.SERVING, now - 3600, now - 3700, address=f"{one.address[0]}:{one.port}") for one in own
            )
            pools[role] = Pool(role, len(own), replicas, 1)
        return Fleet(KEY, pools), now

    def scale(self, role: Role, expected: int, replicas: int) -> bool:
        return False

    def flip(self, flip: Flip) -> Outcome:
        return Outcome(flip, Verdict.REFUSED, "it stands")


class World:
    """The engines, their fleet's address, and our processes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, 0
        self.engines = StubFleet()
        for role in Role:
            for number in range(2):
                self.engines.start(f"{role}-{number}", Launch(role), Vllm)
        self.busy(0)
        self._control = serve(create_app(Standing(self.engines)))
        self._processes: list[Process] = []

    def busy(self, waiting: int) -> None:
        """From now on so many requests wait in each prefill engine, and all of them run some."""
        for engine in self.engines.engines.values():
            in_line = waiting if engine.role is Role.PREFILL else 0
            lies = {"vllm:num_requests_running": 4.0, "vllm:num_requests_waiting": in_line, "vllm:kv_cache_usage_perc": 0.1}
            engine.lies, engine.hidden = lies, {"vllm:num_requests_waiting_by_reason"}

    def controller(self, mode: str, *options: str) -> Process:
        """One at work, with this mode of rejection."""
        policy = deepcopy(POLICY)
        policy["spec"]["rejection"] = {"mode": mode}
        file = self._folder / f"{mode}.yaml"
        file.write_text(yaml.safe_dump(policy))
        where = ["--prometheus", DARK, "--query-timeout", "0.2", "--cluster", f"sim:{self._control.url}"]
        return self._start(["run", "--policy", str(file), "--port", "0", *where, *options])

    def sidecar(self, page: str, *options: str) -> str:
        """The address of one that listens to this controller."""
        state = f"{page}/v1/state/{KEY}"
        return self._start(["sidecar", "--state", state, "--listen", "127.0.0.1:0", *options]).address("sidecar")

    def _start(self, arguments: list[str]) -> Process:
        self._started += 1
        process = Process(arguments, self._folder / f"{self._started}-{arguments[0]}.log")
        self._processes.append(process)
        return process

    def close(self) -> None:
        """End what still runs."""
        for one in self._processes:
            one.process.kill()
            one.process.wait()
        self._control.stop()
        self.engines.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def asked(url: str) -> int:
    """The status of one decision."""
    request = urllib.request.Request(f"{url}/v1/decide", PROMPT)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def reason(url: str) -> str:
    """Why it was let in."""
    request = urllib.request.Request(f"{url}/v1/decide", PROMPT)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return str(json.loads(answer.read()).get("reason"))


def would_reject(url: str) -> int:
    """How many requests the sidecar has judged to be rejected, whatever became of them."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    decisions = [line for line in lines if line.startswith("pdautoscaler_sidecar_decisions_total{")]
    return sum(int(float(line.split()[-1])) for line in decisions if 'decision="reject"' in line)


def within(seconds: float, status: int, url: str) -> float:
    """The seconds until this status is answered, and from then on."""
    began_s = time.monotonic()
    while asked(url) != status:
        assert time.monotonic() - began_s < seconds, f"no {status} within {seconds:g} s"
        time.sleep(0.05)
    return time.monotonic() - began_s


def test_shadow_counts_and_admits(world: World) -> None:
    world.busy(500)
    url = world.sidecar(world.controller("shadow").address("live page"))

    def counted() -> int:
        assert asked(url) == 200
        return would_reject(url)

    wait_for(counted, "a rejection that was only counted", 20)


def test_enforce_says_no_within_two_seconds_of_an_overload_and_yes_as_soon_as_nobody_leads(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open-sesame\n")
    first = world.controller("enforce", "--listen", "127.0.0.1:0", "--state-secret-file", str(secret))
    page = first.address("metrics and probes")
    url = world.sidecar(page, "--secret-file", str(secret))
    wait_for(lambda: reason(url) in JUDGED, "the first picture", 20)

    world.busy(500)
    within(2.0, 429, url)
    world.busy(0)
    within(2.0, 200, url)
    assert reason(url) in JUDGED, "and not let in for want of a picture"

    world.busy(500)
    within(2.0, 429, url)
    first.process.kill()
    first.process.wait()
    within(3.0, 200, url)

    world.controller("enforce", "--listen", page.removeprefix("http://"), "--state-secret-file", str(secret))
    within(20.0, 429, url)
