"""How does a decision become a transaction, and what does a new one mean for those under way?

    shrink    a drain of those that will go. Written at once where nobody goes who can have work (a pod without an address has
              none), or where the policy says no routing: then nothing can be taken out of it
    flip      one transaction for each replica that changes in place, one for a paired resize
    growth    what drains for a lower count is let back in before anything new is started. Counts of transactions under way on
              the same target move along, since theirs are absolute

At most one transaction at a time changes a target's count: while one does, a further shrink waits. One that was undone, and
not because its replicas were wanted again, is not begun anew before as long as a drain may take: replicas would leave the
routing and come back again and again for the same answer that does not end.

What moves along is stored after the count is written. Where we die between the two, the transaction finds a count that it takes
for somebody else's, or for its own: it goes back, or takes less, and no GPU is used twice. The other way round its old counts
would be wrong by replicas that nobody has asked for, and a way back would give their GPUs away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from autoscaler.adapters.kubernetes.transactions.book import Book
from autoscaler.adapters.kubernetes.transactions.choosing import Refused, busy, donors, kind, last
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.adapters.kubernetes.writing import unwritten
from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import FlipWay, Phase, Role
from autoscaler.core.transaction import IN_PLACE, REVOCABLE, Change, Kind, Step, Transaction, Victim, begun, split
from autoscaler.core.transit import called_off

WANTED_AGAIN = "wanted again"


@dataclass(frozen=True, slots=True)
class Write:
    """A count is to be written at once: from `seen` to `wanted`, those of the target. `moved`: transactions that count along."""

    seen: int
    wanted: int
    moved: tuple[Transaction, ...] = ()


class Beginnings:
    """Begins the transactions of many fleets; called for one fleet by one thread at a time."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._rests: dict[tuple[str, Role, Role], tuple[float, float, str]] = {}  # since when, how long, and why

    def over(self, key: str, one: Transaction, now: float, rest_s: float) -> None:
        """A transaction has ended. One like it rests for `rest_s` seconds if it was undone."""
        of = key, one.change.from_role, one.change.to_role
        self._rests = {other: rest for other, rest in self._rests.items() if _left_s(rest, now) > 0 and other != of}
        if one.step is Step.UNDONE and one.why != WANTED_AGAIN:
            self._rests[of] = now, rest_s, one.why

    def scale(self, key: str, ground: Ground, action: Action, now: float, term: int) -> Outcome | Write:
        """What becomes of a decision about one pool: something that was begun or said no to, or a count to write at once."""
        desired = ground.pools[action.role].desired
        if desired != action.from_replicas:
            return Outcome(action, Verdict.CONFLICT, f"{desired} are wanted by now, not {action.from_replicas}")
        count = ground.standings[action.role].desired
        write = Write(count, count + action.to_replicas - action.from_replicas)
        if write.wanted < 0:
            fewer = action.from_replicas - action.to_replicas
            why = f"{fewer} fewer are wanted and {count} are its own: those it has borrowed have to flip back first"
            return Outcome(action, Verdict.REFUSED, why)
        begin = self._shrink if write.wanted < count else self._grow
        return begin(key, ground, action, write, now, term)

    def _shrink(self, key: str, ground: Ground, action: Action, write: Write, now: float, term: int) -> Outcome | Write:
        role = action.role
        waits_for = ground.counting(role)
        if waits_for:
            return Outcome(action, Verdict.PENDING, f"{waits_for[0].key} comes first")
        going = last(ground.replicas, role, write.seen, write.wanted, busy(ground.under_way))
        if isinstance(going, Refused):
            return _said_no(action, going)
        if ground.spec.routing is None or not _any_works(ground, going):
            return write
        change = Change(Kind.DRAIN, role, role, going, {role: write.seen}, {role: write.wanted})
        return self._begin(key, action, (change,), now, term)

    def _grow(self, key: str, ground: Ground, action: Action, write: Write, now: float, term: int) -> Outcome | Write:
        counting = ground.counting(action.role)
        more = write.wanted - write.seen
        for one in counting:
            if one.change.from_role is action.role and one.step in REVOCABLE and not one.undoing:
                return self._call_off(key, action, one, more, now, term)
        for one in counting:
            if one.change.from_role is action.role and not one.undoing and not _has_taken(one):
                return Outcome(action, Verdict.PENDING, f"{one.key} comes first")
        moved = tuple(replace(one, change=one.change.rebased(action.role, more)) for one in counting)
        return replace(write, moved=moved)

    def _call_off(self, key: str, action: Action, one: Transaction, more: int, now: float, term: int) -> Outcome:
        back = called_off(one, WANTED_AGAIN, now)
        few = one.change.kind is Kind.DRAIN and more < len(one.change.victims)
        changed = split(one, more, WANTED_AGAIN, now) if few else (back,) if back else ()
        fault = self._book.put(key, term, now, *changed)
        if fault is not None:
            return unwritten(action, fault)
        return Outcome(action, Verdict.APPLIED, f"{one.key} is called off: its replicas are let in again")

    def flip(self, key: str, ground: Ground, flip: Flip, way: FlipWay, now: float, term: int) -> Outcome:
        """What becomes of a decision to flip."""
        pools = ground.pools
        if any(pools[role].desired != seen for role, seen in flip.seen.items()):
            return Outcome(flip, Verdict.CONFLICT, "the fleet is no longer what the flip was decided on")
        changes = self._in_place(ground, flip, way, now) if kind(way) in IN_PLACE else self._resize(ground, flip, way)
        if isinstance(changes, Refused):
            return _said_no(flip, changes)
        return self._begin(key, flip, changes, now, term)

    def _in_place(self, ground: Ground, flip: Flip, way: FlipWay, now: float) -> tuple[Change, ...] | Refused:
        roles, since_s = (flip.from_role, flip.to_role), now - ground.spec.behaviour.flip.dwell_seconds
        chosen = donors(ground.replicas, *roles, flip.from_replicas, busy(ground.under_way), since_s)
        if len(chosen) < flip.from_replicas:
            why = f"{len(chosen)} of {flip.from_replicas} {flip.from_role} replicas are free to change their role"
            return Refused(why, waits=True)
        return tuple(Change(kind(way), flip.from_role, flip.to_role, (victim,)) for victim in chosen)

    def _resize(self, ground: Ground, flip: Flip, way: FlipWay) -> tuple[Change, ...] | Refused:
        roles = flip.from_role, flip.to_role
        waits_for = [one for role in roles for one in ground.counting(role)]
        if waits_for:
            return Refused(f"{waits_for[0].key} comes first", waits=True)
        before = {role: ground.standings[role].desired for role in roles}
        after = {
            flip.from_role: before[flip.from_role] - flip.from_replicas,
            flip.to_role: before[flip.to_role] + flip.to_replicas,
        }
        if after[flip.from_role] < 0:
            return Refused(
                f"{flip.from_role} has {before[flip.from_role]} of its own: those it has borrowed have to flip back first"
            )
        going = last(ground.replicas, flip.from_role, before[flip.from_role], after[flip.from_role], busy(ground.under_way))
        if isinstance(going, Refused):
            return going
        if not going:
            return Refused(f"no {flip.from_role} replica stands that could go")
        return (Change(kind(way), *roles, going, before, after),)

    def _begin(self, key: str, action: Action | Flip, changes: tuple[Change, ...], now: float, term: int) -> Outcome:
        rest = self._rests.get((key, changes[0].from_role, changes[0].to_role), (now, 0.0, ""))
        if _left_s(rest, now) > 0:
            return Outcome(action, Verdict.PENDING, f"undone before ({rest[2]}); tried again in {_left_s(rest, now):.0f} s")
        new = tuple(begun(_name(change, now), term, change, now) for change in changes)
        fault = self._book.put(key, term, now, *new)
        if fault is not None:
            return unwritten(action, fault)
        return Outcome(action, Verdict.APPLIED, f"begun: {', '.join(one.key for one in new)}")


def _left_s(rest: tuple[float, float, str], now: float) -> float:
    """How long a rest goes on; not at all before it began, by a clock that was set back."""
    since_s, rest_s, _ = rest
    return since_s + rest_s - now if now >= since_s else 0.0


def _name(change: Change, now: float) -> str:
    """Readable in an event, and never twice in a fleet."""
    return f"{change.kind}-{change.victims[0].name}-{now:.0f}"


def _said_no(action: Action | Flip, no: Refused) -> Outcome:
    return Outcome(action, Verdict.PENDING if no.waits else Verdict.REFUSED, no.why)


def _has_taken(one: Transaction) -> bool:
    """Whether its donors are gone for good, so that new ones are others: only then their count may grow beside it."""
    return one.change.kind is Kind.DRAIN_FIRST and one.step is Step.READY


def _any_works(ground: Ground, going: tuple[Victim, ...]) -> bool:
    """Who is not Ready may still be busy; who has no address was never sent anything."""
    names = {victim.name for victim in going}
    return any(one.leader.ip or one.replica.phase is Phase.SERVING for one in ground.replicas if one.replica.name in names)
