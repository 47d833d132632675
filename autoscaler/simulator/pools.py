"""Which replicas does a role have, and what happens when that number changes?

    more    new replicas STARTING; each serves after its own cold start, lognormal around the median (models.md B6)
    fewer   those still STARTING go first, newest first, at once; then the highest ordinals are DRAINED: no new work,
            what has not begun moves to the others, the rest is finished, then the replica goes
            (a LeaderWorkerSet also removes its highest ordinals; engines.md 0.2)

Ordinals are never used again, so one name is one life and its counters never start over. A replica holds its GPUs
from the moment it is asked for until it is gone. Work for which nobody serves waits in the pool, in order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from random import Random

from autoscaler.core.fleet import Phase, Pool, Replica, Role
from autoscaler.simulator.events import Agenda, Job, Server

_load = attrgetter("load")


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


class SimReplica:
    """One replica: its name, its life, and the server that does the work."""

    __slots__ = ("asked_s", "name", "phase", "server", "since_s")

    def __init__(self, name: str, phase: Phase, now: float, server: Server) -> None:
        self.name, self.phase, self.server = name, phase, server
        self.asked_s = self.since_s = now

    def enter(self, phase: Phase, now: float) -> None:
        """Change the phase."""
        self.phase, self.since_s = phase, now


class SimPool:
    """The replicas of one role. `new_server` makes the server of one more."""

    def __init__(
        self, role: Role, gpus_per_replica: int, new_server: Callable[[], Server], agenda: Agenda, cold_start: Callable[[], float]
    ) -> None:
        self.role, self.gpus_per_replica = role, gpus_per_replica
        self.desired = 0
        self.replicas: list[SimReplica] = []
        self.unrouted: deque[Job] = deque()
        self._serving: list[Server] = []
        self._new_server, self._agenda, self._cold_start = new_server, agenda, cold_start
        self._ordinal = 0
        self._gpu_s_of_the_gone = 0.0

    def route(self, job: Job, now: float) -> None:
        """Give a request to the least loaded replica that serves, the lowest ordinal among equals."""
        if not self._serving:
            self.unrouted.append(job)
        elif len(self._serving) == 1:
            self._serving[0].take(job, now)
        else:
            min(self._serving, key=_load).take(job, now)

    def scale(self, replicas: int, now: float) -> None:
        """Ask for this many. Raises ValueError below 0."""
        if replicas < 0:
            raise ValueError(f"{self.role} replicas {replicas} is not >= 0")
        self.desired = replicas
        kept = [replica for replica in self.replicas if replica.phase in (Phase.STARTING, Phase.SERVING)]
        for _ in range(replicas - len(kept)):
            self._start(self._cold_start(), now)
        self._shrink(sorted(kept, key=_first_to_go)[: max(0, len(kept) - replicas)], now)

    def seed(self, replicas: int, now: float) -> None:
        """Have this many more, serving at once: the fleet as it stands when a run begins."""
        self.desired += replicas
        for _ in range(replicas):
            self._serve(self._add(Phase.STARTING, now), now)

    def snapshot(self) -> Pool:
        """The pool as the controller sees it."""
        replicas = tuple(Replica(replica.name, replica.phase, replica.since_s, replica.asked_s) for replica in self.replicas)
        return Pool(self.role, self.desired, replicas, self.gpus_per_replica)

    def exposed(self) -> Iterable[SimReplica]:
        """The replicas whose metrics can be scraped: a starting one does not answer yet."""
        return (replica for replica in self.replicas if replica.phase is not Phase.STARTING)

    def gpu_s(self, now: float) -> float:
        """GPU-seconds held so far, starting and draining replicas included."""
        alive_s = sum(now - replica.asked_s for replica in self.replicas)
        return self._gpu_s_of_the_gone + alive_s * self.gpus_per_replica

    def _add(self, phase: Phase, now: float) -> SimReplica:
        replica = SimReplica(f"{self.role}-{self._ordinal}", phase, now, self._new_server())
        self._ordinal += 1
        self.replicas.append(replica)
        return replica

    def _start(self, cold_start_s: float, now: float) -> None:
        self._agenda.at(now + cold_start_s, self._serve, self._add(Phase.STARTING, now))

    def _serve(self, replica: SimReplica, now: float) -> None:
        if replica not in self.replicas:  # given up while it started
            return
        replica.enter(Phase.SERVING, now)
        self._list_serving()
        while self.unrouted:
            self.route(self.unrouted.popleft(), now)

    def _shrink(self, victims: list[SimReplica], now: float) -> None:
        draining = [replica for replica in victims if replica.phase is Phase.SERVING]
        for replica in victims:
            if replica.phase is Phase.STARTING:
                self._remove(replica, now)
        for replica in draining:
            replica.enter(Phase.DRAINING, now)
        self._list_serving()
        for replica in draining:
            for job in replica.server.drain(now, partial(self._remove, replica)):
                self.route(job, now)

    def _remove(self, replica: SimReplica, now: float) -> None:
        self.replicas.remove(replica)
        self._gpu_s_of_the_gone += (now - replica.asked_s) * self.gpus_per_replica

    def _list_serving(self) -> None:
        self._serving = [replica.server for replica in self.replicas if replica.phase is Phase.SERVING]


def _first_to_go(replica: SimReplica) -> tuple[bool, int]:
    """Starting before serving, then the highest ordinal: `prefill-7` before `prefill-2`."""
    return replica.phase is not Phase.STARTING, -int(replica.name.rpartition("-")[2])
