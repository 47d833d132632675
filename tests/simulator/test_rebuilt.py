"""Are the rebuilt requests as many, as long and as late as was recorded, and is what was not recorded counted?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Histogram
from autoscaler.refusal import Refusal
from autoscaler.simulator.rebuilt import LEAST_STEPS, LENGTHS, Arrivals, Basis, Rebuilt, Survey, rebuild
from autoscaler.simulator.workload import Request
from tests.examples import examples

LONGEST = 10_000


@dataclass
class Written:
    """A past written by hand: rates, and the same lengths in every step unless told otherwise."""

    offered_rps: Sequence[float | None]
    means: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    spreads: Mapping[str, Sequence[Histogram | None]] = field(default_factory=dict)
    replicas: Mapping[Role, Sequence[int | None]] = field(default_factory=dict)
    latencies: Mapping[str, Sequence[Histogram | None]] = field(default_factory=dict)
    step_s: int = 60

    def __post_init__(self) -> None:
        usual = {"prompt_tokens": 1000.0, "uncached_tokens": 600.0, "output_tokens": 200.0}
        self.means = {**{name: [mean] * len(self.offered_rps) for name, mean in usual.items()}, **self.means}


def requests(rebuilt: Rebuilt, seed: int = 1, arrivals: Arrivals = Arrivals.POISSON) -> list[Request]:
    return [one for piece in rebuilt.pieces for one in piece.requests(seed, arrivals, LONGEST)]


@examples(10)
@given(st.lists(st.floats(0.02, 0.3), min_size=LEAST_STEPS, max_size=6))
def test_as_many_requests_as_the_rates_say(rates: list[float]) -> None:
    sent = requests(rebuild(Written(rates), None))
    assert len(sent) == pytest.approx(60 * sum(rates), abs=1.001)


@pytest.mark.parametrize("arrivals", Arrivals)
def test_requests_come_in_order_and_within_their_step(arrivals: Arrivals) -> None:
    sent = requests(rebuild(Written([1.0, 0.0, 2.0, 0.0, 0.5]), None), arrivals=arrivals)
    times = [one.arrival_s for one in sent]
    assert times == sorted(times)
    assert [sum(60 * at <= time_s < 60 * (at + 1) for time_s in times) for at in range(5)] == [60, 0, 120, 0, 30]
    assert [one.id for one in sent] == list(range(210))


def test_even_arrivals_are_equally_far_apart() -> None:
    times = [one.arrival_s for one in requests(rebuild(Written([1.0] * 5), None), arrivals=Arrivals.EVEN)]
    assert {round(later - earlier, 6) for earlier, later in pairwise(times)} == {1.0}


def test_the_same_seed_gives_the_same_requests_and_another_one_others() -> None:
    rebuilt = rebuild(Written([1.0] * 5), None)
    assert requests(rebuilt) == requests(rebuilt)
    assert requests(rebuilt) != requests(rebuilt, seed=2)


def test_without_histograms_every_request_has_the_mean() -> None:
    rebuilt = rebuild(Written([1.0] * 5), None)
    assert {(one.prompt_tokens, one.cached_tokens, one.output_tokens) for one in requests(rebuilt)} == {(1000, 400, 200)}
    assert {name: dict(rests) for name, rests in rebuilt.basis.items()} == {name: {Basis.MEAN: 5} for name in LENGTHS}


def test_a_histogram_spreads_lengths_around_the_told_mean() -> None:
    spread = Histogram((500.0, 1000.0, 2000.0, math.inf), (50.0, 80.0, 100.0, 100.0))
    past = Written([2.0] * 5, spreads={"prompt_tokens": [spread] * 5})
    survey = Survey()
    sent = list(survey.of(requests(rebuild(past, None))))
    assert (survey.requests, round(survey.shape.prompt_tokens / 1000, 2)) == (600, 1.0)
    assert len({one.prompt_tokens for one in sent}) > 100
    assert rebuild(past, None).basis["prompt_tokens"] == {Basis.HISTOGRAM: 5}


def test_the_longest_prompt_has_the_longest_uncached_part_and_never_more_than_itself() -> None:
    wide = Histogram((10.0, 100.0, 5000.0, math.inf), (30.0, 60.0, 90.0, 90.0))
    past = Written([2.0] * 5, spreads={"prompt_tokens": [wide] * 5, "uncached_tokens": [wide] * 5})
    step = sorted((one.prompt_tokens, one.prompt_tokens - one.cached_tokens) for one in requests(rebuild(past, None))[:120])
    own = [uncached for _, uncached in step]
    assert own == sorted(own)
    assert all(1 <= uncached <= prompt for prompt, uncached in step)


def test_a_request_fits_into_a_replica() -> None:
    past = Written([1.0] * 5, means={"prompt_tokens": [9_900.0] * 5, "output_tokens": [400.0] * 5})
    assert {one.prompt_tokens + one.output_tokens for one in requests(rebuild(past, None))} == {LONGEST}


def test_a_hole_and_the_steps_beside_it_are_not_played_and_counted() -> None:
    rebuilt = rebuild(Written([1.0] * 8 + [None] * 3 + [1.0] * 9), None)
    assert [(piece.first, len(piece.steps)) for piece in rebuilt.pieces] == [(0, 7), (12, 8)]
    assert (rebuilt.steps, rebuilt.silent, rebuilt.beside, rebuilt.scattered, rebuilt.played) == (20, 3, 2, 0, 15)


def test_a_quiet_time_is_no_hole() -> None:
    assert rebuild(Written([1.0, 0.0, 0.0, 0.0, 1.0]), None).played == 5


def test_pieces_too_short_to_be_played_are_counted() -> None:
    rebuilt = rebuild(Written([1.0] * 4 + [None] + [1.0] * 7), None)
    assert [(piece.first, len(piece.steps)) for piece in rebuilt.pieces] == [(6, 6)]
    assert (rebuilt.silent, rebuilt.beside, rebuilt.scattered) == (1, 2, 3)


def test_a_past_full_of_holes_is_refused() -> None:
    with pytest.raises(Refusal, match=r"^of 9 steps 3 tell no load, and no 5 in a row can be played$"):
        rebuild(Written([1.0, 1.0, None] * 3), None)


def test_a_length_nobody_finished_with_is_borrowed_from_the_nearest_step() -> None:
    past = Written([1.0] * 6, means={"output_tokens": [100.0, None, None, None, None, 300.0]})
    rebuilt = rebuild(past, None)
    by_step = [next(one.output_tokens for one in requests(rebuilt) if one.arrival_s >= 60 * at) for at in range(6)]
    assert by_step == [100, 100, 100, 300, 300, 300]
    assert rebuilt.basis["output_tokens"] == {Basis.MEAN: 2, Basis.BORROWED: 4}


def test_a_length_that_no_step_tells_is_the_policys() -> None:
    past = Written([1.0] * 5, means={"uncached_tokens": [None] * 5})
    rebuilt = rebuild(past, Shape(1.0, 750.0, 1.0))
    assert {one.cached_tokens for one in requests(rebuilt)} == {250}
    assert rebuilt.basis["uncached_tokens"] == {Basis.POLICY: 5}


def test_a_length_that_nobody_tells_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match=r"^uncached_tokens: no step of the past tells it; write spec\.requestShape"):
        rebuild(Written([1.0] * 5, means={"uncached_tokens": [None] * 5}), None)


def test_an_idle_past_is_refused() -> None:
    with pytest.raises(Refusal, match=r"^nobody sent a request"):
        rebuild(Written([0.0] * 5), None)
