"""What is coming?

Short-horizon LLM load is close to a random walk: good models beat the last value by 3 to 18 % (measured on ServeGen), so
the win is in an honest interval, and a model must prove itself on this very series before it is believed.

How far ahead: the time a change takes to act (`time_to_act_s`). For each horizon asked for the series keeps one lens
(core/lens.py), with bins of an eighth of it: what carries half an hour ahead is the drift of minutes, and what carries
a minute ahead is that of ticks. A horizon within a quarter of a lens uses that lens: the mean is of the very horizon asked
for, the spread that of the lens times the root of their ratio.

After a gap longer than `gap_s` levels begin anew, what lies between is missing, and promises from before are void; what was
learned stays. So it is when the clock steps back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from autoscaler.core.arima import LEAST_BINS, REFIT_S, ArimaFit, FitTask
from autoscaler.core.candidates import HALF_LIVES_S, MODELS, MOST_OF_THE_DAY, Basis, Day, candidates, smoothed
from autoscaler.core.foreseen import Forecast, ForecastLimits
from autoscaler.core.lens import Lens, bounded, judged, promised, refitted
from autoscaler.core.reason import Reason
from autoscaler.core.series import Bins, Intake, band, believe, blanked, fill, rebinned

__all__ = ["Forecast", "ForecastLimits", "Series", "advance", "forecast", "informed", "overdue", "rebuilt", "time_to_act_s"]

BINS = 8
NEAR = 1.25
LEAST_STEP_S = 0.1
LEAST_HORIZON_S, MOST_HORIZON_S = 15.0, 3600.0


@dataclass(frozen=True, slots=True)
class Series:
    """Everything remembered of one load series; a value, grown by `advance`. `step_s` is the usual time between values,
    `fits` the newest ARIMA fit for each length of bins.
    """

    at_s: float = -math.inf
    step_s: float = 0.0
    levels: tuple[float, ...] = ()
    intake: Intake = Intake()
    day: Day = field(default_factory=Day)
    lenses: tuple[Lens, ...] = ()
    fits: tuple[ArimaFit, ...] = ()


def time_to_act_s(start_up_s: float | None, tick_s: float, age_s: float, unlearned_s: float) -> float:
    """Seconds from a load to the replicas that were made for it: how old the signal is, the wait for the next tick, and the
    start-up as learned (`unlearned_s` until then); within 15 s and an hour.
    """
    whole_s = age_s + tick_s + (unlearned_s if start_up_s is None else start_up_s)
    return min(max(whole_s, LEAST_HORIZON_S), MOST_HORIZON_S)


def advance(series: Series, now: float, value: float, limits: ForecastLimits, horizons_s: Sequence[float] = ()) -> Series:
    """The series after seeing `value` at `now`: due promises scored, levels smoothed, new promises made for `horizons_s`
    (the limits' one where none is given).
    """
    gap_s = now - series.at_s
    if gap_s == 0:
        return series
    if not 0 < gap_s <= limits.gap_s:
        return _anew(series, now, value)
    usual_s = series.step_s + (min(gap_s, 4 * series.step_s) - series.step_s) / 10 if series.step_s else gap_s
    step_s = max(LEAST_STEP_S, usual_s)
    intake, held = believe(series.intake, series.at_s, now, value, limits.gap_s)
    levels, day = smoothed(series.levels, held, gap_s), series.day.seen(now, held)
    lenses = _focused(series, step_s, horizons_s or (limits.horizon_s,))
    grown = Series(now, step_s, levels, intake, day, lenses, series.fits)
    seen = _Seen(max(series.at_s, now - 1.5 * step_s), now, held, value if intake.zero_since_s is None else held)
    looked = tuple(_looked(grown, lens, seen, series.intake, limits) for lens in lenses)
    return Series(now, step_s, levels, _banded(series.lenses, looked, intake), day, looked, series.fits)


def forecast(series: Series, now: float, limits: ForecastLimits, horizon_s: float | None = None) -> Forecast | None:
    """What the elected candidate expects `horizon_s` ahead of `now` (None: the limits' one); None before the first value and
    after a long gap.
    """
    if not 0 <= now - series.at_s <= limits.gap_s:
        return None
    ahead_s = limits.horizon_s if horizon_s is None else horizon_s
    if not series.lenses:
        return Forecast(series.levels[0], series.levels[0], ahead_s, MODELS[0], None, Reason.MODEL_UNPROVEN)
    lens = _nearest(series.lenses, ahead_s)
    mean, upper = lens.standing(series.at_s, ahead_s) or _ahead(series, lens, ahead_s, limits)
    if not lens.proven(limits):
        return Forecast(mean, upper, ahead_s, MODELS[lens.speaker], None, Reason.MODEL_UNPROVEN)
    return Forecast(mean, upper, ahead_s, MODELS[lens.speaker], lens.error, Reason.MODEL_EARNED, lens.coverage)


def rebuilt(
    samples: Iterable[tuple[float, float]], limits: ForecastLimits, horizons_s: Sequence[float] = (), series: Series | None = None
) -> Series:
    """The series that these (time, value) samples make, the oldest first: what a restart remembers, residuals included."""
    series = series or Series()
    for now, value in samples:
        if math.isfinite(value) and now > series.at_s:
            series = advance(series, now, value, limits, horizons_s)
    return series


def informed(series: Series, fit: ArimaFit) -> Series:
    """The series with a new fit in the place of the old one for the same bins."""
    kept = tuple(one for one in series.fits if abs(one.bin_s - fit.bin_s) > 0.01 * fit.bin_s)
    return replace(series, fits=(*kept, fit))


def overdue(series: Series, key: str) -> Iterator[FitTask]:
    """The ARIMA fits that it is time for: of lenses with enough bins whose last fit is `REFIT_S` old, or that have none."""
    for lens in series.lenses:
        fit = _fit(series, lens.bins)
        if lens.bins.closed.size >= LEAST_BINS and (fit is None or series.at_s - fit.fitted_at_s >= REFIT_S):
            start = fit if fit and fit.converged else None
            yield FitTask(key, tuple(lens.bins.closed.tolist()), lens.bins.bin_s, series.at_s, start)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One reading: what it was taken for (`held`), from when to when it stands, and what promises are measured by."""

    since_s: float
    now: float
    held: float
    scored: float


def _looked(series: Series, lens: Lens, seen: _Seen, before: Intake, limits: ForecastLimits) -> Lens:
    """One lens after one reading; everything up to the last step knows only what was seen before it."""
    if before.dark is not None:
        lens = replace(lens, bins=blanked(lens.bins, *before.dark))
    lens = judged(refitted(lens), seen.now, seen.scored, limits)
    return promised(lens, _basis(series, lens, fill(lens.bins, seen.since_s, seen.now, seen.held)), limits)


def _ahead(series: Series, lens: Lens, horizon_s: float, limits: ForecastLimits) -> tuple[float, float]:
    """Mean and upper bound for a horizon that nothing was promised for."""
    mean = candidates(_basis(series, lens, lens.bins), horizon_s)[lens.speaker]
    return mean, bounded(lens, lens.bins, mean, limits, lens.level, horizon_s / lens.horizon_s)


def _basis(series: Series, lens: Lens, bins: Bins) -> Basis:
    fit = _fit(series, bins)
    fit = fit if fit and fit.converged else None
    most = MOST_OF_THE_DAY * series.intake.highest
    return Basis(series.at_s, series.step_s, series.levels, bins, series.day, lens.auto, lens.direct, fit, most)


def _fit(series: Series, bins: Bins) -> ArimaFit | None:
    return next((fit for fit in series.fits if abs(fit.bin_s - bins.bin_s) <= 0.01 * bins.bin_s), None)


def _banded(before: Sequence[Lens], lenses: Sequence[Lens], intake: Intake) -> Intake:
    """The same with a new band of what to believe, if the lens with the shortest bins was fitted anew; a run of zeros, which
    may be an outage, does not move the band.
    """
    lens = min(lenses, key=lambda lens: lens.bins.bin_s)
    if intake.zero_since_s is not None or any(lens.fitted_s == one.fitted_s for one in before):
        return intake
    low, high = band(lens.bins.closed)
    return replace(intake, low=low, high=high)


def _anew(series: Series, now: float, value: float) -> Series:
    """After a long gap, or the clock stepped back: nothing promised, nothing smoothed; what was learned stays."""
    levels = tuple(value for _ in HALF_LIVES_S)
    lenses = tuple(
        replace(lens, bins=_resumed(lens.bins, series.at_s, now), promises=lens.promises[:0], fitted_s=-math.inf)
        for lens in series.lenses
    )
    highest = max(value, series.intake.highest)
    return replace(series, at_s=now, levels=levels, intake=Intake(highest=highest), lenses=lenses)


def _resumed(bins: Bins, at_s: float, now: float) -> Bins:
    """The bins with the time in between missing; if the clock stepped back, as though no time had passed."""
    if now < at_s:
        return replace(bins, opened_s=now, mean=0.0, seen_s=0.0)
    return fill(bins, now, now, 0.0)


def _focused(series: Series, step_s: float, horizons_s: Sequence[float]) -> tuple[Lens, ...]:
    """One lens for each horizon; what is there already is kept, its bins made anew if ticks have another length now."""
    found: list[Lens] = []
    for horizon_s in horizons_s:
        near = [lens for lens in (*found, *series.lenses) if 1 / NEAR <= lens.horizon_s / horizon_s <= NEAR]
        lens = near[0] if near else _opened(series, horizon_s, step_s)
        bin_s = step_s * max(1, round(lens.horizon_s / BINS / step_s))
        if not 1 / 1.6 <= lens.bins.bin_s / bin_s <= 1.6:
            lens = replace(lens, bins=rebinned(lens.bins, bin_s), auto=None, direct=None, fitted_s=-math.inf)
        if all(lens is not one for one in found):
            found.append(lens)
    return tuple(found)


def _opened(series: Series, horizon_s: float, step_s: float) -> Lens:
    bin_s = step_s * max(1, round(horizon_s / BINS / step_s))
    if not series.lenses:
        return Lens(horizon_s, Bins(bin_s, series.at_s))
    nearest = _nearest(series.lenses, horizon_s)
    return Lens(horizon_s, rebinned(nearest.bins, bin_s))


def _nearest(lenses: tuple[Lens, ...], horizon_s: float) -> Lens:
    return lenses[0] if len(lenses) == 1 else min(lenses, key=lambda lens: abs(math.log(lens.horizon_s / horizon_s)))
