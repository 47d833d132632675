"""What does a peer see and touch, put where the controller would sit?

It sees the same `Observation`, from the same doors and windows, and its wishes pass the product's own guard (core/plan.py):
bounds, the last serving replica, what the cluster refuses, and the GPU budget. So no peer wins or loses by what it may do.
Flips pass one more: as many as leave a serving replica behind and keep both roles within their bounds and the budget.
"""

from __future__ import annotations

from typing import Generic

from autoscaler.core.fleet import Fleet, Pool
from autoscaler.core.hysteresis import Target
from autoscaler.core.observation import Observation
from autoscaler.core.plan import Mode, Wish, plan
from autoscaler.core.reason import Reason
from autoscaler.ports import Managed
from autoscaler.simulator.flips import LABEL, Driver, PairedResize
from autoscaler.simulator.peers import Flip, M, Peer, Wishes
from autoscaler.simulator.run import VirtualRun


class PeerController(Generic[M]):
    """The controller of one run, with a peer for its brain. Of the policy only bounds and budget are used.

    `driver` is how this fleet's replicas change roles.
    """

    def __init__(self, run: VirtualRun, peer: Peer[M], managed: Managed, driver: Driver = LABEL) -> None:
        self._run, self._peer, self._managed, self._driver = run, peer, managed, driver
        self._memory = peer.begin()

    def tick(self) -> None:
        """One look, and what follows from it."""
        now = self._run.clock.now()
        fleet = self._run.engine.fleet()
        scope = self._managed.scope(fleet)
        (told,) = self._run.signals.read([scope], now)
        signals = told[scope.key]
        wishes, self._memory = self._peer.step(Observation(now, fleet, signals), self._memory)
        self._scale(fleet, wishes, now)
        for flip in wishes.flips:
            self._flip(flip)

    def _scale(self, fleet: Fleet, wishes: Wishes, now: float) -> None:
        policy = self._managed.policy
        wanted = {role: _wish(fleet.pools[role], count) for role, count in wishes.replicas.items()}
        for action in plan(now, Mode.AUTO, fleet, wanted, policy.pools, policy.gpu_budget).actions:
            self._run.cluster.apply(self._managed.key, action, now, term=0)

    def _flip(self, flip: Flip) -> None:
        count = min(flip.count, self._most(flip, self._run.engine.fleet()))
        if count > 0:
            self._run.engine.flip(flip.from_role, flip.to_role, count, self._driver)

    def _most(self, flip: Flip, fleet: Fleet) -> int:
        """How many such flips are lawful now."""
        give, take = (self._driver.give, self._driver.take) if isinstance(self._driver, PairedResize) else (1, 1)
        policy, source, target = self._managed.policy, fleet.pools[flip.from_role], fleet.pools[flip.to_role]
        limits = policy.pools
        rooms = [
            (source.serving - 1) // give,
            (source.desired - limits[flip.from_role].min_replicas) // give,
            (limits[flip.to_role].max_replicas - target.desired) // take,
        ]
        dearer_gpus = take * target.gpus_per_replica - give * source.gpus_per_replica
        if policy.gpu_budget is not None and dearer_gpus > 0:
            rooms.append((policy.gpu_budget - fleet.gpus_held) // dearer_gpus)
        return min(rooms)


def _wish(pool: Pool, count: int) -> Wish:
    reason = Reason.SCALE_UP if count > pool.desired else Reason.SCALE_DOWN
    return Wish(Target(count, reason, count), float(count), sighted=True)
