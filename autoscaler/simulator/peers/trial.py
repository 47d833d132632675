"""How does one peer do on one scenario, and how many runs did it take to find out?

A `Trial` is a scenario with its requests at hand, so that every run sees the same ones: common random numbers. It counts
its runs, since a searched reference is only worth what its search cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from autoscaler.core.fleet import Role
from autoscaler.ports import Managed
from autoscaler.simulator.flips import LABEL, Driver
from autoscaler.simulator.peers import Peer
from autoscaler.simulator.peers.seat import PeerController
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.workload import Request


@dataclass(slots=True)
class Trial:
    """`managed` brings bounds and budget; `until_s` is when a run is judged; `runs` counts the simulations so far."""

    scenario: Scenario
    requests: Sequence[Request]
    managed: Managed
    until_s: float
    driver: Driver = field(default=LABEL)
    runs: int = 0

    def of(self, peer: Peer[Any], begin: Mapping[Role, int] | None = None) -> Score:
        """The score of one run under this peer. `begin` replaces the counts that the scenario begins with.

        A peer looks no more often than there is something new to see: at its own interval, or at each scrape.
        """
        self.runs += 1
        fleet = self.scenario.fleet
        counts = begin or {}
        pools = {role: replace(pool, replicas=counts.get(role, pool.replicas)) for role, pool in fleet.pools.items()}
        interval_s = max(peer.interval_s, self.scenario.scrape_s)
        run = VirtualRun(replace(self.scenario, fleet=replace(fleet, pools=pools), interval_s=interval_s), self.requests)
        run.tick = PeerController(run, peer, self.managed, self.driver).tick
        run.advance(self.until_s)
        return run.score()


def gpu_hours(score: Score) -> float:
    """All roles together, starting and draining replicas included."""
    return sum(score.gpu_hours.values())


def keeps(score: Score, attainment: float) -> bool:
    """Whether a run met at least this share of what it was offered; one with nothing to meet did."""
    return score.attainment is None or score.attainment >= attainment
