"""Does scaling change how many users there are, and nothing else?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.refusal import Refusal
from autoscaler.simulator.replay import COPY_SPREAD_S, Recorded, Slice, replayed


def on_and_off(count: int = 4_000) -> Iterator[Recorded]:
    """Bursts of 100 requests within 10 s, then 50 s of silence."""
    for number in range(count):
        burst, place = divmod(number, 100)
        yield Recorded(burst * 60.0 + place * 0.1, 100 + number, number % 50, 10)


@pytest.mark.parametrize("scale", [0.25, 0.9, 1.0, 1.5, 3.0, 7.3])
def test_scaling_multiplies_the_count_and_keeps_the_silence(scale: float) -> None:
    arrivals = [request.arrival_s for request in replayed(on_and_off(), Slice(scale=scale), Random(1))]
    assert len(arrivals) == pytest.approx(4_000 * scale, rel=0.03)
    assert all(early <= late for early, late in pairwise(arrivals))
    assert all(arrival_s % 60 <= 9.9 + COPY_SPREAD_S + 1e-9 for arrival_s in arrivals)


def test_copies_have_the_lengths_of_their_original_and_their_own_number() -> None:
    copies = list(replayed(iter([Recorded(5.0, 300, 100, 20)]), Slice(scale=3.0), Random(1)))
    assert {(c.prompt_tokens, c.cached_tokens, c.output_tokens) for c in copies} == {(300, 100, 20)}
    assert [c.id for c in copies] == [0, 1, 2]
    assert all(5.0 <= c.arrival_s <= 5.0 + COPY_SPREAD_S for c in copies)


def test_scale_one_changes_nothing() -> None:
    recorded = list(on_and_off(500))
    assert [tuple(r)[1:] for r in recorded] == [
        (r.prompt_tokens, r.cached_tokens, r.output_tokens, r.blocks) for r in replayed(iter(recorded), Slice(), Random(1))
    ]


def test_copies_share_prefixes_among_themselves_and_not_with_the_originals() -> None:
    """Two turns of one conversation, sent three times: three conversations, each with a first turn in the second."""
    turns = [Recorded(0.0, 600, 0, 1, (7,)), Recorded(60.0, 1_200, 600, 1, (7, 8))]
    sent = list(replayed(iter(turns), Slice(scale=3.0), Random(1)))
    first, second = ({r.blocks[0] for r in sent if r.prompt_tokens == prompt} for prompt in (600, 1_200))
    assert len(first) == 3
    assert first == second
    assert len({r.blocks for r in sent}) == 6


@given(
    gaps=st.lists(st.floats(0, 5), max_size=40),
    start_s=st.floats(0, 50),
    duration_s=st.floats(0.1, 100),
    scale=st.floats(0.1, 5),
)
def test_a_part_is_always_sorted_and_starts_at_its_own_zero(
    gaps: list[float], start_s: float, duration_s: float, scale: float
) -> None:
    times = [sum(gaps[: place + 1]) for place in range(len(gaps))]
    recording = (Recorded(time_s, 10, 0, 1) for time_s in times)
    arrivals = [request.arrival_s for request in replayed(recording, Slice(start_s, duration_s, scale), Random(2))]
    assert arrivals == sorted(arrivals)
    assert all(0 <= arrival_s < duration_s + COPY_SPREAD_S for arrival_s in arrivals)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_s": -1.0}, "start_s -1 is not >= 0"),
        ({"duration_s": 0.0}, "duration_s 0 is not > 0"),
        ({"scale": 0.0}, "scale 0 is not > 0"),
        ({"scale": math.nan}, "scale nan is not > 0"),
        ({"scale": math.inf}, "scale inf is not > 0"),
    ],
)
def test_an_absurd_part_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        Slice(**change)
