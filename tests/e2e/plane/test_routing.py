"""Does a real API server take what routing writes, refuse what it must not, and do the pods' owners let it be?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body, KubeApi, connect
from autoscaler.adapters.routing import GATE, Endpoint, LabelRouting, ReadinessRouting, Refused
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY
from autoscaler.ports import Fault
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.workloads import Place

pytestmark = [pytest.mark.plane, pytest.mark.slow]

LABEL = "llm-d.ai/role"
VALUES = {Role.PREFILL: "prefill", Role.DECODE: "decode"}
NEEDED = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"]},
    {"apiGroups": [""], "resources": ["pods/status"], "verbs": ["patch"]},
]
TEMPLATE = {
    "metadata": {"labels": {LABEL: "prefill"}},
    "spec": {
        "readinessGates": [{"conditionType": GATE}],
        "containers": [{"name": "engine", "image": "example.invalid/engine:1"}],
    },
}


class Interfered:
    """An API server where something happens just before each patch."""

    def __init__(self, api: KubeApi, place: Place, *happens: str) -> None:
        self._api, self._place, self._happens = api, place, happens

    def get(self, path: str) -> Body | ApiFault:
        return self._api.get(path)

    def patch(self, path: str, operations: Sequence[Mapping[str, Any]]) -> Body | ApiFault:
        self._place.kubectl(*self._happens)
        return self._api.patch(path, operations)


@pytest.fixture(scope="module")
def place(plane: Plane) -> Iterator[Place]:
    """A set of one group of two pods that bear the label and the gate, and an account that may do what routing needs."""
    place = Place(plane)
    group = {"size": 2, "leaderTemplate": TEMPLATE, "workerTemplate": TEMPLATE}
    place.create("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "prefill", {"replicas": 1, "leaderWorkerTemplate": group})
    wait_until(lambda: running(place) == {"prefill-0", "prefill-0-1"}, "both pods run")
    place.kubectl("create", "-f", "-", input=json.dumps(_role(place.namespace)))
    place.kubectl("create", "rolebinding", "router", "--role=router", f"--serviceaccount={place.namespace}:router")
    yield place
    plane.kubectl("delete", "namespace", place.namespace, "--wait=false")


@pytest.fixture
def api(place: Place, monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    """As an account that may do no more than `NEEDED`."""
    monkeypatch.setenv("KUBECONFIG", str(place.plane.kubeconfig_for(place.namespace, "router")))
    return connect()


def seen(place: Place, name: str = "prefill-0") -> Endpoint:
    body = json.loads(place.kubectl("get", "pod", name, "-o", "json"))
    status = {one["type"]: one["status"] for one in body["status"]["conditions"]}
    gates = {one["conditionType"]: status.get(one["conditionType"], "") for one in body["spec"]["readinessGates"]}
    metadata, ip = body["metadata"], body["status"]["podIP"]
    return Endpoint(name, place.namespace, metadata["uid"], ip, Role.PREFILL, metadata["labels"], gates)


def follows(place: Place, *, ready: bool) -> bool:
    return ("prefill-0" in place.ready_pods()) is ready


def running(place: Place) -> set[str]:
    """Pods whose containers are ready; they are Ready only where the gate is open as well."""
    pods = json.loads(place.kubectl("get", "pods", "-o", "json"))["items"]
    conditions = {pod["metadata"]["name"]: pod["status"].get("conditions", ()) for pod in pods}
    return {
        name for name, found in conditions.items() if ("ContainersReady", "True") in [(c["type"], c["status"]) for c in found]
    }


def test_a_leader_is_relabelled_and_its_set_neither_lets_it_go_nor_makes_it_anew(place: Place, api: KubeApi) -> None:
    routing, before, worker = LabelRouting(api, LABEL, VALUES, "draining"), seen(place), seen(place, "prefill-0-1")
    for role, expected in ((None, AWAY), (Role.DECODE, Role.DECODE), (None, AWAY), (Role.PREFILL, Role.PREFILL)):
        assert routing.route(seen(place), role) is None
        assert routing.routed(seen(place)) is expected
    assert seen(place).uid == before.uid
    assert seen(place, "prefill-0-1").labels == worker.labels
    assert running(place) == {"prefill-0", "prefill-0-1"}


def test_a_label_that_changes_in_that_moment_is_a_conflict(place: Place, api: KubeApi) -> None:
    other = Interfered(api, place, "label", "pod", "prefill-0", f"{LABEL}=decode", "--overwrite")
    fault = LabelRouting(other, LABEL, VALUES, "draining").route(seen(place), None)
    assert fault == Fault("routing", "pod prefill-0 was not changed: somebody else changed it in that moment")
    assert seen(place).labels[LABEL] == "decode"
    assert LabelRouting(api, LABEL, VALUES, "draining").route(seen(place), Role.PREFILL) is None


def test_another_pod_of_that_name_is_left_alone(place: Place, api: KubeApi) -> None:
    routing, gone = LabelRouting(api, LABEL, VALUES, "draining"), replace(seen(place), uid="another")
    fault = routing.route(gone, None)
    assert isinstance(fault, Fault)
    assert "made anew" in fault.detail
    missing = routing.route(replace(gone, name="no-such-pod"), None)
    assert isinstance(missing, Fault)
    assert not isinstance(missing, Refused)


def test_a_readiness_gate_lets_in_and_out_through_the_status(place: Place, api: KubeApi) -> None:
    routing = ReadinessRouting(api)
    assert routing.waits(seen(place))
    for role, expected in ((Role.PREFILL, Role.PREFILL), (None, AWAY), (Role.PREFILL, Role.PREFILL)):
        assert routing.route(seen(place), role) is None
        assert routing.routed(seen(place)) is expected
        wait_until(partial(follows, place, ready=role is not None), "Ready follows the gate")
    assert not routing.waits(seen(place))
    conditions = json.loads(place.kubectl("get", "pod", "prefill-0", "-o", "json"))["status"]["conditions"]
    assert [one["type"] for one in conditions].count(GATE) == 1
    assert {"Ready", "ContainersReady", "Initialized"} < {one["type"] for one in conditions}


def test_the_label_of_one_who_applies_it_is_refused_by_name(place: Place, api: KubeApi) -> None:
    metadata = {"name": "prefill-0-1", "namespace": place.namespace, "labels": {LABEL: "prefill"}}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    place.kubectl("apply", "--server-side", "--field-manager=role-keeper", "-f", "-", input=json.dumps(document))
    fault = LabelRouting(api, LABEL, VALUES, "draining").route(seen(place, "prefill-0-1"), None)
    assert isinstance(fault, Refused)
    assert "is kept by role-keeper (server-side apply)" in fault.detail


def test_an_account_without_the_right_is_told_so(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(place.plane.kubeconfig_for(place.namespace, "nobody")))
    fault = LabelRouting(connect(), LABEL, VALUES, "draining").route(seen(place), None)
    assert isinstance(fault, Refused)
    assert 'cannot get resource "pods"' in fault.detail


def _role(namespace: str) -> dict[str, Any]:
    metadata = {"name": "router", "namespace": namespace}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": NEEDED}
