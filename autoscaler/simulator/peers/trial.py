"""How does one peer do on one scenario, and how many runs did it take to find out?

A `Trial` is a scenario with its requests at hand, so that every run sees the same ones: common random numbers. It counts
its runs, since a searched reference is only worth what its search cost.

A search asks one thing of most of its runs: is the attainment kept? It is not, for sure, as soon as more requests are missed
than may be missed of all that will ever be offered, and `holds` ends the run there: of 144,279 requests at 99 %, at the
1,443rd miss. Nor do those who know the future look at signals, so their runs need no scrapes (`foreseeing`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autoscaler.core.fleet import Role
from autoscaler.ports import Managed
from autoscaler.simulator.flips import Driver
from autoscaler.simulator.peers import Peer
from autoscaler.simulator.peers.played import Played
from autoscaler.simulator.peers.seat import PeerController
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.tape import Requests

NEVER_S = 1e12  # a scrape at the begin of a run, and no other
LOOK_S = 120.0  # how often a run is asked whether it is lost


@dataclass(slots=True)
class Trial:
    """`managed` brings bounds and budget; `until_s` is when a run is judged; `runs` counts the simulations so far. `step_s`: how
    often a run's fleet is looked at, for its timeline.
    """

    scenario: Scenario
    requests: Requests
    managed: Managed
    until_s: float
    driver: Driver | None = None
    runs: int = 0
    step_s: float = LOOK_S

    def of(self, peer: Peer[Any], begin: Mapping[Role, int] | None = None) -> Score:
        """The score of one run under this peer. `begin` replaces the counts that the scenario begins with.

        A peer looks no more often than there is something new to see: at its own interval, or at each scrape.
        """
        interval_s = max(peer.interval_s, self.scenario.scrape_s)
        played = self._begun(replace(self.scenario, interval_s=interval_s), peer, begin)
        played.advance(self.until_s)
        return played.score()

    def foreseen(self, peer: Peer[Any], begin: Mapping[Role, int] | None = None) -> Played:
        """One whole run under somebody who looks at no signal."""
        played = self._begun(foreseeing(self.scenario, peer), peer, begin)
        played.advance(self.until_s)
        return played

    def holds(self, peer: Peer[Any], attainment: float, begin: Mapping[Role, int] | None = None) -> Played | None:
        """Such a run if it keeps the attainment; None if not, found out as early as can be."""
        played = self._begun(foreseeing(self.scenario, peer), peer, begin)
        for look in range(1, math.ceil(self.until_s / LOOK_S) + 1):
            played.advance(look * LOOK_S)
            score = played.score()
            if score.offered - score.open - score.met > (1 - attainment) * len(self.requests):
                return None
        return played if keeps(played.score(), attainment) else None

    def _begun(self, scenario: Scenario, peer: Peer[Any], begin: Mapping[Role, int] | None) -> Played:
        self.runs += 1
        fleet = scenario.fleet
        counts = begin or {}
        pools = {role: replace(pool, replicas=counts.get(role, pool.replicas)) for role, pool in fleet.pools.items()}
        run = VirtualRun(replace(scenario, fleet=replace(fleet, pools=pools)), self.requests)
        run.tick = PeerController(run, peer, self.managed, self.driver).tick
        return Played(run, self.until_s, self.step_s)


def foreseeing(scenario: Scenario, peer: Peer[Any]) -> Scenario:
    """The scenario for a peer that looks at no signal: it ticks at its own interval, and nothing is scraped."""
    return replace(scenario, interval_s=peer.interval_s, scrape_s=NEVER_S)


def gpu_hours(score: Score) -> float:
    """All roles together, starting and draining replicas included."""
    return sum(score.gpu_hours.values())


def keeps(score: Score, attainment: float) -> bool:
    """Whether a run met at least this share of what it was offered; one with nothing to meet did."""
    return score.attainment is None or score.attainment >= attainment
