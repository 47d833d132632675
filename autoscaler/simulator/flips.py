"""What does it take to change a replica's role?

    InPlace       the same replica, weights loaded. Drains or not, then is away for `switch_s`, then serves its new role
                  with an empty prefix cache. Its GPUs are held throughout.
        LABEL             only a label changes, and the engine does both roles: at once, the old work is finished beside
                          the new (Arrow's stateless instances)
        DRAINED_LABEL     the same, but the old work is finished first (TetriInfer: 5 to 7 ms after the drain)
        ENGINE_SWITCH     the engine restarts in its new role, and must be idle for that
    PairedResize  k replicas of one role go, and when they are gone m of the other start, cold: two pools of a cluster that
                  knows no flips, and the only way where the roles' replicas have different GPUs

What is asked for changes at once; the drain has the deadline that every drain has. In place, the replicas with the least
work go (Arrow's argmin of the flip cost); in a resize those with the highest ordinals, as in any scale-down. If one dies
on its way, a new one starts in the role it was going to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoscaler.simulator.pools import SimPool
from autoscaler.simulator.replicas import SimReplica


@dataclass(frozen=True, slots=True)
class InPlace:
    """The replica itself changes its role: after a drain or at once, and is then away for `switch_s`."""

    drains: bool
    switch_s: float = 0.0

    def flip(self, source: SimPool, target: SimPool, count: int, now: float) -> None:
        """Flip `count` replicas. Raises ValueError if fewer serve, or if the roles' replicas have different GPUs."""
        if source.gpus_per_replica != target.gpus_per_replica:
            gpus = f"{source.role} has {source.gpus_per_replica} GPUs per replica, {target.role} {target.gpus_per_replica}"
            raise ValueError(f"no flip in place: {gpus}")
        replicas = _chosen(source, source.serving(), count)
        source.desired -= count
        target.desired += count
        if self.drains:
            target.incoming += count
            source.retire(replicas, lambda replica, then: self._arrive(source, target, replica, then), now)
        else:
            self._relabel(source, target, replicas, now)

    def _relabel(self, source: SimPool, target: SimPool, replicas: Sequence[SimReplica], now: float) -> None:
        for replica in replicas:
            source.release(replica, now)
        for replica in replicas:
            unbegun = replica.let_finish(now)
            target.adopt(replica, self.switch_s, now)
            for job in unbegun:
                source.route(job, now)

    def _arrive(self, source: SimPool, target: SimPool, replica: SimReplica, now: float) -> None:
        """The drain is over. Nobody may want the replica any more, or it has died meanwhile."""
        target.incoming -= 1
        if target.missing > 0 and not replica.dead:
            source.release(replica, now)
            target.adopt(replica, self.switch_s, now)
        else:
            source.remove(replica, now)
            target.fill(now)


@dataclass(frozen=True, slots=True)
class PairedResize:
    """`give` replicas of one role against `take` of the other, started when all of `give` are gone."""

    give: int = 1
    take: int = 1

    def flip(self, source: SimPool, target: SimPool, count: int, now: float) -> None:
        """Do it `count` times. Raises ValueError if fewer than count x give serve."""
        newest_first = sorted(source.serving(), key=lambda replica: -replica.ordinal)
        replicas = _chosen(source, newest_first, count * self.give)
        source.desired -= count * self.give
        target.desired += count * self.take
        target.incoming += count * self.take
        for first in range(0, len(replicas), self.give):
            self._exchange(source, target, replicas[first : first + self.give], now)

    def _exchange(self, source: SimPool, target: SimPool, given: Sequence[SimReplica], now: float) -> None:
        left = len(given)

        def gone(replica: SimReplica, now: float) -> None:
            nonlocal left
            left -= 1
            source.remove(replica, now)
            if left == 0:
                target.incoming -= self.take
                target.fill(now)

        source.retire(given, gone, now)


Driver = InPlace | PairedResize

LABEL = InPlace(drains=False)
DRAINED_LABEL = InPlace(drains=True)
ENGINE_SWITCH = InPlace(drains=True, switch_s=20.0)


def _chosen(source: SimPool, candidates: Sequence[SimReplica], count: int) -> Sequence[SimReplica]:
    if not 1 <= count <= len(candidates):
        raise ValueError(f"{source.role} replicas to flip {count} is not 1..{len(candidates)}, those that serve")
    return candidates[:count]
