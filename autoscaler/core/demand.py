"""How many replicas does the load need, and what bound that number?

Load comes first. Offered load is arrivals, not completions, times the tokens one request brings to the role; a shape
seen earlier stands in while no request completes. Then three needs, in replicas, and the largest wins:

    now       offered / capacity, or running / most resident    memory that is taken already counts too (batch roles)
    QUEUE     now + backlog / drain time / capacity             the present backlog, worked off in bounded time
    FORECAST  upper bound of the forecast / capacity            what will be needed when a change has taken effect

What waits is work and not yet memory: by Little's law a backlog that is admitted over the drain time occupies just the
replicas that its tokens need. Were every waiting request to find room at once, 1,800 that gather in a minute's start
would ask for 180 replicas of 10 sequences where 14 carry the load for good.

all times (1 + headroom). Each need rises with load, so more load never lowers demand (law 5).

What is only partly known gives a demand with `partial` set: a lower bound, good enough to grow on, never to shrink
on (law 2). What is not known at all gives no demand: `Unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.capacity import Bound, Capacity, Shape
from autoscaler.core.fleet import ROLE_FACTS, Role
from autoscaler.core.forecast import Forecast
from autoscaler.core.observation import Freshness, Gap, Known, Observation, Reading, Unknown, believable

SHAPE_FIELDS = 3  # prompt, uncached and output tokens: a shape is whole or it is not a shape


@dataclass(frozen=True, slots=True)
class DemandLimits:
    """Knobs. `headroom`: extra share on purpose. `drain_s`: in what time the present backlog shall be gone, counted from
    when a change takes effect (the forecast's horizon), since replicas that are not there yet drain nothing. Counted
    from now, a rise from 4 to 10 replicas' worth of load with 300 s to start one winds up to 52 replicas; so, to 19.
    """

    headroom: float = 0.1
    drain_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one role is asked to do. `offered_tokens_per_s` may be unknown while the queues are known.

    `waiting` and `running` are requests over the reporting pods; `partial` tells what is missing, None if nothing.
    """

    offered_tokens_per_s: Reading
    waiting: float
    running: float
    tokens_per_request: float
    partial: Unknown | None


@dataclass(frozen=True, slots=True)
class Demand:
    """Replicas needed (a fraction on purpose: rounding is the damper's job), what bound it, and every need beside."""

    replicas: float
    bound: Bound
    partial: Unknown | None = None
    needs: Mapping[str, float] = field(default_factory=dict)


def load_of(observation: Observation, role: Role, tokens_per_request: float | None, freshness: Freshness) -> Load | Unknown:
    """The load of one role, or why nothing at all is known. `tokens_per_request` is the shape's, measured or remembered."""
    seen = observation.coverage(role, freshness)
    if seen.expected and not seen.reporting:
        return seen.unknown or Unknown(Gap.MISSING)
    if isinstance(observation.signals.gauges, Unknown):
        return observation.signals.gauges
    arrivals = believable(observation.signals.traffic.offered_rps, freshness)
    if tokens_per_request is None:
        idle = isinstance(arrivals, Known) and arrivals.value == 0 and seen.waiting + seen.running == 0
        if not idle:
            return Unknown(Gap.MISSING, "no request has completed yet and the policy names no request shape")
        tokens_per_request = 0.0
    offered: Reading = arrivals if isinstance(arrivals, Unknown) else Known(arrivals.value * tokens_per_request, arrivals.age_s)
    partial = seen.unknown or (offered if isinstance(offered, Unknown) else None)
    return Load(offered, seen.waiting, seen.running, tokens_per_request, partial)


def shape_of(observation: Observation, remembered: Shape | None, freshness: Freshness) -> Shape | None:
    """The mean request as measured now; what is not measured stays as remembered; None while nothing is known.

    At least one token each: an engine computes one even of a prompt that is all cached, and work without tokens would
    size a role to nothing.
    """
    measured = {"prompt_tokens": believable(observation.signals.traffic.prompt_tokens, freshness)}
    for role, signals in observation.signals.roles.items():
        measured[ROLE_FACTS[role].work.value] = believable(signals.tokens_per_request, freshness)
    known = {name: max(1.0, reading.value) for name, reading in measured.items() if isinstance(reading, Known)}
    if remembered is not None:
        return replace(remembered, **known)
    return Shape(**known) if len(known) == SHAPE_FIELDS else None


def demand(load: Load, forecast: Forecast | None, replica: Capacity, limits: DemandLimits) -> Demand:
    """Replicas this load needs: the largest of the needs in the module's head, times (1 + headroom)."""
    per_s = replica.tokens_per_s
    offered = load.offered_tokens_per_s.value if isinstance(load.offered_tokens_per_s, Known) else 0.0
    drain_s = limits.drain_s + (forecast.horizon_s if forecast else 0.0)
    backlog_per_s = load.waiting * load.tokens_per_request / drain_s
    resident = load.running / replica.max_resident if replica.max_resident is not None else 0.0
    now = max(offered / per_s, resident)
    needs = {replica.bound: now, Bound.QUEUE: now + backlog_per_s / per_s}
    if forecast is not None:
        needs[Bound.FORECAST] = forecast.upper / per_s
    bound = max(needs, key=needs.__getitem__)
    replicas = needs[bound] * (1 + limits.headroom)
    return Demand(replicas, bound, load.partial, {str(name): need for name, need in needs.items()})
