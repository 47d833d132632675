"""Is a request turned away only where that is right, and let in wherever nothing is known?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.arrivals import Arrival, Own
from autoscaler.core.breaker import breakers
from autoscaler.core.expected import expected
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.judge import remembered
from autoscaler.core.outlook import Standing, Strategy, ahead
from autoscaler.core.rejection import LEAST_WAIT_S, MOST_WAIT_S, Why
from tests.core.rejection_world import (
    FREE,
    FULL,
    MEAN,
    NOW,
    PREMIUM,
    PROFILE,
    arrivals,
    batch,
    busier,
    judged,
    line,
    own_of,
    owns,
    rules,
    standing,
    standings,
    strategies,
)

UNKNOWN: Mapping[Why, Callable[[Standing], Standing | None]] = {
    Why.NO_STATE: lambda seen: None,
    Why.UNAUTHENTICATED: lambda seen: replace(seen, trusted=False),
    Why.UNCALIBRATED: lambda seen: replace(seen, profile=None),
    Why.NO_REPLICAS: lambda seen: replace(
        seen, crowds={**seen.crowds, Role.DECODE: replace(seen.crowds[Role.DECODE], serving=0)}
    ),
}


@pytest.mark.parametrize("why", UNKNOWN)
@given(arrival=arrivals, seen=standings, own=owns, strategy=strategies)
def test_what_is_not_known_lets_everybody_in(why: Why, arrival: Arrival, seen: Standing, own: Own, strategy: Strategy) -> None:
    verdict = judged(arrival, UNKNOWN[why](seen), own, rules(strategy=strategy), NOW)
    assert (verdict.admit, verdict.why, verdict.burden) == (True, why, None)


@given(arrival=arrivals, own=owns, off_s=st.floats(2.001, 1e6), ahead=st.booleans())
def test_a_picture_that_is_old_or_from_the_future_lets_everybody_in(
    arrival: Arrival, own: Own, off_s: float, ahead: bool
) -> None:
    verdict = judged(arrival, FULL, own, rules(), FULL.seen_s + (-off_s if ahead else off_s))
    assert (verdict.admit, verdict.why) == (True, Why.STALE)


@given(arrival=arrivals, strategy=strategies, tripped=st.sets(st.sampled_from(Role)))
def test_where_every_phase_has_an_idle_replica_everybody_is_let_in(
    arrival: Arrival, strategy: Strategy, tripped: set[Role]
) -> None:
    seen = standing(line(24_000, running=3, idle=1), batch(3_700, idle=1))
    seen = replace(seen, tripped=frozenset(tripped))
    assert judged(arrival, seen, Own(), rules(FREE, PREMIUM, strategy=strategy), NOW).admit


def test_an_idle_replica_is_good_for_one_and_not_for_a_burst() -> None:
    seen, own, told = standing(decode=batch(3_700, idle=1)), Own(), []
    for _ in range(3):
        verdict = judged(MEAN, seen, own, rules(), NOW)
        own = remembered(own, verdict, "free", NOW)
        told.append(verdict.admit)
    assert told == [True, False, False]


@given(strategy=strategies)
def test_what_a_prompt_alone_cannot_keep_is_no_reason_to_refuse_it(strategy: Strategy) -> None:
    verdict = judged(Arrival(30_000.0, 30_000.0), FULL, Own(), rules(strategy=strategy), NOW)
    assert (verdict.admit, verdict.why) == (True, Why.UNREACHABLE)


def test_asking_for_the_impossible_opens_no_door() -> None:
    """A prompt of 15,000 tokens takes 1.5 s alone: within the 2 s of its class, not within the 1 s that its client asks for."""
    long = Arrival(15_000.0, 15_000.0, 200.0)
    asked = long._replace(asked_s={SloKind.TTFT: 1.0})
    assert [judged(one, FULL, Own(), rules(), NOW).admit for one in (long, asked)] == [False, False]
    assert judged(asked, standing(), Own(), rules(), NOW).admit


@pytest.mark.parametrize(
    ("strategy", "seen", "why"),
    [
        (Strategy.BASELINE, standing(line(400)), Why.TTFT),
        (Strategy.EARLY, standing(line(400)), Why.TTFT),
        (Strategy.PREDICTIVE, standing(line(400)), Why.TTFT),
        (Strategy.BASELINE, standing(decode=batch(3_000)), Why.FITS),
        (Strategy.EARLY, standing(decode=batch(3_000)), Why.TPOT),
        (Strategy.PREDICTIVE, standing(decode=batch(3_000)), Why.TPOT),
        # 1,700 residents take 19.4 ms a step; those in prefill make it more, but early does not see them.
        (Strategy.EARLY, standing(line(60), batch(1_750)), Why.FITS),
        # 1,900 take 20.5 ms, but the 60 who come meanwhile are fewer than those who leave.
        (Strategy.EARLY, standing(line(60), batch(1_900)), Why.TPOT),
        (Strategy.PREDICTIVE, standing(line(60), batch(1_900)), Why.FITS),
    ],
)
def test_each_strategy_looks_at_its_own_crowd(strategy: Strategy, seen: Standing, why: Why) -> None:
    assert judged(MEAN, seen, Own(), rules(strategy=strategy), NOW).why is why


@given(arrival=arrivals, seen=standings, own=owns, strategy=strategies, more=st.floats(0.0, 500.0), role=st.sampled_from(Role))
def test_more_load_never_shortens_what_is_expected(
    arrival: Arrival, seen: Standing, own: Own, strategy: Strategy, more: float, role: Role
) -> None:
    worse = replace(seen, crowds={**seen.crowds, role: busier(seen.crowds[role], more)})
    found = [ahead(one, PROFILE, own, strategy, NOW) for one in (seen, worse)]
    before, after = (expected(arrival, one, one.wait_s(0.9)).times_s for one in found)
    assert after[SloKind.TTFT] >= before[SloKind.TTFT] - 1e-9
    if strategy is not Strategy.PREDICTIVE or role is Role.DECODE:
        assert after.get(SloKind.TPOT, 0.0) >= before.get(SloKind.TPOT, 0.0) - 1e-9


@given(arrival=arrivals, seen=standings, own=owns, strategy=strategies, more=st.floats(0.0, 500.0), role=st.sampled_from(Role))
def test_more_load_never_turns_a_no_into_a_yes(
    arrival: Arrival, seen: Standing, own: Own, strategy: Strategy, more: float, role: Role
) -> None:
    """But for more prompts before a predicted decode, which is emptier when they are done (core/outlook.py)."""
    before = judged(arrival, seen, own, rules(strategy=strategy), NOW)
    worse = replace(seen, crowds={**seen.crowds, role: busier(seen.crowds[role], more)})
    if not before.admit and not (strategy is Strategy.PREDICTIVE and role is Role.PREFILL and before.why is Why.TPOT):
        assert not judged(arrival, worse, own, rules(strategy=strategy), NOW).admit


@given(
    arrival=arrivals,
    seen=standings,
    own=owns,
    strategy=strategies,
    margins=st.tuples(st.floats(-0.9, 1.0), st.floats(-0.9, 1.0)),
    sureness=st.tuples(st.floats(0.5, 0.999), st.floats(0.5, 0.999)),
)
def test_a_wider_margin_never_refuses_more(
    arrival: Arrival,
    seen: Standing,
    own: Own,
    strategy: Strategy,
    margins: tuple[float, float],
    sureness: tuple[float, float],
) -> None:
    own = replace(own, mix=own_of({"premium": 1.0, "free": 1.0}).mix)
    strict, loose = (
        rules(FREE, PREMIUM, strategy=strategy, margin=margin, sureness=sure)
        for margin, sure in zip(sorted(margins), sorted(sureness, reverse=True), strict=True)
    )
    if judged(arrival, seen, own, strict, NOW).admit:
        assert judged(arrival, seen, own, loose, NOW).admit


@given(arrival=arrivals, seen=standings, own=owns, extra=st.floats(1.0, 20_000.0))
def test_a_longer_prompt_is_never_let_in_where_a_shorter_one_is_not(
    arrival: Arrival, seen: Standing, own: Own, extra: float
) -> None:
    prompt, uncached = arrival.prompt_tokens or 1.0, arrival.uncached_tokens or 1.0
    short = arrival._replace(uncached_tokens=uncached, output_tokens=100.0)
    longer = judged(short._replace(prompt_tokens=prompt + extra, uncached_tokens=uncached + extra), seen, own, rules(), NOW)
    if not judged(short, seen, own, rules(), NOW).admit:
        assert not longer.admit or longer.why is Why.UNREACHABLE


@given(seen=standings, own=owns)
def test_a_refused_request_is_told_to_wait_between_one_second_and_thirty(seen: Standing, own: Own) -> None:
    verdict = judged(MEAN, seen, own, rules(), NOW)
    assert (verdict.wait_s is None) == verdict.admit
    assert verdict.admit or LEAST_WAIT_S <= (verdict.wait_s or 0.0) <= MOST_WAIT_S


@pytest.mark.parametrize(("waiting", "wait_s"), [(130, 1.0), (200, 2.14), (400, 7.14), (5_000, 30.0)])
def test_the_longer_the_queue_the_longer_the_wait(waiting: int, wait_s: float) -> None:
    """200 prompts of 0.1 s on 4 replicas are 5 s of work, of which one is done, with 0.14 s of one's own; 2 s are promised."""
    verdict = judged(MEAN, standing(line(waiting)), Own(), rules(sureness=0.5), NOW)
    assert not verdict.admit
    assert verdict.wait_s == pytest.approx(wait_s, rel=0.01)


def test_an_answer_is_cut_where_that_opens_a_tripped_decode() -> None:
    brief = replace(FREE, shorten_to=100)
    seen = replace(standing(), tripped=frozenset({Role.DECODE}))
    long = MEAN._replace(output_tokens=2_000.0)
    assert judged(long, seen, Own(), rules(), NOW).why is Why.BREAKER
    verdict = judged(long, seen, Own(), rules(brief), NOW)
    assert (verdict.admit, verdict.why, verdict.max_tokens) == (True, Why.SHORTENED, 100)
    assert judged(MEAN, seen, Own(), rules(brief), NOW).why is Why.FITS


def test_a_request_is_served_in_a_lower_class_by_that_ones_promise() -> None:
    patient = replace(FREE, name="patient", promises={kind: replace(one, seconds=60.0) for kind, one in FREE.promises.items()})
    first = replace(PREMIUM, degrades_to="patient", reserved={})
    verdict = judged(MEAN, standing(line(400)), Own(), rules(first, patient), NOW)
    assert (verdict.admit, verdict.why, verdict.qos) == (True, Why.DEGRADED, "patient")


def test_a_client_is_judged_by_what_it_asks_for_within_its_class() -> None:
    seen = standing(line(140))  # about 2.7 s
    asks = {
        asked_s: judged(MEAN._replace(asked_s={SloKind.TTFT: asked_s}), seen, Own(), rules(), NOW) for asked_s in (3.9, 9.0, -1.0)
    }
    assert [verdict.admit for verdict in asks.values()] == [True, True, False]
    hopeless = judged(MEAN._replace(asked_s={SloKind.TTFT: 1e9}), standing(line(400)), Own(), rules(), NOW)
    assert not hopeless.admit


def test_a_breaker_trips_late_and_stays_open_until_the_phase_is_back() -> None:
    calm, full, over = (standing(line(waiting)) for waiting in (20, 240, 600))
    none, open_ = frozenset[Role](), frozenset({Role.PREFILL})
    assert [breakers(none, seen, rules(), NOW) for seen in (calm, full, over)] == [none, none, open_]
    assert [breakers(open_, seen, rules(), NOW) for seen in (calm, full, over)] == [none, open_, open_]
    assert breakers(open_, over, rules(), NOW + 60) == none


def test_a_tripped_prefill_takes_no_new_prompt() -> None:
    assert judged(MEAN, replace(standing(), tripped=frozenset({Role.PREFILL})), Own(), rules(), NOW).why is Why.BREAKER


def test_a_burst_between_two_pictures_is_stopped_by_own_admissions() -> None:
    for share in (1.0, 0.25):
        seen, own, let_in = replace(standing(share=share), pace=None), Own(), 0
        for _ in range(400):
            verdict = judged(MEAN, seen, own, rules(sureness=0.5), NOW)
            own = remembered(own, verdict, "free", NOW)
            let_in += verdict.admit
        # 4 replicas work off 40 prompts a second, and 2 s are promised: some 75 fit, a quarter of them by this one.
        assert let_in == pytest.approx(75 * share, rel=0.15)


def test_what_shadow_lets_in_counts_as_let_in() -> None:
    verdict = judged(MEAN, FULL, Own(), rules(), NOW)
    assert not verdict.admit
    assert not remembered(Own(), verdict, "free", NOW).slots
    assert remembered(Own(), verdict, "free", NOW, let_in=True).slots


def test_a_verdict_tells_what_it_expects() -> None:
    verdict = judged(MEAN, standing(line(40)), Own(), rules(sureness=0.5), NOW)
    # 40 + 4 prompts of 0.1 s (and those of twice the length), less a second of 4 replicas, on 4 replicas; then its own.
    assert verdict.ttft_s == pytest.approx(0.025 + 0.1 + 0.006 + 0.010, abs=0.03)
    assert verdict.tpot_s == pytest.approx(0.0103, abs=0.001)
