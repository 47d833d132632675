"""What does the API server ask, and how is it answered byte for byte?

admission.k8s.io/v1: an AdmissionReview with a `request` comes in, the same kind with a `response` goes back, whose uid is the
request's. What counts as no answer, so that the webhook's failurePolicy decides: any status but 200, another uid, another
apiVersion (reference/interfaces.md C1). Hence two ways out for what is wrong with a review:

    no uid to answer to     an HTTP status that says why: 400, 413 beyond BODY_BYTES, 415
    a uid, and a request    allowed, with a warning: a review that cannot be read says nothing against the object
    that cannot be read

A denial carries a Status: 429 with details.retryAfterSeconds becomes a Retry-After header, which clients obey. Warnings are
header lines to kubectl. The API server drops one with a control character and cuts long ones in the middle of a word once all
together exceed 4096 characters; here they are clean and cut at a word. The keys of audit annotations bear no prefix: the API
server puts the webhook's name before them.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from autoscaler.policy.fields import Objection, dotted

VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
BODY_BYTES = 4 << 20  # etcd takes objects of 1.5 MiB, and an update carries two of them
WARNING_CHARS = 256
WARNINGS = 16  # of 256 characters each are the 4096 that the API server passes on
MESSAGE_CHARS = 1024
AUDIT_CHARS = 512
UID_CHARS = 253


class Resource(msgspec.Struct, frozen=True):
    """What is written, as the API server's rule names it."""

    group: str = ""
    version: str = ""
    resource: str = ""


class ObjectKind(msgspec.Struct, frozen=True):
    """What kind the object in the review has; of a write to a scale subresource that is Scale."""

    group: str = ""
    version: str = ""
    kind: str = ""


class User(msgspec.Struct, frozen=True):
    """Who writes."""

    username: str = ""
    groups: tuple[str, ...] = ()


class Review(msgspec.Struct, frozen=True, rename="camel"):
    """One request. `new` and `old` are the object after and before it; either may be anything at all, or None."""

    uid: str
    kind: ObjectKind = ObjectKind()
    resource: Resource = Resource()
    operation: str = ""
    sub_resource: str = ""
    name: str = ""
    namespace: str = ""
    user_info: User = User()
    new: Any = msgspec.field(default=None, name="object")
    old: Any = msgspec.field(default=None, name="oldObject")
    dry_run: bool | None = None


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    request: Review | None = None


class _Uid(msgspec.Struct, frozen=True):
    uid: str = ""


class _UidOnly(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str = ""
    kind: str = ""
    request: _Uid | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A review that cannot be answered, or only by its uid: the HTTP status, why, and the uid (empty: none)."""

    status: int
    text: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What is answered. A denial has `code`, `reason` (a word of Kubernetes' Status), `message`, the fields that it is about
    and perhaps the whole seconds after which to try again. `audit` goes to the audit log, `patch` (RFC 6902) to the object.
    """

    allowed: bool = True
    code: int = 200
    reason: str = ""
    message: str = ""
    causes: tuple[Objection, ...] = ()
    retry_after_s: int | None = None
    warnings: tuple[str, ...] = ()
    audit: Mapping[str, str] = field(default_factory=dict)
    patch: tuple[Mapping[str, Any], ...] = ()

    def audited(self, **more: str) -> Ruling:
        """The same with more to the audit log."""
        return replace(self, audit={**self.audit, **more})


ALLOWED = Ruling()
_whole = msgspec.json.Decoder(_Envelope).decode
_uid_only = msgspec.json.Decoder(_UidOnly).decode
_BROKEN = (msgspec.MsgspecError, UnicodeError, RecursionError)


def read(body: bytes) -> Review | Unreadable:
    """The request in a body, or why there is none. Never raises."""
    try:
        envelope = _whole(body)
    except _BROKEN as error:
        return _half_read(body, shortened(str(error), WARNING_CHARS))
    review = envelope.request
    objection = _objection(envelope.api_version, envelope.kind, None if review is None else review.uid)
    return Unreadable(400, objection) if objection or review is None else review


def wire(uid: str, ruling: Ruling) -> bytes:
    """The answer to the request with this uid."""
    response: dict[str, Any] = {"uid": uid, "allowed": ruling.allowed}
    if not ruling.allowed:
        response["status"] = _status(ruling)
    if ruling.warnings:
        response["warnings"] = [shortened(text, WARNING_CHARS) for text in ruling.warnings[:WARNINGS]]
    if ruling.audit:
        response["auditAnnotations"] = {key: shortened(text, AUDIT_CHARS) for key, text in ruling.audit.items()}
    if ruling.patch and ruling.allowed:
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(msgspec.json.encode(ruling.patch)).decode()}
    return msgspec.json.encode({"apiVersion": VERSION, "kind": KIND, "response": response})


def unread(refused: Unreadable) -> Ruling:
    """What a review is answered of which only the uid could be read."""
    return Ruling(warnings=(f"pd-autoscaler could not read the admission review and let it pass: {refused.text}",)).audited(
        decision="allowed-unreadable"
    )


def shortened(text: str, most: int) -> str:
    """One printable line of at most so many characters, cut between words where there is one to cut at."""
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(char for char in line if char.isprintable())
    if len(line) <= most:
        return line
    at = line.rfind(" ", most // 2, most - 2)
    return f"{line[: at if at > 0 else most - 3]}..."


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object, or an empty one where something else stands: objects of others may hold anything."""
    return value if isinstance(value, dict) else {}


def listed(value: object) -> Sequence[Any]:
    """The same of a list."""
    return value if isinstance(value, list) else ()


def annotated(body: object) -> Mapping[str, Any]:
    """An object's annotations."""
    return mapping(mapping(mapping(body).get("metadata")).get("annotations"))


def _half_read(body: bytes, why: str) -> Unreadable:
    try:
        envelope = _uid_only(body)
    except _BROKEN:
        return Unreadable(400, f"the body is no AdmissionReview: {why}")
    uid = None if envelope.request is None else envelope.request.uid
    objection = _objection(envelope.api_version, envelope.kind, uid)
    return Unreadable(400, objection) if objection else Unreadable(200, why, uid or "")


def _objection(api_version: str, kind: str, uid: str | None) -> str:
    if (api_version, kind) != (VERSION, KIND):
        found = shortened(f"{api_version} {kind}", WARNING_CHARS) or "nothing"
        return f"apiVersion and kind are {found} (allowed: {VERSION} {KIND})"
    if uid is None:
        return "request: missing"
    if not 0 < len(uid) <= UID_CHARS:
        return f"request.uid: has {len(uid)} characters (allowed: 1..{UID_CHARS})"
    return ""


def _status(ruling: Ruling) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if ruling.retry_after_s is not None:
        details["retryAfterSeconds"] = ruling.retry_after_s
    if ruling.causes:
        details["causes"] = [
            {"reason": "FieldValueInvalid", "message": shortened(one.text, MESSAGE_CHARS), "field": dotted(one.path)}
            for one in ruling.causes
        ]
    return {
        "status": "Failure",
        "code": ruling.code,
        "reason": ruling.reason,
        "message": shortened(ruling.message, MESSAGE_CHARS),
        **({"details": details} if details else {}),
    }
