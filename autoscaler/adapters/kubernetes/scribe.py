"""When is a fleet's status written to its PDAutoscaler, and when are its Events?

`report` only keeps the newest status; WRITERS threads write, each for another fleet, while this controller leads. At once
when something changes that a reader acts on (mode, reason, counts, a flip, a condition); otherwise, when only times, shares
and what was learned moved on, in the fleet's own slot of every minute, so that 500 quiet fleets are 500 writes a minute and
never many at once. The first one of a term is written at once whatever it says: it is the claim that shuts a predecessor out
(ledger.py).

Never more than one write in SPACING_S: 20 a second tell of 500 fleets in 25 s after a fail-over, and are a small part of
what an API server grants one client. Nothing piles up: of a fleet there is one status to write, the newest, and few Events.

A server that does not answer, or is too busy, is left alone for a while that doubles up to OUTAGE_S; an object whose write
is refused or hangs likewise, by itself. So a broken object costs the others one request a minute, and one of WRITERS for as
long as that hangs: a webhook that is asked about one namespace's objects takes 5 s of each. Is it the object or the server?
One that failed before says nothing new about the server: it makes nobody else wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from zlib import crc32

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.events import BURST, Restraint, collection, event, happenings
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.adapters.kubernetes.story import story
from autoscaler.core.status import Status
from autoscaler.errands import attempt
from autoscaler.ports import Leadership

SPACING_S = 0.05
SLOT_S = 60.0
OUTAGE_S = 30.0  # the longest pause for a server
BROKEN_S = 60.0  # the longest pause for one object
LOOK_S = 1.0  # the longest sleep: whether we lead is asked by then
PATIENCE_S = 1.5  # for the request under way, when stopping
WRITERS = 8
BUSY, EXISTS, MISSING = 429, 409, 404
COUNTS = ("desired", "target", "recommended", "serving")

log = logging.getLogger(__name__)


class Publisher(Protocol):
    """Writes statuses; `Ledger` does."""

    def publish(self, kept: Kept, term: int, story: Body, record: Mapping[str, Any] | None) -> ApiFault | None:
        """Write one."""
        ...

    def forget(self, key: str) -> None:
        """The fleet is managed no more."""
        ...


class EventsApi(Protocol):
    """What Events need of an API server."""

    def create(self, path: str, body: Body) -> Body | ApiFault:
        """A new object in a collection."""
        ...


@dataclass(slots=True)
class _Desk:
    """What lies ready for one object in one term. `seen` is what readers were told in it; times are monotonic."""

    term: int
    kept: Kept
    story: Body
    restraint: Restraint = field(default_factory=Restraint)
    seen: Mapping[str, Any] = field(default_factory=dict)
    written_s: float = 0.0
    record: Mapping[str, Any] | None = None
    due_s: float = float("inf")
    retry_s: float = 0.0
    failures: int = 0
    events: deque[Body] = field(default_factory=lambda: deque(maxlen=BURST))
    events_s: float = 0.0  # since when one waits
    busy: bool = False  # a request of its is under way

    @property
    def next_s(self) -> float:
        """When there is something to do."""
        return max(min(self.due_s, self.events_s) if self.events else self.due_s, self.retry_s)

    def status_first(self, now: float) -> bool:
        """Whether the status has waited longer than the oldest Event. Turn about after a failure, so that one that is never
        taken does not keep the other from being told.
        """
        if not self.events or self.due_s > now:
            return not self.events
        return (self.due_s <= self.events_s) is (self.failures % 2 == 0)

    def plan(self, now: float) -> None:
        """At once if readers would see another thing, else in the slot that follows the last write by half a minute or
        more: after a write for a change that is 30 to 90 s later, and otherwise 60.
        """
        if _seen(self.story) != self.seen:
            self.due_s = min(self.due_s, now)  # who waits already keeps his place
        else:
            phase_s = crc32(self.kept.key.encode()) % 60_000 / 1000
            earliest_s = self.written_s + SLOT_S / 2
            self.due_s = earliest_s + (phase_s - earliest_s) % SLOT_S


class Scribe:
    """StatusSink that writes statuses and Events to a cluster. `instance` names this process in Events.

    `writes` and `failures` count requests that were and were not carried out. `step` does one; `start` does so in threads
    until `stop`.
    """

    def __init__(
        self,
        kept: Callable[[str], Kept | None],
        publisher: Publisher,
        events: EventsApi,
        leadership: Leadership,
        instance: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept, self._publisher, self._events = kept, publisher, events
        self._leadership, self._instance, self._monotonic = leadership, instance, monotonic
        self.writes = self.failures = 0
        self._lock = threading.Lock()  # held for moments, never during a request
        self._desks: dict[str, _Desk] = {}
        self._term: int | None = None
        self._next_s, self._outage = 0.0, 0
        self._wake, self._stopping = threading.Event(), threading.Event()
        names = [f"scribe {number}" for number in range(WRITERS)]
        self._threads = [threading.Thread(target=self._run, name=name, daemon=True) for name in names]

    def report(self, status: Status) -> None:
        """Keep the newest; never waits for the outside."""
        kept, term = self._kept(status.key), self._leadership.term()
        if kept is None or term is None:
            return
        now = self._monotonic()
        with self._lock:
            desk = self._desks.get(status.key)
            if desk is None or (desk.kept.uid, desk.term) != (kept.uid, term):
                desk = self._desks[status.key] = _Desk(term, kept, dict(kept.status))
            told = [desk.restraint.admit(happening, now) for happening in happenings(status, desk.story)]
            if not desk.events:
                desk.events_s = now
            desk.events.extend(event(one, kept, self._instance, status.now, n) for n, one in enumerate(told) if one)
            desk.kept, desk.story, desk.record = kept, story(status, desk.story, kept.generation), status.state
            desk.plan(now)
            pressing = desk.next_s <= now
        if pressing:
            self._wake.set()

    def written(self) -> tuple[int, int]:
        """How many writes the cluster took, and how many it did not."""
        return self.writes, self.failures

    def forget(self, key: str) -> None:
        """The fleet is managed no more: nothing of it is left to write."""
        with self._lock:
            self._desks.pop(key, None)
        self._publisher.forget(key)

    def step(self) -> float:
        """Do one write if one is due; the seconds until another may be."""
        now, term = self._monotonic(), self._leadership.term()
        with self._lock:
            if term != self._term:  # whoever leads next looks for himself
                self._term = term
                self._desks = {key: desk for key, desk in self._desks.items() if desk.term == term}
            if term is None:
                return LOOK_S
            desk = min((one for one in self._desks.values() if not one.busy), key=lambda desk: desk.next_s, default=None)
            at_s = LOOK_S + now if desk is None else max(self._next_s, desk.next_s)
            if desk is None or at_s > now:
                return min(at_s - now, LOOK_S)
            self._next_s, desk.busy = now + SPACING_S, True
            told = desk.story if desk.status_first(now) else None
        try:
            if told is None:
                self._tell(desk)
            else:
                self._publish(desk, told, now)
        finally:
            desk.busy = False
        return SPACING_S

    def start(self) -> None:
        """Write until `stop`."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Write no more. Requests under way are waited for a moment."""
        self._stopping.set()
        self._wake.set()
        ends_s = time.monotonic() + PATIENCE_S
        for thread in self._threads:
            thread.join(max(0.0, ends_s - time.monotonic()))

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(attempt("writing", "", self.step, lambda _: LOOK_S))
            self._wake.clear()

    def _tell(self, desk: _Desk) -> None:
        body = desk.events[0]
        answer = self._events.create(collection(desk.kept.namespace), body)
        fault = answer if isinstance(answer, ApiFault) and answer.status != EXISTS else None
        with self._lock:
            later = fault is not None and _later(fault)
            if not later and desk.events[0] is body:
                desk.events.popleft()
                desk.events_s = self._monotonic()  # the next one queues up behind those of other fleets
        self._count(desk, "Event", fault)

    def _publish(self, desk: _Desk, told: Body, now: float) -> None:
        kept = desk.kept
        fault = self._publisher.publish(kept, desk.term, told, desk.record)
        with self._lock:
            if fault is None:
                desk.seen, desk.written_s, desk.due_s = _seen(told), now, float("inf")
                if desk.story is not told:
                    desk.plan(now)
            elif fault.status == MISSING and self._desks.get(kept.key) is desk:
                del self._desks[kept.key]  # deleted; the roster has yet to hear of it
        self._count(desk, "status", fault)

    def _count(self, desk: _Desk, what: str, fault: ApiFault | None) -> None:
        """Count a request, and leave alone for a while what did not take it."""
        now = self._monotonic()
        with self._lock:
            if fault is None:
                self.writes += 1
                self._outage = desk.failures = 0
                return
            self.failures += 1
            first = not (desk.failures or self._outage)
            desk.failures += 1
            desk.retry_s = now + min(BROKEN_S, 2.0 ** (desk.failures - 1))
            if _later(fault) and (desk.failures == 1 or fault.status == BUSY):
                self._outage += 1
                self._next_s = now + min(OUTAGE_S, 2.0 ** (self._outage - 1))
        if first and fault.status != MISSING:
            log.warning("%s: its %s was not written: %s", desk.kept.key, what, fault)


def _later(fault: ApiFault) -> bool:
    """Whether the server, and not what was written, is the reason."""
    return fault.unanswered or fault.status == BUSY


def _seen(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a reader of this status acts on."""
    pools = {role: [pool.get(count) for count in COUNTS] for role, pool in (told.get("pools") or {}).items()}
    conditions = {one["type"]: (one["status"], one["reason"]) for one in told.get("conditions") or ()}
    flips = [(one["from"], one["to"], one["phase"]) for one in told.get("flips") or ()]
    return {name: told.get(name) for name in ("observedGeneration", "mode", "reason", "asleep")} | {
        "pools": pools,
        "conditions": conditions,
        "flips": flips,
    }
