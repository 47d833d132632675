"""May this one change a count that is ours?

A count that the controller writes is set back at its next tick whoever changes it, so the one who does is told, or refused,
as the PDAutoscaler says (pdautoscaler.io/guard, strictness.py). Looked at are updates of the target itself and of its scale
subresource; what leaves the count as it is passes without a word, and so does

    the controller, and whom the installation allows
    the Horizontal Pod Autoscaler where the pool's actuation is hpa: there it is the writer
    any write in mode Off or Recommend: then the controller writes nothing (law 13)
    any write while the controller is silent: somebody must be able to help, and is warned
    an emergency: annotation pdautoscaler.io/emergency with its reason, on the target or, since a review of a scale
    subresource has none of its target's annotations, on the PDAutoscaler. It goes to the audit log.

An emergency does not stop the controller: only another mode does, and the warning says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autoscaler.companion.admission.fleets import Fleets, Owned
from autoscaler.companion.admission.review import ALLOWED, Review, Ruling, annotated, listed, mapping
from autoscaler.companion.admission.strictness import EMERGENCY, GUARD, AdmissionSettings, Strictness, strictness
from autoscaler.companion.told import told
from autoscaler.core.action import Mode

SCALE = "scale"
LOOKED_AT = ("", SCALE)  # subresources; a status has no count that anybody wants


@dataclass(frozen=True, slots=True)
class Change:
    """A count before and after; None: not there."""

    owned: Owned
    before: int | None
    after: int | None

    def __str__(self) -> str:
        before, after = ("unset" if count is None else str(count) for count in (self.before, self.after))
        return f"{self.owned.called}: {before} -> {after}"


def judge(review: Review, fleets: Fleets, now: float, settings: AdmissionSettings) -> Ruling:
    """The ruling on a write to an object that may be a target, at `now` in seconds since 1970."""
    if review.operation != "UPDATE" or review.sub_resource not in LOOKED_AT:
        return ALLOWED
    owners = fleets.owned(review.namespace, review.resource.group, review.resource.resource, review.name)
    changes = [Change(one, _count(review, review.old, one), _count(review, review.new, one)) for one in owners]
    rulings = [_ruling(one, review, fleets, now, settings) for one in changes if one.before != one.after]
    denied = next((ruling for ruling in rulings if not ruling.allowed), None)
    if denied is not None or not rulings:
        return denied or ALLOWED
    return replace(rulings[0], warnings=tuple(text for ruling in rulings for text in ruling.warnings))


def _ruling(change: Change, review: Review, fleets: Fleets, now: float, settings: AdmissionSettings) -> Ruling:
    fleet = change.owned.fleet
    base = ALLOWED.audited(policy=fleet.key, role=change.owned.role, change=str(change))
    if _writer(change.owned, review, settings):
        return base.audited(decision="allowed-writer")
    said = told(fleets.bodies[fleet.key], now)
    if said.mode in (Mode.OFF, Mode.RECOMMEND):
        return base.audited(decision="allowed-mode", mode=said.mode)
    reason = _emergency(review, change.owned)
    if reason:
        return _warning(base, "allowed-emergency", f"{change} in an emergency ({reason}): {_advice(change.owned)}")
    if said.stale or said.mode is not Mode.AUTO:
        why = said.doubt or "the mode that it runs in is not known"
        return _warning(base, "allowed-stale", f"{change} is not held against PDAutoscaler {fleet.key}: {why}")
    return _by_strictness(base, change, strictness(fleet.annotations, GUARD, settings.guard))


def _by_strictness(base: Ruling, change: Change, word: Strictness) -> Ruling:
    fleet, role = change.owned.fleet, change.owned.role
    if word is Strictness.OFF:
        return base.audited(decision="allowed-off")
    text = f"{change} is the business of PDAutoscaler {fleet.key} ({role}): {_advice(change.owned)}"
    if word is Strictness.WARN:
        return _warning(base, "warned", text)
    way_out = f"; in an emergency annotate the target or the PDAutoscaler with {EMERGENCY}=REASON"
    return Ruling(False, 403, "Forbidden", text + way_out, audit={**base.audit, "decision": "denied"})


def _advice(owned: Owned) -> str:
    if owned.role in owned.fleet.by_hpa:
        return "its HorizontalPodAutoscaler sets it back; correct the bounds there"
    return f"its next tick sets it back; correct spec.pools.{owned.role}.min or max, or set spec.mode to Off"


def _warning(base: Ruling, decision: str, text: str) -> Ruling:
    return Ruling(warnings=(text,), audit={**base.audit, "decision": decision})


def _writer(owned: Owned, review: Review, settings: AdmissionSettings) -> bool:
    """Whether this user may write this count."""
    names = {review.user_info.username, *review.user_info.groups}
    if owned.role in owned.fleet.by_hpa and names & settings.hpa_users:
        return True
    return bool(names & (settings.own_users | settings.allowed))


def _emergency(review: Review, owned: Owned) -> str:
    found = (annotated(review.new).get(EMERGENCY), owned.fleet.annotations.get(EMERGENCY))
    return next((reason for reason in found if isinstance(reason, str) and reason.strip()), "")


def _count(review: Review, body: object, owned: Owned) -> int | None:
    """The count in a target or in a Scale: in spec.replicas, or in that of the role inside. A Scale leaves a zero out."""
    spec = mapping(mapping(body).get("spec"))
    if owned.target.role is not None:
        spec = _part(spec, owned.target.role)
    count = spec.get("replicas", 0 if review.sub_resource == SCALE and body is not None else None)
    return count if isinstance(count, int) else None


def _part(spec: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    parts = (mapping(one) for one in listed(spec.get("roles")))
    return next((mapping(one.get("spec")) for one in parts if one.get("name") == role), {})
