"""What does a stream of readings say about the load, once its accidents are taken out?

Readings come at irregular times; models want even steps. A `Bins` is a run of equal stretches of time, each with the mean
of what was seen in it: a reading stands for the time since the one before it, so a late tick shifts nothing. What was not
seen is missing (NaN) and never zero. At most `KEPT` closed bins stay.

The stretch in progress is used as far as it has come. With a share f of it over, the newest value of length one bin is
f x (open mean) + (1 - f) x (last closed bin), and likewise further back: a window that slides with now, made of bins that
stand still.

`believe` is the door. A reading outside median +- 8 MAD of the last bins (reference: measured on forecasts that repeated one
spike for ever) is held to that edge until a second one says the same: one tick later for a true surge, and the queue, which
is read beside the forecast, has none of that patience. An exact zero amid load is more often a collector's outage than
silence (ServeGen: 84 and 37 windows of ten minutes of all-zero in two of four services): it is held to the lower edge for
`patience_s`, then believed. If load comes back as abruptly as it went, all of it was an outage and becomes missing.

Every bound is what was known before the reading, so a higher reading is never believed to be less (law 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

KEPT = 360  # 90 minutes of ticks of 15 s; a day of 4 minutes, which a horizon of half an hour looks through
BAND_BINS = 30
BAND_MADS = 8.0
LEAST_MAD = 0.05  # of the median: a load that hardly moves may jump by 40 % at once
DAY_S = 86_400.0
EDGE_S = 1e-6  # a tick that is this much early has still filled its bin


def same(one: Any, other: Any) -> bool:
    """Whether two frozen values with arrays in them are equal; missing equals missing."""
    if type(one) is not type(other):
        return False
    names = (part.name for part in fields(one))
    return all(_equal(getattr(one, name), getattr(other, name)) for name in names)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    return bool(one == other)


def frozen(values: Floats) -> Floats:
    """The same array, which nobody may write to any more."""
    values.flags.writeable = False
    return values


NOTHING = frozen(np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """Means over stretches of `bin_s`: `closed`, oldest first, NaN where nothing was seen; then the open one, which began
    at `opened_s` and has the mean of the `seen_s` seconds of it that were seen.
    """

    bin_s: float
    opened_s: float
    closed: Floats = field(default_factory=lambda: NOTHING)
    mean: float = 0.0
    seen_s: float = 0.0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return same(self, other)


def fill(bins: Bins, since_s: float, until_s: float, value: float) -> Bins:
    """The bins after `value` was seen to hold from `since_s` to `until_s`; time that was skipped before is missing. A bin
    ends with the reading that comes nearest to its end, so that each reading is in one bin only, however ticks jitter.
    """
    part_s = until_s - since_s
    new: list[float] = []
    opened_s, mean, seen_s = bins.opened_s, bins.mean, bins.seen_s
    if since_s > opened_s + bins.bin_s - part_s / 2:
        missing = min(KEPT, round((since_s - opened_s) / bins.bin_s))
        new = [mean if seen_s > 0 else math.nan] * min(1, missing) + [math.nan] * (missing - 1)
        opened_s, mean, seen_s = since_s, 0.0, 0.0
    seen_s += part_s
    mean = mean + (value - mean) * part_s / seen_s if seen_s > part_s else value
    if until_s - opened_s >= bins.bin_s - part_s / 2 - EDGE_S:
        ended = max(1, min(KEPT, round((until_s - opened_s) / bins.bin_s)))
        new += [math.nan] * (ended - 1) + [mean]
        opened_s, mean, seen_s = until_s, 0.0, 0.0
    closed = frozen(np.concatenate((bins.closed, new))[-KEPT:]) if new else bins.closed
    return Bins(bins.bin_s, opened_s, closed, mean, seen_s)


def recent(bins: Bins, now: float, count: int) -> Floats:
    """The newest `count` values of one bin's length, newest first, the first one ending at `now`; what is missing repeats
    what was before it. Fewer if there are fewer.
    """
    values = bins.closed[-(count + 1) :][::-1]
    if np.isnan(values).any():
        values = _carried(values)
    share = min(1.0, (now - bins.opened_s) / bins.bin_s) if bins.seen_s else 0.0
    if share <= EDGE_S or not values.size:
        return values[:count]
    whole = np.concatenate(((bins.mean,), values))[: count + 1]
    return whole[1:] + share * (whole[:-1] - whole[1:])


def _carried(newest_first: Floats) -> Floats:
    """Missing values filled with the one before them; the oldest, which have none, with the first that is known."""
    seen = newest_first[::-1]
    known = np.flatnonzero(~np.isnan(seen))
    if not known.size:
        return NOTHING
    last = np.maximum.accumulate(np.where(np.isnan(seen), known[0], np.arange(seen.size)))
    return np.asarray(seen[last][::-1])


def blanked(bins: Bins, since_s: float, until_s: float) -> Bins:
    """The same with nothing seen in the closed bins that lie between, even in part."""
    first = math.floor((since_s - bins.opened_s) / bins.bin_s + EDGE_S) + bins.closed.size
    last = math.ceil((until_s - bins.opened_s) / bins.bin_s - EDGE_S) + bins.closed.size
    closed = bins.closed.copy()
    closed[max(0, first) : max(0, last)] = math.nan
    return replace(bins, closed=frozen(closed))


def rebinned(bins: Bins, bin_s: float) -> Bins:
    """What these bins tell of stretches of another length: the means of the parts that each one covers."""
    known = ~np.isnan(bins.closed)
    edges = bins.opened_s + bins.bin_s * np.arange(-bins.closed.size, 1)
    mass = np.concatenate(((0.0,), np.cumsum(np.where(known, bins.closed, 0.0))))
    seen = np.concatenate(((0.0,), np.cumsum(known)))
    count = min(KEPT, int(bins.closed.size * bins.bin_s / bin_s + EDGE_S))
    cuts = bins.opened_s + bin_s * np.arange(-count, 1)
    parts = np.diff(np.interp(cuts, edges, seen))
    means = np.diff(np.interp(cuts, edges, mass)) / np.where(parts > EDGE_S, parts, math.nan)
    return Bins(bin_s, bins.opened_s, frozen(means), bins.mean, bins.seen_s if bins.seen_s < bin_s else 0.0)


@dataclass(frozen=True, slots=True)
class Intake:
    """What is expected of the next reading: within `low` and `high`, or like `last`. `highest` is the largest load of about
    a day. While exact zeros come, `zero_since_s` tells since when, and a load of `full` would prove them an outage; `dark`
    is a stretch of them for which that has just happened.
    """

    low: float = -math.inf
    high: float = math.inf
    last: float | None = None
    highest: float = 0.0
    zero_since_s: float | None = None
    full: float = math.inf
    dark: tuple[float, float] | None = None


def believe(intake: Intake, since_s: float, now: float, value: float, patience_s: float) -> tuple[Intake, float]:
    """What is known after a reading of `value` at `now`, the one before being of `since_s`; and what to take it for."""
    highest = max(value, intake.highest * 0.5 ** ((now - since_s) / DAY_S))
    last = value if intake.last is None else intake.last
    if value == 0 and (intake.low > 0 or intake.zero_since_s is not None):
        return _doubted(replace(intake, highest=highest, dark=None), since_s, now, patience_s)
    held = min(max(value, min(intake.low, last)), max(intake.high, last))
    dark = (intake.zero_since_s, since_s) if intake.zero_since_s is not None and value >= intake.full else None
    return Intake(intake.low, intake.high, last=value, highest=highest, dark=dark), held


def _doubted(intake: Intake, since_s: float, now: float, patience_s: float) -> tuple[Intake, float]:
    """An exact zero amid load, taken for the least that could be; once it is believed, small loads are believed at once."""
    began_s = since_s if intake.zero_since_s is None else intake.zero_since_s
    full = intake.low if intake.zero_since_s is None else intake.full
    if now - began_s > patience_s:
        return replace(intake, zero_since_s=began_s, full=full, low=0.0, last=0.0), 0.0
    least = intake.low if intake.last is None else min(intake.low, intake.last)
    return replace(intake, zero_since_s=began_s, full=full), least


def band(closed: Floats) -> tuple[float, float]:
    """Lowest and highest value that the last `BAND_BINS` bins make believable; anything before there are ten of them."""
    values = closed[-BAND_BINS:]
    values = values[~np.isnan(values)]
    if values.size < 10:
        return -math.inf, math.inf
    middle = float(np.median(values))
    spread = BAND_MADS * max(float(np.median(np.abs(values - middle))), LEAST_MAD * abs(middle))
    return middle - spread, middle + spread
