"""Does a fleet come to rest, and does more load or a wider tolerance push the right way?

    4   constant load reaches a fixed point and stays there; noise inside the tolerance causes no action
    5   more load never lowers demand; a wider tolerance never adds an action

Law 4 closes the loop: what waits depends on what serves, and what is cached on how long it has served. It is
asked of fleets that cannot flip, flip in place, and flip by a paired resize, with a budget or none.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.capacity import Bound, Shape
from autoscaler.core.decide import Memory, decide
from autoscaler.core.demand import Demand
from autoscaler.core.fleet import Fleet, Phase, Role
from autoscaler.core.flip import FlipLimits
from autoscaler.core.hysteresis import Damping, Track, damp
from autoscaler.core.observation import Observation
from autoscaler.core.policy import Policy
from tests.core.flipping_fleet import FlippingFleet, Ways
from tests.core.laws_world import PAIRS, QUICK, Look, blanked, follow, hasty, in_place, resize, runs, worlds
from tests.examples import examples
from tests.fakes import RPS_PER_REPLICA, policy, signals

SERVED_RPS = 2 * RPS_PER_REPLICA  # what a replica can do at all is twice what it carries within the SLO
FLIPPING = FlipLimits(enabled=True)
KINDS: dict[str, Ways] = {
    "no flips": {},
    "in place": dict.fromkeys(PAIRS, in_place(drained=True, most=2)),
    "grow first": {pair: resize(1, 1, 300.0, grows_first=True, most=1) for pair in PAIRS},
}


def closed_loop(
    world: FlippingFleet, load: Iterator[float], wanted: Policy, *, hours: float, tick_s: float
) -> list[tuple[float, Role]]:
    """When actions were taken and on which roles, with a queue per role that fills while too few replicas serve."""
    memory, queue, acted = Memory(), dict.fromkeys(Role, 0.0), []
    for number in range(int(hours * 3600 / tick_s)):
        now, rps = number * tick_s, next(load)
        seen = world.read(now)
        queue = {role: max(0.0, queue[role] + (rps - SERVED_RPS * m.serving) * tick_s) for role, m in seen.pools.items()}
        said = signals(seen, rps, waiting=queue, shape=partly_cached(seen, now))
        decision = decide(Observation(now, seen, said), memory, wanted)
        memory = decision.memory
        for action in decision.plan.to_apply:
            world.apply(action, now)
            acted += [(now, role) for role in action.roles]
    return acted


def partly_cached(seen: Fleet, now: float) -> Shape:
    """Prompts of 3,000 tokens; who has served for five minutes has two thirds of each in its cache, who is new none."""
    serving = seen.pools[Role.PREFILL].in_phase(Phase.SERVING)
    warm = sum(now - one.since_s >= 300.0 for one in serving) / max(1, len(serving))
    return Shape(3000.0, 3000.0 - 2000.0 * warm, 100.0)


def lopsided(ways: Ways) -> FlippingFleet:
    """Four of one role and twenty of the other, slow to start and to drain."""
    return FlippingFleet({Role.PREFILL: (4, 1), Role.DECODE: (20, 1)}, ways, start_s=300.0, drain_s=60.0)


def rests(ways: Ways, rps: float, *, hours: float, tick_s: float, gpu_budget: int | None = None) -> None:
    """It settles within two hours, caches filled and forecasts proven, on what is needed and little more."""
    world = lopsided(ways)
    acted = closed_loop(
        world, iter(lambda: rps, None), replace(policy(gpu_budget=gpu_budget), flip=FLIPPING), hours=hours, tick_s=tick_s
    )
    assert acted
    assert max(now for now, _ in acted) < 7200.0
    needed = rps / RPS_PER_REPLICA
    assert all(needed / 1.1 - 1e-3 <= members.desired <= 1.1 * needed + 2 for members in world.fleet.pools.values())


@pytest.mark.parametrize("rps", [0.0, 23.0])
def test_under_constant_load_a_fleet_comes_to_rest_within_two_hours(rps: float) -> None:
    rests({}, rps, hours=2.5, tick_s=45.0)


@pytest.mark.slow  # half a day of looks each
@pytest.mark.parametrize("gpu_budget", [None, 28], ids=["no budget", "a budget"])
@pytest.mark.parametrize("ways", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("rps", [0.0, 9.99, 61.0])
def test_under_constant_load_a_fleet_at_rest_stays_so_for_half_a_day(rps: float, ways: Ways, gpu_budget: int | None) -> None:
    rests(ways, rps, hours=12, tick_s=45.0, gpu_budget=gpu_budget)


@pytest.mark.slow  # 40,320 looks
def test_under_constant_load_nothing_happens_for_a_week_of_looks_at_the_usual_pace() -> None:
    """Of the whole product: flips in place, the prefix cache on."""
    rests(KINDS["in place"], 23.0, hours=7 * 24, tick_s=15.0)


@given(st.integers(1, 40), st.lists(st.tuples(st.floats(1.0, 400.0), st.floats(-0.049, 0.099)), min_size=1, max_size=80))
def test_noise_inside_the_tolerance_causes_no_action(desired: int, noise: list[tuple[float, float]]) -> None:
    """Any demand up to ten per cent above or five below what is asked for, at any pace, whatever was seen before."""
    track, now = Track(), 0.0
    for gap_s, off in noise:
        now += gap_s
        target, track = damp(Demand(desired * (1 + off), Bound.TTFT), desired, track, Damping(), now)
        assert target.replicas == desired


@pytest.mark.slow  # hours of looks each
@examples(8)
@given(st.sampled_from(sorted(KINDS)), st.floats(2.0, 60.0), st.integers(0, 1000))
def test_a_load_that_only_trembles_never_moves_a_pool_forth_and_back(kind: str, rps: float, seed: int) -> None:
    """Three per cent either way for three hours, forecast and queue included. In the first, replicas that start with cold caches
    bring work of their own, and what was sized for it is given back; then a pool may still take one step that was due all along
    (near the edge of the band a rare value crosses it), and never a step back.
    """
    rng, late_s = random.Random(seed), 3600.0
    world = FlippingFleet(dict.fromkeys(Role, (3, 1)), KINDS[kind], start_s=60.0, drain_s=30.0)
    trembling = iter(lambda: rps * rng.uniform(0.97, 1.03), None)
    acted = closed_loop(world, trembling, replace(policy(), flip=FLIPPING), hours=3, tick_s=15.0)
    late = [role for now, role in acted if now > late_s]
    assert len(late) == len(set(late))


@examples(15)
@given(worlds(), runs, st.floats(0.0, 50.0), st.floats(0.0, 500.0))
def test_more_load_never_lowers_demand(world: FlippingFleet, run: list[Look], more_rps: float, more_waiting: float) -> None:
    """The last look of a run again, with more of everything: what is needed now, soon and lasting."""
    *_, turn = follow(world, run, hasty())
    last = run[-1]
    busier, _ = blanked(turn.fleet, replace(last, rps=last.rps + more_rps, waiting=last.waiting + more_waiting))
    other = decide(replace(turn.observation, signals=busier), turn.memory, hasty())
    for role, view in turn.decision.views.items():
        demand, higher = view.demand, other.views[role].demand
        assert (demand is None) == (higher is None)
        if demand is not None and higher is not None:
            assert higher.replicas >= demand.replicas
            assert higher.most >= demand.most
            assert (higher.soon or 0.0) >= (demand.soon or 0.0)


@examples(15)
@given(worlds(), runs, st.floats(0.1, 0.9))
def test_a_wider_tolerance_never_adds_an_action_or_changes_a_flip(
    world: FlippingFleet, run: list[Look], tolerance: float
) -> None:
    wide = replace(QUICK, up=replace(QUICK.up, tolerance=tolerance), down=replace(QUICK.down, tolerance=tolerance))
    tolerant = replace(hasty(), damping=dict.fromkeys(Role, wide))
    for turn in follow(world, run, hasty()):
        other = decide(turn.observation, turn.memory, tolerant)
        assert len(other.plan.actions) <= len(turn.decision.plan.actions)
        assert other.plan.flips == turn.decision.plan.flips
