"""Is the plane the real thing, does it fail as it is told to, and is nothing left of it?"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.binaries import Binaries
from tests.e2e.plane.plane import Plane, Refused
from tests.e2e.plane.servers import ServerFailed

pytestmark = pytest.mark.plane
ROOT = Path(__file__).parents[3]
MEMORY_MIB = 1024


@pytest.fixture
def namespace(plane: Plane) -> Iterator[str]:
    name = plane.namespace()
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")  # its pods hold GPUs that the next test may want


def groups_of(size: int, *, gpus: int = 1, ready_after: str = "0s") -> dict[str, Any]:
    """The part of a LeaderWorkerSet that says what a group is."""
    engine = {"name": "engine", "image": "example.invalid/engine:1", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    pod = {"metadata": {"annotations": {"plane/ready-after": ready_after}}, "spec": {"containers": [engine]}}
    return {"size": size, "workerTemplate": pod}


def create(plane: Plane, namespace: str, kind: str, name: str, **spec: object) -> None:
    version = f"{kind.lower()}.x-k8s.io/v1"
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    plane.kubectl("create", "-f", "-", input=json.dumps(document))


def wait_for_groups(plane: Plane, namespace: str, name: str, ready: int) -> None:
    for field in ("replicas", "readyReplicas"):
        condition = f"--for=jsonpath={{.status.{field}}}={ready}"
        plane.kubectl("wait", condition, f"leaderworkerset/{name}", f"--namespace={namespace}", "--timeout=60s")


def listed(plane: Plane, namespace: str, resource: str, *options: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(plane.kubectl("get", resource, "-n", namespace, "-o", "json", *options))["items"]
    return items


def has_pods(plane: Plane, namespace: str, count: int) -> bool:
    return len(listed(plane, namespace, "pods")) == count


def naming(folder: Path) -> dict[str, str]:
    """Process id to command line of every process that names this folder."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if str(folder) in line:
            found[path.parent.name] = line
    return found


def conditions(pod: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["status"] for condition in pod["status"]["conditions"]}


def test_pods_of_a_leaderworkerset_become_ready(plane: Plane, namespace: str) -> None:
    create(plane, namespace, "LeaderWorkerSet", "decode", replicas=2, leaderWorkerTemplate=groups_of(2))
    wait_for_groups(plane, namespace, "decode", 2)
    pods = listed(plane, namespace, "pods")
    assert sorted(pod["metadata"]["name"] for pod in pods) == ["decode-0", "decode-0-1", "decode-1", "decode-1-1"]
    assert all(conditions(pod)["Ready"] == "True" for pod in pods)
    assert all(pod["spec"]["nodeName"].startswith("gpu-node-") for pod in pods)


def test_pods_take_as_long_to_become_ready_as_they_are_told(plane: Plane, namespace: str) -> None:
    begun = time.monotonic()
    template = groups_of(1, ready_after="2s")
    create(plane, namespace, "LeaderWorkerSet", "slow", replicas=1, leaderWorkerTemplate=template)
    wait_for_groups(plane, namespace, "slow", 1)
    assert time.monotonic() - begun > 2


def test_a_running_pod_gets_its_ready_condition_back_after_a_node_outage(plane: Plane, namespace: str) -> None:
    create(plane, namespace, "LeaderWorkerSet", "decode", replicas=1, leaderWorkerTemplate=groups_of(1))
    wait_for_groups(plane, namespace, "decode", 1)
    withdrawn = json.dumps({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    plane.kubectl("patch", "pod/decode-0", "-n", namespace, "--subresource=status", "-p", withdrawn)
    plane.kubectl("wait", "--for=condition=Ready", "pod/decode-0", "-n", namespace, "--timeout=30s")


def test_scale_subresource_moves_groups(plane: Plane, namespace: str) -> None:
    create(plane, namespace, "LeaderWorkerSet", "prefill", replicas=1, leaderWorkerTemplate=groups_of(2))
    for replicas in (3, 1):
        plane.kubectl("scale", "leaderworkerset/prefill", "-n", namespace, f"--replicas={replicas}")
        wait_for_groups(plane, namespace, "prefill", replicas)
        wait_until(partial(has_pods, plane, namespace, 2 * replicas), f"pods of {replicas} groups")
    path = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{namespace}/leaderworkersets/prefill/scale"
    scale = json.loads(plane.kubectl("get", "--raw", path))
    assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (1, 1)


def test_hpa_selector_is_filled_in_and_selects_leaders_only(plane: Plane, namespace: str) -> None:
    create(plane, namespace, "LeaderWorkerSet", "decode", replicas=2, leaderWorkerTemplate=groups_of(2))
    wait_for_groups(plane, namespace, "decode", 2)
    (found,) = listed(plane, namespace, "leaderworkersets")
    leaders = listed(plane, namespace, "pods", f"--selector={found['status']['hpaPodSelector']}")
    assert [pod["metadata"]["name"] for pod in leaders] == ["decode-0", "decode-1"]


def test_a_disaggregatedset_owns_one_leaderworkerset_for_each_role(plane: Plane, namespace: str) -> None:
    roles = [{"name": name, "spec": {"replicas": 1, "leaderWorkerTemplate": groups_of(1)}} for name in ("prefill", "decode")]
    create(plane, namespace, "DisaggregatedSet", "chat", roles=roles)
    wait_until(lambda: len(listed(plane, namespace, "leaderworkersets")) == 2, "a LeaderWorkerSet for each role")
    for child in listed(plane, namespace, "leaderworkersets"):
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["controller"]) == ("DisaggregatedSet", "chat", True)


def test_groups_for_which_no_gpu_is_free_stay_pending(plane: Plane, namespace: str) -> None:
    create(plane, namespace, "LeaderWorkerSet", "huge", replicas=1, leaderWorkerTemplate=groups_of(1, gpus=9))
    wait_until(lambda: any(pod["status"].get("conditions") for pod in listed(plane, namespace, "pods")), "the scheduler")
    (pod,) = listed(plane, namespace, "pods")
    (condition,) = pod["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert "Insufficient nvidia.com/gpu" in condition["message"]


def test_the_managers_webhook_refuses_what_the_schema_lets_pass(plane: Plane, namespace: str) -> None:
    rollout = {"rollingUpdateConfiguration": {"maxUnavailable": 0, "maxSurge": 0}}
    with pytest.raises(Refused, match=r"vleaderworkerset\.kb\.io.*maxUnavailable"):
        create(plane, namespace, "LeaderWorkerSet", "x", leaderWorkerTemplate=groups_of(1), rolloutStrategy=rollout)


def test_a_service_account_may_do_only_what_its_role_says(plane: Plane, namespace: str) -> None:
    reader = plane.kubeconfig_for(namespace, "reader")
    with pytest.raises(Refused, match="Forbidden"):
        plane.kubectl("get", "pods", "-n", namespace, kubeconfig=reader)
    plane.kubectl("create", "role", "reads-pods", "--verb=list", "--resource=pods", "-n", namespace)
    plane.kubectl("create", "rolebinding", "r", "--role=reads-pods", f"--serviceaccount={namespace}:reader", "-n", namespace)
    plane.kubectl("get", "pods", "-n", namespace, kubeconfig=reader)
    with pytest.raises(Refused, match="Forbidden"):
        plane.kubectl("delete", "pod", "some-pod", "-n", namespace, kubeconfig=reader)


def test_api_server_comes_back_with_its_objects(plane: Plane, namespace: str) -> None:
    create(plane, namespace, "LeaderWorkerSet", "decode", replicas=1, leaderWorkerTemplate=groups_of(1))
    wait_for_groups(plane, namespace, "decode", 1)
    (before,) = listed(plane, namespace, "leaderworkersets")
    plane.stop_api()
    try:
        with pytest.raises(Refused, match="refused"):
            plane.kubectl("get", "pods", "-n", namespace)
    finally:
        plane.start_api()
    (after,) = listed(plane, namespace, "leaderworkersets")
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    plane.kubectl("scale", "leaderworkerset/decode", "-n", namespace, "--replicas=2")
    wait_for_groups(plane, namespace, "decode", 2)


def test_a_frozen_api_server_answers_nobody_until_it_goes_on(plane: Plane, namespace: str) -> None:
    plane.pause_api()
    try:
        with pytest.raises(Refused, match=r"(?i)time-?out|deadline"):
            plane.kubectl("get", "pods", "-n", namespace, "--request-timeout=1s")
    finally:
        plane.resume_api()
    assert listed(plane, namespace, "pods") == []


def test_the_whole_plane_fits_into_a_gigabyte(plane: Plane) -> None:
    resident = plane.rss_mib()
    assert all(resident.values()), resident
    assert sum(resident.values()) < MEMORY_MIB, resident


def test_everything_is_gone_after_stop(binaries: Binaries, tmp_path: Path) -> None:
    with Plane(binaries, tmp_path) as short_lived:
        assert len(naming(tmp_path)) == len(short_lived.servers)
    assert naming(tmp_path) == {}
    assert not (tmp_path / "etcd").exists()
    assert all(server.log.stat().st_size for name, server in short_lived.servers.items() if name != "etcd")


def test_a_plane_that_cannot_start_tells_the_log_and_leaves_nothing(binaries: Binaries, tmp_path: Path) -> None:
    broken = Plane(binaries, tmp_path)
    (tmp_path / "tls.key").write_text("not a key")
    with pytest.raises(ServerFailed, match=r"(?s)kube-apiserver ended with 1; .*kube-apiserver\.log ends with:.*tls"):
        broken.start()
    assert naming(tmp_path) == {}


def test_no_server_outlives_a_killed_test_run(binaries: Binaries, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tests.e2e.plane.servers import Server\n"
        "Server('sleeper', ['/bin/sleep', '3600'], Path(sys.argv[1]), Path(sys.argv[2])).start()\n"
        "print('started', flush=True); time.sleep(3600)"
    )
    arguments = [sys.executable, "-c", code, str(binaries.programs["setpriv"]), str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "started\n"
        (child,) = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        command_line = Path(f"/proc/{child}/cmdline")
        wait_until(lambda: command_line.read_bytes().startswith(b"/bin/sleep"), "setpriv has become the server")
        run.kill()
    # Whoever adopts orphans may take its time to bury this one; until then its command line is empty.
    wait_until(lambda: not command_line.exists() or not command_line.read_bytes(), "the server's end")
