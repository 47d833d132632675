"""What should this fleet do now? The whole tick, on one screen.

`decide` is a function of its three arguments: the same observation, memory and policy give the same plan (law 12).
The simulator, a dry run, the replay of a production dump and the live controller all call this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.capacity import Shape, Slo, capacity
from autoscaler.core.demand import DemandLimits, demand, load_of, shape_of
from autoscaler.core.explain import RoleView, explain
from autoscaler.core.fleet import ROLE_FACTS, Role, SloKind
from autoscaler.core.forecast import ForecastLimits, Series, advance, forecast
from autoscaler.core.hysteresis import Damping, Track, damp, watch
from autoscaler.core.observation import Freshness, Known, Observation, Unknown
from autoscaler.core.plan import Mode, Plan, PoolLimits, Wish, plan
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.startup import StartUps, learn


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants of one fleet: the sum of every room's limits."""

    mode: Mode
    slos: Mapping[SloKind, Slo]
    pools: Mapping[Role, PoolLimits]
    profile: ReplicaProfile
    gpu_budget: int | None = None
    shape: Shape | None = None
    freshness: Freshness = Freshness()
    forecast: ForecastLimits = ForecastLimits()
    demand: DemandLimits = DemandLimits()
    damping: Mapping[Role, Damping] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a fleet's next tick needs of all ticks before. After a restart it is empty, or what core/state.py kept of it;
    careful either way (law 3).
    """

    shape: Shape | None = None
    series: Mapping[Role, Series] = field(default_factory=dict)
    tracks: Mapping[Role, Track] = field(default_factory=dict)
    startups: Mapping[Role, StartUps] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The plan, the memory for the next tick, and every stage's value for `explain` and the status."""

    plan: Plan
    memory: Memory
    views: Mapping[Role, RoleView]


def decide(observation: Observation, memory: Memory, policy: Policy) -> Decision:
    """One tick of one fleet: observation -> forecast -> capacity -> demand -> target -> plan."""
    shape = shape_of(observation, _expected(memory.shape, policy.shape), policy.freshness)
    views, series, tracks, startups = {}, dict(memory.series), dict(memory.tracks), dict(memory.startups)
    for role in sorted(observation.fleet.pools, key=list(Role).index):  # the plan must not depend on a mapping's order
        startups[role] = learn(startups.get(role, StartUps()), observation.fleet.pools[role], observation.now)
        series[role], views[role] = _size(role, observation, shape, series.get(role, Series()), policy)
        tracks[role], views[role] = _damp(role, observation, views[role], tracks.get(role, Track()), policy)
    wishes = {role: _wish(view) for role, view in views.items()}
    lawful = plan(observation.now, policy.mode, observation.fleet, wishes, policy.pools, policy.gpu_budget)
    findings = tuple(finding for role, view in views.items() for finding in explain(role, view, shape)) + lawful.findings
    return Decision(replace(lawful, findings=findings), Memory(shape, series, tracks, startups), views)


def _expected(seen: Shape | None, written: Shape | None) -> Shape | None:
    """The request to go by where none is measured: the last one seen, or the policy's. How widely requests differ (cv2) is
    never measured, so it is the policy's word as it stands today.
    """
    return replace(seen, cv2=written.cv2) if seen is not None and written is not None else seen or written


def _size(role: Role, observation: Observation, shape: Shape | None, series: Series, policy: Policy) -> tuple[Series, RoleView]:
    """Load, forecast, capacity and demand of one role; a stage whose input is unknown is not reached."""
    facts = ROLE_FACTS[role]
    load = load_of(observation, role, getattr(shape, facts.work.value) if shape else None, policy.freshness)
    if isinstance(load, Unknown):
        return series, RoleView(load, forecast(series, observation.now, policy.forecast))
    if isinstance(load.offered_tokens_per_s, Known):
        series = advance(series, observation.now, load.offered_tokens_per_s.value, policy.forecast)
    ahead = forecast(series, observation.now, policy.forecast)
    replica = capacity(facts.sizing, policy.profile, policy.slos[facts.binding_slo], shape or Shape(1, 1, 1))
    return series, RoleView(load, ahead, replica, demand(load, ahead, replica, policy.demand))


def _damp(role: Role, observation: Observation, view: RoleView, track: Track, policy: Policy) -> tuple[Track, RoleView]:
    """The role's target; without a demand the track only watches."""
    desired, limits = observation.fleet.pools[role].desired, policy.damping.get(role, Damping())
    if view.demand is None:
        return watch(desired, track, limits, observation.now), view
    target, track = damp(view.demand, desired, track, limits, observation.now)
    return track, replace(view, target=target)


def _wish(view: RoleView) -> Wish:
    if view.demand is None:
        return Wish(view.target, 0.0, sighted=False)
    return Wish(view.target, view.demand.replicas, sighted=view.demand.partial is None)
