"""How is a replica routed by a label of its pod?

Routers that tell roles by a pod label (llm-d's filters, production-stack's model labels) follow a change of it within a
second or so. A replica is taken out by a value that no role accepts, never by taking the label away: llm-d counts a pod
without one among its decode pods (reference/engines.md B.2). A new pod bears its template's value again.

Whose label is it? Refused, before anything is written:
  - a pod without it, or with a value that is none of the policy's;
  - a label that another manager keeps by server-side apply, since it would be set back;
  - a label by which the pod's owner finds its pods: the pod would be let go, another one made, and both hold GPUs. Selectors
    of LeaderWorkerSets have none but their own labels (A.2); those of Deployments may.
A label that is set back after it was written is written again, and refused once that has happened TUGS times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from autoscaler.adapters.routing.endpoint import DOOR, Endpoint, Refused
from autoscaler.adapters.routing.pods import PodApi, Pods
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Away
from autoscaler.ports import Fault

TUGS = 3
REMEMBERED = 1000  # pods, the longest unwritten forgotten first: far more than are ever under way at once
NAMES = re.compile(r"[\w./-]+")


class LabelRouting:
    """`Routing` by label `key`: `values` by role, `away` for none. To be kept as long as the policy says the same: it
    remembers what was set back.
    """

    def __init__(self, api: PodApi, key: str, values: Mapping[Role, str], away: str) -> None:
        self._pods, self._key, self._values, self._away = Pods(api), key, dict(values), away
        self._meaning: dict[str, Role | Away] = {value: role for role, value in values.items()} | {away: AWAY}
        self._written: dict[str, tuple[str, int]] = {}  # by uid: the value last written, and how often without another

    def routed(self, pod: Endpoint) -> Role | Away | None:
        """What its label says; unknown without one and for a value of somebody else's."""
        return self._meaning.get(pod.labels.get(self._key, ""))

    def route(self, pod: Endpoint, role: Role | None) -> Fault | None:
        """Give the label the value of this role, or `away`."""
        wanted = self._away if role is None else self._values[role]
        found = self._pods.read(pod)
        if isinstance(found, Fault):
            return found
        value = str((found["metadata"].get("labels") or {}).get(self._key, ""))
        if value == wanted:
            return None
        objection = self._objection(pod, value, wanted, _keeper(found, self._key))
        return Refused(DOOR, f"pod {pod.name}: {objection}") if objection else self._write(pod, found, value, wanted)

    def _write(self, pod: Endpoint, found: Mapping[str, Any], seen: str, wanted: str) -> Fault | None:
        """Unless the pod has changed at all: whoever was paused in the middle of this may find the same value there, written back
        by a successor that has ended what it was for.
        """
        at = "/metadata/labels/" + self._key.replace("/", "~1")
        unchanged = {"op": "test", "path": "/metadata/resourceVersion", "value": found["metadata"].get("resourceVersion")}
        seen_still = {"op": "test", "path": at, "value": seen}
        fault = self._pods.patch(pod, [unchanged, seen_still, {"op": "replace", "path": at, "value": wanted}])
        if fault is None:
            before, times = self._written.pop(pod.uid, ("", 0))
            self._written[pod.uid] = wanted, times + 1 if before == wanted else 1
            if len(self._written) > REMEMBERED:
                del self._written[next(iter(self._written))]
        return fault

    def _objection(self, pod: Endpoint, value: str, wanted: str, keeper: tuple[str, str]) -> str:
        who, how = keeper
        ours = ", ".join(self._meaning)
        written, times = self._written.get(pod.uid, ("", 0))
        if not value:
            return f"has no label {self._key} (routing.label); put it on the pod template with one of: {ours}"
        if value not in self._meaning:
            return f"label {self._key} is {value!r}, which is none of routing.values and routing.away: {ours}"
        if how == "Apply":
            return f"label {self._key} is kept by {who} (server-side apply), which would set it back"
        if self._key in NAMES.findall(pod.selector):
            return f"its owner finds it by label {self._key} and would replace it; take that out of the owner's selector"
        if written == wanted and times >= TUGS:
            return (
                f"label {self._key} was set back {times} times from {wanted!r} to {value!r}, last by {who or 'an unknown hand'}"
            )
        return ""


def _keeper(body: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Who manages a label (manager, operation), one who applies it first; empty words where nobody is named."""
    entries = body["metadata"].get("managedFields") or ()
    keepers = [
        (str(entry.get("manager", "")), str(entry.get("operation", "")))
        for entry in entries
        if f"f:{key}" in ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:labels", {})
    ]
    return min(keepers, key=lambda keeper: keeper[1] != "Apply", default=("", ""))
