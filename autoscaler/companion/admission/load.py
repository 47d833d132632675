"""Has the fleet room for the load that a batch object brings?

A Job, JobSet, RayJob or pod that declares its demand (demand.py) is held against the headroom that the controller publishes:
the tokens per second that the serving replicas carry within the SLO beyond the upper forecast of the next horizon. It is asked
when it is made, and when it is resumed: what is suspended brings no load yet. The pods that it makes are not asked again.

Too little headroom: a warning, or, where the PDAutoscaler says pdautoscaler.io/early-reject: deny, 429 TooManyRequests. The
seconds after which to retry are the forecast's horizon, the time in which replicas can come, cut to `retry_most_s`; clients
wait for them and retry by themselves, which is what the controller of a CronJob wants.

Allowed with a warning wherever nothing is known: no such fleet, mode Off, state that is stale, no headroom published. Outside
mode Auto nobody is denied (law 13). This is advice about one moment: two objects that come within one minute see the same
headroom, and nothing is reserved.

Whoever may make a Job may name any fleet in it. The numbers of a fleet in another namespace go to the audit log only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.companion.admission.demand import Declared, Misdeclared, declared, spoken_for, suspended
from autoscaler.companion.admission.fleets import Fleets, Known
from autoscaler.companion.admission.review import ALLOWED, Review, Ruling, mapping
from autoscaler.companion.admission.strictness import EARLY_REJECT, AdmissionSettings, Strictness, strictness
from autoscaler.companion.told import Told, told
from autoscaler.core.action import Mode
from autoscaler.core.fleet import Role

RETRY_LEAST_S = 1
HORIZON_S = 60.0  # where the status tells none


def judge(review: Review, fleets: Fleets, now: float, settings: AdmissionSettings) -> Ruling:
    """The ruling on a batch object, at `now` in seconds since 1970."""
    if not _begins(review) or spoken_for(review.new):
        return ALLOWED
    found = declared(review.kind.kind, review.new, review.namespace)
    if found is None:
        return ALLOWED
    if isinstance(found, Misdeclared):
        return _warning("allowed-misdeclared", f"its load is not held against any fleet: {found.text}")
    fleet = fleets.by_key.get(found.fleet)
    if fleet is None:
        return _warning("allowed-unknown", f"its load is not held against any fleet: there is no PDAutoscaler {found.fleet}")
    case = Case(found, fleet, fleets.bodies[fleet.key], told(fleets.bodies[fleet.key], now), review.namespace == fleet.namespace)
    base = {"policy": fleet.key, "mode": str(case.said.mode), "demand": _text(found.tokens_per_s)}
    return (_unheld(case) or _held(case, settings)).audited(**base)


@dataclass(frozen=True, slots=True)
class Case:
    """A declared load, the fleet that it asks, and what is known of that. `at_home`: both are in one namespace."""

    asked: Declared
    fleet: Known
    body: Mapping[str, Any]
    said: Told
    at_home: bool

    @property
    def room(self) -> Mapping[Role, float]:
        """The headroom of the roles that are asked, as far as it is told; tokens per second."""
        told_of = (
            (role, self.said.pools[role].headroom_tokens_per_s) for role in self.asked.tokens_per_s if role in self.said.pools
        )
        return {role: tokens_per_s for role, tokens_per_s in told_of if tokens_per_s is not None}


def _unheld(case: Case) -> Ruling | None:
    """Why the load is not held against the fleet at all; None: it is."""
    words = f"its load is not held against PDAutoscaler {case.fleet.key}"
    if case.said.stale:
        return _warning("allowed-stale", f"{words}: {case.said.doubt}")
    if case.said.mode in (None, Mode.OFF):
        return _warning("allowed-mode", f"{words}: its mode is {case.said.mode}")
    return None


def _held(case: Case, settings: AdmissionSettings) -> Ruling:
    word = strictness(case.fleet.annotations, EARLY_REJECT, settings.early_reject)
    if word is Strictness.OFF:
        return ALLOWED.audited(decision="allowed-off")
    room, wanted = case.room, case.asked.tokens_per_s
    audit = {"headroom": _text(room)} if room else {}
    short = {role: left for role, left in room.items() if wanted[role] > max(0.0, left)}
    if short and word is Strictness.DENY and case.said.mode is Mode.AUTO:
        wait_s = max(RETRY_LEAST_S, math.ceil(min(_horizon_s(case.body, short), settings.retry_most_s)))
        told_so = {**audit, "decision": "denied"}
        return Ruling(False, 429, "TooManyRequests", _shortage(case, short), retry_after_s=wait_s, audit=told_so)
    if short:
        return _warning("warned", _shortage(case, short)).audited(**audit)
    unknown = ", ".join(role for role in wanted if role not in room)
    if unknown:
        text = f"PDAutoscaler {case.fleet.key} tells no headroom of {unknown}, so its load is not held against it"
        return _warning("allowed-unknown", text).audited(**audit)
    return ALLOWED.audited(decision="allowed", **audit)


def _begins(review: Review) -> bool:
    """Whether this write makes the object begin to bring its load."""
    if review.sub_resource or suspended(review.new):
        return False
    return review.operation == "CREATE" or (review.operation == "UPDATE" and suspended(review.old))


def _shortage(case: Case, short: Mapping[Role, float]) -> str:
    wanted = case.asked.tokens_per_s
    if not case.at_home:
        return f"PDAutoscaler {case.fleet.key} has no room now for a load of {_text(wanted)} tokens per second"
    pairs = "; ".join(f"{role} {wanted[role]:.6g}, of which {max(0.0, left):.6g} fit" for role, left in short.items())
    return f"PDAutoscaler {case.fleet.key} has no room now for this load, in tokens per second: {pairs}"


def _text(tokens_per_s: Mapping[Role, float]) -> str:
    return ", ".join(f"{role} {amount:.6g}" for role, amount in tokens_per_s.items())


def _horizon_s(body: Mapping[str, Any], roles: Iterable[Role]) -> float:
    """How far ahead the forecasts of these roles look, the farthest: sooner no new replica serves."""
    pools = mapping(mapping(body.get("status")).get("pools"))
    horizons = (mapping(mapping(pools.get(role.value)).get("forecast")).get("horizonSeconds") for role in roles)
    known = [float(one) for one in horizons if isinstance(one, int | float) and 0 < one <= 86_400]
    return max(known, default=HORIZON_S)


def _warning(decision: str, text: str) -> Ruling:
    return Ruling(warnings=(text,), audit={"decision": decision})
