"""Does a window tell how fast replicas work, and does it keep silent when it cannot?

`look` is a fleet whose engines work exactly as a profile says, seen once: 200 prompts of 2,000 uncached tokens
were prefilled in the window, and 10 requests of 2,200 tokens decode in each of two pods.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.core.capacity import Shape
from autoscaler.core.factors import Window
from autoscaler.core.fleet import Fleet, Phase, Pool, Replica, Role
from autoscaler.core.observation import Freshness, Gap, Gauges, Histogram, Known, Observation, RoleSignals, Signals, Unknown
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.service_times import Looks, looked, window_of
from tests.fakes import fleet

PREFILL, DECODE = Role
FRESH = Freshness()
NAMED = ReplicaProfile("named", (0.02, 1e-4, 1e-9), (0.01, 2e-4, 5e-8), kv_tokens=1_000_000)
SHAPE = Shape(prompt_tokens=2_000.0, uncached_tokens=2_000.0, output_tokens=200.0)
SPAN_S = 45.0  # what four scrapes 15 s apart span
TWO = fleet()


def look(
    now: float,
    truth: ReplicaProfile = NAMED,
    seen: Fleet = TWO,
    *,
    uncached: float = 2_000.0,
    running: float = 10.0,
    noise: float = 1.0,
) -> Observation:
    """One look; `noise` multiplies all times."""
    step_s = noise * truth.step_time_s(1 + running, (1 + running) * SHAPE.resident_tokens)
    spent_s = seen.pools[DECODE].serving * running * SPAN_S
    prefill_s = noise * truth.mean_prefill_time_s(uncached, SHAPE.cv2)
    busy = {PREFILL: 1.0, DECODE: running}
    gauges = {one.name: Gauges(0.0, busy[role], 0.5, 5.0) for role, each in seen.pools.items() for one in each.replicas}
    prompts = RoleSignals(tokens_per_request=Known(uncached, 5.0), service=times(200.0, 200.0 * prefill_s))
    answers = RoleSignals(tokens_per_request=Known(200.0, 5.0), service=times(spent_s / step_s, spent_s))
    return Observation(now, seen, Signals(gauges, {PREFILL: prompts, DECODE: answers}))


def times(samples: float, total_s: float | None) -> Histogram:
    return Histogram((math.inf,), (samples,), total_s)


def told(role: Role, observation: Observation, **changes: Any) -> RoleSignals:
    return replace(observation.signals.roles[role], **changes)


def with_role(role: Role, observation: Observation, **changes: Any) -> Observation:
    roles = {**observation.signals.roles, role: told(role, observation, **changes)}
    return replace(observation, signals=replace(observation.signals, roles=roles))


def gathered(role: Role, looks: Iterable[Observation]) -> Looks:
    found = Looks()
    for one in looks:
        found = looked(found, role, one, FRESH.max_age_s)
    return found


def said(role: Role, observation: Observation, shape: Shape | None = SHAPE, profile: ReplicaProfile = NAMED) -> Window | str:
    before = [replace(observation, now=observation.now - ago_s) for ago_s in (105.0, 45.0, 30.0, 15.0, 0.0)]
    return window_of(role, observation, gathered(role, before), profile, shape, FRESH)[0]


def point(role: Role, observation: Observation, profile: ReplicaProfile = NAMED) -> Window:
    found = said(role, observation, profile=profile)
    assert isinstance(found, Window), found
    return found


@pytest.mark.parametrize("role", Role)
def test_engines_as_fast_as_the_profile_give_its_times(role: Role) -> None:
    assert point(role, look(1000.0)).ratio == pytest.approx(1.0)


def test_a_prompt_is_told_in_the_terms_of_the_formula() -> None:
    found = point(PREFILL, look(1000.0, uncached=3_000.0))
    assert found.terms == pytest.approx((0.02, 0.3, 1e-9 * 2 * 3_000**2))
    assert found.seconds == pytest.approx(NAMED.mean_prefill_time_s(3_000.0, 1.0))


def test_a_step_is_told_in_the_terms_of_the_formula() -> None:
    assert point(DECODE, look(1000.0)).terms == pytest.approx((0.01, 2e-4 * 11, 5e-8 * 11 * 2_200))


def test_a_step_beyond_the_bend_is_held_against_the_piece_that_is_used_there() -> None:
    bent = replace(NAMED, decode_beyond=(8.0, (0.002, 1.2e-3, 5e-8)))
    assert point(DECODE, look(1000.0, bent), bent).ratio == pytest.approx(1.0)
    assert point(DECODE, look(1000.0, bent), bent).terms[0] == 0.002


def test_prompts_that_share_a_replica_stretch_each_other_and_no_longer_than_they_do() -> None:
    seen = look(1000.0)
    assert not isinstance(seen.signals.gauges, Unknown)
    crowded = {name: replace(gauge, running=3.0) for name, gauge in seen.signals.gauges.items()}
    total = (told(PREFILL, seen).service.total or 0.0) * 3  # type: ignore[union-attr]
    shared = with_role(PREFILL, replace(seen, signals=replace(seen.signals, gauges=crowded)), service=times(200.0, total))
    assert point(PREFILL, shared).ratio == pytest.approx(1.0)


def test_the_batch_is_known_from_the_sum_of_times_and_coarse_gauges_wrong_by_a_third_teach_it_slowly() -> None:
    """Fifty windows of 10 requests, then one whose gauges happen to find 14: the batch stays at 11."""
    found, now = gathered(DECODE, [look(0.0), look(60.0)]), 60.0
    for number in range(50):
        now = 120.0 + 60 * number
        found = window_of(DECODE, look(now), looked(found, DECODE, look(now), FRESH.max_age_s), NAMED, SHAPE, FRESH)[1]
        found = found.emptied(now)
    seen = look(now + 60)
    assert not isinstance(seen.signals.gauges, Unknown)
    gauges = {name: replace(gauge, running=14.0) for name, gauge in seen.signals.gauges.items()}
    odd = replace(seen, signals=replace(seen.signals, gauges=gauges))
    window = window_of(DECODE, odd, looked(found, DECODE, odd, FRESH.max_age_s), NAMED, SHAPE, FRESH)[0]
    assert isinstance(window, Window)
    assert window.terms[1] == pytest.approx(2e-4 * 11, rel=0.02)


def edged(slow: float, slow_s: float) -> Histogram:
    """Sixty samples of 0.1 s and some slow ones, over vLLM's edges."""
    edges = (0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, math.inf)
    counts = tuple(60.0 + (slow if edge >= slow_s else 0.0) for edge in edges)
    return Histogram(edges, counts, 60 * 0.1 + slow * slow_s)


def changed(role: Role, **changes: Any) -> Observation:
    return with_role(role, look(1000.0), **changes)


def silent(role: Role) -> Observation:
    seen = look(1000.0)
    gone = seen.fleet.pools[role].replicas[0].name
    assert not isinstance(seen.signals.gauges, Unknown)
    gauges = {name: gauge for name, gauge in seen.signals.gauges.items() if name != gone}
    return replace(seen, signals=replace(seen.signals, gauges=gauges))


@pytest.mark.parametrize(
    ("role", "observation", "why"),
    [
        pytest.param(PREFILL, changed(PREFILL, service=times(29.0, 9.0)), "29 samples in the window, 30 are", id="few samples"),
        pytest.param(PREFILL, changed(PREFILL, service=times(math.nan, 9.0)), "nan samples", id="NaN samples"),
        pytest.param(PREFILL, changed(PREFILL, service=times(90.0, None)), "None s for 90 samples", id="no sum"),
        pytest.param(DECODE, changed(DECODE, service=times(90.0, math.nan)), "nan s for 90 samples", id="a sum that is NaN"),
        pytest.param(DECODE, changed(DECODE, service=times(90.0, math.inf)), "inf s for 90 samples", id="an infinite sum"),
        pytest.param(DECODE, changed(DECODE, service=times(90.0, -1.0)), "-1.0 s for 90 samples", id="a negative sum"),
        pytest.param(PREFILL, changed(PREFILL, service=edged(1, 30.0)), "took at least 56% of the time, as in", id="a stall"),
        pytest.param(
            DECODE, changed(DECODE, service=edged(1, 5.0)), "took at least 23% of the time", id="a shorter one in decode"
        ),
        pytest.param(PREFILL, changed(PREFILL, service=Unknown(Gap.MISSING)), "missing", id="no histogram"),
        pytest.param(PREFILL, changed(PREFILL, tokens_per_request=Unknown(Gap.TIMEOUT, "late")), "late", id="no prompt sizes"),
        pytest.param(PREFILL, changed(PREFILL, tokens_per_request=Known(9.0, 46.0)), "46 s old", id="stale prompt sizes"),
        pytest.param(PREFILL, changed(PREFILL, tokens_per_request=Known(math.nan)), "value nan", id="prompt sizes that are NaN"),
        pytest.param(DECODE, silent(DECODE), "1 of 2 pods report nothing", id="a silent pod"),
        pytest.param(DECODE, look(1000.0, running=0.0), "0 samples", id="an idle pool"),
        pytest.param(
            DECODE, replace(look(1000.0), signals=Signals.unknown(Gap.UNREACHABLE, "refused")), "refused", id="no Prometheus"
        ),
    ],
)
def test_a_window_that_cannot_be_believed_says_why_and_nothing_else(role: Role, observation: Observation, why: str) -> None:
    found = said(role, observation)
    assert isinstance(found, str)
    assert why in found


def test_a_long_tail_of_prompts_is_no_stall() -> None:
    """A twentieth of the prompts takes thirty times as long as the rest, as on Mooncake: 61 % of the time, 48 % for sure."""
    assert isinstance(said(PREFILL, changed(PREFILL, service=edged(3, 3.2))), Window)


def test_a_profile_that_takes_no_time_is_told() -> None:
    nothing = replace(NAMED, prefill_s=(0.0, 0.0, 0.0))
    assert said(PREFILL, look(1000.0), profile=nothing) == "the profile gives 0 s for this point"


def test_without_a_request_s_size_nothing_is_said() -> None:
    assert said(DECODE, look(1000.0), shape=None) == "no request's size is known"


def members(*lives: tuple[str, Phase, float]) -> Fleet:
    return fleet(Pool(DECODE, len(lives), tuple(Replica(*life) for life in lives)))


OLD = ("decode-0", Phase.SERVING, -9_000.0)


@pytest.mark.parametrize(
    ("then", "begun_s"),
    [
        pytest.param(members(OLD, ("decode-1", Phase.SERVING, -900.0)), 0.0, id="all as before"),
        pytest.param(members(OLD, ("decode-1", Phase.STARTING, 100.0)), 345.0, id="one left"),
        pytest.param(members(OLD, ("decode-1", Phase.DRAINING, 290.0)), 345.0, id="one drains"),
        pytest.param(
            members(OLD, ("decode-1", Phase.SERVING, -900.0), ("decode-2", Phase.SERVING, 290.0)), 345.0, id="a new one"
        ),
        pytest.param(members(OLD, ("decode-1", Phase.SERVING, 290.0)), 335.0, id="one anew under its old name"),
    ],
)
def test_a_window_begins_when_what_is_seen_is_of_these_replicas_alone(then: Fleet, begun_s: float) -> None:
    """The first look is at 0, the one told at 300 s; signals may be 45 s old."""
    before = members(OLD, ("decode-1", Phase.SERVING, -900.0))
    found = gathered(DECODE, [look(0.0, seen=before), look(285.0, seen=before), look(300.0, seen=then)])
    assert found.begun_s == begun_s


def test_a_clock_that_steps_back_begins_a_window_anew() -> None:
    found = gathered(DECODE, [look(9_000.0), look(9_060.0), look(100.0)])
    assert found.begun_s == 100.0


def test_gauges_that_are_old_or_odd_are_not_counted() -> None:
    seen = look(1000.0)
    gauges = {"decode-0": Gauges(0, 10, 0.5, 46.0), "decode-1": Gauges(0, math.nan, 0.5, 5.0), "prefill-0": Gauges(0, 1, 0, 5.0)}
    odd = replace(seen, signals=replace(seen.signals, gauges=gauges))
    assert (gathered(DECODE, [odd]).pods, gathered(PREFILL, [odd]).pods) == (0, 1)
    assert said(DECODE, odd) != said(DECODE, seen)
