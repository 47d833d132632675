"""What comes out of a trial? Figures beside what they should be, and curves.

A check is met where its figure is near the reference, or on the right side of it, as its rule says. What somebody else
published for the same thing stands beside it where the reference is not that figure itself: a trial of an ordering does not
pretend to meet a number that was measured on other machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """How a figure must stand to its reference."""

    NEAR = "near"
    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, what it is, and what it should be.

    `tolerance` is relative to the reference where that is not 0. `standard_error` is that of `measured`, in its unit, where
    it was estimated. `published` is somebody else's figure for it.
    """

    name: str
    claim: str
    measured: float
    reference: float
    tolerance: float = 0.0
    rule: Rule = Rule.NEAR
    published: float | None = None
    standard_error: float | None = None

    @property
    def met(self) -> bool:
        """Within tolerance, or on the right side."""
        slack = self.tolerance * (abs(self.reference) or 1.0)
        above = self.measured - self.reference
        return {
            Rule.NEAR: abs(above) <= slack,
            Rule.AT_LEAST: above >= -slack,
            Rule.AT_MOST: above <= slack,
        }[self.rule]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot, or dots that are not joined: (x, y) in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Curve:
    """One plot: what its axes are, and one sentence on what to see in it."""

    name: str
    title: str
    x: str
    y: str
    series: Sequence[Series]
    note: str


Finding = Check | Curve
