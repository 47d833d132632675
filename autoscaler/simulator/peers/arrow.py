"""What if a fixed fleet only ever changed roles, as soon as a latency asks for it?

Arrow's monitor loop (arXiv 2505.11916; reference/papers.md A1, constants as its reimplementation has them):

    prefill load  mean over replicas of (predicted prefill seconds it holds) / TTFT SLO
    decode load   (mean time per token - floor) / (TPOT SLO - floor), floor: one request alone
    to decode     decode load >= expand, or prefill load <= shrink <= decode load, for 3 s; then no other for 10 s
    to prefill    a newcomer would miss its TTFT on every prefill replica, and decode load <= shrink; no cool-down
    never         the last replica of a role

expand 1.0, shrink 0.5. Taking decode load above the floor is the reimplementation's correction, without which an idle pool
under a tight SLO reads above `shrink`. To prefill is decided by Arrow at each request's placement; here at each look, so at
most one per look. At TTFT SLO 2 s two replicas with 3 and 5 prompts of 0.2 s read (0.6 + 1.0) / 2 / 2 = 0.4.

It was made for a monitor of 1 s and flips that are done at once. Here it sees the engines every 5 s (catalogue.py), and where
the roles' replicas have different GPUs a flip is a paired resize (seat.py), which is a cold start. On such a fleet it
waits until what it flipped serves, or it would flip again and again on a view that does not know of the last one: on Azure's
conversations, seen every 15 s, 85 flips and 10 % met against 22 and 36 %. Even so the fixed split meets more there (52 %).

Headroom knob: the size of the fleet, which stands from the first second on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.fleet import Fleet, Phase, Role, Sizing, SloKind
from autoscaler.core.observation import NOT_ASKED, Freshness, Observation, Unknown, believable
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.peers import Flip, Wishes, hold, role_sized_by, time_per_token


@dataclass(frozen=True, slots=True)
class Pressure:
    """Since when decode has asked for replicas without a break, and when it last got one; None: not."""

    since_s: float | None = None
    given_s: float | None = None


@dataclass(frozen=True, slots=True)
class Loads:
    """Load of either kind of role as a share of its SLO, and the TTFT a newcomer would meet at best, as one too."""

    by_kind: Mapping[Sizing, float]
    newcomer: float


@dataclass(frozen=True, slots=True)
class Arrow:
    """The fleet is what it is; its replicas only change roles."""

    profile: ReplicaProfile
    slos_s: Mapping[SloKind, float]
    expand: float = 1.0
    shrink: float = 0.5
    sustained_s: float = 3.0
    cooldown_s: float = 10.0
    freshness: Freshness = field(default=Freshness())
    interval_s: float = 1.0

    def begin(self) -> Pressure:
        """No pressure yet."""
        return Pressure()

    def step(self, observation: Observation, memory: Pressure) -> tuple[Wishes, Pressure]:
        """The fleet as it is, and at most one flip; none while a replica that was flipped starts."""
        fleet, now = observation.fleet, observation.now
        arriving = any(pool.in_phase(Phase.STARTING) for pool in fleet.pools.values())
        loads = None if arriving else self._loads(observation)
        if loads is None:
            return hold(fleet), memory
        queue, batch = (role_sized_by(fleet, kind) for kind in (Sizing.QUEUE, Sizing.BATCH))
        wanted = self._asks_for_decode(loads)
        since_s = (now if memory.since_s is None else memory.since_s) if wanted else None
        rested = memory.given_s is None or now - memory.given_s >= self.cooldown_s
        if since_s is not None and now - since_s >= self.sustained_s and rested and fleet.pools[queue].serving > 1:
            return Wishes(hold(fleet).replicas, (Flip(queue, batch, 1),)), replace(memory, since_s=None, given_s=now)
        after = replace(memory, since_s=since_s)
        if loads.newcomer > 1 and loads.by_kind[Sizing.BATCH] <= self.shrink and fleet.pools[batch].serving > 1:
            return Wishes(hold(fleet).replicas, (Flip(batch, queue, 1),)), after
        return hold(fleet), after

    def _asks_for_decode(self, loads: Loads) -> bool:
        decode = loads.by_kind[Sizing.BATCH]
        return decode >= self.expand or loads.by_kind[Sizing.QUEUE] <= self.shrink <= decode

    def _loads(self, observation: Observation) -> Loads | None:
        """None while the queues or the prompts are not known."""
        fleet, signals = observation.fleet, observation.signals
        queue = role_sized_by(fleet, Sizing.QUEUE)
        work = signals.roles.get(queue)
        tokens = believable(work.tokens_per_request, self.freshness) if work else NOT_ASKED
        if isinstance(tokens, Unknown):
            return None
        prompt_s = self.profile.prefill_time_s(tokens.value)
        held_s = _held_s(observation, fleet, queue, prompt_s)
        if not held_s:
            return None
        ttft_s, tpot_s = self.slos_s[SloKind.TTFT], self.slos_s[SloKind.TPOT]
        context = believable(signals.traffic.prompt_tokens, self.freshness)
        floor_s = self.profile.step_time_s(1, 0.0 if isinstance(context, Unknown) else context.value)
        interval_s = time_per_token(observation)
        decode = 0.0 if interval_s is None else (interval_s - floor_s) / max(1e-9, tpot_s - floor_s)
        prefill = sum(held_s) / len(held_s) / ttft_s
        return Loads({Sizing.QUEUE: prefill, Sizing.BATCH: decode}, (min(held_s) + prompt_s) / ttft_s)


def _held_s(observation: Observation, fleet: Fleet, role: Role, prompt_s: float) -> list[float]:
    """Predicted seconds of work on each replica of the role that reports."""
    gauges = observation.signals.gauges
    if isinstance(gauges, Unknown):
        return []
    seen = (gauges.get(replica.name) for replica in fleet.pools[role].in_phase(Phase.SERVING))
    return [(one.waiting + one.deferred + one.running) * prompt_s for one in seen if one is not None]
