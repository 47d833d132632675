"""Whose writes to a count pass, with which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoscaler.companion.admission.strictness import AdmissionSettings, Strictness
from tests.companion.admission.cluster import (
    ALICE,
    HPA,
    JOB,
    LWS,
    OWN,
    SETS,
    asked,
    disaggregated,
    job,
    lws,
    policy,
    review,
    scale,
    webhook,
)

APP = webhook()
MAIL = {"prefill": 3, "decode": 4}


@pytest.mark.parametrize(
    ("question", "allowed", "decision"),
    [
        pytest.param(scale("chat-prefill", 5, 3), False, "denied", id="a human, where the policy denies"),
        pytest.param(scale("chat-prefill", 3, 5), False, "denied", id="upwards as well"),
        pytest.param(scale("chat-prefill", 5, 3, dryRun=True), False, "denied", id="a dry run is answered like any other"),
        pytest.param(scale("chat-prefill", 5, 3, HPA), False, "denied", id="an HPA where the controller writes itself"),
        pytest.param(scale("draft-prefill", 5, 3), True, "warned", id="without a word on it: a warning"),
        pytest.param(scale("lax-prefill", 5, 3), True, "allowed-off", id="the policy wants no guard"),
        pytest.param(scale("chat-prefill", 5, 3, OWN), True, "allowed-writer", id="the controller"),
        pytest.param(
            scale("chat-prefill", 5, 3, groups=["system:serviceaccounts:gitops"]), True, "allowed-writer", id="an allowed group"
        ),
        pytest.param(scale("sleepy-prefill", 5, 3), True, "allowed-mode", id="mode Off: nobody else writes it"),
        pytest.param(scale("wish-prefill", 5, 3), True, "allowed-mode", id="mode Recommend: people write"),
        pytest.param(scale("old-prefill", 5, 3), True, "allowed-stale", id="the controller is silent"),
        pytest.param(scale("alarm-prefill", 5, 3), True, "allowed-emergency", id="an emergency on the policy"),
        pytest.param(scale("chat-prefill", 5, 5), True, "", id="the count stays"),
        pytest.param(scale("chat", 5, 3), True, "", id="somebody else's object"),
        pytest.param(scale("chat-prefill", 5, 3, namespace="elsewhere"), True, "", id="the same name elsewhere"),
        pytest.param(scale("chat-prefill", 5, 3, subResource="status"), True, "", id="a status"),
        pytest.param(scale("chat-prefill", 5, 3, operation="DELETE"), True, "", id="a deletion"),
        pytest.param(review(LWS, lws("chat-prefill", 3), None), True, "", id="a target is made"),
        pytest.param(review(LWS, lws("chat-prefill", 3), lws("chat-prefill", 5)), False, "denied", id="the object itself"),
        pytest.param(
            review(LWS, lws("chat-prefill", 3, emergency="leak"), lws("chat-prefill", 5)),
            True,
            "allowed-emergency",
            id="an emergency on the target",
        ),
        pytest.param(
            review(LWS, lws("chat-prefill", 3, emergency=" "), lws("chat-prefill", 5)), False, "denied", id="without a reason"
        ),
        pytest.param(review(SETS, disaggregated(prefill=3, decode=4), disaggregated(**MAIL)), True, "", id="no role changes"),
        pytest.param(
            review(SETS, disaggregated(prefill=2, decode=4), disaggregated(**MAIL)), False, "denied", id="a role inside"
        ),
        pytest.param(
            review(SETS, disaggregated(prefill=3, decode=9), disaggregated(**MAIL), userInfo={"username": HPA}),
            True,
            "allowed-writer",
            id="the HPA where actuation is hpa",
        ),
        pytest.param(
            review(SETS, disaggregated(prefill=9, decode=4), disaggregated(**MAIL), userInfo={"username": HPA}),
            False,
            "denied",
            id="the HPA at the role that is not its own",
        ),
    ],
)
def test_a_count_of_ours_is_guarded(question: Any, allowed: bool, decision: str) -> None:
    reply = asked("scale", question, APP)
    assert (reply.status, reply.response["allowed"], reply.decision) == (200, allowed, decision)


def test_a_scale_without_a_count_asks_for_none() -> None:
    """Its zero is left out of the JSON; so the step from 1 to 0 is one, and from 0 to 0 is none."""
    nothing: Any = {"metadata": {"name": "chat-prefill", "namespace": "llm"}, "spec": {}}
    down = asked("scale", scale("chat-prefill", 1, 0, object=nothing), APP).response
    assert "chat-prefill: 1 -> 0 is" in down["status"]["message"]
    assert asked("scale", scale("chat-prefill", 0, 0, object=nothing), APP).response["allowed"]


def test_a_denial_names_object_counts_policy_and_the_ways_out() -> None:
    status = asked("scale", scale("chat-prefill", 5, 3), APP).response["status"]
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    said = status["message"]
    words = ("LeaderWorkerSet llm/chat-prefill: 5 -> 3", "PDAutoscaler llm/chat", "spec.pools.prefill.min or max")
    assert all(word in said for word in words)
    assert "pdautoscaler.io/emergency=REASON" in said


def test_who_writes_in_an_emergency_is_told_that_the_controller_goes_on_and_the_reason_is_kept() -> None:
    response = asked("scale", scale("alarm-decode", 5, 9), APP).response
    assert "decode nodes are on fire" in response["warnings"][0]
    assert "set spec.mode to Off" in response["warnings"][0]
    assert response["auditAnnotations"]["change"] == "LeaderWorkerSet llm/alarm-decode: 5 -> 9"


def test_both_roles_of_one_object_are_warned_about() -> None:
    gentle = policy("mail", pools=_roles())
    response = asked("scale", review(SETS, disaggregated(prefill=1, decode=1), disaggregated(**MAIL)), webhook([gentle])).response
    assert [("role prefill" in text, "role decode" in text) for text in response["warnings"]] == [(True, False), (False, True)]


def test_of_two_policies_that_want_one_object_the_oldest_has_it() -> None:
    pools = {role: {"target": {"name": f"chat-{role}"}, "max": 4} for role in ("prefill", "decode")}
    second = policy("later", created="2026-01-02T00:00:00Z", annotations={"pdautoscaler.io/guard": "off"}, pools=pools)
    first = policy("chat", annotations={"pdautoscaler.io/guard": "deny"})
    for objects in ([first, second], [second, first]):
        assert not asked("scale", scale("chat-prefill", 5, 3), webhook(objects)).response["allowed"]


@pytest.mark.parametrize(
    ("kind", "plural"),
    [("Deployment", "deployments"), ("StatefulSet", "statefulsets"), ("ModelProxy", "modelproxies"), ("Redis", "redises")],
)
def test_other_kinds_are_found_by_their_plural(kind: str, plural: str) -> None:
    pools = {role: {"target": {"kind": kind, "apiVersion": "apps/v1", "name": f"web-{role}"}, "max": 4} for role in MAIL}
    app = webhook([policy("web", annotations={"pdautoscaler.io/guard": "deny"}, pools=pools)])
    resource = {"group": "apps", "version": "v1", "resource": plural}
    assert not asked("scale", scale("web-prefill", 5, 3, resource=resource), app).response["allowed"]
    assert asked("scale", scale("web-prefill", 5, 3), app).response["allowed"]


@pytest.mark.parametrize(("word", "allowed"), [("off", True), ("warn", True), ("deny", False), ("Deny", False), ("", False)])
def test_the_policys_word_goes_before_the_installations_and_a_misspelt_one_counts_as_none(word: str, allowed: bool) -> None:
    settings = AdmissionSettings(own_users=frozenset({OWN}), guard=Strictness.DENY)
    app = webhook([policy("chat", annotations={"pdautoscaler.io/guard": word})], settings)
    assert asked("scale", scale("chat-prefill", 5, 3), app).response["allowed"] is allowed


def test_a_policy_that_nobody_has_looked_at_guards_nothing() -> None:
    new = policy("chat", annotations={"pdautoscaler.io/guard": "deny"})
    del new["status"]
    reply = asked("scale", scale("chat-prefill", 5, 3), webhook([new]))
    assert (reply.response["allowed"], reply.decision) == (True, "allowed-stale")
    assert "has not told anything yet" in reply.response["warnings"][0]


def test_jobs_that_come_to_the_wrong_door_pass() -> None:
    assert asked("scale", review(JOB, job({}), job({})), APP).response == {"uid": _uid(), "allowed": True}


def test_the_name_of_whoever_is_guarded_against_stays_out_of_the_audit_annotations() -> None:
    """The audit event has the user already."""
    assert ALICE not in json.dumps(asked("scale", scale("chat-prefill", 5, 3), APP).response["auditAnnotations"])


def _roles() -> dict[str, Any]:
    target = {"kind": SETS[3], "apiVersion": f"{SETS[0]}/v1", "name": "mail"}
    return {role: {"target": {**target, "role": role}, "max": 8} for role in MAIL}


def _uid() -> str:
    return str(review(JOB)["request"]["uid"])
