"""How do tests play the pods of an API server? Objects by path, JSON patches that are applied or not, hands that interfere."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.routing import Endpoint, LabelRouting
from autoscaler.core.fleet import Role

Body = dict[str, Any]
LABEL = "llm-d.ai/role"
VALUES = {Role.PREFILL: "prefill", Role.DECODE: "decode"}
NOT_FOUND = ApiFault(404, "NotFound", "pods not found")
FAILED_TEST = ApiFault(422, "Invalid", "the server rejected our request due to an error in our request")


class PodsOfACluster:
    """Pods of namespace "serving". `refuses` answers every patch, `silent` every get; `meanwhile` runs before a patch."""

    def __init__(self, *pods: Body) -> None:
        self.pods = {f"/api/v1/namespaces/serving/pods/{pod['metadata']['name']}": pod for pod in pods}
        self.patched: list[str] = []
        self.refuses: ApiFault | None = None
        self.silent: ApiFault | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def get(self, path: str) -> Body | ApiFault:
        return self.silent or copy.deepcopy(self.pods.get(path)) or NOT_FOUND

    def patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Body | ApiFault:
        self.meanwhile()
        if self.refuses:
            return self.refuses
        whole = path.removesuffix("/status")
        if whole not in self.pods:
            return NOT_FOUND
        changed = copy.deepcopy(self.pods[whole])
        if not all(_applied(changed, operation) for operation in operations):
            return FAILED_TEST
        self.pods[whole] = changed
        self.patched.append(path)
        return changed

    def labels(self, name: str) -> dict[str, str]:
        labels: dict[str, str] = self.pods[f"/api/v1/namespaces/serving/pods/{name}"]["metadata"]["labels"]
        return labels

    def seen(self, name: str, **others: Any) -> Endpoint:
        """The pod as a watched list would show it now."""
        pod = self.pods[f"/api/v1/namespaces/serving/pods/{name}"]
        metadata, conditions = pod["metadata"], pod["status"].get("conditions", ())
        status = {one["type"]: one["status"] for one in conditions}
        gates = {one["conditionType"]: status.get(one["conditionType"], "") for one in pod["spec"].get("readinessGates", ())}
        fields = {"ip": "10.0.0.1", "role": Role.PREFILL, "labels": dict(metadata["labels"]), "gates": gates} | others
        return Endpoint(name, "serving", metadata["uid"], **fields)


def pod(name: str = "prefill-0", value: str | None = "prefill", **spec: Any) -> Body:
    labels = {"app": "engine"} | ({} if value is None else {LABEL: value})
    metadata = {"name": name, "uid": f"uid-of-{name}", "labels": labels}
    return {"metadata": metadata, "spec": spec, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}


def by_label(cluster: PodsOfACluster) -> LabelRouting:
    return LabelRouting(cluster, LABEL, VALUES, "draining")


def _applied(body: Body, operation: Mapping[str, Any]) -> bool:
    *way, last = (step.replace("~1", "/").replace("~0", "~") for step in operation["path"].strip("/").split("/"))
    place: Any = body
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place.get(step, {})
    key: Any = int(last) if isinstance(place, list) and last != "-" else last
    match operation["op"], place:
        case "test", list():
            return key < len(place) and bool(place[key] == operation["value"])
        case "test", _:
            return bool(place.get(key) == operation["value"])
        case "add", list():
            place.append(operation["value"])
        case "replace", _:
            place[key] = operation["value"]
        case _:
            raise AssertionError(operation)
    return True
