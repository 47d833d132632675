"""What must be done at a step of a transaction?

Nothing where it has come true already, and nothing about what is not known. What is said is what shall be: to be routed to
nobody, to have this count. So a process may die before a duty, in the middle of it or after it, and its successor, which
finds the step stored and cannot know, does it and harms nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass

from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Away, Seen, Sight
from autoscaler.core.transaction import Kind, Step, Transaction, Victim


@dataclass(frozen=True, slots=True)
class Route:
    """Have requests sent to this replica in this role; None: in none."""

    victim: Victim
    role: Role | None


@dataclass(frozen=True, slots=True)
class Count:
    """Give a target this count, if it still has the other: a compare-and-swap."""

    role: Role
    seen: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Switch:
    """Tell an engine to do this role."""

    victim: Victim
    role: Role


@dataclass(frozen=True, slots=True)
class Remake:
    """Delete this replica's leader, so that its group starts anew in its template's role."""

    victim: Victim


Duty = Route | Count | Switch | Remake


def duties(one: Transaction, sight: Sight) -> tuple[Duty, ...]:
    """What to do now that the record is stored at its step."""
    return tuple(DUTIES[one.step](one, sight)) if one.step in DUTIES else ()


def _leave(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """While others take requests, or none is to be left. Also while it waits to be idle: one that was made anew under its name
    is routed to again.
    """
    return _route(one, sight, AWAY) if _spared(one, sight) else iter(())


def _spared(one: Transaction, sight: Sight) -> bool:
    return bool(sight.others) or one.change.after.get(one.change.from_role) == 0


def _join(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """Who says that it is in its new role: a switched engine may have crashed since, and be in its launch's role again. Where
    that is told by the label alone, while others take requests in the old role.
    """
    role = one.change.to_role
    if one.change.kind is Kind.SWITCH:
        return _route(one, sight, role, {role})
    return _route(one, sight, role) if _spared(one, sight) else iter(())


def _rejoin(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """Likewise: an engine that was told to switch may have done so after all."""
    role = one.change.from_role
    return _route(one, sight, role, {role} if one.change.kind is Kind.SWITCH else ANY)


ANY: Set[Role | None] = frozenset({*Role, None})


def _route(one: Transaction, sight: Sight, wanted: Role | Away, engines: Set[Role | None] = ANY) -> Iterator[Duty]:
    """Those whose engine has one of these roles, but not who is on its way out: there nobody is let in or turned away."""
    for victim in one.change.victims:
        its = sight.of(victim)
        if its.stands and not its.going and its.routed not in (None, wanted) and its.role in engines:
            yield Route(victim, None if isinstance(wanted, Away) else wanted)


def _switch(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """Only for an idle engine that says it is what it was: one that does not answer may be switching, and keeps out."""
    yield from _route(one, sight, AWAY, ANY - {one.change.from_role})
    for victim in one.change.victims:
        if sight.of(victim).role is one.change.from_role and _free(one, sight.of(victim)):
            yield Switch(victim, one.change.to_role)


def _remake(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """Who may be what it was not, or broke; out of routing first, and not while it surely has work."""
    yield from _route(one, sight, AWAY, ANY if one.broken else ANY - {one.change.from_role})
    for victim in one.change.victims:
        its = sight.of(victim)
        unsure = its.same and not its.going and (one.broken or its.role is not one.change.from_role)
        if unsure and its.routed is AWAY and not its.requests:
            yield Remake(victim)


def _shrink(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """While all who would go are victims without work: a process may have died since that was found."""
    role, wanted = one.counted
    free = all(_free(one, sight.of(victim)) for victim in one.change.victims)
    if sight.counts.get(role) == one.change.before[role] and free and sight.bystanders == 0:
        yield Count(role, one.change.before[role], wanted)


def _free(one: Transaction, its: Seen) -> bool:
    return its.stands is False or (its.routed is AWAY and (its.idle or one.forced > 0))


def _grow(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """On GPUs that are free: those of the donors that were to go first, or those that were to spare when it began."""
    role, wanted = one.counted
    of = one.change.from_role
    if one.change.kind is Kind.DRAIN_FIRST:
        free = _no_more(sight, of, one.change.after[of])
    else:
        free = sight.counts.get(of, one.change.before[of] + 1) <= one.change.before[of]
    if sight.counts.get(role) == one.change.before[role] and free:
        yield Count(role, one.change.before[role], wanted)


def _ungrow(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """An unserving newcomer is taken back, a serving one never, nor one of whom nobody knows."""
    role, wanted = one.counted
    if sight.counts.get(role) == one.change.after[role] and sight.came == 0:
        yield Count(role, one.change.after[role], wanted)


def _regrow(one: Transaction, sight: Sight) -> Iterator[Duty]:
    """On the GPUs that the receiver did not get: nobody else has taken them."""
    role, wanted = one.counted
    to = one.change.to_role
    if sight.counts.get(role) == one.change.after[role] and _no_more(sight, to, one.change.before[to]):
        yield Count(role, one.change.after[role], wanted)


def _no_more(sight: Sight, role: Role, most: int) -> bool:
    """Whether a target surely holds GPUs for no more replicas than so many, or is about to."""
    return max(sight.standing.get(role, most + 1), sight.counts.get(role, most + 1)) <= most


DUTIES: Mapping[Step, Callable[[Transaction, Sight], Iterator[Duty]]] = {
    Step.LEAVE: _leave,
    Step.IDLE: _leave,
    Step.SWITCH: _switch,
    Step.JOIN: _join,
    Step.SHRINK: _shrink,
    Step.GROW: _grow,
    Step.REMAKE: _remake,
    Step.REJOIN: _rejoin,
    Step.UNGROW: _ungrow,
    Step.REGROW: _regrow,
}
