"""Shall this request be let in, and if not, when may it come again?

It is refused only where a promise of its class would be missed although the fleet could have kept it for fewer: by what is
expected (core/outlook.py), at the quantile `sureness` and with `margin`. Everything that is not known lets it in, with the
reason:

    no_state, stale, unauthenticated, uncalibrated, no_replicas     nothing to go by (law 10)
    unreachable_slo    own prefill and hand-off alone miss the promise: refusing it for ever would help nobody
    idle               a phase in which a replica has nothing to do refuses nobody; no phase objects, and one is idle

Let f be how full a phase is: 0 with nobody in it, 1 where the promise is just kept. A class is refused beyond f = 1 + margin,
and where others' reservations or priorities say so (core/qos.py). Before a no come milder steps: its answer is cut short,
where its class allows that; then it is served in a lower class, by that one's promise.

A breaker is the coarse rule beside: a phase that is TRIP times as full as the loosest promise of all allows trips until it is
back within. Then the phase that queues takes no new prompt, the one that shares steps no answer longer than the mean.

    wait_s of a no     how long until it would be a yes if nobody else came: a queue loses a second per second, a crowd
                       shrinks by exp(-t / t_d). Between LEAST_WAIT_S and MOST_WAIT_S; jitter is the sidecar's
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from autoscaler.core.arrivals import Arrival, Burden, Own
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.outlook import Outlook, Standing, Strategy, long_alone_s, outlook
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.qos import QosClass, most_full, within_its_own

LEAST_WAIT_S, MOST_WAIT_S = 1.0, 30.0
TRIP = 2.0
LEAST_ROOM = 0.05  # of a promise: what others must leave of it at least, also where its longest prompts alone take nearly all


class RejectionMode(StrEnum):
    """What a verdict is for."""

    OFF = "off"  # nobody judges
    SHADOW = "shadow"  # everybody is let in; the ledger tells what would have been
    ENFORCE = "enforce"


class Why(StrEnum):
    """The reason of a verdict, in the words of header and metrics."""

    FITS = "fits"
    SHORTENED = "shortened"
    DEGRADED = "degraded"
    NO_STATE = "no_state"
    STALE = "stale"
    UNAUTHENTICATED = "unauthenticated"
    UNCALIBRATED = "uncalibrated"
    NO_REPLICAS = "no_replicas"
    IDLE = "idle"
    UNREACHABLE = "unreachable_slo"
    TTFT = "ttft"  # a no from here on
    TPOT = "tpot"
    RESERVED = "reserved"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True)
class Rules:
    """How to judge. `classes` by name, `default` names the one of requests that belong to none. `margin`: by what share of the
    time that a promise leaves beyond the request's own it must be missed (below 0: kept), -0.9..1. `sureness`:
    the chance of keeping it below which it is refused, 0.5..0.999. `max_age_s` of a picture: 2 s to enforce.

    A door that lets in up to the very edge keeps decode there, and chance makes many late: at margin 0 30 % of what it let in on
    a ramp to twice what a fleet carries, at -0.05 1 %, with two fifths more promises kept.
    """

    classes: Mapping[str, QosClass]
    default: str
    mode: RejectionMode = RejectionMode.SHADOW
    strategy: Strategy = Strategy.PREDICTIVE
    margin: float = -0.05
    sureness: float = 0.9
    max_age_s: float = 2.0

    def class_named(self, name: str) -> QosClass:
        """The class, or the default one for a name that nobody knows."""
        return self.classes.get(name) or self.classes[self.default]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Yes or no, and why. `qos`: the class it is served in. Seconds expected, None where nothing is known or looked at.
    `max_tokens`: cut its answer to so many, None: as it is. `burden` is what it brings, None where that is not known.
    """

    admit: bool
    why: Why
    qos: str
    ttft_s: float | None = None
    tpot_s: float | None = None
    wait_s: float | None = None
    max_tokens: int | None = None
    burden: Burden | None = None


@dataclass(frozen=True, slots=True)
class _Objection:
    """Why not, and seconds until not any more."""

    why: Why
    wait_s: float


@dataclass(frozen=True, slots=True)
class _Case:
    """What one verdict is about."""

    arrival: Arrival
    standing: Standing
    profile: ReplicaProfile
    own: Own
    rules: Rules
    now: float


def judge(arrival: Arrival, standing: Standing | None, own: Own, rules: Rules, now: float) -> Verdict:
    """The verdict on one arrival at `now`, which costs the same whatever the load."""
    qos = rules.class_named(arrival.qos)
    unknown = _unknown(standing, rules, now)
    if unknown is not None or standing is None or standing.profile is None:
        return Verdict(True, unknown or Why.NO_STATE, qos.name)
    case = _Case(arrival, standing, standing.profile, own, rules, now)
    seen = _outlook(case)
    for kind, alone_s in seen.alone_s.items():
        if alone_s > _promise_s(qos, kind, arrival):
            return _told(True, Why.UNREACHABLE, qos, seen)
    found = _objection(case, qos, seen)
    if found is None:
        return _told(True, Why.IDLE if seen.idle else Why.FITS, qos, seen)
    wait_s = min(MOST_WAIT_S, max(LEAST_WAIT_S, found.wait_s))
    return _milder(case, qos, seen) or replace(_told(False, found.why, qos, seen), wait_s=wait_s)


def remembered(own: Own, verdict: Verdict, asked: str, now: float, *, let_in: bool | None = None) -> Own:
    """`own` after this verdict on a request that `asked` for a class. `let_in`: what really became of it, as in shadow mode;
    None: as the verdict says.
    """
    own = own.asked(asked, now)
    if verdict.burden is not None and (verdict.admit if let_in is None else let_in):
        return own.admitted(verdict.burden, verdict.qos, now)
    return own


def breakers(before: frozenset[Role], standing: Standing, rules: Rules, now: float) -> frozenset[Role]:
    """The phases whose breaker is open with this picture, given those that were open with the one before: for whoever gets the
    picture, to put into its `tripped`.
    """
    if _unknown(standing, rules, now) is not None or standing.profile is None:
        return frozenset()
    seen = _outlook(_Case(Arrival(), standing, standing.profile, Own(), rules, now))
    return frozenset(role for role in standing.crowds if _beyond(role, seen, rules) > (1.0 if role in before else TRIP))


def _unknown(standing: Standing | None, rules: Rules, now: float) -> Why | None:
    """Why the picture is nothing to go by; one from a clock that is ahead is as bad as an old one."""
    if standing is None:
        return Why.NO_STATE
    if not standing.trusted:
        return Why.UNAUTHENTICATED
    if not abs(now - standing.seen_s) <= rules.max_age_s:
        return Why.STALE
    if standing.profile is None:
        return Why.UNCALIBRATED
    return None if standing.serves else Why.NO_REPLICAS


def _outlook(case: _Case) -> Outlook:
    rules = case.rules
    return outlook(case.arrival, case.standing, case.profile, case.own, case.now, (rules.strategy, rules.sureness))


def _promise_s(qos: QosClass, kind: SloKind, arrival: Arrival) -> float:
    promise, asked_s = qos.promises[kind], arrival.asked_s.get(kind)
    return promise.seconds if asked_s is None else promise.clamped(asked_s)


def _told(admit: bool, why: Why, qos: QosClass, seen: Outlook) -> Verdict:
    expected_s = seen.expected_s
    return Verdict(admit, why, qos.name, expected_s[SloKind.TTFT], expected_s.get(SloKind.TPOT), burden=seen.burden)


def _objection(case: _Case, qos: QosClass, seen: Outlook) -> _Objection | None:
    """The first thing that speaks against serving it in this class."""
    margin = 1 + case.rules.margin
    for role in case.standing.crowds:
        facts = ROLE_FACTS[role]
        kind, expected_s = facts.binding_slo, seen.expected_s.get(facts.binding_slo)
        if expected_s is None or role in seen.idle:
            continue
        promise_s, over_s = _promise_s(qos, kind, case.arrival), expected_s - seen.floor_s[kind]
        room_s = max(promise_s - seen.floor_s[kind], LEAST_ROOM * promise_s)
        full = over_s / room_s
        if full > margin:
            return _Objection(_LATE[kind], _WAITS[facts.sizing](full, margin, room_s, case.standing.stay_s))
        if role in case.standing.tripped and _STOPPED[facts.sizing](case):
            return _Objection(Why.BREAKER, LEAST_WAIT_S)
        if not within_its_own(qos, role, full, case.own.mix, case.now):
            found = _for_others(case, qos, role, over_s)
            if found is not None:
                return found
    return None


def _for_others(case: _Case, qos: QosClass, role: Role, over_s: float) -> _Objection | None:
    """What the other classes have to say. `over_s`: seconds by which a newcomer is later than with nobody else there."""
    facts, margin = ROLE_FACTS[role], 1 + case.rules.margin
    for other in case.rules.classes.values():
        if other is qos:
            continue
        most = margin * most_full(qos, other, role, case.own.mix, case.now)
        if most < math.inf:
            promise = other.promises[facts.binding_slo]
            alone_s = long_alone_s(case.standing, case.profile, promise.quantile)[facts.binding_slo]
            room_s = max(promise.seconds - alone_s, LEAST_ROOM * promise.seconds)
            if over_s > most * room_s:
                return _Objection(Why.RESERVED, _WAITS[facts.sizing](over_s / room_s, most, room_s, case.standing.stay_s))
    return None


def _milder(case: _Case, qos: QosClass, seen: Outlook) -> Verdict | None:
    """Served with a shorter answer, or in a lower class, if that helps."""
    asked = case.standing.shape.output_tokens if case.arrival.output_tokens is None else case.arrival.output_tokens
    if qos.shorten_to is not None and qos.shorten_to < asked:
        shorter = replace(case, arrival=replace(case.arrival, output_tokens=float(qos.shorten_to)))
        cut = _outlook(shorter)
        if _objection(shorter, qos, cut) is None:
            return replace(_told(True, Why.SHORTENED, qos, cut), max_tokens=qos.shorten_to)
    lower = case.rules.classes.get(qos.degrades_to or "")
    if lower is not None and _objection(replace(case, arrival=replace(case.arrival, asked_s={})), lower, seen) is None:
        return _told(True, Why.DEGRADED, lower, seen)
    return None


def _beyond(role: Role, seen: Outlook, rules: Rules) -> float:
    """How full a phase is by the loosest promise of all; 0 while a replica of it has nothing to do."""
    kind = ROLE_FACTS[role].binding_slo
    expected_s = seen.expected_s.get(kind)
    if expected_s is None or role in seen.idle:
        return 0.0
    loosest_s = max(one.promises[kind].most_s for one in rules.classes.values())
    return (expected_s - seen.floor_s[kind]) / max(loosest_s - seen.floor_s[kind], LEAST_ROOM * loosest_s)


_LATE: Mapping[SloKind, Why] = {SloKind.TTFT: Why.TTFT, SloKind.TPOT: Why.TPOT}

# Seconds until a phase that is `full` is `most` full, if nobody else came: (full, most, seconds of a full one, t_d).
_WAITS: Mapping[Sizing, Callable[[float, float, float, float], float]] = {
    Sizing.QUEUE: lambda full, most, room_s, _: (full - most) * room_s,
    Sizing.BATCH: lambda full, most, _, stay_s: stay_s * math.log(full / most) if most > 0 else MOST_WAIT_S,
}

# Does a phase that has tripped stop this one?
_STOPPED: Mapping[Sizing, Callable[[_Case], bool]] = {
    Sizing.QUEUE: lambda _: True,
    Sizing.BATCH: lambda case: (case.arrival.output_tokens or 0.0) > case.standing.shape.output_tokens,
}
