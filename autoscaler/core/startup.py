"""How long does a new replica take to serve?

From its first pod's making to its taking work: pulling, loading weights, warming up. Growth acts that much later, so this
is how far ahead a forecast has to look. It is measured here and shown; nothing is decided on it yet.

Only a replica that was seen to appear teaches: one not there at the look before, and made since. What served at the very
first look may have lost readiness and come back an hour ago, which would read as an hour's start. For the same reason
each birth teaches once; a replica made anew under its old name is another birth. The look that finds it serving may come
late, and a replica that served, failed and served again since the look before reads as slower by that gap at most; so
after a longer one than `GAP_S` what is there counts as found, not as seen to appear.

The newest `KEPT` samples stay and their median speaks: one image pull on a bare node among eight moves it little.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

from autoscaler.core.fleet import Phase, Pool

KEPT = 8
LONGEST_S = 86_400.0  # what took longer than a day was being mended, not starting
GAP_S = 600.0  # the longest interval between two ticks that a policy may ask for
SKEW_S = 30.0  # by how much the clock that dates births may be behind ours; a flipped replica's birth is older
BLUR_S = 1.0  # births nearer than this are one: a cluster may tell ages, which come out a little different each time


@dataclass(frozen=True, slots=True)
class StartUps:
    """What was learned of one pool: the newest samples in seconds, oldest first. `known` are the replicas of the last look,
    at `looked_s`, and when each was born; `awaited` those among them that were seen to appear and have not served yet.
    """

    samples: tuple[float, ...] = ()
    looked_s: float | None = None
    known: Mapping[str, float] = field(default_factory=dict)
    awaited: frozenset[str] = frozenset()

    @property
    def median_s(self) -> float | None:
        """Seconds half of them took at most; None before the first sample."""
        return median(self.samples) if self.samples else None


def learn(before: StartUps, pool: Pool, now: float) -> StartUps:
    """The same after one more look at the pool."""
    births = {one.name: one.born_s for one in pool.replicas if one.born_s is not None}
    awaited = _awaited(before, births, now)
    served = [one for one in pool.replicas if one.name in awaited and one.phase is Phase.SERVING]
    by_end = sorted((one.since_s, births[one.name]) for one in served)
    samples = keep((*before.samples, *(since_s - born_s for since_s, born_s in by_end)))
    return StartUps(samples, now, births, awaited - {one.name for one in served})


def _awaited(before: StartUps, births: Mapping[str, float], now: float) -> frozenset[str]:
    """The replicas seen to appear, at this look or earlier; none after a gap or when the clock stepped back."""
    if before.looked_s is None or not 0 <= now - before.looked_s <= GAP_S:
        return frozenset()
    old = {name for name, born_s in births.items() if abs(before.known.get(name, math.inf) - born_s) < BLUR_S}
    appeared = {name for name in births.keys() - old if births[name] >= before.looked_s - SKEW_S}
    return frozenset(before.awaited & old | appeared)


def keep(samples: tuple[float, ...]) -> tuple[float, ...]:
    """The newest samples among those that can be start-up times."""
    return tuple(took_s for took_s in samples if 0 <= took_s <= LONGEST_S)[-KEPT:]
