"""What does whoever comes now find before them?

From a picture of the fleet (`Standing`), and what this sidecar let in since. Of the phase that queues, with x prompts there,
each of S seconds, and n replicas, a newcomer begins when x - n + 1 of them have ended, one every S/n:

    wait = max(0, (x - n + 1) S) / n      the work of those that wait being known by their tokens, S for those in work

What was there drains by n seconds of work a second until now. The wait told is outlasted with the chance 1 - `sureness` (0.5:
the mean): the work of W prompts of cv2 and of those in work spreads by S sqrt(W cv2 + running) / n.

Of the phase that shares steps three strategies make three crowds (Mooncake, arXiv 2407.00079 section 7):

    baseline     nobody is looked at: decode finds out when the prompt is computed, and that was then for nothing
    early        who is there now
    predictive   who is there when this prompt is computed, after j seconds: of R residents, each of which stays for t_d on
                 average, R exp(-j / t_d), and those ahead in the queue, who come one after the other until then and of whom
                 the part (1 - exp(-j / t_d)) / (j / t_d) has not left again

Requests are not told apart: t_d is one number for the fleet, a running estimate. Answers' lengths are spread about
exponentially, hence the exponent. The j that counts is that of a mean prompt: while a long one is computed others come and
fill what leaves. Judged by its own, on Mooncake's conversations at twice their rate the mean prompt let in rose from 13,500
to 28,000 tokens in six minutes, for hardly any but long ones got in.

What the other sidecars let in since the picture nobody has told yet. By a share of 1/16 one admission here stands for sixteen,
which is a wild guess; so the pace at which the fleet let in before is weighed against it, in the proportion PRIOR : share. With
16 sidecars on a ramp to twice what a fleet carries 19,200 promises were kept so, and 16,900 by the share alone.

All of this is the same for everybody who comes at one moment (`Ahead`); core/expected.py adds what one request brings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist

from autoscaler.core.arrivals import Burden, Own
from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing
from autoscaler.core.profile import ReplicaProfile

PRIOR = 0.25  # what the fleet's past pace is worth beside this sidecar's own admissions: as much as those of a quarter


class Strategy(StrEnum):
    """Which crowd in decode counts at arrival."""

    BASELINE = "baseline"
    EARLY = "early"
    PREDICTIVE = "predictive"


@dataclass(frozen=True, slots=True)
class Crowd:
    """One role's replicas as they were at `seen_s`: how many serve, how many of them have nothing to do, requests that wait
    and that run, the cache-missed prompt tokens of those that wait, and the KV tokens held. In prefill those are the prompts in
    work, which are longer than most: by the mean one, what comes to decode would be taken for half of what it is.
    """

    serving: int
    idle: int
    waiting: float
    running: float
    seen_s: float
    waiting_tokens: float = 0.0
    resident_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A picture of the fleet. `profile` is the calibrated one, None while speed is not known; `shape` the mean request;
    `stay_s` is t_d. `share` (0..1] of the fleet's arrivals come by this sidecar; `pace` is what the whole fleet let in per
    second of late, None if unknown. `handoff_s` comes on top of the link's own time. `trusted`: it came from whom it says.
    `tripped` are the phases whose breaker is open.
    """

    crowds: Mapping[Role, Crowd]
    profile: ReplicaProfile | None
    shape: Shape
    stay_s: float
    share: float = 1.0
    pace: Burden | None = None
    handoff_s: float = 0.0
    trusted: bool = True
    tripped: frozenset[Role] = frozenset()
    seen_s: float = field(init=False)
    by_law: Mapping[Sizing, Crowd] = field(init=False)
    serves: bool = field(init=False)

    def __post_init__(self) -> None:
        """Work out once per picture what each verdict asks for: when its oldest part was seen, the crowds by their law, and
        whether every role has a replica that serves.
        """
        object.__setattr__(self, "serves", all(crowd.serving > 0 for crowd in self.crowds.values()))
        object.__setattr__(self, "seen_s", min(crowd.seen_s for crowd in self.crowds.values()))
        object.__setattr__(self, "by_law", {ROLE_FACTS[role].sizing: crowd for role, crowd in self.crowds.items()})


@dataclass(frozen=True, slots=True)
class Ahead:
    """What whoever comes at `now` finds. `work_s`: seconds of prefill, of all replicas together, until one begins, as expected
    (below 0 where more replicas are free than prompts there), and `spread_s`, its standard deviation. `crowd`: the requests and
    KV tokens that count in the phase that shares steps; None: the strategy does not look. `idle`: phases in which a replica
    has nothing to do.
    """

    standing: Standing
    profile: ReplicaProfile
    now: float
    work_s: float
    spread_s: float
    crowd: tuple[float, float] | None
    idle: frozenset[Role]

    def wait_s(self, sureness: float) -> float:
        """Seconds until a prefill begins, with this chance (0..1, both excluded)."""
        return max(0.0, self.work_s + deviates(sureness) * self.spread_s) / self.standing.by_law[Sizing.QUEUE].serving


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a strategy may look at: both crowds, what no picture shows, seconds until a prefill begins, and now."""

    line: Crowd
    batch: Crowd
    unseen: Burden
    standing: Standing
    profile: ReplicaProfile
    wait_s: float
    now: float


def ahead(standing: Standing, profile: ReplicaProfile, own: Own, strategy: Strategy, now: float) -> Ahead:
    """What is found at `now`. `profile` is the standing's, which is known to be there. ZeroDivisionError where a role has no
    replica that serves: ask no such thing.
    """
    line, batch = standing.by_law[Sizing.QUEUE], standing.by_law[Sizing.BATCH]
    unseen = _unseen(standing, own, now)
    work_s, spread_s = _line_s(line, unseen, profile, standing.shape, now)
    sight = _Sight(line, batch, unseen, standing, profile, max(0.0, work_s) / line.serving, now)
    idle = frozenset([role for role, crowd in standing.crowds.items() if crowd.idle > unseen.requests])
    return Ahead(standing, profile, now, work_s, spread_s, _CROWDS[strategy](sight), idle)


@lru_cache(maxsize=64)
def deviates(sureness: float) -> float:
    """How many standard deviations above the mean keep a promise with this chance (0..1, both excluded)."""
    return NormalDist().inv_cdf(sureness)


def _unseen(standing: Standing, own: Own, now: float) -> Burden:
    """What the whole fleet let in since the picture: by this sidecar's own share of it, and by the pace it had before."""
    seen_s, share = standing.seen_s, standing.share
    mine = own.unseen(seen_s, now)
    if share >= 1 or standing.pace is None:
        return mine if share >= 1 else _times(mine, 1 / share)
    weight, usual = 1 / (share + PRIOR), standing.pace
    gone_s = PRIOR * max(0.0, now - seen_s)
    return Burden(
        (mine.work_s + usual.work_s * gone_s) * weight,
        (mine.tokens + usual.tokens * gone_s) * weight,
        now,
        (mine.requests + usual.requests * gone_s) * weight,
    )


def _times(burden: Burden, factor: float) -> Burden:
    return Burden(burden.work_s * factor, burden.tokens * factor, burden.end_s, burden.requests * factor)


def _line_s(line: Crowd, unseen: Burden, profile: ReplicaProfile, shape: Shape, now: float) -> tuple[float, float]:
    replicas, mean_s = line.serving, profile.mean_prefill_time_s(shape.uncached_tokens, shape.cv2)
    a0, a1, a2 = profile.prefill_s
    work_s = line.running * mean_s
    if line.waiting > 0:
        tokens = line.waiting_tokens
        work_s += a0 * line.waiting + a1 * tokens + a2 * tokens * tokens / line.waiting * (1 + shape.cv2)
    left_s = max(0.0, work_s - replicas * max(0.0, now - line.seen_s)) + unseen.work_s
    spread_s = mean_s * math.sqrt((line.waiting + unseen.requests) * shape.cv2 + line.running)
    return left_s + (1 - replicas) * mean_s, spread_s


def _nobody(_: _Sight) -> None:
    """Baseline: decode is not looked at."""


def _there_now(sight: _Sight) -> tuple[float, float]:
    """Early: requests and KV tokens that are there."""
    return sight.batch.running + sight.batch.waiting, sight.batch.resident_tokens


def _there_then(sight: _Sight) -> tuple[float, float]:
    """Predictive: requests and KV tokens that are there when a mean prompt that comes now is computed and handed over."""
    line, batch, unseen, standing = sight.line, sight.batch, sight.unseen, sight.standing
    profile, shape = sight.profile, standing.shape
    own_s = profile.mean_prefill_time_s(shape.uncached_tokens, shape.cv2)
    join_s = sight.wait_s + own_s + profile.transfer_time_s(shape.prompt_tokens) + standing.handoff_s
    passed = (join_s + max(0.0, sight.now - batch.seen_s)) / max(1e-3, standing.stay_s)
    stays = math.exp(-passed)
    meanwhile = (1 - stays) / passed if passed > 1e-9 else 1.0
    each = shape.prompt_tokens + shape.output_tokens / 2
    brought = line.resident_tokens + line.running * shape.output_tokens / 2 + (line.waiting + batch.waiting) * each
    requests = batch.running * stays + (line.waiting + line.running + batch.waiting + unseen.requests) * meanwhile
    return requests, batch.resident_tokens * stays + (brought + unseen.tokens) * meanwhile


_CROWDS: Mapping[Strategy, Callable[[_Sight], tuple[float, float] | None]] = {
    Strategy.BASELINE: _nobody,
    Strategy.EARLY: _there_now,
    Strategy.PREDICTIVE: _there_then,
}
