"""Is the profile corrected by what the engines really do: surely, slowly, within bounds, and never by what is odd?

Lives are told in minutes; the controller looks every 15 s. `look` and the named profile are those of test_service_times.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.calibration import (
    Calibration,
    CalibrationLimits,
    Trust,
    Uncalibrated,
    calibrated,
    coefficients,
    learn,
    restored,
    story,
)
from autoscaler.core.capacity import capacity
from autoscaler.core.factors import Triple, product
from autoscaler.core.fleet import ROLE_FACTS, Phase, Pool, Replica, Role
from autoscaler.core.observation import Gap, Observation, Signals, Unknown
from autoscaler.core.profile import ReplicaProfile
from tests.core.test_service_times import DECODE, FRESH, NAMED, PREFILL, SHAPE, look, times, with_role
from tests.examples import examples
from tests.fakes import SLOS, fleet

Known = Mapping[Role, Calibration]
Seen = Callable[[float], Observation]
TICK_S = 15.0
ALL: Triple = (1.0, 1.0, 1.0)


def by(prefill: Triple | float, decode: Triple | float, profile: ReplicaProfile = NAMED) -> ReplicaProfile:
    """The profile with its coefficients multiplied."""
    first, second = (each if isinstance(each, tuple) else (each, each, each) for each in (prefill, decode))
    return replace(profile, prefill_s=product(first, profile.prefill_s), decode_s=product(second, profile.decode_s))


def lived(
    minutes: float, seen: Seen, known: Known | None = None, trust: Trust = Trust.MEASURED, since_s: float = 0.0
) -> dict[Role, Calibration]:
    """What is known after so many minutes of looks from `since_s` on."""
    found = dict(known or {})
    for tick in range(round(minutes * 60 / TICK_S)):
        now = since_s + tick * TICK_S
        found = {role: taught(found.get(role), role, seen(now), trust) for role in Role}
    return found


def taught(before: Calibration | None, role: Role, seen: Observation, trust: Trust = Trust.MEASURED) -> Calibration:
    return learn(before, role, seen, NAMED, CalibrationLimits(trust), shape=SHAPE, freshness=FRESH)


def steady(truth: ReplicaProfile) -> Seen:
    return lambda now: look(now, truth)


def sized(known: Known, trust: Trust = Trust.MEASURED) -> ReplicaProfile:
    found = calibrated(NAMED, known, CalibrationLimits(trust))
    assert isinstance(found, ReplicaProfile), found
    return found


TRUTH = by(1.6, 0.8)
LEARNED = lived(10, steady(TRUTH))


def test_a_profile_that_is_wrong_is_corrected_once_it_is_sure_and_not_before() -> None:
    """Four windows of a minute."""
    before = lived(4, steady(TRUTH))
    assert sized(before) == NAMED
    assert {before[role].trusted for role in Role} == {None}
    after = lived(0.25, steady(TRUTH), before, since_s=240.0)
    assert sized(after).prefill_s == pytest.approx(TRUTH.prefill_s, rel=0.01)
    assert sized(after).decode_s == pytest.approx(TRUTH.decode_s, rel=0.01)
    assert {after[role].since_s for role in Role} == {240.0}


@pytest.mark.parametrize("role", Role)
def test_capacity_follows_within_two_percent(role: Role) -> None:
    facts = ROLE_FACTS[role]
    truth, named, measured = (
        capacity(facts.sizing, profile, SLOS[facts.binding_slo], SHAPE).tokens_per_s for profile in (TRUTH, NAMED, sized(LEARNED))
    )
    assert abs(named / truth - 1) > 0.19
    assert measured == pytest.approx(truth, rel=0.02)


def test_more_than_the_speed_is_left_to_the_profile() -> None:
    assert replace(sized(LEARNED), prefill_s=NAMED.prefill_s, decode_s=NAMED.decode_s) == NAMED


def test_a_change_of_speed_moves_capacity_by_ten_percent_in_five_minutes_until_it_is_there() -> None:
    known, applied, faster = LEARNED, [LEARNED[PREFILL].applied], by(2.4, 0.8)
    for step in range(10):
        known = lived(5, steady(faster), known, since_s=600.0 + 300.0 * step)
        applied.append(known[PREFILL].applied)
    assert all(0 <= math.log(after / before) <= math.log(1.1) + 1e-6 for before, after in pairwise(applied))
    assert applied[-1] == pytest.approx(2.4, rel=0.03)
    assert known[DECODE].applied == LEARNED[DECODE].applied


@examples(5)
@given(st.integers(0, 10**6), st.floats(0.5, 2.0))
def test_constant_load_with_noise_in_it_moves_nothing(seed: int, truth: float) -> None:
    """Ten minutes to learn, then twenty in which each window's mean is off by 3 % (a normal's standard deviation)."""
    rng = random.Random(seed)
    noise = [rng.gauss(1.0, 0.03) for _ in range(30)]

    def noisy(now: float) -> Observation:
        return look(now, by(truth, truth), noise=noise[int(now // 60)])

    before = lived(10, noisy)
    after = lived(20, noisy, before, since_s=600.0)
    for role in Role:
        assert before[role].trusted is not None
        assert after[role].applied == pytest.approx(before[role].applied, rel=0.05)
        assert after[role].applied == pytest.approx(truth, rel=0.08)


def stalled(now: float) -> Observation:
    """Compiling, and pauses of all batches: the same time in work for fewer prompts and tokens, means 2.2 times as long."""
    seen = look(now, TRUTH)
    for role in Role:
        service = seen.signals.roles[role].service
        assert not isinstance(service, Unknown)
        seen = with_role(role, seen, service=times(service.samples / 2.2, service.total))
    return seen


def cold(now: float) -> Observation:
    """A replica began to serve ten seconds ago, and takes three times as long as it will."""
    new = fleet(
        *(Pool(role, 2, (Replica(f"{role}-0", Phase.SERVING, -9e9), Replica("new", Phase.SERVING, now - 10))) for role in Role)
    )
    return look(now, by(4.8, 2.4), new)


def partly(now: float) -> Observation:
    seen = look(now, by(3.0, 3.0))
    return replace(seen, signals=replace(seen.signals, gauges={}))


def blind(now: float) -> Observation:
    return replace(look(now), signals=Signals.unknown(Gap.UNREACHABLE, "refused"))


@examples(6)
@given(st.lists(st.sampled_from((stalled, cold, partly, blind)), min_size=2, max_size=3))
def test_poison_in_every_fifth_minute_changes_nothing(poison: Sequence[Seen]) -> None:
    known, now = LEARNED, 600.0
    for one in poison:
        known = lived(4, steady(TRUTH), lived(1, one, known, since_s=now), since_s=now + 60)
        now += 300
    for role in Role:
        assert known[role].applied == pytest.approx(LEARNED[role].applied, rel=1e-3)


@pytest.mark.parametrize(
    ("poison", "why"),
    [
        pytest.param(stalled, "known; believed if 4 windows in a row say so", id="a stall"),
        pytest.param(partly, "2 of 2 pods report nothing", id="pods without gauges"),
        pytest.param(blind, "refused", id="no Prometheus"),
    ],
)
def test_a_window_that_taught_nothing_says_why(poison: Seen, why: str) -> None:
    known = lived(1, poison, LEARNED, since_s=600.0)
    for role in Role:
        assert why in known[role].refused
        assert why in story(known[role], Trust.MEASURED)
        assert known[role].trusted == LEARNED[role].trusted


def test_an_hour_without_signals_keeps_what_is_known() -> None:
    known = lived(60, blind, LEARNED, since_s=600.0)
    assert sized(known) == sized(LEARNED)


@examples(8)
@given(st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_no_factor_leaves_its_bounds(prefill: float, decode: float) -> None:
    known = lived(6.5, steady(by(prefill, decode)))
    found = sized(known)
    for role in Role:
        for was, now in zip(coefficients(NAMED, role), coefficients(found, role), strict=True):
            assert was / 4 <= now <= was * 4


def test_a_profile_that_is_another_model_s_is_told() -> None:
    known = lived(10, steady(by(9.0, 1.0)))
    assert "off by more than may be corrected (0.25 to 4)" in story(known[PREFILL], Trust.MEASURED)
    assert "off by" not in story(known[DECODE], Trust.MEASURED)


def test_the_profile_is_the_last_word_where_the_policy_says_so() -> None:
    known = lived(10, steady(TRUTH), trust=Trust.PROFILE)
    assert calibrated(NAMED, known, CalibrationLimits(Trust.PROFILE)) is NAMED
    assert known[PREFILL].measured == pytest.approx(1.6, rel=0.01)
    assert "work takes 1.60 times what the profile says" in story(known[PREFILL], Trust.PROFILE)
    assert "sized by the profile" in story(known[PREFILL], Trust.PROFILE)


def wandering(truth: ReplicaProfile) -> Seen:
    """The load goes up and down within half an hour."""

    def seen(now: float) -> Observation:
        swing = 1 + 0.8 * math.sin(now / 300)
        return look(now, truth, uncached=2_000 * swing, running=10 * swing)

    return seen


def test_from_nothing_the_speeds_are_found_though_the_shape_is_another_model_s() -> None:
    truth = by((20.0, 35.0, 8.0), (0.03, 0.05, 0.02))
    known = lived(30, wandering(truth), trust=Trust.NOTHING)
    found = sized(known, Trust.NOTHING)
    assert found.mean_prefill_time_s(2_000.0, 1.0) == pytest.approx(truth.mean_prefill_time_s(2_000.0, 1.0), rel=0.05)
    assert found.step_time_s(20.0, 44_000.0) == pytest.approx(truth.step_time_s(20.0, 44_000.0), rel=0.05)


def test_from_nothing_a_fleet_is_uncalibrated_until_every_role_is_known() -> None:
    few = lived(3, steady(TRUTH), trust=Trust.NOTHING)
    assert calibrated(NAMED, {}, CalibrationLimits(Trust.NOTHING)) == Uncalibrated(PREFILL, "0 of 4 windows seen")
    assert calibrated(NAMED, few, CalibrationLimits(Trust.NOTHING)) == Uncalibrated(PREFILL, "2 of 4 windows seen")
    one = {PREFILL: lived(90, steady(TRUTH), trust=Trust.NOTHING)[PREFILL]}
    assert calibrated(NAMED, one, CalibrationLimits(Trust.NOTHING)) == Uncalibrated(DECODE, "0 of 4 windows seen")
    assert "not sized" in story(few[DECODE], Trust.NOTHING)


def test_from_nothing_one_load_is_enough_after_an_hour_only() -> None:
    """Twice the prompts at one size say nothing of the other terms."""
    near = lived(30, steady(TRUTH), trust=Trust.NOTHING)
    assert "its standard error at other loads is" in story(near[DECODE], Trust.NOTHING)
    assert near[DECODE].trusted is None
    assert lived(32, steady(TRUTH), near, Trust.NOTHING, since_s=1800.0)[DECODE].trusted is not None


def test_another_profile_starts_anew() -> None:
    other = replace(NAMED, prefill_s=(0.03, 1e-4, 1e-9))
    assert calibrated(other, LEARNED, CalibrationLimits()).prefill_s == other.prefill_s  # type: ignore[union-attr]
    anew = learn(LEARNED[PREFILL], PREFILL, look(600.0), other, CalibrationLimits(), shape=SHAPE, freshness=FRESH)
    assert (anew.anchor, anew.trusted, anew.fit.windows) == (other.prefill_s, None, 0)


def test_factors_of_wider_bounds_are_not_gone_by() -> None:
    wide = {PREFILL: restored(NAMED.prefill_s, (30.0, 30.0, 30.0), 0.0)}
    assert calibrated(NAMED, wide, CalibrationLimits()) == NAMED
    assert taught(wide[PREFILL], PREFILL, look(0.0)).trusted is None
    assert taught(wide[PREFILL], PREFILL, look(0.0), Trust.NOTHING).trusted == (30.0, 30.0, 30.0)


def test_what_was_trusted_before_a_restart_is_gone_by_at_once_and_learned_anew() -> None:
    kept = {role: restored(one.anchor, one.factors, one.since_s or 0.0) for role, one in LEARNED.items()}
    assert sized(kept) == sized(LEARNED)
    assert (kept[PREFILL].confidence, kept[PREFILL].since_s) == (0.0, 240.0)
    later = lived(10, steady(TRUTH), kept, since_s=9_000.0)
    assert sized(later) == sized(LEARNED)
    assert later[PREFILL].confidence > 0.8


def test_both_pieces_of_a_bent_profile_are_corrected_and_a_step_never_gets_shorter_at_the_bend() -> None:
    bent = replace(NAMED, decode_beyond=(50.0, (0.002, 3.6e-4, 5e-8)))
    plain = calibrated(bent, {DECODE: restored(bent.decode_s, (1.5, 1.5, 1.5), 0.0)}, CalibrationLimits())
    assert isinstance(plain, ReplicaProfile)
    assert plain.decode_beyond is not None
    assert plain.decode_beyond[1] == pytest.approx((0.003, 5.4e-4, 7.5e-8))
    skewed = calibrated(bent, {DECODE: restored(bent.decode_s, (2.0, 0.5, 0.5), 0.0)}, CalibrationLimits())
    assert isinstance(skewed, ReplicaProfile)
    assert skewed.shorter_beyond is None
    assert skewed.decode_s == pytest.approx(product(ALL, bent.decode_s))


def test_the_story_tells_what_was_measured_how_surely_and_what_is_made_of_it() -> None:
    assert story(Calibration(NAMED.prefill_s), Trust.MEASURED) == (
        "no speed measured yet; sized by the profile; 0 of 4 windows seen; no whole window was seen yet"
    )
    told = story(LEARNED[PREFILL], Trust.MEASURED)
    assert told == "work takes 1.60 times what the profile says (confidence 0.87, 9 windows); sized by 1.60 times it"
