"""Do two controllers on a real cluster tell sidecars of a fleet as one, whichever is asked and whichever leads?

Stub engines stand behind the pods, at their own addresses; there is no Prometheus. The sidecar asks the controller that stands
by, as it would through a Service over both. What is measured is logged (`pytest --log-level=INFO -rP`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.core.fleet import Role
from tests.e2e.plane.conftest import FoundTown
from tests.e2e.plane.town import Town
from tests.e2e.processes import Process, wait_for
from tests.e2e.test_rejection import DARK, JUDGED, reason, within
from tests.engines.vllm import Vllm

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.plane, pytest.mark.slow]

FAIL_OVER_S = 20.0  # a Lease runs out after 16 s


class World:
    """A town under two controllers, of which the first leads, and a sidecar that asks the second and then the first."""

    def __init__(self, town: Town, folder: Path) -> None:
        self._town, self._folder, self.processes = town, folder, list[Process]()
        town.pools(dict.fromkeys(Role, 2))
        self.busy(0)
        bounds = {f"pools__{role}__{bound}": 2 for role in Role for bound in ("min", "max")}
        shape = {"promptTokens": 1000, "uncachedTokens": 1000, "outputTokens": 200}
        plain = {"speed": "profile", "requestShape": shape, "behaviour": {"tickSeconds": 1}, "rejection": {"mode": "enforce"}}
        town.policy(**bounds, **plain)
        secret = folder / "secret"
        secret.write_text("open-sesame\n")
        where = ["--prometheus", DARK, "--query-timeout", "0.2", "--cluster", "kubernetes", "--namespace", town.namespace]
        where += ["--lease", f"{town.namespace}/autoscaler", "--port", "0", "--listen", "127.0.0.1:0"]
        self.controllers = []
        for number in range(2):
            self.controllers.append(self._start(f"{number}.log", ["run", *where, "--state-secret-file", str(secret)]))
            wait_for(lambda: self.leads(0, 0), "the first leads before the second begins")
        pages = [one.address("metrics and probes") for one in self.controllers]
        asked = [word for page in reversed(pages) for word in ("--state", f"{page}/v1/state/{town.namespace}/chat")]
        sidecar = self._start("sidecar.log", ["sidecar", "--listen", "127.0.0.1:0", "--secret-file", str(secret), *asked])
        self.sidecar = sidecar.address("sidecar")

    def leads(self, number: int, term: int) -> bool:
        """Whether this controller has said that it leads in this term."""
        return f"leading in term {term} " in self.controllers[number].log.read_text()

    def busy(self, waiting: int) -> None:
        """From now on so many requests wait in each prefill engine, and all of them run some."""
        for engine in self._town.fleet.engines.values():
            in_line = waiting if engine.role is Role.PREFILL else 0
            engine.lies = {
                "vllm:num_requests_running": 4.0,
                "vllm:num_requests_waiting": in_line,
                "vllm:kv_cache_usage_perc": 0.1,
            }
            engine.hidden = {"vllm:num_requests_waiting_by_reason"}

    def _start(self, log_name: str, arguments: list[str]) -> Process:
        self.processes.append(Process(arguments, self._folder / log_name))
        return self.processes[-1]


@pytest.fixture
def world(found_town: FoundTown, tmp_path: Path) -> Iterator[World]:
    made = World(found_town(Vllm), tmp_path)
    yield made
    for one in made.processes:
        one.process.kill()
        one.process.wait()


def test_a_follower_tells_what_the_leader_says_and_goes_on_by_itself_when_that_is_killed(world: World) -> None:
    """One run: starting a town and waiting for a Lease to run out is what costs."""
    url = world.sidecar
    wait_for(lambda: reason(url) in JUDGED, "the leader's picture, through the follower")
    world.busy(500)
    log.info("overload to the first 429, through the follower: %.2f s", within(2.0, 429, url))
    world.busy(0)
    log.info("relief to the first admission: %.2f s", within(2.0, 200, url))

    world.busy(500)
    within(2.0, 429, url)
    world.controllers[0].process.kill()
    killed_s = time.monotonic()
    log.info("leader killed to everybody admitted: %.2f s", within(3.0, 200, url))
    wait_for(lambda: world.leads(1, 1), "the second leads")
    assert time.monotonic() - killed_s <= FAIL_OVER_S
    within(10.0, 429, url)
    log.info("leader killed to judged again: %.1f s", time.monotonic() - killed_s)
