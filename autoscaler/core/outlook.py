"""When would a request that comes now see its first token, and how fast would the others follow?

From a picture of the fleet (`Standing`), and what this sidecar let in since. Of the phase that queues, with x prompts there,
each of S seconds, and n replicas, a newcomer begins when x - n + 1 of them have ended, one every S/n:

    wait = max(0, (x - n + 1) S) / n      the work of those that wait being known by their tokens, S for those in work

What was there drains by n seconds of work a second until now. TTFT = wait + own prefill + hand-off + room + one step as now.

Of the phase that shares steps three strategies make three crowds (Mooncake, arXiv 2407.00079 section 7):

    baseline     nobody is looked at: decode finds out when the prompt is computed, and that was then for nothing
    early        who is there now
    predictive   who is there when this prompt is computed, after j seconds: of R residents, each of which stays for t_d on
                 average, R exp(-j / t_d), and those ahead in the queue, who come one after the other until then and of whom
                 the part (1 - exp(-j / t_d)) / (j / t_d) has not left again

Requests are not told apart: t_d is one number for the fleet, a running estimate. Answers' lengths are spread about
exponentially, hence the exponent. An even share of the crowd and its KV tokens, and the newcomer, which its replica holds
whole, make the step time that is TPOT. Where they exceed what decode holds, a prompt waits for `room`: until enough have
left, t_d ln(excess).

The wait told is outlasted with the chance 1 - `sureness` (0.5: the mean): the work of W prompts of cv2 and of those in work
spreads by S sqrt(W cv2 + running) / n. TPOT is a mean over a whole answer, in which chance evens out: it is told as expected.

What the other sidecars let in since the picture nobody has told yet. By a share of 1/16 one admission here stands for sixteen,
which is a wild guess; so the pace at which the fleet let in before is weighed against it, in the proportion PRIOR : share. With
16 sidecars on a ramp to twice what a fleet carries 19,200 promises were kept so, and 16,900 by the share alone.

More load never makes TTFT shorter. Nor does more load in decode make TPOT shorter; more in prefill may, since it postpones the
join, and decode has emptied further by then. That is what `predictive` knows and `early` does not. The join that counts for
TPOT is that of a mean prompt: while a long one is computed others come and fill what leaves. Judged by its own join, on
Mooncake's conversations at twice their rate the mean prompt let in rose from 13,500 to 28,000 tokens in six minutes, for
hardly any but long ones got in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist

from autoscaler.core.arrivals import Arrival, Burden, Own
from autoscaler.core.capacity import KV_USABLE, Shape
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
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
class Outlook:
    """What a request has to expect. By kind of promise: seconds expected (a kind that the strategy does not look at is
    missing), its own seconds with nobody else there, and the seconds from which the phase's fullness counts: its own where
    work queues, the mean request's where it is shared, or long prompts would be allowed a fuller phase than short ones.
    `idle`: phases in which a replica has nothing to do.
    """

    expected_s: Mapping[SloKind, float]
    alone_s: Mapping[SloKind, float]
    floor_s: Mapping[SloKind, float]
    burden: Burden
    idle: frozenset[Role] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a strategy may look at: both crowds, what no picture shows, seconds until the prefill begins, and now."""

    line: Crowd
    batch: Crowd
    unseen: Burden
    standing: Standing
    profile: ReplicaProfile
    wait_s: float
    now: float


def outlook(
    arrival: Arrival, standing: Standing, profile: ReplicaProfile, own: Own, now: float, way: tuple[Strategy, float]
) -> Outlook:
    """What it has to expect from `now` on. `way`: the strategy, and the chance with which what is told is kept. `profile` is the
    standing's, which is known to be there. ZeroDivisionError where a role has no replica that serves: ask no such thing.
    """
    shape, line, batch = standing.shape, standing.by_law[Sizing.QUEUE], standing.by_law[Sizing.BATCH]
    strategy, replicas = way[0], batch.serving
    prompt, uncached, output = _size(arrival, shape)
    unseen = _unseen(standing, own, now)
    wait_s = _wait_s(line, unseen, profile, shape, deviates(way[1]), now)
    own_s, handed_s = profile.prefill_time_s(uncached), profile.transfer_time_s(prompt) + standing.handoff_s
    first_s = profile.step_time_s(1.0, prompt)
    alone_s = {SloKind.TTFT: own_s + handed_s + first_s, SloKind.TPOT: first_s}
    floor_s = {SloKind.TTFT: alone_s[SloKind.TTFT], SloKind.TPOT: profile.step_time_s(1.0, shape.prompt_tokens)}
    expected_s = {SloKind.TTFT: wait_s + own_s + handed_s}
    expected_s[SloKind.TTFT] += profile.step_time_s(batch.running / replicas + 1, batch.resident_tokens / replicas + prompt)
    there = _CROWDS[strategy](_Sight(line, batch, unseen, standing, profile, wait_s, now))
    if there is not None:
        requests, tokens = there
        expected_s[SloKind.TTFT] += _room_s(requests, tokens, prompt + output, profile, replicas, standing.stay_s)
        expected_s[SloKind.TPOT] = profile.step_time_s(requests / replicas + 1, tokens / replicas + prompt)
    idle = frozenset([role for role, crowd in standing.crowds.items() if crowd.idle > unseen.requests])
    return Outlook(expected_s, alone_s, floor_s, Burden(own_s, prompt + output / 2, now + wait_s + own_s), idle)


def long_alone_s(standing: Standing, profile: ReplicaProfile, quantile: float) -> Mapping[SloKind, float]:
    """Seconds that the prompt of this quantile (0..1) of all lengths takes with nobody else there, by kind of promise. Lengths
    are lognormal, with the mean and cv2 of the shape, as in core/capacity.py.
    """
    longer, shape = _longer(standing.shape.cv2, quantile), standing.shape
    prompt, first_s = longer * shape.prompt_tokens, profile.step_time_s(1.0, longer * shape.prompt_tokens)
    handed_s = profile.transfer_time_s(prompt) + standing.handoff_s
    return {SloKind.TTFT: profile.prefill_time_s(longer * shape.uncached_tokens) + handed_s + first_s, SloKind.TPOT: first_s}


@lru_cache(maxsize=256)
def _longer(cv2: float, quantile: float) -> float:
    """The quantile of a lognormal length, in means; no less than the mean."""
    sigma2 = math.log(1 + cv2)
    return max(1.0, math.exp(math.sqrt(sigma2) * deviates(quantile) - sigma2 / 2))


@lru_cache(maxsize=64)
def deviates(sureness: float) -> float:
    """How many standard deviations above the mean keep a promise with this chance (0..1, both excluded)."""
    return NormalDist().inv_cdf(sureness)


def _size(arrival: Arrival, shape: Shape) -> tuple[float, float, float]:
    """Prompt, its cache-missed part and output; what nobody knows is the mean's, of a known prompt in proportion."""
    prompt, uncached, output = arrival.prompt_tokens, arrival.uncached_tokens, arrival.output_tokens
    whole = shape.prompt_tokens if prompt is None else prompt
    missed = whole * shape.uncached_tokens / shape.prompt_tokens if uncached is None else uncached
    return whole, missed, shape.output_tokens if output is None else output


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


def _wait_s(line: Crowd, unseen: Burden, profile: ReplicaProfile, shape: Shape, z: float, now: float) -> float:
    replicas, mean_s = line.serving, profile.mean_prefill_time_s(shape.uncached_tokens, shape.cv2)
    a0, a1, a2 = profile.prefill_s
    work_s = line.running * mean_s
    if line.waiting > 0:
        tokens = line.waiting_tokens
        work_s += a0 * line.waiting + a1 * tokens + a2 * tokens * tokens / line.waiting * (1 + shape.cv2)
    left_s = max(0.0, work_s - replicas * max(0.0, now - line.seen_s)) + unseen.work_s
    left_s += z * mean_s * math.sqrt((line.waiting + unseen.requests) * shape.cv2 + line.running)
    return max(0.0, left_s + (1 - replicas) * mean_s) / replicas


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


def _room_s(requests: float, tokens: float, own_tokens: float, profile: ReplicaProfile, replicas: int, stay_s: float) -> float:
    """Until enough have left for one more, by KV and by sequences; what no empty pool would hold waits for nothing."""
    room = KV_USABLE * profile.kv_tokens * replicas - own_tokens
    seats = profile.max_seqs * replicas - 1.0
    excess = max(tokens / room if room > 0 else 0.0, requests / seats if seats > 0 else 0.0)
    return stay_s * math.log(excess) if excess > 1 else 0.0


_CROWDS: Mapping[Strategy, Callable[[_Sight], tuple[float, float] | None]] = {
    Strategy.BASELINE: _nobody,
    Strategy.EARLY: _there_now,
    Strategy.PREDICTIVE: _there_then,
}
