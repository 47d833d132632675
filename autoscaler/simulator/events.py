"""What is going to happen, and to whom?

The `Agenda` is the one list of future events, ordered by time and, at one instant, by when they were entered: so a
run repeats exactly. A `Job` is one try of a request on its way through the fleet; a `Server` works on it; a `Site` is
what a server finds around it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from heapq import heappop, heappush
from math import inf
from typing import Any, Protocol, TypeVar

from autoscaler.core.profile import ReplicaProfile
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


class Cause(StrEnum):
    """Why a try of a request came to nothing."""

    REJECTED = "rejected"  # turned away at arrival, or between two roles
    REPLICA_LOST = "replica lost"
    NODE_LOST = "node lost"
    DRAIN_DEADLINE = "drain deadline"


class Job:
    """One try of a request: when it was sent, which of the client's tries it is (0: the first), and how far it has come.

    `holder` computes its prompt, then holds the KV until it is fetched; `target` has promised it room or decodes it.
    """

    __slots__ = (
        "attempt", "computed", "entered_s", "first_token_s", "holder", "request", "sent_s", "target", "uncached_tokens",
    )  # fmt: skip

    def __init__(self, request: Request, sent_s: float, attempt: int = 0) -> None:
        self.request, self.attempt = request, attempt
        self.sent_s = self.entered_s = sent_s
        self.first_token_s = inf
        self.uncached_tokens = 0
        self.computed = False
        self.holder: Server | None = None
        self.target: Server | None = None

    def tpot_s(self, now: float) -> float:
        """Seconds per output token after the first, if the last one came now; 0 where there is only one."""
        after_first = self.request.output_tokens - 1
        return (now - self.first_token_s) / after_first if after_first > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a server tells: the first token reached the user; the request is done here; it has been promised room here
    before its prompt is computed.
    """

    first_token: Callable[[Job], None]
    done: Callable[[Job, float], None]
    granted: Callable[[Job, float], None]


class Link(Protocol):
    """What carries KV from one replica to another, and shares its bytes per second among all that it carries."""

    def send(self, job: Job, arrived: Callable[[Job, float], None], now: float) -> None:
        """Carry a prompt's KV and call `arrived` when its last byte is there."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """What a server finds around it, and how it is set up.

    `link` None: every transfer has a link of its own. `preallocates`: room in decode comes before the prompt is computed
    (push), not after (pull). `cache_tokens`: how much of past prompts a replica keeps; 0: requests say what is cached.
    """

    agenda: Agenda
    hooks: Hooks
    link: Link | None = None
    preallocates: bool = False
    cache_tokens: int = 0


class Server(Protocol):
    """A replica at work. The two kinds are `queue_server` and `batch_server`."""

    metrics: ReplicaMetrics

    def __init__(self, profile: ReplicaProfile, metrics: ReplicaMetrics, site: Site) -> None: ...

    @property
    def load(self) -> int:
        """Tokens ahead of a newcomer, to compare replicas of one role by."""
        ...

    @property
    def requests(self) -> int:
        """Requests here that have not ended."""
        ...

    def cost(self, request: Request) -> int:
        """Tokens that this request would add to `load`."""
        ...

    def take(self, job: Job, now: float) -> None:
        """Accept a request."""
        ...

    def deliver(self, job: Job, now: float) -> None:
        """The prompt of a request that was promised room here is computed: fetch its KV."""
        ...

    def release(self, job: Job, now: float) -> None:
        """Free the KV of a request that another role has fetched."""
        ...

    def drain(self, now: float, emptied: Callable[[float], None]) -> list[Job]:
        """Accept nothing more, give back what has not begun, call `emptied` when the rest is done."""
        ...

    def forget(self, job: Job, now: float) -> None:
        """Drop a request that has failed, wherever it stands here."""
        ...

    def refresh(self, now: float) -> None:
        """Bring counters and gauges up to `now`."""
        ...

    def occupancy(self) -> Occupancy:
        """Gauges as of the last event or `refresh`."""
        ...
