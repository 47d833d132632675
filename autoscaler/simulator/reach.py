"""What is the most that any fleet could keep of these promises?

A request that is alone on an idle fleet is as fast as it can be, whatever the number of replicas: nobody is before it, nobody
shares its step or its way. So the share of the requests that are in time alone is the best percentile that any size reaches,
and below the promised one the promise is infeasible:

    TTFT    prefill of its uncached tokens + the transfer of its KV + the first step; no cache of a single replica finds more
            of a prompt than the trace tells, whose cache has no bounds
    TPOT    the mean of its later steps: that of one request which holds its prompt and half of its answer

That is counted request by request, not reckoned from the mean one: of Mooncake's conversations 11 % have no first token
within 3 s on eight idle A100s (splitwise-2024), where the mean one has it after 1.4 s. A request that is longer than a
replica can hold is in time for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import ROLE_FACTS, Sizing, SloKind
from autoscaler.simulator.fleet_spec import FleetSpec
from autoscaler.simulator.workload import Request

ROUNDING_S = 1e-9  # the engine adds the same times up in another order


@dataclass(frozen=True, slots=True)
class Reach:
    """Shares of the requests, 0..1, that a fleet of any size could serve in time: by promise, and within all of them."""

    best: Mapping[SloKind, float]
    all: float

    def infeasible(self, slos: Mapping[SloKind, Slo]) -> str:
        """Which promises no size keeps, each with the best percentile that one could reach; empty if all can be kept."""
        return "; ".join(
            f"no number of replicas keeps {kind.upper()} {slos[kind].threshold_s:g} s for {percent(slos[kind].quantile)} of the "
            f"requests; the best reachable percentile is {percent(share)}"
            for kind, share in self.best.items()
            if share < slos[kind].quantile
        )


def reach(requests: Iterable[Request], fleet: FleetSpec, slos: Mapping[SloKind, Slo]) -> Reach:
    """Counted over these requests; of none at all everything could be kept."""
    law = {ROLE_FACTS[role].sizing: fleet.profile_of(role) for role in fleet.pools}
    prefill, decode = law[Sizing.QUEUE], law[Sizing.BATCH]
    link_bytes_per_s = min(decode.link_bytes_per_s, fleet.network_bytes_per_s or math.inf)
    longest_prompt, longest = fleet.longest
    ttft_s, tpot_s = (slos[kind].threshold_s + ROUNDING_S for kind in (SloKind.TTFT, SloKind.TPOT))
    count = soon = fluent = both = 0
    for request in requests:
        count += 1
        prompt, output = request.prompt_tokens, request.output_tokens
        if prompt > longest_prompt or prompt + output > longest:
            continue
        first_s = prefill.prefill_time_s(prompt - request.cached_tokens) + decode.step_time_s(1, prompt)
        first_s += decode.link_base_s + prompt * decode.kv_bytes_per_token / link_bytes_per_s
        in_time = first_s <= ttft_s
        flows = output == 1 or decode.step_time_s(1, prompt + output / 2) <= tpot_s
        soon, fluent, both = soon + in_time, fluent + flows, both + (in_time and flows)
    shares = {SloKind.TTFT: soon, SloKind.TPOT: fluent}
    return Reach({kind: met / count if count else 1.0 for kind, met in shares.items()}, both / count if count else 1.0)


def percent(share: float) -> str:
    """Rounded down, so that what just misses 95 % is not told as 95 %: 0.94999 -> 94.99%."""
    return f"{math.floor(share * 1e4 + 1e-6) / 100:g}%"
