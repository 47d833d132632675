"""Timelines: what does the damper say, look by look?

A row is (seconds, demand in replicas, `desired` as it stands, expected target, expected reason). Demand None is a look
without sight, a negative one is partly seen (its amount is the lower bound that is known).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.capacity import Bound
from autoscaler.core.demand import Demand
from autoscaler.core.hysteresis import Brakes, Damping, Step, Target, Track, damp, recommend, watch
from autoscaler.core.reason import Reason
from tests.fakes import GONE

KEEP, ROSE, FELL = Reason.WITHIN_TOLERANCE, Reason.DEMAND_ROSE, Reason.DEMAND_FELL
UP_WINDOW, DOWN_WINDOW, FIRST_WINDOW = Reason.SCALE_UP_STABILIZED, Reason.SCALE_DOWN_STABILIZED, Reason.FIRST_WINDOW
COOLDOWN, STEP_LIMIT, PART_ONLY = Reason.COOLDOWN, Reason.STEP_LIMITED, Reason.KNOWN_PART_ONLY

FREE = Step(1000, 100.0, 1.0)
UP = Brakes(tolerance=0.1, stabilization_s=0.0, cooldown_s=0.0, step=FREE)
DOWN = Brakes(tolerance=0.1, stabilization_s=300.0, cooldown_s=60.0, step=FREE)
PLAIN = Damping(UP, DOWN, gap_s=60.0)
NO_WINDOW = Damping(UP, replace(DOWN, stabilization_s=0.0, cooldown_s=0.0))

Row = tuple[float, float | None, int, int, Reason | None]


def seen(demand: float) -> Demand:
    return Demand(abs(demand), Bound.TTFT, GONE if demand < 0 else None)


def steady(since_s: int, until_s: int, demand: float | None, desired: int, reason: Reason | None = KEEP) -> list[Row]:
    """A look every 30 s at which nothing is to move."""
    return [(now, demand, desired, desired, reason) for now in range(since_s, until_s, 30)]


def follow(limits: Damping, rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Each row as expected and as it came out."""
    track = Track()
    for now, demand, desired, target, reason in rows:
        if demand is None:
            track = watch(desired, track, limits, now)
            yield (now, demand, desired, target, reason), (now, demand, desired, desired, None)
            continue
        said, track = damp(seen(demand), desired, track, limits, now)
        yield (now, demand, desired, target, reason), (now, demand, desired, said.replicas, said.reason)


TIMELINES: dict[str, tuple[Damping, list[Row]]] = {
    "a rise is followed at once, from the first look on": (
        PLAIN,
        [(0, 2.0, 2, 2, KEEP), (30, 2.5, 2, 3, ROSE), (60, 7.2, 3, 7, ROSE)],
    ),
    "the first look after a restart may grow a pool": (PLAIN, [(0, 5.0, 2, 5, ROSE)]),
    "replicas that are asked for already are not asked for again": (
        PLAIN,
        [(0, 5.0, 2, 5, ROSE), (30, 5.0, 5, 5, KEEP), (60, 5.0, 5, 5, KEEP)],
    ),
    "after a restart nothing shrinks until a whole window has been seen": (
        PLAIN,
        [*steady(0, 300, 2.0, 6, FIRST_WINDOW), (299.9, 2.0, 6, 6, FIRST_WINDOW), (300, 2.0, 6, 2, FELL)],
    ),
    "a fall waits until the last high demand has left the window": (
        PLAIN,
        [
            *steady(0, 330, 5.8, 6),
            *steady(330, 601, 2.0, 6, DOWN_WINDOW),
            (600.1, 2.0, 6, 2, FELL),
        ],
    ),
    "a fall goes to the highest demand of the window and no lower": (
        PLAIN,
        [
            *steady(0, 301, 5.8, 6),
            (310, 3.4, 6, 6, DOWN_WINDOW),
            *((now, 1.0, 6, 6, DOWN_WINDOW) for now in range(340, 600, 30)),
            (605, 1.0, 6, 4, FELL),
        ],
    ),
    "a short dip moves nothing": (
        PLAIN,
        [*steady(0, 600, 5.8, 6), (600, 0.5, 6, 6, DOWN_WINDOW), (630, 5.8, 6, 6, KEEP)],
    ),
    "a gap within the limit does not start the window anew": (
        PLAIN,
        [
            *steady(0, 150, 2.0, 6, FIRST_WINDOW),
            (150, None, 6, 6, None),
            *steady(180, 300, 2.0, 6, FIRST_WINDOW),
            (300, 2.0, 6, 2, FELL),
        ],
    ),
    "a longer gap starts it anew": (
        PLAIN,
        [
            *steady(0, 181, 2.0, 6, FIRST_WINDOW),
            *steady(210, 240, None, 6, None),
            (241, 2.0, 6, 6, FIRST_WINDOW),
            *steady(270, 541, 2.0, 6, FIRST_WINDOW),
            (541, 2.0, 6, 2, FELL),
        ],
    ),
    "a controller that stood still for a day has seen nothing of it": (
        PLAIN,
        [*steady(0, 301, 5.8, 6), (86_400, 2.0, 6, 6, FIRST_WINDOW), (86_430, 2.0, 6, 6, FIRST_WINDOW)],
    ),
    "what is partly seen may grow a pool and never shrinks it": (
        PLAIN,
        [*steady(0, 330, 4.0, 4), (330, -6.0, 4, 6, ROSE), (360, -1.0, 6, 6, PART_ONLY)],
    ),
    "a window that was only partly seen is no window": (
        PLAIN,
        [
            *steady(0, 330, 5.8, 6),
            *steady(330, 900, -2.0, 6, PART_ONLY),
            (900, 2.0, 6, 6, FIRST_WINDOW),
            *steady(930, 1200, 2.0, 6, FIRST_WINDOW),
            (1200, 2.0, 6, 2, FELL),
        ],
    ),
    "one pod that misses a scrape now and then does not keep a pool large for ever": (
        PLAIN,
        [
            *(
                (now, -2.0 if now % 90 == 30 else 2.0, 6, 6, PART_ONLY if now % 90 == 30 else FIRST_WINDOW)
                for now in range(0, 300, 30)
            ),
            (300, -2.0, 6, 6, PART_ONLY),
            (330, 2.0, 6, 2, FELL),
        ],
    ),
    "growth is limited per period, by whichever limit allows more": (
        Damping(replace(UP, step=Step(2, 50.0, 60.0)), DOWN),
        [
            (0, 20.0, 2, 4, STEP_LIMIT),
            (30, 20.0, 4, 4, STEP_LIMIT),
            (59, 20.0, 4, 4, STEP_LIMIT),
            (60, 20.0, 4, 6, STEP_LIMIT),
            (120, 20.0, 6, 9, STEP_LIMIT),
            (180, 10.5, 9, 10, ROSE),
        ],
    ),
    "a shrink is limited per period, by whichever limit allows more": (
        Damping(UP, Brakes(0.1, 0.0, 0.0, Step(1, 20.0, 60.0))),
        [
            (0, 1.0, 20, 16, STEP_LIMIT),
            (30, 1.0, 16, 16, STEP_LIMIT),
            (60, 1.0, 16, 12, STEP_LIMIT),
            (120, 1.0, 12, 9, STEP_LIMIT),
            (180, 7.5, 9, 8, FELL),
            (240, 1.0, 8, 6, STEP_LIMIT),
            (300, 1.0, 6, 4, STEP_LIMIT),
            (360, 1.0, 4, 3, STEP_LIMIT),
            (420, 1.0, 3, 2, STEP_LIMIT),
            (480, 1.0, 2, 1, FELL),
        ],
    ),
    "after a growth nothing shrinks for the cooldown, after a shrink neither": (
        Damping(UP, replace(DOWN, stabilization_s=0.0)),
        [
            (0, 4.0, 2, 4, ROSE),
            (30, 2.0, 4, 4, COOLDOWN),
            (59, 2.0, 4, 4, COOLDOWN),
            (60, 3.0, 4, 3, FELL),
            (90, 2.0, 3, 3, COOLDOWN),
            (120, 2.0, 3, 2, FELL),
        ],
    ),
    "a growth waits for the cooldown of growth only": (
        Damping(replace(UP, cooldown_s=60.0), replace(DOWN, stabilization_s=0.0, cooldown_s=0.0)),
        [
            (0, 4.0, 2, 4, ROSE),
            (30, 6.0, 4, 4, COOLDOWN),
            (60, 4.0, 4, 4, KEEP),
            (90, 2.0, 4, 2, FELL),
            (120, 3.0, 2, 3, ROSE),
        ],
    ),
    "a rise that does not last the window of growth is ignored": (
        Damping(replace(UP, stabilization_s=60.0), DOWN),
        [
            *steady(0, 90, 2.0, 2),
            (90, 9.0, 2, 2, UP_WINDOW),
            (120, 9.0, 2, 2, UP_WINDOW),
            (150, 2.0, 2, 2, KEEP),
            (180, 9.0, 2, 2, UP_WINDOW),
            (211, 5.0, 2, 5, ROSE),
        ],
    ),
    "a write that failed is tried again and counts as no move": (
        PLAIN,
        [(0, 4.0, 2, 4, ROSE), (30, 4.0, 2, 4, ROSE), (60, 4.0, 2, 4, ROSE)],
    ),
    "a human who scales up by hand is left alone for one window, and then followed down": (
        PLAIN,
        [*steady(0, 330, 2.0, 2), *steady(330, 600, 2.0, 9, COOLDOWN), (600, 2.0, 9, 2, FELL)],
    ),
    "a human who scales down by hand below the demand is corrected at once": (
        PLAIN,
        [*steady(0, 330, 5.8, 6), (330, 5.8, 2, 6, ROSE)],
    ),
    "a growth that a human undid may be made again within the period": (
        Damping(replace(UP, step=Step(4, 100.0, 300.0)), DOWN),
        [
            (0, 6.0, 2, 6, ROSE),
            (30, 6.0, 6, 6, KEEP),
            (60, 6.0, 2, 6, ROSE),
            (90, 9.0, 6, 6, STEP_LIMIT),
        ],
    ),
    "a human who scales in the dark is noticed when sight is back": (
        PLAIN,
        [
            *steady(0, 330, 2.0, 2),
            (330, None, 2, 2, None),
            (345, None, 9, 9, None),
            *steady(360, 630, 2.0, 9, COOLDOWN),
            (630, 2.0, 9, 2, FELL),
        ],
    ),
    "a clock that steps back an hour stops neither growth nor, after a window, a shrink": (
        Damping(replace(UP, cooldown_s=60.0, step=Step(4, 100.0, 60.0)), DOWN),
        [
            (4000, 4.0, 2, 4, ROSE),
            (4030, 6.0, 4, 4, COOLDOWN),
            (400, 6.0, 4, 6, ROSE),
            (430, 2.0, 6, 6, DOWN_WINDOW),
            *steady(460, 700, 2.0, 6, DOWN_WINDOW),
            (705, 2.0, 6, 2, FELL),
        ],
    ),
    "in Recommend mode nothing follows and nothing adds up": (
        Damping(replace(UP, step=Step(4, 100.0, 60.0)), DOWN),
        [(now, 20.0, 2, 6, STEP_LIMIT) for now in range(0, 300, 30)],
    ),
    "an empty pool may be asked to grow": (PLAIN, [(0, 0.4, 0, 1, ROSE)]),
    "an empty pool without demand stays empty": (PLAIN, [(0, 0.0, 0, 0, KEEP)]),
}


@pytest.mark.parametrize(("limits", "rows"), TIMELINES.values(), ids=TIMELINES.keys())
def test_timeline(limits: Damping, rows: list[Row]) -> None:
    for expected, came in follow(limits, rows):
        assert came == expected


@pytest.mark.parametrize(
    ("demand", "desired", "whole"),
    [
        (2.1, 2, 2), (2.2, 2, 2), (2.21, 2, 3), (3.0, 2, 3), (3.0000000001, 2, 3), (3.001, 2, 3), (3.16, 2, 4),
        (0.9, 1, 1), (1.0, 1, 1), (1.1, 1, 1), (1.11, 1, 2),
        (1.8, 2, 2), (1.79, 2, 2), (1.01, 2, 1), (1.06, 2, 2), (1.0, 2, 1), (1.0000000001, 2, 1), (0.0, 2, 0),
        (2.11, 3, 3), (2.1, 3, 2), (2.0, 3, 2), (8.99, 10, 9), (9.0, 10, 10), (11.0, 10, 10), (11.01, 10, 11), (11.56, 10, 12),
    ],
)  # fmt: skip
def test_a_demand_inside_ten_per_cent_keeps_what_is_asked_for(demand: float, desired: int, whole: int) -> None:
    """Edges included; what is over by less than half of the ten is no replica, up or down."""
    assert recommend(seen(demand), desired, PLAIN) == whole


demands = st.floats(0.0, 200.0)
sizes = st.integers(0, 100)
tolerances = st.floats(0.0, 0.9)


@given(demands, sizes, tolerances, tolerances)
def test_a_wider_tolerance_never_turns_a_hold_into_a_move(demand: float, desired: int, one: float, other: float) -> None:
    narrow, wide = (Damping(replace(UP, tolerance=t), replace(DOWN, tolerance=t)) for t in sorted((one, other)))
    if recommend(seen(demand), desired, narrow) == desired:
        assert recommend(seen(demand), desired, wide) == desired


@given(demands, demands, sizes)
def test_more_demand_never_recommends_fewer(one: float, other: float, desired: int) -> None:
    low, high = sorted((one, other))
    assert recommend(seen(low), desired, PLAIN) <= recommend(seen(high), desired, PLAIN)


@given(demands, sizes)
def test_what_was_recommended_once_is_recommended_again(demand: float, desired: int) -> None:
    """No flapping on constant demand: one move, then rest."""
    first = recommend(seen(demand), desired, NO_WINDOW)
    assert recommend(seen(demand), first, NO_WINDOW) == first


def test_a_shrink_goes_no_lower_than_what_is_needed_until_a_replica_could_be_back() -> None:
    assert recommend(replace(seen(3.0), lasting=5.4), 8, PLAIN) == 6
    assert recommend(replace(seen(3.0), lasting=8.0), 8, PLAIN) == 8
    assert recommend(replace(seen(9.0), lasting=20.0), 8, PLAIN) == 9


def test_nothing_shrinks_while_a_backlog_is_worked_off() -> None:
    quiet = Damping(UP, replace(DOWN, stabilization_s=0.0, cooldown_s=0.0))
    draining, done = replace(seen(3.0), backlog=0.3), replace(seen(3.0), backlog=0.2)
    assert damp(draining, 5, Track(), quiet, 0.0)[0].reason is Reason.BACKLOG
    assert damp(done, 5, Track(), quiet, 0.0)[0].replicas < 5


def test_a_panic_waits_for_no_window_and_no_cooldown_and_never_shrinks() -> None:
    slow = Damping(replace(UP, stabilization_s=600.0, cooldown_s=600.0), DOWN)
    calm, panic = seen(12.0), replace(seen(12.0), panic=True)
    track = Track(recommendations=((0.0, 4),), moves=((50.0, 1),), looked_last_s=60.0, desired_last=4)
    assert damp(calm, 4, track, slow, 75.0)[0].replicas == 4
    assert damp(panic, 4, track, slow, 75.0)[0].replicas > 4
    assert damp(replace(seen(1.0), panic=True), 4, track, slow, 75.0)[0].replicas == 4


@given(st.lists(st.tuples(st.floats(1.0, 90.0), demands, st.booleans()), max_size=60))
def test_no_target_lies_beyond_both_desired_and_recommended(looks: list[tuple[float, float, bool]]) -> None:
    """Every brake only brakes: the target is between where the pool is and where undamped demand wants it."""
    track, now, desired = Track(), 0.0, 5
    for gap_s, demand, partial in looks:
        now += gap_s
        said, track = damp(seen(-demand if partial else demand), desired, track, Damping(), now)
        low, high = sorted((desired, said.recommended))
        assert low <= said.replicas <= high
        desired = said.replicas


def test_hours_of_ticks_leave_a_small_track() -> None:
    """300 s of recommendations at 5 s, and of the moves."""
    track, demand = Track(), itertools.cycle((2.0, 9.0, 4.0))
    desired = 2
    for now in range(0, 14_400, 5):
        said, track = damp(seen(next(demand)), desired, track, Damping(), float(now))
        desired = said.replicas if now % 10 else desired + 1 - 2 * (now % 20 > 0)
    assert len(track.recommendations) <= 61
    assert len(track.moves) <= 31


def test_the_target_tells_what_was_recommended_before_damping() -> None:
    said, _ = damp(seen(2.0), 6, Track(), PLAIN, 0.0)
    assert said == Target(6, FIRST_WINDOW, 2)
