"""How few GPU-hours could possibly serve these requests?

The work itself, with no delay, no rounding to whole replicas and no waiting:

    prefill  one prompt at a time, s(n) each                       seconds of a replica = sum of s(n)
    decode   steps of b0 + b1 B + b2 K; summed over all steps, the last two terms are fixed by the tokens:
             C = sum over requests of b1 o + b2 (o p + o^2 / 2)     p prompt, o output tokens
             and b0 is paid once per step, so at most this many tokens may share it:
                 TPOT   step <= SLO on average        steps >= C / (SLO - b0)
                 seqs   at most max_seqs in a batch   steps >= tokens / max_seqs
                 KV     at most kv_tokens resident    steps >= sum of (o p + o^2 / 2) / kv_tokens
             seconds of a replica >= C + b0 * (the largest of the three)

"on average" holds since busier steps are the slower ones: the mean over tokens, which the SLO bounds, is no less than
the mean over steps. The costliest (1 - share) of the requests may be missed, so they are left out. Work counts at its
arrival's interval, and no interval has less than `min_replicas`; a request that straddles two intervals can beat that by
as much as it straddles. With two-piece steps or a shared link the true least is higher: the bound stays one.

By hand, at b0 10 ms, b1 1 ms, b2 0 and a TPOT of 20 ms: 100 tokens are C = 0.1 s, steps >= 0.1 / 0.010 = 10, so
0.1 + 10 * 0.010 = 0.2 s: ten tokens to each step of 20 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.policy import Policy
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.tape import Requests

Seconds = npt.NDArray[np.float64]
Packed = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class LowerBound:
    """Replicas per interval and role, fractions on purpose, and what they cost. `work`: the same before `min_replicas`."""

    interval_s: float
    work: Mapping[Role, tuple[float, ...]]
    replicas: Mapping[Role, tuple[float, ...]]
    gpu_hours: float


def lower_bound(
    requests: Requests,
    policy: Policy,
    gpus_per_replica: Mapping[Role, int],
    *,
    interval_s: float,
    until_s: float,
    share: float = 1.0,
) -> LowerBound:
    """The bound for meeting `share` (0..1) of these requests within the policy's SLOs until `until_s`.

    ValueError if the TPOT SLO is below what a decode step takes at least.
    """
    rows = _packed(requests)
    seconds = _seconds(rows, policy.profile, policy.slos[SloKind.TPOT].threshold_s)
    by_role = {role: seconds[ROLE_FACTS[role].sizing] for role in gpus_per_replica}
    cost = sum((by_role[role] * gpus for role, gpus in gpus_per_replica.items()), start=np.zeros(len(requests)))
    kept = np.argsort(cost, kind="stable")[: int(np.ceil(len(requests) * share))]
    arrivals_s = rows["arrival_s"][kept]
    edges = np.arange(0.0, until_s + interval_s / 2, interval_s)
    work = {role: np.histogram(arrivals_s, edges, weights=by_role[role][kept])[0] / interval_s for role in by_role}
    replicas = {role: np.maximum(path, policy.pools[role].min_replicas) for role, path in work.items()}
    total = sum(float(path.sum()) * gpus_per_replica[role] for role, path in replicas.items())
    return LowerBound(interval_s, _plain(work), _plain(replicas), total * interval_s / 3600)


def _packed(requests: Requests) -> Packed:
    """What the work is made of: 20 bytes for a request."""
    rows = ((one.arrival_s, one.prompt_tokens, one.cached_tokens, one.output_tokens) for one in requests)
    return np.fromiter(rows, [("arrival_s", "f8"), ("prompt", "u4"), ("cached", "u4"), ("output", "u4")], count=len(requests))


def _seconds(rows: Packed, profile: ReplicaProfile, tpot_s: float) -> Mapping[Sizing, Seconds]:
    """Seconds of a replica that each request takes, by kind of role."""
    b0, b1, b2 = profile.decode_s
    if tpot_s <= b0:
        raise ValueError(f"TPOT SLO {tpot_s:g} s is not > {b0:g} s, the least that a decode step takes")
    prompt, output = rows["prompt"].astype(float), rows["output"].astype(float)
    uncached = prompt - rows["cached"]
    resident = output * prompt + output * output / 2
    own_s = b1 * output + b2 * resident
    shares = (own_s / (tpot_s - b0), output / profile.max_seqs, resident / profile.kv_tokens)
    a0, a1, a2 = profile.prefill_s
    return {Sizing.QUEUE: a0 + a1 * uncached + a2 * uncached**2, Sizing.BATCH: own_s + b0 * max(shares, key=np.sum)}


def _plain(rows: Mapping[Role, Seconds]) -> dict[Role, tuple[float, ...]]:
    return {role: tuple(float(value) for value in row) for role, row in rows.items()}
