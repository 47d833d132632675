"""Which model has earned the right to speak, and how far is it off?

A `Lens` is a series as seen for one horizon: bins an eighth as long, the model fitted to them, and the record of promises.
Ten times per horizon every candidate (core/candidates.py) says what it expects; when that falls due its error is kept.

The candidate with the smallest mean absolute error speaks, newer errors counting more, if it beats the incumbent by
`margin`. ARIMA must beat the best of the others by as much, and goes when it no longer leads. Elections are held before the
newest value is scored: were a model elected on the value it then speaks of, a higher value could hand the word to one that
says less (law 5).

The upper bound is the mean plus a high quantile (`aim`) of the speaker's own errors, times a widening that is learned in
the manner of adaptive conformal inference (Gibbs and Candes 2021): with every promise that falls due its logarithm moves by
gamma (miss - (1 - cover)), so that in the long run as many values as wanted lie below. Moving the quantile instead covered
86 % of the values 10 and 30 minutes ahead: beyond the largest of 60 errors there is none. The widening stays within
`MOST_WIDENING`, so noise cannot drive the bound up. Until there are enough errors a high quantile of the last bins stands
in: the last rung of the ladder.

A gap is a gap: one value is evidence once. Of the promises that fell due since the last look only the latest is scored
against it, the others fell due in the dark.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from autoscaler.core.candidates import ARIMA, LAST, MODELS, Basis, candidates
from autoscaler.core.foreseen import ForecastLimits
from autoscaler.core.regression import Regression, autoregression, direct
from autoscaler.core.series import Bins, Floats, frozen, same

# Per horizon: every 12 s at 120 s, so that 60 errors tell of 12 minutes or more however short the ticks are. One per tick
# would make as many that tell of hardly more than two horizons.
PROMISES = 10
REFIT_BINS, REFIT_BINS_YOUNG, YOUNG_BINS = 16, 4, 60
ROLLING_BINS, ROLLING_SHARE = 60, 0.95
MEMORY = 300
MOST_WIDENING = 4.0
YOUNG = 20  # promises scored; with fewer the widening is sought in larger steps
NO_PROMISES = frozen(np.empty((0, 2 + len(MODELS))))
NO_COSTS = frozen(np.zeros(len(MODELS)))
NO_ERRORS = frozen(np.empty((0, len(MODELS) + 2)))
LEVEL, HELD = -2, -1  # columns of a row of errors, beside one for each candidate
ALIKE = 2.0  # errors made at half to twice the present level tell of it
CLIMB_BINS, CLIMB_SURE = 8, 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Lens:
    """The series as seen for one horizon. A row of `promises`: when it is for, the upper bound, what each candidate said. A
    row of `errors`: actual - promised per candidate, the level it was promised from, and 1 where the bound held. `costs` are
    mean absolute errors over all that was `scored`. `level` is that of the promise before the newest, so that what is said
    of the newest value rests on nothing that it changed. `fitted_s`: up to when `auto` and `direct` have seen.
    """

    horizon_s: float
    bins: Bins
    widening: float = 1.0
    auto: Regression | None = None
    direct: Regression | None = None
    fitted_s: float = -math.inf
    promises: Floats = field(default_factory=lambda: NO_PROMISES)
    errors: Floats = field(default_factory=lambda: NO_ERRORS)
    costs: Floats = field(default_factory=lambda: NO_COSTS)
    scored: int = 0
    speaker: int = LAST
    level: float = 0.0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def proven(self, limits: ForecastLimits) -> bool:
        """Whether enough errors are known to elect and to bound by."""
        return len(self.errors) >= limits.errors_needed

    def standing(self, now: float, horizon_s: float) -> tuple[float, float] | None:
        """The mean and the upper bound that were promised just now for this very horizon, if they were."""
        if not len(self.promises) or horizon_s != self.horizon_s or self.promises[-1, 0] != now + horizon_s:
            return None
        return float(self.promises[-1, 2 + self.speaker]), float(self.promises[-1, 1])

    @property
    def error(self) -> float:
        """The speaker's mean absolute error, newer ones counting more once there are `MEMORY`."""
        return float(self.costs[self.speaker])

    @property
    def coverage(self) -> float:
        """Share of the latest promises whose upper bound held."""
        return float(self.errors[:, HELD].sum()) / max(1, len(self.errors))

    def alike(self, level: float) -> Floats:
        """The speaker's errors that were made from about this level; of level 0 those made from just there."""
        levels = self.errors[:, LEVEL]
        alike: Floats = self.errors[(levels >= level / ALIKE) & (levels <= level * ALIKE), self.speaker]
        return alike


def refitted(lens: Lens) -> Lens:
    """The same with its autoregression fitted anew if enough bins have closed since; to closed bins only."""
    every = REFIT_BINS if lens.bins.closed.size >= YOUNG_BINS else REFIT_BINS_YOUNG
    if lens.bins.opened_s - lens.fitted_s < (every - 0.5) * lens.bins.bin_s:
        return lens
    steps = math.ceil(1.3 * lens.horizon_s / lens.bins.bin_s) + 2
    auto, far = autoregression(lens.bins.closed, steps), direct(lens.bins.closed, max(1, round(lens.horizon_s / lens.bins.bin_s)))
    return replace(lens, auto=auto, direct=far, fitted_s=lens.bins.opened_s)


def judged(lens: Lens, now: float, value: float, limits: ForecastLimits) -> Lens:
    """The same after `value` at `now`: who speaks is elected on the errors so far, then what fell due is scored."""
    speaker = elected(lens, limits)
    due = int(lens.promises[:, 0].searchsorted(now, "right"))
    if not due:
        return lens if speaker == lens.speaker else replace(lens, speaker=speaker)
    promise = lens.promises[due - 1]
    kept = value <= promise[1]
    row = np.concatenate((value - promise[2:], (promise[2 + LAST], float(kept))))
    errors = frozen(np.concatenate((lens.errors, row[None, :]))[-limits.errors_kept :])
    costs = lens.costs + (np.abs(row[:LEVEL]) - lens.costs) * max(2 / (lens.scored + 2), 1 / MEMORY)
    gamma = max(limits.gamma, 2 / (lens.scored + YOUNG))
    widening = lens.widening * math.exp(gamma * ((not kept) - (1 - limits.cover)))
    widening = min(max(widening, 1 / MOST_WIDENING), MOST_WIDENING)
    return replace(
        lens,
        promises=lens.promises[due:],
        errors=errors,
        costs=frozen(costs),
        scored=lens.scored + 1,
        speaker=speaker,
        widening=widening,
    )


def elected(lens: Lens, limits: ForecastLimits) -> int:
    """The candidate with the smallest error, unless the incumbent is within `margin` of it."""
    if not lens.proven(limits):
        return lens.speaker
    costs: list[float] = lens.costs.tolist()
    best = costs.index(min(costs[:ARIMA]))
    if costs[ARIMA] < costs[best] * (1 - limits.margin) or (lens.speaker == ARIMA and costs[ARIMA] <= costs[best]):
        return ARIMA
    return best if lens.speaker == ARIMA or costs[best] < costs[lens.speaker] * (1 - limits.margin) else lens.speaker


def promised(lens: Lens, basis: Basis, limits: ForecastLimits) -> Lens:
    """The same with the bins of `basis`, and a new promise if it is time for one."""
    due_s = basis.now + lens.horizon_s
    if len(lens.promises) and due_s - lens.promises[-1, 0] < lens.horizon_s / PROMISES - 1e-6:
        return replace(lens, bins=basis.bins)
    level = float(lens.promises[-1, 2 + LAST]) if len(lens.promises) else lens.level
    means = candidates(basis, lens.horizon_s)
    upper = bounded(lens, basis.bins, means[lens.speaker], limits, level)
    row = np.array(((due_s, upper, *means),))
    return replace(lens, bins=basis.bins, promises=frozen(np.concatenate((lens.promises, row))), level=level)


def bounded(lens: Lens, bins: Bins, mean: float, limits: ForecastLimits, level: float, ratio: float = 1.0) -> float:
    """The upper bound of `mean`, said at `level`, for a horizon `ratio` times the lens's: a random walk's errors grow with the
    root.

    By errors made from about this level, where enough are known: a load that has jumped from 8 to 30 and may do so again
    tells, at 8, of a jump, and nothing of one from 30 to 52. Else by all errors while it climbs, for what it did on the way
    up it may go on doing; where it does not climb by no more than what was seen of late. Before anything has fallen due it is
    that, and as far up as it climbs.
    """
    alike = lens.alike(level)
    if len(alike) >= limits.errors_needed:
        return mean + _spread(lens, alike, ratio, limits)
    last = bins.closed[-ROLLING_BINS:]
    last = last[~np.isnan(last)]
    seen = max(mean, _rank(last, ROLLING_SHARE)) if last.size else mean
    if not lens.proven(limits):
        return seen + min(mean, climb(last) / bins.bin_s * lens.horizon_s * ratio)
    upper = mean + _spread(lens, lens.errors[:, lens.speaker], ratio, limits)
    return upper if climb(last) else min(upper, seen)


def _spread(lens: Lens, errors: Floats, ratio: float, limits: ForecastLimits) -> float:
    """How far above the mean the bound is, by these errors."""
    return max(0.0, _rank(errors, limits.aim) * lens.widening * math.sqrt(ratio))


def climb(values: Floats) -> float:
    """How much the newest values surely rise from one to the next: the slope of their line less `CLIMB_SURE` times its
    standard error; 0 where that is not above 0. 1, 2, 4, 5, 7, 8, 10, 11 rise by 1.48 +- 0.04 each: 1.39.
    """
    newest = values[-CLIMB_BINS:]
    if newest.size < CLIMB_BINS:
        return 0.0
    place = np.arange(newest.size) - (newest.size - 1) / 2
    spread = float(place @ place)
    slope = float(place @ newest) / spread
    rest = newest - newest.mean() - slope * place
    return max(0.0, slope - CLIMB_SURE * math.sqrt(float(rest @ rest) / (newest.size - 2) / spread))


def _rank(values: Floats, share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ranked = values.copy()
    ranked.sort()
    return float(ranked[min(values.size, math.ceil(share * values.size)) - 1])
