"""Which pods are given what."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from autoscaler.adapters.routing.readiness import GATE as OPENED
from autoscaler.companion.admission.injection import GATE
from tests.companion.admission.cluster import (
    JOB,
    POD,
    asked,
    job,
    leader,
    pod,
    policy,
    review,
    webhook,
)

APP = webhook()
GATED = {"op": "add", "path": "/spec/readinessGates", "value": [{"conditionType": GATE}]}
MAIL = {
    "disaggregatedset.x-k8s.io/name": "mail",
    "disaggregatedset.x-k8s.io/role": "decode",
    "leaderworkerset.sigs.k8s.io/name": "mail-0-5f-decode",
    "leaderworkerset.sigs.k8s.io/worker-index": "0",
}
ROLE = {"op": "add", "path": "/metadata/labels/llm-d.ai~1role", "value": "decode"}


def test_the_gate_that_is_injected_is_the_one_that_is_opened() -> None:
    assert GATE == OPENED


@pytest.mark.parametrize(
    ("made", "patch", "decision"),
    [
        pytest.param(leader("chat-prefill"), [GATED], "injected", id="the leader of a group"),
        pytest.param(leader("chat-prefill", "1"), [], "", id="a worker: nobody routes to it"),
        pytest.param(pod({"leaderworkerset.sigs.k8s.io/name": "chat-prefill"}), [], "", id="a worker that has no number yet"),
        pytest.param(leader("chat-prefill", readinessGates=[{"conditionType": GATE}]), [], "allowed", id="it has the gate"),
        pytest.param(
            leader("chat-prefill", readinessGates=[{"conditionType": "other"}]),
            [{"op": "add", "path": "/spec/readinessGates/-", "value": {"conditionType": GATE}}],
            "injected",
            id="beside another gate",
        ),
        pytest.param(leader("wish-decode"), [GATED], "injected", id="mode Recommend: gates are opened there too"),
        pytest.param(leader("sleepy-decode"), [], "allowed-no-gate", id="mode Off: nobody would open it"),
        pytest.param(leader("old-decode"), [], "allowed-no-gate", id="the controller is silent: nobody would open it"),
        pytest.param(leader("draft-decode"), [], "allowed-no-routing", id="the policy says nothing about routing"),
        pytest.param(leader("stranger"), [], "allowed-unknown", id="nobody's target"),
        pytest.param(pod(MAIL), [ROLE], "injected", id="a role inside a DisaggregatedSet"),
        pytest.param(pod(MAIL | {"llm-d.ai/role": "away"}), [], "allowed", id="it has a value, whichever"),
    ],
)
def test_a_pod_is_given_what_its_fleet_counts_on(made: Any, patch: list[Any], decision: str) -> None:
    reply = asked("pods", review(POD, made), APP)
    assert (reply.status, reply.response["allowed"], reply.patch, reply.decision) == (200, True, patch, decision)


@pytest.mark.parametrize("question", ["unasked", "update", "job"])
def test_only_a_pod_that_is_made_and_asks_is_touched(question: str) -> None:
    unasked = leader("chat-prefill")
    unasked["metadata"]["labels"].pop("pdautoscaler.io/inject")
    questions = {
        "unasked": review(POD, unasked),
        "update": review(POD, leader("chat-prefill"), leader("chat-prefill")),
        "job": review(JOB, job({"pdautoscaler.io/inject": "true"})),
    }
    assert set(asked("pods", questions[question], APP).response) == {"uid", "allowed"}


@pytest.mark.parametrize(
    ("kind", "labels", "owner"),
    [
        ("Deployment", {"pod-template-hash": "5d4f8"}, ("apps/v1", "ReplicaSet", "web-decode-5d4f8")),
        ("StatefulSet", {}, ("apps/v1", "StatefulSet", "web-decode")),
    ],
)
def test_the_pods_of_other_kinds_are_known_by_their_owner(kind: str, labels: dict[str, str], owner: tuple[str, str, str]) -> None:
    pools = {
        role: {"target": {"kind": kind, "apiVersion": "apps/v1", "name": f"web-{role}"}, "max": 4}
        for role in ("prefill", "decode")
    }
    app = webhook([policy("web", pools=pools, routing={"kind": "label", "label": "role"})])
    assert asked("pods", review(POD, pod(labels, owner)), app).patch == [
        {"op": "add", "path": "/metadata/labels/role", "value": "decode"}
    ]
    stranger = (owner[0], owner[1], "other-5d4f8")
    assert asked("pods", review(POD, pod(labels, stranger)), app).decision == "allowed-unknown"


@pytest.mark.parametrize(
    "made", [leader("chat-prefill"), leader("wish-decode", readinessGates=[{"conditionType": "x"}]), pod(MAIL)]
)
def test_asked_again_about_what_it_made_it_has_nothing_to_add(made: Any) -> None:
    patched = _applied(made, asked("pods", review(POD, made), APP).patch)
    assert patched != made
    again = asked("pods", review(POD, patched), APP)
    assert (again.patch, again.decision) == ([], "allowed")


def _applied(body: Any, patch: list[Any]) -> Any:
    """`add` of RFC 6902, which is all that is used."""
    result = copy.deepcopy(body)
    for one in patch:
        *path, last = [part.replace("~1", "/").replace("~0", "~") for part in one["path"].split("/")[1:]]
        place = result
        for part in path:
            place = place[part]
        if last == "-":
            place.append(one["value"])
        else:
            place[last] = one["value"]
    return json.loads(json.dumps(result))
