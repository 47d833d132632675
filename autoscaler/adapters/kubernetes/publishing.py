"""What is somebody else told to write, and does he?

Where a HorizontalPodAutoscaler writes a pool's count (policy/actuation.py), publishing is our write: it goes wherever the patch
of a count would go, and nowhere else.

    growth, a shrink that cuts nobody off    published by the tick that decides it
    a shrink of replicas that work           published when its transaction would write it: each victim is idle and out of routing
    a paired resize                          the donor's count likewise, the receiver's once the donor's replicas are gone
    anything else, also after a restart      the count that the target has: who reads that has nothing to do

So a hand-over, either way, begins with the count that stands. Who goes at a shrink is the cluster's choice, as it is for a
write of ours (transactions/choosing.py); the victims are those that it will choose.

A transaction asks every second for as long as its step holds; what it has not asked for lately is published no more. A status
carries that out at the next tick, and the reader looks every 15 s: a reader that has not followed for `FOLLOWS_S` and one tick
is told of (HPANotFollowing), and nobody writes in its place. A transaction waits for it a little longer and then goes back.
One that goes back is a tick away from being published, and a reader that wakes up in that tick after two minutes of sleep takes
a replica that is being let in again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

FOLLOWS_S = 60.0  # four looks of a HorizontalPodAutoscaler
RENEWED_S = 5.0  # five beats of the conductor


@dataclass(frozen=True, slots=True)
class Waiting:
    """The count that a target has kept while another was published, since when, and when that was so last."""

    count: int
    since_s: float
    last_s: float


@dataclass(slots=True)
class Published:
    """What is published of one pool. Times in seconds, on the clock of `now`."""

    asked: int | None = None
    asked_s: float = 0.0
    waiting: Waiting | None = None
    told: tuple[int, float] = (0, 0.0)

    def ask(self, count: int, wanted: int, now: float) -> None:
        """A transaction wants `wanted` to be written instead of `count`."""
        self.asked, self.asked_s = wanted, now
        self._wait(count, wanted, now)

    def tell(self, count: int, wanted: int, now: float) -> None:
        """A tick publishes `wanted` while the target has `count`."""
        self.told = wanted, now
        self._wait(count, wanted, now)

    def _wait(self, count: int, wanted: int, now: float) -> None:
        waiting = self.waiting
        if wanted == count:
            self.waiting = None
        elif waiting is None or waiting.count != count or not waiting.since_s <= now:
            self.waiting = Waiting(count, now, now)
        else:
            self.waiting = replace(waiting, last_s=now)

    def at(self, count: int, now: float) -> int:
        """What is published while the target has `count` and no tick has decided anything new."""
        asked = self.asked
        return count if asked is None or not 0 <= now - self.asked_s <= RENEWED_S else asked

    def promised(self, count: int, now: float, tick_s: float) -> int:
        """The most that the target may come to have by what a tick published: also at the tick that takes it back, for the reader
        may have read it just before. What a transaction asks for is counted by that.
        """
        wanted, told_s = self.told
        return max(count, wanted) if 0 <= now - told_s < 2 * tick_s else count

    def waits_s(self, count: int, now: float, tick_s: float) -> float:
        """For how long the target has kept `count` while another was published. One tick without is forgiven: `tick_s` apart."""
        waiting = self.waiting
        if waiting is None or waiting.count != count or not 0 <= now - waiting.last_s <= 2 * tick_s + RENEWED_S:
            self.waiting = None
            return 0.0
        return now - waiting.since_s


def patience_s(tick_s: float) -> float:
    """How long it may take until a published count is written, where a fleet is looked at every `tick_s`."""
    return FOLLOWS_S + tick_s
