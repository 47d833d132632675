"""Does each model say what it should, and nothing absurd whatever it is fitted to?"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.arima import ArimaFit
from autoscaler.core.candidates import (
    AR,
    ARIMA,
    DAY,
    DIRECT,
    HALF_LIVES_S,
    MEAN,
    MODELS,
    SES,
    SLOT_S,
    Basis,
    Day,
    candidates,
    smoothed,
)
from autoscaler.core.regression import LAGS, RADIUS, autoregression, direct
from autoscaler.core.series import Bins, Floats

RNG = np.random.default_rng(7)
WAVE = 16.0 + 14.0 * np.sin(2 * np.pi * np.arange(60) / 30)  # two periods of 450 s in bins of 15 s
NOISE = RNG.poisson(100.0, 360).astype(float)
FIT = ArimaFit(0.4, -0.7, 1.0, 15.0, 360, 0.0)


def basis(closed: Floats, most: float = 1e12, fit: ArimaFit | None = None, steps: int = 6) -> Basis:
    levels = tuple(float(closed[-1]) for _ in HALF_LIVES_S)
    bins = Bins(15.0, 15.0 * closed.size, closed)
    auto, far = autoregression(closed, steps + 2), direct(closed, steps)
    return Basis(bins.opened_s, 15.0, levels, bins, Day(), auto, far, fit, most)


@pytest.mark.parametrize("step_s", [1.0, 7.3, 29.0])
def test_smoothing_forgets_by_the_second_and_not_by_the_tick(step_s: float) -> None:
    """After one half-life at a new level half of the step is taken, however many looks that took."""
    for place, half_life_s in enumerate(HALF_LIVES_S[1:], start=1):
        levels, now = (0.0,) * len(HALF_LIVES_S), 0.0
        while now < half_life_s:
            gap_s = min(step_s, half_life_s - now)
            levels, now = smoothed(levels, 100.0, gap_s), now + gap_s
        assert levels[place] == pytest.approx(50.0)


def test_two_periods_teach_both_regressions_a_wave() -> None:
    """90 s ahead of any point of the third period: the last value errs by 10.1 on average."""
    for model in (AR, DIRECT):
        errors = []
        for shift in range(30):
            closed = np.concatenate((WAVE, WAVE))[: 60 + shift]
            ahead = 16.0 + 14.0 * math.sin(2 * math.pi * (59 + shift + 6) / 30)
            errors.append(abs(candidates(basis(closed), 90.0)[model] - ahead))
        assert sum(errors) / len(errors) < 2.0


def test_noise_teaches_a_regression_that_there_is_nothing_to_follow() -> None:
    """On 260 noisy minutes no forecast swings as wide as the noise; the last value swings exactly as wide."""
    said = [candidates(basis(NOISE[:end]), 90.0) for end in range(100, 360, 10)]
    for model in (AR, DIRECT, MEAN):
        assert np.std([each[model] for each in said]) < 0.7 * np.std(NOISE)


def test_a_growing_wave_does_not_explode() -> None:
    """Its roots lie outside the unit circle: 1.3 per bin would be 10,000 times as much after 36 bins."""
    closed = np.array([1e3 + 1.3**place * math.cos(place) for place in range(40)])
    model = autoregression(closed, 40)
    assert model is not None
    told = model.forecast(closed[::-1], 36.0)
    assert told is not None
    assert abs(told) < 20 * np.abs(closed).max()
    assert max(candidates(basis(closed, most=3 * float(closed.max()), steps=36), 540.0)) <= 3 * closed.max()


@pytest.mark.parametrize("load", [0.0, 3.7, 1e9])
def test_a_constant_is_answered_with_itself(load: float) -> None:
    closed = np.full(100, load)
    assert autoregression(closed, 8) is None
    assert direct(closed, 8) is None
    fits = basis(np.append(NOISE[:99], 3.0))
    assert candidates(replace(basis(closed), auto=fits.auto, direct=fits.direct, arima=FIT), 90.0) == (load,) * len(MODELS)


@pytest.mark.parametrize(
    "closed",
    [
        pytest.param(np.append(np.zeros(99), 1e6), id="a spike at the end of zeros"),
        pytest.param(np.append(np.full(50, 1.0), np.full(50, 1e3)), id="a step of a thousand times"),
        pytest.param(RNG.poisson(1e9, 100).astype(float), id="a billion"),
        pytest.param(np.where(np.arange(100) % 5 == 2, math.nan, NOISE[:100]), id="a fifth missing"),
        pytest.param(np.append(NOISE[:80], np.full(20, math.nan)), id="the last fifth missing"),
        pytest.param(np.full(50, math.nan), id="nothing but gaps"),
        pytest.param(np.full(30, 1e-300), id="next to nothing"),
        pytest.param(np.array([1.0, 5.0, 2.0]), id="three points"),
        pytest.param(np.tile([0.0, 0.0, 0.0, 1e300], 20), id="beyond what squares"),
    ],
)
def test_whatever_the_history_every_candidate_says_a_number_within_bounds(closed: Floats) -> None:
    known = closed[~np.isnan(closed)]
    most = 3 * float(known.max()) if known.size else 3.0
    levels = tuple(float(known[-1]) if known.size else 1.0 for _ in HALF_LIVES_S)
    with np.errstate(over="ignore", invalid="ignore"):
        said = candidates(replace(basis(closed, most, FIT), levels=levels), 90.0)
    assert all(0.0 <= each <= most for each in said)


def test_what_cannot_be_told_is_told_by_the_rung_below() -> None:
    few = candidates(replace(basis(NOISE[:5]), levels=(1.0, 2.0, 3.0, 4.0)), 90.0)
    assert few == (1.0, 2.0, 3.0, 4.0, few[SES], few[SES], few[SES], few[SES], few[SES])
    enough = candidates(basis(NOISE), 90.0)
    assert enough[ARIMA] == enough[AR] != enough[SES]
    wild = replace(basis(NOISE, fit=FIT), bins=Bins(15.0, 0.0, np.tile([1e308, -1e308], 180)), auto=None, direct=None)
    with np.errstate(all="ignore"):
        assert candidates(wild, 90.0)[ARIMA] == wild.levels[SES]


def test_the_time_of_day_moves_the_level_by_half_of_what_it_brought_before() -> None:
    day = Day()
    for place in range(97):
        day = day.seen(place * SLOT_S + 1.0, 100.0 if place % 96 < 48 else 180.0)
    now = 86_400.0 + 47.5 * SLOT_S
    told = candidates(replace(basis(NOISE), now=now, day=day), SLOT_S)
    assert told[DAY] == pytest.approx(told[SES] + 40.0)
    assert Day().change(0.0, 90.0) is None


def test_arima_goes_on_by_its_own_recursion() -> None:
    """Written out: e from the first difference on, then d' = phi d + theta e and phi d' and so on."""
    closed = NOISE[:200]
    before = surprise = 0.0
    for change in np.diff(closed):
        before, surprise = change, change - FIT.phi * before - FIT.theta * surprise
    expected, change = closed[-1], FIT.phi * before + FIT.theta * surprise
    for _ in range(6):
        expected, change = expected + change, FIT.phi * change
    assert FIT.forecast(closed[::-1], 6.0) == pytest.approx(expected)
    assert FIT.reach == pytest.approx(2 + math.log(1e-9) / math.log(0.7), abs=1.0)
    assert FIT.forecast(closed[:1], 6.0) is None


def test_an_arima_that_would_explode_is_refused() -> None:
    for phi, theta in ((1.0, 0.0), (0.2, -0.999), (math.nan, 0.0)):
        with pytest.raises(ValueError, match="must lie between -1 and 1"):
            replace(FIT, phi=phi, theta=theta)


def test_regressions_need_rows_enough() -> None:
    assert autoregression(NOISE[:14], 6) is None
    assert direct(NOISE[:30], 6) is None
    few, many = autoregression(NOISE[:20], 6), autoregression(NOISE, 6)
    assert few is not None
    assert many is not None
    assert few.ahead.shape[1] < many.ahead.shape[1] == LAGS + 2
    assert RADIUS < 1


values = st.lists(st.floats(0.0, 1e6), min_size=30, max_size=36)


@given(values, st.floats(0.0, 1e6), st.floats(-0.99, 0.99), st.floats(-0.98, 0.98), st.integers(1, 12))
def test_a_higher_newest_value_lowers_no_models_word(
    load: list[float], more: float, phi: float, theta: float, steps: int
) -> None:
    closed = np.array(load)
    fits = (autoregression(closed, 14), direct(closed, steps), ArimaFit(phi, theta, 1.0, 15.0, 60, 0.0))
    for fit in fits:
        if fit is not None:
            low, high = (fit.forecast(np.append(closed, value)[::-1], steps + 0.5) for value in (closed[-1], closed[-1] + more))
            assert low is not None
            assert high is not None
            assert high >= low - 1e-7 * (1e6 + abs(low))
