"""Who may have what is left, when not all can?

A class has a promise of its own, a priority, and a reserved part of each phase. Let f be how full a phase is, 0 with nobody
in it and 1 where the promise of class o is just kept, and m the part of the recent work that was o's. While o is active

    f (1 - m) <= 1 - reserved      what the others hold leaves o its part
    f <= 1 - HOLDBACK              of classes with a higher priority, whatever they reserved

bind everybody else. So a reservation that o does not use is lent: whoever does not ask for LEND_AFTER_S binds nobody. It is
taken back with the first one that asks, for then nobody else comes in until the others hold little enough. A class that
holds less than it reserved is bound by its own promise alone: a reservation starves nobody who has one, and since all of
them together reserve less than everything, nobody who has none.

What a client asks for is held to the range of its class: who asks for less than nothing would be let in by no law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind

LEND_AFTER_S = 10.0
HOLDBACK = 0.1
HALF_S = 20.0  # in which the weight of past work halves in the mix


@dataclass(frozen=True, slots=True)
class Promise:
    """Seconds that a class is promised, and between which its clients may ask for others. To the share `quantile` (0..1) of its
    requests it is to be kept, so what others leave must be enough for the prompts of that length.
    """

    seconds: float
    least_s: float
    most_s: float
    quantile: float = 0.95

    def clamped(self, asked_s: float) -> float:
        """What a client may have of what it asks for; its class's promise where that is no number of seconds."""
        if not (math.isfinite(asked_s) and asked_s > 0):
            return self.seconds
        return min(self.most_s, max(self.least_s, asked_s))


@dataclass(frozen=True, slots=True)
class QosClass:
    """A class of requests. `headers` are (name in lower case, value) pairs, `objectives` names of InferenceObjectives; any one
    of them makes a request one of this class. `shorten_to`: answers may be cut to so many tokens, None: never.
    """

    name: str
    promises: Mapping[SloKind, Promise]
    priority: int = 0
    reserved: Mapping[Role, float] = field(default_factory=dict)
    headers: tuple[tuple[str, str], ...] = ()
    objectives: frozenset[str] = frozenset()
    may_retry: bool = True
    shorten_to: int | None = None
    degrades_to: str | None = None


@dataclass(frozen=True, slots=True)
class Recent:
    """What one class did: when it last asked, and the work it was given, by phase, as it weighs at `at_s`."""

    asked_s: float = -math.inf
    at_s: float = 0.0
    given: Mapping[Sizing, float] = field(default_factory=dict)

    def weighing(self, now: float) -> Mapping[Sizing, float]:
        """`given` as it weighs at `now`."""
        left = 0.5 ** (max(0.0, now - self.at_s) / HALF_S)
        return {sizing: left * work for sizing, work in self.given.items()}


@dataclass(frozen=True, slots=True)
class Mix:
    """What each class did of late, by its name."""

    recent: Mapping[str, Recent] = field(default_factory=dict)

    def asked(self, qos: str, now: float) -> Mix:
        """One of this class asked."""
        return Mix({**self.recent, qos: replace(self.recent.get(qos, Recent()), asked_s=now)})

    def admitted(self, qos: str, work_s: float, tokens: float, now: float) -> Mix:
        """One of this class was let in, with so many seconds of prefill and so many tokens of KV."""
        before = self.recent.get(qos, Recent())
        weight, brings = before.weighing(now), {Sizing.QUEUE: work_s, Sizing.BATCH: tokens}
        given = {sizing: weight.get(sizing, 0.0) + more for sizing, more in brings.items()}
        return Mix({**self.recent, qos: Recent(now, now, given)})

    def active(self, qos: str, now: float) -> bool:
        """Has it asked of late?"""
        found = self.recent.get(qos)
        return found is not None and now - found.asked_s <= LEND_AFTER_S

    def part(self, qos: str, sizing: Sizing, now: float) -> float:
        """Of the recent work of this kind the part that was this class's (0..1)."""
        everybody = {name: found.weighing(now).get(sizing, 0.0) for name, found in self.recent.items()}
        total = sum(everybody.values())
        return everybody.get(qos, 0.0) / total if total > 0 else 0.0


NOBODY = Mix()


def class_of(classes: Sequence[QosClass], headers: Mapping[str, str], objective: str | None = None) -> QosClass | None:
    """The first class that a request's headers (names in lower case) or its objective's name belong to; None: the default."""
    for one in classes:
        if objective is not None and objective in one.objectives:
            return one
        if any(headers.get(name) == value for name, value in one.headers):
            return one
    return None


def most_full(qos: QosClass, other: QosClass, role: Role, mix: Mix, now: float) -> float:
    """How full `other` lets `qos` make a phase, by the promise of `other`; infinity where it has no say."""
    reserved, above = other.reserved.get(role, 0.0), other.priority > qos.priority
    if not (above or reserved) or not mix.active(other.name, now):
        return math.inf
    others = 1 - mix.part(other.name, ROLE_FACTS[role].sizing, now) if reserved else 0.0
    return min(1 - HOLDBACK if above else math.inf, (1 - reserved) / others if others > 0 else math.inf)


def within_its_own(qos: QosClass, role: Role, full: float, mix: Mix, now: float) -> bool:
    """Does `qos` hold less than it reserved? `full` is f, measured by its own promise."""
    reserved = qos.reserved.get(role, 0.0)
    return reserved > 0 and full * mix.part(qos.name, ROLE_FACTS[role].sizing, now) < reserved
