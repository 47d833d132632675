"""Does made-up traffic move as its shape says?"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.simulator.shapes import (
    Diurnal,
    OnOff,
    Phase,
    Ramp,
    Shape,
    Spike,
    Steady,
    Wave,
    shaped,
    topology_walk,
    walk,
)
from autoscaler.simulator.workload import Between, Kind, Lengths, Request
from tests.examples import examples

KIND = Kind(Lengths(100), Lengths(10))
SHAPES: dict[str, Shape] = {
    "steady": Steady(8.0),
    "wave": Wave(2.0, 30.0, 450.0),
    "diurnal": Diurnal(1.0, 20.0, day_s=900.0),
    "spike": Spike(3.0, 40.0, 200.0, 50.0, every_s=300.0),
    "on and off": OnOff(25.0, 0.0, 60.0, 90.0),
    "ramp": Ramp(2.0, 20.0, 100.0, 500.0),
    "ramp down": Ramp(20.0, 0.0, 100.0, 500.0),
}


def arrivals(shape: Shape, duration_s: float = 900.0, scale: float = 1.0, seed: int = 1) -> list[float]:
    return [request.arrival_s for request in shaped(Random(seed), shape, KIND, duration_s, scale)]


def within(times: Sequence[float], start_s: float, end_s: float) -> int:
    return bisect_left(times, end_s) - bisect_left(times, start_s)


@pytest.mark.parametrize("scale", [0.5, 1.5])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_requests_follow_the_rate_in_every_part_of_the_time(shape: Shape, scale: float) -> None:
    """Each 50 s hold the integral of the rate, within four standard deviations of a Poisson count."""
    times = arrivals(shape, scale=scale)
    for begin_s in range(0, 900, 50):
        expected = scale * sum(shape.rate_rps(begin_s + (step + 0.5) / 10) for step in range(500)) / 10
        assert within(times, begin_s, begin_s + 50) == pytest.approx(expected, abs=4 * expected**0.5 + 1)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_no_rate_is_above_the_highest_or_below_zero(shape: Shape) -> None:
    rates = [shape.rate_rps(step / 4) for step in range(8_000)]
    assert max(rates) == pytest.approx(shape.highest_rps, rel=1e-3)
    assert min(rates) >= 0


def test_a_wave_begins_in_its_trough_and_peaks_after_half_a_period() -> None:
    wave = Wave(2.0, 30.0, 450.0)
    assert [wave.rate_rps(at_s) for at_s in (0, 112.5, 225, 450)] == pytest.approx([2, 16, 30, 2])


def test_a_day_is_quiet_at_night_full_by_day_and_highest_in_the_evening() -> None:
    day = Diurnal(4.0, 20.0)
    assert [day.rate_rps(hour * 3_600) for hour in (4, 12, 20, 28)] == pytest.approx([4, 16, 20, 4])
    assert day.rate_rps(24 * 3_600 - 1e-3) == pytest.approx(day.rate_rps(0.0), abs=1e-4)


def test_a_spike_comes_once_unless_it_is_told_to_come_again() -> None:
    once, often = Spike(1.0, 9.0, 100.0, 10.0), Spike(1.0, 9.0, 100.0, 10.0, every_s=60.0)
    moments = (99.9, 100.0, 109.9, 110.0, 160.0, 225.0)
    assert [once.rate_rps(at_s) for at_s in moments] == [1, 9, 9, 1, 1, 1]
    assert [often.rate_rps(at_s) for at_s in moments] == [1, 9, 9, 1, 9, 9]
    assert often.rate_rps(45.0) == 1.0


def test_nothing_comes_while_it_is_off() -> None:
    times = arrivals(OnOff(25.0, 0.0, 60.0, 90.0))
    assert times
    assert all(at_s % 150 < 60 for at_s in times)


def test_the_same_seed_gives_the_same_requests_and_another_one_others() -> None:
    first, same, other = (arrivals(SHAPES["wave"], 300.0, seed=seed) for seed in (1, 1, 2))
    assert first == same
    assert first != other


def test_a_rate_of_zero_sends_nothing() -> None:
    assert arrivals(Steady(0.0)) == []
    assert arrivals(Steady(5.0), scale=0.0) == []
    assert list(walk(Random(1), [Phase(KIND, 0.0, 10.0)], 100.0)) == []
    assert list(walk(Random(1), [], 100.0)) == []


@examples(25)
@given(st.sampled_from(list(SHAPES.values())), st.floats(0.01, 2), st.floats(1, 300), st.integers(0, 99))
def test_requests_are_sorted_numbered_and_end_on_time(shape: Shape, scale: float, duration_s: float, seed: int) -> None:
    requests = list(shaped(Random(seed), shape, KIND, duration_s, scale))
    assert [request.id for request in requests] == list(range(len(requests)))
    assert all(early.arrival_s <= late.arrival_s for early, late in pairwise(requests))
    assert all(0 <= request.arrival_s < duration_s for request in requests)


def test_a_walk_changes_kind_and_rate_at_its_corners_and_starts_over() -> None:
    phases = [Phase(Kind(Lengths(100), Lengths(1)), 40.0, 50.0), Phase(Kind(Lengths(100), Lengths(9)), 10.0, 50.0)]
    requests = list(walk(Random(3), phases, 250.0))
    assert {request.output_tokens for request in requests if request.arrival_s % 100 < 50} == {1}
    assert {request.output_tokens for request in requests if request.arrival_s % 100 >= 50} == {9}
    counts = [within([request.arrival_s for request in requests], begin_s, begin_s + 50) for begin_s in range(0, 250, 50)]
    assert counts == pytest.approx([2_000, 500, 2_000, 500, 2_000], rel=0.1)
    assert [request.id for request in requests] == list(range(len(requests)))


def test_the_topology_walk_has_the_published_shapes() -> None:
    """Eight phases of 20 minutes; prompts of 12 to 16 thousand tokens; answers from 1..4 at 3.8/s to 350..450 at 0.6/s."""
    phases = topology_walk()
    assert len(phases) == 8
    assert {phase.length_s for phase in phases} == {1_200.0}
    assert {phase.kind.prompt for phase in phases} == {Between(12_000, 16_000)}
    assert {(phase.kind.output, phase.rps) for phase in phases} == {
        (Between(20, 40), 3.0),
        (Between(1, 4), 3.8),
        (Between(60, 100), 2.0),
        (Between(120, 180), 1.2),
        (Between(350, 450), 0.6),
    }
    requests: list[Request] = list(walk(Random(1), phases, 9_600.0))
    assert len(requests) == pytest.approx(1_200 * sum(phase.rps for phase in phases), rel=0.03)
    assert mean(request.prompt_tokens for request in requests) == pytest.approx(14_000, rel=0.01)
