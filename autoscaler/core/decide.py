"""What should this fleet do now? The whole tick, on one screen.

`decide` is a function of its three arguments: the same observation, memory and policy give the same plan (law 12).
The simulator, a dry run, the replay of a production dump and the live controller all call this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.action import Flip, Mode, Plan
from autoscaler.core.attribution import attribute
from autoscaler.core.calibration import Calibration, calibrated
from autoscaler.core.calibration import learn as learn_speed
from autoscaler.core.capacity import Bound, Shape
from autoscaler.core.demand import Demand, shape_of, still_filling
from autoscaler.core.explain import RoleView, explain, explain_floors, explain_late, explain_traffic, traffic_view
from autoscaler.core.fleet import Role
from autoscaler.core.flip import FlipTrack, Outlook, Room, choose, follow, remember
from autoscaler.core.forecast import Series, advance, forecast
from autoscaler.core.hits import as_forecast, quarantined, share_of
from autoscaler.core.hysteresis import Damping, Target, Track, damp, watch
from autoscaler.core.idle import idle_since, may_sleep
from autoscaler.core.observation import Known, Observation, believable
from autoscaler.core.plan import Wish, plan, sleep
from autoscaler.core.policy import Policy
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.reason import Finding
from autoscaler.core.resident import held_tokens, with_held
from autoscaler.core.sizing import Scene, price, size
from autoscaler.core.startup import StartUps, learn

HASTY_S = 300.0  # how long those that end first are not taken for all; then answers may really have become shorter
REQUESTS, HITS = "requests", "cached-share"  # series beside those of the roles' work
UNSEEN, UNTRACKED, UNMADE = Series(), Track(), StartUps()  # what is remembered at the first look


@dataclass(frozen=True, slots=True)
class Memory:
    """What a fleet's next tick needs of all ticks before. After a restart it is empty, or what core/state.py kept of it;
    careful either way (law 3). `series` are those of the roles' work, by role, and `REQUESTS` and `HITS`.
    """

    shape: Shape | None = None
    series: Mapping[str, Series] = field(default_factory=dict)
    tracks: Mapping[Role, Track] = field(default_factory=dict)
    startups: Mapping[Role, StartUps] = field(default_factory=dict)
    speeds: Mapping[Role, Calibration] = field(default_factory=dict)
    flips: FlipTrack = field(default_factory=FlipTrack)
    idle_since_s: float | None = None
    held_tokens: float | None = None
    filled_s: float | None = None
    looked_s: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The plan, the memory for the next tick, and every stage's value for `explain` and the status."""

    plan: Plan
    memory: Memory
    views: Mapping[Role, RoleView]


def decide(observation: Observation, memory: Memory, policy: Policy) -> Decision:
    """One tick of one fleet: observation -> forecast -> capacity -> demand -> target -> flip or scale -> plan."""
    now, fleet = observation.now, observation.fleet
    roles = sorted(fleet.pools, key=list(Role).index)  # the plan must not depend on a mapping's order
    # By the speed known before this look: more load now must not lower demand by what it teaches (law 5).
    profile = calibrated(policy.profile, memory.speeds, policy.calibration)
    memory = _learnt(roles, observation, memory, policy)
    whose = attribute(observation, policy.slos, policy.freshness)
    scene = Scene(observation, policy, profile if isinstance(profile, ReplicaProfile) else None, memory.shape, whose)
    views, series, tracks = {}, dict(memory.series), {}
    for role in roles:
        series[role], view = size(role, scene, series.get(role, UNSEEN), memory.startups[role])
        tracks[role], target = _damp(role, observation, view.demand, memory.tracks.get(role, UNTRACKED), policy)
        views[role] = replace(view, target=target, speed=memory.speeds[role])
    flip, flips, told = _flip(scene, views, replace(memory, tracks=tracks))
    lawful = _plan(scene, memory, views, flip)
    for begun in lawful.flips if policy.mode is Mode.AUTO else ():
        flips = remember(flips, begun, policy.flip, now)
    trust = policy.calibration.trust
    stages = (finding for role in roles for finding in explain(role, views[role], memory.shape, trust))
    seen = traffic_view(observation, memory.shape, series.get(REQUESTS), series.get(HITS), policy)
    fleetwide = (*explain_late(whose), *explain_traffic(seen))
    findings = (*fleetwide, *stages, *told, *explain_floors(policy, now), *lawful.findings)
    memory = replace(memory, series=series, tracks=tracks, flips=flips)
    return Decision(replace(lawful, findings=findings), memory, views)


def _learnt(roles: list[Role], observation: Observation, memory: Memory, policy: Policy) -> Memory:
    """What this look teaches before anything is sized: start-up times, the mean request, the engines' speed, idleness."""
    now, pools = observation.now, observation.fleet.pools
    startups = {role: learn(memory.startups.get(role, UNMADE), pools[role], now) for role in roles}
    filling = still_filling(observation, policy.calibration.window_s)
    filled_s = now if not filling or memory.filled_s is None else min(memory.filled_s, now)
    hasty = filling if now - filled_s < HASTY_S else frozenset()
    measured = shape_of(observation, _expected(memory.shape, policy.shape), policy.freshness, hasty)
    measured = with_held(measured, memory.held_tokens)
    shape, series = _shape(measured, observation, memory, policy)
    gap_s = 0.0 if memory.looked_s is None else now - memory.looked_s
    held = held_tokens(memory.held_tokens, gap_s, observation, policy.profile.kv_tokens, policy.freshness)
    speeds = {role: _speed(role, observation, measured, memory.speeds.get(role), policy) for role in roles}
    idle_s = idle_since(memory.idle_since_s, observation, policy.freshness)
    return replace(
        memory,
        shape=shape,
        series=series,
        startups=startups,
        speeds=speeds,
        idle_since_s=idle_s,
        held_tokens=held,
        filled_s=filled_s,
        looked_s=now,
    )


def _speed(role: Role, observation: Observation, shape: Shape | None, before: Calibration | None, policy: Policy) -> Calibration:
    return learn_speed(before, role, observation, policy.profile, policy.calibration, shape=shape, freshness=policy.freshness)


def _expected(seen: Shape | None, written: Shape | None) -> Shape | None:
    """The request to go by where none is measured: the last one seen, or the policy's. How widely requests differ (cv2) is
    never measured, so it is the policy's word as it stands today.
    """
    return replace(seen, cv2=written.cv2) if seen is not None and written is not None else seen or written


def _shape(
    measured: Shape | None, observation: Observation, memory: Memory, policy: Policy
) -> tuple[Shape | None, Mapping[str, Series]]:
    """The mean request, with its cached share as forecast while a measured one would tell of our own doing; and the series of
    what concerns the whole fleet.
    """
    now, series = observation.now, dict(memory.series)
    arrivals = believable(observation.signals.traffic.offered_rps, policy.freshness)
    if isinstance(arrivals, Known):
        series[REQUESTS] = advance(series.get(REQUESTS, UNSEEN), now, arrivals.value, policy.forecast)
    if measured is None:
        return None, series
    hits = series.get(HITS, UNSEEN)
    if quarantined(observation.fleet, now, policy.demand.strain.settle_s):
        return as_forecast(measured, forecast(hits, now, policy.forecast)), series
    series[HITS] = advance(hits, now, share_of(measured), policy.forecast)
    return measured, series


def _damp(
    role: Role, observation: Observation, needed: Demand | None, track: Track, policy: Policy
) -> tuple[Track, Target | None]:
    """The role's target; without a demand the track only watches."""
    desired, limits = observation.fleet.pools[role].desired, policy.damping.get(role) or Damping()
    if needed is None:
        return watch(desired, track, limits, observation.now), None
    target, track = damp(needed, desired, track, limits, observation.now)
    return track, target


def _flip(scene: Scene, views: Mapping[Role, RoleView], memory: Memory) -> tuple[Flip | None, FlipTrack, tuple[Finding, ...]]:
    """The flip to begin now, if any, what to remember of flips, and why."""
    observation, policy = scene.observation, scene.policy
    fleet, now = observation.fleet, observation.now
    outlooks = {
        role: _outlook(role, view.demand, scene, memory.tracks[role]) for role, view in views.items() if view.demand is not None
    }
    track = follow(memory.flips, fleet, outlooks, policy.flip, now)
    free_gpus = None if policy.gpu_budget is None else policy.gpu_budget - fleet.gpus_held
    starts_s = {role: memory.startups[role].median_s or policy.forecast.horizon_s for role in views}
    flip, told = choose(now, fleet, outlooks, Room(free_gpus, starts_s), policy.flip, track)
    return flip, track, told


def _outlook(role: Role, needed: Demand, scene: Scene, track: Track) -> Outlook:
    soon = needed.replicas if needed.soon is None else needed.soon
    seen_since_s = track.seen_since_s if needed.partial is None else None
    lasting = needed.most if needed.back is None else needed.back
    steady = max((need for bound, need in needed.needs.items() if bound != Bound.QUEUE), default=None)
    return Outlook(soon, lasting, price(scene.shape, role), seen_since_s, steady)


def _plan(scene: Scene, memory: Memory, views: Mapping[Role, RoleView], flip: Flip | None) -> Plan:
    observation, policy = scene.observation, scene.policy
    now, fleet = observation.now, observation.fleet
    if may_sleep(memory.idle_since_s, observation, policy.zero_after_s):
        return sleep(now, policy.mode, fleet)
    wishes = {role: _wish(view) for role, view in views.items()}
    return plan(now, policy.mode, fleet, wishes, policy.bounds(now), policy.gpu_budget, flip=flip)


def _wish(view: RoleView) -> Wish:
    if view.demand is None:
        return Wish(view.target, 0.0, sighted=False)
    return Wish(view.target, view.demand.replicas, sighted=view.demand.partial is None)
