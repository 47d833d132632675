"""How do tests on the plane speak of objects, policies and gateways in one line each?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from autoscaler.adapters.kubernetes import KubernetesFleet, connect
from autoscaler.core.action import Action, Outcome
from autoscaler.core.fleet import Fleet, Pool, Role
from autoscaler.core.reason import Reason
from autoscaler.policy import Document
from autoscaler.ports import Fault
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.policy_documents import edited

OTHER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "other"}
TERM = 1
DISAGGREGATED = "disaggregatedset.x-k8s.io/v1"


class Place:
    """A namespace of the plane."""

    def __init__(self, plane: Plane) -> None:
        self.plane, self.namespace = plane, plane.namespace()

    def create(self, api_version: str, kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> None:
        metadata |= {"name": name, "namespace": self.namespace}
        document = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
        self.kubectl("create", "-f", "-", input=json.dumps(document))

    def leader_worker_set(self, name: str, replicas: int, size: int = 1, gpus: int = 0, worker_ready: str = "0s") -> None:
        leader, worker = _pod(gpus), _pod(gpus, **{"plane/ready-after": worker_ready})
        group = {"size": size, "leaderTemplate": leader if size > 1 else worker, "workerTemplate": worker}
        self.create("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", name, {"replicas": replicas, "leaderWorkerTemplate": group})

    def deployment(self, name: str, replicas: int) -> None:
        pod = _pod(0)
        pod["metadata"]["labels"] = {"app": name}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": pod}
        self.create("apps/v1", "Deployment", name, spec)

    def disaggregated_set(self, name: str, replicas: int, *roles: str) -> None:
        """Each role makes a LeaderWorkerSet of its own."""
        role = {"replicas": replicas, "leaderWorkerTemplate": {"size": 1, "workerTemplate": _pod(0)}}
        self.create(DISAGGREGATED, "DisaggregatedSet", name, {"roles": [{"name": one, "spec": role} for one in roles]})

    def event(self, pod: str, reason: str, message: str, component: str) -> None:
        """What a component of the cluster says about a pod now."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{pod}.", "namespace": self.namespace},
            "involvedObject": {"kind": "Pod", "name": pod, "namespace": self.namespace},
            "source": {"component": component},
            "lastTimestamp": now,
            "reason": reason,
            "message": message,
        }
        self.kubectl("create", "-f", "-", input=json.dumps(event))

    def kubectl(self, *arguments: str, input: str | None = None) -> str:  # noqa: A002
        return self.plane.kubectl("--namespace", self.namespace, *arguments, input=input)

    def wanted(self, what: str) -> int:
        """spec.replicas of an object, as the API server has it."""
        return int(self.kubectl("get", what, "-o", "jsonpath={.spec.replicas}"))

    def ready_pods(self) -> set[str]:
        pods = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return {pod["metadata"]["name"] for pod in pods if {"type": "Ready", "status": "True"}.items() <= _ready(pod).items()}


class Fleets:
    """A gateway for one policy whose prefill pool is the object under test; its decode pool is a Deployment beside it."""

    def __init__(self, gateway: KubernetesFleet, key: str) -> None:
        self.gateway, self.key = gateway, key

    def read(self) -> Fleet | Fault:
        return self.gateway.read(self.key, time.time())

    def pool(self) -> Pool:
        fleet = self.read()
        assert isinstance(fleet, Fleet), fleet
        return fleet.pools[Role.PREFILL]

    def scale(self, seen: int, to: int) -> Outcome:
        reason = Reason.SCALE_UP if to > seen else Reason.SCALE_DOWN
        return self.gateway.apply(self.key, Action(Role.PREFILL, seen, to, reason), time.time(), TERM)

    def until(self, holds: Callable[[Pool], bool], what: str) -> Pool:
        """The first pool of which it holds; Faults on the way are waited out."""
        last: list[Fleet | Fault] = []

        def seen() -> bool:
            last.append(self.read())
            return isinstance(last[-1], Fleet) and holds(last[-1].pools[Role.PREFILL])

        try:
            wait_until(seen, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {last[-1]}") from None
        fleet = last[-1]
        assert isinstance(fleet, Fleet)
        return fleet.pools[Role.PREFILL]

    def until_serving(self, count: int) -> Pool:
        """Exactly so many replicas stand, and all serve."""
        return self.until(lambda pool: len(pool.replicas) == pool.serving == count, f"{count} serving and nothing else")


@contextmanager
def fleets(place: Place, monkeypatch: pytest.MonkeyPatch, target: Mapping[str, str], watch_s: int = 30) -> Iterator[Fleets]:
    """The gateway over `target` in this namespace, ended with the block."""
    monkeypatch.setenv("KUBECONFIG", str(place.plane.kubeconfig))
    document = Document.model_validate(policy(place.namespace, target))
    gateway = KubernetesFleet(connect(), {document.key: document}, watch_s=watch_s)
    yield Fleets(gateway, document.key)
    gateway.stop()


def policy(namespace: str, target: Mapping[str, str]) -> dict[str, Any]:
    """A policy whose prefill pool is `target` and whose decode pool is OTHER, which `deployment("other", 1)` makes."""
    changes = {"metadata.namespace": namespace, "spec.pools.prefill.target": dict(target), "spec.pools.decode.target": OTHER}
    return edited(changes)


def _pod(gpus: int, **annotations: str) -> dict[str, Any]:
    limits = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    engine = {"name": "engine", "image": "example.invalid/engine:1", "resources": {"limits": limits}}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [engine]}}


def _ready(pod: Mapping[str, Any]) -> dict[str, Any]:
    return next((one for one in pod["status"].get("conditions", ()) if one["type"] == "Ready"), {})
