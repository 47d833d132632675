"""Does a model have to earn its say, and does the upper bound cover what it promises?"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.forecast import HALF_LIVES_S, MODELS, PROMISES, Forecast, ForecastLimits, Series, advance, forecast
from autoscaler.core.reason import Reason

LIMITS = ForecastLimits()
LAST, SES_30, SES_120, SES_300 = range(len(MODELS))


def follow(load: Callable[[float], float], ticks: Iterable[float], limits: ForecastLimits = LIMITS) -> Series:
    series = Series()
    for now in ticks:
        series = advance(series, now, load(now), limits)
    return series


def said(series: Series, limits: ForecastLimits = LIMITS) -> Forecast:
    ahead = forecast(series, series.at_s, limits)
    assert ahead is not None
    return ahead


def every(step_s: float, until_s: float = 3600.0) -> list[float]:
    return [step_s * number for number in range(int(until_s / step_s))]


_RNG = random.Random(5)
DRAWN = [_RNG.uniform(50.0, 150.0) for _ in range(4000)]


def jumping(now: float) -> float:
    """Between 50 and 150, drawn anew every 5 s."""
    return DRAWN[int(now / 5)]


def walk(now: float) -> float:
    """A slow ramp: the newest value is the best guess."""
    return 100.0 + now / 10


def test_nothing_is_said_before_the_first_value() -> None:
    assert forecast(Series(), 0.0, LIMITS) is None


def test_nothing_is_said_on_the_strength_of_values_from_before_a_long_gap() -> None:
    series = follow(walk, every(5.0))
    assert forecast(series, series.at_s + LIMITS.gap_s, LIMITS) == said(series)
    assert forecast(series, series.at_s + LIMITS.gap_s + 1.0, LIMITS) is None
    assert forecast(series, series.at_s - 1.0, LIMITS) is None


def test_a_first_value_is_repeated_without_a_claim_to_be_right() -> None:
    assert said(advance(Series(), 0.0, 7.0, LIMITS)) == Forecast(7.0, 7.0, 120.0, "last-value", None, Reason.MODEL_UNPROVEN)


@pytest.mark.parametrize("step_s", [1.0, 5.0, 15.0, 60.0])
@pytest.mark.parametrize("load", [0.0, 3.7, 1e7])
def test_constant_load_has_an_upper_bound_equal_to_its_mean(load: float, step_s: float) -> None:
    ahead = said(follow(lambda _: load, every(step_s)))
    assert (ahead.mean, ahead.upper, ahead.error, ahead.reason) == (load, load, 0.0, Reason.MODEL_EARNED)


def test_the_model_with_the_smallest_error_on_this_series_speaks() -> None:
    """On a jumping series a smoother errs a fifth less than the last value; on a ramp it is the other way round."""
    for load, last_wins in ((jumping, False), (walk, True)):
        series = follow(load, every(5.0))
        costs = [sum(map(abs, column)) for column in zip(*series.errors, strict=True)]
        assert (series.speaker == LAST) is last_wins
        assert said(series).model == MODELS[series.speaker]
        assert costs[series.speaker] <= min(costs) / (1 - LIMITS.margin)
        assert max(costs) > 1.2 * costs[series.speaker]


def test_the_incumbent_stays_while_the_best_is_within_the_margin() -> None:
    """Two candidates 2 % apart: with a margin of 3 % nobody takes over, with 1 % the better one does."""
    costs = [100.0, 98.0, 150.0, 150.0]
    series = Series(0.0, (1.0,) * 4, (), tuple(tuple(costs) for _ in range(20)), LAST)
    for margin, speaker in ((0.03, LAST), (0.01, SES_30)):
        assert advance(series, 5.0, 1.0, ForecastLimits(margin=margin)).speaker == speaker


def test_nobody_is_elected_before_enough_errors_are_known() -> None:
    series, reasons = Series(), dict[Reason, tuple[int, int]]()
    for now in every(5.0, 600.0):
        series = advance(series, now, jumping(now), LIMITS)
        reasons.setdefault(said(series).reason, (len(series.errors), series.speaker))
    assert reasons == {Reason.MODEL_UNPROVEN: (0, LAST), Reason.MODEL_EARNED: (LIMITS.errors_needed, LAST)}


def test_errors_are_those_of_the_promise_that_fell_due() -> None:
    """A ramp of 1 per 10 s is 12 higher when the last value's promise falls due."""
    series = follow(walk, every(12.0, 600.0))
    assert {round(row[LAST], 9) for row in series.errors} == {12.0}
    assert said(series).upper == pytest.approx(said(series).mean + 12.0)


def noisy(seed: int) -> Callable[[float], float]:
    """Two hours of load with a slow wave and a wandering part (AR(1), 0.9 per 10 s, spread 20 on 300)."""
    rng, wander, values = random.Random(seed), 0.0, {}
    for number in range(760):
        wander = 0.9 * wander + rng.gauss(0.0, 20.0 * math.sqrt(1 - 0.81))
        values[number] = 300.0 + 60.0 * math.sin(number / 100) + wander
    return lambda now: values[int(now / 10)]


@pytest.mark.parametrize("step_s", [5.0, 15.0])
def test_the_upper_bound_covers_about_what_it_is_aimed_at(step_s: float) -> None:
    """Aimed at 93 % to cover 90: between 85 and 95 % over ten seeded series, whatever the tick."""
    covered = total = 0
    for seed in range(10):
        load, series = noisy(seed), Series()
        for now in every(step_s, 7200.0):
            series = advance(series, now, load(now), LIMITS)
            ahead = said(series)
            if ahead.reason is Reason.MODEL_EARNED:
                covered += load(now + LIMITS.horizon_s) <= ahead.upper
                total += 1
    assert 0.85 <= covered / total <= 0.95


def test_five_and_fifteen_second_ticks_say_much_the_same() -> None:
    """Means within 5 %, upper bounds within 10 % of the load, on average over a noisy hour."""
    load, quick, slow, apart = noisy(3), Series(), Series(), []
    for now in every(5.0):
        quick = advance(quick, now, load(now), LIMITS)
        if now % 15 == 0:
            slow = advance(slow, now, load(now), LIMITS)
            one, other = said(quick), said(slow)
            apart.append((abs(one.mean - other.mean) / load(now), abs(one.upper - other.upper) / load(now)))
    means, uppers = zip(*apart, strict=True)
    assert sum(means) / len(means) < 0.05
    assert sum(uppers) / len(uppers) < 0.10


@pytest.mark.parametrize("step_s", [1.0, 7.3, 29.0])
def test_smoothing_forgets_by_the_second_and_not_by_the_tick(step_s: float) -> None:
    """After one half-life at a new level half of the step is taken, however many looks that took."""
    for candidate, half_life_s in enumerate(HALF_LIVES_S[1:], start=1):
        ticks = [step_s * number for number in range(1, int(half_life_s / step_s) + 1)] + [half_life_s]
        series = advance(Series(), 0.0, 0.0, LIMITS)
        for now in ticks:
            series = advance(series, now, 100.0, LIMITS)
        assert series.levels[candidate] == pytest.approx(50.0)


def test_irregular_ticks_score_each_value_once() -> None:
    rng, now, series = random.Random(1), 0.0, Series()
    for _ in range(500):
        now += rng.choice((0.2, 1.0, 5.0, 14.0, 40.0))
        before, series = len(series.errors), advance(series, now, 50.0, LIMITS)
        assert len(series.errors) <= min(before + 1, LIMITS.errors_kept)
    assert said(series).upper == 50.0


def test_a_step_is_followed_at_once_and_its_surprise_remembered_in_the_upper_bound() -> None:
    ticks = every(5.0, 1800.0)
    series = follow(lambda now: 100.0 if now < 900 else 200.0, [now for now in ticks if now <= 915])
    assert series.levels[LAST] == 200.0
    later = follow(lambda now: 100.0 if now < 900 else 200.0, [now for now in ticks if now <= 1000])
    assert (said(later).mean, said(later).upper) == (200.0, 300.0)
    done = follow(lambda now: 100.0 if now < 900 else 200.0, ticks)
    assert said(done).upper == said(done).mean == 200.0


def test_a_fall_never_puts_the_upper_bound_below_the_mean() -> None:
    ahead = said(follow(lambda now: 200.0 if now < 900 else 100.0, every(5.0, 1000.0)))
    assert ahead.upper == ahead.mean


def test_promises_that_fall_due_in_a_gap_are_not_scored() -> None:
    """100 s of silence hide ten promises. The value after them judges one, the latest; and none after a long gap."""
    steady = every(5.0, 600.0)
    for silence_s, judged in ((100.0, 1), (LIMITS.gap_s + 1, 0)):
        series = follow(lambda _: 100.0, steady)
        after = advance(series, steady[-1] + silence_s, 500.0, LIMITS)
        surprised = [row for row in after.errors if row[LAST] == 400.0]
        assert len(surprised) == judged


def test_after_a_long_gap_the_levels_start_anew_and_the_errors_stay() -> None:
    series = follow(jumping, every(5.0))
    after = advance(series, 3600.0 + LIMITS.gap_s + 5.0, 7.0, LIMITS)
    assert after.levels == (7.0,) * len(MODELS)
    assert (after.errors, after.speaker) == (series.errors, series.speaker)


def test_the_same_instant_twice_is_seen_once() -> None:
    series = follow(walk, every(5.0, 600.0))
    assert advance(series, series.at_s, 1e9, LIMITS) is series


def test_a_clock_that_steps_back_does_not_freeze_the_forecast() -> None:
    series = follow(walk, every(5.0))
    back = advance(series, 10.0, 7.0, LIMITS)
    assert (back.at_s, said(back).mean) == (10.0, 7.0)
    assert said(advance(back, 15.0, 8.0, LIMITS)).mean == pytest.approx(8.0, abs=1.0)


def test_a_day_of_seconds_stays_small() -> None:
    series = follow(jumping, every(1.0, 7200.0))
    assert len(series.errors) == LIMITS.errors_kept
    assert len(series.promises) <= PROMISES + 1


loads = st.floats(0.0, 1e6)


def test_a_higher_value_never_lowers_what_is_said_next() -> None:
    """Law 5, one look ahead, over 500 seeded histories. Were a model elected on the value it then speaks of, a higher
    value could hand the word to a model that says less: that happens in about one of 60 of these.
    """
    rng, limits = random.Random(0), ForecastLimits(horizon_s=30.0, errors_needed=3, errors_kept=5)
    for _ in range(500):
        series = Series()
        for number in range(rng.randint(1, 16)):
            series = advance(series, 5.0 * number, rng.choice((0.0, 50.0, 100.0)), limits)
        values = sorted((rng.uniform(0, 150), rng.uniform(0, 150)))
        low, high = (said(advance(series, series.at_s + 5.0, value, limits), limits) for value in values)
        assert low.mean <= high.mean
        assert low.upper <= high.upper


@given(st.lists(st.tuples(st.floats(0.0, 300.0), loads), min_size=1, max_size=80))
def test_a_forecast_of_counts_is_finite_and_never_negative(history: list[tuple[float, float]]) -> None:
    series, now = Series(), 0.0
    for gap_s, value in history:
        now += gap_s
        series = advance(series, now, value, LIMITS)
        ahead = said(series)
        assert 0.0 <= ahead.mean <= ahead.upper < math.inf
        assert ahead.error is None or ahead.error >= 0.0
