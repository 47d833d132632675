"""Does measured latency say that the model promises too much?

A profile may be wrong, and then a pool that is large enough on paper breaks its promise. The strain of a pool is a ratio
above the idle floor,

    (value - floor) / (slo - floor)

value being the measured latency at the promise's percentile and floor what a request takes on an idle replica: with a floor
of 30 ms a step of 45 ms is half way to a promise of 60, not three quarters (Narwhal's refinement of Arrow's loads,
papers.md A1). It then needs as many replicas as serve times the strain, as a first guess: exact where requests share a
step, on the safe side where they queue.

Of the bucket that holds the percentile the lower edge is taken, since only that much is sure: steps that all take 27 ms are
25 to 50 in vLLM's buckets, and read as 49 they would hold a pool that has a replica to spare.

Latency is that of a window gone by. So it speaks only of replicas that have served for all of it (`settle_s`), or one breach
would be paid for again at every tick until the window has passed. Over 1 it may raise, `raise_most` times at most, only
while no replica is on its way, whose effect would have to be seen first, and only if the queues of this instant bear the
breach out; else it keeps what there is. It never lowers: demand takes the largest need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaler.core.capacity import Capacity, Shape, Slo
from autoscaler.core.fleet import Phase, Pool, SloKind
from autoscaler.core.observation import Histogram, Unknown
from autoscaler.core.profile import ReplicaProfile

BUSY = 0.5  # of the most a replica may hold: a step of half the batch that breaks its promise takes twice what it should

# What a request takes on a replica that serves nobody else, in seconds.
IDLE_S: Mapping[SloKind, Callable[[ReplicaProfile, Shape], float]] = {
    SloKind.TTFT: lambda profile, shape: profile.mean_prefill_time_s(shape.uncached_tokens, shape.cv2),
    SloKind.TPOT: lambda profile, shape: profile.step_time_s(1, shape.resident_tokens),
}


@dataclass(frozen=True, slots=True)
class StrainLimits:
    """Knobs. `settle_s`: how long a replica has served before latency speaks of it, the metrics' window and a scrape at least.
    `raise_most`: what serves is never raised by more.
    """

    settle_s: float = 90.0
    raise_most: float = 2.0
    min_samples: int = 30


@dataclass(frozen=True, slots=True)
class Strain:
    """`ratio` as above, of `settled` replicas; `may_raise`: nothing is on its way, and the queues agree with a breach."""

    ratio: float
    settled: int
    may_raise: bool

    def replicas(self, limits: StrainLimits) -> float:
        """Replicas that the measured latency asks for."""
        return self.settled * min(self.ratio, limits.raise_most if self.may_raise else 1.0)


def strain(
    latency: Histogram | Unknown, slo: Slo, idle_s: float, pool: Pool, now: float, limits: StrainLimits, *, crowded: bool
) -> Strain | None:
    """How far a pool's measured latency is from its promise; None with too few samples, a promise that an idle replica
    breaks, or no replica that it speaks of.
    """
    settled = sum(now - replica.since_s >= limits.settle_s for replica in pool.in_phase(Phase.SERVING))
    if not isinstance(latency, Histogram) or not latency.samples >= limits.min_samples or not settled:
        return None
    if slo.threshold_s <= idle_s:
        return None
    below = [edge for edge, count in zip(latency.edges, latency.counts, strict=True) if count < slo.quantile * latency.samples]
    ratio = max(0.0, max(below, default=0.0) - idle_s) / (slo.threshold_s - idle_s)
    return Strain(ratio, settled, crowded and settled >= pool.desired)


def crowded(waiting: float, running: float, serving: int, replica: Capacity) -> bool:
    """Whether a replica has a request waiting or half a batch running, on average."""
    fill = running / replica.max_resident if replica.max_resident is not None else 0.0
    return waiting >= max(1, serving) or fill >= BUSY * max(1, serving)
