"""Which replicas go or change their role, and by which way?

Who goes is the cluster's choice, not ours: a stateful set takes the highest ordinals (reference/engines.md A.3). So a drain
that is to end in a lower count has its victims given: those at the end. If one of them does another role just now, it must
flip back first. Where replicas have no ordinals (Deployments, hashed groups) the youngest are taken, those that do not serve
before all, and a deletion cost tells the cluster that these are meant.

Who changes its role in place is our choice: one that comes home before any other, and then the lowest ordinals, since a
later scale-in takes the highest (engines.md B.4). One that has changed lately is left alone for the policy's dwell time.

A flip goes by the best way that policy and engines allow (policy/drivers.py); a paired resize grows first where the budget
has room for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from autoscaler.adapters.kubernetes.transactions.living import Living
from autoscaler.core.fleet import Fleet, FlipWay, Phase, Role
from autoscaler.core.transaction import Kind, Transaction, Victim
from autoscaler.policy.behaviour import FlipDriver, FlipOrder
from autoscaler.policy.document import Spec
from autoscaler.policy.drivers import AUTOMATIC, Ground, obstacles

RELABEL_S = 5.0  # until routers have seen a new label: a pod's event and a reconcile
SWITCH_S = 30.0  # an engine that goes over to its new role, its graphs captured (reference/engines.md B.1)
KINDS: Mapping[FlipDriver, Kind] = {FlipDriver.RELABEL: Kind.RELABEL, FlipDriver.ENGINE_SWITCH: Kind.SWITCH}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nothing can be chosen, in one line; `waits`: for something that is under way and will be over."""

    why: str
    waits: bool = False


def last(replicas: Sequence[Living], home: Role, before: int, after: int, busy: frozenset[str]) -> tuple[Victim, ...] | Refused:
    """Who goes when this target's count falls from `before` to `after`, the first to be freed again first. `busy` replicas are
    part of a transaction already.
    """
    own = [one for one in replicas if one.home is home and one.replica.phase is not Phase.DRAINING]
    if all(one.number is None for one in own):
        return _least(own, home, after, busy)
    going = sorted((one for one in own if after <= (one.number or 0) < before), key=lambda one: one.number or 0)
    for one in going:
        if one.replica.name in busy:
            return Refused(f"{one.replica.name} would go, and is on its way already", waits=True)
        if one.role is not home:
            return Refused(f"{one.replica.name} would go, and does {one.role} now: it has to flip back first")
    return tuple(_victim(one) for one in going)


def _least(own: Sequence[Living], home: Role, after: int, busy: frozenset[str]) -> tuple[Victim, ...] | Refused:
    """Where we choose: the youngest, and before all those that do not serve. Whoever does another role is spared."""
    count = max(0, len(own) - after)
    free = [one for one in own if one.role is home and one.replica.name not in busy]
    if len(free) < count:
        waits = any(one.replica.name in busy for one in own)
        return Refused(f"{count} of {len(own)} would go, and {len(free)} are free to: the others flip or drain", waits)
    by_worth = sorted(free, key=lambda one: (not _works(one), one.leader.created_s, one.replica.name))
    return tuple(_victim(one) for one in by_worth[len(free) - count :])


def _works(one: Living) -> bool:
    return one.replica.phase is Phase.SERVING and not one.away


def donors(
    replicas: Sequence[Living], from_role: Role, to_role: Role, count: int, busy: frozenset[str], since_s: float
) -> tuple[Victim, ...]:
    """Up to `count` replicas that may change their role in place: those that have had theirs since `since_s` at least."""
    free = [
        one
        for one in replicas
        if one.role is from_role and _works(one) and one.replica.since_s <= since_s and one.replica.name not in busy
    ]
    free.sort(key=lambda one: (one.home is not to_role, math.inf if one.number is None else one.number, one.replica.name))
    return tuple(_victim(one) for one in free[:count])


def _victim(one: Living) -> Victim:
    return Victim(one.replica.name, one.leader.uid)


def busy(under_way: Sequence[Transaction]) -> frozenset[str]:
    """Replicas that are part of a transaction."""
    return frozenset(victim.name for one in under_way for victim in one.change.victims)


def driver(spec: Spec, cannot: Sequence[str]) -> tuple[FlipDriver | None, tuple[str, ...]]:
    """The best way to flip that this fleet has, and why it is no better one. `cannot`: why its engines do not switch."""
    flip = spec.behaviour.flip
    if not flip.enabled:
        return None, ()
    ground = Ground(spec.engine, spec.routing, spec.pools)
    told: list[str] = []
    for one in AUTOMATIC if flip.driver is FlipDriver.AUTO else (flip.driver,):
        against = obstacles(one, ground)
        if one is FlipDriver.ENGINE_SWITCH and not against:
            against = [f"{one}: {why}" for why in cannot]
        if not against:
            return one, tuple(told)
        told += against
    return None, tuple(told)


def may_switch(spec: Spec) -> bool:
    """Whether it is worth asking engines if they can switch: only where nothing else speaks against it."""
    flip = spec.behaviour.flip
    meant = flip.enabled and flip.driver in (FlipDriver.AUTO, FlipDriver.ENGINE_SWITCH)
    return meant and not obstacles(FlipDriver.ENGINE_SWITCH, Ground(spec.engine, spec.routing, spec.pools))


def ways(spec: Spec, by: FlipDriver | None, fleet: Fleet) -> Mapping[tuple[Role, Role], FlipWay]:
    """How replicas of each role become replicas of each other; empty without a driver."""
    if by is None:
        return {}
    pairs = [(one, other) for one in fleet.pools for other in fleet.pools if one is not other]
    return {pair: _way(spec, by, fleet, *pair) for pair in pairs}


def _way(spec: Spec, by: FlipDriver, fleet: Fleet, source: Role, sink: Role) -> FlipWay:
    flip = spec.behaviour.flip
    if by in KINDS:
        takes_s = RELABEL_S if by is FlipDriver.RELABEL else SWITCH_S
        loses_cache = by is FlipDriver.ENGINE_SWITCH
        return FlipWay(by, takes_s, 1, 1, in_place=True, loses_cache=loses_cache, max_in_flight=flip.max_in_flight)
    give_gpus, take_gpus = fleet.pools[source].gpus_per_replica, fleet.pools[sink].gpus_per_replica
    common = gcd(give_gpus, take_gpus)
    give, take = take_gpus // common, give_gpus // common
    surges = flip.order is FlipOrder.SURGE_FIRST or (flip.order is FlipOrder.AUTO and room(spec, fleet, take * take_gpus))
    return FlipWay(by, spec.forecast.horizon_seconds, give, take, in_place=False, loses_cache=True, grows_first=surges)


def room(spec: Spec, fleet: Fleet, gpus: int) -> bool:
    """Whether the budget says that so many GPUs are free. Without a budget nobody knows, and drain first is the safe order."""
    return spec.gpu_budget is not None and spec.gpu_budget - fleet.gpus_held >= gpus


def kind(way: FlipWay) -> Kind:
    """Which kind of transaction carries out a flip of this way."""
    in_place = KINDS.get(FlipDriver(way.driver))
    return in_place or (Kind.SURGE_FIRST if way.grows_first else Kind.DRAIN_FIRST)
