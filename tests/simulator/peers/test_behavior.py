"""Do HPA's brakes hold as kube-controller-manager's do? Worked by hand from reference/peers.md 3.1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.peers.behavior import Behavior, Limit, Past, behave
from tests.examples import examples


def path(recommended: list[int], current: int, behavior: Behavior, every_s: float = 15.0) -> list[int]:
    """The counts of a pool that follows each wish at once."""
    past, counts = Past(), []
    for at, one in enumerate(recommended):
        current, past = behave(one, current, past, behavior, at * every_s)
        counts.append(current)
    return counts


def test_growth_doubles_or_adds_four_per_period() -> None:
    assert path([40, 40, 40, 40], 3, Behavior()) == [7, 14, 28, 40]


def test_the_same_period_grows_once() -> None:
    assert path([40, 40, 40, 40], 3, Behavior(), every_s=5.0) == [7, 7, 7, 14]


def test_shrinking_waits_until_the_highest_recommendation_has_left_the_window() -> None:
    counts = path([10] + [2] * 21, 10, Behavior())
    assert counts == [10] * 20 + [2] * 2  # the 10 of t = 0 has left the window at t = 300


def test_a_wish_for_less_that_is_taken_back_never_shrinks() -> None:
    assert path(([2] * 10 + [9]) * 3, 9, Behavior()) == [9] * 33


@pytest.mark.parametrize(("limit", "expected"), [(Limit(0.0, 1, 0.0, 180.0), 5), (Limit(0.0, 0, 50.0, 180.0), 6)])
def test_a_policy_counts_from_the_start_of_its_period(limit: Limit, expected: int) -> None:
    assert path([20] * 12, 4, Behavior(up=limit)) == [expected] * 12


def test_a_percent_down_is_truncated() -> None:
    down = Behavior(down=Limit(0.0, 0, 10.0, 60.0))
    assert path([1], 15, down) == [13]  # 15 * 0.9 = 13.5


@given(st.lists(st.integers(0, 60), min_size=1, max_size=30), st.integers(1, 40))
@examples(25)
def test_a_count_never_leaves_what_was_recommended_or_stood(recommended: list[int], current: int) -> None:
    counts = path(recommended, current, Behavior())
    assert all(min(current, *recommended) <= count <= max(current, *recommended) for count in counts)
