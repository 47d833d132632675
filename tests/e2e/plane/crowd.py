"""How does a plane come to have thousands of serving replicas within two minutes?

The real managers make one small LeaderWorkerSet; everything else is copied from what they made of it, objects, status and
pods, with other names. They themselves would take long: the controller manager makes 20 requests a second. So before the
copying they are stopped, the LeaderWorkerSet manager's webhooks with it, and afterwards kwok, too, which gives every
pod its status. What then stands in the API server is what a quiet cluster has, and whoever writes is the controller.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autoscaler.adapters.kubernetes import KubeApi
from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.kubernetes.snapshot import Snapshot
from autoscaler.ports import FleetScope
from tests.e2e.plane.plane import NODES, Plane
from tests.e2e.plane.workloads import Place
from tests.e2e.processes import wait_for

SETS = "/apis/leaderworkerset.x-k8s.io/v1"
POLICIES = "/apis/pdautoscaler.io/v1alpha1"
PATTERN = "pattern"
AT_ONCE = 8
PATIENCE_S = 300.0
MANAGERS = ("lws-manager", "kube-controller-manager", "kube-scheduler")
OF_ONE_OBJECT = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences", "generateName")

Body = dict[str, Any]


class Unmade(Exception):
    """The API server refused a copy."""


def populate(plane: Plane, api: KubeApi, scopes: Sequence[FleetScope], policies: Iterable[Body]) -> None:
    """Make these fleets' LeaderWorkerSets with all their pods Ready, one group of one pod per replica, and these policies.

    Afterwards only the API server and etcd of the plane still run. Raises Unmade with the server's words.
    """
    model_set, model_pod = _patterns(plane)
    plane.kubectl("delete", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "--all")
    for name in MANAGERS:
        plane.servers[name].kill()
    sets = [(scope.namespace, f"{scope.model}-{role}", pods) for scope in scopes for role, pods in scope.pods.items()]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        _all(pool, lambda one: _make_set(api, model_set, *one), sets)
        pods = [(namespace, name, number) for namespace, name, names in sets for number in range(len(names))]
        _all(pool, lambda one: _make_pod(api, model_pod, *one), pods)
        _all(pool, lambda one: _create(api, f"{POLICIES}/namespaces/{_namespace(one)}/pdautoscalers", one), policies)
    ready = Snapshot(api, "/api/v1/pods", _if_ready)
    wait_for(lambda: len(ready.picture().items) >= len(pods), "kwok makes every pod ready", PATIENCE_S)
    ready.stop()
    plane.servers["kwok"].kill()


def _patterns(plane: Plane) -> tuple[Body, Body]:
    """A LeaderWorkerSet of one replica that the managers brought to its end, and its pod; both are gone again."""
    place = Place(plane)
    place.leader_worker_set(PATTERN, 1)
    place.kubectl("wait", f"leaderworkerset/{PATTERN}", "--for=condition=Available", "--timeout=60s")
    found = [json.loads(place.kubectl("get", what, "-o", "json")) for what in (f"leaderworkerset/{PATTERN}", f"pod/{PATTERN}-0")]
    place.kubectl("delete", "leaderworkerset", PATTERN, "--cascade=foreground")
    return found[0], found[1]


def _make_set(api: KubeApi, model: Body, namespace: str, name: str, pods: Sequence[str]) -> None:
    body = _copy(model, namespace, name)
    count = len(pods)
    body["spec"]["replicas"] = count
    path = f"{SETS}/namespaces/{namespace}/leaderworkersets"
    _create(api, path, body)
    status = {**body["status"], **dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), count)}
    answer = api.patch(f"{path}/{name}/status", [{"op": "add", "path": "/status", "value": status}])
    if isinstance(answer, ApiFault):
        raise Unmade(f"{name}: {answer}")


def _make_pod(api: KubeApi, model: Body, namespace: str, name: str, number: int) -> None:
    body = _copy(model, namespace, f"{name}-{number}")
    labels = {key: value.replace(PATTERN, name) for key, value in body["metadata"]["labels"].items()}
    labels |= {"leaderworkerset.sigs.k8s.io/group-index": str(number), "apps.kubernetes.io/pod-index": str(number)}
    body["metadata"]["labels"] = labels
    spec = body["spec"]
    spec["nodeName"] = f"gpu-node-{number % NODES}"
    spec["volumes"] = []  # the account's token, which admission adds again under another name
    for container in spec["containers"]:
        container["volumeMounts"] = []
    del body["status"]
    _create(api, f"/api/v1/namespaces/{namespace}/pods", body)


def _copy(model: Body, namespace: str, name: str) -> Body:
    """A new object like this one. Its name stands in a few places of a LeaderWorkerSet's status, too: its selector."""
    old = model["metadata"]["name"]
    body: Body = copy.deepcopy(model)
    if "status" in body and "hpaPodSelector" in body["status"]:
        body["status"]["hpaPodSelector"] = body["status"]["hpaPodSelector"].replace(old, name)
    for key in OF_ONE_OBJECT:
        body["metadata"].pop(key, None)
    body["metadata"] |= {"namespace": namespace, "name": name}
    return body


def _create(api: KubeApi, path: str, body: Body) -> None:
    answer = api.create(path, body)
    if isinstance(answer, ApiFault):
        raise Unmade(f"{path} {body['metadata']['name']}: {answer}")


def _all(pool: ThreadPoolExecutor, make: Callable[[Any], None], what: Iterable[Any]) -> None:
    """Make each; the first refusal is raised."""
    for _ in pool.map(make, what):
        pass


def _if_ready(pod: Body) -> bool | None:
    conditions = {one["type"]: one["status"] for one in pod.get("status", {}).get("conditions") or ()}
    return True if conditions.get("Ready") == "True" else None


def _namespace(body: Mapping[str, Any]) -> str:
    return str(body["metadata"]["namespace"])
