"""What happens in one tick, for every fleet?

Observe (all fleets, then all signals at once), decide, act, report. Deciding is the core's, seeing and acting the
adapters'; what is left here is the order, the memory between ticks, and the isolation of one fleet from another.

Adapters answer faults as values. An exception that still escapes is a bug: this is the one place that catches it,
logs it with its traceback, holds that fleet, and goes on with the next. What was seen is remembered even when acting
on it failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from autoscaler.core.decide import Decision, Memory, Policy, decide
from autoscaler.core.fleet import Fleet, Phase
from autoscaler.core.observation import Gap, Observation, Signals
from autoscaler.core.plan import Action, Outcome, Verdict
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import Status, status_of, unreadable
from autoscaler.ports import Clock, Fault, FleetGateway, FleetScope, Leadership, SignalSource, StatusSink

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Managed:
    """One fleet under management: its policy, and where its signals are found."""

    key: str
    namespace: str
    model: str
    policy: Policy
    engine: str = "vllm"
    gateway: str | None = None
    window_s: float = 60.0
    queries: Mapping[str, str] = field(default_factory=dict)

    def scope(self, fleet: Fleet) -> FleetScope:
        """Where to look now: the pods whose work belongs to each role at this moment."""
        pods = {
            role: tuple(replica.name for replica in pool.in_phase(Phase.SERVING, Phase.DRAINING))
            for role, pool in fleet.pools.items()
        }
        return FleetScope(self.key, self.namespace, self.model, self.engine, self.gateway, pods, self.window_s, self.queries)


class Alone:
    """The Leadership of a controller without rivals."""

    def term(self) -> int | None:
        """Always the first."""
        return 0


class Controller:
    """Keeps the fleets it manages the right size, one `tick` at a time. Not thread-safe: one tick at once.

    Without the leadership it does everything but act: its memory stays warm, so a successor need not wait for a
    stabilization window before it may shrink.
    """

    def __init__(
        self,
        managed: Sequence[Managed],
        clock: Clock,
        signals: SignalSource,
        gateway: FleetGateway,
        sinks: Sequence[StatusSink] = (),
        leadership: Leadership | None = None,
    ) -> None:
        self._managed = {fleet.key: fleet for fleet in managed}
        self._clock, self._signals, self._gateway, self._sinks = clock, signals, gateway, sinks
        self._leadership = leadership or Alone()
        self._memory: dict[str, Memory] = {}

    def tick(self) -> tuple[Status, ...]:
        """One look at every fleet and what followed from it, in the order they are managed."""
        now = self._clock.now()
        fleets = {key: self._read_fleet(key, now) for key in self._managed}
        scopes = [self._managed[key].scope(fleet) for key, fleet in fleets.items() if isinstance(fleet, Fleet)]
        signals = self._read_signals(scopes, now)
        statuses = tuple(self._tick_one(self._managed[key], fleet, signals.get(key), now) for key, fleet in fleets.items())
        for status in statuses:
            self._report(status)
        return statuses

    def _read_fleet(self, key: str, now: float) -> Fleet | Fault:
        return _attempt("reading the fleet", key, lambda: self._gateway.read(key, now), lambda why: Fault("fleet", why))

    def _read_signals(self, scopes: Sequence[FleetScope], now: float) -> Mapping[str, Signals]:
        return _attempt(
            "reading the signals",
            "",
            lambda: self._signals.read(scopes, now),
            lambda why: {scope.key: Signals.unknown(Gap.MALFORMED, why) for scope in scopes},
        )

    def _tick_one(self, managed: Managed, fleet: Fleet | Fault, signals: Signals | None, now: float) -> Status:
        if isinstance(fleet, Fault):
            return _held(managed, now, Stage.OBSERVE, Reason.FLEET_UNREADABLE, f"{fleet.door}: {fleet.detail}")
        signals = signals or Signals.unknown(Gap.MISSING, "the signal source gave nothing for this fleet")
        observation = Observation(now, fleet, signals)
        return _attempt(
            "the tick",
            managed.key,
            lambda: self._decide_and_act(managed, observation),
            lambda why: _held(managed, now, Stage.PLAN, Reason.INTERNAL_ERROR, why),
        )

    def _decide_and_act(self, managed: Managed, observation: Observation) -> Status:
        decision = decide(observation, self._memory.get(managed.key, Memory()), managed.policy)
        self._memory[managed.key] = decision.memory
        outcomes = self._act(managed.key, decision, observation.now)
        if len(outcomes) < len(decision.plan.to_apply) and self._leadership.term() is None:
            decision = _standing_by(decision)
        return status_of(observation, decision, outcomes, managed.policy)

    def _act(self, key: str, decision: Decision, now: float) -> tuple[Outcome, ...]:
        """Apply what may be applied, in order. After a conflict the rest waits for the next tick: it was decided on a
        fleet that is no more. A write that is refused or fails holds nobody else up, for growth is granted on GPUs that
        are free before any shrink; otherwise a shrink that is refused for good would forbid the other role to grow.
        """
        outcomes: list[Outcome] = []
        for action in decision.plan.to_apply:
            if self._leadership.term() is None:
                break
            outcome = self._apply(key, action, now)
            log.info("%s %s %s -> %s: %s", key, action.role, action.from_replicas, action.to_replicas, outcome.verdict)
            outcomes.append(outcome)
            if outcome.verdict is Verdict.CONFLICT:
                break
        return tuple(outcomes)

    def _apply(self, key: str, action: Action, now: float) -> Outcome:
        return _attempt(
            "acting",
            key,
            lambda: self._gateway.apply(key, action, now),
            lambda why: Outcome(action, Verdict.FAILED, why),
        )

    def _report(self, status: Status) -> None:
        for sink in self._sinks:
            _attempt("reporting", status.key, partial(sink.report, status), lambda _: None)


def _attempt(what: str, fleet: str, act: Callable[[], T], instead: Callable[[str], T]) -> T:
    """What `act` gives; or, if it has a bug, what stands `instead` of it, told why. The traceback goes to the log."""
    try:
        return act()
    except Exception as error:  # a bug in one fleet's adapter, decision or sink must not end the loop or hold the others
        log.exception("%s failed", what, extra={"fleet": fleet})
        return instead(f"{type(error).__name__}: {error}")


def _standing_by(decision: Decision) -> Decision:
    finding = Finding(Stage.ACT, Reason.STANDING_BY, "another controller leads, or nobody does; this one only watches")
    return replace(decision, plan=replace(decision.plan, findings=(*decision.plan.findings, finding)))


def _held(managed: Managed, now: float, stage: Stage, reason: Reason, text: str) -> Status:
    return unreadable(managed.key, now, managed.policy, Finding(stage, reason, text))
