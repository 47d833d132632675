"""Which PDAutoscalers are refused when they are written, and in which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.companion.admission.cluster import JOB, PDA, Object, asked, job, policy, review, webhook

LONG = {"promptTokens": 80_000, "outputTokens": 200}


def changed(body: Object, path: str, value: Any) -> Object:
    """The same with another value at a dotted path."""
    other = copy.deepcopy(body)
    *parents, last = path.split(".")
    place = other
    for part in parents:
        place = place[part]
    place[last] = value
    return other


def pools(prefill: str, decode: str) -> dict[str, Any]:
    """Two pools with these targets."""
    return {role: {"target": {"name": name}, "max": 4} for role, name in (("prefill", prefill), ("decode", decode))}


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        pytest.param(
            policy("new", pools=pools("chat-prefill", "d")),
            "spec.pools.prefill.target.name",
            "LeaderWorkerSet chat-prefill in namespace llm is another policy's target too (llm/chat)",
            id="a target that is taken, in the same role",
        ),
        pytest.param(
            policy("new", pools=pools("p", "chat-prefill")),
            "spec.pools.decode.target.name",
            "is another policy's target too (llm/chat)",
            id="a target that is taken, in another role",
        ),
        pytest.param(
            policy("new", pools=pools("p", "d"), model="chat"), "spec.model", "another policy's model too", id="metrics"
        ),
        pytest.param(
            policy("new", requestShape=LONG),
            "spec.slo.ttft.seconds",
            "2 cannot be met by any number of prefill replicas: spec.requestShape alone takes 9.235",
            id="a TTFT below the mean request's own",
        ),
        pytest.param(
            policy("new", slo={"ttft": {"seconds": 2.0}, "tpot": {"seconds": 0.0001}}),
            "spec.slo.tpot.seconds",
            "the least that a decode step takes on",
            id="a TPOT below the profile's floor",
        ),
        pytest.param(changed(policy("new"), "spec.pools.prefill.max", 0), "spec.pools.prefill.max", "out of range", id="a range"),
        pytest.param(changed(policy("new"), "spec.pool", {}), "spec.pool", 'unknown field; did you mean "pools"?', id="a field"),
        pytest.param(changed(policy("new"), "spec", None), "spec", "is not a mapping", id="no spec"),
        pytest.param(
            policy("new", annotations={"pdautoscaler.io/guard": "denny"}),
            'metadata.annotations."pdautoscaler.io/guard"',
            '"denny" is unknown; did you mean "deny"? (allowed: off, warn, deny)',
            id="an annotation of ours",
        ),
        pytest.param(changed(policy("new"), "metadata.name", "New_1"), "metadata.name", "is not allowed", id="a name"),
    ],
)
def test_what_cannot_be_worked_by_is_refused_with_its_field(body: Object, field: str, words: str) -> None:
    response = asked("policies", review(PDA, body)).response
    assert (response["allowed"], response["status"]["code"], response["status"]["reason"]) == (False, 422, "Invalid")
    causes = response["status"]["details"]["causes"]
    assert [(one["field"], words in one["message"]) for one in causes] == [(field, True)]
    assert response["status"]["message"].startswith(f"{field}: ")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    body = policy("new", pools=pools("chat-prefill", "chat-decode"), requestShape=LONG)
    causes = asked("policies", review(PDA, body)).response["status"]["details"]["causes"]
    fields = [one["field"] for one in causes]
    assert fields == ["spec.pools.prefill.target.name", "spec.pools.decode.target.name", "spec.slo.ttft.seconds"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(policy("new"), "spec.routing: missing, so replicas are removed without being drained", id="no draining"),
        pytest.param(
            policy("new", requestShape=LONG, speed="nothing"),
            "spec.slo.ttft.seconds: 2 cannot be met",
            id="an impossible SLO on a profile that is worth nothing",
        ),
        pytest.param(
            policy("new", requestShape={"promptTokens": 24_000, "outputTokens": 200}),
            "spec.slo.ttft.percentile: at best",
            id="an SLO that only some requests can see met",
        ),
    ],
)
def test_what_is_doubtful_is_a_warning(body: Object, words: str) -> None:
    response = asked("policies", review(PDA, body)).response
    assert response["allowed"]
    assert [text for text in response["warnings"] if text.startswith(words)]
    assert len(response["warnings"]) == len(set(response["warnings"]))


def test_an_object_stands_in_nobodys_way_but_its_own() -> None:
    """Its stored self is no rival, nor is one of the same names elsewhere."""
    chat = policy("chat", routing={"kind": "readinessGate"})
    assert asked("policies", review(PDA, changed(chat, "spec.pools.prefill.max", 5), chat)).response["allowed"]
    elsewhere = policy("new", namespace="other", pools=pools("chat-prefill", "d"), model="chat")
    assert asked("policies", review(PDA, elsewhere)).response["allowed"]


def test_an_update_is_refused_only_for_what_it_makes_wrong() -> None:
    """Else a broken policy could not be switched off."""
    broken = policy("new", pools=pools("chat-prefill", "d"), requestShape=LONG)
    off = asked("policies", review(PDA, changed(broken, "spec.mode", "Off"), broken)).response
    assert off["allowed"]
    assert any(text.startswith("was wrong before: spec.pools.prefill.target.name") for text in off["warnings"])
    worse = asked("policies", review(PDA, changed(broken, "spec.pools.decode.target.name", "chat-decode"), broken)).response
    assert [one["field"] for one in worse["status"]["details"]["causes"]] == ["spec.pools.decode.target.name"]


def test_a_finalizer_can_be_taken_from_whatever_is_stored() -> None:
    """Else its namespace could not be deleted."""
    broken = changed(policy("new", annotations={"pdautoscaler.io/guard": "denny"}), "spec", {"nonsense": True})
    freed = copy.deepcopy(broken)
    freed["metadata"]["finalizers"] = []
    assert asked("policies", review(PDA, freed, broken)).response["allowed"]


def test_a_misspelt_annotation_is_refused_when_it_is_written() -> None:
    before = policy("new")
    after = policy("new", annotations={"pdautoscaler.io/early-reject": "Deny"})
    response = asked("policies", review(PDA, after, before)).response
    assert [one["field"] for one in response["status"]["details"]["causes"]] == [
        'metadata.annotations."pdautoscaler.io/early-reject"'
    ]


def test_an_object_that_the_server_has_yet_to_name_is_judged_by_its_spec() -> None:
    body = policy("new", requestShape=LONG)
    body["metadata"] = {"generateName": "new-"}
    causes = asked("policies", review(PDA, body, namespace="llm")).response["status"]["details"]["causes"]
    assert [one["field"] for one in causes] == ["spec.slo.ttft.seconds"]


@pytest.mark.parametrize(
    "question",
    [review(JOB, job({})), review(PDA, None, policy("new"), operation="DELETE"), review(PDA, {}, {}, subResource="status")],
)
def test_what_is_no_write_of_a_spec_passes(question: Any) -> None:
    assert set(asked("policies", question).response) == {"uid", "allowed"}


def test_of_many_mistakes_the_first_are_told_and_the_others_counted() -> None:
    body = policy("new")
    body["spec"] |= {f"field{number}": 1 for number in range(12)}
    status = asked("policies", review(PDA, body), webhook([])).response["status"]
    assert len(status["details"]["causes"]) == 8
    assert len(status["message"]) <= 1024
