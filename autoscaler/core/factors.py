"""By which factors do measured times differ from what a formula says?

A formula of three terms is taken to be right but for one factor per term: seconds = f0 c0 + f1 c1 + f2 c2, where the c are
what the formula gives each term at the point measured. One `Window` is one such point with the mean seconds seen there.

The factors are fitted by recursive least squares on relative errors, with this prior: their common level is not known (it
starts as the median of the first windows), each may differ from it by `loose`. So at a single operating point all factors
move together, and only windows at different points tell them apart. In the direction of the newest window old ones are
forgotten within an hour (restricted forgetting, Kulhavy 1987), in the others within a day: what a busy afternoon told is
known the next morning, and a week at one point, whose small changes are mostly errors of measuring, teaches no more than a
day of it.

A mean of 60 s can be poisoned. A window off by more than 20 %, or more than three times the noise known so far, is doubted:
it changes nothing unless PERSIST of them in a row, all too slow or all too fast, say the same. Then the fit starts anew from
those. The noise is learned from what is believed, or a jump would pass for it; a factor of three is doubted always.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median_low

Triple = tuple[float, float, float]
Matrix = tuple[Triple, Triple, Triple]

PERSIST = 4  # windows; at one a minute a new engine version is believed after four minutes, a stall of three never
MEMORY = 1 - 1 / 60  # the newest hour at a point has the word: a standing error of 0.13 of one window's noise
SHAPE_MEMORY = 1 - 1 / 1440  # windows of a minute: a day
LEVEL_SPREAD = 0.3  # how far the median of the first windows may be off
DOUBT_FROM = math.log(1.2)
DOUBT_ALWAYS = math.log(3.0)
NOISE_LEAST, NOISE_MOST = 0.02, 0.3  # of one window's mean; 30 prompts whose times have cv2 = 1 give 18 %
NOISE_GAIN = 0.1
WINSOR = 1.3  # the first windows count as at most this far from their median
WELL_WITHIN = 0.9  # of the play: a step that ended at its very edge would be followed by ever smaller ones
NOTHING: Matrix = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Prior:
    """`least` and `most` a factor may be, and how far (a share) each may lie from the common level."""

    least: float = 0.25
    most: float = 4.0
    loose: float = 0.3


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds by the formula's three terms at one point, none below zero, and the mean seconds measured there."""

    terms: Triple
    seconds: float

    @property
    def ratio(self) -> float:
        """Measured over what the formula says."""
        return self.seconds / sum(self.terms)


@dataclass(frozen=True, slots=True)
class Fit:
    """What the windows so far say. `factors` are None until PERSIST windows have been seen; `spread` is their covariance.

    `noise` is the relative standard deviation of one window, `doubted` the windows that wait to be believed, `terms` the
    point of the newest window that was learned from.
    """

    factors: Triple | None = None
    spread: Matrix = NOTHING
    noise: float = 0.1
    windows: int = 0
    terms: Triple = (0.0, 0.0, 0.0)
    doubted: tuple[Window, ...] = ()

    def error(self, terms: Triple) -> float:
        """The relative standard error of what the fit says at a point; infinite while it says nothing."""
        said = self.said(terms)
        return math.sqrt(max(0.0, _dot(terms, _times(self.spread, terms)))) / said if said else math.inf

    def said(self, terms: Triple) -> float | None:
        """Seconds at a point; None while the fit says nothing."""
        return None if self.factors is None else _dot(self.factors, terms)


def taught(fit: Fit, window: Window, prior: Prior) -> Fit:
    """The fit after one more window. It was not believed, or not yet, when the result's last `doubted` is it."""
    said = fit.said(window.terms)
    if said is None:
        return _begun(replace(fit, doubted=(*fit.doubted, window)), prior)
    off = math.log(window.seconds / said)
    if abs(off) <= min(DOUBT_ALWAYS, max(DOUBT_FROM, 3 * math.hypot(fit.noise, fit.error(window.terms)))):
        return _faded(_learned(replace(fit, noise=_noise(fit.noise, abs(off)), doubted=()), window, prior, MEMORY), prior)
    alike = [one for one in fit.doubted if (one.seconds > (fit.said(one.terms) or 0.0)) == (off > 0)]
    return _begun(replace(fit, doubted=(*alike, window)), prior)


def nearer(factors: Triple, fit: Fit, play: float, most: float) -> Triple:
    """`factors` moved straight towards the fit's, until the times they give around its newest point are well within `play` of
    the fit's, and these times by at most `most`; both are logarithms. As they are while within `play`.
    """
    wanted = fit.factors or factors
    ratios = [level(wanted, terms) / level(factors, terms) for terms in around(fit.terms)]
    if all(abs(math.log(ratio)) <= play for ratio in ratios):
        return factors
    needed = max(_share(ratio, abs(math.log(ratio)) - WELL_WITHIN * play) for ratio in ratios)
    share = min(needed, *(_share(ratio, most) for ratio in ratios))
    return _triple(old + share * (new - old) for old, new in zip(factors, wanted, strict=True))


def _share(ratio: float, most: float) -> float:
    """The share of the straight way from 1 to `ratio` after which `most` of it, as a logarithm, is behind."""
    most = max(0.0, min(most, abs(math.log(ratio))))
    return math.expm1(math.copysign(most, ratio - 1)) / (ratio - 1) if ratio != 1 else 1.0


def around(terms: Triple) -> tuple[Triple, ...]:
    """The terms at a load, at half and at four times it, for capacity asks about the most that a replica may be given. That a
    prompt's last term grows with the square of its length is let go.
    """
    return tuple((terms[0], by * terms[1], by * terms[2]) for by in (1.0, 0.5, 4.0))


def level(factors: Triple, terms: Triple) -> float:
    """All factors as one, at a point; their plain mean where no point is known."""
    total = sum(terms)
    return _dot(factors, terms) / total if total else sum(factors) / 3


def product(factors: Triple, coefficients: Triple) -> Triple:
    """Each coefficient times its factor."""
    return _triple(factor * one for factor, one in zip(factors, coefficients, strict=True))


def _noise(noise: float, off: float) -> float:
    """A slow mean of |off|, as a standard deviation (a normal's mean absolute value is 0.8 of it)."""
    seen = min(1.25 * off, 3 * noise)
    return min(NOISE_MOST, max(NOISE_LEAST, noise + NOISE_GAIN * (seen - noise)))


def _begun(fit: Fit, prior: Prior) -> Fit:
    """A fit from the doubted windows alone, once there are enough, in whatever order they came. Of two in the middle the lower
    is taken for the median: a stall makes windows longer, and nothing makes them shorter.
    """
    if len(fit.doubted) < PERSIST:
        return fit
    common = min(prior.most, max(prior.least, median_low(window.ratio for window in fit.doubted)))
    begun = Fit((common, common, common), _prior_spread(common, prior), fit.noise)
    for window in sorted(fit.doubted, key=lambda one: (one.ratio, one.terms)):
        ratio = min(common * WINSOR, max(common / WINSOR, window.ratio))
        begun = _learned(begun, replace(window, seconds=ratio * sum(window.terms)), prior, 1.0)
    return begun


def _learned(fit: Fit, window: Window, prior: Prior, memory: float) -> Fit:
    """One step of least squares, in shares of what the fit says: 1 + error = share . factors."""
    factors = fit.factors or (1.0, 1.0, 1.0)
    said = _dot(factors, window.terms)
    share = _triple(term / said for term in window.terms)
    toward = _times(fit.spread, share)
    known = max(1e-12, _dot(share, toward))
    swell = max(1.0, min(1 / memory, (LEVEL_SPREAD**2 + prior.loose**2) / known))  # never less sure than at the start
    gain = swell / (swell * known + fit.noise**2)
    shrink = (swell - 1) / known - gain * swell  # forgets, then learns, both along `toward`
    error = window.seconds / said - 1
    moved = (factor + gain * way * error for factor, way in zip(factors, toward, strict=True))
    return replace(
        fit,
        factors=_triple(min(prior.most, max(prior.least, factor)) for factor in moved),
        spread=_plus(fit.spread, shrink, toward),
        windows=fit.windows + 1,
        terms=window.terms,
    )


def _faded(fit: Fit, prior: Prior) -> Fit:
    """The factors a little nearer to their common level, which what they say at the newest point does not change, and as much
    less sure.
    """
    factors = fit.factors or (1.0, 1.0, 1.0)
    common, fade = level(factors, fit.terms), 1 - SHAPE_MEMORY
    spread = (
        _triple(kept + fade * (first - kept) for kept, first in zip(row, start, strict=True))
        for row, start in zip(fit.spread, _prior_spread(common, prior), strict=True)
    )
    first, second, third = spread
    return replace(fit, factors=_triple(factor + fade * (common - factor) for factor in factors), spread=(first, second, third))


def _prior_spread(common: float, prior: Prior) -> Matrix:
    shared, own = (common * LEVEL_SPREAD) ** 2, (common * prior.loose) ** 2
    return (shared + own, shared, shared), (shared, shared + own, shared), (shared, shared, shared + own)


def _dot(one: Triple, other: Triple) -> float:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _times(matrix: Matrix, vector: Triple) -> Triple:
    return (_dot(matrix[0], vector), _dot(matrix[1], vector), _dot(matrix[2], vector))


def _plus(matrix: Matrix, by: float, vector: Triple) -> Matrix:
    """The matrix + by x (vector vector')."""
    first, second, third = (
        _triple(kept + by * one * other for kept, other in zip(row, vector, strict=True))
        for row, one in zip(matrix, vector, strict=True)
    )
    return first, second, third


def _triple(values: Iterable[float]) -> Triple:
    first, second, third = values
    return first, second, third
