"""The laws of DESIGN.md section 3, as far as this version reaches, over random runs of a whole fleet.

    1   targets stay within min and max; what is held and asked for never exceeds the GPU budget
    2   missing, stale or partial data never shrinks a pool
    3   after a restart nothing shrinks until a whole window was seen
    4   constant load reaches a fixed point and stays there; noise inside the tolerance causes no action
    5   more load never lowers demand; a wider tolerance never adds an action
    6   no role loses its last serving replica
    11  every number shown has a reason
    12  the same observation, memory and policy give the same plan
    13  outside Auto nothing is applied

A run is a list of looks 15 s apart at a fleet whose replicas start late and drain slowly. Between looks a human may
scale by hand; at a look part of the signals, or all, may be gone; the cluster may refuse a pool's new replicas; before a
look the controller may have been restarted, with what it left on record or without.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.action import Mode
from autoscaler.core.capacity import Bound
from autoscaler.core.decide import Decision, Memory, decide
from autoscaler.core.demand import Demand, DemandLimits
from autoscaler.core.fleet import Fleet, Lack, Phase, Role, Shortage
from autoscaler.core.forecast import ForecastLimits
from autoscaler.core.hysteresis import Brakes, Damping, Step, Track, damp
from autoscaler.core.observation import Gap, Gauges, Observation, Signals
from autoscaler.core.plan import BACKOFF_S
from autoscaler.core.policy import Policy
from autoscaler.core.state import record, resume
from autoscaler.core.status import document, status_of
from autoscaler.ports import Fault
from tests.fakes import GONE, KEY, RPS_PER_REPLICA, FakeFleet, fleet, policy, pool, signals

TICK_S = 15.0
WINDOW_S = 60.0
VERDICTS = ("ScaleUp", "ScaleDown", "Hold")
QUICK = Damping(Brakes(0.1, 0.0, 0.0, Step(4, 100.0, 15.0)), Brakes(0.1, WINDOW_S, 30.0, Step(2, 50.0, 30.0)), gap_s=45.0)
LOW, HIGH, BUDGET = 1, 8, 30
GPUS = {Role.PREFILL: 4, Role.DECODE: 2}


def hasty(mode: Mode = Mode.AUTO, gpu_budget: int | None = BUDGET) -> Policy:
    """A policy with a short window, so that short runs grow and shrink often."""
    limits = ForecastLimits(horizon_s=45.0, errors_needed=3, errors_kept=10)
    return replace(policy(LOW, HIGH, mode=mode, gpu_budget=gpu_budget), damping=dict.fromkeys(Role, QUICK), forecast=limits)


@dataclass(frozen=True, slots=True)
class Look:
    """What happens at one look: the load, what of it is not seen, and what others did before it."""

    rps: float
    waiting: float = 0.0
    gone: str | None = None
    by_hand: tuple[Role, int] | None = None
    refused: tuple[Role, Lack, float] | None = None  # whose new replicas, why, and how long ago the cluster said so
    restarted: str | None = None


GONE_PARTS = ("all", "arrivals", "every decode pod silent", "one pod stale", "one pod not a number")
REFUSALS = tuple(product(Role, Lack, (-10.0, 0.0, 59.0, 61.0, 301.0)))
looks = st.builds(
    Look,
    rps=st.sampled_from((0.0, 2.0, 9.0, 16.0, 30.0, 60.0)),
    waiting=st.sampled_from((0.0, 0.0, 0.0, 3.0, 300.0)),
    gone=st.sampled_from((None, None, None, None, *GONE_PARTS)),
    by_hand=st.none() | st.none() | st.none() | st.tuples(st.sampled_from(Role), st.integers(LOW, HIGH)),
    refused=st.sampled_from((None,) * len(REFUSALS) * 2 + REFUSALS),
    restarted=st.sampled_from((None,) * 30 + ("bare", "resumed")),
)
runs = st.lists(looks, min_size=10, max_size=40)
worlds = st.builds(
    FakeFleet,
    st.builds(
        lambda one, other: fleet(pool(Role.PREFILL, one, gpus=4), pool(Role.DECODE, other, gpus=2)),
        st.integers(LOW, 4),
        st.integers(LOW, 4),
    ),
    start_s=st.sampled_from((0.0, 40.0, 200.0)),
    drain_s=st.sampled_from((0.0, 40.0, 200.0)),
    oldest_first=st.booleans(),
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One look of a run: what was there, what was decided, and which roles were not seen in full."""

    observation: Observation
    memory: Memory
    decision: Decision
    dim: frozenset[Role]
    seen_s: float  # how long the controller has been running

    def shrinks(self) -> set[Role]:
        pools = self.observation.fleet.pools
        return {role for role, count in self.decision.plan.targets.items() if count < pools[role].desired}


def follow(world: FakeFleet, run: Sequence[Look], wanted: Policy) -> Iterator[Turn]:
    """Every look in turn, its plan applied."""
    memory, started = Memory(), 0.0
    for number, look in enumerate(run):
        now = number * TICK_S
        if look.by_hand and fits(world.fleets[KEY], *look.by_hand):
            world.scale(KEY, *look.by_hand, now)
        if look.restarted:
            memory, started = resumed(memory, now) if look.restarted == "resumed" else Memory(), now
        seen = told(world.read(KEY, now), look, now)
        said, dim = blanked(seen, look)
        observation = Observation(now, seen, said)
        decision = decide(observation, memory, wanted)
        yield Turn(observation, memory, decision, dim, now - started)
        memory = decision.memory
        for action in decision.plan.to_apply:
            world.apply(KEY, action, now, term=0)


def resumed(memory: Memory, now: float) -> Memory:
    """What the next leader has of a memory: its record, as it comes back from the API server."""
    kept = resume(json.loads(json.dumps(record(memory))), now)
    assert isinstance(kept, Memory)
    return kept


def told(seen: Fleet | Fault, look: Look, now: float) -> Fleet:
    """The fleet with what the cluster says about missing replicas."""
    assert isinstance(seen, Fleet)
    if look.refused is None:
        return seen
    role, lack, ago_s = look.refused
    shortage = Shortage(lack, 1, now - ago_s, "as scripted")
    return replace(seen, pools={**seen.pools, role: replace(seen.pools[role], shortages=(shortage,))})


def fits(seen: Fleet, role: Role, count: int) -> bool:
    """Humans keep to the budget here, so that every breach is ours."""
    more = max(0, count - seen.pools[role].desired)
    return seen.gpus_held + more * GPUS[role] <= BUDGET


def blanked(seen: Fleet, look: Look) -> tuple[Signals, frozenset[Role]]:
    """The signals with something gone, and the roles that are not seen in full for it."""
    said = signals(seen, look.rps, waiting=dict.fromkeys(Role, look.waiting))
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


@given(worlds, runs)
def test_targets_stay_within_min_and_max(world: FakeFleet, run: list[Look]) -> None:
    for turn in follow(world, run, hasty()):
        assert all(LOW <= count <= HIGH for count in turn.decision.plan.targets.values())


@given(worlds, runs)
def test_what_is_held_and_asked_for_never_exceeds_the_gpu_budget(world: FakeFleet, run: list[Look]) -> None:
    for _ in follow(world, run, hasty()):
        assert world.fleets[KEY].gpus_held <= BUDGET
    assert world.fleets[KEY].gpus_held <= BUDGET


@settings(max_examples=20)
@given(worlds, runs)
def test_a_pool_that_the_cluster_refuses_is_not_grown_for_a_while_and_nothing_else_changes(
    world: FakeFleet, run: list[Look]
) -> None:
    """Against the same tick without the refusal: the pool keeps its count instead of growing and never shrinks for it; the
    other one gets what it would have got, or more where the budget was short.
    """
    for turn, look in zip(follow(world, run, hasty()), run, strict=True):
        seen, targets = turn.observation.fleet, turn.decision.plan.targets
        unrefused = Fleet(KEY, {role: replace(members, shortages=()) for role, members in seen.pools.items()})
        free = decide(replace(turn.observation, fleet=unrefused), turn.memory, hasty()).plan.targets
        for role, members in seen.pools.items():
            if look.refused is not None and role is look.refused[0]:
                waits = max(0.0, look.refused[2]) < BACKOFF_S.get(look.refused[1], 0.0)
                assert targets[role] == (min(free[role], members.desired) if waits else free[role])
            else:
                assert targets[role] >= free[role]


@given(worlds, runs)
def test_what_is_not_seen_in_full_never_shrinks(world: FakeFleet, run: list[Look]) -> None:
    for turn in follow(world, run, hasty()):
        assert not turn.shrinks() & turn.dim


@given(worlds, runs)
def test_after_a_restart_nothing_shrinks_for_a_window(world: FakeFleet, run: list[Look]) -> None:
    for turn in follow(world, run, hasty()):
        assert turn.seen_s >= WINDOW_S or not turn.shrinks()


@given(worlds, runs)
def test_neither_role_loses_its_last_serving_replica(world: FakeFleet, run: list[Look]) -> None:
    """Whether the newest or the oldest replicas go first, and however many of the others still start."""
    calm = [replace(look, by_hand=None) for look in run]
    served = dict.fromkeys(Role, 0)
    for turn in follow(world, calm, hasty()):
        serving = {role: members.serving for role, members in turn.observation.fleet.pools.items()}
        assert all(serving[role] >= min(1, served[role]) for role in Role)
        served = serving


@given(worlds, runs, st.sampled_from((Mode.OFF, Mode.RECOMMEND)))
def test_outside_auto_nothing_is_applied(world: FakeFleet, run: list[Look], mode: Mode) -> None:
    for turn in follow(world, run, hasty(mode)):
        assert turn.decision.plan.to_apply == ()
    assert world.applied == []


@given(worlds, runs)
def test_every_look_ends_in_plain_json_with_a_verdict_for_each_role(world: FakeFleet, run: list[Look]) -> None:
    for turn in follow(world, run, hasty()):
        said = json.loads(json.dumps(document(status_of(turn.observation, turn.decision, (), hasty())), allow_nan=False))
        assert [finding["role"] for finding in said["findings"] if finding["reason"] in VERDICTS] == list(Role)
        moved = [finding["role"] for finding in said["findings"] if finding["reason"] in ("ScaleUp", "ScaleDown")]
        assert sorted(moved) == sorted(action["role"] for action in said["actions"])


@given(worlds, runs)
def test_the_same_inputs_give_the_same_decision(world: FakeFleet, run: list[Look]) -> None:
    for turn in follow(world, run, hasty()):
        assert decide(turn.observation, turn.memory, hasty()) == turn.decision


@given(worlds, runs, st.floats(0.0, 50.0), st.floats(0.0, 500.0))
def test_more_load_never_lowers_demand(world: FakeFleet, run: list[Look], more_rps: float, more_waiting: float) -> None:
    """The last look of a run again, with more of everything."""
    *_, turn = follow(world, run, hasty())
    seen, last = turn.observation.fleet, run[-1]
    busier, _ = blanked(seen, replace(last, rps=last.rps + more_rps, waiting=last.waiting + more_waiting))
    other = decide(replace(turn.observation, signals=busier), turn.memory, hasty())
    for role, view in turn.decision.views.items():
        demand, higher = view.demand, other.views[role].demand
        assert (demand is None) == (higher is None)
        assert demand is None or higher is None or higher.replicas >= demand.replicas


@given(worlds, runs, st.floats(0.1, 0.9))
def test_a_wider_tolerance_never_adds_an_action(world: FakeFleet, run: list[Look], tolerance: float) -> None:
    wide = replace(QUICK, up=replace(QUICK.up, tolerance=tolerance), down=replace(QUICK.down, tolerance=tolerance))
    tolerant = replace(hasty(), damping=dict.fromkeys(Role, wide))
    for turn in follow(world, run, hasty()):
        other = decide(turn.observation, turn.memory, tolerant)
        assert len(other.plan.actions) <= len(turn.decision.plan.actions)


# Law 4, with the real window, headroom and horizon: the loop is closed, what waits depends on what serves


SERVED_RPS = 2 * RPS_PER_REPLICA  # what a replica can do at all is twice what it carries within the SLO


def closed_loop(world: FakeFleet, load: Iterator[float], hours: float, tick_s: float) -> list[float]:
    """When actions were taken, with a queue per role that fills while too few replicas serve."""
    wanted, memory, queue, acted = replace(policy(), demand=DemandLimits()), Memory(), dict.fromkeys(Role, 0.0), []
    for number in range(int(hours * 3600 / tick_s)):
        now, rps = number * tick_s, next(load)
        seen = world.read(KEY, now)
        assert isinstance(seen, Fleet)
        queue = {role: max(0.0, queue[role] + (rps - SERVED_RPS * m.serving) * tick_s) for role, m in seen.pools.items()}
        decision = decide(Observation(now, seen, signals(seen, rps, waiting=queue)), memory, wanted)
        memory = decision.memory
        for action in decision.plan.to_apply:
            world.apply(KEY, action, now, term=0)
            acted.append(now)
    return acted


@pytest.mark.parametrize("rps", [0.0, 5.0, 9.99, 23.0, 61.0])
def test_under_constant_load_a_fleet_comes_to_rest_within_the_hour_and_stays_so_for_the_day(rps: float) -> None:
    world = FakeFleet(fleet(pool(Role.PREFILL, 4), pool(Role.DECODE, 20)), start_s=300.0, drain_s=60.0)
    acted = closed_loop(world, iter(lambda: rps, None), hours=24, tick_s=45.0)
    assert acted
    assert max(acted) < 3600.0
    needed = 1.1 * rps / RPS_PER_REPLICA
    assert all(needed / 1.1 - 1e-3 <= members.desired <= needed + 2 for members in world.fleets[KEY].pools.values())


@given(st.integers(1, 40), st.lists(st.tuples(st.floats(1.0, 400.0), st.floats(-0.099, 0.099)), min_size=1, max_size=80))
def test_noise_inside_the_tolerance_causes_no_action(desired: int, noise: list[tuple[float, float]]) -> None:
    """Any demand within ten per cent of what is asked for, at any pace, whatever was seen before."""
    track, now = Track(), 0.0
    for gap_s, off in noise:
        now += gap_s
        target, track = damp(Demand(desired * (1 + off), Bound.TTFT), desired, track, Damping(), now)
        assert target.replicas == desired


@settings(max_examples=10)
@given(st.floats(2.0, 60.0), st.integers(0, 1000))
def test_a_load_that_only_trembles_never_moves_a_pool_forth_and_back(rps: float, seed: int) -> None:
    """Three per cent either way for two hours, forecast and queue included. After half an hour a pool may still take one
    step that was due all along (near the edge of the band a rare value crosses it), and never a step back.
    """
    rng, late = random.Random(seed), 1800.0
    world = FakeFleet(fleet(pool(Role.PREFILL, 3), pool(Role.DECODE, 3)), start_s=60.0, drain_s=30.0)
    acted = closed_loop(world, iter(lambda: rps * rng.uniform(0.97, 1.03), None), hours=2, tick_s=15.0)
    roles = [action.roles for at, (_, action) in zip(acted, world.applied, strict=True) if at > late]
    assert len(roles) == len(set(roles))
