"""What is remembered of a pool and of a fleet between two looks?

Of a pool: facts about its object that never change, which object the last reading was of, and the count that we wrote last.
The lists tell that a moment later, and a transaction would take the old count for somebody else's; so for `LAG_S` an old count
is taken for ours. Somebody who writes the very count that was there before is heard so much later.

Of a fleet: which transactions have ended since it was read last, until somebody reads it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from autoscaler.adapters.kubernetes.publishing import Published
from autoscaler.adapters.kubernetes.standing import Known, Standing
from autoscaler.core.fleet import Ended, Role
from autoscaler.core.transaction import Step, Transaction

LAG_S = 10.0  # a watch that is later than this is a fault, and told as one
MOST_TOLD = 16  # ended transactions of a fleet that nobody reads
FEWEST_KEPT = 64  # memories of pools that are kept before any is looked through for gone policies


@dataclass(frozen=True, slots=True)
class Written:
    """A count of ours: in which object, instead of which, when."""

    uid: str
    seen: int
    wanted: int
    at_s: float


@dataclass(slots=True)
class Memory:
    """What is remembered about one pool."""

    known: Known = field(default_factory=Known)
    read_uid: str = ""
    written: Written | None = None
    published: Published = field(default_factory=Published)

    def corrected(self, standing: Standing, now: float) -> Standing:
        """The target as it stands after our last write, which the list may not tell yet."""
        ours = self.written
        if ours is None:
            return standing
        if (standing.uid, standing.desired) != (ours.uid, ours.seen) or not 0 <= now - ours.at_s < LAG_S:
            self.written = None
            return standing
        return replace(standing, counted=replace(standing.counted, desired=ours.wanted))


class Memories:
    """Those of many fleets. Thread-safe. `there` tells whether there still is a policy."""

    def __init__(self, there: Callable[[str], bool]) -> None:
        self._there, self._lock = there, threading.Lock()
        self._pools: dict[tuple[str, Role], Memory] = {}
        self._ended: dict[str, tuple[Ended, ...]] = {}
        self._look_through_at = FEWEST_KEPT

    def __len__(self) -> int:
        """How many pools are remembered."""
        return len(self._pools)

    def of(self, key: str, role: Role) -> Memory:
        """The pool's memory. Looking for gone policies each time the number has doubled costs little per pool."""
        with self._lock:
            if (key, role) not in self._pools:
                if len(self._pools) >= self._look_through_at:
                    self._pools = {of: one for of, one in self._pools.items() if self._there(of[0])}
                    self._ended = {of: one for of, one in self._ended.items() if self._there(of)}
                    self._look_through_at = max(FEWEST_KEPT, 2 * len(self._pools))
                self._pools[key, role] = Memory()
            return self._pools[key, role]

    def over(self, key: str, one: Transaction, now: float) -> None:
        """A transaction has ended."""
        change, done = one.change, one.step is Step.DONE
        told = Ended(one.key, change.kind, change.from_role, change.to_role, done, one.why, one.forced, now - one.started_s)
        with self._lock:
            self._ended[key] = (*self._ended.get(key, ()), told)[-MOST_TOLD:]

    def told(self, key: str) -> tuple[Ended, ...]:
        """Those that have ended since this was asked last."""
        with self._lock:
            return self._ended.pop(key, ())
