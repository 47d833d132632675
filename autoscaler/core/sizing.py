"""What does one role need: now, soon, and for long enough that less would be regretted?

The stages of one role between the signals and the damper, in order: load, forecast, capacity, demand. A load is looked at
three distances ahead, for three questions.

    the time to act     how many replicas? What is asked for now serves only then: the age of the signals, a tick, and the
                        start-up as learned (core/forecast.py `time_to_act_s`)
    twice that          may one go? A replica that goes and is wanted back within its own start-up was never spare: it would
                        be away, and then start, while the load waits
    a flip's time       which role lacks, for what is there in seconds (only where a cluster can flip), and at twice that
                        whether the other may give: what a flip took, a flip brings back

Series are kept apart for requests, for the work of each role and for the share of prompt tokens that a cache holds: they
move apart, and a role's work is what sizes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoscaler.core.attribution import Attribution
from autoscaler.core.capacity import Capacity, Remembering, Shape, capacity
from autoscaler.core.demand import Load, demand, load_of
from autoscaler.core.explain import RoleView
from autoscaler.core.fleet import ROLE_FACTS, Role, Work
from autoscaler.core.forecast import Series, advance, forecast, time_to_act_s
from autoscaler.core.observation import Known, Observation, Reading, Unknown
from autoscaler.core.policy import Policy
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.startup import StartUps
from autoscaler.core.strain import IDLE_S, Strain, crowded, strain

FIRST_TICK_S = 15.0  # between the first look and the second nobody knows how long a tick is


@dataclass(frozen=True, slots=True)
class Scene:
    """What all roles of one tick have in common. `profile` is the calibrated one, None
    while there is none, `shape` the mean request.
    """

    observation: Observation
    policy: Policy
    profile: ReplicaProfile | None
    shape: Shape | None
    whose: Attribution

    def flip_s(self, role: Role, tick_s: float) -> float | None:
        """Seconds until a flip into this role serves, by the fastest way; None where there is none."""
        ways = self.observation.fleet.flip_ways.items()
        takes_s = min((way.takes_s for (_, sink), way in ways if sink is role), default=None)
        return None if takes_s is None else time_to_act_s(takes_s, tick_s, 0.0, takes_s)


def size(role: Role, scene: Scene, series: Series, startups: StartUps) -> tuple[Series, RoleView]:
    """The role's view up to its demand, and its series after this look. A stage whose input is unknown is not reached."""
    facts, policy, now = ROLE_FACTS[role], scene.policy, scene.observation.now
    work = getattr(scene.shape, facts.work.value) if scene.shape else None
    load = load_of(scene.observation, role, work, policy.freshness, scene.whose.waiting[role], scene.whose.lent[role])
    offered = load.offered_tokens_per_s if isinstance(load, Load) else load
    act_s = time_to_act(series, offered, startups, policy)
    soon_s = scene.flip_s(role, series.step_s or FIRST_TICK_S)
    if isinstance(offered, Known):
        series = advance(series, now, offered.value, policy.forecast, aims_s(act_s, soon_s))
    ahead = forecast(series, now, policy.forecast, act_s)
    if isinstance(load, Unknown) or scene.profile is None:
        return series, RoleView(load, ahead)
    usual = scene.shape.coarse() if scene.shape else Shape(1, 1, 1)
    replica = capacity(facts.sizing, scene.profile, policy.slos[facts.binding_slo], usual, policy.demand.pooling)
    replica = replace(replica, law=Remembering(replica.law))
    strained = _strain(role, scene, load, usual, replica)
    sized = demand(load, ahead, replica, policy.demand, strained, scene.observation.fleet.pools[role].serving)

    def then(ahead_s: float) -> float:
        return demand(load, forecast(series, now, policy.forecast, ahead_s), replica, policy.demand).replicas

    sized = replace(sized, lasting=max(sized.replicas, then(2 * act_s)))
    if soon_s is not None:
        sized = replace(sized, soon=then(soon_s), back=max(then(soon_s), then(2 * soon_s)))
    return series, RoleView(load, ahead, replica, sized)


def aims_s(act_s: float, soon_s: float | None) -> tuple[float, ...]:
    """How far ahead a role's load is looked at, seconds: twice for what starts, and twice for what flips where anything can."""
    return (act_s, 2 * act_s) if soon_s is None else (act_s, 2 * act_s, soon_s, 2 * soon_s)


def time_to_act(series: Series, signal: Reading, startups: StartUps, policy: Policy) -> float:
    """Seconds until what is decided now serves."""
    age_s = signal.age_s if isinstance(signal, Known) else 0.0
    return time_to_act_s(startups.median_s, series.step_s or FIRST_TICK_S, age_s, policy.forecast.horizon_s)


def _strain(role: Role, scene: Scene, load: Load, shape: Shape, replica: Capacity) -> Strain | None:
    """What the role's own latency says; None where it is not measured."""
    observation, policy = scene.observation, scene.policy
    signals, pool = observation.signals.roles.get(role), observation.fleet.pools[role]
    if signals is None or scene.profile is None:
        return None
    slo = policy.slos[ROLE_FACTS[role].binding_slo]
    idle_s = IDLE_S[slo.kind](scene.profile, shape)
    full = crowded(load.waiting, load.running, pool.serving, replica)
    return strain(signals.latency, slo, idle_s, pool, observation.now, policy.demand.strain, crowded=full)


def price(shape: Shape | None, role: Role) -> float:
    """By what share of a role's work losing every cache of it would raise that: cached over uncached tokens of the mean prompt
    where prompts are its work, nothing elsewhere.
    """
    if shape is None or ROLE_FACTS[role].work is not Work.UNCACHED_PROMPT:
        return 0.0
    return max(0.0, shape.prompt_tokens - shape.uncached_tokens) / shape.uncached_tokens
