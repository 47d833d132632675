"""What happens in one tick, for every fleet?

Observe, decide, act, report: all fleets first, then their signals in parts, and for each part decisions and the beginning of
their writes, so that nobody waits for the last of a thousand to be decoded. Deciding is the core's, seeing and acting the
adapters'; what is left here is the order, the memory between ticks, and the isolation of one fleet from another.

Reading and writing a fleet are errands (errands.py): one that hangs is left behind and found at a later tick, and until
then its fleet is held. So a target that takes 8 s to time out costs the others 0.25 s once, not 8 s at every tick.

Adapters answer faults as values. An exception that still escapes is a bug: it is caught for one fleet at a time (`attempt`),
logged with its traceback, and holds that fleet while the next goes on. What was seen is remembered even when acting
on it failed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from threading import Event

from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.decide import Decision, Memory, decide
from autoscaler.core.fleet import Fleet
from autoscaler.core.observation import Gap, Observation, Signals
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.state import resume
from autoscaler.core.status import Status, refused, status_of, unreadable
from autoscaler.errands import Pace, attempt
from autoscaler.fitting import Fitting
from autoscaler.ports import (
    Alone,
    Clock,
    Fault,
    Fitter,
    FleetGateway,
    FleetScope,
    Leadership,
    Managed,
    PastSource,
    Roster,
    SignalSource,
    StatusSink,
    Unusable,
)
from autoscaler.publishing import Publishing
from autoscaler.rebuilding import Rebuilding

log = logging.getLogger(__name__)

Outcomes = tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class _Write:
    """The writes of one decision, under way in an errand of their own. `late`: they were not all answered in that tick."""

    actions: tuple[Flip | Action, ...]
    late: Event
    ended: Future[Outcomes]

    @property
    def unanswered(self) -> Outcomes:
        """What can be said of them before that has ended."""
        return tuple(Outcome(action, Verdict.PENDING, "no answer yet") for action in self.actions)


@dataclass(frozen=True, slots=True)
class _Turn:
    """One fleet's tick between deciding and reporting: what was seen and decided, and the write to tell of, if any."""

    managed: Managed
    observation: Observation
    decision: Decision
    write: _Write | None


class Controller:
    """Keeps the fleets it manages the right size, one `tick` at a time. Not thread-safe: one tick at once.

    Each fleet is looked at on the beats nearest to its own `Managed.tick_s`. Without the leadership it does everything but
    act: its memory stays warm, so a successor need not wait for a stabilization window before it may shrink. `fitter` fits
    ARIMA, `past` tells what forecasts of a fleet new to this process begin with, and `publishing` tells sidecars what was seen;
    all three can be done without.
    """

    def __init__(  # noqa: PLR0913 - one argument for each door
        self,
        roster: Roster,
        clock: Clock,
        signals: SignalSource,
        gateway: FleetGateway,
        sinks: Sequence[StatusSink] = (),
        leadership: Leadership | None = None,
        *,
        pace: Pace | None = None,
        fitter: Fitter | None = None,
        past: PastSource | None = None,
        publishing: Publishing | None = None,
    ) -> None:
        self._roster, self._clock, self._signals, self._gateway, self._sinks = roster, clock, signals, gateway, sinks
        self._leadership, self._pace = leadership or Alone(), pace or Pace()
        self._publishing = publishing
        self._fitting, self._rebuilding = Fitting(fitter), Rebuilding(past, clock.now, self._pace.spare)
        self._memory: dict[str, tuple[str, Memory]] = {}  # by key: of which object, and what is remembered
        self._known: set[str] = set()
        self._slots: dict[str, int] = {}
        self._reading: dict[str, Future[Fleet | Fault]] = {}
        self._writes: dict[str, _Write] = {}

    def warm(self) -> None:
        """Look at every fleet once, with more patience than a tick has, so that the first tick sees what there is."""
        now = self._clock.now()
        managed = [one for one in self._roster.managed() if isinstance(one, Managed)]
        self._reading = {one.key: self._pace.executor.submit(self._read_fleet, one.key, now) for one in managed}
        self._pace.settle_slowly(self._reading.values())

    def tick(self) -> tuple[Status, ...]:
        """One look at every fleet that is due and what followed from it, in the order they are managed."""
        self._rebuilding.pause()
        now = self._clock.now()
        roster = self._roster.managed()
        self._forget({one.key for one in roster})
        self._fitting.take(self._memory)
        due = [one for one in roster if self._is_due(one, now)]
        managed = [one for one in due if isinstance(one, Managed)]
        fleets = self._read_fleets(managed, now)
        scopes = [one.scope(fleet, now) for one in managed if isinstance(fleet := fleets[one.key], Fleet)]
        hanging = set(self._writes)
        turns: dict[str, _Turn | Status] = {}
        for part in self._signals_in_parts(scopes, now):
            turns |= {one.key: self._begin(one, fleets[one.key], part[one.key], now) for one in managed if one.key in part}
        turns |= {one.key: self._begin(one, fleets.get(one.key), None, now) for one in due if one.key not in turns}
        self._pace.settle([write.ended for key, write in self._writes.items() if key not in hanging])
        statuses = tuple(self._end(turns[one.key]) for one in due)
        for status in statuses:
            self._report(status)
        self._fitting.give(self._memory)
        self._rebuilding.resume()
        return statuses

    def finish(self) -> bool:
        """Wait a moment for writes that are under way; whether all have ended. No tick may follow."""
        self._pace.settle([write.ended for write in self._writes.values()])
        return all(write.ended.done() for write in self._writes.values())

    def _is_due(self, one: Managed | Unusable, now: float) -> bool:
        """Due once in every stretch of `tick_s`. The stretches of all fleets begin together, so that one query serves all."""
        if self._pace.beat_s is None or one.tick_s <= self._pace.beat_s:
            return True
        slot, last = int((now + self._pace.beat_s / 2) // one.tick_s), self._slots.get(one.key)
        self._slots[one.key] = slot
        return slot != last

    def _forget(self, keys: set[str]) -> None:
        """Fleets that are managed no more. A write still under way ends by itself; its outcome concerns nobody."""
        for gone in self._known - keys:
            for remembered in (self._slots, self._memory, self._writes):
                remembered.pop(gone, None)
            self._rebuilding.forget(gone)
            if self._publishing is not None:
                self._publishing.forget(gone)
            for sink in self._sinks:
                attempt("forgetting", gone, partial(sink.forget, gone), lambda _: None)
        self._known = keys

    def _read_fleets(self, managed: Iterable[Managed], now: float) -> dict[str, Fleet | Fault]:
        """Every fleet; a Fault for one whose reading hangs. It is not read again, nor waited for, before that has ended."""
        hanging = {key: errand for key, errand in self._reading.items() if not errand.done()}
        begun = {one.key: self._pace.executor.submit(self._read_fleet, one.key, now) for one in managed if one.key not in hanging}
        self._pace.settle(begun.values())
        self._reading = hanging | begun
        unread = Fault("cluster", "no answer yet; the other fleets do not wait for it")
        return {key: errand.result() if errand.done() else unread for key, errand in self._reading.items()}

    def _read_fleet(self, key: str, now: float) -> Fleet | Fault:
        return attempt("reading the fleet", key, lambda: self._gateway.read(key, now), lambda why: Fault("fleet", why))

    def _signals_in_parts(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
        """What is told of these fleets, as it comes. Where the source has a bug the rest is unknown."""
        left = {scope.key for scope in scopes}

        def failed(why: str) -> Mapping[str, Signals]:
            return {key: Signals.unknown(Gap.MALFORMED, why) for key in left}

        parts = attempt(
            "reading the signals", "", lambda: iter(self._signals.read(scopes, now)), lambda why: iter((failed(why),))
        )
        while left:
            part = attempt("reading the signals", "", lambda: next(parts, None), failed)
            if part is None:
                return
            yield {key: signals for key, signals in part.items() if key in left}
            left -= part.keys()

    def _begin(self, one: Managed | Unusable, fleet: Fleet | Fault | None, signals: Signals | None, now: float) -> _Turn | Status:
        """Decide, and set the writes going; a Status at once where there is nothing to decide on."""
        if isinstance(one, Unusable):
            return refused(one.key, now, one.finding)
        if not isinstance(fleet, Fleet):
            why = f"{fleet.door}: {fleet.detail}" if fleet else "it was not read"
            return _held(one, now, Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, why))
        signals = signals or Signals.unknown(Gap.MISSING, "the signal source gave nothing for this fleet")
        observation = Observation(now, fleet, signals)
        return attempt(
            "the tick",
            one.key,
            lambda: self._decide(one, observation),
            lambda why: _held(one, now, Finding(Stage.PLAN, Reason.INTERNAL_ERROR, why)),
        )

    def _decide(self, managed: Managed, observation: Observation) -> _Turn | Status:
        memory = self._recall(managed, observation.now)
        if isinstance(memory, Finding):
            return _held(managed, observation.now, memory)
        decision = decide(observation, self._rebuilding.merged(managed, memory), managed.policy)
        self._memory[managed.key] = managed.uid, decision.memory
        self._rebuilding.note(managed, observation, decision.memory)
        if self._publishing is not None:
            self._publishing.note(managed, observation, decision.memory)
        write = self._writes.get(managed.key)
        if write is not None and decision.plan.to_apply:
            text = "an earlier write was not answered in time; nothing is written before the next look"
            decision = _noting(decision, Reason.WRITE_PENDING, text)
        elif decision.plan.to_apply:
            late = Event()
            ended = self._pace.executor.submit(self._act, managed.key, decision, observation.now, late)
            write = self._writes[managed.key] = _Write(decision.plan.to_apply, late, ended)
        return _Turn(managed, observation, decision, write)

    def _recall(self, managed: Managed, now: float) -> Memory | Finding:
        """What is remembered of this very object; what an earlier leader left of it at first sight."""
        uid, memory = self._memory.get(managed.key, (None, None))
        return memory if memory is not None and uid == managed.uid else resume(managed.state, now)

    def _end(self, turn: _Turn | Status) -> Status:
        """The status of one fleet's tick, with what has become of its writes so far."""
        if isinstance(turn, Status):
            return turn
        decision = turn.decision
        outcomes: Outcomes = ()
        if turn.write is not None:
            ended = turn.write.ended.done()  # asked once: a write that ends just now is told at the next tick
            outcomes = turn.write.ended.result() if ended else turn.write.unanswered
            if ended:
                self._writes.pop(turn.managed.key, None)
            else:
                turn.write.late.set()
        if len(outcomes) < len(decision.plan.to_apply) and self._leadership.term() is None:
            decision = _noting(decision, Reason.STANDING_BY, "another controller leads, or nobody does; this one only watches")
        return status_of(turn.observation, decision, outcomes, turn.managed.policy)

    def _act(self, key: str, decision: Decision, now: float, late: Event) -> Outcomes:
        """Apply what may be applied, in order. After a conflict, or once a tick went by, the rest waits for the next look:
        it was decided on a fleet that is no more, and its policy may name another target by now. A write that is refused or
        fails holds nobody else up, for growth is granted on GPUs that are free before any shrink; otherwise a shrink that
        is refused for good would forbid the other role to grow.
        """
        outcomes: list[Outcome] = []
        for action in decision.plan.to_apply:
            term = self._leadership.term()
            if term is None or late.is_set():
                break
            outcome = self._apply(key, action, now, term)
            log.info("%s %s %s: %s", key, action.subject, action.change, outcome.verdict)
            outcomes.append(outcome)
            if outcome.verdict is Verdict.CONFLICT:
                break
        return tuple(outcomes)

    def _apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        return attempt(
            "acting",
            key,
            lambda: self._gateway.apply(key, action, now, term),
            lambda why: Outcome(action, Verdict.FAILED, why),
        )

    def _report(self, status: Status) -> None:
        for sink in self._sinks:
            attempt("reporting", status.key, partial(sink.report, status), lambda _: None)


def _noting(decision: Decision, reason: Reason, text: str) -> Decision:
    """The same decision with one more thing to know about acting on it."""
    finding = Finding(Stage.ACT, reason, text)
    return replace(decision, plan=replace(decision.plan, findings=(*decision.plan.findings, finding)))


def _held(managed: Managed, now: float, finding: Finding) -> Status:
    return unreadable(managed.key, now, managed.policy, finding)
