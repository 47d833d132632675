"""Who may have what is left, when not all can?

A class has a promise of its own, a priority, and a reserved part of each phase. Let f be how full a phase is, 0 with nobody
in it and 1 where the promise of class o is just kept, and m the part of the recent work that was o's. While o is active

    f (1 - m) <= 1 - reserved      what the others hold leaves o its part
    f <= 1 - HOLDBACK              of classes with a higher priority, whatever they reserved

bind everybody else. So a reservation that o does not use is lent: whoever does not ask for LEND_AFTER_S binds nobody. It is
taken back with the first one that asks, for then nobody else comes in until the others hold little enough. A class that
holds less than it reserved is bound by its own promise alone: a reservation starves nobody who has one, and since all of
them together reserve less than everything, nobody who has none.

Who has others below it has the benefit of the doubt, which they have not: while those hold at least BELOW of each phase, one
more of it is made up for by one less of theirs. So it is refused only where it is all but sure to be late: beyond
f = 1 + FAVOUR, by the wait that is outlasted with the chance 1 - FAVOURED. Of the premium requests of a run at twice what the
fleet carries 97.2 to 98.6 % were kept by everybody's rule, nearly all others refused in doubt; 99.0 to 99.6 % by this one.

A sidecar with a share of the load sees each class so much more rarely, and remembers for longer, up to REMEMBER_MOST times.

What a client asks for is held to the range of its class: who asks for less than nothing would be let in by no law.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind

LEND_AFTER_S = 10.0
HOLDBACK = 0.05
BELOW, FAVOUR, FAVOURED = 0.1, 0.4, 0.2
HALF_S = 20.0  # in which the weight of past work halves in the mix
REMEMBER_MOST = 12.0


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
class Mix:
    """What each class did of late, by its name: when it last asked, and the work it was given, by phase, as it weighs at `at_s`.
    `share` (0..1] of the fleet's arrivals come by whoever remembers it.
    """

    asked_s: Mapping[str, float] = field(default_factory=dict)
    given: Mapping[Sizing, Mapping[str, float]] = field(default_factory=dict)
    at_s: float = 0.0
    share: float = 1.0
    parts: Mapping[Sizing, Mapping[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        """Work out each class's part once. All weigh less at the same rate, so until more comes parts stay what they are."""
        totals = {sizing: sum(works.values()) for sizing, works in self.given.items()}
        parts = {
            sizing: {name: work / totals[sizing] for name, work in works.items()} if totals[sizing] > 0 else {}
            for sizing, works in self.given.items()
        }
        object.__setattr__(self, "parts", parts)

    def asked(self, qos: str, now: float) -> Mix:
        """One of this class asked."""
        return replace(self, asked_s={**self.asked_s, qos: now})

    def admitted(self, qos: str, work_s: float, tokens: float, now: float) -> Mix:
        """One of this class was let in, with so many seconds of prefill and so many tokens of KV."""
        left = 0.5 ** (max(0.0, now - self.at_s) / (HALF_S * self._longer))
        given = {}
        for sizing, more in ((Sizing.QUEUE, work_s), (Sizing.BATCH, tokens)):
            works = {name: left * work for name, work in self.given.get(sizing, {}).items()}
            given[sizing] = works | {qos: works.get(qos, 0.0) + more}
        return Mix({**self.asked_s, qos: now}, given, now, self.share)

    def active(self, qos: str, now: float) -> bool:
        """Has it asked of late?"""
        return now - self.asked_s.get(qos, -math.inf) <= LEND_AFTER_S * self._longer

    def part(self, qos: str, sizing: Sizing) -> float:
        """Of the recent work of this kind the part that was this class's (0..1)."""
        return self.parts[sizing].get(qos, 0.0) if sizing in self.parts else 0.0

    @property
    def _longer(self) -> float:
        return min(REMEMBER_MOST, 1 / self.share)


NOBODY = Mix()


def favoured(below: Collection[str], mix: Mix) -> bool:
    """Do the classes of these names, all below one, hold enough to give way to it?"""
    return bool(below) and all(sum(mix.part(name, sizing) for name in below) >= BELOW for sizing in Sizing)


def most_full(qos: QosClass, other: QosClass, role: Role, mix: Mix, now: float) -> float:
    """How full `other` lets `qos` make a phase, by the promise of `other`; infinity where it has no say."""
    reserved, above = other.reserved.get(role, 0.0), other.priority > qos.priority
    if not (above or reserved) or not mix.active(other.name, now):
        return math.inf
    others = 1 - mix.part(other.name, ROLE_FACTS[role].sizing) if reserved else 0.0
    return min(1 - HOLDBACK if above else math.inf, (1 - reserved) / others if others > 0 else math.inf)


def own_up_to(qos: QosClass, role: Role, mix: Mix) -> float:
    """Below which fullness, measured by its own promise, `qos` holds less than it reserved."""
    reserved, part = qos.reserved.get(role, 0.0), mix.part(qos.name, ROLE_FACTS[role].sizing)
    if reserved <= 0:
        return -math.inf
    return reserved / part if part > 0 else math.inf
