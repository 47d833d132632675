"""How does one pool stand, and on what numbers was it decided?

A `PoolStatus` takes from each stage of one role what the outside is told of it: what exists, what is asked of it, what is
expected and by which model, how many replicas that makes and what bound them, and how fast its engines were found to be. What
a stage could not say is None, never zero. core/status.py makes a fleet's status of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from autoscaler.core.calibration import Trust
from autoscaler.core.capacity import Slo
from autoscaler.core.decide import Decision
from autoscaler.core.explain import RoleView
from autoscaler.core.fleet import ROLE_FACTS, Pool, Role, Shortage
from autoscaler.core.observation import Coverage, Histogram, Known, Observation, Unknown
from autoscaler.core.policy import Policy
from autoscaler.core.startup import StartUps


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

    `min_in_force` is the least allowed at this hour, `min_replicas` or a calendar floor above it. `forecast_coverage` is the
    share of the latest promises whose upper bound held. `needs` are all that the demand is the largest of, in replicas;
    `demand_soon` what is needed when a flip has taken effect (where none can: the demand), `demand_lasting` the most that is
    needed until a replica that goes now could be back. `speed_measured` and `speed_applied` are the times that work takes, as
    measured and as sized by, over the profile's.
    """

    desired: int
    target: int
    phases: Mapping[str, int]
    gpus: int
    min_replicas: int
    max_replicas: int
    min_in_force: int
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
    forecast_coverage: float | None = None
    forecast_reason: str | None = None
    needs: Mapping[str, float] = field(default_factory=dict)
    demand_soon: float | None = None
    demand_lasting: float | None = None
    signal_age_s: float | None = None
    note: str = ""
    shortages: tuple[Shortage, ...] = ()
    startup_s: float | None = None
    startup_samples: int = 0
    speed_measured: float | None = None
    speed_applied: float | None = None
    speed_confidence: float = 0.0
    speed_windows: int = 0


def pool_status(role: Role, pool: Pool, observation: Observation, decision: Decision, policy: Policy) -> PoolStatus:
    """Fold one role's tick into its status."""
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
        min_in_force=policy.bounds(observation.now)[role].min_replicas,
        **_queues(seen),
        load=load.value if isinstance(load, Known) else None,
        **_ahead(view),
        **_demand(view),
        slo=attainment(signals.latency if signals else None, slo, policy.freshness.min_samples),
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
        "forecast_coverage": ahead.coverage if ahead else None,
        "forecast_reason": ahead.reason if ahead else None,
    }


def _demand(view: RoleView) -> dict[str, Any]:
    needed = view.demand
    if needed is None:
        return {"demand": None, "bound": None}
    return {
        "demand": needed.replicas,
        "bound": needed.bound,
        "needs": needed.needs,
        "demand_soon": needed.replicas if needed.soon is None else needed.soon,
        "demand_lasting": needed.lasting,
    }


def attainment(latency: Histogram | Unknown | None, slo: Slo, min_samples: int) -> Attainment:
    """A latency against its SLO; fewer than `min_samples` requests say nothing."""
    samples = latency.samples if isinstance(latency, Histogram) else 0.0
    if not isinstance(latency, Histogram) or not samples >= min_samples:  # also where samples is NaN
        return Attainment(slo.kind, slo.threshold_s, slo.quantile, None, None, samples)
    share = latency.share_within(slo.threshold_s)
    return Attainment(slo.kind, slo.threshold_s, slo.quantile, latency.quantile(slo.quantile), share and share[0], samples)
