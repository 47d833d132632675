"""Which numbers may be given to those who act on them, and when?

    pdautoscaler_desired_replicas              what the target is to ask for, where actuation is hpa       mode Auto
    pdautoscaler_recommended_replicas          the same count, under a name that nothing should act on     mode Recommend
    pdautoscaler_forecast_tokens_per_second    upper bound of what comes, in the role's own tokens         mode Auto
    pdautoscaler_slo_headroom                  1 - latency / SLO; below zero: missed                       mode Auto
    pdautoscaler_queue_pressure                replicas needed / replicas that serve                       mode Auto

Each has exactly one series per policy and role, in the policy's namespace, with the labels `policy` and `role`. A reader adds up
what he gets (HPA does), so a sum with a part missing would be a lie: if one of the series that are meant cannot be told, none is.
Waiting does not help where the mode is another one, where the controller writes the count itself, or where nothing matches
(404); it may where a status is stale or says nothing (503). Either way HPA holds the count it has, and never scales in on what
it does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoscaler.companion.failures import Cause, Failure, not_found, unavailable
from autoscaler.companion.told import PoolTold, Told, text, told
from autoscaler.core.action import Mode
from autoscaler.core.fleet import Role
from autoscaler.policy.actuation import DESIRED_METRIC, POLICY_LABEL, ROLE_LABEL, Actuation

ROLES = tuple(Role)  # an enumeration is slow to walk

Objects = Callable[[], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Metric:
    """What is told of a pool in one mode."""

    mode: Mode
    of: Callable[[PoolTold], float | None]
    handed: bool = False  # only of a pool whose count somebody else writes


METRICS: Mapping[str, Metric] = {
    DESIRED_METRIC: Metric(Mode.AUTO, lambda pool: pool.desired, handed=True),
    "pdautoscaler_recommended_replicas": Metric(Mode.RECOMMEND, lambda pool: pool.recommended),
    "pdautoscaler_forecast_tokens_per_second": Metric(Mode.AUTO, lambda pool: pool.forecast_tokens_per_s),
    "pdautoscaler_slo_headroom": Metric(Mode.AUTO, lambda pool: pool.slo_headroom),
    "pdautoscaler_queue_pressure": Metric(Mode.AUTO, lambda pool: pool.pressure),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """One number of one policy's role, and when the controller told it."""

    metric: str
    policy: str
    role: Role
    value: float
    told_s: float

    @property
    def labels(self) -> Mapping[str, str]:
        """What tells this series from others."""
        return {POLICY_LABEL: self.policy, ROLE_LABEL: self.role.value}


def samples(
    objects: Sequence[Mapping[str, Any]],
    now: float,
    namespace: str,
    metric: str,
    meant: Callable[[Mapping[str, str]], bool],
) -> tuple[Sample, ...] | Failure:
    """The series of a metric in a namespace whose labels are `meant`, by policy and role; all of them or none."""
    wanted = METRICS.get(metric)
    if wanted is None:
        return not_found(metric, f"there is no metric {ascii(metric)[:80]} (known: {', '.join(METRICS)})")
    found: list[Sample] = []
    causes: list[tuple[Cause, bool]] = []
    for policy, role in sorted(_series(objects, now, namespace, meant), key=lambda one: (one[0].name, one[1])):
        value = wanted.of(policy.pools[role])
        obstacle = _obstacle(policy, role, wanted, value)
        if obstacle is not None:
            causes.append(obstacle)
        elif value is not None and policy.told_s is not None:
            found.append(Sample(metric, policy.name, role, value, policy.told_s))
    if causes:
        return _failure(metric, causes)
    if not found:
        return not_found(metric, f"no policy and role in namespace {ascii(namespace)[:80]} that the selector means")
    return tuple(found)


def _series(
    objects: Sequence[Mapping[str, Any]], now: float, namespace: str, meant: Callable[[Mapping[str, str]], bool]
) -> Iterator[tuple[Told, Role]]:
    """Those that are meant. An object is read only if one of its series is: there may be hundreds of others."""
    for thing in objects:
        metadata = thing.get("metadata")
        if type(metadata) is not dict or metadata.get("namespace") != namespace:  # 0.1 us; an isinstance of Mapping takes 0.5
            continue
        name = text(metadata, "name")
        roles = [role for role in ROLES if meant({POLICY_LABEL: name, ROLE_LABEL: role})]
        if roles:
            policy = told(thing, now)
            yield from ((policy, role) for role in roles if role in policy.pools)


def _obstacle(policy: Told, role: Role, wanted: Metric, value: float | None) -> tuple[Cause, bool] | None:
    """Why a series is not told, and whether it may be later on."""
    where = f"{policy.name}/{role}"
    if policy.mode is not wanted.mode:
        mode = policy.mode or "unknown"
        return Cause(where, "Mode", f"{where}: mode is {mode}, and this is told in mode {wanted.mode} only"), False
    if policy.stale:
        return Cause(where, "Stale", f"{where}: {policy.doubt}"), True
    if wanted.handed and not policy.pools[role].handed:
        why = f"actuation is {Actuation.DIRECT}, so the controller writes this count itself"
        return Cause(where, "Actuation", f"{where}: {why}"), False
    if value is None:
        return Cause(where, "Unknown", f"{where}: the controller does not know it at present"), True
    return None


def _failure(metric: str, causes: Sequence[tuple[Cause, bool]]) -> Failure:
    first, more = causes[0][0].message, len(causes) - 1
    message = f"{metric} is not told: {first}" + (f" (and {more} more)" if more else "")
    passing = any(later for _, later in causes)
    return (unavailable if passing else not_found)(metric, message, [cause for cause, _ in causes])
