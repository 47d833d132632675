"""How is one pod changed, if it still is the pod that was decided on?

It is read, looked at and patched. The patch tests its uid and every value that the change rests on, so that what somebody
else did in between is a conflict and not overwritten. Reading first costs a request and saves a conflict with our own last
write, which a watched list shows some milliseconds late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from autoscaler.adapters.routing.endpoint import DOOR, Endpoint, Refused
from autoscaler.ports import Fault

Body = dict[str, Any]
# Asking again may help: no answer, the login runs out and is renewed, the pod goes, a conflict, too many requests.
PASSING = frozenset({401, 404, 408, 409, 429})
CLASH = 409
INVALID = 422


class Denial(Protocol):
    """A request that did not succeed, as the cluster's client tells it: HTTP's status, how many fields were named, in words."""

    @property
    def status(self) -> int:
        """0 where there was no answer."""
        ...

    @property
    def causes(self) -> int:
        """A patch whose `test` failed names no field, a value that is not allowed does."""
        ...

    @property
    def unanswered(self) -> bool:
        """Nobody knows whether it was carried out."""
        ...


class PodApi(Protocol):
    """What is needed of an API server."""

    def get(self, path: str) -> Body | Denial:
        """One object."""
        ...

    def patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Body | Denial:
        """Apply a JSON patch."""
        ...


class Pods:
    """The pods of a cluster, one at a time."""

    def __init__(self, api: PodApi) -> None:
        self._api = api

    def read(self, pod: Endpoint) -> Body | Fault:
        """It as it stands now; a Fault if it is another pod by now."""
        found = self._api.get(_path(pod))
        if not isinstance(found, dict):
            return fault(f"pod {pod.name} could not be read", found)
        if found.get("metadata", {}).get("uid") != pod.uid:
            return Fault(DOOR, f"pod {pod.name} was made anew since it was looked at")
        return found

    def patch(self, pod: Endpoint, operations: Sequence[Mapping[str, Any]], part: str = "") -> Fault | None:
        """Change it, or a `part` ("/status") of it, if it still is that pod."""
        same = {"op": "test", "path": "/metadata/uid", "value": pod.uid}
        done = self._api.patch(_path(pod) + part, [same, *operations])
        return None if isinstance(done, dict) else fault(f"pod {pod.name} was not changed", done)


def fault(what: str, why: Denial) -> Fault:
    """A denied request, as one to be made again or not."""
    if why.unanswered:
        return Fault(DOOR, f"{what}, or nobody knows: {why}")
    if why.status == CLASH or (why.status == INVALID and not why.causes):
        return Fault(DOOR, f"{what}: somebody else changed it in that moment")
    return (Fault if why.status in PASSING else Refused)(DOOR, f"{what}: {why}")


def _path(pod: Endpoint) -> str:
    return f"/api/v1/namespaces/{quote(pod.namespace)}/pods/{quote(pod.name)}"
