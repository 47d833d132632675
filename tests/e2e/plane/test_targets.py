"""Does the gateway read and scale what people run, on a real API server with the real LeaderWorkerSet manager?"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest

from autoscaler.adapters.kubernetes.complaints import ABOUT_NODES
from autoscaler.core.action import Verdict
from autoscaler.core.fleet import Lack, Phase
from autoscaler.ports import Fault
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.workloads import DISAGGREGATED, Place, fleets

pytestmark = [pytest.mark.plane, pytest.mark.slow]

SHARED = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[4] / "shared"))
ROLE_SCALERS = SHARED / "crds" / "disaggregatedset.x-k8s.io_disaggregatedsetrolescalers.yaml"
LWS = {"name": "engines"}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "engines"}
ROLE = {"apiVersion": DISAGGREGATED, "kind": "DisaggregatedSet", "name": "chat", "role": "prefill"}
COUNTS = "jsonpath={range .spec.roles[*]}{.spec.replicas} {end}"


@pytest.fixture
def place(plane: Plane) -> Iterator[Place]:
    place = Place(plane)
    place.deployment("other", 1)
    yield place
    plane.kubectl("delete", "namespace", place.namespace, "--wait=false")


def test_groups_follow_a_scale_up_and_a_scale_down(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.leader_worker_set("engines", 1)
    with fleets(place, monkeypatch, LWS) as fleet:
        fleet.until_serving(1)
        assert fleet.scale(1, 3).verdict is Verdict.APPLIED
        pool = fleet.until_serving(3)
        assert (pool.desired, {replica.name for replica in pool.replicas}) == (3, {"engines-0", "engines-1", "engines-2"})
        assert fleet.scale(3, 1).verdict is Verdict.APPLIED
        assert [replica.name for replica in fleet.until_serving(1).replicas] == ["engines-0"]


def test_a_replica_is_a_whole_group_named_after_its_leader(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.leader_worker_set("engines", 2, size=2)
    with fleets(place, monkeypatch, LWS) as fleet:
        pool = fleet.until_serving(2)
        assert {replica.name for replica in pool.replicas} == {"engines-0", "engines-1"}
        assert {"engines-0-1", "engines-1-1"} < place.ready_pods()


def test_a_group_whose_worker_is_not_ready_does_not_serve(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.leader_worker_set("engines", 1, size=2, worker_ready="1h")
    with fleets(place, monkeypatch, LWS) as fleet:
        wait_until(lambda: "engines-0" in place.ready_pods(), "the leader is ready")
        pool = fleet.until(lambda pool: len(pool.replicas) == 1, "one replica")
        assert [(replica.name, replica.phase) for replica in pool.replicas] == [("engines-0", Phase.STARTING)]


def test_a_count_that_somebody_changed_meanwhile_is_a_conflict(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.leader_worker_set("engines", 1)
    with fleets(place, monkeypatch, LWS) as fleet:
        fleet.until_serving(1)
        place.kubectl("scale", "leaderworkerset/engines", "--replicas=2")
        assert fleet.scale(1, 3).verdict is Verdict.CONFLICT
        assert place.wanted("leaderworkerset/engines") == 2


def test_an_object_made_anew_meanwhile_is_a_conflict(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.deployment("engines", 1)
    with fleets(place, monkeypatch, DEPLOYMENT) as fleet:
        fleet.until_serving(1)
        place.kubectl("delete", "deployment/engines")
        place.deployment("engines", 1)
        wait_until(lambda: fleet.scale(1, 3).verdict is not Verdict.FAILED, "the new object is seen")
        assert fleet.scale(1, 3).verdict is Verdict.CONFLICT
        assert place.wanted("deployment/engines") == 1


def test_a_deployment_is_scaled_even_from_zero(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.deployment("engines", 2)
    with fleets(place, monkeypatch, DEPLOYMENT) as fleet:
        fleet.until_serving(2)
        place.kubectl("scale", "deployment/engines", "--replicas=0")
        assert fleet.until_serving(0).desired == 0
        assert fleet.scale(0, 2).verdict is Verdict.APPLIED
        assert fleet.until_serving(2).desired == 2


def test_another_autoscaler_on_the_same_object_is_refused_by_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.leader_worker_set("engines", 2)
    target = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "engines"}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    with fleets(place, monkeypatch, LWS) as fleet:
        assert not fleet.until_serving(2).note
        spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3, "metrics": [cpu]}
        place.create("autoscaling/v2", "HorizontalPodAutoscaler", "theirs", spec)
        note = fleet.until(lambda pool: bool(pool.note), "a note").note
        outcome = fleet.scale(2, 3)
        assert outcome.verdict is Verdict.REFUSED
        assert "HorizontalPodAutoscaler theirs" in outcome.detail
        assert "HorizontalPodAutoscaler theirs" in note
        assert place.wanted("leaderworkerset/engines") == 2


def disaggregated(place: Place, replicas: int = 1) -> str:
    """A DisaggregatedSet `chat` of two roles; the name of its LeaderWorkerSet for prefill."""
    place.disaggregated_set("chat", replicas, "prefill", "decode")
    wait_until(lambda: len(children(place, "prefill")) == 1, "the set makes its LeaderWorkerSets")
    return children(place, "prefill")[0]


def children(place: Place, role: str) -> list[str]:
    """The names of a role's LeaderWorkerSets."""
    by_role = ("get", "leaderworkerset", "-l", f"disaggregatedset.x-k8s.io/role={role}", "-o", "name")
    return [name.rpartition("/")[2] for name in place.kubectl(*by_role).split()]


def counts(place: Place) -> list[int]:
    """What the DisaggregatedSet wants of prefill and decode."""
    return [int(count) for count in place.kubectl("get", "disaggregatedset/chat", "-o", COUNTS).split()]


def test_a_role_of_a_disaggregatedset_is_scaled_in_the_set_and_the_other_role_stays(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = disaggregated(place)
    with fleets(place, monkeypatch, ROLE) as fleet:
        fleet.until_serving(1)
        assert fleet.scale(1, 3).verdict is Verdict.APPLIED
        pool = fleet.until_serving(3)
        assert (pool.desired, pool.note) == (3, "")
        assert {replica.name for replica in pool.replicas} == {f"{child}-{number}" for number in range(3)}
        assert (counts(place), place.wanted(f"leaderworkerset/{child}")) == ([3, 1], 3)
        assert fleet.scale(3, 1).verdict is Verdict.APPLIED
        assert [replica.name for replica in fleet.until_serving(1).replicas] == [f"{child}-0"]
        assert children(place, "prefill") == [child]  # a new count is no rollout


def test_a_role_that_somebody_else_scaled_or_a_set_made_anew_is_a_conflict(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    disaggregated(place)
    with fleets(place, monkeypatch, ROLE) as fleet:
        fleet.until_serving(1)
        patch = [{"op": "add", "path": "/spec/roles/0/spec/replicas", "value": 2}]
        place.kubectl("patch", "disaggregatedset/chat", "--type=json", "-p", json.dumps(patch))
        assert fleet.scale(1, 3).verdict is Verdict.CONFLICT
        fleet.until_serving(2)
        place.kubectl("delete", "disaggregatedset/chat")
        disaggregated(place, 2)
        wait_until(lambda: fleet.scale(2, 3).verdict is not Verdict.FAILED, "the new set is seen")
        assert fleet.scale(2, 3).verdict is Verdict.CONFLICT
        assert counts(place) == [2, 2]


def test_nothing_is_taken_away_from_a_role_while_the_set_is_rolled_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    disaggregated(place, 2)
    with fleets(place, monkeypatch, ROLE) as fleet:
        fleet.until_serving(2)
        never_ready = {"annotations": {"plane/ready-after": "1h"}}
        path = "/spec/roles/1/spec/leaderWorkerTemplate/workerTemplate/metadata"  # of the other role
        patch = [{"op": "add", "path": path, "value": never_ready}]
        place.kubectl("patch", "disaggregatedset/chat", "--type=json", "-p", json.dumps(patch))
        fleet.until(lambda pool: "rollout" in pool.note, "the rollout is seen")
        down = fleet.scale(2, 1)
        assert (down.verdict, "rollout" in down.detail) == (Verdict.REFUSED, True)
        assert counts(place) == [2, 2]


def test_a_set_without_the_role_says_which_roles_it_has(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    disaggregated(place)
    with fleets(place, monkeypatch, {**ROLE, "role": "encode"}) as fleet:
        fault = fleet.read()
        assert isinstance(fault, Fault)
        named = f"prefill DisaggregatedSet {place.namespace}/chat role encode"
        assert fault.detail == f'{named}: NoSuchRole: it has no role "encode" but prefill, decode; correct target.role'


def test_a_leaderworkerset_of_a_disaggregatedset_is_refused_and_its_owner_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = disaggregated(place)
    with fleets(place, monkeypatch, {"name": child}) as fleet:
        fleet.until_serving(1)
        outcome = fleet.scale(1, 2)
        assert outcome.verdict is Verdict.REFUSED
        assert "owned by DisaggregatedSet chat" in outcome.detail
        assert "DisaggregatedSetRoleScaler chat-<role>" in outcome.detail
        assert place.wanted(f"leaderworkerset/{child}") == 1


def role_scaler(place: Place) -> str:
    """The role scaler of prefill, as LWS 0.10 makes it; what kubectl calls it."""
    place.kubectl("apply", "--server-side", "-f", str(ROLE_SCALERS))
    place.kubectl("wait", "--for=condition=Established", "crd/disaggregatedsetrolescalers.disaggregatedset.x-k8s.io")
    uid = place.kubectl("get", "disaggregatedset/chat", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": DISAGGREGATED, "kind": "DisaggregatedSet", "name": "chat", "uid": uid, "controller": True}
    place.create(DISAGGREGATED, "DisaggregatedSetRoleScaler", "chat-prefill", {"replicas": 1}, ownerReferences=[owner])
    labels = {"disaggregatedset.x-k8s.io/name": "chat", "disaggregatedset.x-k8s.io/role": "prefill"}
    labels["leaderworkerset.sigs.k8s.io/worker-index"] = "0"
    status = {"status": {"replicas": 1, "selector": ",".join(f"{key}={value}" for key, value in labels.items())}}
    scaler = "disaggregatedsetrolescaler/chat-prefill"
    place.kubectl("patch", scaler, "--subresource=status", "--type=merge", "-p", json.dumps(status))
    return scaler


with_role_scalers = pytest.mark.skipif(
    not ROLE_SCALERS.exists(), reason=f"needs {ROLE_SCALERS}: the manager built here has no role scalers yet"
)


@with_role_scalers
def test_a_role_scaler_is_written_although_the_set_owns_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    disaggregated(place)
    scaler = role_scaler(place)
    target = {"apiVersion": DISAGGREGATED, "kind": "DisaggregatedSetRoleScaler", "name": "chat-prefill"}
    with fleets(place, monkeypatch, target) as fleet:
        pool = fleet.until_serving(1)
        assert pool.replicas[0].name.endswith("-prefill-0")
        assert fleet.scale(1, 2).verdict is Verdict.APPLIED
        assert place.wanted(scaler) == 2


@with_role_scalers
def test_a_role_that_has_a_scaler_is_refused_in_its_favour(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    disaggregated(place)
    role_scaler(place)
    with fleets(place, monkeypatch, ROLE) as fleet:
        told = "DisaggregatedSetRoleScaler chat-prefill scales it already; target that instead"
        fleet.until(lambda pool: pool.note == told, "the scaler is named")
        outcome = fleet.scale(1, 2)
        assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, f"DisaggregatedSet chat role prefill: {told}")
        assert counts(place) == [1, 1]


def test_nothing_is_taken_away_during_a_rollout(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.leader_worker_set("engines", 3)
    with fleets(place, monkeypatch, LWS) as fleet:
        fleet.until_serving(3)
        never_ready = [{"op": "add", "path": "/metadata/annotations", "value": {"plane/ready-after": "1h"}}]
        for template in ("leaderTemplate", "workerTemplate"):
            never_ready[0]["path"] = f"/spec/leaderWorkerTemplate/{template}/metadata/annotations"
            place.kubectl("patch", "leaderworkerset/engines", "--type=json", "-p", json.dumps(never_ready))
        fleet.until(lambda pool: "rollout" in pool.note, "the rollout is seen")
        down = fleet.scale(3, 2)
        assert (down.verdict, "rollout" in down.detail) == (Verdict.REFUSED, True)
        assert fleet.scale(3, 4).verdict is Verdict.APPLIED
        assert place.wanted("leaderworkerset/engines") == 4


def test_a_quota_that_refuses_pods_is_a_shortage_of_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.create("v1", "ResourceQuota", "small", {"hard": {"pods": "3"}})
    place.kubectl("wait", "--for=jsonpath={.status.hard.pods}=3", "resourcequota/small")
    place.leader_worker_set("engines", 4)
    with fleets(place, monkeypatch, LWS) as fleet:
        begun_s = time.time()
        pool = fleet.until(lambda pool: len(pool.replicas) == 2 and bool(pool.shortages), "the quota is told")
        ((lack, missing, told_s, text),) = [astuple(one) for one in pool.shortages]
        assert (pool.desired, lack, missing, "exceeded quota: small" in text) == (4, Lack.NOT_CREATED, 2, True)
        assert abs(told_s - begun_s) < 60
        assert not pool.note


def test_a_replica_that_fits_no_node_is_short_of_room_until_nodes_are_refused_and_again_once_one_comes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.leader_worker_set("engines", 1, gpus=64)
    with fleets(place, monkeypatch, LWS) as fleet:
        (shortage,) = fleet.until(lambda pool: bool(pool.shortages), "the scheduler's words").shortages
        assert (shortage.lack, shortage.replicas) == (Lack.UNSCHEDULABLE, 1)
        assert "Insufficient nvidia.com/gpu" in shortage.text
        refusal = "pod didn't trigger scale-up: 1 max node group size reached"
        place.event("engines-0", "NotTriggerScaleUp", refusal, "cluster-autoscaler")
        refused = fleet.until(lambda pool: pool.shortages[0].lack is Lack.NODES_REFUSED, "the refusal")
        assert (refused.shortages[0].replicas, refused.shortages[0].text) == (1, refusal)
        assert [replica.phase for replica in refused.replicas] == [Phase.STARTING]
        place.event("engines-0", "TriggeredScaleUp", "pod triggered scale-up: [{gpu 1->2 (max: 9)}]", "cluster-autoscaler")
        fleet.until(lambda pool: pool.shortages[0].lack is Lack.UNSCHEDULABLE, "a node is on its way")
        place.event("engines-0", "FailedScheduling", "0/4 nodes are available", "another-scheduler")
        time.sleep(1.1)  # events are told to the second
        place.event("engines-0", "FailedScheduling", "Failed to schedule pod, exceeds limits", "karpenter")
        last = fleet.until(lambda pool: pool.shortages[0].lack is Lack.NODES_REFUSED, "Karpenter's refusal")
        assert last.shortages[0].text == "Failed to schedule pod, exceeds limits"


def test_the_server_leaves_out_the_events_of_scheduler_and_kubelet(place: Place) -> None:
    place.leader_worker_set("engines", 1, gpus=64)

    def written(selector: str) -> set[str]:
        reasons = ("get", "events", f"--field-selector={selector}", "-o", "jsonpath={.items[*].reason}")
        return set(place.kubectl(*reasons).split())

    wait_until(lambda: "FailedScheduling" in written("involvedObject.kind=Pod"), "the scheduler has found no node")
    place.event("engines-0", "Pulling", "an image", "kubelet")
    place.event("engines-0", "NotTriggerScaleUp", "no", "cluster-autoscaler")
    assert written(ABOUT_NODES["fieldSelector"]) == {"NotTriggerScaleUp"}


def test_a_target_that_is_missing_is_a_fault_until_it_is_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with fleets(place, monkeypatch, LWS) as fleet:
        fault = fleet.read()
        assert isinstance(fault, Fault)
        told = "NotFound: there is no such object; create it, or correct target.name and target.kind"
        assert fault.detail == f"prefill LeaderWorkerSet {place.namespace}/engines: {told}"
        place.leader_worker_set("engines", 1)
        fleet.until_serving(1)


# A connection that is reset before its handshake is left by Python's ssl to the garbage collector, which complains.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.parametrize(("fail", "recover"), [("stop_api", "start_api"), ("pause_api", "resume_api")])
def test_a_dead_or_frozen_api_server_is_a_fault_in_time_and_then_forgotten(
    plane: Plane, place: Place, monkeypatch: pytest.MonkeyPatch, fail: str, recover: str
) -> None:
    place.leader_worker_set("engines", 1)
    with fleets(place, monkeypatch, LWS, watch_s=3) as fleet:
        fleet.until_serving(1)
        getattr(plane, fail)()
        try:
            begun = time.monotonic()
            wait_until(lambda: isinstance(fleet.read(), Fault), "a Fault")
            known_after_s = time.monotonic() - begun
            begun = time.monotonic()
            outcome = fleet.scale(1, 2)
            answered_after_s = time.monotonic() - begun
        finally:
            getattr(plane, recover)()
        assert outcome.verdict is Verdict.FAILED
        assert known_after_s < 25  # the watch's 3 s, the socket's 5 s, and the same again for opening it anew
        assert answered_after_s < 10  # one socket time-out
        fleet.until(lambda pool: pool.serving == 1 and not pool.note, "every list is followed again")
        assert fleet.scale(1, 2).verdict is Verdict.APPLIED
        fleet.until_serving(2)
