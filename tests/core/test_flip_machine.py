"""Do flips keep their laws over time, whatever happens meanwhile?

A fleet that can flip, with the real tick, and somebody who shifts the load, slows the drains, kills replicas, hides the
signals and restarts the controller, in any order. At every look: the GPU budget holds, no more flips are under way than may
be, each role that served still does, and no flip comes within the rest after the one before. The rest is counted here anew:
`cooldown_s`, doubled by each flip back within the dwell time, and forgiven after eight of those without one. And when
everybody leaves the fleet alone, every flip ends and no new one begins.
"""

from __future__ import annotations

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from autoscaler.core.action import Flip, Verdict
from autoscaler.core.capacity import Shape
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Role
from autoscaler.core.flip import FORGIVEN_DWELLS, MOST_BACK_OFF
from autoscaler.core.observation import Observation
from tests.core.flipping_fleet import FlippingFleet
from tests.core.laws_world import (
    BUDGET,
    FLIPS,
    GONE_PARTS,
    KINDS,
    LONG_ANSWERS,
    LONG_PROMPTS,
    TICK_S,
    WINDOW_S,
    Look,
    blanked,
    hasty,
    resumed,
    worlds,
)
from tests.examples import examples
from tests.fakes import SHAPE

WANTED = hasty()
QUIET_LOOKS = 80


class Rest:
    """When the next flip may come, told from the flips so far."""

    def __init__(self) -> None:
        self._begun: list[tuple[float, tuple[Role, Role]]] = []
        self._doubled, self._back_s = 0, -math.inf

    def over(self, now: float) -> bool:
        """Whether a flip may begin at `now`."""
        if now - self._back_s > FORGIVEN_DWELLS * FLIPS.dwell_s:
            self._doubled = 0
        return all(now - at >= FLIPS.cooldown_s * 2**self._doubled for at, _ in self._begun)

    def begin(self, flip: Flip, now: float) -> None:
        """One began."""
        if any(now - at < FLIPS.dwell_s and pair == (flip.to_role, flip.from_role) for at, pair in self._begun):
            self._doubled, self._back_s = min(self._doubled + 1, MOST_BACK_OFF), now
        self._begun.append((now, (flip.from_role, flip.to_role)))


class FlipMachine(RuleBasedStateMachine):
    """One fleet's life."""

    @initialize(world=worlds(KINDS))
    def begin(self, world: FlippingFleet) -> None:
        """Nobody has looked yet, and there is little to do."""
        self.world, self.memory, self.rest = world, Memory(), Rest()
        self.now = self.started_s = 0.0
        self.look = Look(9.0)

    @rule(rps=st.sampled_from((2.0, 9.0, 16.0, 30.0)), shape=st.sampled_from((SHAPE, LONG_PROMPTS, LONG_ANSWERS)))
    def the_load_shifts(self, rps: float, shape: Shape) -> None:
        """In amount or between the roles."""
        self.look = Look(rps, shape=shape)

    @rule(drain_s=st.sampled_from((0.0, 40.0, 400.0)))
    def the_drains_take(self, drain_s: float) -> None:
        """So long from now on, those under way included."""
        self.world.drain_s = drain_s

    @rule(role=st.sampled_from(Role), number=st.integers(0, 9))
    def a_replica_dies(self, role: Role, number: int) -> None:
        """Whatever it was doing."""
        self.world.kill(role, number, self.now)

    @rule(gone=st.sampled_from(GONE_PARTS))
    def signals_vanish_for_a_look(self, gone: str) -> None:
        """Or some of them. What is not seen flips nothing away."""
        self._tick(Look(self.look.rps, shape=self.look.shape, gone=gone))

    @rule(keeps=st.booleans())
    def the_controller_restarts(self, keeps: bool) -> None:
        """With what it left on record, or without. What it rests for then is a whole window."""
        self.memory = resumed(self.memory, self.now) if keeps else Memory()
        self.rest, self.started_s = Rest(), self.now

    @rule(looks=st.integers(1, 12))
    def time_passes(self, looks: int) -> None:
        """And the controller looks."""
        for _ in range(looks):
            self._tick(self.look)

    def _tick(self, look: Look) -> None:
        seen = self.world.read(self.now)
        said, dim = blanked(seen, look)
        decision = decide(Observation(self.now, seen, said), self.memory, WANTED)
        self.memory = decision.memory
        for action in decision.plan.to_apply:
            if isinstance(action, Flip):
                assert self.now - self.started_s >= WINDOW_S
                assert action.from_role not in dim
                assert self.rest.over(self.now)
                self.rest.begin(action, self.now)
            assert self.world.apply(action, self.now).verdict is Verdict.APPLIED
        after = self.world.fleet
        assert self.world.gpus_in_use <= after.gpus_held <= BUDGET
        assert len(after.flips) <= FLIPS.max_in_flight
        for role, pool in after.pools.items():
            assert pool.serving - pool.leaving >= min(1, seen.pools[role].serving - seen.pools[role].leaving)
        self.now += TICK_S

    def teardown(self) -> None:
        """Everybody leaves it alone."""
        if not hasattr(self, "world"):
            return
        self.world.drain_s = min(self.world.drain_s, 40.0)
        self.time_passes(QUIET_LOOKS)
        calm = self.world.fleet
        self.time_passes(QUIET_LOOKS // 4)
        assert calm.flips == self.world.fleet.flips == ()
        assert {r: p.desired for r, p in calm.pools.items()} == {r: p.desired for r, p in self.world.fleet.pools.items()}


FlipMachine.TestCase.settings = settings(examples(6), stateful_step_count=15)
test_every_flip_ends_and_keeps_the_budget_the_last_serving_replica_and_the_rest_before_it = FlipMachine.TestCase
