"""How many replicas does a load need that queues, and how many one that shares steps?

WaitingLine. With a Erlangs of work (arrivals times the mean service S) for n replicas behind one queue a wait outlasts t with
probability

    P(W > t) = C(n, a) * exp(-2 (n - a) t / (S (1 + c2)))

where C is Erlang's second formula, had from his first, B(n) = a B(n-1) / (n + a B(n-1)), which stays between 0 and 1; c2 is
the squared coefficient of variation of the service (Kingman, Kimura; models.md D). At n = 1 it is rho times the same.

SharedStep. Requests that share a step leave B / (t(B) output) times per second, the more slowly the fuller it is, so the crowd
swings wider than a Poisson count: its variance is B t / (t - B t'), for an affine step b0 + s B just B t / b0 (the exact
product form of processor sharing, linearised). Balanced over n replicas: B + z sqrt(B t / (b0 n)) <= B*. Little's law makes
that n B / t(B) tokens per second. At n = 1 and t/b0 of 2 and 4.5 the simulator carries 88.3 and 94.8 % of the static limit
B* / t(B*); this says 88.5 and 95.7, without the swing 91.5 and 97.9.

Both suppose that requests wait for the pool and not for a replica. What routing makes of that is `pooling`: the waiting line
asks for `pooling` parts of what one shared queue needs and the rest of what n queues alone need. Over 27 cases (2, 5 and 12
replicas, slack 1 to 10 prompts, c2 .35 to 5) routing to the fewest tokens got 0.94 to 1.1 of the way, to the fewest requests
0.88 to 1.05, round robin 0.22 to 0.87.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from autoscaler.core.profile import ReplicaProfile

MANY_ERLANGS = 200.0  # beyond it spare replicas grow as the square root of the load (Halfin and Whitt)
HALVINGS = 26  # to 1e-8 of the range


class Law(Protocol):
    """Load against replicas, both ways; both rise."""

    def replicas(self, tokens_per_s: float) -> float:
        """Replicas, as a fraction, that carry this load."""
        ...

    def carried(self, replicas: float) -> float:
        """Tokens per second that so many replicas carry."""
        ...


@dataclass(frozen=True, slots=True)
class WaitingLine:
    """The QUEUE law. `service_s` is S, `decay` the exponent 2 t / (S (1 + c2)) of each kind of prompt that can meet the SLO,
    `helped` the share of those prompts, `late` the share of all prompts that waiting may make late, `alone` and `most` the
    utilisation of a single replica and the highest of any.
    """

    tokens: float
    service_s: float
    decay: tuple[float, ...]
    helped: float
    late: float
    most: float
    alone: float
    pooling: float

    def replicas(self, tokens_per_s: float) -> float:
        """Between one queue each and one queue for all, and never busier than `most`."""
        erlangs = tokens_per_s / self.tokens * self.service_s
        single = erlangs / self.alone
        if single <= 1 or self.helped <= self.late:
            return single
        shared = min(single, self._sharing(erlangs))
        return max(erlangs / self.most, self.pooling * shared + (1 - self.pooling) * single)

    def carried(self, replicas: float) -> float:
        """The inverse of `replicas`, by bisection."""
        return highest(lambda load: self.replicas(load) <= replicas, replicas * self.most * self.tokens / self.service_s)

    def _sharing(self, erlangs: float) -> float:
        """Replicas behind one queue. Between the last count that is too few and the first that is enough the tail is taken
        to fall geometrically, which makes the fraction continuous and rising in the load.
        """
        if erlangs > MANY_ERLANGS:
            spare = self._sharing(MANY_ERLANGS) - MANY_ERLANGS
            return erlangs + spare * math.sqrt(erlangs / MANY_ERLANGS)
        count, blocked, allowed, before = 0, 1.0, math.log(self.late), math.log(self.helped)
        while True:
            count += 1
            blocked = erlangs * blocked / (count + erlangs * blocked)
            if count <= erlangs:
                continue
            waiting = count * blocked / (count - erlangs * (1 - blocked))
            tail = math.log(waiting * self.helped * self.outlasts(count - erlangs) + 1e-300)
            if tail <= allowed:
                return count - 1 + (before - allowed) / (before - tail)
            before = tail

    def outlasts(self, spare: float) -> float:
        """P(W > t | W > 0), averaged over the prompts that can meet the SLO."""
        return sum([math.exp(-rate * spare) for rate in self.decay]) / len(self.decay)


@dataclass(frozen=True, slots=True)
class SharedStep:
    """The BATCH law. `most` is B*; `swing` is t'/(t - B t') there, by which a crowd of B swings wider than Poisson's:
    its variance is B (1 + B swing). `deviates` is z.
    """

    profile: ReplicaProfile
    tokens: float
    most: float
    swing: float
    deviates: float
    pooling: float

    def carried(self, replicas: float) -> float:
        """Little's law at the mean batch; less than one replica carries its share of one."""
        count = max(1.0, replicas)
        mean = self.mean(count)
        return replicas * mean / self.profile.step_time_s(mean, mean * self.tokens)

    def replicas(self, tokens_per_s: float) -> float:
        """The inverse of `carried`, by bisection between a pool of singles and one without any spread."""
        single = tokens_per_s / self.carried(1.0)
        if single <= 1:
            return single
        return highest(lambda count: self.carried(count) <= tokens_per_s, single)

    def mean(self, count: float) -> float:
        """B with B + z sqrt(B (1 + B swing) / n) = B*, a quadratic. At n = 1, B* = 64, q = .95, no swing: 52.1."""
        spread = self.deviates * self.deviates / (1 + self.pooling * (count - 1))
        half, square = 2 * self.most + spread, self.most * self.most
        return 2 * square / (half + math.sqrt(half * half - 4 * (1 - spread * self.swing) * square))


def highest(fits: Callable[[float], bool], top: float) -> float:
    """The largest value in 0..top that fits, where all below a fitting one fit too."""
    low, high = 0.0, top
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return high
