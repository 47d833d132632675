"""What does the leader say of the fleet, and is it a document that one can judge by?

One JSON document of format 1, of at most some 4 KB. `epoch` grows with every leader, `sequence` with every document of one; both
tell what is newer. `issued_at` is the leader's clock, which need not be ours: only differences of it count. Ages are seconds
at `issued_at`.

    {"format": 1, "fleet": "chat/llama", "model_name": "llama", "epoch": 1763755000123, "sequence": 42, "issued_at": 1763755042.5,
     "offered_rps": 11.8,
     "crowds": {"prefill": {"serving": 8, "idle": 0, "waiting": 12, "running": 8, "waiting_tokens": 96000, "age_s": 0.4}, ...},
     "profile": {...} | null, "shape": {...}, "stay_s": 9.5, "handoff_s": 0.0, "pace": {...} | null,
     "served": {"misses": {"ttft": 0.02, "tpot": 0.0}, "window_s": 60, "samples": 700} | null,
     "rules": {"mode": "shadow", "status": 429, "strategy": "predictive", ..., "classes": [...]}}

Additive only: fields that are not known are stepped over; another format, a field that is missing or a number that cannot be
makes the whole document unreadable, and the last good one grows old instead. Nobody is rejected by half a document.

It is decoded once and turned into the core's own values at once, so that a verdict touches nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from autoscaler.core.arrivals import Burden
from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import ROLE_FACTS, Role, SloKind
from autoscaler.core.outlook import Crowd, Standing, Strategy
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.qos import Promise, QosClass
from autoscaler.core.rejection import RejectionMode, Rules

FORMAT = 1
STATUSES = (429, 503, 529)

Amount = Annotated[float, Meta(ge=0, le=1e15)]
Positive = Annotated[float, Meta(gt=0, le=1e15)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
Name = Annotated[str, Meta(pattern="^[!-~]{1,256}$")]  # it stands in a header of every answer
Coefficients = tuple[Amount, Amount, Amount]

# What holds where a document does not say: the core's own word, so that there is one.
USUAL: Mapping[str, Any] = {field.name: field.default for kind in (Rules, Promise) for field in fields(kind)}


class CrowdText(Struct, frozen=True):
    """One role's replicas and requests."""

    serving: Count
    idle: Count
    waiting: Amount
    running: Amount
    age_s: Amount
    waiting_tokens: Amount = 0.0
    resident_tokens: Amount = 0.0


class ProfileText(Struct, frozen=True):
    """How fast a replica is, calibrated."""

    name: str
    prefill_s: Coefficients
    decode_s: Coefficients
    kv_tokens: Annotated[int, Meta(gt=0)]
    max_seqs: Annotated[int, Meta(gt=0)]
    kv_bytes_per_token: Annotated[int, Meta(gt=0)]
    link_bytes_per_s: Positive
    link_base_s: Amount
    decode_beyond: tuple[Amount, Coefficients] | None = None


class ShapeText(Struct, frozen=True):
    """The mean request."""

    prompt_tokens: Positive
    uncached_tokens: Amount
    output_tokens: Amount
    cv2: Amount = 1.0


class PaceText(Struct, frozen=True):
    """What the whole fleet let in per second of late."""

    work_s: Amount
    tokens: Amount
    requests: Amount


class ServedText(Struct, frozen=True):
    """How those fared that were served in the last `window_s`: the share that missed each SLO, of so many."""

    misses: dict[SloKind, Share]
    window_s: Positive
    samples: Amount


class PromiseText(Struct, frozen=True):
    """Seconds promised, the range that a client may ask for, and to which share of requests."""

    seconds: Positive
    least_s: Positive
    most_s: Positive
    quantile: Annotated[float, Meta(gt=0, lt=1)] = USUAL["quantile"]


class ClassText(Struct, frozen=True):
    """A class of requests."""

    name: Name
    promises: dict[SloKind, PromiseText]
    priority: int = 0
    reserved: dict[Role, Share] = {}
    headers: list[tuple[str, str]] = []
    objectives: list[str] = []
    may_retry: bool = True
    shorten_to: Annotated[int, Meta(gt=0)] | None = None
    degrades_to: str | None = None


class RulesText(Struct, frozen=True):
    """How to judge, and with which status to say no."""

    mode: RejectionMode
    strategy: Strategy
    default: Name
    classes: Annotated[list[ClassText], Meta(min_length=1, max_length=64)]
    margin: Annotated[float, Meta(gt=-1, le=100)] = USUAL["margin"]
    sureness: Annotated[float, Meta(ge=0.5, lt=1)] = USUAL["sureness"]
    max_age_s: Annotated[float, Meta(gt=0, le=60)] = USUAL["max_age_s"]
    status: int = 429


class StateText(Struct, frozen=True):
    """The whole document."""

    format: int
    fleet: Annotated[str, Meta(pattern=r"^[^/\s]+/[^/\s]+$", max_length=512)]
    epoch: Annotated[int, Meta(ge=0)]
    sequence: Annotated[int, Meta(ge=0)]
    issued_at: Amount
    crowds: dict[Role, CrowdText]
    shape: ShapeText
    stay_s: Positive
    rules: RulesText
    model_name: str = ""
    profile: ProfileText | None = None
    pace: PaceText | None = None
    served: ServedText | None = None
    handoff_s: Amount = 0.0
    offered_rps: Amount | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """No state, and why in one line."""

    why: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A document as it came. `rules` in the core's words, `text` all the rest."""

    text: StateText
    rules: Rules

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among all documents of its fleet: a greater one is newer."""
        return self.text.epoch, self.text.sequence


_decode = msgspec.json.Decoder(StateText).decode


def read(text: bytes) -> Heard | Unreadable:
    """The document, if it is one that can be judged by."""
    try:
        document = _decode(text)
        if document.format != FORMAT:
            return Unreadable(f"format {document.format}: this sidecar reads {FORMAT}")
        trouble = _trouble(document)
        return Unreadable(trouble) if trouble else Heard(document, _rules(document.rules))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(str(error))


def standing(document: StateText, issued_s: float, share: float, trusted: bool) -> Standing:
    """The picture it gives, its ages turned into times on our clock, on which it was issued at `issued_s`."""
    return Standing(
        crowds={role: _crowd(crowd, issued_s) for role, crowd in document.crowds.items()},
        profile=_profile(document.profile),
        shape=Shape(*(getattr(document.shape, name) for name in ShapeText.__struct_fields__)),
        stay_s=document.stay_s,
        share=share,
        pace=None if document.pace is None else Burden(document.pace.work_s, document.pace.tokens, 0.0, document.pace.requests),
        handoff_s=document.handoff_s,
        trusted=trusted,
    )


def _trouble(document: StateText) -> str:
    """What is wrong with the whole though every field is right; empty if nothing is."""
    rules, names = document.rules, {one.name for one in document.rules.classes}
    if set(document.crowds) != set(ROLE_FACTS):
        return f"crowds: must have {', '.join(ROLE_FACTS)}"
    if rules.default not in names:
        return f"rules.default {rules.default!r}: must be one of the classes"
    if rules.status not in STATUSES:
        return f"rules.status {rules.status}: must be one of {', '.join(map(str, STATUSES))}"
    return next(filter(None, (_trouble_of(one, names) for one in rules.classes)), "")


def _trouble_of(one: ClassText, names: set[str]) -> str:
    where = f"rules.classes[{one.name}]"
    if set(one.promises) != set(SloKind):
        return f"{where}.promises: must have {', '.join(SloKind)}"
    if any(not made.least_s <= made.seconds <= made.most_s for made in one.promises.values()):
        return f"{where}.promises: must be least_s <= seconds <= most_s"
    if one.degrades_to is not None and one.degrades_to not in names:
        return f"{where}.degrades_to {one.degrades_to!r}: must be one of the classes"
    return ""


def _rules(text: RulesText) -> Rules:
    classes = {one.name: _class(one) for one in text.classes}
    return Rules(classes, text.default, text.mode, text.strategy, text.margin, text.sureness, text.max_age_s)


def _class(text: ClassText) -> QosClass:
    return QosClass(
        text.name,
        {kind: Promise(**_plain(made, Promise)) for kind, made in text.promises.items()},
        text.priority,
        text.reserved,
        tuple(text.headers),
        frozenset(text.objectives),
        text.may_retry,
        text.shorten_to,
        text.degrades_to,
    )


def _crowd(text: CrowdText, issued_s: float) -> Crowd:
    seen_s = issued_s - text.age_s
    return Crowd(text.serving, text.idle, text.waiting, text.running, seen_s, text.waiting_tokens, text.resident_tokens)


def _profile(text: ProfileText | None) -> ReplicaProfile | None:
    return None if text is None else ReplicaProfile(**_plain(text, ReplicaProfile))


def _plain(text: Struct, kind: type[Any]) -> Mapping[str, Any]:
    return {field.name: getattr(text, field.name) for field in fields(kind)}
