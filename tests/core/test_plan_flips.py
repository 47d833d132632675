"""What does the guard let pass of a flip, and what is left to do beside one? And what is a plan for a fleet that sleeps?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.action import Action, Flip, Mode, Plan
from autoscaler.core.fleet import Fleet, FlipWay, Lack, Role, Shortage
from autoscaler.core.hysteresis import Target
from autoscaler.core.plan import Wish, plan, sleep
from autoscaler.core.policy import PoolLimits
from autoscaler.core.reason import Reason
from tests.fakes import fleet, pool

PREFILL, DECODE = Role
IN_PLACE = FlipWay("label", 5.0, 1, 1, in_place=True, loses_cache=True, max_in_flight=8)
SHRINK_FIRST = FlipWay("pairedResize", 120.0, 1, 2, in_place=False, loses_cache=True, max_in_flight=8)
GROW_FIRST = replace(SHRINK_FIRST, grows_first=True)
VERDICTS = (Reason.SCALE_UP, Reason.SCALE_DOWN, Reason.HOLD, Reason.MODE)


def flippable(
    way: FlipWay = IN_PLACE, *, prefill: int = 4, decode: int = 4, gpus: int = 1, leaving: int = 0, starting: int = 0
) -> Fleet:
    """Prefill may become decode, in this way; of prefill some only serve until others have come, or still start."""
    source = pool(PREFILL, prefill, serving=prefill + leaving - starting, starting=starting, gpus=gpus)
    return replace(fleet(replace(source, leaving=leaving), pool(DECODE, decode)), flip_ways={(PREFILL, DECODE): way})


def flipping(seen: Fleet, units: int = 1) -> Flip:
    """So many units of prefill into decode."""
    way = seen.flip_ways[PREFILL, DECODE]
    counts = {role: members.desired for role, members in seen.pools.items()}
    return Flip(PREFILL, DECODE, units * way.from_replicas, units * way.to_replicas, Reason.FLIP, counts)


def made(
    seen: Fleet,
    flip: Flip,
    wishes: dict[Role, int] | None = None,
    *,
    low: int = 1,
    high: int = 100,
    gpu_budget: int | None = None,
    mode: Mode = Mode.AUTO,
) -> Plan:
    """The plan; a role that is not wished for is wished to stay."""
    counts = {role: (wishes or {}).get(role, members.desired) for role, members in seen.pools.items()}
    whole = {role: Wish(Target(count, Reason.DEMAND_ROSE, count), float(count), sighted=True) for role, count in counts.items()}
    return plan(0.0, mode, seen, whole, {role: PoolLimits(low, high) for role in Role}, gpu_budget, flip=flip)


def cuts(lawful: Plan) -> list[tuple[Role | None, Reason]]:
    """What the guard cut, without the verdicts."""
    return [(finding.role, finding.reason) for finding in lawful.findings if finding.reason not in VERDICTS]


@pytest.mark.parametrize(
    ("seen", "units", "low", "high", "cut"),
    [
        pytest.param(flippable(), 2, 1, 6, None, id="within bounds"),
        pytest.param(flippable(), 2, 3, 6, (PREFILL, Reason.TOO_FEW_REPLICAS), id="the donor below its min"),
        pytest.param(flippable(), 2, 1, 5, (DECODE, Reason.TOO_MANY_REPLICAS), id="the receiver above its max"),
        pytest.param(flippable(SHRINK_FIRST), 1, 1, 5, (DECODE, Reason.TOO_MANY_REPLICAS), id="two for one above its max"),
        pytest.param(flippable(), 3, 1, 8, None, id="all but one"),
        pytest.param(flippable(), 4, 0, 8, (PREFILL, Reason.LAST_SERVING), id="the last one, though min is zero"),
        pytest.param(flippable(starting=2), 2, 1, 8, (PREFILL, Reason.LAST_SERVING), id="those who start do not serve yet"),
        pytest.param(flippable(leaving=2, starting=3), 1, 1, 8, (PREFILL, Reason.LAST_SERVING), id="those who leave soon do not"),
        pytest.param(flippable(leaving=2, starting=2), 1, 1, 8, None, id="one serves besides those who leave"),
    ],
)
def test_a_flip_keeps_both_pools_within_bounds_and_one_serving(
    seen: Fleet, units: int, low: int, high: int, cut: tuple[Role, Reason] | None
) -> None:
    flip = flipping(seen, units)
    lawful = made(seen, flip, low=low, high=high)
    stands = {role: members.desired for role, members in seen.pools.items()}
    assert lawful.flips == (() if cut else (flip,))
    assert cuts(lawful) == ([cut] if cut else [])
    moved = {PREFILL: stands[PREFILL] - flip.from_replicas, DECODE: stands[DECODE] + flip.to_replicas}
    assert lawful.targets == (stands if cut else moved)
    assert lawful.actions == ()


@pytest.mark.parametrize(
    ("way", "gpus", "budget", "passes"),
    [
        pytest.param(IN_PLACE, 1, 8, True, id="in place takes no GPU more"),
        pytest.param(SHRINK_FIRST, 2, 12, True, id="nor do two of 1 GPU after one of 2"),
        pytest.param(SHRINK_FIRST, 1, 8, False, id="two of 1 GPU for one of 1 take one more"),
        pytest.param(SHRINK_FIRST, 1, 9, True, id="which is there"),
        pytest.param(GROW_FIRST, 2, 13, False, id="who grow first hold theirs beside the old one's"),
        pytest.param(GROW_FIRST, 2, 14, True, id="which are there"),
    ],
)
def test_a_flip_pays_for_the_gpus_that_it_needs_meanwhile(way: FlipWay, gpus: int, budget: int, passes: bool) -> None:
    """Four prefill replicas of `gpus` each, four decode replicas of one."""
    seen = flippable(way, gpus=gpus)
    lawful = made(seen, flipping(seen), gpu_budget=budget)
    assert bool(lawful.flips) is passes
    assert cuts(lawful) == ([] if passes else [(DECODE, Reason.GPU_BUDGET)])


def test_gpus_that_a_flip_under_way_holds_are_not_there_for_the_next() -> None:
    """One that grew first: five decode replicas and four prefill ones of 2 GPUs, of which one is leaving: 13 held."""
    seen = flippable(GROW_FIRST, prefill=3, decode=5, gpus=2, leaving=1)
    assert seen.gpus_held == 13
    assert made(seen, flipping(seen), gpu_budget=14).flips == ()
    assert len(made(seen, flipping(seen), gpu_budget=15).flips) == 1


@pytest.mark.parametrize(
    ("wishes", "targets"),
    [
        pytest.param({PREFILL: 6}, {PREFILL: 3, DECODE: 5}, id="its donor is not grown back"),
        pytest.param({PREFILL: 1}, {PREFILL: 3, DECODE: 5}, id="nor shrunk further"),
        pytest.param({DECODE: 7}, {PREFILL: 3, DECODE: 7}, id="its receiver may grow further"),
        pytest.param({DECODE: 2}, {PREFILL: 3, DECODE: 5}, id="and is not shrunk"),
    ],
)
def test_a_flip_counts_as_done_for_what_stands_beside_it(wishes: dict[Role, int], targets: dict[Role, int]) -> None:
    seen = flippable()
    lawful = made(seen, flipping(seen), wishes)
    assert lawful.targets == targets
    assert lawful.to_apply[0] == flipping(seen)
    grown = [Action(DECODE, 5, count, Reason.DEMAND_ROSE) for count in (targets[DECODE],) if count > 5]
    assert list(lawful.actions) == grown


def test_growth_beside_a_flip_gets_what_the_flip_leaves_of_the_budget() -> None:
    """Twelve GPUs held and two more for those who grow first: of fifteen one is left, for one more decode of 1 GPU."""
    seen = flippable(GROW_FIRST, gpus=2)
    lawful = made(seen, flipping(seen), {DECODE: 20}, gpu_budget=15)
    assert (len(lawful.flips), lawful.targets) == (1, {PREFILL: 3, DECODE: 7})
    assert cuts(lawful) == [(DECODE, Reason.GPU_BUDGET)]


def test_a_pool_that_the_cluster_refuses_may_still_be_given_replicas_that_flip() -> None:
    """They have their GPUs and their place; only what would have to be started waits."""
    seen = flippable()
    refused = replace(seen.pools[DECODE], shortages=(Shortage(Lack.NOT_CREATED, 1, 0.0, "exceeded quota"),))
    lawful = made(replace(seen, pools={**seen.pools, DECODE: refused}), flipping(seen), {DECODE: 8})
    assert lawful.targets == {PREFILL: 3, DECODE: 5}


@pytest.mark.parametrize(("mode", "planned", "applied"), [(Mode.AUTO, 1, 1), (Mode.RECOMMEND, 1, 0), (Mode.OFF, 0, 0)])
def test_only_auto_flips_and_off_does_not_even_plan_one(mode: Mode, planned: int, applied: int) -> None:
    seen = flippable()
    lawful = made(seen, flipping(seen), mode=mode)
    assert (len(lawful.flips), len(lawful.to_apply)) == (planned, applied)


# A fleet that sleeps


@pytest.mark.parametrize(("mode", "planned", "applied"), [(Mode.AUTO, 2, 2), (Mode.RECOMMEND, 2, 0), (Mode.OFF, 0, 0)])
def test_all_pools_go_to_sleep_together_and_only_in_auto(mode: Mode, planned: int, applied: int) -> None:
    lawful = sleep(0.0, mode, fleet(pool(PREFILL, 3), pool(DECODE, 2)))
    assert lawful.targets == {PREFILL: 0, DECODE: 0}
    assert (len(lawful.actions), len(lawful.to_apply)) == (planned, applied)
    assert {action.reason for action in lawful.actions} <= {Reason.IDLE}
    assert [finding.reason for finding in lawful.findings if finding.reason not in VERDICTS] == [Reason.IDLE]


def test_who_sleeps_already_is_not_told_to() -> None:
    assert sleep(0.0, Mode.AUTO, fleet(pool(PREFILL, 0), pool(DECODE, 0))).actions == ()
    half = sleep(0.0, Mode.AUTO, fleet(pool(PREFILL, 0), pool(DECODE, 2)))
    assert half.actions == (Action(DECODE, 2, 0, Reason.IDLE),)
