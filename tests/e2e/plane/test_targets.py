"""Does the gateway read and scale what people run, on a real API server with the real LeaderWorkerSet manager?"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.core.fleet import Phase
from autoscaler.core.plan import Verdict
from autoscaler.ports import Fault
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.workloads import Place, fleets

pytestmark = [pytest.mark.plane, pytest.mark.slow]

SHARED = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[4] / "shared"))
ROLE_SCALERS = SHARED / "crds" / "disaggregatedset.x-k8s.io_disaggregatedsetrolescalers.yaml"
LWS = {"name": "engines"}
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "engines"}
DISAGGREGATED = "disaggregatedset.x-k8s.io/v1"


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


def disaggregated(place: Place) -> str:
    """A DisaggregatedSet `chat` of two roles; the name of its LeaderWorkerSet for prefill."""
    engine = {"containers": [{"name": "engine", "image": "example.invalid/engine:1"}]}
    role = {"replicas": 1, "leaderWorkerTemplate": {"size": 1, "workerTemplate": {"spec": engine}}}
    place.create(
        DISAGGREGATED, "DisaggregatedSet", "chat", {"roles": [{"name": name, "spec": role} for name in ("prefill", "decode")]}
    )
    by_role = ("get", "leaderworkerset", "-l", f"{DISAGGREGATED.partition('/')[0]}/role=prefill", "-o", "name")
    wait_until(lambda: bool(place.kubectl(*by_role)), "the set makes its LeaderWorkerSets")
    return place.kubectl(*by_role).strip().rpartition("/")[2]


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


@pytest.mark.skipif(not ROLE_SCALERS.exists(), reason=f"needs {ROLE_SCALERS}: the manager built here has no role scalers yet")
def test_a_role_scaler_is_written_although_the_set_owns_it(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    disaggregated(place)
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
    target = {"apiVersion": DISAGGREGATED, "kind": "DisaggregatedSetRoleScaler", "name": "chat-prefill"}
    with fleets(place, monkeypatch, target) as fleet:
        pool = fleet.until_serving(1)
        assert pool.replicas[0].name.endswith("-prefill-0")
        assert fleet.scale(1, 2).verdict is Verdict.APPLIED
        assert place.wanted(scaler) == 2


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


def test_a_quota_that_refuses_pods_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.create("v1", "ResourceQuota", "small", {"hard": {"pods": "3"}})
    place.kubectl("wait", "--for=jsonpath={.status.hard.pods}=3", "resourcequota/small")
    place.leader_worker_set("engines", 4)
    with fleets(place, monkeypatch, LWS) as fleet:
        pool = fleet.until(lambda pool: "exceeded quota: small" in pool.note, "the quota is named")
        assert (pool.desired, "not created" in pool.note) == (4, True)
        assert len(pool.replicas) <= 3


def test_a_replica_that_fits_no_node_is_told_as_unschedulable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.leader_worker_set("engines", 1, gpus=64)
    with fleets(place, monkeypatch, LWS) as fleet:
        pool = fleet.until(lambda pool: "Unschedulable" in pool.note, "the scheduler's words")
        assert "Insufficient nvidia.com/gpu" in pool.note
        assert [replica.phase for replica in pool.replicas] == [Phase.STARTING]


def test_a_target_that_is_missing_is_a_fault_until_it_is_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with fleets(place, monkeypatch, LWS) as fleet:
        fault = fleet.read()
        assert isinstance(fault, Fault)
        assert fault.detail == f"prefill LeaderWorkerSet {place.namespace}/engines: NotFound: no such object"
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
