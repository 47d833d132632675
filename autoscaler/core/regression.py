"""What do the last bins say about the next ones?

Two regressions by ridge least squares, each under a millisecond and none of them iterated:

    autoregression   ARIMA(p,1,0): each difference on the p before it, unrolled step by step
    direct           the change over the whole horizon (its stride) on the last differences and on how far the newest bin is
                     from the mean of the last 6 and 24: what rose quickly falls back, what rose slowly goes on

Rows weigh 1 / load, since counts vary with their mean, and changes are cut at 4 mean sizes, so that one burst is not the
model. An autoregression with a root outside `RADIUS` explodes (forecasts of 1e30 were seen where nobody checked); its
coefficients are pulled in, a_j <- a_j (RADIUS / root)^j.

The weight of the newest value is kept at 0 or more: where a model would answer a surprise by the opposite, the surprise is
left out. A higher load never lowers a forecast (law 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autoscaler.core.series import Floats, frozen, same

LAGS = 10
DIRECT_LAGS, SPANS = 6, (6, 24)
LEAST_ROWS = 12  # of a regression, before anything is fitted
# Of the mean square of a column: always, and for a load of which nothing is explained. Paid whole, the last one lets the
# direct regression err 0.17 of the last value's error on a wave of 450 s, 90 s ahead; paid by what is unexplained, 0.07.
RIDGE, RIDGE_AUTO, RIDGE_DIRECT = 1e-3, 1e-2, 0.3
CUT = 4.0
RADIUS = 0.99


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """`ahead[s]`: by how much the value `s` strides ahead exceeds the newest one, for each unit by which the newest, the one
    before it ... exceed the newest. `stride` is in bins.
    """

    ahead: Floats
    stride: float = 1.0

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def forecast(self, newest: Floats, bins: float) -> float | None:
        """The value so many bins after the newest one, newest first, on the line between strides; None for too few values."""
        steps = bins / self.stride
        whole = min(int(steps), len(self.ahead) - 2)
        weights, part = self.ahead[whole], steps - whole
        if part:
            weights = weights + part * (self.ahead[whole + 1] - weights)
        if newest.size < weights.size:
            return None
        return float(newest[0] + weights @ (newest[: weights.size] - newest[0]))


def autoregression(closed: Floats, steps: int) -> Regression | None:
    """Fitted to these bins, oldest first, for up to `steps` ahead; None where they are too few or do not move."""
    changes = np.diff(closed)
    lags = min(LAGS, (changes.size - LEAST_ROWS) // 2)
    if lags < 1:
        return None
    rows = np.lib.stride_tricks.sliding_window_view(_cut(changes), lags + 1)
    weights = 1 / _scale(closed)[lags:-1]
    coefficients = _ridge(rows[:, -2::-1], rows[:, -1], weights, RIDGE_AUTO)
    return Regression(frozen(_unrolled(_inside(coefficients), steps))) if coefficients is not None else None


def direct(closed: Floats, steps: int) -> Regression | None:
    """Fitted to these bins for one stride of `steps`; None where they are too few or do not move."""
    spans = [span for span in SPANS if 3 * span <= closed.size]
    reach = max(DIRECT_LAGS, *spans) if spans else DIRECT_LAGS
    count = closed.size - steps - reach
    if count < LEAST_ROWS + DIRECT_LAGS + len(spans):
        return None
    shapes = _shapes(spans, reach)
    windows = np.lib.stride_tricks.sliding_window_view(closed, reach + 1)[:count, ::-1]
    changes = closed[reach + steps :] - closed[reach : closed.size - steps]
    if not np.any(np.abs(changes) > 0):
        return None
    coefficients = _ridge(windows @ shapes, _cut(changes), 1 / _scale(closed)[reach : closed.size - steps], RIDGE_DIRECT)
    if coefficients is None:
        return None
    weights = shapes @ coefficients
    weights[1] += min(0.0, 1.0 + weights[0])
    weights[0] = 0.0
    return Regression(frozen(np.array((np.zeros(weights.size), weights, weights))), float(steps))


def _shapes(spans: list[int], reach: int) -> Floats:
    """A column per feature, a row per lag: the last differences, and the newest value against the mean of each span."""
    shapes = np.zeros((reach + 1, DIRECT_LAGS + len(spans)))
    for lag in range(DIRECT_LAGS):
        shapes[lag, lag], shapes[lag + 1, lag] = 1.0, -1.0
    for place, span in enumerate(spans, DIRECT_LAGS):
        shapes[:span, place] = -1.0 / span
        shapes[0, place] += 1.0
    return shapes


def _cut(changes: Floats) -> Floats:
    sizes = np.abs(changes)
    known = sizes[~np.isnan(sizes)]
    most = CUT * float(known.mean()) if known.size else 0.0
    return np.asarray(np.clip(changes, -most, most), dtype=np.float64)


def _scale(closed: Floats) -> Floats:
    """About the load at each bin: the mean of ten up to it, and never nearly nothing."""
    known = np.where(np.isnan(closed), np.nanmean(closed) if not np.isnan(closed).all() else 1.0, closed)
    total = np.concatenate((np.full(10, known[0]), known)).cumsum()
    return np.asarray(np.maximum((total[10:] - total[:-10]) / 10, max(0.05 * float(known.mean()), 1e-12)))


def _ridge(columns: Floats, wanted: Floats, weights: Floats, penalty: float) -> Floats | None:
    """Weighted least squares with a penalty, over the rows in which nothing is missing. It is solved twice: what the first
    solution leaves unexplained is the share of `penalty` that the second one pays.
    """
    known = ~(np.isnan(columns).any(axis=1) | np.isnan(wanted))
    if not known.all():
        columns, wanted, weights = columns[known], wanted[known], weights[known]
    weighted = columns * weights[:, None]
    gram = weighted.T @ columns
    size = float(np.trace(gram)) / len(gram)
    if len(wanted) < max(LEAST_ROWS, 2 * len(gram)) or not 0 < size < math.inf:
        return None
    gram.flat[:: len(gram) + 1] += RIDGE * size
    moment = weighted.T @ wanted
    coefficients = np.asarray(np.linalg.solve(gram, moment), dtype=np.float64)
    total = float(weights @ wanted**2)
    unexplained = max(0.0, 1.0 - float(coefficients @ moment) / total) if total > 0 else 1.0
    gram.flat[:: len(gram) + 1] += penalty * unexplained * size
    return np.asarray(np.linalg.solve(gram, moment), dtype=np.float64)


def _inside(coefficients: Floats) -> Floats:
    """The same with no root outside `RADIUS`."""
    root = float(np.abs(np.linalg.eigvals(_companion(coefficients))).max())
    shrink = min(1.0, RADIUS / root) if root > 0 else 1.0
    return np.asarray(coefficients * shrink ** np.arange(1, coefficients.size + 1))


def _companion(coefficients: Floats) -> Floats:
    matrix = np.eye(coefficients.size, k=-1)
    matrix[0] = coefficients
    return matrix


def _unrolled(coefficients: Floats, steps: int) -> Floats:
    """`Regression.ahead` for 0..`steps`. A surprise is what the newest difference is beyond what those before it led to
    expect; weights of differences become weights of values at the end.
    """
    matrix, lags = _companion(coefficients), coefficients.size
    power, change = np.eye(lags), np.zeros(lags + 1)
    surprise = np.concatenate(((1.0,), -coefficients))
    rows = [change]
    for _ in range(steps):
        power = matrix @ power
        change = change + np.append(power[0], 0.0)
        rows.append(change + max(0.0, -1.0 - change[0]) * surprise)
    return np.diff(np.array(rows), axis=1, prepend=0.0, append=0.0)
