"""What is the next step of a transaction?

A function of the record and of what was seen just now (core/sight.py). Where the record is after this look is stored before
anything is done for it (core/duties.py).

    step     comes true when                                              out of patience, or somebody interferes
    leave    no victim is routed to any more                              back, at once if that is refused for good
    idle     routed to nobody for `settle_s`, and each victim was idle    back; or on, by the owner's word, and counted
             at enough looks in a row
    switch   each engine says that it has its new role                    refused: back. Broken, or nobody knows: made anew
    join     each victim is routed to in its new role                     in place without a switch, or its engine is in its
                                                                          old role after all: back; else stuck
    shrink   the target has its new count                                 another count, a victim that is routed to again, or
                                                                          somebody else who would go along: back
    gone     the victims' pods are gone, and no more stand than shall     stuck: their GPUs are not free. Taken by somebody
                                                                          else who raised the count: no receiver is started
    grow     the target has its new count                                 another count: back
    ready    so many of it serve as it shall have                         back, unless some of the new ones serve: then stuck
    remake   who is not surely in its old role is made anew               in its new role after all: on again; else stuck
    rejoin   each victim is routed to in its old role, or goes            in its new role after all: on again; else stuck
    ungrow   the target has its old count, and no more stand              on again if new ones serve after all; stuck
    regrow   the target has its old count, or its GPUs are taken          stuck

Before anything is taken from a role, its last replica that takes requests calls the victims back.

What is not known is not so: a victim that nobody could ask is neither idle nor out of routing, and a count that could not be
read is neither old nor new. A victim that is made anew meanwhile comes back in the role of its template. One that only
drains drains on under its name; one that was to change its role has nothing to change any more, and the record ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from autoscaler.core.come_true import TRUE, away, routed_again, seen, taken_by_others
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Seen, Sight
from autoscaler.core.transaction import IN_PLACE, REVOCABLE, UNDO, Kind, Step, Transaction


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step may take, in seconds. `idle_s` is the owner's deadline of a drain, `forces` what comes of it;
    `ready_s` goes by how long replicas take to start. `settle_s`: from leaving until nobody can still be sent there.
    """

    idle_s: float = 600.0
    forces: bool = False
    settle_s: float = 5.0
    ready_s: float = 900.0
    gone_s: float = 300.0
    switch_s: float = 240.0
    write_s: float = 60.0

    def of(self, step: Step) -> float:
        """For this step."""
        own = {Step.IDLE: self.idle_s, Step.READY: self.ready_s, Step.SWITCH: self.switch_s}
        own |= dict.fromkeys((Step.GONE, Step.UNGROW, Step.REMAKE), self.gone_s)  # pods that take their grace period to go
        return own.get(step, self.write_s)


HELP: Mapping[Step, str] = {
    Step.LEAVE: "the router still sends requests; see whether it knows the label's value",
    Step.IDLE: "requests are still in it, or it does not tell; see behaviour.drain",
    Step.SWITCH: "the engine does not say which role it has; restart its pod",
    Step.JOIN: "the router does not take it in its new role, or its engine does not say that it has it; see both",
    Step.REJOIN: "the router does not take it back in its old role, or its engine does not say that it has it; see both",
    Step.REMAKE: "its pod does not go; delete it",
    Step.GONE: "its pods do not go, so their GPUs are not free; see their finalizers and their node",
    Step.READY: "its new replicas do not serve; see why their pods do not start",
    Step.UNGROW: "its new replicas do not go, or serve by now; see their pods and the target's count",
    **dict.fromkeys((Step.SHRINK, Step.GROW, Step.REGROW), "the count is not taken; see what the API server says"),
}


# Where the donor's replicas still serve: the last of them is not to be taken.
TAKING = frozenset({Step.LEAVE, Step.IDLE, Step.SHRINK, Step.SWITCH})


def advance(one: Transaction, sight: Sight, now: float, patience: Patience) -> Transaction:
    """The record after this look: one step further, on its way back, or as it was."""
    if one.over:
        return one
    noted = _noted(one, sight, now)
    if noted != one:
        return noted
    if TRUE[one.step](one, sight) and (one.step is not Step.IDLE or _settled(one, now, patience)):
        further = one.onward(now)
        return replace(further, away_s=now) if one.step is Step.LEAVE else further
    if one.undoing:
        return _on_again(one, sight, now)
    for why, way in _objections(one, sight):
        return one.returning(why, now, way)
    return one if now - one.since_s <= patience.of(one.step) else _late(one, sight, now, patience)


def called_off(one: Transaction, why: str, now: float) -> Transaction | None:
    """The same on its way back because its replicas are wanted after all; None where it is too late for that."""
    return one.returning(why, now) if one.step in REVOCABLE and not one.undoing else None


def stuck(one: Transaction, now: float, patience: Patience) -> str:
    """What a human may do about a transaction that waits for what does not come true; empty if it is in time."""
    waited_s = now - one.since_s
    return f"{one.step} for {waited_s:.0f} s: {HELP[one.step]}" if not one.over and waited_s > patience.of(one.step) else ""


def _noted(one: Transaction, sight: Sight, now: float) -> Transaction:
    """With what is new of its victims. `away_s`: one that was made anew, or let in by somebody, has to settle again. Moments to
    come are of a clock that was set back since: nobody waits an hour for what takes 5 s.
    """
    if max(one.since_s, one.away_s or one.since_s) > now:
        away_s = None if one.away_s is None else min(one.away_s, now)
        return replace(one, since_s=min(one.since_s, now), started_s=min(one.started_s, now), away_s=away_s)
    if one.change.kind in IN_PLACE and any(its.same is False for its in seen(one, sight)):
        why = one.why or "made anew meanwhile, in the role of its template"
        return replace(one, step=Step.UNDONE, back=(), undoing=True, why=why, since_s=now)
    given_up = sum(its.requests or 0 for its in seen(one, sight))
    if one.step is Step.SHRINK and 0 < one.forced < given_up:  # some were still on their way when the deadline came
        return replace(one, forced=given_up, why=f"{given_up} requests given up")
    if one.step is Step.IDLE and routed_again(one, sight):
        return replace(one, away_s=None)
    if one.step is Step.IDLE and one.away_s is None and away(one, sight):
        return replace(one, away_s=now)
    return one


def _settled(one: Transaction, now: float, patience: Patience) -> bool:
    return one.away_s is not None and now - one.away_s >= patience.settle_s


def _late(one: Transaction, sight: Sight, now: float, patience: Patience) -> Transaction:
    """Out of patience: on by force, back, or no other way than to wait. Nobody is forced who may still be sent requests: they
    could not be counted.
    """
    if one.step is Step.IDLE and patience.forces and away(one, sight) and _settled(one, now, patience):
        left = sum(_untold_is_one(its) for its in seen(one, sight))
        return replace(one.onward(now), forced=one.forced + left, why=f"{left} requests given up after {patience.idle_s:.0f} s")
    may_be_written = one.step is Step.SHRINK and one.counted[0] not in sight.counts
    newcomers_serve = one.step is Step.READY and sight.came != 0  # or nobody knows: a lower count might take them
    if (one.change.kind, one.step) not in UNDO or may_be_written or newcomers_serve:
        return one
    return one.returning(f"not {one.step} within {patience.of(one.step):.0f} s", now)


def _untold_is_one(its: Seen) -> int:
    if its.idle or its.stands is False:
        return 0
    return 1 if its.requests is None else its.requests


def _on_again(one: Transaction, sight: Sight, now: float) -> Transaction:
    """What has come true after all is not taken back: new replicas that serve, victims that are in their new role."""
    role = one.change.to_role
    if one.step is Step.UNGROW and sight.came and sight.counts.get(role) == one.change.after[role]:
        return replace(one, step=Step.READY, back=(), undoing=False, why="", since_s=now)
    flipped = {
        Kind.SWITCH: all(its.role is role for its in seen(one, sight)),
        Kind.RELABEL: all(its.routed is role for its in seen(one, sight)),
    }
    if flipped.get(one.change.kind) and one.step in (Step.REMAKE, Step.REJOIN) and not one.broken:
        return replace(one, step=Step.JOIN, back=(), undoing=False, why="", since_s=now)
    return one


def _objections(one: Transaction, sight: Sight) -> Iterator[tuple[str, tuple[Step, ...] | None]]:
    """Why a step will never come true, or must not, and the way back (None: the step's own)."""
    change, of, to = one.change, one.change.from_role, one.change.to_role
    if one.step in (Step.SHRINK, Step.GROW):
        role, wanted = one.counted
        found = sight.counts.get(role)
        if found is not None and found not in (change.before[role], wanted):
            yield _else(role, found), None
    if one.step is Step.READY and sight.counts.get(to, change.after[to]) < change.after[to]:
        yield _else(to, sight.counts[to]), None
    waits_for_gpus = one.step is Step.GROW or (one.step is Step.GONE and change.kind is Kind.DRAIN_FIRST)
    if waits_for_gpus and taken_by_others(one, of, sight.counts):
        yield _else(of, sight.counts[of]), (Step.REGROW,) if one.step is Step.GONE else None
    if one.step in REVOCABLE or change.kind is Kind.RELABEL:
        yield from ((its.refused, None) for its in seen(one, sight) if its.refused and its.routed is not AWAY)
    unsure = one.step is Step.SWITCH and any(its.role is not of for its in seen(one, sight))
    if (one.step in TAKING and not unsure) or change.kind is Kind.RELABEL:
        yield from _spared(one, sight)
    if one.step in (Step.SWITCH, Step.JOIN) and change.kind is Kind.SWITCH:
        yield from _unswitched(one, sight)


def _else(role: Role, found: int) -> str:
    return f"somebody else made {role} {found}"


def _spared(one: Transaction, sight: Sight) -> Iterator[tuple[str, None]]:
    """Why no victim must be taken now."""
    role = one.change.from_role
    if one.step is Step.SHRINK and sight.counts.get(role) != one.change.before[role]:
        return  # taken already, or nobody knows
    if sight.others == 0 and one.change.after.get(role, 1) > 0:
        yield f"no other {role} takes requests", None
    if one.step is Step.SHRINK and sight.bystanders:
        yield f"{sight.bystanders} more {role} would go along", None
    if one.step is Step.SHRINK and routed_again(one, sight):
        yield "sent requests again by somebody else", None


def _unswitched(one: Transaction, sight: Sight) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """What an engine answered, or does; that it refused counts while it says that it is what it was. What broke has no way back
    but to be made anew, whatever it says then, also to a successor who never heard that it broke.
    """
    way = UNDO[Kind.SWITCH, Step.SWITCH]
    for its in seen(one, sight):
        if its.broken and one.step is Step.SWITCH and its.role is not one.change.to_role:
            yield its.broken, (Step.REMAKE,)
        if its.role is one.change.from_role and (one.step is Step.JOIN or its.refused):
            yield its.refused or "its engine is in its old role again", way
        if its.role is one.change.from_role and isinstance(its.routed, Role):
            yield "sent requests again by somebody else", way
