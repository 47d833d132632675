"""What is the object that is scaled?

Any object with a `/scale` subresource is a target; its resource name is found by discovery, so a kind needs no code here.
What it wants stands in its spec.replicas, who controls it in its ownerReferences, and whether it is being rolled out in
a condition or in its counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Body

DEEPEST = 8  # owners of owners; more would be a circle
RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind that can be scaled, as its API names it: `prefix` is /api/v1 or /apis/GROUP/VERSION."""

    prefix: str
    plural: str

    def within(self, namespace: str) -> str:
        """The path of its list in a namespace."""
        return listing(self.prefix, self.plural, namespace)


@dataclass(frozen=True, slots=True)
class Owner:
    """The controller among an object's ownerReferences."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Scalable:
    """What is used of a target. `desired` is None where the kind does not keep it in spec.replicas; `updating`: it says
    itself that a rollout is under way.
    """

    name: str
    uid: str
    owner: Owner | None
    desired: int | None
    updating: bool


def scalable(body: Body) -> Scalable:
    """Cut a target down to what is used."""
    metadata, status = body["metadata"], body.get("status") or {}
    desired = (body.get("spec") or {}).get("replicas")
    return Scalable(
        name=metadata["name"],
        uid=metadata["uid"],
        owner=owner_of(body),
        desired=desired if isinstance(desired, int) else None,
        updating=_updating(status),
    )


def owner_of(body: Body) -> Owner | None:
    """Who controls an object; None if nobody does."""
    for reference in body["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return Owner(str(reference["apiVersion"]), str(reference["kind"]), str(reference["name"]))
    return None


def listing(prefix: str, plural: str, namespace: str) -> str:
    """The path of a list in a namespace."""
    return f"{prefix}/namespaces/{quote(namespace)}/{plural}"


def _updating(status: Body) -> bool:
    """LeaderWorkerSets have a condition. Deployments and stateful sets count available pods, and then say by their counts
    whether all are updated; a rollout whose first new pod is refused shows only there.
    """
    conditions: Any = status.get("conditions") or ()
    if any(one.get("type") == "UpdateInProgress" and one.get("status") == "True" for one in conditions):
        return True
    counts = "availableReplicas" in status or "unavailableReplicas" in status
    return counts and int(status.get("updatedReplicas") or 0) < int(status.get("replicas") or 0)


class Discovery:
    """Which kinds the API server has. Remembers what it found; asks again for the rest, once in RETRY_S per version for
    all fleets together: a server that is frozen costs a time-out per question.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._found: dict[str, dict[str, tuple[str, frozenset[str]]]] = {}
        self._asked: dict[str, tuple[float, ApiFault | None]] = {}

    def scaled(self, api_version: str, kind: str) -> Resource | ApiFault:
        """The resource of a kind that has /scale; an ApiFault naming what is missing otherwise."""
        found = self._find(api_version, kind)
        if isinstance(found, ApiFault):
            return found
        plural, subresources = found
        if "scale" not in subresources:
            return ApiFault(404, "NotScalable", f"{kind} of {api_version} has no /scale subresource")
        return Resource(prefix(api_version), plural)

    def top(self, owner: Owner, namespace: str) -> Owner:
        """The owner that nobody owns. Where the way up cannot be read it ends at the last one known."""
        for _ in range(DEEPEST):
            found = self._find(owner.api_version, owner.kind)
            if isinstance(found, ApiFault):
                break
            body = self._api.get(f"{listing(prefix(owner.api_version), found[0], namespace)}/{quote(owner.name)}")
            above = None if isinstance(body, ApiFault) else owner_of(body)
            if above is None:
                break
            owner = above
        return owner

    def _find(self, api_version: str, kind: str) -> tuple[str, frozenset[str]] | ApiFault:
        if kind not in self._found.get(api_version, {}):
            asked_s, fault = self._asked.get(api_version, (float("-inf"), None))
            if time.monotonic() - asked_s > RETRY_S:
                fault = self._ask(api_version)
            if fault is not None:
                return fault
        unknown = ApiFault(404, "UnknownKind", f"this cluster has no {kind} of {api_version}; is it installed?")
        return self._found.get(api_version, {}).get(kind, unknown)

    def _ask(self, api_version: str) -> ApiFault | None:
        answer = self._api.get(prefix(api_version))
        fault = answer if isinstance(answer, ApiFault) and answer.status != 404 else None
        if not isinstance(answer, ApiFault):
            self._found[api_version] = _names(answer)
        self._asked[api_version] = time.monotonic(), fault
        return fault


def prefix(api_version: str) -> str:
    """Where an API version lives."""
    return f"/apis/{quote(api_version)}" if "/" in api_version else f"/api/{quote(api_version)}"


def _names(answer: Body) -> dict[str, tuple[str, frozenset[str]]]:
    """Kind -> (plural, subresources) of one API version."""
    resources = answer.get("resources") or ()
    below: dict[str, set[str]] = {}
    for one in resources:
        plural, _, subresource = str(one["name"]).partition("/")
        below.setdefault(plural, set()).add(subresource)
    return {str(one["kind"]): (one["name"], frozenset(below[one["name"]])) for one in resources if "/" not in str(one["name"])}
