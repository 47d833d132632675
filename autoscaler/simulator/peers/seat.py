"""What does a peer see and touch, put where the controller would sit?

It sees the same `Observation`, from the same doors and windows, and its wishes pass the product's own guard (core/plan.py):
bounds, the last serving replica, what the cluster refuses, and the GPU budget. So no peer wins or loses by what it may do.
Flips pass one more: as many as leave a serving replica behind, keep both roles within their bounds and the budget, and are
allowed to be under way at once.

A flip goes the way that the fleet is told to have. Where a scenario tells none, replicas of equal GPUs change their label,
and k of one role are resized against m of the other where the GPUs differ: 1 of 4 against 2 of 2.
"""

from __future__ import annotations

from typing import Generic

from autoscaler.core.action import Mode
from autoscaler.core.fleet import Fleet, Pool
from autoscaler.core.hysteresis import Target
from autoscaler.core.observation import Observation
from autoscaler.core.plan import Wish, plan
from autoscaler.core.reason import Reason
from autoscaler.ports import Managed
from autoscaler.simulator.flips import LABEL, Driver, DriverKind, FlipSpec, PairedResize
from autoscaler.simulator.peers import Flip, M, Peer, Wishes
from autoscaler.simulator.run import VirtualRun

RESIZE = FlipSpec(DriverKind.PAIRED_RESIZE)


class PeerController(Generic[M]):
    """The controller of one run, with a peer for its brain. Of the policy only bounds and budget are used.

    `driver` is how this fleet's replicas change roles; None: as the fleet says.
    """

    def __init__(self, run: VirtualRun, peer: Peer[M], managed: Managed, driver: Driver | None = None) -> None:
        self._run, self._peer, self._managed, self._driver = run, peer, managed, driver
        self._memory = peer.begin()

    def tick(self) -> None:
        """One look, and what follows from it."""
        now = self._run.clock.now()
        fleet = self._run.engine.fleet()
        scope = self._managed.scope(fleet, now)
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
        fleet = self._run.engine.fleet()
        driver = self._driver_of(flip, fleet)
        if driver is None:
            return
        count = min(flip.count, self._most(flip, fleet, driver))
        if count > 0:
            self._run.engine.flip(flip.from_role, flip.to_role, count, driver)

    def _driver_of(self, flip: Flip, fleet: Fleet) -> Driver | None:
        """None where the fleet has ways to flip, but none for these two roles."""
        spec = self._run.engine.spec
        if self._driver is not None or spec.flips is not None:
            return self._driver or spec.driver(flip.from_role, flip.to_role)
        give_gpus, take_gpus = (fleet.pools[role].gpus_per_replica for role in (flip.from_role, flip.to_role))
        return LABEL if give_gpus == take_gpus else RESIZE.driver(give_gpus, take_gpus)

    def _most(self, flip: Flip, fleet: Fleet, driver: Driver) -> int:
        """How many such flips are lawful now."""
        give, take = (driver.give, driver.take) if isinstance(driver, PairedResize) else (1, 1)
        grows_first = isinstance(driver, PairedResize) and driver.grows_first
        policy, source, target = self._managed.policy, fleet.pools[flip.from_role], fleet.pools[flip.to_role]
        limits = policy.pools
        rooms = [
            (source.serving - source.leaving - 1) // give,
            (source.desired - limits[flip.from_role].min_replicas) // give,
            (limits[flip.to_role].max_replicas - target.desired) // take,
        ]
        way = fleet.flip_ways.get((flip.from_role, flip.to_role))
        if way is not None:
            rooms.append(way.max_in_flight - len(fleet.flips))
        dearer_gpus = take * target.gpus_per_replica - (0 if grows_first else give * source.gpus_per_replica)
        if policy.gpu_budget is not None and dearer_gpus > 0:
            rooms.append((policy.gpu_budget - fleet.gpus_held) // dearer_gpus)
        return min(rooms)


def _wish(pool: Pool, count: int) -> Wish:
    reason = Reason.SCALE_UP if count > pool.desired else Reason.SCALE_DOWN
    return Wish(Target(count, reason, count), float(count), sighted=True)
