"""How do tests play a cluster that does what it is told? One PDAutoscaler, targets, and pods that come and go with their counts.

An API server's part: JSON patches are carried out whole or not at all, each change is a new version and an event for whoever
watches, managedFields tell who wrote last. A controller's part: a LeaderWorkerSet has the pods NAME-0 to NAME-(n-1); a
Deployment has as many as it wants, and of those too many the one goes that has the lowest deletion cost, then the youngest. A
pod is Ready at once, or when `start` is called (`slow`); one that is deleted is gone at once, or when `bury` is (`lingering`).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from autoscaler.adapters.kubernetes.api import ApiFault, Body, Operation
from autoscaler.adapters.kubernetes.pods import COST
from autoscaler.core.fleet import Role
from autoscaler.policy.crd.definition import GROUP as OURS
from autoscaler.policy.crd.definition import PLURAL, VERSION
from tests.adapters.kubernetes.fake_api import NOT_FOUND, FakeApi, FakeStream, event, listed

NS = "namespaces/default"
KEY = "default/chat"
PODS = f"/api/v1/{NS}/pods"
SETS = f"/apis/leaderworkerset.x-k8s.io/v1/{NS}/leaderworkersets"
DEPLOYMENTS = f"/apis/apps/v1/{NS}/deployments"
PDA = f"/apis/{OURS}/{VERSION}/{NS}/{PLURAL}/chat"
LWS = "leaderworkerset.sigs.k8s.io"
LABEL = "llm-d.ai/role"
FAILED_TEST = ApiFault(422, "Invalid", "the server rejected our request due to an error in our request")
BORN, READY, WRITTEN, DELETED = (f"2033-05-18T03:{minute:02}:00Z" for minute in (0, 1, 30, 31))
KINDS = {
    "/apis/leaderworkerset.x-k8s.io/v1": ("leaderworkersets", "LeaderWorkerSet"),
    "/apis/apps/v1": ("deployments", "Deployment"),
}


class FakeCluster(FakeApi):
    """`before` runs ahead of every write: a second hand, or a fault to answer instead. `writes` are those that were tried, as
    (verb, path). `ip` gives a new pod its address.
    """

    def __init__(self, ip: Callable[[str], str] = lambda name: "127.0.0.1") -> None:
        super().__init__()
        self.objects: dict[str, Body] = {PDA: {"metadata": {"name": "chat", "uid": "u1", "resourceVersion": "1"}}}
        self.slow = self.lingering = self.gated = False
        self.before: Callable[[str, str], ApiFault | None] = lambda verb, path: None
        self.writes: list[tuple[str, str]] = []
        self._ip, self._made, self._version = ip, 0, 1
        self._lock = threading.Lock()
        self._log: list[tuple[str, Body]] = []
        self._watchers: list[tuple[str, str, SimpleQueue[Body | ApiFault | None]]] = []
        for path in (PODS, SETS, DEPLOYMENTS):
            self.lists(path)
        for prefix, (plural, kind) in KINDS.items():
            scale = {"name": f"{plural}/scale", "kind": "Scale"}
            self.holds(prefix, {"resources": [{"name": plural, "kind": kind}, scale]})
        for path in (f"/api/v1/{NS}/events", f"/apis/autoscaling/v2/{NS}/horizontalpodautoscalers"):
            self.lists(path)

    @property
    def state(self) -> Mapping[str, Any]:
        """What is stored for the next leader."""
        found: Mapping[str, Any] = (self.objects[PDA].get("status") or {}).get("state") or {}
        return found

    @property
    def stored(self) -> list[tuple[str, str]]:
        """(kind, step) of what is stored as under way."""
        return [(one["kind"], one["step"]) for one in self.state.get("transactions", ())]

    def target(self, name: str, replicas: int, role: Role, plural: str = SETS) -> None:
        """A LeaderWorkerSet (a Deployment) whose template says this role."""
        self._put(f"{plural}/{name}", {"metadata": {"name": name, "uid": f"uid-{name}"}, "spec": {"replicas": 0}, "role": role})
        self.scale(name, replicas)

    def scale(self, name: str, replicas: int) -> None:
        """What a human with kubectl does, too."""
        path = self._path_of(name)
        self._put(path, {**self.objects[path], "spec": {"replicas": replicas}})
        self._reconcile(path)

    def count(self, name: str) -> int:
        found: int = self.objects[self._path_of(name)]["spec"]["replicas"]
        return found

    def pods(self, name: str = "") -> list[str]:
        """The names of those that stand, of one target or all."""
        return sorted(path.rpartition("/")[2] for path in self.objects if path.startswith(f"{PODS}/{name}"))

    def pod(self, name: str) -> Body:
        return self.objects[f"{PODS}/{name}"]

    def edit(self, name: str, **metadata: Any) -> None:
        """Somebody else writes a pod's metadata."""
        self._put(f"{PODS}/{name}", {**self.pod(name), "metadata": {**self.pod(name)["metadata"], **metadata}})

    def label(self, name: str, value: str | None = None) -> str:
        """What its label says; or have somebody else write it."""
        if value is not None:
            found = copy.deepcopy(self.pod(name))
            found["metadata"]["labels"][LABEL] = value
            self._put(f"{PODS}/{name}", found)
        told: str = self.pod(name)["metadata"]["labels"][LABEL]
        return told

    def labels(self) -> dict[str, str]:
        return {name: self.label(name) for name in self.pods()}

    def start(self) -> None:
        """Every pod that stands is Ready, but for those that a gate keeps from it."""
        for name in self.pods():
            found = copy.deepcopy(self.pod(name))
            told = {one["type"]: one for one in found["status"]["conditions"]}
            told |= {"ContainersReady": _condition("ContainersReady", True)}
            told["Ready"] = _condition("Ready", all(told.get(gate, {}).get("status") == "True" for gate in _gates(found)))
            found["status"]["conditions"] = list(told.values())
            if found != self.pod(name):
                self._put(f"{PODS}/{name}", found)

    def lose(self, name: str) -> None:
        """A pod that is deleted by somebody else, or its node: its target makes it anew."""
        self._remove(f"{PODS}/{name}")
        for path in [path for path in self.objects if path.startswith((SETS, DEPLOYMENTS))]:
            self._reconcile(path)

    def bury(self) -> None:
        """Pods that were deleted are gone."""
        for name in self.pods():
            if "deletionTimestamp" in self.pod(name)["metadata"]:
                self._remove(f"{PODS}/{name}")
        for path in [path for path in self.objects if path.startswith((SETS, DEPLOYMENTS))]:
            self._reconcile(path)

    def get(self, path: str, **query: str) -> Body | ApiFault:
        self.asked.append((path, query))
        whole = path.removesuffix("/scale")
        if whole in self.objects:
            return _scale(whole, self.objects[whole]) if whole != path else copy.deepcopy(self.objects[path])
        if path in (PODS, SETS, DEPLOYMENTS):
            wanted = query.get("labelSelector", "")
            found = [body for at, body in self.objects.items() if at.rpartition("/")[0] == path and _selected(body, wanted)]
            return copy.deepcopy(listed(*found, version=str(self._version)))
        return super().get(path, **query)

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        self.patched.append((path, list(operations)))
        fault = self._begin("PATCH", path)
        if fault is not None:
            return fault
        whole = path.removesuffix("/scale").removesuffix("/status")
        if whole not in self.objects:
            return NOT_FOUND
        changed = copy.deepcopy(self.objects[whole])
        if not all(_applied(changed, one) for one in operations):
            return FAILED_TEST
        if whole.startswith(PODS) and not path.endswith("/status"):
            changed["metadata"]["managedFields"] = [{"manager": "pd-autoscaler", "operation": "Update", "time": WRITTEN}]
        if changed != self.objects[whole]:
            self._put(whole, changed)
            if path.endswith("/scale"):
                self._reconcile(whole)
            if path.endswith("/status") and whole.startswith(PODS):
                self.start()
        return _scale(whole, self.objects[whole]) if path.endswith("/scale") else copy.deepcopy(self.objects[whole])

    def delete(self, path: str, uid: str, version: str) -> Body | ApiFault:
        fault = self._begin("DELETE", path)
        if fault is not None:
            return fault
        if path not in self.objects or self.objects[path]["metadata"]["uid"] != uid:
            return NOT_FOUND
        self.lose(path.rpartition("/")[2])
        return {}

    def _begin(self, verb: str, path: str) -> ApiFault | None:
        self.writes.append((verb, path))
        return self.before(verb, path)

    def _reconcile(self, path: str) -> None:
        body = self.objects[path]
        name, wanted = body["metadata"]["name"], body["spec"]["replicas"]
        standing = [one for one in self.pods(f"{name}-") if "deletionTimestamp" not in self.pod(one)["metadata"]]
        if path.startswith(SETS):
            names = [f"{name}-{number}" for number in range(wanted)]
            for pod in (one for one in names if one not in self.pods(f"{name}-")):
                self._make(pod, body["role"], {f"{LWS}/name": name, f"{LWS}/group-index": pod.rpartition("-")[2]})
            surplus = [one for one in standing if one not in names]
        else:
            for _ in range(wanted - len(standing)):
                self._make(f"{name}-x{self._made}", body["role"], {"app": name})
            surplus = sorted(standing, key=lambda one: (_cost(self.pod(one)), -int(self.pod(one)["metadata"]["uid"][4:])))
            surplus = surplus[: max(0, len(standing) - wanted)]
        for pod in surplus:
            if self.lingering:
                metadata = {**self.pod(pod)["metadata"], "deletionTimestamp": DELETED}
                self._put(f"{PODS}/{pod}", {**self.pod(pod), "metadata": metadata})
            else:
                self._remove(f"{PODS}/{pod}")

    def _make(self, name: str, role: Role, labels: Mapping[str, str]) -> None:
        self._made += 1
        metadata = {"name": name, "uid": f"pod-{self._made}", "creationTimestamp": BORN, "labels": {**labels, LABEL: role.value}}
        spec: Body = {"readinessGates": [{"conditionType": "pdautoscaler.io/routed"}]} if self.gated else {}
        status = {"phase": "Running", "podIP": self._ip(name), "conditions": [_condition("Ready", not (self.slow or self.gated))]}
        self._put(f"{PODS}/{name}", {"metadata": metadata, "spec": spec, "status": status})

    def _put(self, path: str, body: Body) -> None:
        new = path not in self.objects
        self._version += 1
        self.objects[path] = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        self._tell("ADDED" if new else "MODIFIED", path, self.objects[path])

    def _remove(self, path: str) -> None:
        self._version += 1
        self._tell("DELETED", path, self.objects.pop(path))

    def watch(self, path: str, timeout_s: int, **query: str) -> FakeStream:
        """What has happened since the version that is asked from, and what will."""
        events: SimpleQueue[Body | ApiFault | None] = SimpleQueue()
        with self._lock:
            self._watchers.append((path, query.get("labelSelector", ""), events))
            for told in self._log:
                if int(told[1]["object"]["metadata"]["resourceVersion"]) > int(query["resourceVersion"]):
                    self._pass_on(*told, only=events)
        return FakeStream(events)

    def _tell(self, kind: str, path: str, body: Body) -> None:
        told = path.rpartition("/")[0], event(kind, copy.deepcopy(body), str(self._version))
        with self._lock:
            self._log.append(told)
            self._pass_on(*told)

    def _pass_on(self, path: str, told: Body, only: SimpleQueue[Body | ApiFault | None] | None = None) -> None:
        for watched, selector, events in self._watchers:
            if watched == path and only in (None, events) and _selected(told["object"], selector):
                events.put(told)

    def _path_of(self, name: str) -> str:
        return next(path for path in (f"{SETS}/{name}", f"{DEPLOYMENTS}/{name}") if path in self.objects)


def _scale(path: str, body: Body) -> Body:
    name = body["metadata"]["name"]
    selector = f"{LWS}/name={name},{LWS}/worker-index=0" if path.startswith(SETS) else f"app={name}"
    spec = {"replicas": body["spec"]["replicas"]} if body["spec"]["replicas"] else {}
    return {"metadata": {"uid": body["metadata"]["uid"]}, "spec": spec, "status": {"selector": selector}}


def _condition(kind: str, holds: bool) -> Body:
    return {"type": kind, "status": str(holds), "lastTransitionTime": READY}


def _gates(pod: Body) -> list[str]:
    return [one["conditionType"] for one in pod["spec"].get("readinessGates", ())]


def _cost(pod: Body) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(COST, "0"))


def _selected(body: Body, selector: str) -> bool:
    labels = body["metadata"].get("labels") or {}
    terms = [term.partition("=") for term in selector.split(",") if term]
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in terms)


def _applied(body: Any, operation: Operation) -> bool:
    *parents, last = (step.replace("~1", "/") for step in operation["path"].removeprefix("/").split("/"))
    place = body
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.get(parent)
        if place is None:
            return False
    if operation["op"] == "test":
        found = place[int(last)] if isinstance(place, list) else place.get(last)
        zero = operation["path"] == "/spec" and operation["value"] == {} and found == {"replicas": 0}
        return zero or bool(found == operation["value"])
    if isinstance(place, list):
        at = len(place) if last == "-" else int(last)
        place[at : at + 1] = [operation["value"]]
    else:
        place[last] = copy.deepcopy(operation["value"])
    return True
