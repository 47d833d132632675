"""Who is turned away under overload, and when?

Mooncake's three rules (arXiv 2407.00079, section 7). An arrival is turned away if its expected TTFT is beyond the limit, and

    baseline   decode looks only once its prompt is computed; a prompt that is then turned away was computed for nothing
    early      decode's load now is looked at too, on arrival
    predicted  decode's load at the end of its prefill: whoever is computed by then comes, whoever has decoded for t_d goes

Decode looks once more after prefill in all three. TTFT is expected at the replica with the least ahead; the time between
tokens at an even share of all that decode holds, with this request added. Every decision sees the load of its instant.
"""

from __future__ import annotations

from enum import StrEnum
from statistics import fmean

from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import replica_profile
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.events import Server
from autoscaler.simulator.workload import Request

PROFILE = replica_profile("splitwise-2024-llama-2-70b-a100-tp8")
NODES, TTFT_S, TPOT_S = 8, 30.0, 0.1


class Rejects(StrEnum):
    """When decode's load is looked at."""

    BASELINE = "baseline"
    EARLY = "early"
    PREDICTED = "predicted"


class Gate:
    """Decides on arrivals (`admit`) and on computed prompts (`proceed`). `stays_s` is t_d. Set `engine` before the run."""

    engine: Engine

    def __init__(self, rejects: Rejects, stays_s: float) -> None:
        self._rejects, self._stays_s = rejects, stays_s
        self._computed_s: dict[int, float] = {}  # when each prompt is expected to be computed, or was

    def admit(self, request: Request, now: float) -> bool:
        """Prefill must make it in time, and decode must have room as far as it is asked now."""
        ttft_s = min(map(queue_s, self._servers(Role.PREFILL))) + PROFILE.prefill_time_s(
            request.prompt_tokens - request.cached_tokens
        )
        if ttft_s > TTFT_S or not self._decode_agrees(request, now + ttft_s):
            return False
        self._computed_s[request.id] = now + ttft_s
        return True

    def proceed(self, request: Request, now: float) -> bool:
        """Decode looks once more."""
        self._computed_s[request.id] = now
        return self._fits_now(request)

    def load(self, role: Role) -> float:
        """Of a pool, as a share of its limit: the work ahead of a prefill replica, the time between tokens in decode."""
        servers = self._servers(role)
        return {
            Role.PREFILL: fmean(map(queue_s, servers)) / TTFT_S,
            Role.DECODE: step_s(sum(one.requests for one in servers), sum(one.load for one in servers)) / TPOT_S,
        }[role]

    def _servers(self, role: Role) -> list[Server]:
        return [replica.server for replica in self.engine.pools[role].replicas]

    def _decode_agrees(self, request: Request, computed_s: float) -> bool:
        if self._rejects is Rejects.BASELINE:
            return True
        return self._fits_now(request) if self._rejects is Rejects.EARLY else self._fits_then(request, computed_s)

    def _fits_now(self, request: Request) -> bool:
        servers = self._servers(Role.DECODE)
        requests = 1 + sum(server.requests for server in servers)
        return step_s(requests, request.prompt_tokens + sum(server.load for server in servers)) <= TPOT_S

    def _fits_then(self, request: Request, then_s: float) -> bool:
        jobs = self.engine.in_flight.values()
        there = [job.request for job in jobs if self._decodes_at(job.request, job.computed, then_s)]
        held = sum(one.prompt_tokens + one.output_tokens for one in there)
        return step_s(1 + len(there), request.prompt_tokens + held) <= TPOT_S

    def _decodes_at(self, request: Request, computed: bool, then_s: float) -> bool:
        at_s = self._computed_s[request.id]
        return at_s + self._stays_s > then_s if computed else at_s <= then_s


def queue_s(server: Server) -> float:
    """Seconds of work ahead at a prefill replica; its profile has no square term."""
    a0, a1, _ = PROFILE.prefill_s
    return a0 * server.requests + a1 * server.load


def step_s(requests: int, tokens: float) -> float:
    """A decode step at an even share of these."""
    return PROFILE.step_time_s(requests / NODES, tokens / NODES)
