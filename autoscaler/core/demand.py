"""How many replicas does the load need, and what bound that number?

Load comes first. Offered load is arrivals, not completions, and what was turned away before it could arrive; times the
tokens one request brings to the role. A shape seen earlier stands in while no request completes. What waits is what waits
for this very role (core/attribution.py). Then the needs, in replicas, and the largest wins:

    now       what carries the offered load, or running / most resident: memory that is taken counts too (batch roles)
    QUEUE     the same with the present backlog on top, worked off in bounded time
    FORECAST  what carries the upper bound of the forecast, for when a change has taken effect
    MEASURED  what the measured latency asks for, where the model promises too much (core/strain.py)

What waits is work and not yet memory: by Little's law a backlog that is admitted over the drain time occupies just the
replicas that its tokens need. Were every waiting request to find room at once, 1,800 that gather in a minute's start
would ask for 180 replicas of 10 sequences where 14 carry the load for good.

All times (1 + headroom). Each need rises with load, so more load never lowers demand (law 5).

What is only partly known gives a demand with `partial` set: a lower bound, good enough to grow on, never to shrink
on (law 2). What is not known at all gives no demand: `Unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.capacity import POOLING, Bound, Capacity, Shape
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing
from autoscaler.core.foreseen import Forecast
from autoscaler.core.observation import NOT_ASKED, Freshness, Gap, Histogram, Known, Observation, Reading, Unknown, believable
from autoscaler.core.strain import Strain, StrainLimits

FILLED = 0.85  # of the arrivals: those of a steady load differ by a few per cent from what ends in the same minute
SHAPE_FIELDS = 3  # prompt, uncached and output tokens: a shape is whole or it is not a shape


@dataclass(frozen=True, slots=True)
class DemandLimits:
    """Knobs. `headroom`: extra share on purpose; none, since the laws leave room for chance and the forecast for error: on
    steady load 0, 5 and 10 % all kept every promise, for ever more GPUs. `pooling`: how near routing comes to one shared
    queue (core/queueing.py). `panic`: with so many times what serves needed at once, patience is of no use.
    `spare_up_to`: one replica more than needed where no more than so many are needed (N+1).

    `drain_s`: in what time the present backlog shall be gone, counted from when a change takes effect (the forecast's
    horizon), since replicas that are not there yet drain nothing. Counted from now, a rise from 4 to 10 replicas' worth of
    load with 300 s to start one winds up to 52 replicas; so, to 19.
    """

    headroom: float = 0.0
    drain_s: float = 30.0
    pooling: float = POOLING
    panic: float = 2.0
    spare_up_to: int = 0
    strain: StrainLimits = StrainLimits()


@dataclass(frozen=True, slots=True)
class Load:
    """What one role is asked to do. `offered_tokens_per_s` may be unknown while the queues are known.

    `waiting` are requests that wait for this role, `running` those in its reporting pods; `partial` tells what is missing,
    None if nothing. Of the offered requests `rejected_rps` were turned away. `lent` wait in its pods for something else.
    """

    offered_tokens_per_s: Reading
    waiting: float
    running: float
    tokens_per_request: float
    partial: Unknown | None
    rejected_rps: Reading = NOT_ASKED
    lent: float = 0.0


@dataclass(frozen=True, slots=True)
class Demand:
    """Replicas needed (a fraction on purpose: rounding is the damper's job), what bound it, and every need beside. `panic`:
    several times what serves is needed at once. `backlog` is what of it the present backlog asks for.

    `lasting` is the most that is needed until a replica that goes now could be back, `soon` what is needed when a flip has
    taken effect, `back` the most until one could be undone; None where nobody asked.
    """

    replicas: float
    bound: Bound
    partial: Unknown | None = None
    needs: Mapping[str, float] = field(default_factory=dict)
    panic: bool = False
    backlog: float = 0.0
    lasting: float | None = None
    soon: float | None = None
    back: float | None = None

    @property
    def most(self) -> float:
        """What may not be shrunk below."""
        return self.replicas if self.lasting is None else max(self.lasting, self.replicas)


def load_of(
    observation: Observation,
    role: Role,
    tokens_per_request: float | None,
    freshness: Freshness,
    waiting: float | None = None,
    lent: float = 0.0,
) -> Load | Unknown:
    """The load of one role, or why nothing at all is known. `tokens_per_request` is the shape's, measured or remembered;
    `waiting` what is attributed to the role, what its own pods report if not given; `lent` what is not, of theirs.
    """
    seen = observation.coverage(role, freshness)
    if seen.expected and not seen.reporting:
        return seen.unknown or Unknown(Gap.MISSING)
    if isinstance(observation.signals.gauges, Unknown):
        return observation.signals.gauges
    arrivals = believable(observation.signals.traffic.offered_rps, freshness)
    turned_away = believable(observation.signals.traffic.rejected_rps, freshness)
    rejected_rps = turned_away.value if isinstance(turned_away, Known) else 0.0
    if tokens_per_request is None:
        idle = isinstance(arrivals, Known) and arrivals.value + rejected_rps == 0 and seen.waiting + seen.running == 0
        if not idle:
            return Unknown(Gap.MISSING, "no request has completed yet and the policy names no request shape")
        tokens_per_request = 0.0
    offered: Reading = arrivals
    if isinstance(arrivals, Known):
        coming = (arrivals.value + rejected_rps) * _share(observation, role, freshness)
        offered = Known(coming * tokens_per_request, arrivals.age_s)
    partial = seen.unknown or (offered if isinstance(offered, Unknown) else None)
    queue = seen.waiting if waiting is None else waiting
    return Load(offered, queue, seen.running, tokens_per_request, partial, turned_away, lent)


def _share(observation: Observation, role: Role, freshness: Freshness) -> float:
    """Of all requests those that come to this role: some skip the one that they would queue for."""
    direct = believable(observation.signals.traffic.direct_share, freshness)
    skipped = direct.value if isinstance(direct, Known) and ROLE_FACTS[role].sizing is Sizing.QUEUE else 0.0
    return 1.0 - min(1.0, skipped)


def shape_of(
    observation: Observation, remembered: Shape | None, freshness: Freshness, hasty: frozenset[Role] = frozenset()
) -> Shape | None:
    """The mean request as measured now; what is not measured stays as remembered; None while nothing is known. Of the `hasty`
    roles (`still_filling`) less work than is remembered is not believed.

    At least one token each: an engine computes one even of a prompt that is all cached, and work without tokens would
    size a role to nothing.
    """
    measured = {"prompt_tokens": believable(observation.signals.traffic.prompt_tokens, freshness)}
    for role, signals in observation.signals.roles.items():
        measured[ROLE_FACTS[role].work.value] = believable(signals.tokens_per_request, freshness)
    known = {name: max(1.0, reading.value) for name, reading in measured.items() if isinstance(reading, Known)}
    if remembered is not None:
        doubted = {ROLE_FACTS[role].work.value for role in hasty} & known.keys()
        return replace(remembered, **known | {name: max(known[name], getattr(remembered, name)) for name in doubted})
    return Shape(**known) if len(known) == SHAPE_FIELDS else None


def still_filling(observation: Observation, window_s: float) -> frozenset[Role]:
    """The roles of which clearly fewer requests ended in the last `window_s` than came. Where requests share a step the short
    ones end first: of a load that begins or rises those that have ended tell of shorter answers than are asked for.
    """
    arrivals = observation.signals.traffic.offered_rps
    if not isinstance(arrivals, Known):
        return frozenset()
    ended = {role: signals.latency for role, signals in observation.signals.roles.items()}
    return frozenset(
        role
        for role, latency in ended.items()
        if ROLE_FACTS[role].sizing is Sizing.BATCH
        and isinstance(latency, Histogram)
        and latency.samples < FILLED * arrivals.value * window_s
    )


def demand(
    load: Load,
    forecast: Forecast | None,
    replica: Capacity,
    limits: DemandLimits,
    strained: Strain | None = None,
    serving: int | None = None,
) -> Demand:
    """Replicas this load needs: the largest of the needs in the module's head, times (1 + headroom). `serving`: how many
    replicas take work now, None where that is not to be judged.
    """
    offered = load.offered_tokens_per_s.value if isinstance(load.offered_tokens_per_s, Known) else 0.0
    drain_s = limits.drain_s + (forecast.horizon_s if forecast else 0.0)
    backlog_per_s = load.waiting * load.tokens_per_request / drain_s
    resident = load.running / replica.max_resident if replica.max_resident is not None else 0.0
    now = max(replica.replicas(offered), resident)
    present = offered if now > resident else replica.carried(resident)
    queue = max(now, replica.replicas(present + backlog_per_s)) if backlog_per_s else now
    needs = {replica.bound: now, Bound.QUEUE: queue}
    if forecast is not None:
        needs[Bound.FORECAST] = replica.replicas(forecast.upper)
    if strained is not None:
        needs[Bound.MEASURED] = strained.replicas(limits.strain)
    bound = max(needs, key=needs.__getitem__)
    panic = serving is not None and needs[Bound.QUEUE] > limits.panic * max(1, serving)
    told = {str(name): need for name, need in needs.items()}
    replicas = _spared(needs[bound] * (1 + limits.headroom), limits.spare_up_to)
    return Demand(replicas, bound, load.partial, told, panic, needs[Bound.QUEUE] - now)


def _spared(replicas: float, up_to: int) -> float:
    """One more where few are needed, for the loss of one of two is half of the pool. 2.4 is 3.4 and 3.4 is 4 for up to 3; it
    still never falls as the load rises.
    """
    return max(replicas, min(replicas + 1, up_to + 1.0)) if up_to and replicas > 0 else replicas
