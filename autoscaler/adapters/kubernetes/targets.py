"""What is the object that is scaled?

Any object with a `/scale` subresource is a target; its resource name is found by discovery (discovery.py), so a kind needs
no code here. One role inside a DisaggregatedSet is a target, too (roles.py).
What it wants stands in its spec.replicas, who controls it in its ownerReferences, and whether it is being rolled out in
a condition or in its counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import Body


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
