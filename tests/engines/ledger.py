"""Was a request lost, and through whom?

Every engine enters every request it takes and every end, so that nothing goes missing unseen:

    taken = finished + lost by an act + lost by a fault + expired + still open

An act is the controller's: a pod it deleted, an engine it flipped while the router still sent the old kind of request.
A fault is the test's: it said so when it made it. Whoever kills and says nothing is the controller.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.core.fleet import Role

Address = tuple[str, int]


class End(StrEnum):
    """How a leg ended."""

    FINISHED = "finished"
    LOST_BY_ACT = "lost through an act of the controller"
    LOST_BY_FAULT = "lost through a fault of the test"
    EXPIRED = "given up, for its other leg never came"


class Stage(StrEnum):
    """Where a leg is that has not ended."""

    WAITING = "waiting for a slot"
    PREALLOCATING = "waiting for room for its KV"
    FETCHING = "waiting for its KV to arrive"
    RUNNING = "running"
    HELD = "run, its KV not fetched yet"


@dataclass(slots=True, eq=False)
class Leg:
    """What one engine has of a request: its prefill, its decode, or (`role` None) all of it.

    `keeps_kv`: once run, the KV is held until the other leg fetches it. `source` is the address of the engine that this
    leg fetches from. Changed only by its engine, under that engine's lock.
    """

    request: str
    role: Role | None = None
    prompt_tokens: int = 1
    output_tokens: int = 1
    keeps_kv: bool = False
    source: Address | None = None
    engine: str = ""
    rank: int = 0
    taken_s: float = field(default_factory=time.monotonic)
    stage: Stage = Stage.WAITING
    released: bool = False
    misrouted: bool = False
    held_until_s: float = math.inf
    end: End | None = None

    def __str__(self) -> str:
        """One line for a failing test."""
        ending = f"{self.end}, while {self.stage}" if self.end else self.stage
        return f"request {self.request}, {self.role or 'all'} on {self.engine}: {ending}{', misrouted' * self.misrouted}"


class Ledger:
    """The legs of all engines of a fleet."""

    def __init__(self) -> None:
        self._legs: list[Leg] = []

    def enter(self, leg: Leg) -> None:
        """A leg that an engine takes."""
        self._legs.append(leg)

    def legs(self, request: str | None = None) -> list[Leg]:
        """All legs, or those of one request, in the order in which they were taken."""
        return [leg for leg in self._legs.copy() if request in (None, leg.request)]

    def ended(self, end: End | None) -> list[str]:
        """The legs that ended so (None: that are still open), one line each: `assert ledger.ended(End.LOST_BY_ACT) == []`."""
        return [str(leg) for leg in self._legs.copy() if leg.end is end]

    def counts(self) -> dict[End | None, int]:
        """How many legs ended in each way; None: not yet."""
        ends = [leg.end for leg in self._legs.copy()]
        return {end: ends.count(end) for end in (*End, None)}
