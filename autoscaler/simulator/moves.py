"""Which moves undid an earlier one: haste, not traffic?

A reversal is
    a scaling   opposite to the one before it on the same role, within twice that role's start-up time: what was asked for
                had hardly arrived when it was given back
    a flip      opposite to the last flip between the same two roles, within the dwell a flipped replica ought to have
unless the oracle, who knows the traffic, makes the same move (same role, same direction) at about that time: then the
traffic itself turned round, and following it is no fault. "About": within the time that makes it a reversal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from autoscaler.core.fleet import Role


@dataclass(frozen=True, slots=True)
class Scaled:
    """A role was asked to have more or fewer replicas."""

    at_s: float
    role: Role
    upward: bool

    @property
    def kind(self) -> tuple[object, ...]:
        """What it is, whenever it is."""
        return self.role, self.upward

    @property
    def opposite(self) -> tuple[object, ...]:
        """What would undo it."""
        return self.role, not self.upward


@dataclass(frozen=True, slots=True)
class Flipped:
    """`count` replicas were told to change their role."""

    at_s: float
    from_role: Role
    to_role: Role
    count: int = 1

    @property
    def kind(self) -> tuple[object, ...]:
        """What it is, whenever it is."""
        return self.from_role, self.to_role

    @property
    def opposite(self) -> tuple[object, ...]:
        """What would undo it."""
        return self.to_role, self.from_role


Move = Scaled | Flipped


def reversals(
    moves: Sequence[Move], scaled_within_s: float, flipped_within_s: float, oracle: Collection[Move] = ()
) -> list[Move]:
    """The moves that undo an earlier one and that the oracle does not make. `moves` in the order of time."""
    return [
        move
        for move, within_s in _undoing(moves, scaled_within_s, flipped_within_s)
        if not any(other.kind == move.kind and abs(other.at_s - move.at_s) <= within_s for other in oracle)
    ]


def _undoing(moves: Sequence[Move], scaled_within_s: float, flipped_within_s: float) -> Iterator[tuple[Move, float]]:
    last: dict[frozenset[object], Move] = {}
    for move in moves:
        within_s = flipped_within_s if isinstance(move, Flipped) else scaled_within_s
        pair = frozenset([move.kind, move.opposite])
        before = last.get(pair)
        if before is not None and before.kind == move.opposite and move.at_s - before.at_s <= within_s:
            yield move, within_s
        last[pair] = move
