"""Shall this request be let in, and if not, when may it come again?

It is refused by what is expected (core/expected.py), at the quantile `sureness` and with `margin`. Let f be how full a phase is:
0 with nobody in it, 1 where the promise is just kept. A class is refused beyond f = 1 + margin, and where others' reservations
or priorities say so; one that has others below it gets the benefit of the doubt (core/qos.py). Before a no come milder steps:
its answer is cut short, where its class allows that; then it is served in a lower class, by that one's promise. The coarse rule
beside are the breakers (core/breaker.py): a phase that has tripped takes no new prompt if work queues there, no answer longer
than the mean if steps are shared.

    wait_s of a no     how long until it would be a yes if nobody else came: a queue loses a second per second, a crowd
                       shrinks by exp(-t / t_d). Between LEAST_WAIT_S and MOST_WAIT_S; jitter is the sidecar's

What all verdicts of one moment have in common is worked out once for them (`look`); each then costs the same whatever the load.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from autoscaler.core.arrivals import Arrival, Own
from autoscaler.core.expected import Expected, expected, long_alone_s
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing, SloKind
from autoscaler.core.outlook import Ahead, Standing, ahead
from autoscaler.core.qos import FAVOUR, FAVOURED, Mix, QosClass, favoured, most_full, own_up_to
from autoscaler.core.rejection import LEAST_WAIT_S, MOST_WAIT_S, Rules, Verdict, Why

LEAST_ROOM = 0.05  # of a promise: what others must leave of it at least, also where its longest prompts alone take nearly all


class Limit(NamedTuple):
    """How full (f) a phase may be, and how many seconds later than with nobody else there a newcomer may be at f = 1."""

    most: float
    room_s: float


class Terms(NamedTuple):
    """On which terms a class is served at one moment: how full it may make a phase; how many seconds of what its requests are
    told to expect are doubt that they have the benefit of; below which fullness it holds less than it reserved; and what
    others must be left.
    """

    most: float
    doubt_s: Mapping[SloKind, float]
    own: Mapping[Role, float]
    leaves: Mapping[Role, Sequence[Limit]]


@dataclass(frozen=True, slots=True)
class Moment:
    """What all verdicts of `now` have in common: what is ahead, or why that is nothing to go by, the wait told, and who asked of
    late. The terms of a class are worked out when the first of it comes.
    """

    ahead: Ahead | Why
    rules: Rules
    mix: Mix
    now: float
    wait_s: float = 0.0
    known: dict[str, Terms] = field(default_factory=dict, compare=False)

    def terms(self, qos: QosClass, found: Ahead) -> Terms:
        """Those of this class."""
        terms = self.known.get(qos.name)
        if terms is None:
            terms = self.known[qos.name] = _terms(qos, self, found)
        return terms


class _Objection(NamedTuple):
    """Why not, and seconds until not any more."""

    why: Why
    wait_s: float


def look(standing: Standing | None, own: Own, rules: Rules, now: float) -> Moment:
    """What all verdicts of `now` rest on."""
    unknown = _unknown(standing, rules, now)
    if unknown is not None or standing is None or standing.profile is None:
        return Moment(unknown or Why.NO_STATE, rules, own.mix, now)
    found = ahead(standing, standing.profile, own, rules.strategy, now)
    return Moment(found, rules, own.mix, now, found.wait_s(rules.sureness))


def judge(arrival: Arrival, moment: Moment) -> Verdict:
    """The verdict on one arrival of this moment."""
    found, qos = moment.ahead, moment.rules.class_named(arrival.qos)
    if isinstance(found, Why):
        return Verdict(True, found, qos.name)
    seen = expected(arrival, found, moment.wait_s)
    for kind, alone_s in seen.alone_s.items():
        if alone_s > _promise_s(qos, kind, arrival, alone_s):
            return _told(True, Why.UNREACHABLE, qos, seen)
    objection = _objection(arrival, qos, seen, moment.terms(qos, found), found)
    if objection is None:
        return _told(True, Why.IDLE if found.idle else Why.FITS, qos, seen)
    wait_s = min(MOST_WAIT_S, max(LEAST_WAIT_S, objection.wait_s))
    return _milder(arrival, qos, seen, moment, found) or _told(False, objection.why, qos, seen, wait_s)


def remembered(own: Own, verdict: Verdict, asked: str, now: float, *, let_in: bool | None = None) -> Own:
    """`own` after this verdict on a request that `asked` for a class. `let_in`: what really became of it, as in shadow mode;
    None: as the verdict says.
    """
    own = own.asked(asked, now)
    if verdict.burden is not None and (verdict.admit if let_in is None else let_in):
        return own.admitted(verdict.burden, verdict.qos, now)
    return own


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


def _terms(qos: QosClass, moment: Moment, found: Ahead) -> Terms:
    rules, mix = moment.rules, moment.mix
    most, doubt_s = 1 + rules.margin, dict[SloKind, float]()
    if favoured(rules.below[qos.name], mix):
        most, sure = 1 + max(FAVOUR, rules.margin), min(FAVOURED, rules.sureness)
        doubt_s[SloKind.TTFT] = moment.wait_s - found.wait_s(sure)
    roles = found.standing.crowds
    leaves = {role: [_limit(qos, other, role, moment, found) for other in rules.bound_by[qos.name]] for role in roles}
    return Terms(most, doubt_s, {role: own_up_to(qos, role, mix) for role in roles}, leaves)


def _limit(qos: QosClass, other: QosClass, role: Role, moment: Moment, found: Ahead) -> Limit:
    """What this one must leave of a phase to that one."""
    most = most_full(qos, other, role, moment.mix, moment.now)
    kind = ROLE_FACTS[role].binding_slo
    promise = other.promises[kind]
    alone_s = long_alone_s(found.standing, found.profile, promise.quantile)[kind] if most < math.inf else 0.0
    return Limit(most, max(promise.seconds - alone_s, LEAST_ROOM * promise.seconds))


def _promise_s(qos: QosClass, kind: SloKind, arrival: Arrival, alone_s: float) -> float:
    """What it is promised. Asking for less than it takes alone is not heard, or whoever asks for the impossible would get in."""
    promise, asked_s = qos.promises[kind], arrival.asked_s.get(kind)
    heard_s = promise.seconds if asked_s is None else promise.clamped(asked_s)
    return heard_s if heard_s >= alone_s else promise.seconds


def _told(
    admit: bool, why: Why, qos: QosClass, seen: Expected, wait_s: float | None = None, max_tokens: int | None = None
) -> Verdict:
    times_s = seen.times_s
    return Verdict(admit, why, qos.name, times_s[SloKind.TTFT], times_s.get(SloKind.TPOT), wait_s, max_tokens, seen.burden)


def _objection(arrival: Arrival, qos: QosClass, seen: Expected, terms: Terms, found: Ahead) -> _Objection | None:
    """The first thing that speaks against serving it in this class."""
    standing, most = found.standing, terms.most
    for role in standing.crowds:
        facts = ROLE_FACTS[role]
        kind = facts.binding_slo
        if kind not in seen.times_s or role in found.idle:
            continue
        promise_s, over_s = _promise_s(qos, kind, arrival, seen.alone_s[kind]), seen.times_s[kind] - seen.floor_s[kind]
        room_s = max(promise_s - seen.floor_s[kind], LEAST_ROOM * promise_s)
        full = (over_s - terms.doubt_s.get(kind, 0.0)) / room_s
        if full > most:
            return _Objection(_LATE[kind], _WAITS[facts.sizing](full, most, room_s, standing.stay_s))
        if role in standing.tripped and _STOPPED[facts.sizing](arrival, standing):
            return _Objection(Why.BREAKER, LEAST_WAIT_S)
        if full >= terms.own[role]:
            for limit in terms.leaves[role]:
                if over_s > limit.most * limit.room_s:
                    wait_s = _WAITS[facts.sizing](over_s / limit.room_s, limit.most, limit.room_s, standing.stay_s)
                    return _Objection(Why.RESERVED, wait_s)
    return None


def _milder(arrival: Arrival, qos: QosClass, seen: Expected, moment: Moment, found: Ahead) -> Verdict | None:
    """Served with a shorter answer, or in a lower class, if that helps."""
    asked = found.standing.shape.output_tokens if arrival.output_tokens is None else arrival.output_tokens
    if qos.shorten_to is not None and qos.shorten_to < asked:
        shorter = arrival._replace(output_tokens=float(qos.shorten_to))
        cut = expected(shorter, found, moment.wait_s)
        if _objection(shorter, qos, cut, moment.terms(qos, found), found) is None:
            return _told(True, Why.SHORTENED, qos, cut, max_tokens=qos.shorten_to)
    lower = moment.rules.classes.get(qos.degrades_to or "")
    if lower is not None:
        patient = arrival._replace(asked_s={})
        if _objection(patient, lower, seen, moment.terms(lower, found), found) is None:
            return _told(True, Why.DEGRADED, lower, seen)
    return None


_LATE: Mapping[SloKind, Why] = {SloKind.TTFT: Why.TTFT, SloKind.TPOT: Why.TPOT}

# Seconds until a phase that is `full` is `most` full, if nobody else came: (full, most, seconds of a full one, t_d).
_WAITS: Mapping[Sizing, Callable[[float, float, float, float], float]] = {
    Sizing.QUEUE: lambda full, most, room_s, _: (full - most) * room_s,
    Sizing.BATCH: lambda full, most, _, stay_s: stay_s * math.log(full / most) if most > 0 else MOST_WAIT_S,
}

# Does a phase that has tripped stop this one?
_STOPPED: Mapping[Sizing, Callable[[Arrival, Standing], bool]] = {
    Sizing.QUEUE: lambda _, __: True,
    Sizing.BATCH: lambda arrival, standing: (arrival.output_tokens or 0.0) > standing.shape.output_tokens,
}
