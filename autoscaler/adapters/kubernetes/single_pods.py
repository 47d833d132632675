"""What is written to one pod of a pool, and how is it made sure that it still is what was decided on?

A pod is deleted so that its group starts anew, or told that it is the one to go. Each names the pod by its uid; a deletion
names its version, too, since by then somebody may have let it in again.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Operation
from autoscaler.adapters.kubernetes.pods import COST, Pod, pod
from autoscaler.adapters.kubernetes.targets import listing
from autoscaler.core.transaction import Victim

GOING = "-1000000"  # a deletion cost: before all others


class SinglePods:
    """The pods of a cluster, written one at a time."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def remake(self, namespace: str, victim: Victim, still: Callable[[Pod], bool]) -> ApiFault | None:
        """Delete a replica's leader, so that its group is made anew, if it is `still` as it should be: a leader that was paused
        before this must not delete a pod that its successor has let in again.
        """
        path = _path(namespace, victim.name)
        found = self._api.get(path)
        if isinstance(found, ApiFault):
            return found
        one = pod(found)
        if one is None or one.uid != victim.uid:
            return None
        if not still(one):
            return ApiFault(409, "LetInAgain", f"{victim.name} is routed to again")
        answer = self._api.delete(path, victim.uid, str(found["metadata"].get("resourceVersion", "")))
        return answer if isinstance(answer, ApiFault) else None

    def offer(self, namespace: str, leader: Pod, *, going: bool) -> ApiFault | None:
        """Tell the cluster by a deletion cost whether this pod is the one to go, where it is the cluster that chooses."""
        cost = GOING if going else "0"
        same = {"op": "test", "path": "/metadata/uid", "value": leader.uid}
        notes: list[Operation] = [{"op": "add", "path": f"/metadata/annotations/{COST.replace('/', '~1')}", "value": cost}]
        if not leader.annotated:
            notes = [{"op": "add", "path": "/metadata/annotations", "value": {COST: cost}}]
        answer = self._api.patch(_path(namespace, leader.name), [same, *notes])
        return answer if isinstance(answer, ApiFault) else None


def _path(namespace: str, name: str) -> str:
    return f"{listing('/api/v1', 'pods', namespace)}/{quote(name)}"
