"""What is coming, and which model earned the right to say so?

Short-horizon LLM load is close to a random walk: good models beat the last value by 3 to 18 % (reference/models.md
C2), so the win is in an honest interval, and a model must prove itself on this very series before it is believed.

Candidates are exponential smoothings that differ by half-life; half-life 0 is the last value. Smoothing works in
seconds, not ticks, so that another tick interval does not change the forecast:
    level <- value + (level - value) * 0.5 ** (dt / half_life)
Every candidate makes a *promise* for `horizon_s` ahead, `PROMISES` times per horizon; when it falls due its error is
kept. The candidate with the smallest mean absolute error over the last `errors_kept` speaks, if it beats the incumbent
by `margin`. It is elected on what was known before the newest value, so that a higher value can only raise what is
said now (law 5); its verdict counts from the next look on. The upper bound is the mean plus the empirical quantile of
that candidate's own errors, aimed a little higher than wanted because few samples under-cover: aim .93 to cover .90
(models.md C5).

A gap is a gap: one value is evidence once. Of the promises that fell due since the last look only the latest is scored
against it, the others fell due in the dark. A clock that steps back starts the levels anew, like a long gap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoscaler.core.reason import Reason

HALF_LIVES_S = (0.0, 30.0, 120.0, 300.0)
MODELS = ("last-value", "ses-30s", "ses-120s", "ses-300s")
# Per horizon: every 12 s at 120 s, so that 40 errors tell of 8 minutes or more however short the ticks are. One per tick
# of 5 s covers 79 % of a noisy series where this covers 87 % (tests/core/test_forecast.py), for 40 errors within less
# than two horizons are hardly more than two.
PROMISES = 10


@dataclass(frozen=True, slots=True)
class ForecastLimits:
    """Knobs. `horizon_s`: time a change takes to act. `aim`: quantile of own errors used for the upper bound."""

    horizon_s: float = 120.0
    aim: float = 0.93
    errors_kept: int = 40
    errors_needed: int = 10
    margin: float = 0.03
    gap_s: float = 120.0


@dataclass(frozen=True, slots=True)
class Promise:
    """What each candidate said, when it was for."""

    due_s: float
    means: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Everything remembered of one load series; a value, grown by `advance`."""

    at_s: float = -math.inf
    levels: tuple[float, ...] = ()
    promises: tuple[Promise, ...] = ()
    errors: tuple[tuple[float, ...], ...] = ()  # one row per due promise: actual - promised, per candidate
    speaker: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Load `horizon_s` ahead: mean and upper bound in the series' unit, who says so, its mean absolute error and why."""

    mean: float
    upper: float
    horizon_s: float
    model: str
    error: float | None
    reason: Reason


def advance(series: Series, now: float, value: float, limits: ForecastLimits) -> Series:
    """The series after seeing `value` at `now`: due promises scored, levels smoothed, a new promise made."""
    gap_s = now - series.at_s
    if gap_s == 0:
        return series
    if not 0 < gap_s <= limits.gap_s:
        levels = tuple(value for _ in HALF_LIVES_S)
        return Series(now, levels, (Promise(now + limits.horizon_s, levels),), series.errors, series.speaker)
    levels = tuple(_smooth(level, value, gap_s, half) for level, half in zip(series.levels, HALF_LIVES_S, strict=True))
    due = [promise for promise in series.promises if promise.due_s <= now]
    promises = tuple(promise for promise in series.promises if promise.due_s > now)
    if not promises or now + limits.horizon_s - promises[-1].due_s >= limits.horizon_s / PROMISES:
        promises = (*promises, Promise(now + limits.horizon_s, levels))
    errors = (*series.errors, *(tuple(value - mean for mean in promise.means) for promise in due[-1:]))
    return Series(now, levels, promises, errors[-limits.errors_kept :], _elect(series, limits))


def forecast(series: Series, now: float, limits: ForecastLimits) -> Forecast | None:
    """What the elected candidate expects `horizon_s` ahead of `now`; None before the first value and after a long gap."""
    if not 0 <= now - series.at_s <= limits.gap_s:
        return None
    mean = series.levels[series.speaker]
    if len(series.errors) < limits.errors_needed:
        return Forecast(mean, mean, limits.horizon_s, MODELS[series.speaker], None, Reason.MODEL_UNPROVEN)
    errors = sorted(row[series.speaker] for row in series.errors)
    rank = min(len(errors) - 1, math.ceil(limits.aim * len(errors)) - 1)
    upper = max(mean, mean + errors[rank])
    error = sum(abs(e) for e in errors) / len(errors)
    return Forecast(mean, upper, limits.horizon_s, MODELS[series.speaker], error, Reason.MODEL_EARNED)


def _smooth(level: float, value: float, gap_s: float, half_life_s: float) -> float:
    return value if half_life_s == 0 else value + (level - value) * 0.5 ** (gap_s / half_life_s)


def _elect(series: Series, limits: ForecastLimits) -> int:
    """The candidate with the smallest error, unless the incumbent is within `margin` of it."""
    if len(series.errors) < limits.errors_needed:
        return series.speaker
    costs = [sum(map(abs, column)) for column in zip(*series.errors, strict=True)]
    best = min(range(len(costs)), key=costs.__getitem__)
    return best if costs[best] < costs[series.speaker] * (1 - limits.margin) else series.speaker
