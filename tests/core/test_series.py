"""Do readings become even bins without making up load, and is an accident told from a load?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.series import KEPT, Bins, Intake, band, believe, blanked, fill, rebinned, recent

NAN = math.nan


def filled(values: list[float], bin_s: float = 15.0, tick_s: float = 15.0) -> Bins:
    bins = Bins(bin_s, 0.0)
    for number, value in enumerate(values):
        bins = fill(bins, tick_s * number, tick_s * (number + 1), value)
    return bins


def known(intake: Intake, *readings: float, tick_s: float = 15.0) -> tuple[Intake, list[float]]:
    taken = []
    for number, value in enumerate(readings):
        intake, held = believe(intake, tick_s * number, tick_s * (number + 1), value, 60.0)
        taken.append(held)
    return intake, taken


def test_a_bin_is_the_mean_of_what_was_seen_in_it() -> None:
    bins = filled([1.0, 2.0, 6.0, 4.0], bin_s=45.0)
    assert bins.closed.tolist() == [3.0]
    assert (bins.mean, bins.opened_s, bins.seen_s) == (4.0, 45.0, 15.0)


def test_a_gap_is_missing_and_never_zero() -> None:
    bins = fill(filled([5.0, 5.0]), 90.0, 105.0, 7.0)
    assert np.array_equal(bins.closed, [5.0, 5.0, NAN, NAN, NAN, NAN, 7.0], equal_nan=True)
    assert recent(bins, 105.0, 7).tolist() == [7.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]


def test_jittering_ticks_put_each_reading_into_one_bin() -> None:
    bins, before_s = Bins(15.0, 0.0), 0.0
    for number, late_s in enumerate((0.4, -0.3, 0.1, -0.4, 0.2), 1):
        now = 15.0 * number + late_s
        bins, before_s = fill(bins, before_s, now, float(number)), now
    assert bins.closed.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_the_newest_value_slides_over_the_bins() -> None:
    """A third into the open bin, a third of the newest value is its mean and two thirds are the bin before."""
    bins = filled([3.0, 3.0, 3.0, 6.0, 6.0, 6.0, 9.0], bin_s=45.0)
    assert recent(bins, 105.0, 2) == pytest.approx([6.0 + 3.0 / 3, 3.0 + 3.0 / 3])


def test_history_is_bounded_and_a_silence_longer_than_it_leaves_nothing_of_it() -> None:
    bins = filled([float(number) for number in range(KEPT + 50)])
    assert (bins.closed.size, bins.closed[-1]) == (KEPT, KEPT + 49.0)
    later = fill(bins, 1e9, 1e9 + 15.0, 3.0)
    assert later.closed.size == KEPT
    assert np.isnan(later.closed[:-1]).all()
    assert recent(later, 1e9 + 15.0, 3).tolist() == [3.0, 3.0, 3.0]


@pytest.mark.parametrize("bin_s", [7.5, 30.0, 50.0])
def test_bins_of_another_length_tell_the_same_load(bin_s: float) -> None:
    bins = filled([float(number) for number in range(100)])
    other = rebinned(bins, bin_s)
    middles = bins.opened_s + bin_s * (np.arange(-other.closed.size, 0) + 0.5)
    assert other.closed[3:] == pytest.approx(middles[3:] / 15.0 - 0.5, abs=0.51)


def test_missing_bins_stay_missing_in_bins_of_another_length() -> None:
    bins = blanked(filled([5.0] * 40), 150.0, 300.0)
    assert np.isnan(bins.closed).tolist() == [10 <= number < 20 for number in range(40)]
    assert np.isnan(rebinned(bins, 30.0).closed).tolist() == [5 <= number < 10 for number in range(20)]


def test_one_spike_is_held_to_the_band_and_a_second_one_is_believed() -> None:
    """Reference: one spike of 1e6 at the end of zeros was forecast for ever."""
    assert band(np.zeros(30)) == (0.0, 0.0)
    assert known(Intake(0.0, 0.0, 0.0), 1e6, 0.0, 0.0)[1] == [0.0, 0.0, 0.0]
    assert known(Intake(60.0, 140.0, 100.0), 900.0, 900.0, 900.0)[1] == [140.0, 900.0, 900.0]


def test_exact_zeros_amid_load_are_believed_only_after_a_while() -> None:
    intake, taken = known(Intake(60.0, 140.0, 100.0), *[0.0] * 6)
    assert taken == [60.0] * 4 + [0.0] * 2
    assert intake.zero_since_s == 0.0


def test_zeros_that_end_as_abruptly_as_they_began_were_an_outage() -> None:
    assert known(Intake(60.0, 140.0, 100.0), *[0.0] * 20, 95.0)[0].dark == (0.0, 300.0)
    assert known(Intake(60.0, 140.0, 100.0), *[0.0] * 20, 5.0)[0].dark is None


def test_after_zeros_that_were_believed_a_trickle_is_a_trickle() -> None:
    assert known(Intake(60.0, 140.0, 100.0), *[0.0] * 20, 0.5, 0.0)[1][-3:] == [0.0, 0.5, 0.0]


def test_zeros_where_there_is_next_to_no_load_are_load() -> None:
    low, high = band(np.array([0.0, 1.0, 0.0, 2.0, 1.0, 0.0] * 5))
    assert low <= 0.0
    assert known(Intake(low, high, 1.0), 0.0)[1] == [0.0]


def test_the_highest_load_of_the_day_is_forgotten_by_half_in_a_day() -> None:
    assert believe(Intake(highest=80.0, last=1.0), 0.0, 86_400.0, 1.0, 60.0)[0].highest == 40.0


loads = st.floats(0.0, 1e6)


@given(st.tuples(loads, loads, loads).map(sorted), st.booleans(), loads, loads)
def test_a_higher_reading_is_never_taken_for_less(edges: list[float], silent: bool, one: float, other: float) -> None:
    low, last, high = edges
    intake = Intake(low, high, last, zero_since_s=-30.0 if silent else None, full=low)
    taken = [believe(intake, 0.0, 15.0, value, 60.0)[1] for value in sorted((one, other))]
    assert taken == sorted(taken)
