"""What is the state of this fleet, for people and machines?

A `Status` folds one tick into what the outside needs: pools (core/pool_status.py), latencies against their SLO, what is
expected, actions and flips with outcomes, flips under way, the four conditions, and the reason chain. `document` is its one
JSON-ready form; the live page, `--json` and `explain` all read that and nothing else. The record for the next leader
(core/state.py) rides along and is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autoscaler.core.action import Action, Flip, Mode, Outcome, Plan
from autoscaler.core.conditions import Condition, conditions, held
from autoscaler.core.decide import HITS, REQUESTS, Decision
from autoscaler.core.door import Door
from autoscaler.core.explain import TrafficView, traffic_view
from autoscaler.core.fleet import Ended, Flipping, Role, SloKind
from autoscaler.core.observation import Known, Observation
from autoscaler.core.policy import Policy
from autoscaler.core.pool_status import Attainment, PoolStatus, attainment, pool_status
from autoscaler.core.reason import Finding
from autoscaler.core.state import record

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Status:
    """One fleet after one tick. `gpu_budget` in GPUs; None: no budget. `flips` are those under way, the oldest first; `ended`
    drains and flips that are over since the last tick. `asleep`: every pool is asked for nothing; `idle_s`: for how long nobody
    has asked for anything, None where somebody has or that is not known. `rejected_rps` were turned away and are load beside
    `offered_rps`, `door` is what sidecars say of it. `state` is what to keep for the next leader; None: leave what is kept alone.
    """

    key: str
    now: float
    mode: str
    offered_rps: float | None
    offered_source: str
    user_ttft: Attainment | None
    pools: Mapping[Role, PoolStatus]
    outcomes: tuple[Outcome, ...]
    plan: Plan
    conditions: tuple[Condition, ...]
    gpu_budget: int | None = None
    state: Mapping[str, Any] | None = None
    traffic: TrafficView | None = None
    flips: tuple[Flipping, ...] = ()
    ended: tuple[Ended, ...] = ()
    asleep: bool = False
    idle_s: float | None = None
    rejected_rps: float | None = None
    door: Door | None = None


def status_of(observation: Observation, decision: Decision, outcomes: tuple[Outcome, ...], policy: Policy) -> Status:
    """Fold one tick into its status."""
    traffic, fleet, memory = observation.signals.traffic, observation.fleet, decision.memory
    return Status(
        key=fleet.key,
        now=observation.now,
        mode=decision.plan.mode,
        offered_rps=traffic.offered_rps.value if isinstance(traffic.offered_rps, Known) else None,
        offered_source=traffic.source,
        user_ttft=attainment(traffic.ttft, policy.slos[SloKind.TTFT], policy.freshness.min_samples),
        pools={role: pool_status(role, pool, observation, decision, policy, outcomes) for role, pool in fleet.pools.items()},
        outcomes=outcomes,
        plan=decision.plan,
        conditions=conditions(fleet, decision, outcomes),
        gpu_budget=policy.gpu_budget,
        state=record(memory),
        traffic=traffic_view(observation, memory.shape, memory.series.get(REQUESTS), memory.series.get(HITS), policy),
        flips=fleet.flips,
        ended=fleet.ended,
        asleep=all(pool.desired == 0 for pool in fleet.pools.values()),
        rejected_rps=traffic.rejected_rps.value if isinstance(traffic.rejected_rps, Known) else None,
        door=traffic.door,
        idle_s=None if memory.idle_since_s is None else max(0.0, observation.now - memory.idle_since_s),
    )


def unreadable(key: str, now: float, policy: Policy, finding: Finding) -> Status:
    """The status of a fleet that could not be read or decided on at all: Hold, with the reason."""
    plan = Plan(now, policy.mode, (), {}, (finding,))
    return Status(key, now, policy.mode, None, "", None, {}, (), plan, held(finding), policy.gpu_budget)


def refused(key: str, now: float, finding: Finding) -> Status:
    """The status of a policy that cannot be worked by: Off, whatever it asks for."""
    plan = Plan(now, Mode.OFF, (), {}, (finding,))
    return Status(key, now, Mode.OFF, None, "", None, {}, (), plan, held(finding))


def document(status: Status) -> dict[str, Any]:
    """The JSON-ready form. Format 1; additive only: readers ignore what they do not know. No NaN, no infinity."""
    plain: dict[str, Any] = _clean(
        {
            "format": FORMAT,
            "fleet": status.key,
            "now": status.now,
            "mode": status.mode,
            "offered_rps": status.offered_rps,
            "offered_source": status.offered_source,
            "gpu_budget": status.gpu_budget,
            "user_ttft": asdict(status.user_ttft) if status.user_ttft else None,
            "traffic": asdict(status.traffic) if status.traffic else None,
            "pools": {role.value: asdict(pool) for role, pool in status.pools.items()},
            "actions": _deeds(status, Action),
            "flips": _deeds(status, Flip),
            "flips_in_flight": [{**asdict(flip), "age_s": max(0.0, status.now - flip.started_s)} for flip in status.flips],
            "ended": [asdict(one) for one in status.ended],
            "asleep": status.asleep,
            "idle_s": status.idle_s,
            "rejected_rps": status.rejected_rps,
            "door": _told(status.door) if status.door else None,
            "conditions": [asdict(condition) for condition in status.conditions],
            "findings": [asdict(finding) for finding in status.plan.findings],
        }
    )
    return plain


def _told(door: Door) -> dict[str, Any]:
    return {"mode": door.mode, "verdicts": [asdict(one) for one in door.rates()], "hindsight": door.hindsight}


def _deeds(status: Status, kind: type[Action | Flip]) -> list[dict[str, Any]]:
    """What was done of this kind, with how it ended; where nothing was tried, what is planned."""
    if status.outcomes:
        ended = (outcome for outcome in status.outcomes if isinstance(outcome.action, kind))
        return [{**asdict(one.action), "verdict": one.verdict, "detail": one.detail} for one in ended]
    return [asdict(planned) for planned in (*status.plan.flips, *status.plan.actions) if isinstance(planned, kind)]


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
