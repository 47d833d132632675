"""What if the queries that a fleet brings along are slow, or broken?

A fleet's own PromQL may cost Prometheus any time. So it is asked apart from the profiles' queries: by a few threads in the
background, each question for the fleets that ask in exactly the same words, never a second one about a fleet before the
first has ended. A read waits a moment (`grace_s`) for the answers and then goes on without them.

What comes later is not lost: the newest answer there is stands until the next, and grows older by the second, so that the
core believes it for as long as it would believe lost scrapes. A query of 2 s in a tick of 15 s is read 13 s late.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from autoscaler.adapters.prometheus.profile import Query
from autoscaler.adapters.prometheus.promql import Shard, deal
from autoscaler.core.observation import Gap, Known, Reading, Signals, Traffic, Unknown
from autoscaler.errands import Daemons, attempt, settle
from autoscaler.ports import FleetScope

AT_ONCE = 8  # questions; Prometheus itself works on 20 at once by default, and has others to answer
KEPT_S = 300.0  # Prometheus' own look-back: no sample in its answers is older

Askable = tuple[FleetScope, Mapping[str, Query]]
Ask = Callable[[Shard], Mapping[str, Signals]]  # may block, is called from several threads
Question = Future[list["_Answer"]]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was said, in answer to what, and when (monotonic seconds)."""

    scope: FleetScope
    signals: Signals
    ended_s: float


class OwnQueries:
    """Asks about fleets with queries of their own, beside everything else. `shard_pods` as for `deal`."""

    def __init__(self, shard_pods: int, grace_s: float) -> None:
        self._shard_pods, self._grace_s = shard_pods, grace_s
        self._threads = Daemons(AT_ONCE)
        self._open: dict[str, Question] = {}  # by fleet; one question may be several fleets'
        self._newest: dict[str, _Answer] = {}

    def begin(self, askable: Sequence[Askable], ask: Ask) -> Collection[Question]:
        """Ask about every fleet that is not being asked about yet; these questions are to be handed to `collect`."""
        self._file_answers()
        begun = []
        for shard in deal([one for one in askable if one[0].key not in self._open], self._shard_pods):
            begun.append(self._threads.submit(partial(_answer, shard, ask)))
            self._open |= dict.fromkeys((scope.key for scope in shard.scopes), begun[-1])
        return begun

    def collect(self, askable: Sequence[Askable], begun: Collection[Question]) -> dict[str, Signals]:
        """The newest answer about each fleet, after a moment of grace for what was just begun."""
        settle(begun, self._grace_s, self._grace_s)
        self._file_answers()
        now_s = time.monotonic()
        return {scope.key: self._of(scope, now_s) for scope, _ in askable}

    def _of(self, scope: FleetScope, now_s: float) -> Signals:
        newest = self._newest.get(scope.key)
        if newest is None or not _same_question(newest.scope, scope):
            return Signals.unknown(Gap.TIMEOUT, f"own queries: no answer within {self._grace_s:g} s, still being asked")
        return _older(newest.signals, now_s - newest.ended_s)

    def _file_answers(self) -> None:
        """Keep what came home, and forget what nobody asked about for long: a fleet that is gone, most likely."""
        ended = {question for question in self._open.values() if question.done()}
        self._open = {key: question for key, question in self._open.items() if question not in ended}
        for question in ended:
            self._newest |= {answer.scope.key: answer for answer in question.result()}
        oldest_s = time.monotonic() - KEPT_S
        self._newest = {key: answer for key, answer in self._newest.items() if answer.ended_s >= oldest_s}


def _answer(shard: Shard, ask: Ask) -> list[_Answer]:
    """A bug that met this fleet's strange answer must not reach the other fleets."""

    def unread(why: str) -> Mapping[str, Signals]:
        return {scope.key: Signals.unknown(Gap.MALFORMED, f"own queries: {why}") for scope in shard.scopes}

    signals = attempt("reading own queries", shard.scopes[0].key, partial(ask, shard), unread)
    ended_s = time.monotonic()
    return [_Answer(scope, signals[scope.key], ended_s) for scope in shard.scopes]


def _same_question(answered: FleetScope, asked: FleetScope) -> bool:
    """Whether an answer about the one is one about the other. Pods come and go; the core asks for those it misses."""
    return replace(answered, pods={}) == replace(asked, pods={})


def _older(signals: Signals, by_s: float) -> Signals:
    """The same, read so many seconds ago."""
    gauges, traffic = signals.gauges, signals.traffic
    if not isinstance(gauges, Unknown):
        gauges = {pod: replace(gauge, age_s=gauge.age_s + by_s) for pod, gauge in gauges.items()}
    roles = {role: replace(told, tokens_per_request=_aged(told.tokens_per_request, by_s)) for role, told in signals.roles.items()}
    read: dict[str, Any] = {one.name: getattr(traffic, one.name) for one in fields(traffic)}
    read |= {name: _aged(told, by_s) for name, told in read.items() if isinstance(told, Known)}
    return Signals(gauges, roles, Traffic(**read))


def _aged(reading: Reading, by_s: float) -> Reading:
    return replace(reading, age_s=reading.age_s + by_s) if isinstance(reading, Known) else reading
