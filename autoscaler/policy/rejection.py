"""Who is turned away when the fleet is full, and who is not?

    rejection:
      mode: shadow                        # off, shadow (judge, count, and let everybody in) or enforce
      default: free                       # the class of requests that match none
      classes:
        - {name: premium, priority: 10, reserved: {prefill: 0.3, decode: 0.3},
           match: {headers: [{name: x-tier, value: premium}]}}
        - {name: free, mayRetry: false, shortenTo: 256}

Nothing written is one class for everybody, with the promises of `spec.slo`, in shadow mode. A class without
an `slo` has those too. What a client asks for by header stays between `leastSeconds` and `mostSeconds`, which are the
promise itself unless written. core/rejection.py and core/qos.py tell what becomes of all this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.outlook import Strategy
from autoscaler.core.qos import Promise, QosClass
from autoscaler.core.rejection import RejectionMode, Rules
from autoscaler.policy.fields import ALLOWED, Objection, Section, at_least, at_most, complete, default_of, refuse, shown
from autoscaler.policy.sections import Name, SloSpec, Word

MOST_CLASSES = 16
MOST_RESERVED = 0.9  # of a phase by all classes together: the rest is left to those that reserve nothing
EVERYBODY = "default"
STATUSES = (429, 503, 529)  # contended, unavailable, overloaded: clients try each of them again, each their own way

Part = Annotated[float, Field(ge=0.0, le=MOST_RESERVED, description="Share of this phase that is kept for the class.")]
Reserved = Annotated[dict[Annotated[Role, Field(strict=False)], Part], AfterValidator(partial(complete, Role))]


class Header(Section):
    """A header of a request."""

    name: Annotated[
        str,
        Field(
            pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            max_length=63,
            json_schema_extra={ALLOWED: "1 to 63 of a-z, 0-9 and -, a letter or digit at both ends"},
        ),
    ]
    """Its name, in lower case."""
    value: Word
    """Its whole value."""


class Match(Section):
    """Which requests are of a class: any one of these is enough."""

    headers: list[Header] = Field(default_factory=list, max_length=8)
    """Headers with just this value."""
    objectives: list[Word] = Field(default_factory=list, max_length=16)
    """Names of InferenceObjectives."""


class ClassSlo(Section):
    """What requests of a class are promised in place of `spec.slo`, and what their clients may ask for."""

    seconds: float = Field(ge=0.0001, le=3600.0)
    """How long it may take."""
    percentile: float | None = Field(None, ge=50.0, le=99.9)
    """For how many of a hundred requests; that of spec.slo if null."""
    least_seconds: float | None = Field(None, ge=0.0001, le=3600.0)
    """The strictest that a client may ask for; `seconds` if null."""
    most_seconds: float | None = Field(None, ge=0.0001, le=3600.0)
    """The loosest that a client may ask for; `seconds` if null."""

    @field_validator("least_seconds")
    @classmethod
    def _stricter(cls, least_s: float | None, info: ValidationInfo) -> float | None:
        if least_s is not None and "seconds" in info.data:
            at_most(least_s, info.data["seconds"], f"seconds {shown(info.data['seconds'])}", 0.0001)
        return least_s

    @field_validator("most_seconds")
    @classmethod
    def _looser(cls, most_s: float | None, info: ValidationInfo) -> float | None:
        if most_s is not None and "seconds" in info.data:
            at_least(most_s, info.data["seconds"], f"seconds {shown(info.data['seconds'])}", 3600)
        return most_s

    def core(self, usual: SloSpec) -> Promise:
        """The same as the core judges by."""
        percentile = usual.percentile if self.percentile is None else self.percentile
        least_s, most_s = (self.seconds if bound is None else bound for bound in (self.least_seconds, self.most_seconds))
        return Promise(self.seconds, least_s, most_s, round(percentile / 100, 9))


ClassSlos = Annotated[dict[Annotated[SloKind, Field(strict=False)], ClassSlo], AfterValidator(partial(complete, SloKind))]


class Qos(Section):
    """One class of requests."""

    name: Name
    """What it is called in metrics and verdicts."""
    match: Match = Match()
    priority: int = Field(default_of(QosClass, "priority"), ge=-1000, le=1000)
    """Classes of a lower priority leave room for those of a higher one."""
    reserved: Reserved | None = None
    """Of each phase the share that is kept for it, lent while nobody of it asks; none if null."""
    slo: ClassSlos | None = None
    """What it is promised; as `spec.slo` says if null."""
    may_retry: bool = default_of(QosClass, "may_retry")
    """Whether a client that was turned away shall try again by itself."""
    shorten_to: int | None = Field(None, ge=1, le=1_000_000)
    """Rather than turn a request away, cut its answer to so many tokens; never if null."""
    degrades_to: Name | None = None
    """Rather than turn a request away, serve it in this class, of a lower priority; never if null."""

    def core(self, slos: Mapping[SloKind, SloSpec]) -> QosClass:
        """The same as the core judges by; `slos` are those of the fleet."""
        own = self.slo or {kind: ClassSlo(seconds=slo.seconds) for kind, slo in slos.items()}
        return QosClass(
            name=self.name,
            promises={kind: own[kind].core(slo) for kind, slo in slos.items()},
            priority=self.priority,
            reserved=self.reserved or {},
            headers=tuple((header.name, header.value) for header in self.match.headers),
            objectives=frozenset(self.match.objectives),
            may_retry=self.may_retry,
            shorten_to=self.shorten_to,
            degrades_to=self.degrades_to,
        )


class Rejection(Section):
    """Early rejection: what the sidecar does with a request that would miss its promise."""

    mode: Annotated[RejectionMode, Field(strict=False)] = default_of(Rules, "mode")
    """How far it may go; in shadow mode it judges and counts, and lets everybody in."""
    strategy: Annotated[Strategy, Field(strict=False)] = default_of(Rules, "strategy")
    """Whose decode counts: nobody's (baseline), those there now (early) or those there when this prefill ends (predictive)."""
    margin: float = Field(default_of(Rules, "margin"), ge=-0.9, le=1.0)
    """By what share of the time beyond its own a request must be expected to miss its promise; below 0, to keep it."""
    sureness: float = Field(default_of(Rules, "sureness"), ge=0.5, le=0.999)
    """The chance of keeping its promise below which a request is turned away."""
    status: int = Field(429, ge=429, le=529)
    """The HTTP status of a rejection: 429, 503 or 529."""
    classes: list[Qos] = Field(default_factory=list, max_length=MOST_CLASSES)
    """The classes of requests; a request is of the first one that it matches. Empty: one for everybody."""
    default: Name | None = None
    """The class of requests that match none; the last one if null."""

    @field_validator("mode", mode="before")
    @classmethod
    def _mode(cls, written: object) -> object:
        """YAML 1.1 reads a bare off as false; it is off all the same."""
        return RejectionMode.OFF if written is False else written

    @field_validator("status")
    @classmethod
    def _known(cls, status: int) -> int:
        if status not in STATUSES:
            refuse([Objection((), f"{status} is not allowed (allowed: {', '.join(map(str, STATUSES))})")])
        return status

    @field_validator("classes")
    @classmethod
    def _told_apart(cls, classes: list[Qos]) -> list[Qos]:
        refuse([*_named_twice(classes), *_matched_twice(classes), *_over_reserved(classes), *_no_lower_class(classes)])
        return classes

    @field_validator("default")
    @classmethod
    def _one_of_them(cls, default: str | None, info: ValidationInfo) -> str | None:
        names = [one.name for one in info.data.get("classes", [])]
        if default is not None and "classes" in info.data and default not in names:
            refuse([Objection((), f"{shown(default)} is no class (allowed: {', '.join(names) or 'null'})")])
        return default

    def core(self, slos: Mapping[SloKind, SloSpec]) -> Rules:
        """The rules that a sidecar judges by; `slos` are those of the fleet."""
        classes = self.classes or [Qos(name=EVERYBODY)]
        told = self.for_core("mode", "strategy", "margin", "sureness")
        return Rules({one.name: one.core(slos) for one in classes}, self.default or classes[-1].name, **told)


def _named_twice(classes: Sequence[Qos]) -> Iterator[Objection]:
    names = [one.name for one in classes]
    for at, name in enumerate(names):
        if name in names[:at]:
            yield Objection((at, "name"), f"{shown(name)} is the name of another class already")


def _matched_twice(classes: Sequence[Qos]) -> Iterator[Objection]:
    owners: dict[tuple[str, str], str] = {}
    for at, one in enumerate(classes):
        for place, header in enumerate(one.match.headers):
            owner = owners.setdefault((header.name, header.value), one.name)
            if owner != one.name:
                text = f"{shown(header.value)} makes a request one of {owner} already"
                yield Objection((at, "match", "headers", place, "value"), text)
        for place, name in enumerate(one.match.objectives):
            owner = owners.setdefault(("", name), one.name)
            if owner != one.name:
                yield Objection((at, "match", "objectives", place), f"{shown(name)} makes a request one of {owner} already")


def _over_reserved(classes: Sequence[Qos]) -> Iterator[Objection]:
    for role in Role:
        total = 0.0
        for at, one in enumerate(classes):
            total += (one.reserved or {}).get(role, 0.0)
            if total > MOST_RESERVED + 1e-9:
                text = f"makes {shown(round(total, 6))} of {role} reserved (allowed: {MOST_RESERVED:g} by all classes together)"
                yield Objection((at, "reserved", role), text)
                break


def _no_lower_class(classes: Sequence[Qos]) -> Iterator[Objection]:
    by_name = {one.name: one for one in classes}
    for at, one in enumerate(classes):
        if one.degrades_to is not None:
            lower = by_name.get(one.degrades_to)
            if lower is None:
                yield Objection((at, "degradesTo"), f"{shown(one.degrades_to)} is no class (allowed: {', '.join(by_name)})")
            elif lower.priority >= one.priority:
                text = f"{lower.name} has priority {lower.priority}, which is not below {one.priority}"
                yield Objection((at, "degradesTo"), text)
