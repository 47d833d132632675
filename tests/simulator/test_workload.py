"""Is synthetic traffic what its description says?"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, pairwise
from random import Random
from statistics import mean, stdev

import pytest

from autoscaler.simulator.workload import (
    CHAT,
    DEMO_DAY,
    DOCUMENTS,
    Crowd,
    Day,
    Kind,
    Lengths,
    Request,
    Rise,
    constant,
    synthetic_day,
)

KIND = Kind(Lengths(600, 1.0), Lengths(350, 0.8), cached_share=0.25)


def window(requests: list[Request], start_s: float, end_s: float) -> list[Request]:
    return [request for request in requests if start_s <= request.arrival_s < end_s]


def test_constant_load_has_its_rate_and_exponential_gaps() -> None:
    arrivals = [request.arrival_s for request in constant(Random(1), KIND, 20.0, duration_s=1_000.0)]
    gaps = [late - early for early, late in pairwise(arrivals)]
    assert len(arrivals) == pytest.approx(20_000, rel=0.02)
    assert stdev(gaps) == pytest.approx(mean(gaps), rel=0.03)
    assert arrivals[-1] < 1_000.0


def test_lengths_have_their_mean_and_spread_and_stay_within_bounds() -> None:
    lengths = Lengths(600, 0.8, cap=100_000)
    rng = Random(1)
    drawn = [lengths.draw(rng) for _ in range(20_000)]
    assert mean(drawn) == pytest.approx(600, rel=0.02)
    assert stdev(drawn) / mean(drawn) == pytest.approx(0.8, rel=0.05)
    assert {Lengths(600, 3.0, cap=700).draw(Random(seed)) <= 700 for seed in range(100)} == {True}
    assert Lengths(0.001, 0.5).draw(Random(1)) == 1
    assert Lengths(5).draw(Random(1)) == 5


def test_a_prompt_is_never_wholly_cached() -> None:
    kind = Kind(Lengths(2, 1.0), Lengths(5), cached_share=1.0)
    requests = [kind.draw(number, 0.0, Random(number)) for number in range(200)]
    assert all(0 <= request.cached_tokens < request.prompt_tokens for request in requests)


def test_the_same_seed_gives_the_same_day() -> None:
    first, same, other = (list(islice(synthetic_day(Random(seed)), 2_000)) for seed in (4, 4, 5))
    assert first == same
    assert first != other


def test_a_day_is_sorted_numbered_and_ends_on_time() -> None:
    requests = list(synthetic_day(Random(2), DEMO_DAY, duration_s=300.0))
    assert [request.id for request in requests] == list(range(len(requests)))
    assert all(early.arrival_s <= late.arrival_s for early, late in pairwise(requests))
    assert requests[-1].arrival_s < 300.0


@pytest.mark.slow
def test_the_day_follows_its_hours() -> None:
    """One crowd with one rise: the count of each hour is the integral of its rate."""
    crowd = Crowd(KIND, 2.0, (Rise(12.0, 2.0, 30.0),))
    day = Day((crowd,), length_s=7_200.0, bursts=0)
    requests = list(synthetic_day(Random(3), day, duration_s=7_200.0))
    for hour in (0, 6, 10, 12, 18):
        count = len(window(requests, hour * 300.0, (hour + 1) * 300.0))
        expected = mean(crowd.rps(hour + step / 12) for step in range(12)) * 300
        assert count == pytest.approx(expected, abs=4 * expected**0.5)


def test_midnight_has_no_seam() -> None:
    crowd = Crowd(KIND, 0.0, (Rise(23.5, 1.0, 10.0),))
    assert crowd.rps(0.0) == pytest.approx(crowd.rps(23.0))


def test_a_shorter_day_keeps_its_rates() -> None:
    long, short = (Day((CHAT,), length_s=length_s, bursts=0, start_hour=10.0) for length_s in (86_400.0, 7_200.0))
    counts = [len(list(synthetic_day(Random(6), day, duration_s=150.0))) for day in (long, short)]
    assert counts[0] == pytest.approx(counts[1], rel=0.05)


@pytest.mark.slow
def test_a_burst_multiplies_the_rate_for_its_length() -> None:
    flat = Crowd(KIND, 10.0)
    day = Day((flat,), length_s=7_200.0, bursts=1, burst_factor=3.0, burst_h=1.0, burst_hours=(9.0, 9.0))
    requests = list(synthetic_day(Random(8), day, duration_s=7_200.0))
    hours = [len(window(requests, hour * 300.0, (hour + 1) * 300.0)) for hour in (8, 9, 10)]
    assert hours == pytest.approx([3_000, 9_000, 3_000], rel=0.07)


def test_scale_multiplies_every_rate() -> None:
    counts = [len(list(synthetic_day(Random(9), replace(DEMO_DAY, scale=scale), duration_s=500.0))) for scale in (1.0, 2.5)]
    assert counts[1] == pytest.approx(2.5 * counts[0], rel=0.05)


@pytest.mark.slow
def test_the_afternoon_turns_the_ratio_of_prompt_to_output() -> None:
    """What the module's head claims: about 1.5 uncached prompt tokens per output token at 10:30, about 10 at 15:00."""

    def ratio(hour: float) -> float:
        day = Day(length_s=86_400.0, start_hour=hour - 0.25, bursts=0)
        requests = list(synthetic_day(Random(10), day, duration_s=1_800.0))
        return sum(r.prompt_tokens - r.cached_tokens for r in requests) / sum(r.output_tokens for r in requests)

    assert ratio(10.5) == pytest.approx(1.5, rel=0.1)
    assert ratio(15.0) == pytest.approx(10.0, rel=0.1)


def test_the_demo_day_shows_rise_and_change_within_its_first_minute_of_viewing() -> None:
    """At 60 times real time a minute of viewing is an hour of the demo's two-hour day: 6:30 to 18:30."""
    rates = [sum(crowd.rps(6.5 + 12 * minute / 60) for crowd in (CHAT, DOCUMENTS)) for minute in range(61)]
    assert max(rates) > 1.8 * rates[0]
    assert DOCUMENTS.rps(15.0) > 20 * DOCUMENTS.rps(6.5)
    assert DEMO_DAY.length_s / 60 == 120
