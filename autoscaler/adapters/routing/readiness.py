"""How is a replica taken out of routing where nothing tells roles but everything follows Ready?

By a readiness gate of our own. Pods that bear it are Ready only while its condition is True, and Services, llm-d's and
production-stack's lists of endpoints drop a pod that is not (reference/engines.md B.3). So it takes out and lets in; it
tells no role, and a flip in place needs one. SGLang's gateway keeps a worker that is not Ready: it has its own way.

A gate cannot be added to a pod that exists: it belongs on the pod template. A new pod waits for its first True, which
nobody but us gives (`waits`); and while a replica is out its set counts it as not ready, as it should.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from autoscaler.adapters.routing.endpoint import DOOR, Endpoint, Refused
from autoscaler.adapters.routing.pods import PodApi, Pods
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Away
from autoscaler.ports import Fault

GATE = "pdautoscaler.io/routed"
AT = "/status/conditions"


class ReadinessRouting:
    """`Routing` by the readiness gate GATE."""

    def __init__(self, api: PodApi) -> None:
        self._pods = Pods(api)

    def routed(self, pod: Endpoint) -> Role | Away | None:
        """In the role of its pool, or out; unknown for a pod without the gate. A pod nobody has let in yet is out."""
        status = pod.gates.get(GATE)
        return None if status is None else pod.role if status == "True" else AWAY

    def waits(self, pod: Endpoint) -> bool:
        """It bears the gate and was never let in: a new pod, which will not be Ready before it is."""
        return pod.gates.get(GATE) == ""

    def route(self, pod: Endpoint, role: Role | None) -> Fault | None:
        """Set the gate's condition: True lets it in, in the role of its pool."""
        if role not in (None, pod.role):
            return Refused(DOOR, f"pod {pod.name}: a readiness gate tells no role, so it cannot be routed to as {role}")
        found = self._pods.read(pod)
        if isinstance(found, Fault):
            return found
        gates = [gate.get("conditionType") for gate in found.get("spec", {}).get("readinessGates") or ()]
        if GATE not in gates:
            return Refused(DOOR, f"pod {pod.name} has no readiness gate {GATE}; it can only come from the pod template")
        conditions = found.get("status", {}).get("conditions") or []
        if not conditions:
            return Fault(DOOR, f"pod {pod.name} has no conditions yet")
        operations = _operations(conditions, "False" if role is None else "True")
        return self._pods.patch(pod, operations, "/status") if operations else None


def _operations(conditions: Sequence[Mapping[str, Any]], status: str) -> list[Mapping[str, Any]]:
    """What makes the gate's condition so; nothing if it is. A list has places and no names, so each place is tested."""
    text = "routed to" if status == "True" else "taken out of routing"
    wanted = {
        "type": GATE,
        "status": status,
        "reason": "Routed" if status == "True" else "Away",
        "message": f"{text} by pd-autoscaler",
        "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    place = next((at for at, one in enumerate(conditions) if one.get("type") == GATE), None)
    if place is None:
        return [{"op": "test", "path": AT, "value": list(conditions)}, {"op": "add", "path": f"{AT}/-", "value": wanted}]
    if conditions[place].get("status") == status:
        return []
    at = f"{AT}/{place}"
    return [{"op": "test", "path": f"{at}/type", "value": GATE}, {"op": "replace", "path": at, "value": wanted}]
