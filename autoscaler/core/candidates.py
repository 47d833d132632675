"""Which models may say what is coming, and what does each one say?

    last-value   the newest value
    ses-...      exponential smoothing in seconds, so that another tick does not change it:
                 level <- value + (level - value) * 0.5 ** (dt / half_life)
    ar           ARIMA(p,1,0) by least squares (core/regression.py)
    direct       a regression on the whole horizon at once (core/regression.py)
    day          a smoothing, moved by half of what the time of day has brought on other days
    mean         of a smoothing, ar and direct: errors that are not alike cancel
    arima        ARIMA(1,1,1) by maximum likelihood, fitted outside (core/arima.py)

What a candidate cannot tell, the rung below tells in its place: arima -> ar -> ses. So does one that says no number; and
what any model says stays within 0 and 3 times the largest load of the day. The last value is always there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from autoscaler.core.arima import ArimaFit
from autoscaler.core.regression import Regression
from autoscaler.core.series import NOTHING, Bins, Floats, frozen, recent, same

HALF_LIVES_S = (0.0, 30.0, 120.0, 300.0)
MODELS = ("last-value", "ses-30s", "ses-120s", "ses-300s", "ar", "direct", "day", "mean", "arima")
LAST, SES = 0, 1
AR, DIRECT, DAY, MEAN, ARIMA = range(len(HALF_LIVES_S), len(MODELS))

MOST_OF_THE_DAY = 3.0

SLOTS = 96  # of a day, 15 minutes each
SLOT_S = 86_400.0 / SLOTS
PROFILE_GAIN, PROFILE_DAMPING = 0.4, 0.5


def smoothed(levels: tuple[float, ...], value: float, gap_s: float) -> tuple[float, ...]:
    """The levels, one per half-life, after `value` was seen `gap_s` later."""
    return tuple(
        value if half_s == 0 else value + (level - value) * 0.5 ** (gap_s / half_s)
        for level, half_s in zip(levels, HALF_LIVES_S, strict=True)
    )


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """What the load was at each time of day, in slots of `SLOT_S`, newer days counting more; NaN where no day was seen.
    `mean` of `count` values is the slot in progress, number `slot` since the clock's zero.
    """

    slots: Floats = field(default_factory=lambda: NOTHING)
    slot: int = 0
    mean: float = 0.0
    count: int = 0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def seen(self, now: float, value: float) -> Day:
        """The same after `value` at `now`."""
        slot = int(now // SLOT_S)
        if slot == self.slot:
            return Day(self.slots, slot, self.mean + (value - self.mean) / (self.count + 1), self.count + 1)
        if not self.count:
            return Day(self.slots, slot, value, 1)
        slots = self.slots.copy() if self.slots.size else np.full(SLOTS, math.nan)
        before = slots[self.slot % SLOTS]
        slots[self.slot % SLOTS] = self.mean if math.isnan(before) else before + PROFILE_GAIN * (self.mean - before)
        return Day(frozen(slots), slot, value, 1)

    def change(self, now: float, later: float) -> float | None:
        """By how much the load was higher at the time of day of `later` than at that of `now`; None where no day tells."""
        if not self.slots.size:
            return None
        change = self._at(later) - self._at(now)
        return None if math.isnan(change) else change

    def _at(self, when: float) -> float:
        """On the line between the middles of two slots."""
        place = when / SLOT_S - 0.5
        first = math.floor(place)
        one, other = float(self.slots[first % SLOTS]), float(self.slots[(first + 1) % SLOTS])
        return one + (place - first) * (other - one)


@dataclass(frozen=True, slots=True)
class Basis:
    """All that the candidates look at: the time and how long a tick is, the levels, the bins and what was fitted to them.
    `most` is the largest value that any of them may say.
    """

    now: float
    step_s: float
    levels: tuple[float, ...]
    bins: Bins
    day: Day
    auto: Regression | None
    direct: Regression | None
    arima: ArimaFit | None
    most: float

    @property
    def reach(self) -> int:
        """How many of the newest values are looked at."""
        weights = [one.ahead.shape[1] for one in (self.auto, self.direct) if one is not None]
        return max((*weights, min(self.arima.reach + 1, self.bins.closed.size)) if self.arima else weights, default=1)


def candidates(basis: Basis, horizon_s: float) -> tuple[float, ...]:
    """What each of `MODELS` expects `horizon_s` ahead; finite, and never below 0."""
    bins = (horizon_s + (basis.bins.bin_s - basis.step_s) / 2) / basis.bins.bin_s
    newest = recent(basis.bins, basis.now, basis.reach)
    smooth = basis.levels[SES]
    auto = _sane(basis.auto.forecast(newest, bins) if basis.auto else None, smooth, basis.most)
    direct = _sane(basis.direct.forecast(newest, bins) if basis.direct else None, auto, basis.most)
    change = basis.day.change(basis.now, basis.now + horizon_s)
    day = _sane(None if change is None else smooth + PROFILE_DAMPING * change, smooth, basis.most)
    mean = smooth + ((auto - smooth) + (direct - smooth)) / 3
    arima = _sane(basis.arima.forecast(newest, bins) if basis.arima else None, auto, basis.most)
    return (*basis.levels, auto, direct, day, mean, arima)


def _sane(said: float | None, below: float, most: float) -> float:
    """What was said, within 0 and `most`; what the rung below says if that is no number."""
    return min(max(0.0, said), most) if said is not None and math.isfinite(said) else below
