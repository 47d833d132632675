"""Who is turned away when a fleet is full, and when is that found out?

Mooncake's three rules (arXiv 2407.00079, section 7). An arrival is turned away if its expected TTFT is beyond the limit, and

    baseline    decode looks only once its prompt is computed; a prompt that is then turned away was computed for nothing
    early       decode's load now is looked at too, on arrival
    predicted   decode's load at the end of its prefill: whoever is computed by then comes, whoever has decoded for
                `stays_s` (the paper's t_d) goes

Decode looks once more after prefill in all three. TTFT is expected at the replica with the least ahead; the time between
tokens at an even share of all that decode holds, with this request added. Every decision sees the load of its instant, as a
gateway does that routes every request itself; while no replica of a role serves, it does not object.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.events import Server
from autoscaler.simulator.workload import Request

FORGOTTEN = 1_000  # ended requests that are remembered before they are forgotten all at once


class Rejects(StrEnum):
    """When decode's load is looked at."""

    BASELINE = "baseline"
    EARLY = "early"
    PREDICTED = "predicted"


@dataclass(frozen=True, slots=True)
class EarlyRejection:
    """A rule and its limits. `stays_s`: how long a request is taken to decode, for `predicted` only."""

    rejects: Rejects
    ttft_s: float
    tpot_s: float
    stays_s: float = 0.0


class Gate:
    """Decides on arrivals (`admit`) and on computed prompts (`proceed`). Set `engine` before the run."""

    engine: Engine

    def __init__(self, rules: EarlyRejection) -> None:
        self.rules = rules
        self._computed_s: dict[int, float] = {}  # when each prompt is expected to be computed, or was

    def admit(self, request: Request, now: float) -> bool:
        """Prefill must make it in time, and decode must have room as far as it is asked now."""
        own_s = self.engine.spec.profile_of(Role.PREFILL).prefill_time_s(request.prompt_tokens - request.cached_tokens)
        ttft_s = min(self.ahead_s(), default=0.0) + own_s
        if ttft_s > self.rules.ttft_s or not self._decode_agrees(request, now + ttft_s):
            return False
        self._remember(request, now + ttft_s)
        return True

    def proceed(self, request: Request, now: float) -> bool:
        """Decode looks once more."""
        self._remember(request, now)
        return self._fits_now(request)

    def ahead_s(self) -> list[float]:
        """Seconds of work ahead of a newcomer at each prefill replica, prompts of one replica taken to be alike."""
        profile = self.engine.spec.profile_of(Role.PREFILL)
        servers = self._servers(Role.PREFILL)
        return [one.requests * profile.prefill_time_s(one.load / one.requests) if one.requests else 0.0 for one in servers]

    def step_s(self, requests: int = 0, tokens: float = 0.0) -> float:
        """A decode step at an even share of what is there, and of so much more."""
        servers = self._servers(Role.DECODE)
        return self._shared_s(requests + sum(one.requests for one in servers), tokens + sum(one.load for one in servers))

    def _shared_s(self, requests: int, tokens: float) -> float:
        replicas = len(self._servers(Role.DECODE))
        profile = self.engine.spec.profile_of(Role.DECODE)
        return profile.step_time_s(requests / replicas, tokens / replicas) if replicas else 0.0

    def _servers(self, role: Role) -> list[Server]:
        return [replica.server for replica in self.engine.pools[role].replicas if replica.phase is Phase.SERVING]

    def _decode_agrees(self, request: Request, computed_s: float) -> bool:
        if self.rules.rejects is Rejects.BASELINE:
            return True
        return self._fits_now(request) if self.rules.rejects is Rejects.EARLY else self._fits_then(request, computed_s)

    def _fits_now(self, request: Request) -> bool:
        return self.step_s(1, request.prompt_tokens) <= self.rules.tpot_s

    def _fits_then(self, request: Request, then_s: float) -> bool:
        jobs = self.engine.in_flight.values()
        there = [job.request for job in jobs if self._decodes_at(job.request, then_s)]
        held = sum(one.prompt_tokens + one.output_tokens for one in there)
        return self._shared_s(1 + len(there), request.prompt_tokens + held) <= self.rules.tpot_s

    def _decodes_at(self, request: Request, then_s: float) -> bool:
        at_s = self._computed_s[request.id]
        return at_s <= then_s < at_s + self.rules.stays_s

    def _remember(self, request: Request, computed_s: float) -> None:
        if self.rules.rejects is not Rejects.PREDICTED:
            return
        in_flight = self.engine.in_flight
        if len(self._computed_s) > 2 * len(in_flight) + FORGOTTEN:
            self._computed_s = {number: at_s for number, at_s in self._computed_s.items() if number in in_flight}
        self._computed_s[request.id] = computed_s
