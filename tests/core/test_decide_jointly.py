"""What does the whole tick make of what concerns a fleet as one: a spare replica, a floor, sleep, a flip?

As in test_decide.py one replica of either role carries 5 requests per second, and looks are 15 s apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from autoscaler.core.action import Action, Mode
from autoscaler.core.calendar import DAY_S, FIRST_MONDAY_S, Floor
from autoscaler.core.calibration import CalibrationLimits, Trust
from autoscaler.core.decide import Decision, Memory, decide
from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.flip import FlipLimits
from autoscaler.core.observation import Observation, Signals, Unknown
from autoscaler.core.policy import Policy
from autoscaler.core.reason import Reason, Stage
from tests.core.flipping_fleet import FlippingFleet
from tests.core.laws_world import LONG_ANSWERS, PAIRS, TICK_S, in_place, resumed
from tests.fakes import GONE, SHAPE, fleet, histogram, policy, pool, signals

OPENS_S, CLOSES_S = FIRST_MONDAY_S + 8 * 3600.0, FIRST_MONDAY_S + 20 * 3600.0
OFFICE = Floor(8 * 3600.0, 12 * 3600.0, 6)
SLEEPY = replace(policy(), zero_after_s=600.0)
FLIPPING = replace(policy(gpu_budget=10), flip=FlipLimits(enabled=True))


def both(desired: int) -> Fleet:
    """So many of either role, all serving."""
    return fleet(*(pool(role, desired) for role in Role))


def looked(stands: Iterable[tuple[float, Fleet, Signals]], wanted: Policy, memory: Memory | None = None) -> Decision:
    """The last of these looks."""
    memory = memory or Memory()
    for now, seen, said in stands:
        decision = decide(Observation(now, seen, said), memory, wanted)
        memory = decision.memory
    return decision


def steady(from_s: float, until_s: float, seen: Fleet, rps: float | Unknown) -> Iterator[tuple[float, Fleet, Signals]]:
    """The same at every look, the last one at `until_s`."""
    return ((now, seen, signals(seen, rps)) for now in range(int(from_s), int(until_s) + 1, int(TICK_S)))


def targets(decision: Decision) -> tuple[int, ...]:
    """Prefill's and decode's."""
    return tuple(decision.plan.targets[role] for role in Role)


@pytest.mark.parametrize(
    ("rps", "without", "with_spare"),
    [
        pytest.param(0.0, 1, 1, id="nothing needs nothing to spare"),
        pytest.param(4.0, 1, 2, id="0.8 is 1.8"),
        pytest.param(9.0, 2, 3, id="1.8 is 2.8"),
        pytest.param(14.0, 3, 4, id="2.8 is 3.8"),
        pytest.param(19.0, 4, 4, id="3.8 is 4, for up to 3 and no further"),
        pytest.param(24.0, 5, 5, id="of five one may be lost"),
    ],
)
def test_where_few_are_needed_there_is_one_to_spare(rps: float, without: int, with_spare: int) -> None:
    spared = replace(policy(), demand=DemandLimits(headroom=0.0, spare_up_to=3))
    for wanted, count in ((policy(), without), (spared, with_spare)):
        assert targets(looked(steady(0.0, 0.0, both(1), rps), wanted)) == (count, count)


@pytest.mark.parametrize(
    ("now", "rps", "prefill"),
    [
        pytest.param(OPENS_S - 15.0, 9.0, 4, id="before eight"),
        pytest.param(OPENS_S, 9.0, 6, id="at eight"),
        pytest.param(OPENS_S, GONE, 6, id="at eight in the dark"),
        pytest.param(OPENS_S + 7 * DAY_S, 9.0, 6, id="a week later"),
        pytest.param(OPENS_S, 39.0, 8, id="at eight, and more is asked for"),
        pytest.param(CLOSES_S, 9.0, 4, id="at twenty hours"),
    ],
)
def test_a_floor_raises_its_pool_at_its_hour_and_no_other(now: float, rps: float | Unknown, prefill: int) -> None:
    wanted = replace(policy(), floors={Role.PREFILL: (OFFICE,)})
    decode = 8 if rps == 39.0 else 4
    assert targets(looked(steady(now, now, both(4), rps), wanted)) == (prefill, decode)


def test_when_a_floor_ends_the_pool_goes_the_usual_way_down() -> None:
    wanted, seen = replace(policy(), floors={Role.PREFILL: (OFFICE,)}), fleet(pool(Role.PREFILL, 6))
    held = looked(steady(CLOSES_S - 1800.0, CLOSES_S - 15.0, seen, 9.0), wanted)
    assert targets(held) == (6, 2)
    assert Reason.TOO_FEW_REPLICAS in {finding.reason for finding in held.plan.findings if finding.role is Role.PREFILL}
    assert targets(looked(steady(CLOSES_S, CLOSES_S, seen, 9.0), wanted, held.memory)) == (5, 2)


def test_a_fleet_that_nobody_asks_goes_to_sleep_and_wakes_for_the_first_who_does() -> None:
    awake = looked(steady(0.0, 585.0, both(1), 0.0), SLEEPY)
    assert targets(awake) == (1, 1)
    asleep = looked(steady(600.0, 600.0, both(1), 0.0), SLEEPY, awake.memory)
    assert asleep.plan.to_apply == tuple(Action(role, 1, 0, Reason.IDLE) for role in Role)
    still = looked(steady(615.0, 900.0, both(0), 0.0), SLEEPY, asleep.memory)
    assert (targets(still), still.plan.actions) == ((0, 0), ())
    woken = looked(steady(915.0, 915.0, both(0), 22.0), SLEEPY, still.memory)
    assert min(targets(woken)) >= 1
    assert targets(woken)[0] == targets(woken)[1]


def test_a_fleet_asleep_wakes_to_its_min_when_nobody_can_tell_whether_it_is_wanted() -> None:
    asleep = looked(steady(0.0, 600.0, both(0), 0.0), SLEEPY)
    assert targets(asleep) == (0, 0)
    assert targets(looked(steady(615.0, 615.0, both(0), GONE), SLEEPY, asleep.memory)) == (1, 1)


def test_a_new_leader_lets_a_fleet_sleep_and_puts_none_to_sleep_before_it_has_waited_itself() -> None:
    idle = looked(steady(0.0, 585.0, both(1), 0.0), SLEEPY)
    after = resumed(idle.memory, 600.0)
    assert targets(looked(steady(600.0, 1185.0, both(1), 0.0), SLEEPY, after)) == (1, 1)
    assert targets(looked(steady(600.0, 1200.0, both(1), 0.0), SLEEPY, after)) == (0, 0)
    assert targets(looked(steady(600.0, 600.0, both(0), 0.0), SLEEPY, after)) == (0, 0)


def turning(mode: Mode, looks: int = 10) -> list[Decision]:
    """Five and five of ten GPUs, at a load that takes 4.6 of each; after ten minutes answers are twice as long and prompts half.
    The decisions from then on.
    """
    world = FlippingFleet(dict.fromkeys(Role, (5, 1)), dict.fromkeys(PAIRS, in_place(drained=True, most=2)), start_s=120.0)
    memory, made = Memory(), []
    for tick in range(40 + looks):
        seen = world.read(tick * TICK_S)
        said = signals(seen, 23.0, shape=SHAPE if tick < 40 else LONG_ANSWERS)
        ended = histogram(within=23.0 * 60.0, over=0.0)  # as many as arrive, so that they tell how long answers are
        said = replace(said, roles={role: replace(one, latency=ended) for role, one in said.roles.items()})
        decision = decide(Observation(tick * TICK_S, seen, said), memory, replace(FLIPPING, mode=mode))
        memory = decision.memory
        made.append(decision)
        for action in decision.plan.to_apply:
            world.apply(action, tick * TICK_S)
    return made[40:]


def told(decision: Decision) -> set[Reason]:
    """What is said of the plan for decode."""
    return {finding.reason for finding in decision.plan.findings if finding.stage is Stage.PLAN and finding.role is Role.DECODE}


def test_when_the_ratio_turns_a_full_fleet_flips_one_way_until_both_hurt_alike_and_says_why() -> None:
    """2.3 and 9.2 replicas are needed of ten: of 2 and 8 each has 15 % too much to do."""
    made = turning(Mode.AUTO)
    flips = [(decision, flip) for decision in made for flip in decision.plan.flips]
    assert made[0].plan.flips
    assert {(flip.from_role, flip.to_role) for _, flip in flips} == {(Role.PREFILL, Role.DECODE)}
    assert all(flip.reason in told(decision) for decision, flip in flips)
    assert targets(made[-1]) == (2, 8)
    assert not any(decision.plan.actions for decision in made)


def test_right_after_a_flip_the_next_one_waits_and_says_for_what() -> None:
    first, second, *_ = turning(Mode.AUTO)
    assert first.plan.flips
    assert second.plan.flips == ()
    assert told(second) & {Reason.FLIP_IN_FLIGHT, Reason.COOLDOWN}


def test_a_flip_that_is_only_recommended_is_so_at_every_look_and_leaves_no_trace() -> None:
    made = turning(Mode.RECOMMEND)
    assert all(len(decision.plan.flips) == 1 for decision in made)
    assert all(decision.plan.to_apply == () for decision in made)
    assert all(decision.memory.flips.begun == () for decision in made)


def test_a_fleet_of_unknown_speed_neither_flips_nor_sleeps_and_keeps_its_floor() -> None:
    unknown = replace(FLIPPING, calibration=CalibrationLimits(Trust.NOTHING), floors={Role.PREFILL: (Floor(0.0, 7 * DAY_S, 4),)})
    seen = replace(
        fleet(pool(Role.PREFILL, 2), pool(Role.DECODE, 6)), flip_ways=dict.fromkeys(PAIRS, in_place(drained=True, most=2))
    )
    decision = looked(steady(0.0, 600.0, seen, 22.0), unknown)
    assert (decision.plan.flips, targets(decision)) == ((), (4, 6))
    assert [finding.reason for finding in decision.plan.findings].count(Reason.UNCALIBRATED) == len(Role)
