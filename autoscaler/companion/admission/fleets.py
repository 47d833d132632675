"""Which fleets are known, and whose is an object?

The PDAutoscalers as a watch keeps them, by the names under which reviews mention what they own. The index is made anew only
when a spec or an annotation is another one than before: 500 objects whose status is written once a minute are eight new
snapshots a second, and to index them takes 4 ms. Reviews are dictionary look-ups.

A review of a write to `/scale` names the resource (leaderworkersets) and not the kind (LeaderWorkerSet); a policy names the
kind. The one becomes the other by the rule that Kubernetes' own tools guess by, which holds for every kind that a policy's
example names; a resource with an irregular plural is not found, and not guarded.

Two PDAutoscalers that want the same object: the oldest goes on, then the first by name, as in the controller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from autoscaler.companion.admission.review import annotated, mapping
from autoscaler.core.fleet import Role
from autoscaler.policy.fields import Section
from autoscaler.policy.routing import Routing
from autoscaler.policy.sections import Target

HPA = "hpa"

Name = tuple[str, ...]
S = TypeVar("S", bound=Section)


@dataclass(frozen=True, slots=True)
class Known:
    """What reviews need of one PDAutoscaler but for its status. A target that cannot be read is not there. `edition`: uid and
    generation of what was read, which tell whether a spec is still the same. `by_hpa`: the roles whose counts a Horizontal Pod
    Autoscaler writes.
    """

    edition: tuple[object, object]
    namespace: str
    name: str
    created: str
    annotations: Mapping[str, Any]
    model: str
    targets: Mapping[Role, Target]
    by_hpa: frozenset[Role]
    routing: Routing | None

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Owned:
    """An object, or one role inside it, as the target of a pool."""

    fleet: Known
    role: Role
    target: Target

    @property
    def called(self) -> str:
        """As in "LeaderWorkerSet chat/chat-prefill"."""
        return self.target.called(self.fleet.namespace)


@dataclass(frozen=True, slots=True)
class Fleets:
    """All that is known, by key, by claim (policy/claims.py), and by resource: (namespace, group, plural, name). `bodies` are the
    objects as JSON, by key, with the newest status.
    """

    bodies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_key: Mapping[str, Known] = field(default_factory=dict)
    by_claim: Mapping[Name, tuple[Known, ...]] = field(default_factory=dict)
    by_resource: Mapping[Name, tuple[Owned, ...]] = field(default_factory=dict)

    def owned(self, namespace: str, group: str, plural: str, name: str) -> tuple[Owned, ...]:
        """The pools that this object is the target of; several where it has roles inside."""
        return self.by_resource.get((namespace, group, plural, name), ())


class Register:
    """The fleets of the newest snapshot. `objects` gives PDAutoscalers as JSON, in a sequence that nobody changes any more."""

    def __init__(self, objects: Callable[[], Sequence[Mapping[str, Any]]]) -> None:
        self._objects = objects
        self._seen: Sequence[Mapping[str, Any]] = ()
        self._fleets = Fleets()

    def fleets(self) -> Fleets:
        """As of now."""
        objects = self._objects()
        if objects is not self._seen:
            self._fleets, self._seen = _following(self._fleets, objects), objects
        return self._fleets


def _following(before: Fleets, objects: Sequence[Mapping[str, Any]]) -> Fleets:
    bodies = {key_of(body): body for body in objects}
    fleets = {key: _read(body, before.by_key.get(key)) for key, body in bodies.items()}
    same = len(fleets) == len(before.by_key) and all(one is before.by_key.get(key) for key, one in fleets.items())
    return replace(before if same else index(fleets.values()), bodies=bodies)


def _read(body: Mapping[str, Any], before: Known | None) -> Known:
    """What was read before, while it holds."""
    if before is None or None in before.edition or before.edition != _edition(body) or before.annotations != annotated(body):
        return known(body)
    return before


def _edition(body: Mapping[str, Any]) -> tuple[object, object]:
    metadata = mapping(body.get("metadata"))
    return metadata.get("uid"), metadata.get("generation")


def key_of(body: Mapping[str, Any]) -> str:
    """namespace/name of an object."""
    metadata = mapping(body.get("metadata"))
    return f"{metadata.get('namespace', '')}/{metadata.get('name', '')}"


def known(body: Mapping[str, Any]) -> Known:
    """Cut a PDAutoscaler down to what reviews need of it. Never raises."""
    metadata, spec = mapping(body.get("metadata")), mapping(body.get("spec"))
    pools = {role: mapping(mapping(spec.get("pools")).get(role.value)) for role in Role}
    targets = {role: _section(Target, pool.get("target")) for role, pool in pools.items()}
    return Known(
        edition=_edition(body),
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        created=str(metadata.get("creationTimestamp", "")),
        annotations=annotated(body),
        model=str(spec.get("model", "")),
        targets={role: target for role, target in targets.items() if target is not None},
        by_hpa=frozenset(role for role, pool in pools.items() if pool.get("actuation") == HPA),
        routing=_section(Routing, spec.get("routing")),
    )


def index(fleets: Iterable[Known]) -> Fleets:
    """All of them by every name under which they are asked for."""
    by_claim: dict[Name, tuple[Known, ...]] = {}
    by_resource: dict[Name, tuple[Owned, ...]] = {}
    oldest_first = sorted(fleets, key=lambda one: (one.created, one.name))
    for fleet in oldest_first:
        for claim in _claimed(fleet):
            by_claim[claim] = (*by_claim.get(claim, ()), fleet)
        for role, target in fleet.targets.items():
            at = resource_of(fleet.namespace, target)
            before = by_resource.get(at, ())
            if all(one.target.role != target.role for one in before):
                by_resource[at] = (*before, Owned(fleet, role, target))
    return Fleets({}, {fleet.key: fleet for fleet in oldest_first}, by_claim, by_resource)


def resource_of(namespace: str, target: Target) -> Name:
    """Where the API server has a target: (namespace, group, plural, name)."""
    return namespace, target.api_version.rpartition("/")[0], plural(target.kind), target.name


def plural(kind: str) -> str:
    """The resource of a kind: lower case and in the plural."""
    word = kind.lower()
    if word.endswith("y"):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith("s") else f"{word}s"


def _claimed(fleet: Known) -> Iterable[Name]:
    """What policy/claims.py says of the whole document, of what could be read of it."""
    if fleet.model:
        yield "series", fleet.namespace, fleet.model
    for target in fleet.targets.values():
        yield "target", fleet.namespace, *target.identity


def _section(model: type[S], raw: object) -> S | None:
    try:
        return None if raw is None else model.model_validate(raw)
    except ValidationError:
        return None
