"""What is going to happen, and to whom?

The `Agenda` is the one list of future events, ordered by time and, at one instant, by when they were entered: so a
run repeats exactly. A `Job` is a request on its way through the fleet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any, Protocol, TypeVar

from autoscaler.core.capacity import ReplicaProfile
from autoscaler.simulator.metrics import Occupancy, ReplicaMetrics
from autoscaler.simulator.workload import Request

T = TypeVar("T")


class Agenda:
    """Future events. Times in virtual seconds."""

    __slots__ = ("_entered", "_events")

    def __init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[Any, float], None], Any]] = []
        self._entered = 0

    def at(self, time_s: float, action: Callable[[T, float], None], argument: T) -> None:
        """Have `action(argument, time_s)` called at `time_s`."""
        self._entered += 1
        heappush(self._events, (time_s, self._entered, action, argument))

    @property
    def next_s(self) -> float:
        """When the next event is due; infinity if none is."""
        return self._events[0][0] if self._events else inf

    def run_next(self) -> None:
        """Take the next event off the list and let it happen."""
        time_s, _, action, argument = heappop(self._events)
        action(argument, time_s)


class Job:
    """A request in the fleet: when it came to the replica it is at, who holds its KV, when its first token came."""

    __slots__ = ("entered_s", "first_token_s", "holder", "request")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.entered_s = request.arrival_s
        self.first_token_s = inf
        self.holder: Server | None = None

    def tpot_s(self, now: float) -> float:
        """Seconds per output token after the first, if the last one came now; 0 where there is only one."""
        after_first = self.request.output_tokens - 1
        return (now - self.first_token_s) / after_first if after_first > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a server tells: the first token reached the user; the request is done here."""

    first_token: Callable[[Job], None]
    done: Callable[[Job, float], None]


class Server(Protocol):
    """A replica at work. The two kinds are `queue_server` and `batch_server`."""

    metrics: ReplicaMetrics

    def __init__(self, profile: ReplicaProfile, metrics: ReplicaMetrics, agenda: Agenda, hooks: Hooks) -> None: ...

    @property
    def load(self) -> int:
        """Tokens ahead of a newcomer, to compare replicas of one role by."""
        ...

    def take(self, job: Job, now: float) -> None:
        """Accept a request."""
        ...

    def release(self, job: Job, now: float) -> None:
        """Free the KV of a request that another role has fetched."""
        ...

    def drain(self, now: float, emptied: Callable[[float], None]) -> list[Job]:
        """Accept nothing more, give back what has not begun, call `emptied` when the rest is done."""
        ...

    def refresh(self, now: float) -> None:
        """Bring counters and gauges up to `now`."""
        ...

    def occupancy(self) -> Occupancy:
        """Gauges as of the last event or `refresh`."""
        ...
