"""Do lengths drawn from buckets have the mean they must have, and about the spread they had?"""

from __future__ import annotations

import math
from itertools import accumulate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.observation import Histogram
from autoscaler.simulator.metrics import token_edges
from autoscaler.simulator.spread import Spread
from autoscaler.simulator.workload import Lengths
from tests.examples import examples

EDGES = (*token_edges(131_072), math.inf)
COUNTS = st.lists(st.integers(0, 50), min_size=len(EDGES), max_size=len(EDGES)).filter(any)


def histogram(counts: list[int]) -> Histogram:
    return Histogram(EDGES, tuple(map(float, accumulate(counts))))


def drawn(spread: Spread, number: int) -> list[float]:
    """As many lengths, evenly by rank."""
    return [spread.at((place + 0.5) / number) for place in range(number)]


def test_without_a_histogram_all_are_the_mean() -> None:
    assert drawn(Spread(640.0, None), 3) == [640.0] * 3


@examples(15)
@given(COUNTS, st.floats(1.0, 1e5))
def test_the_mean_is_what_was_told_whatever_the_buckets_say(counts: list[int], mean: float) -> None:
    lengths = drawn(Spread(mean, histogram(counts)), 150)
    assert sum(lengths) / len(lengths) == pytest.approx(mean, rel=0.05)


@examples(15)
@given(COUNTS)
def test_a_higher_rank_is_never_a_shorter_length(counts: list[int]) -> None:
    lengths = drawn(Spread(100.0, histogram(counts)), 50)
    assert lengths == sorted(lengths)
    assert lengths[0] >= 0


def test_lengths_stay_in_their_buckets_where_the_mean_agrees() -> None:
    """All in (100, 200], with the mean that an even spread by logarithm has: 100 / ln 2 = 144.3."""
    lengths = drawn(Spread(100 / math.log(2), Histogram((100.0, 200.0, math.inf), (0.0, 10.0, 10.0))), 100)
    assert 100 <= lengths[0] < lengths[-1] <= 200
    assert lengths[50] == pytest.approx(100 * math.sqrt(2), rel=0.01)


def test_a_bucket_thins_out_towards_an_empty_neighbour() -> None:
    """Half in (10, 20], half in (20, 50], none above: those above 20 crowd at 20."""
    spread = Spread(20.0, Histogram((10.0, 20.0, 50.0, 100.0, math.inf), (0.0, 50.0, 100.0, 100.0, 100.0)))
    upper = drawn(spread, 1_000)[500:]
    middle = math.sqrt(upper[0] * upper[-1])
    assert sum(length < middle for length in upper) > 300


def test_lognormal_lengths_get_about_their_spread_back() -> None:
    rng = Random(1)
    lengths = [Lengths(6_000, 0.7).draw(rng) for _ in range(2_000)]
    counts = [sum(low < length <= high for length in lengths) for low, high in zip((0.0, *EDGES), EDGES, strict=False)]
    again = drawn(Spread(sum(lengths) / len(lengths), histogram(counts)), 2_000)
    assert cv2(again) == pytest.approx(cv2(lengths), rel=0.2)


def cv2(lengths: list[float] | list[int]) -> float:
    mean = sum(lengths) / len(lengths)
    return sum(length * length for length in lengths) / len(lengths) / mean**2 - 1
