"""What is one role inside a DisaggregatedSet?

The set has no count of its own and no `/scale`: each role keeps its count in spec.roles[i].spec.replicas, and makes one
LeaderWorkerSet per revision from it, under a name that changes with every rollout. So the pool is (set, role), its count is
written into the set, and its pods are found by the labels that they all bear.

From LWS 0.10 on a role can be handed out (scaling.mode External): a DisaggregatedSetRoleScaler then has the count, and the
set ignores its own. That scaler is the object to target (reference/engines.md A.5).

Whether a rollout is under way shows in the sets below: a second revision of them is there from the first moment on, also
where the first new pod is refused, until the old one is drained (LWS 0.9 tells nothing in the status; 0.10 counts updated
groups there, too).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.pods import ABOVE
from autoscaler.adapters.kubernetes.targets import Owner, owner_of

OF_SET, OF_ROLE, OF_REVISION = f"{ABOVE}name", f"{ABOVE}role", f"{ABOVE}revision"
SCALER = "DisaggregatedSetRoleScaler"


@dataclass(frozen=True, slots=True)
class Part:
    """One role of a set: its place in spec.roles, its count, whether a scaler has the count, whether groups are outdated."""

    place: int
    replicas: int
    external: bool
    outdated: bool


@dataclass(frozen=True, slots=True)
class RoleSet:
    """What is used of a DisaggregatedSet. `slices`: how many times each role is there, with as many replicas each."""

    name: str
    uid: str
    owner: Owner | None
    slices: int
    parts: Mapping[str, Part]

    def part(self, role: str) -> Part | ApiFault:
        """One role; an ApiFault that says what to do where that cannot be scaled."""
        if role not in self.parts:
            return ApiFault(404, "NoSuchRole", f'it has no role "{role}" but {", ".join(self.parts)}; correct target.role')
        if self.slices > 1:
            return ApiFault(
                404, "NotScalable", f"its spec.slices is {self.slices}, and a role that is there so often has no one count"
            )
        return self.parts[role]


@dataclass(frozen=True, slots=True)
class Child:
    """A LeaderWorkerSet that a DisaggregatedSet made: for which set, role and revision."""

    name: str
    labels: Mapping[str, str]


def role_set(body: Body) -> RoleSet:
    """Cut a DisaggregatedSet down to what is used."""
    spec = body.get("spec") or {}
    told = {one["name"]: one for one in (body.get("status") or {}).get("roleStatuses") or ()}
    parts = {one["name"]: _part(place, one, told.get(one["name"], {})) for place, one in enumerate(spec.get("roles") or ())}
    metadata = body["metadata"]
    return RoleSet(metadata["name"], metadata["uid"], owner_of(body), int(spec.get("slices") or 1), parts)


def child(body: Body) -> Child | None:
    """Cut a LeaderWorkerSet down to its place in a DisaggregatedSet; None if it has none."""
    metadata = body["metadata"]
    labels = {key: value for key, value in (metadata.get("labels") or {}).items() if key.startswith(ABOVE)}
    return Child(metadata["name"], labels) if OF_SET in labels else None


def selector_of(name: str, role: str) -> str:
    """The label selector of a role's pods, in all its revisions."""
    return f"{OF_SET}={name},{OF_ROLE}={role}"


def below(children: Iterable[Child], terms: Mapping[str, str]) -> tuple[tuple[str, ...], bool]:
    """The names of the LeaderWorkerSets that a selector's terms are about, and whether their set has several revisions."""
    of_set = [one for one in children if one.labels[OF_SET] == terms.get(OF_SET)]
    names = tuple(one.name for one in of_set if one.labels.get(OF_ROLE) == terms.get(OF_ROLE))
    return names, len({one.labels.get(OF_REVISION) for one in of_set}) > 1


def _part(place: int, role: Body, told: Body) -> Part:
    replicas = (role.get("spec") or {}).get("replicas")
    outdated = int(told.get("updatedReplicas") or 0) < int(told.get("replicas") or 0)
    mode = (role.get("scaling") or {}).get("mode")
    return Part(place, 1 if replicas is None else int(replicas), mode == "External", outdated)
