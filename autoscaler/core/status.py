"""What is the state of this fleet, for people and machines?

A `Status` folds one tick into what the outside needs: pools, latencies against their SLO, actions with outcomes, the four
conditions, and the reason chain. `document` is its one JSON-ready form; the live page, `--json` and `explain` all read
that and nothing else. The record for the next leader (core/state.py) rides along and is no part of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autoscaler.core.action import Mode, Outcome, Plan
from autoscaler.core.calibration import Trust
from autoscaler.core.capacity import Slo
from autoscaler.core.conditions import Condition, conditions, held
from autoscaler.core.decide import Decision
from autoscaler.core.explain import RoleView
from autoscaler.core.fleet import ROLE_FACTS, Pool, Role, Shortage, SloKind
from autoscaler.core.observation import Coverage, Histogram, Known, Observation, Unknown
from autoscaler.core.policy import Policy
from autoscaler.core.reason import Finding
from autoscaler.core.startup import StartUps
from autoscaler.core.state import record

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Attainment:
    """One latency against its SLO: the percentile in seconds, the share of requests within it (a lower bound where
    the SLO lies between bucket edges) and the samples behind both. None: too few samples to say.
    """

    kind: str
    threshold_s: float
    quantile: float
    value_s: float | None
    share: float | None
    samples: float


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """One pool at one tick. `load` and `forecast` in tokens per second of the role's own work; `forecast_error` is the
    model's mean absolute error in the same unit; `signal_age_s` the age of the oldest reading that was believed; `note` and
    `shortages` what the cluster says about the pool; `startup_s` the median time a new replica takes to serve, learned from
    `startup_samples` of them.
    """

    desired: int
    target: int
    phases: Mapping[str, int]
    gpus: int
    min_replicas: int
    max_replicas: int
    waiting: float | None
    running: float | None
    kv_usage: float | None
    load: float | None
    forecast_mean: float | None
    forecast_upper: float | None
    forecast_horizon_s: float | None
    forecast_model: str | None
    demand: float | None
    bound: str | None
    slo: Attainment
    forecast_error: float | None = None
    signal_age_s: float | None = None
    note: str = ""
    shortages: tuple[Shortage, ...] = ()
    startup_s: float | None = None
    startup_samples: int = 0
    speed_measured: float | None = None
    speed_applied: float | None = None
    speed_confidence: float = 0.0
    speed_windows: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """One fleet after one tick. `gpu_budget` in GPUs; None: no budget. `state` is what to keep for the next leader; None:
    leave what is kept alone.
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


def status_of(observation: Observation, decision: Decision, outcomes: tuple[Outcome, ...], policy: Policy) -> Status:
    """Fold one tick into its status."""
    traffic = observation.signals.traffic
    return Status(
        key=observation.fleet.key,
        now=observation.now,
        mode=decision.plan.mode,
        offered_rps=traffic.offered_rps.value if isinstance(traffic.offered_rps, Known) else None,
        offered_source=traffic.source,
        user_ttft=_attainment(traffic.ttft, policy.slos[SloKind.TTFT], policy.freshness.min_samples),
        pools={role: _pool(role, pool, observation, decision, policy) for role, pool in observation.fleet.pools.items()},
        outcomes=outcomes,
        plan=decision.plan,
        conditions=conditions(observation.fleet, decision, outcomes),
        gpu_budget=policy.gpu_budget,
        state=record(decision.memory),
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
            "pools": {role.value: asdict(pool) for role, pool in status.pools.items()},
            "actions": [_action(outcome) for outcome in status.outcomes] or [asdict(a) for a in status.plan.actions],
            "conditions": [asdict(condition) for condition in status.conditions],
            "findings": [asdict(finding) for finding in status.plan.findings],
        }
    )
    return plain


def _action(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome.action), "verdict": outcome.verdict, "detail": outcome.detail}


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _pool(role: Role, pool: Pool, observation: Observation, decision: Decision, policy: Policy) -> PoolStatus:
    view, limits = decision.views[role], policy.pools[role]
    seen = observation.coverage(role, policy.freshness)
    load = None if isinstance(view.load, Unknown) else view.load.offered_tokens_per_s
    signals = observation.signals.roles.get(role)
    slo = policy.slos[ROLE_FACTS[role].binding_slo]
    startups = decision.memory.startups.get(role, StartUps())
    phases: dict[str, int] = {}
    for replica in pool.replicas:
        phases[replica.phase.value] = phases.get(replica.phase.value, 0) + 1
    return PoolStatus(
        desired=pool.desired,
        target=decision.plan.targets.get(role, pool.desired),
        phases=phases,
        gpus=pool.held * pool.gpus_per_replica,
        min_replicas=limits.min_replicas,
        max_replicas=limits.max_replicas,
        **_queues(seen),
        load=load.value if isinstance(load, Known) else None,
        **_ahead(view),
        demand=view.demand.replicas if view.demand else None,
        bound=view.demand.bound if view.demand else None,
        slo=_attainment(signals.latency if signals else None, slo, policy.freshness.min_samples),
        signal_age_s=seen.age_s if seen.reporting else None,
        note=pool.note,
        shortages=pool.shortages,
        startup_s=startups.median_s,
        startup_samples=len(startups.samples),
        **_speed(view, policy.calibration.trust),
    )


def _queues(seen: Coverage) -> dict[str, Any]:
    known = seen.reporting > 0
    names = ("waiting", "running", "kv_usage")
    return {name: getattr(seen, name) if known else None for name in names}


def _speed(view: RoleView, trust: Trust) -> dict[str, Any]:
    """Times measured, and times sized by, over those of the policy's profile; None: not measured, or not sized at all."""
    speed = view.speed
    if speed is None:
        return {}
    applied = 1.0 if trust is Trust.PROFILE else speed.applied
    return {
        "speed_measured": speed.measured,
        "speed_applied": None if trust is Trust.NOTHING and speed.trusted is None else applied,
        "speed_confidence": speed.confidence,
        "speed_windows": speed.fit.windows,
    }


def _ahead(view: RoleView) -> dict[str, Any]:
    ahead = view.forecast
    return {
        "forecast_mean": ahead.mean if ahead else None,
        "forecast_upper": ahead.upper if ahead else None,
        "forecast_horizon_s": ahead.horizon_s if ahead else None,
        "forecast_model": ahead.model if ahead else None,
        "forecast_error": ahead.error if ahead else None,
    }


def _attainment(latency: Histogram | Unknown | None, slo: Slo, min_samples: int) -> Attainment:
    samples = latency.samples if isinstance(latency, Histogram) else 0.0
    if not isinstance(latency, Histogram) or not samples >= min_samples:  # also where samples is NaN
        return Attainment(slo.kind, slo.threshold_s, slo.quantile, None, None, samples)
    share = latency.share_within(slo.threshold_s)
    return Attainment(slo.kind, slo.threshold_s, slo.quantile, latency.quantile(slo.quantile), share and share[0], samples)
