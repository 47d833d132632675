"""What does a pool need to know before it has a replica?

How long a cold start takes, who decides where a replica may run, and the doors to the rest of the fleet: its agenda, its
servers, its router.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from autoscaler.core.fleet import Lack
from autoscaler.simulator.events import Agenda, Cause, Server
from autoscaler.simulator.metrics import ReplicaMetrics
from autoscaler.simulator.routing import Router

Placed = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class StartUp:
    """How long a cold start takes: lognormal, its median in seconds and its sigma (0: always the median)."""

    median_s: float = 90.0
    sigma: float = 0.25

    def draw(self, rng: Random) -> float:
        """One cold start in seconds."""
        if self.median_s == 0 or self.sigma == 0:
            return self.median_s
        return rng.lognormvariate(math.log(self.median_s), self.sigma)


class Places(Protocol):
    """What decides where, and whether, a replica may run; a claimant is a replica."""

    def ask(self, claimant: Hashable, gpus: int, placed: Placed, now: float) -> None:
        """Have `placed(time)` called when there is a place, perhaps at once."""
        ...

    def stand(self, gpus: int, now: float) -> None:
        """Have room for one that was there before the run began, as far as there may be."""
        ...

    def give_back(self, claimant: Hashable, now: float) -> None:
        """The claimant is gone, or wants no longer."""
        ...

    def lack_of(self, claimant: Hashable) -> tuple[Lack, float, str] | None:
        """Why there is no place for it, since when, and in which words; None if it has one."""
        ...


@dataclass(frozen=True, slots=True)
class PoolSetting:
    """What a pool is made of and works with. `cold_start(ordinal)` in seconds; `fail` ends all work of one server."""

    gpus_per_replica: int
    agenda: Agenda
    new_server: Callable[[ReplicaMetrics | None], Server]
    cold_start: Callable[[int], float]
    choose: Router
    fail: Callable[[Server, Cause, float], None]
    drain_deadline_s: float = math.inf
    places: Places | None = None
    most_per_replica: int | None = None
