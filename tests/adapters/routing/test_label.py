"""Is a replica routed by its label, and is a label that is somebody else's left alone?"""

from __future__ import annotations

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.routing import Refused
from autoscaler.adapters.routing.label import REMEMBERED, TUGS
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Away
from autoscaler.ports import Fault
from tests.adapters.routing.pods_of_a_cluster import LABEL, VALUES, PodsOfACluster, by_label, pod


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("prefill", Role.PREFILL),
        ("decode", Role.DECODE),
        ("draining", AWAY),
        ("prefill-decode", None),
        ("", None),
        (None, None),
    ],
)
def test_a_label_tells_a_role_or_out_and_nothing_else_is_taken_for_either(
    value: str | None, expected: Role | Away | None
) -> None:
    cluster = PodsOfACluster(pod(value=value))
    assert by_label(cluster).routed(cluster.seen("prefill-0")) is expected


def test_a_replica_leaves_by_another_value_and_comes_back_in_another_role() -> None:
    cluster = PodsOfACluster(pod())
    routing = by_label(cluster)
    assert routing.route(cluster.seen("prefill-0"), None) is None
    assert cluster.labels("prefill-0") == {"app": "engine", LABEL: "draining"}
    assert routing.routed(cluster.seen("prefill-0")) is AWAY
    assert routing.route(cluster.seen("prefill-0"), Role.DECODE) is None
    assert cluster.labels("prefill-0") == {"app": "engine", LABEL: "decode"}


@pytest.mark.parametrize("role", [None, *Role])
def test_asking_twice_writes_once_even_if_the_list_is_behind(role: Role | None) -> None:
    cluster = PodsOfACluster(pod(value="decode" if role is not Role.DECODE else "prefill"))
    behind = cluster.seen("prefill-0")
    routing = by_label(cluster)
    assert [routing.route(behind, role) for _ in range(3)] == [None] * 3
    assert len(cluster.patched) == 1


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "has no label llm-d.ai/role"),
        ("", "has no label llm-d.ai/role"),
        ("encode", "is 'encode', which is none of routing.values and routing.away: prefill, decode, draining"),
    ],
)
@pytest.mark.parametrize("role", [None, *Role])
def test_a_label_that_is_none_of_the_policys_is_refused(value: str | None, told: str, role: Role | None) -> None:
    cluster = PodsOfACluster(pod(value=value))
    fault = by_label(cluster).route(cluster.seen("prefill-0"), role)
    assert isinstance(fault, Refused)
    assert told in fault.detail
    assert not cluster.patched


def test_a_label_that_somebody_applies_is_refused_by_name() -> None:
    cluster = PodsOfACluster(pod())
    (body,) = cluster.pods.values()
    body["metadata"]["managedFields"] = [
        _owns("kube-controller-manager", "Update"),
        _owns("serving-operator", "Apply"),
        {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:status": {}}},
    ]
    fault = by_label(cluster).route(cluster.seen("prefill-0"), None)
    assert isinstance(fault, Refused)
    assert "kept by serving-operator (server-side apply)" in fault.detail
    assert not cluster.patched


@pytest.mark.parametrize("selector", [f"{LABEL}=prefill,app=engine", f"app=engine,{LABEL} in (prefill)", f"!x,{LABEL}"])
def test_a_label_by_which_the_owner_finds_the_pod_is_refused(selector: str) -> None:
    cluster = PodsOfACluster(pod())
    fault = by_label(cluster).route(cluster.seen("prefill-0", selector=selector), None)
    assert isinstance(fault, Refused)
    assert "selector" in fault.detail
    assert not cluster.patched


def test_a_selector_by_other_labels_is_no_objection() -> None:
    cluster = PodsOfACluster(pod())
    selector = f"app=engine,x.{LABEL}=1,{LABEL}.y=2"
    assert by_label(cluster).route(cluster.seen("prefill-0", selector=selector), None) is None


def test_a_label_that_is_set_back_is_written_again_and_refused_in_the_end() -> None:
    cluster = PodsOfACluster(pod())
    routing = by_label(cluster)
    for _ in range(TUGS):
        assert routing.route(cluster.seen("prefill-0"), None) is None
        cluster.labels("prefill-0")[LABEL] = "prefill"
        assert routing.routed(cluster.seen("prefill-0")) is Role.PREFILL
    (body,) = cluster.pods.values()
    body["metadata"]["managedFields"] = [_owns("role-keeper", "Update")]
    fault = routing.route(cluster.seen("prefill-0"), None)
    assert isinstance(fault, Refused)
    assert fault.detail.endswith("was set back 3 times from 'draining' to 'prefill', last by role-keeper")
    assert len(cluster.patched) == TUGS


def test_leaving_again_and_again_of_our_own_will_is_no_tug() -> None:
    cluster = PodsOfACluster(pod())
    routing = by_label(cluster)
    asked = [None, Role.PREFILL] * (TUGS + 2)
    assert [routing.route(cluster.seen("prefill-0"), role) for role in asked] == [None] * len(asked)


def test_tugs_count_from_the_last_time_it_was_let_in() -> None:
    cluster = PodsOfACluster(pod())
    routing = by_label(cluster)
    for _ in range(2):
        for _ in range(TUGS - 1):
            assert routing.route(cluster.seen("prefill-0"), None) is None
            cluster.labels("prefill-0")[LABEL] = "prefill"
        assert routing.route(cluster.seen("prefill-0"), None) is None
        assert routing.route(cluster.seen("prefill-0"), Role.PREFILL) is None


def test_what_is_remembered_of_pods_has_an_end() -> None:
    names = [f"p-{n}" for n in range(REMEMBERED + 5)]
    cluster = PodsOfACluster(*(pod(name) for name in names))
    routing = by_label(cluster)
    assert not any(routing.route(cluster.seen(name), None) for name in names)
    assert len(routing._written) == REMEMBERED


def test_a_pod_made_anew_under_the_name_is_left_alone() -> None:
    cluster = PodsOfACluster(pod())
    before = cluster.seen("prefill-0")
    (body,) = cluster.pods.values()
    body["metadata"]["uid"] = "another"
    fault = by_label(cluster).route(before, None)
    assert fault == Fault("routing", "pod prefill-0 was made anew since it was looked at")
    assert not cluster.patched


@pytest.mark.parametrize("what", ["label", "uid"])
def test_what_changes_between_look_and_write_is_not_overwritten(what: str) -> None:
    cluster = PodsOfACluster(pod())

    def interfere() -> None:
        (body,) = cluster.pods.values()
        body["metadata"] |= {"uid": "another"} if what == "uid" else {"labels": {LABEL: "decode"}}

    cluster.meanwhile = interfere
    fault = by_label(cluster).route(cluster.seen("prefill-0"), None)
    assert fault == Fault("routing", "pod prefill-0 was not changed: somebody else changed it in that moment")
    assert cluster.labels("prefill-0")[LABEL] != "draining"


@pytest.mark.parametrize(
    ("answer", "final", "told"),
    [
        (ApiFault(0, "ReadTimeoutError", "timed out"), False, "or nobody knows: ReadTimeoutError: timed out"),
        (ApiFault(503, "HTTP 503", ""), False, "or nobody knows: HTTP 503"),
        (ApiFault(429, "TooManyRequests", "slow down"), False, "slow down"),
        (ApiFault(401, "Unauthorized", ""), False, "Unauthorized"),
        (ApiFault(404, "NotFound", "no such pod"), False, "no such pod"),
        (ApiFault(409, "Conflict", "of versions"), False, "somebody else changed it"),
        (ApiFault(403, "Forbidden", "may not patch pods"), True, "may not patch pods"),
        (ApiFault(422, "Invalid", "not that value", causes=1), True, "not that value"),
    ],
)
def test_a_denied_write_tells_whether_to_ask_again(answer: ApiFault, final: bool, told: str) -> None:
    cluster = PodsOfACluster(pod())
    cluster.refuses = answer
    fault = by_label(cluster).route(cluster.seen("prefill-0"), None)
    assert isinstance(fault, Fault)
    assert isinstance(fault, Refused) is final
    assert told in fault.detail


def test_a_pod_that_cannot_be_read_is_not_written() -> None:
    cluster = PodsOfACluster(pod())
    cluster.silent = ApiFault(0, "NewConnectionError", "Connection refused")
    fault = by_label(cluster).route(cluster.seen("prefill-0"), None)
    assert fault is not None
    assert "Connection refused" in fault.detail
    assert not cluster.patched


def test_only_the_values_of_the_policy_are_ever_written() -> None:
    cluster = PodsOfACluster(pod())
    written = set()
    for role in (None, Role.DECODE, None, Role.PREFILL):
        by_label(cluster).route(cluster.seen("prefill-0"), role)
        written.add(cluster.labels("prefill-0")[LABEL])
    assert written == {*VALUES.values(), "draining"}


def _owns(manager: str, operation: str) -> dict[str, object]:
    return {"manager": manager, "operation": operation, "fieldsV1": {"f:metadata": {"f:labels": {f"f:{LABEL}": {}}}}}
