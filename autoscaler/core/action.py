"""What may be done to a fleet, and how did it end?

An `Action` scales one pool, a `Flip` turns replicas of one role into replicas of another; both name the counts they were
decided on, which is the precondition of the write. A `Plan` is what one tick wants of them, in order; an `Outcome` is what
became of one. They stand apart from core/plan.py, which makes plans, because core/flip.py speaks of them before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from autoscaler.core.fleet import Role
from autoscaler.core.reason import Finding, Reason


class Mode(StrEnum):
    """How far the controller may go."""

    OFF = "Off"
    RECOMMEND = "Recommend"
    AUTO = "Auto"


@dataclass(frozen=True, slots=True)
class Action:
    """Scale one pool from what was seen to an absolute count. `from_replicas` is the precondition of the write."""

    role: Role
    from_replicas: int
    to_replicas: int
    reason: Reason

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whose count it changes."""
        return (self.role,)

    @property
    def subject(self) -> str:
        """What it is about, for people; the same as long as the matter is."""
        return self.role

    @property
    def change(self) -> str:
        """What it does to that, for people."""
        return f"{self.from_replicas} -> {self.to_replicas}"


@dataclass(frozen=True, slots=True)
class Flip:
    """Turn `from_replicas` of one role into `to_replicas` of another, whole units of the fleet's `FlipWay`. Both desired
    counts move at once. `seen`: the desired counts of both roles it was decided on, the precondition of the write.
    """

    from_role: Role
    to_role: Role
    from_replicas: int
    to_replicas: int
    reason: Reason
    seen: Mapping[Role, int]

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whose counts it changes."""
        return self.from_role, self.to_role

    @property
    def subject(self) -> str:
        """What it is about, for people; the same as long as the matter is."""
        return f"{self.from_role} to {self.to_role}"

    @property
    def change(self) -> str:
        """What it does to that, for people."""
        return f"{self.from_replicas} for {self.to_replicas}"


class Verdict(StrEnum):
    """How an action ended."""

    APPLIED = "Applied"
    CONFLICT = "Conflict"  # the fleet was no longer what the action was decided on; the next tick decides anew
    REFUSED = "Refused"  # somebody who may said no
    FAILED = "Failed"  # nobody knows, or it broke
    PENDING = "Pending"  # still under way when the tick ended; how it ended is told by a later one


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action or flip, with one line for the operator. `published`: the count that others are told now to
    write, where it is not ours to write.
    """

    action: Action | Flip
    verdict: Verdict
    detail: str = ""
    published: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in order, why, and under which mode it was made. `targets` is the lawful count per role, after the
    flips, which come first: an action on a role that flips starts from the count that the flip leaves.
    """

    now: float
    mode: Mode
    actions: tuple[Action, ...]
    targets: Mapping[Role, int]
    findings: tuple[Finding, ...]
    flips: tuple[Flip, ...] = ()

    @property
    def to_apply(self) -> tuple[Flip | Action, ...]:
        """What may touch the outside: all in Auto, nothing otherwise (law 13)."""
        return (*self.flips, *self.actions) if self.mode is Mode.AUTO else ()
