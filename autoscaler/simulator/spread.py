"""Which length has a request of this rank, if all that was kept is a histogram and a mean?

Buckets of token counts are wide: vLLM's grow by factors of 2 and 2.5. How lengths lie within one decides how long the longest
prompts are, and with them the load, since their time grows with the square. So the density (per logarithm of the length) is
taken to change in a straight line within a bucket, from the geometric mean with the neighbour below to that with the one
above: it fades out towards an empty neighbour. Then all is stretched so that the mean is what was told, which is exact where
buckets are not. On lognormal prompts in vLLM's buckets (mean 6,000, cv 0.7, cut at 32,768) the squared coefficient of
variation comes out 14 % too large, and with a constant density 43 %.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

from autoscaler.core.observation import Histogram


class Spread:
    """A distribution of lengths with this mean; without a histogram all are the mean."""

    __slots__ = ("_buckets", "_stretch", "_upto")

    def __init__(self, mean: float, histogram: Histogram | None) -> None:
        self._buckets = _buckets(histogram) if histogram is not None else ()
        self._upto = tuple(accumulate(bucket.share for bucket in self._buckets))
        implied = sum(bucket.share * bucket.mean() for bucket in self._buckets)
        self._stretch = mean / implied if implied > 0 else mean

    def at(self, rank: float) -> float:
        """The length that this share of requests (0..1) does not exceed."""
        if not self._buckets:
            return self._stretch
        place = min(bisect_left(self._upto, rank), len(self._buckets) - 1)
        bucket = self._buckets[place]
        return self._stretch * bucket.at(1 - (self._upto[place] - rank) / bucket.share)


class _Bucket:
    """A bucket with a share of all observations, its edges, and the densities there (only their ratio counts)."""

    __slots__ = ("begin", "end", "lower", "share", "width")

    def __init__(self, share: float, lower: float, upper: float, densities: tuple[float, float]) -> None:
        self.share, self.lower, self.width = share, lower, math.log(upper / lower)
        self.begin, self.end = densities if max(densities) > 0 else (1.0, 1.0)

    def at(self, rank: float) -> float:
        """The length of this rank (0..1) among those in the bucket."""
        return self.lower * math.exp(self.width * _way(min(1.0, max(0.0, rank)), self.begin, self.end))

    def mean(self) -> float:
        """The integral of lower exp(width x) over the densities, from x = 0 to 1."""
        k, growth = self.width, math.exp(self.width)
        if k < 1e-6:
            return self.lower
        weighed = self.begin * (growth - 1) / k + (self.end - self.begin) * (growth * (k - 1) + 1) / (k * k)
        return self.lower * weighed / ((self.begin + self.end) / 2)


def _way(rank: float, begin: float, end: float) -> float:
    """How far along a line whose density goes from `begin` to `end` this share of the whole lies, both 0..1. The share up to x
    is (begin x + (end - begin) x^2 / 2) / ((begin + end) / 2); this is its inverse.
    """
    if math.isclose(begin, end, abs_tol=1e-12):
        return rank
    return (math.sqrt(begin * begin + (end * end - begin * begin) * rank) - begin) / (end - begin)


def _buckets(histogram: Histogram) -> Sequence[_Bucket]:
    """Those that hold something. The first begins at one token, and what lies beyond the last edge is taken to be there."""
    rows, lower, below = [], 1.0, 0.0
    for edge, count in zip(histogram.edges, histogram.counts, strict=True):
        upper = max(lower, edge) if math.isfinite(edge) else lower
        rows.append((lower, upper, (count - below) / histogram.samples))
        lower, below = upper, count
    widths = [math.log(upper / low) or 1.0 for low, upper, _ in rows]
    densities = [0.0, *(share / width for (_, _, share), width in zip(rows, widths, strict=True)), 0.0]
    means = [math.sqrt(one * other) for one, other in pairwise(densities)]
    return [
        _Bucket(share, low, upper, (means[place], means[place + 1]))
        for place, (low, upper, share) in enumerate(rows)
        if share > 0
    ]
