"""What dies, and when?

At its moment a `ReplicaLoss` takes one serving replica, a `NodeLoss` one node with every replica on it; which one is drawn
at random. All that such a replica computed, held for others or had promised room to fails. How many replicas are asked
for does not change by a death, so another starts in its place, cold, as a LeaderWorkerSet would make one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.events import Agenda, Cause
from autoscaler.simulator.pools import SimPool
from autoscaler.simulator.provisioning import Nodes
from autoscaler.simulator.streams import stream


@dataclass(frozen=True, slots=True)
class ReplicaLoss:
    """At `at_s` a serving replica of `role` dies; nothing happens if none serves."""

    at_s: float
    role: Role


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """At `at_s` a node that carries replicas dies; nothing happens if none does, or nodes are not simulated."""

    at_s: float


Loss = ReplicaLoss | NodeLoss


class Deaths:
    """The losses of one run, brought about as the agenda comes to them."""

    def __init__(
        self, losses: Sequence[Loss], seed: int, pools: Mapping[Role, SimPool], nodes: Nodes | None, agenda: Agenda
    ) -> None:
        self._seed, self._pools, self._nodes = seed, pools, nodes
        for index, loss in enumerate(losses):
            agenda.at(loss.at_s, self._strike, (index, loss))

    def _strike(self, numbered: tuple[int, Loss], now: float) -> None:
        index, loss = numbered
        draw = stream(self._seed, "loss", index).random()
        if isinstance(loss, NodeLoss):
            self._lose_node(draw, now)
        else:
            self._lose_replica(self._pools[loss.role], draw, now)

    def _lose_replica(self, pool: SimPool, draw: float, now: float) -> None:
        serving = [replica for replica in pool.replicas if replica.phase is Phase.SERVING]
        if serving:
            pool.lose(serving[int(draw * len(serving))], Cause.REPLICA_LOST, now)

    def _lose_node(self, draw: float, now: float) -> None:
        occupied = self._nodes.occupied() if self._nodes is not None else []
        if self._nodes is None or not occupied:
            return
        there = self._nodes.lose(occupied[int(draw * len(occupied))], now)
        lost = [(pool, replica) for pool in self._pools.values() for replica in pool.replicas if replica in there]
        for _, replica in lost:
            replica.dead = True  # all at once: what one leaves behind must not set another free to change its role
        for pool, replica in lost:
            if replica in pool.replicas:
                pool.lose(replica, Cause.NODE_LOST, now)
