"""Over which runs are the laws of DESIGN.md section 3 tried?

A run is a list of looks 15 s apart at a fleet whose replicas start late, drain slowly and may change their role, in place or
by a paired resize, with equal GPUs or not. A load lasts for some looks. Between looks a human may scale by hand and a replica
may die; at a look part of the signals, or all, may be gone; the cluster may refuse a pool's new replicas; before a look the
controller may have been restarted, with what it left on record or without. The policy has a short window, so that short runs
grow, shrink, flip and sleep often, and a floor for a few minutes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from hypothesis import strategies as st

from autoscaler.core.action import Mode, Outcome
from autoscaler.core.calendar import DAY_S, Floor
from autoscaler.core.capacity import Shape
from autoscaler.core.decide import Decision, Memory, decide
from autoscaler.core.fleet import Fleet, FlipWay, Lack, Phase, Role, Shortage
from autoscaler.core.flip import FlipLimits
from autoscaler.core.forecast import ForecastLimits
from autoscaler.core.hysteresis import Brakes, Damping, Step
from autoscaler.core.observation import Gap, Gauges, Observation, Signals
from autoscaler.core.policy import Policy
from autoscaler.core.state import record, resume
from tests.core.flipping_fleet import FlippingFleet, Ways
from tests.fakes import GONE, SHAPE, policy, signals

TICK_S = 15.0
WINDOW_S = 60.0
LOW, HIGH, BUDGET = 1, 8, 30
PAIRS = ((Role.PREFILL, Role.DECODE), (Role.DECODE, Role.PREFILL))
GPUS = {Role.PREFILL: 4, Role.DECODE: 2}
SAME_GPUS = dict.fromkeys(Role, 3)
QUICK = Damping(Brakes(0.1, 0.0, 0.0, Step(4, 100.0, 15.0)), Brakes(0.1, WINDOW_S, 30.0, Step(2, 50.0, 30.0)), gap_s=45.0)
FLIPS = FlipLimits(enabled=True, max_in_flight=2, dwell_s=45.0, cooldown_s=15.0, window_s=15.0, sighted_s=WINDOW_S)
FLOOR = Floor(3 * DAY_S + 150.0, 120.0, 4)  # time 0 is a Thursday


def hasty(mode: Mode = Mode.AUTO, gpu_budget: int | None = BUDGET) -> Policy:
    """All that a policy can ask for, with a window of a minute."""
    return replace(
        policy(LOW, HIGH, mode=mode, gpu_budget=gpu_budget),
        damping=dict.fromkeys(Role, QUICK),
        forecast=ForecastLimits(horizon_s=45.0, errors_needed=3, errors_kept=10),
        flip=FLIPS,
        floors={Role.PREFILL: (FLOOR,)},
        zero_after_s=WINDOW_S,
    )


@dataclass(frozen=True, slots=True)
class Look:
    """What happens at one look: the load, what of it is not seen, and what others did before it."""

    rps: float
    waiting: float = 0.0
    shape: Shape | None = SHAPE
    gone: str | None = None
    by_hand: tuple[Role, int] | None = None
    dies: tuple[Role, int] | None = None
    refused: tuple[Role, Lack, float] | None = None  # whose new replicas, why, and how long ago the cluster said so
    restarted: str | None = None
    writes: int | None = None  # how many are made before the process dies, None: all, and it lives


def spells(few: Sequence[tuple[Look, int]]) -> list[Look]:
    """Each look so many times; what others do happens at its first."""
    return [look for one, count in few for look in (one, *[replace(one, by_hand=None, dies=None, restarted=None)] * (count - 1))]


LONG_PROMPTS, LONG_ANSWERS = Shape(2000.0, 2000.0, 50.0), Shape(500.0, 500.0, 200.0)  # four times the one role, half the other
GONE_PARTS = ("all", "arrivals", "every decode pod silent", "one pod stale", "one pod not a number")
REFUSALS = tuple(product(Role, Lack, (-10.0, 0.0, 59.0, 61.0, 301.0)))
looks = st.builds(
    Look,
    rps=st.sampled_from((0.0, 0.0, 2.0, 9.0, 16.0, 30.0, 60.0)),
    waiting=st.sampled_from((0.0, 0.0, 0.0, 3.0, 300.0)),
    shape=st.sampled_from((SHAPE, LONG_PROMPTS, LONG_ANSWERS, None)),
    gone=st.sampled_from((None,) * 8 + GONE_PARTS),
    by_hand=st.none() | st.none() | st.none() | st.tuples(st.sampled_from(Role), st.integers(LOW, HIGH)),
    dies=st.none() | st.none() | st.none() | st.tuples(st.sampled_from(Role), st.integers(0, 9)),
    refused=st.sampled_from((None,) * len(REFUSALS) * 2 + REFUSALS),
    restarted=st.sampled_from((None,) * 15 + ("bare", "resumed")),
)
runs = st.lists(st.tuples(looks, st.sampled_from((1, 1, 2, 5, 8))), min_size=4, max_size=12).map(spells)


def in_place(drained: bool, most: int) -> FlipWay:
    """A replica takes its new role itself; one that drains first is away for as long as an engine's restart."""
    return FlipWay("label", 20.0 if drained else 0.0, 1, 1, in_place=True, loses_cache=True, max_in_flight=most)


def resize(give: int, take: int, start_s: float, *, grows_first: bool, most: int) -> FlipWay:
    """`give` replicas go and `take` start."""
    return FlipWay("pairedResize", start_s, give, take, False, True, grows_first, most)


KINDS = ("in place", "shrink first", "grow first")


@st.composite
def worlds(draw: st.DrawFn, kinds: Sequence[str] = ("none", *KINDS)) -> FlippingFleet:
    """Fleets within the budget that cannot flip, or in one of three ways."""
    start_s, drain_s, most = (
        draw(st.sampled_from((0.0, 40.0, 200.0))),
        draw(st.sampled_from((0.0, 40.0, 200.0))),
        draw(st.sampled_from((1, 3))),
    )
    kind = draw(st.sampled_from(kinds))
    gpus = SAME_GPUS if kind == "in place" else draw(st.sampled_from((GPUS, SAME_GPUS)))
    ways: Ways = {}
    if kind == "in place":
        ways = dict.fromkeys(PAIRS, in_place(draw(st.booleans()), most))
    elif kind != "none":
        many = {pair: gpus[pair[0]] // min(gpus.values()) for pair in PAIRS}
        ways = {pair: resize(many[pair[::-1]], many[pair], start_s, grows_first=kind == "grow first", most=most) for pair in many}
    counts = {role: (draw(st.integers(LOW, 4)), gpus[role]) for role in Role}
    return FlippingFleet(counts, ways, start_s=start_s, drain_s=drain_s, oldest_first=draw(st.booleans()))


@dataclass(frozen=True, slots=True)
class Turn:
    """One look of a run: what was there, what was decided, which roles were not seen in full, for how long the controller has
    been running, and what its writes made of the fleet.
    """

    observation: Observation
    memory: Memory
    decision: Decision
    dim: frozenset[Role]
    running_s: float
    after: Fleet
    outcomes: tuple[Outcome, ...]

    @property
    def fleet(self) -> Fleet:
        """As it was found."""
        return self.observation.fleet

    def shrinks(self) -> set[Role]:
        """The roles that give up a replica, to nobody or to another role."""
        given = {flip.from_role for flip in self.decision.plan.flips}
        return given | {action.role for action in self.decision.plan.actions if action.to_replicas < action.from_replicas}

    def sleeps(self) -> bool:
        """Whether all pools are to be at zero."""
        return not any(self.decision.plan.targets.values())


def follow(world: FlippingFleet, run: Sequence[Look], wanted: Policy) -> Iterator[Turn]:
    """Every look in turn, its plan applied."""
    memory, started_s = Memory(), 0.0
    for number, look in enumerate(run):
        now = number * TICK_S
        if look.dies:
            world.kill(*look.dies, now)
        if look.by_hand and fits(world.fleet, *look.by_hand):
            world.scale(*look.by_hand, now)
        if look.restarted:
            memory, started_s = resumed(memory, now) if look.restarted == "resumed" else Memory(), now
        seen = told(world.read(now), look, now)
        said, dim = blanked(seen, look)
        observation = Observation(now, seen, said)
        decision = decide(observation, memory, wanted)
        outcomes = tuple(world.apply(action, now) for action in decision.plan.to_apply[: look.writes])
        yield Turn(observation, memory, decision, dim, now - started_s, world.fleet, outcomes)
        memory = decision.memory if look.writes is None else memory  # what is on record is told at a look's end


def resumed(memory: Memory, now: float) -> Memory:
    """What the next leader has of a memory: its record, as it comes back from the API server."""
    kept = resume(json.loads(json.dumps(record(memory))), now)
    assert isinstance(kept, Memory)
    return kept


def told(seen: Fleet, look: Look, now: float) -> Fleet:
    """The fleet with what the cluster says about missing replicas."""
    if look.refused is None:
        return seen
    role, lack, ago_s = look.refused
    shortage = Shortage(lack, 1, now - ago_s, "as scripted")
    return replace(seen, pools={**seen.pools, role: replace(seen.pools[role], shortages=(shortage,))})


def fits(seen: Fleet, role: Role, count: int) -> bool:
    """Humans keep to the budget here, so that every breach is ours."""
    more = max(0, count - seen.pools[role].desired)
    return seen.gpus_held + more * seen.pools[role].gpus_per_replica <= BUDGET


def blanked(seen: Fleet, look: Look) -> tuple[Signals, frozenset[Role]]:
    """The signals with something gone, and the roles that are not seen in full for it."""
    said = signals(seen, look.rps, waiting=dict.fromkeys(Role, look.waiting), shape=look.shape)
    unserved = frozenset(role for role, members in seen.pools.items() if not members.serving)
    names = [replica.name for replica in seen.pools[Role.DECODE].in_phase(Phase.SERVING)]
    if look.gone == "all":
        return Signals.unknown(Gap.TIMEOUT, "dark"), frozenset(Role)
    if look.gone == "arrivals":
        return replace(said, traffic=replace(said.traffic, offered_rps=GONE)), frozenset(Role)
    if look.gone is None or not names:
        return said, unserved
    assert isinstance(said.gauges, dict)
    rest = {name: gauge for name, gauge in said.gauges.items() if name not in names}
    spoilt = {
        "every decode pod silent": rest,
        "one pod stale": {**said.gauges, names[0]: Gauges(0.0, 0.0, 0.0, 99.0)},
        "one pod not a number": {**said.gauges, names[0]: Gauges(float("nan"), 0.0, 0.0, 1.0)},
    }
    return replace(said, gauges=spoilt[look.gone]), unserved | {Role.DECODE}
