"""How does one pool stand, and on what numbers was it decided?

A `PoolStatus` takes from each stage of one role what the outside is told of it: what exists, what is asked of it, what is
expected and by which model, how many replicas that makes and what bound them, and how fast its engines were found to be. What
a stage could not say is None, never zero. core/status.py makes a fleet's status of these.

Three numbers are for others, who decide on them whether the fleet can take more (an admission policy, a dashboard, KEDA):

    headroom       carried(serving) - upper, tokens per second of the role's own work: what the replicas that serve now carry
                   within the SLO (core/capacity.py), beyond the upper bound of the forecast over its horizon (core/forecast.py).
                   Negative: the forecast is above what serves
    pressure       demand / serving: replicas that the load needs over those that serve. Above 1: too few serve
    slo_headroom   1 - latency / SLO, both at the SLO's percentile. 0.25: a quarter of what may pass is left; below 0: broken

They are told of what was seen in full alone: of a part of the replicas a headroom would be too large and a pressure too low.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from autoscaler.core.action import Outcome
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
    measured and as sized by, over the profile's. `headroom_tokens_per_s`, `pressure` and `slo_headroom` as in the module's head.

    `published` is the count that others are told to write, where it is not ours to write; None: we write `target`.
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
    headroom_tokens_per_s: float | None = None
    pressure: float | None = None
    slo_headroom: float | None = None
    published: int | None = None


def pool_status(
    role: Role, pool: Pool, observation: Observation, decision: Decision, policy: Policy, outcomes: Iterable[Outcome] = ()
) -> PoolStatus:
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
    promise = attainment(signals.latency if signals else None, slo, policy.freshness.min_samples)
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
        slo=promise,
        signal_age_s=seen.age_s if seen.reporting else None,
        note=pool.note,
        shortages=pool.shortages,
        startup_s=startups.median_s,
        startup_samples=len(startups.samples),
        **_speed(view, policy.calibration.trust),
        headroom_tokens_per_s=headroom_tokens_per_s(view, pool.serving),
        pressure=pressure(view, pool.serving),
        slo_headroom=None if promise.value_s is None else 1 - promise.value_s / promise.threshold_s,
        published=_published(role, pool, outcomes),
    )


def headroom_tokens_per_s(view: RoleView, serving: int) -> float | None:
    """Tokens per second that `serving` replicas carry within the SLO beyond the forecast's upper bound; may be negative. None
    where the load, the forecast or the capacity is not known in full, or no number of replicas meets the SLO.
    """
    if not _in_full(view) or view.forecast is None or view.capacity is None or not view.capacity.feasible:
        return None
    return view.capacity.carried(serving) - view.forecast.upper


def pressure(view: RoleView, serving: int) -> float | None:
    """Replicas that the load needs, per replica that serves. None where the load is not known in full, or nothing serves."""
    return view.demand.replicas / serving if _in_full(view) and view.demand is not None and serving else None


def _in_full(view: RoleView) -> bool:
    return not isinstance(view.load, Unknown) and view.load.partial is None


def _published(role: Role, pool: Pool, outcomes: Iterable[Outcome]) -> int | None:
    """What others are told to write, by the last write of this tick that came to an answer, else as it stood before."""
    if pool.handed is None:
        return None
    told = [one.published for one in outcomes if one.published is not None and one.action.roles == (role,)]
    return told[-1] if told else pool.handed.published


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
