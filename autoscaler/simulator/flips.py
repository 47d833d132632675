"""What does it take to change a replica's role?

    InPlace       the same replica, weights loaded. Drains or not, then is away for `switch_s`, then serves its new role
                  with an empty prefix cache. Its GPUs are held throughout.
        LABEL             only a label changes, and the engine does both roles: at once, the old work is finished beside
                          the new (Arrow's stateless instances)
        DRAINED_LABEL     the same, but the old work is finished first (TetriInfer: 5 to 7 ms after the drain)
        ENGINE_SWITCH     the engine restarts in its new role, and must be idle for that
    PairedResize  k replicas of one role go, and when they are gone m of the other start, cold: two pools of a cluster that
                  knows no flips, and the only way where the roles' replicas have different GPUs. Where GPUs are to spare the
                  m may grow first: then the k serve until the m do

What is asked for changes at once; the drain has the deadline that every drain has. In place, the replicas with the least
work go, for they drain soonest (Arrow's argmin of the flip cost), the lowest ordinals among equals; in a resize those with
the highest, as in any scale-down. If one dies on its way, a new one starts in the role it was going to. Nothing of this
takes more GPUs than before, but for growing first: flights.py tells how they are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import gcd

from autoscaler.core.fleet import FlipWay
from autoscaler.simulator.flights import Flight
from autoscaler.simulator.pools import SimPool
from autoscaler.simulator.replicas import SimReplica

SWITCH_S = 20.0  # an engine that restarts in its new role with its weights loaded


@dataclass(frozen=True, slots=True)
class InPlace:
    """The replica itself changes its role: after a drain or at once, and is then away for `switch_s`."""

    drains: bool
    switch_s: float = 0.0

    def flip(self, source: SimPool, target: SimPool, count: int, now: float) -> list[Flight]:
        """Flip `count` replicas. Raises ValueError if fewer serve, or if the roles' replicas have different GPUs."""
        if source.gpus_per_replica != target.gpus_per_replica:
            gpus = f"{source.role} has {source.gpus_per_replica} GPUs per replica, {target.role} {target.gpus_per_replica}"
            raise ValueError(f"no flip in place: {gpus}")
        replicas = _chosen(source, source.serving(), count)
        flights = {replica: Flight(source, target, 1, now, old=[replica]) for replica in replicas}
        source.desired -= count
        target.desired += count
        if self.drains:
            target.incoming += count
            source.retire(replicas, lambda replica, then: self._arrive(flights[replica], replica, then), now)
        else:
            self._relabel(source, target, list(flights.values()), now)
        return list(flights.values())

    def _relabel(self, source: SimPool, target: SimPool, flights: Sequence[Flight], now: float) -> None:
        for flight in flights:
            source.release(flight.old[0], now)
        for flight in flights:
            replica = flight.old[0]
            unbegun = replica.let_finish(now)
            target.adopt(replica, self.switch_s, now)
            flight.new = [replica]
            for job in unbegun:
                source.route(job, now)

    def _arrive(self, flight: Flight, replica: SimReplica, now: float) -> None:
        """The drain is over. Nobody may want the replica any more, or it has died meanwhile."""
        source, target = flight.source, flight.target
        target.incoming -= 1
        if target.missing > 0 and not replica.dead:
            source.release(replica, now)
            target.adopt(replica, self.switch_s, now)
            flight.new = [replica]
        else:
            source.remove(replica, now)
            flight.new = target.fill(now)


@dataclass(frozen=True, slots=True)
class PairedResize:
    """`give` replicas of one role against `take` of the other, started when all of `give` are gone, or before they go."""

    give: int = 1
    take: int = 1
    grows_first: bool = False

    def flip(self, source: SimPool, target: SimPool, count: int, now: float) -> list[Flight]:
        """Do it `count` times. Raises ValueError if fewer than count x give serve."""
        newest_first = sorted(source.serving(), key=lambda replica: -replica.ordinal)
        replicas = _chosen(source, newest_first, count * self.give)
        source.desired -= count * self.give
        target.desired += count * self.take
        begin = self._grow if self.grows_first else self._shrink
        parts = [replicas[first : first + self.give] for first in range(0, len(replicas), self.give)]
        flights = [Flight(source, target, self.take, now, old=list(part)) for part in parts]
        for flight in flights:
            begin(flight, now)
        return flights

    def _shrink(self, flight: Flight, now: float) -> None:
        source, target = flight.source, flight.target
        left = self.give
        target.incoming += self.take

        def gone(replica: SimReplica, now: float) -> None:
            nonlocal left
            left -= 1
            source.remove(replica, now)
            if left == 0:
                target.incoming -= self.take
                flight.new = target.fill(now)

        source.retire(flight.old, gone, now)

    def _grow(self, flight: Flight, now: float) -> None:
        """One of the new that dies on its way counts as come: what replaces it is none of this flip's."""
        source = flight.source
        source.lent += flight.old
        flight.new = flight.target.fill(now)[: self.take]
        left = len(flight.new)

        def came(now: float) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                source.replaced(flight.old, now)

        for replica in flight.new:
            replica.came = came
        if not flight.new:
            source.replaced(flight.old, now)


Driver = InPlace | PairedResize

LABEL = InPlace(drains=False)
DRAINED_LABEL = InPlace(drains=True)
ENGINE_SWITCH = InPlace(drains=True, switch_s=SWITCH_S)


class DriverKind(StrEnum):
    """How a fleet's replicas change their role, in the words of a scenario."""

    LABEL = "label"
    ENGINE_SWITCH = "engineSwitch"
    PAIRED_RESIZE = "pairedResize"


@dataclass(frozen=True, slots=True)
class FlipSpec:
    """What a fleet's cluster can do about roles. `switch_s` and `drains` are of a flip in place, `grows_first` of a resize."""

    kind: DriverKind
    switch_s: float = 0.0
    drains: bool = False
    grows_first: bool = False
    max_in_flight: int = 1

    def driver(self, give_gpus: int, take_gpus: int) -> Driver | None:
        """Between replicas of so many GPUs; None where they cannot. A resize exchanges the fewest that are worth as many
        GPUs: 1 of 4 for 2 of 2.
        """
        if self.kind is DriverKind.PAIRED_RESIZE:
            common = gcd(give_gpus, take_gpus)
            return PairedResize(take_gpus // common, give_gpus // common, self.grows_first)
        return InPlace(self.drains, self.switch_s) if give_gpus == take_gpus else None

    def way(self, driver: Driver, start_up_s: float) -> FlipWay:
        """The same as the controller is told it; `start_up_s` is the median cold start."""
        if isinstance(driver, InPlace):
            return FlipWay(self.kind, driver.switch_s, 1, 1, True, True, max_in_flight=self.max_in_flight)
        give, take, grows_first = driver.give, driver.take, driver.grows_first
        return FlipWay(self.kind, start_up_s, give, take, False, True, grows_first, self.max_in_flight)


def _chosen(source: SimPool, candidates: Sequence[SimReplica], count: int) -> Sequence[SimReplica]:
    free = [replica for replica in candidates if replica not in source.lent]
    if not 1 <= count <= len(free):
        raise ValueError(f"{source.role} replicas to flip {count} is not 1..{len(free)}, those that serve")
    return free[:count]
