"""Whose work is it that waits?

Work waits where it is, not where it lacks something: prompts stand in front of a prefill replica whose memory is full of
prompts that decode has no room for, and in front of decode when rooms are held for prompts that prefill has not computed.
Whoever scales the pool in front of which the queue stands buys the wrong GPUs. So, before anything is sized, per role:

    own        what waits for this role's computing or memory. It is this role's backlog.
    deferred   what its pods say waits for another role or for the transfer (core/observation.py)
    held       a batch role's places may be held by requests that are deferred; of those that wait for a place, the share
               deferred / (deferred + running) waits for whoever keeps the places from moving

What is deferred or held goes to the other role if that is pressed itself: something waits for it, or its memory is full.
Else nobody lacks replicas and the link between them is slow: it is told, and no pool is raised for it.

The user's TTFT crosses both roles, so a broken promise alone says nothing about either. It is laid to the roles that have a
queue of their own; where nobody has one it is told and neither is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.observation import (
    Coverage,
    Freshness,
    Histogram,
    Known,
    Observation,
    Reading,
    Signals,
    believable,
)

FULL_MEMORY = 0.9  # of the KV cache; engines hold the next request back from about there


@dataclass(frozen=True, slots=True)
class Attribution:
    """Requests that wait, by what they wait for: a role (`waiting`) or the link between the roles (`link`). `lent` are those
    in front of each role that wait for another or the link.

    `late` are the roles whose own queue explains a broken TTFT promise: empty if none does, None if it is kept or not known.
    """

    waiting: Mapping[Role, float]
    lent: Mapping[Role, float]
    link: float = 0.0
    late: frozenset[Role] | None = None


def attribute(observation: Observation, slos: Mapping[SloKind, Slo], freshness: Freshness) -> Attribution:
    """Lay what waits to the role that it waits for. Pods that are not seen add nothing."""
    seen = {role: observation.coverage(role, freshness) for role in sorted(observation.fleet.pools, key=list(Role).index)}
    own = {role: pool.waiting * (1 - _held(role, pool)) for role, pool in seen.items()}
    waiting, link, lent = dict(own), 0.0, {}
    for role, pool in seen.items():
        lent[role] = pool.deferred + pool.waiting - own[role]
        pressed = [other for other in seen if other is not role and (own[other] > 0 or _full(seen[other]))]
        for other in pressed:
            waiting[other] += _brought(role, pool, own[role]) / len(pressed)
        link += 0.0 if pressed else lent[role]
    _add_held(waiting, own, seen, believable(observation.signals.traffic.held, freshness))
    late = (
        frozenset(role for role, count in waiting.items() if count >= 1)
        if _broken(observation.signals, slos, freshness)
        else None
    )
    return Attribution(waiting, lent, link, late)


def _add_held(waiting: dict[Role, float], own: Mapping[Role, float], seen: Mapping[Role, Coverage], held: Reading) -> None:
    """What the gateway holds back waits for whoever is pressed; for the role that requests come to first if nobody is."""
    if isinstance(held, Known):
        pressed = [role for role in seen if own[role] > 0 or _full(seen[role])]
        takers = pressed or [role for role in seen if ROLE_FACTS[role].sizing is Sizing.QUEUE]
        for role in takers:
            waiting[role] += held.value / len(takers)


def _held(role: Role, pool: Coverage) -> float:
    """The share of a batch role's places that are held by requests which are deferred."""
    places = pool.deferred + pool.running
    return pool.deferred / places if ROLE_FACTS[role].sizing is Sizing.BATCH and places > 0 else 0.0


def _brought(role: Role, pool: Coverage, own: float) -> float:
    """What becomes the other role's backlog of what waits here for it. Those who hold places in a batch already stand in
    the other role's own queue.
    """
    return pool.waiting - own if ROLE_FACTS[role].sizing is Sizing.BATCH else pool.deferred


def _full(pool: Coverage) -> bool:
    return pool.kv_usage >= FULL_MEMORY


def _broken(signals: Signals, slos: Mapping[SloKind, Slo], freshness: Freshness) -> bool:
    ttft, slo = signals.traffic.ttft, slos[SloKind.TTFT]
    if not isinstance(ttft, Histogram) or not ttft.samples >= freshness.min_samples:
        return False
    value = ttft.quantile(slo.quantile)
    return value is not None and value > slo.threshold_s
