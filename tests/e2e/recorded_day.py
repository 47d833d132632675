"""How does a test get a real Prometheus that remembers a day of a simulated fleet?

The fleet runs on its virtual clock under a timetable of replica counts. At every scrape its pages are written down as a
Prometheus would have taken them in, with time stamps of the recent past, and `promtool` makes them the server's data.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from autoscaler.core.policy import PoolLimits
from autoscaler.ports import Managed
from autoscaler.simulator.exposition import gateway_families, replica_families
from autoscaler.simulator.peers.schedule import Schedule
from autoscaler.simulator.peers.seat import PeerController
from autoscaler.simulator.recovery import WINDOW_S
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.workload import Request
from tests.adapters.prometheus_server import RealPrometheus, find_prometheus

BLOCK_S = 7_200  # of a server's own; promtool's blocks end at multiples of it, before their last second
LONGEST = "24h"  # promtool reads the whole file once for every block


@dataclass(frozen=True)
class Recording:
    """What was run: the requests that came, when they were met (share by windows of 30 s of their arrival), and the score."""

    requests: Sequence[Request]
    met: Mapping[float, float]
    score: Score

    def between(self, begin_s: float, end_s: float) -> list[Request]:
        """The requests that arrived then."""
        return [request for request in self.requests if begin_s <= request.arrival_s < end_s]

    def attainment(self, requests: Sequence[Request]) -> float:
        """The share of these that was met."""
        return sum(self.met.get(request.arrival_s // WINDOW_S * WINDOW_S, 0.0) for request in requests) / len(requests)


@dataclass(frozen=True)
class Script:
    """What is to be run, and when it is said to have been: `begin_s` is time 0, and what falls into `hole_s` was not scraped."""

    scenario: Scenario
    managed: Managed
    requests: Sequence[Request]
    schedule: Schedule
    begin_s: int
    until_s: float
    hole_s: tuple[float, float]

    def record(self, file: Path) -> Recording:
        """Run it and write down what was scraped."""
        bounds = {role: PoolLimits(1, max(path)) for role, path in self.schedule.replicas.items()}
        free = replace(self.managed, policy=replace(self.managed.policy, pools=bounds, gpu_budget=None))
        run = VirtualRun(replace(self.scenario, interval_s=self.schedule.interval_s), self.requests)
        run.tick = PeerController(run, self.schedule, free).tick
        with file.open("w", encoding="utf-8") as page:
            for scrape in range(int(self.until_s / self.scenario.scrape_s)):
                at_s = scrape * self.scenario.scrape_s
                run.advance(at_s)
                if not self.hole_s[0] <= at_s < self.hole_s[1]:
                    page.writelines(_lines(run, self.managed, self.begin_s + at_s))
            page.write("# EOF\n")
        return Recording(self.requests, run.keeper.windows.attainment(), run.score())


def find_server() -> str:
    """The Prometheus to be used. Without one, or without promtool, the test is skipped; in CI it fails."""
    binary = find_prometheus()
    if binary is None or shutil.which("promtool") is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no prometheus and promtool on PATH: no recorded day was tested (Debian: apt-get install prometheus)")
    return str(binary)


@contextmanager
def remembering(binary: str, folder: Path) -> Iterator[RealPrometheus]:
    """A server that remembers what stands in `day.om` of this folder."""
    backfill(folder / "day.om", folder / "data")
    server = RealPrometheus(binary, folder, [])
    try:
        server.start()
        yield server
    finally:
        server.stop()


def backfill(file: Path, data: Path) -> None:
    """Make a server's data of what was written down."""
    promtool = shutil.which("promtool")
    assert promtool, "promtool comes with prometheus"
    command = [
        promtool,
        "tsdb",
        "create-blocks-from",
        f"--max-block-duration={LONGEST}",
        "openmetrics",
        "--quiet",
        str(file),
        str(data),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def _lines(run: VirtualRun, managed: Managed, at_s: float) -> Iterator[str]:
    run.engine.refresh()
    yield from _page(gateway_families(run.engine.gateway, managed.model), at_s, namespace=managed.namespace, pod="gateway")
    for pool in run.engine.pools.values():
        for replica in pool.exposed():
            families = replica_families(replica.server.metrics, replica.occupancy(), managed.model)
            yield from _page(families, at_s, namespace=managed.namespace, pod=replica.name)


def _page(families: Iterable[Metric], at_s: float, **target: str) -> Iterator[str]:
    """As in OpenMetrics, but for the colons in names, which prometheus_client would turn into underscores."""
    for family in families:
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in {**sample.labels, **target}.items())
            yield f"{sample.name}{{{labels}}} {float(sample.value)!r} {at_s}\n"
