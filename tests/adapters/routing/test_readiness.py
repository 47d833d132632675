"""Does a readiness gate of our own take a replica out of routing and let it in, and nothing else?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from autoscaler.adapters.routing import GATE, ReadinessRouting, Refused
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY
from autoscaler.ports import Fault
from tests.adapters.routing.pods_of_a_cluster import PodsOfACluster, pod

GATED: Any = {"readinessGates": [{"conditionType": "other.io/gate"}, {"conditionType": GATE}]}


def gated() -> tuple[PodsOfACluster, ReadinessRouting]:
    cluster = PodsOfACluster(pod(**GATED))
    return cluster, ReadinessRouting(cluster)


def conditions(cluster: PodsOfACluster) -> list[dict[str, str]]:
    (body,) = cluster.pods.values()
    found: list[dict[str, str]] = body["status"]["conditions"]
    return found


def test_a_new_pod_waits_until_it_is_let_in_for_the_first_time() -> None:
    cluster, routing = gated()
    assert routing.waits(cluster.seen("prefill-0"))
    assert routing.routed(cluster.seen("prefill-0")) is AWAY
    assert routing.route(cluster.seen("prefill-0"), Role.PREFILL) is None
    assert not routing.waits(cluster.seen("prefill-0"))
    assert routing.routed(cluster.seen("prefill-0")) is Role.PREFILL


def test_a_replica_leaves_and_comes_back_through_the_status_only() -> None:
    cluster, routing = gated()
    for role in (Role.PREFILL, None, None, Role.PREFILL, None):
        assert routing.route(cluster.seen("prefill-0"), role) is None
    ready, ours = conditions(cluster)
    assert ready == {"type": "Ready", "status": "True"}
    assert (ours["type"], ours["status"], ours["reason"]) == (GATE, "False", "Away")
    assert datetime.fromisoformat(ours["lastTransitionTime"]).tzinfo is not None
    assert routing.routed(cluster.seen("prefill-0")) is AWAY
    assert cluster.patched == ["/api/v1/namespaces/serving/pods/prefill-0/status"] * 4


def test_a_drained_pod_is_no_new_one() -> None:
    cluster, routing = gated()
    assert routing.route(cluster.seen("prefill-0"), None) is None
    assert not routing.waits(cluster.seen("prefill-0"))


def test_a_pod_without_the_gate_is_refused_and_nothing_is_known_of_it() -> None:
    cluster = PodsOfACluster(pod())
    routing = ReadinessRouting(cluster)
    assert routing.routed(cluster.seen("prefill-0")) is None
    assert not routing.waits(cluster.seen("prefill-0"))
    fault = routing.route(cluster.seen("prefill-0"), None)
    assert isinstance(fault, Refused)
    assert fault.detail == f"pod prefill-0 has no readiness gate {GATE}; it can only come from the pod template"
    assert not cluster.patched


def test_another_role_is_refused_since_a_gate_tells_none() -> None:
    cluster, routing = gated()
    fault = routing.route(cluster.seen("prefill-0"), Role.DECODE)
    assert isinstance(fault, Refused)
    assert "tells no role" in fault.detail
    assert not cluster.patched


def test_a_condition_that_moved_meanwhile_is_not_overwritten() -> None:
    cluster, routing = gated()
    assert routing.route(cluster.seen("prefill-0"), Role.PREFILL) is None
    cluster.meanwhile = lambda: conditions(cluster).reverse()
    fault = routing.route(cluster.seen("prefill-0"), None)
    assert isinstance(fault, Fault)
    assert "somebody else" in fault.detail
    assert {"type": "Ready", "status": "True"} in conditions(cluster)
    cluster.meanwhile = lambda: None
    assert routing.route(cluster.seen("prefill-0"), None) is None
    assert routing.routed(cluster.seen("prefill-0")) is AWAY


def test_the_first_condition_is_not_added_twice() -> None:
    cluster, routing = gated()
    other = ReadinessRouting(cluster)

    def interfere() -> None:
        cluster.meanwhile = lambda: None
        assert other.route(cluster.seen("prefill-0"), Role.PREFILL) is None

    cluster.meanwhile = interfere
    assert isinstance(routing.route(cluster.seen("prefill-0"), None), Fault)
    assert [one["type"] for one in conditions(cluster)] == ["Ready", GATE]


def test_a_pod_that_no_kubelet_has_seen_is_asked_for_again() -> None:
    cluster, routing = gated()
    (body,) = cluster.pods.values()
    body["status"] = {}
    assert routing.route(cluster.seen("prefill-0"), None) == Fault("routing", "pod prefill-0 has no conditions yet")
