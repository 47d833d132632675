"""When would a request that comes now see its first token, and how fast would the others follow?

From what is ahead of it (core/outlook.py) and what it brings itself:

    TTFT = wait + own prefill + hand-off + room + one step as now
    TPOT = the step time of an even share of the crowd and its KV tokens, and of the request, which its replica holds whole

Where the crowd exceeds what decode holds, a prompt waits for `room`: until enough have left, t_d ln(excess). TPOT is a mean
over a whole answer, in which chance evens out: it is told as expected.

More load never makes TTFT shorter. Nor does more load in decode make TPOT shorter; more in prefill may, since it postpones the
join, and decode has emptied further by then. That is what `predictive` knows and `early` does not.

A long prompt is told more than it meets: whoever hands prompts out gives the next ones to other replicas. On Mooncake's
conversations the tenth with the longest prompts was told 84 ms and met 75, like all others. It is left so, for what a long
prompt takes it takes from several short ones: told that they meet the same, 13,500 promises were kept instead of 17,200.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from autoscaler.core.arrivals import Arrival, Burden
from autoscaler.core.capacity import KV_USABLE, Shape
from autoscaler.core.fleet import Sizing, SloKind
from autoscaler.core.outlook import Ahead, Standing, deviates
from autoscaler.core.profile import ReplicaProfile


class Expected(NamedTuple):
    """What a request has to expect. By kind of promise: seconds (a kind that the strategy does not look at is missing), its own
    seconds with nobody else there, and the seconds from which the phase's fullness counts: its own where work queues, the mean
    request's where it is shared, or long prompts would be allowed a fuller phase than short ones.
    """

    times_s: Mapping[SloKind, float]
    alone_s: Mapping[SloKind, float]
    floor_s: Mapping[SloKind, float]
    burden: Burden


def expected(arrival: Arrival, found: Ahead, wait_s: float) -> Expected:
    """What it has to expect of what is ahead, if its prefill begins after so many seconds: `found.wait_s`."""
    standing, profile = found.standing, found.profile
    shape, batch = standing.shape, standing.by_law[Sizing.BATCH]
    replicas = batch.serving
    prompt, uncached, output = _size(arrival, shape)
    own_s, handed_s = profile.prefill_time_s(uncached), profile.transfer_time_s(prompt) + standing.handoff_s
    first_s = profile.step_time_s(1.0, prompt)
    alone_s = {SloKind.TTFT: own_s + handed_s + first_s, SloKind.TPOT: first_s}
    floor_s = {SloKind.TTFT: alone_s[SloKind.TTFT], SloKind.TPOT: profile.step_time_s(1.0, shape.prompt_tokens)}
    ttft_s = wait_s + own_s + handed_s
    ttft_s += profile.step_time_s(batch.running / replicas + 1, batch.resident_tokens / replicas + prompt)
    times_s = {SloKind.TTFT: ttft_s}
    if found.crowd is not None:
        requests, tokens = found.crowd
        times_s[SloKind.TTFT] += _room_s(requests, tokens, prompt + output, profile, replicas, standing.stay_s)
        times_s[SloKind.TPOT] = profile.step_time_s(requests / replicas + 1, tokens / replicas + prompt)
    return Expected(times_s, alone_s, floor_s, Burden(own_s, prompt + output / 2, found.now + wait_s + own_s))


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


def _size(arrival: Arrival, shape: Shape) -> tuple[float, float, float]:
    """Prompt, its cache-missed part and output; what nobody knows is the mean's, of a known prompt in proportion."""
    prompt, uncached, output = arrival.prompt_tokens, arrival.uncached_tokens, arrival.output_tokens
    whole = shape.prompt_tokens if prompt is None else prompt
    missed = whole * shape.uncached_tokens / shape.prompt_tokens if uncached is None else uncached
    return whole, missed, shape.output_tokens if output is None else output


def _room_s(requests: float, tokens: float, own_tokens: float, profile: ReplicaProfile, replicas: int, stay_s: float) -> float:
    """Until enough have left for one more, by KV and by sequences; what no empty pool would hold waits for nothing."""
    room = KV_USABLE * profile.kv_tokens * replicas - own_tokens
    seats = profile.max_seqs * replicas - 1.0
    excess = max(tokens / room if room > 0 else 0.0, requests / seats if seats > 0 else 0.0)
    return stay_s * math.log(excess) if excess > 1 else 0.0
