"""Which batch load comes in, and who is told to come back when."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.companion.admission.demand import Declared, Misdeclared, declared
from autoscaler.companion.admission.strictness import AdmissionSettings
from autoscaler.core.fleet import Role
from tests.companion.admission.cluster import (
    JOB,
    JOB_SET,
    LWS,
    OWN,
    POD,
    RAY_JOB,
    asked,
    demands,
    job,
    policy,
    review,
    webhook,
)

APP = webhook()
DENY = {"pdautoscaler.io/early-reject": "deny"}


def asks(fleet: str = "llm/chat", **tokens_per_s: str) -> Any:
    """A Job that declares this demand is made."""
    return review(JOB, job(demands(fleet, **tokens_per_s)))


@pytest.mark.parametrize(
    ("question", "allowed", "decision"),
    [
        pytest.param(asks(decode="3k"), True, "allowed", id="what fits exactly"),
        pytest.param(asks(decode="3001"), False, "denied", id="a token more"),
        pytest.param(asks(prefill="19k", decode="3.5k"), False, "denied", id="one role lacks room"),
        pytest.param(asks("chat", decode="4k"), False, "denied", id="a fleet of its own namespace by its name alone"),
        pytest.param(asks("llm/draft", decode="4k"), True, "warned", id="without a word on it: a warning"),
        pytest.param(asks("llm/lax", decode="4k"), True, "allowed-off", id="the policy turns nobody away"),
        pytest.param(asks("llm/wish", decode="4k"), True, "warned", id="mode Recommend: a warning at most"),
        pytest.param(asks("llm/sleepy", decode="4k"), True, "allowed-mode", id="mode Off"),
        pytest.param(asks("llm/old", decode="4k"), True, "allowed-stale", id="the controller is silent"),
        pytest.param(asks("llm/silent", decode="4k"), True, "allowed-unknown", id="no headroom is told"),
        pytest.param(asks("llm/none", decode="4k"), True, "allowed-unknown", id="nobody knows the fleet"),
        pytest.param(asks("", decode="4k"), True, "allowed-misdeclared", id="no fleet is named"),
        pytest.param(asks(), True, "allowed-misdeclared", id="a fleet, and no demand"),
        pytest.param(asks(decode="a lot"), True, "allowed-misdeclared", id="no number"),
        pytest.param(asks(decode="-5"), True, "allowed-misdeclared", id="a negative one"),
        pytest.param(asks(decode="0"), True, "allowed", id="none at all"),
        pytest.param(review(JOB, job({})), True, "", id="nothing is declared"),
        pytest.param(review(JOB, job(demands(decode="4k"), suspend=True)), True, "", id="suspended: it runs nothing yet"),
        pytest.param(
            review(JOB, job(demands(decode="4k")), job(demands(decode="4k"), suspend=True)), False, "denied", id="resumed"
        ),
        pytest.param(review(JOB, job(demands(decode="4k")), job(demands(decode="4k"))), True, "", id="changed while it runs"),
        pytest.param(review(JOB, None, job(demands(decode="4k")), operation="DELETE"), True, "", id="deleted"),
        pytest.param(review(RAY_JOB, job(demands(decode="4k"))), False, "denied", id="a RayJob"),
        pytest.param(review(JOB_SET, job(demands(decode="4k"))), False, "denied", id="a JobSet"),
        pytest.param(review(POD, job(demands(decode="4k"))), False, "denied", id="a pod of nobody"),
        pytest.param(review(LWS, job(demands(decode="4k"))), False, "denied", id="whatever the rules send"),
    ],
)
def test_a_declared_load_is_held_against_the_headroom(question: Any, allowed: bool, decision: str) -> None:
    reply = asked("load", question, APP)
    assert (reply.status, reply.response["allowed"], reply.decision) == (200, allowed, decision)
    assert bool(reply.response.get("warnings")) is (allowed and decision not in {"", "allowed", "allowed-off"})


@pytest.mark.parametrize(
    ("horizon_s", "most_s", "expected_s"),
    [(12.4, 30, 13), (600.0, 30, 30), (600.0, 90, 90), (0.2, 30, 1), (None, 120, 60), ("soon", 120, 60), (-3, 120, 60)],
)
def test_a_denial_is_429_with_the_forecasts_horizon_as_retry_after(horizon_s: object, most_s: int, expected_s: int) -> None:
    fleet = policy("chat", annotations=DENY)
    fleet["status"]["pools"]["decode"]["forecast"] = {"horizonSeconds": horizon_s} if horizon_s is not None else {}
    app = webhook([fleet], AdmissionSettings(own_users=frozenset({OWN}), retry_most_s=most_s))
    status = asked("load", asks(decode="4k"), app).response["status"]
    assert (status["code"], status["reason"]) == (429, "TooManyRequests")
    assert status["details"] == {"retryAfterSeconds": expected_s}


def test_the_reply_has_the_numbers_at_home_and_the_audit_log_everywhere() -> None:
    here = asked("load", asks(prefill="30k", decode="4k"), APP).response
    assert "prefill 30000, of which 20000 fit; decode 4000, of which 3000 fit" in here["status"]["message"]
    away = asked("load", review(JOB, job(demands(prefill="30k", decode="4k"), namespace="tenant")), APP).response
    assert not away["allowed"]
    assert "20000" not in away["status"]["message"]
    assert "3000 " not in away["status"]["message"]
    assert here["auditAnnotations"] == away["auditAnnotations"]
    assert here["auditAnnotations"]["headroom"] == "prefill 20000, decode 3000"
    assert here["auditAnnotations"]["demand"] == "prefill 30000, decode 4000"


def test_a_fleet_that_already_lacks_has_no_room_for_anything_but_nothing() -> None:
    app = webhook([policy("chat", annotations=DENY, headroom={"prefill": -50, "decode": -50})])
    assert not asked("load", asks(decode="1"), app).response["allowed"]
    assert asked("load", asks(decode="0"), app).response["allowed"]


def test_a_role_without_a_headroom_is_told_and_the_others_still_count() -> None:
    app = webhook([policy("chat", annotations=DENY, headroom={"decode": 3000})])
    some = asked("load", asks(prefill="1", decode="1"), app)
    assert (some.decision, some.response["allowed"]) == ("allowed-unknown", True)
    assert "no headroom of prefill" in some.response["warnings"][0]
    assert not asked("load", asks(prefill="1", decode="4k"), app).response["allowed"]


@pytest.mark.parametrize(
    ("owner", "decision"),
    [
        (("batch/v1", "Job", "nightly"), ""),
        (("jobset.x-k8s.io/v1alpha2", "JobSet", "nightly"), ""),
        (("ray.io/v1", "RayJob", "nightly"), ""),
        (("batch/v1", "CronJob", "nightly"), "denied"),
        (("apps/v1", "ReplicaSet", "worker-5d4"), "denied"),
    ],
)
def test_what_a_job_was_asked_about_is_not_asked_of_its_pods_again(owner: tuple[str, str, str], decision: str) -> None:
    version, kind, name = owner
    child = job(demands(decode="4k"))
    child["metadata"]["ownerReferences"] = [{"apiVersion": version, "kind": kind, "name": name, "controller": True}]
    assert asked("load", review(POD, child), APP).decision == decision


def template(decode: str, **spec: Any) -> dict[str, Any]:
    """The spec of a Job whose pods declare a demand each."""
    return {"template": {"metadata": {"annotations": demands(decode=decode)}}} | spec


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        pytest.param("Job", {"spec": template("100")}, 100, id="one pod"),
        pytest.param("Job", {"spec": template("100", parallelism=8)}, 800, id="as many as run at once"),
        pytest.param("Job", {"spec": template("100", parallelism=8, completions=3)}, 300, id="but no more than complete"),
        pytest.param("Job", {"spec": template("100", parallelism=0)}, 0, id="none run"),
        pytest.param("Job", {"spec": template("100", parallelism="8")}, 100, id="a parallelism that is no number"),
        pytest.param(
            "Job",
            {"metadata": {"annotations": demands(decode="5")}, "spec": template("100", parallelism=8)},
            5,
            id="the object goes before its template",
        ),
        pytest.param(
            "JobSet",
            {
                "spec": {
                    "replicatedJobs": [
                        {"replicas": 3, "template": {"spec": template("100", parallelism=2)}},
                        {"replicas": 2, "template": {"metadata": {"annotations": demands(decode="50")}}},
                        {"template": {"spec": template("1")}},
                        {"replicas": 9, "template": {}},
                    ]
                }
            },
            3 * 2 * 100 + 2 * 50 + 1,
            id="a JobSet, job by job",
        ),
        pytest.param("Pod", {"metadata": {"annotations": demands(decode="7k")}}, 7000, id="a pod"),
    ],
)
def test_what_pods_declare_counts_as_often_as_they_run(kind: str, body: Any, expected: float) -> None:
    assert declared(kind, body, "llm") == Declared("llm/chat", {Role.DECODE: expected})


def test_one_object_asks_one_fleet() -> None:
    jobs = [{"template": {"metadata": {"annotations": demands(fleet, decode="5")}}} for fleet in ("llm/chat", "llm/draft")]
    found = declared("JobSet", {"spec": {"replicatedJobs": jobs}}, "llm")
    assert isinstance(found, Misdeclared)
    assert "not the same everywhere" in found.text


@pytest.mark.parametrize("written", ["1e9", "1,000", "½", "٣", "1 k", "1K", "nan", "inf", "0x10", "9" * 16, "", 7, None, ["5"]])
def test_an_amount_that_is_no_amount_is_told_with_its_name(written: Any) -> None:
    found = declared("Pod", {"metadata": {"annotations": demands(decode=written)}}, "llm")
    assert isinstance(found, Misdeclared)
    assert "pdautoscaler.io/demand-decode-tokens-per-second" in found.text
