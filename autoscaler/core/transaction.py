"""What is a change that takes more than one write, and which way does it go?

A replica is drained before it is removed or flipped, so a scale-in, a flip and a paired resize are made of steps, minutes
apart, and whoever makes them may die between any two writes. Such a change is a `Transaction`: a record that is stored
before the step it tells of is begun, so that the next leader finds it and goes on (DESIGN.md sections 9 and 13).

    kind          its path
    DRAIN         leave, idle, shrink, gone                   replicas go for good
    RELABEL       join                                        an engine that does both roles takes the other one's requests
    SWITCH        leave, idle, switch, join                   an engine that is told to do the other role
    DRAIN_FIRST   leave, idle, shrink, gone, grow, ready      k replicas go, then m of the other role start on their GPUs
    SURGE_FIRST   grow, ready, leave, idle, shrink, gone      the same where GPUs are to spare

Every step is what shall be true, not what shall be done: "the count is 3". So doing it twice is doing it once, and a
successor that does not know whether its predecessor got an answer simply does it. Counts are absolute. Each step has its
patience; what happens when that is over, or when somebody else interferes, is in `UNDO`: a way back made of the same kind of
steps. A step without a way back is waited for, and told to be stuck with what a human may do, until it comes true after all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from autoscaler.core.fleet import Role


class Kind(StrEnum):
    """Which way a transaction goes."""

    DRAIN = "drain"
    RELABEL = "relabel"
    SWITCH = "switch"
    DRAIN_FIRST = "drainFirst"
    SURGE_FIRST = "surgeFirst"


class Step(StrEnum):
    """What is being made true, or has come of it."""

    LEAVE = "leave"  # no victim takes new work
    IDLE = "idle"  # no victim has work
    SWITCH = "switch"  # every victim's engine is in its new role
    JOIN = "join"  # every victim takes work in its new role
    SHRINK = "shrink"  # the donor's target has its new count
    GONE = "gone"  # the victims' pods are gone
    GROW = "grow"  # the receiver's target has its new count
    READY = "ready"  # so many of the receiver serve
    REMAKE = "remake"  # a victim whose engine is neither the one nor the other is made anew
    REJOIN = "rejoin"  # every victim takes work in its old role
    UNGROW = "ungrow"  # the receiver's target has its old count
    REGROW = "regrow"  # the donor's target has its old count
    DONE = "done"
    UNDONE = "undone"


OVER = frozenset({Step.DONE, Step.UNDONE})

PATHS: Mapping[Kind, tuple[Step, ...]] = {
    Kind.DRAIN: (Step.LEAVE, Step.IDLE, Step.SHRINK, Step.GONE),
    Kind.RELABEL: (Step.JOIN,),
    Kind.SWITCH: (Step.LEAVE, Step.IDLE, Step.SWITCH, Step.JOIN),
    Kind.DRAIN_FIRST: (Step.LEAVE, Step.IDLE, Step.SHRINK, Step.GONE, Step.GROW, Step.READY),
    Kind.SURGE_FIRST: (Step.GROW, Step.READY, Step.LEAVE, Step.IDLE, Step.SHRINK, Step.GONE),
}

# The way back from a step that did not come true. None but these has one. A surge whose victims do not get idle keeps what
# it has grown: that serves, and a scale-in of its own may take it away in good order.
UNDO: Mapping[tuple[Kind, Step], tuple[Step, ...]] = {
    **{
        (kind, step): (Step.REJOIN,)
        for kind, path in PATHS.items()
        for step in (Step.LEAVE, Step.IDLE, Step.SHRINK)
        if step in path
    },
    (Kind.RELABEL, Step.JOIN): (Step.REJOIN,),
    # Who is not surely what it was is made anew, who is comes back as it is.
    (Kind.SWITCH, Step.SWITCH): (Step.REMAKE, Step.REJOIN),
    **{(Kind.DRAIN_FIRST, step): (Step.UNGROW, Step.REGROW) for step in (Step.GROW, Step.READY)},
    **{(Kind.SURGE_FIRST, step): (Step.UNGROW,) for step in (Step.GROW, Step.READY)},
}

IN_PLACE = frozenset({Kind.RELABEL, Kind.SWITCH})
# Where victims can still be called back without anything lost.
REVOCABLE = frozenset({Step.LEAVE, Step.IDLE})


@dataclass(frozen=True, slots=True)
class Victim:
    """A replica that leaves its role: its leader pod, and which pod of that name."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a transaction is to do. `victims` leave `from_role`; `to_role` is the same for a drain. `before` and `after` are the
    absolute counts of the targets that change, by role: none in place. In place there is one victim: what becomes of its engine
    is nothing that another could share.
    """

    kind: Kind
    from_role: Role
    to_role: Role
    victims: tuple[Victim, ...]
    before: Mapping[Role, int] = field(default_factory=dict)
    after: Mapping[Role, int] = field(default_factory=dict)

    @property
    def takes(self) -> int:
        """Replicas that another role gets in the end."""
        if self.kind in IN_PLACE:
            return len(self.victims)
        return 0 if self.to_role is self.from_role else self.after[self.to_role] - self.before[self.to_role]

    def rebased(self, role: Role, change: int) -> Change:
        """The same after somebody who may has changed a target's count meanwhile: both its counts are that much others."""
        before = {of: count + change if of is role else count for of, count in self.before.items()}
        after = {of: count + change if of is role else count for of, count in self.after.items()}
        return replace(self, before=before, after=after)


@dataclass(frozen=True, slots=True)
class Transaction:
    """A change under way. `key` is unique in its fleet; `epoch` the term of leadership that began it.

    `step` has been since `since_s`, all of it since `started_s`. `back` are the steps still to come of a way back, `why` the
    reason for it in one line. `forced`: requests that were given up, by the owner's word, when a drain's deadline came.
    `away_s`: since when all victims have been seen out of routing, None while one is not.
    """

    key: str
    epoch: int
    change: Change
    step: Step
    since_s: float
    started_s: float
    undoing: bool = False
    back: tuple[Step, ...] = ()
    why: str = ""
    forced: int = 0
    away_s: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.step in OVER

    @property
    def broken(self) -> bool:
        """Whether its engine said that its switch broke: it is made anew, and then there is nothing to let in again."""
        return self.step is Step.REMAKE and not self.back

    @property
    def counted(self) -> tuple[Role, int]:
        """Which target's count its step is about, and the count that it shall have."""
        role = self.change.from_role if self.step in (Step.SHRINK, Step.REGROW) else self.change.to_role
        return role, (self.change.before if self.undoing else self.change.after)[role]

    def onward(self, now: float) -> Transaction:
        """The same one step further: on its path, or on its way back."""
        if self.undoing:
            following, rest = (self.back[0], self.back[1:]) if self.back else (Step.UNDONE, ())
            return replace(self, step=following, back=rest, since_s=now, forced=self._given_up(following))
        path = PATHS[self.change.kind]
        at = path.index(self.step) + 1
        return replace(self, step=path[at] if at < len(path) else Step.DONE, since_s=now)

    def returning(self, why: str, now: float, way: tuple[Step, ...] | None = None) -> Transaction:
        """The same on its way back, by `way` or by the one that its step has."""
        first, *rest = UNDO[self.change.kind, self.step] if way is None else way
        back, forced = tuple(rest), self._given_up(first)
        return replace(self, step=first, back=back, undoing=True, why=why, since_s=now, forced=forced)

    def _given_up(self, step: Step) -> int:
        """Who is let in again has lost nothing."""
        return 0 if step is Step.REJOIN else self.forced


def split(one: Transaction, count: int, why: str, now: float) -> tuple[Transaction, Transaction]:
    """A drain in two: what is left of it, and its first `count` victims on their way back, with no count to change. Only where
    it is `REVOCABLE`. The victims are in the order in which a lower count spares them, those with low ordinals first. If there
    were fewer of them than the count takes, nobody knows which are spared: all are, and the count stays.
    """
    change = one.change
    whole = all(change.before[role] - target == len(change.victims) for role, target in change.after.items())
    freed = change.victims[:count] if whole else change.victims
    kept = change.victims[len(freed) :]
    after = {role: change.before[role] - len(kept) for role in change.after}
    left = replace(one, change=replace(change, victims=kept, after=after))
    # Fewer are kept after each split, so no two of its parts have one key.
    back = replace(one, key=f"{one.key}b{len(kept)}", change=replace(change, victims=freed, before={}, after={}))
    return left, back.returning(why, now, (Step.REJOIN,))


def begun(key: str, epoch: int, change: Change, now: float) -> Transaction:
    """A transaction at the first step of its path."""
    return Transaction(key, epoch, change, PATHS[change.kind][0], now, now)


@dataclass(frozen=True, slots=True)
class Heading:
    """Where the transactions of a fleet lead to: counts of targets, and the role that each replica in place is going to have."""

    counts: Mapping[Role, int] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)


def heading(transactions: tuple[Transaction, ...]) -> Heading:
    """Of all that are under way. The controller sees a fleet as it is going to be, so that no tick decides it twice."""
    counts: dict[Role, int] = {}
    roles: dict[str, Role] = {}
    for one in transactions:
        if one.change.kind in IN_PLACE:
            role = one.change.from_role if one.undoing else one.change.to_role
            roles |= dict.fromkeys((victim.name for victim in one.change.victims), role)
        else:
            counts |= _counts(one)
    return Heading(counts, roles)


def _counts(one: Transaction) -> Mapping[Role, int]:
    """On a way back every target has its old count at the end, but for one that has grown ahead of victims who now stay."""
    change = one.change
    if not one.undoing:
        return change.after
    stays = change.kind is Kind.SURGE_FIRST and Step.REJOIN in (one.step, *one.back)
    return {role: change.after[role] if stays and role is change.to_role else count for role, count in change.before.items()}
