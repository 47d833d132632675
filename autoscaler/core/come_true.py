"""Has a step of a transaction come true, at this look?

One row of `TRUE` per step, each a question to what was seen (core/sight.py). What is not known has not come true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Seen, Sight
from autoscaler.core.transaction import Kind, Step, Transaction


def seen(one: Transaction, sight: Sight) -> list[Seen]:
    """The victims, in their order."""
    return [sight.of(victim) for victim in one.change.victims]


def away(one: Transaction, sight: Sight) -> bool:
    """Whether nobody sends requests to any victim."""
    return all(its.routed is AWAY or its.stands is False for its in seen(one, sight))


def routed_again(one: Transaction, sight: Sight) -> bool:
    """Whether some victim is sent requests, surely."""
    return any(isinstance(its.routed, Role) for its in seen(one, sight))


def taken_by_others(one: Transaction, role: Role, counts: Mapping[Role, int]) -> bool:
    """Whether somebody else has given the target more than it may have while the other's GPUs are still to be given."""
    gone_first = one.change.kind is Kind.DRAIN_FIRST and role is one.change.from_role
    return counts.get(role, 0) > (one.change.after if gone_first else one.change.before)[role]


def _idle(one: Transaction, sight: Sight) -> bool:
    return away(one, sight) and all(its.idle or its.stands is False for its in seen(one, sight))


def _joined(one: Transaction, sight: Sight) -> bool:
    role = one.change.to_role
    switched = one.change.kind is Kind.RELABEL or all(its.role is role for its in seen(one, sight))
    return switched and all(its.routed is role for its in seen(one, sight))


def _rejoined(one: Transaction, sight: Sight) -> bool:
    """Who goes is not called back: somebody else removed it. Nor is a switched engine, whatever its label says."""
    role = one.change.from_role
    switched = one.change.kind is Kind.SWITCH and any(its.role is one.change.to_role for its in seen(one, sight))
    return not switched and all(its.routed is role or its.stands is False or its.going for its in seen(one, sight))


def _counted(one: Transaction, sight: Sight) -> bool:
    role, wanted = one.counted
    return sight.counts.get(role) == wanted


def _gone(one: Transaction, sight: Sight) -> bool:
    """Their GPUs are free. Who has nobody waiting for them does not mind if somebody else took them by a higher count."""
    role = one.change.from_role
    count = one.change.after[role]
    if one.change.kind is not Kind.DRAIN_FIRST:
        count = max(count, sight.counts.get(role, 0))
    victims_gone = all(its.stands is False or its.same is False for its in seen(one, sight))
    return victims_gone and sight.standing.get(role, count + 1) <= count


def _ready(one: Transaction, sight: Sight) -> bool:
    return sight.ready.get(one.change.to_role, 0) >= one.change.after[one.change.to_role]


def _ungrown(one: Transaction, sight: Sight) -> bool:
    """The count is the old one, or what somebody else wrote since, and nobody new holds GPUs any more."""
    role = one.change.to_role
    found = sight.counts.get(role)
    return found is not None and found != one.change.after[role] and sight.standing.get(role, found + 1) <= found


def _regrown(one: Transaction, sight: Sight) -> bool:
    """The count is the old one, or what somebody else wrote since; or somebody else gave its GPUs to the receiver."""
    role = one.change.from_role
    found = sight.counts.get(role)
    return found is not None and (found != one.change.after[role] or taken_by_others(one, one.change.to_role, sight.counts))


TRUE: Mapping[Step, Callable[[Transaction, Sight], bool]] = {
    Step.LEAVE: away,
    Step.IDLE: _idle,
    Step.SWITCH: lambda one, sight: all(its.role is one.change.to_role for its in seen(one, sight)),
    Step.JOIN: _joined,
    Step.REMAKE: lambda one, sight: not one.broken and all(its.role is one.change.from_role for its in seen(one, sight)),
    Step.REJOIN: _rejoined,
    Step.SHRINK: _counted,
    Step.GONE: _gone,
    Step.GROW: _counted,
    Step.READY: _ready,
    Step.UNGROW: _ungrown,
    Step.REGROW: _regrown,
}
