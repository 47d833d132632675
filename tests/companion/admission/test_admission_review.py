"""The wire: what comes in, what goes back, and what is no review at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.companion.admission.review import (
    BODY_BYTES,
    MESSAGE_CHARS,
    WARNING_CHARS,
    WARNINGS,
    Review,
    Ruling,
    Unreadable,
    read,
    shortened,
    wire,
)
from tests.companion.admission.cluster import JOB, POD, UID, asked, demands, job, leader, post, review, scale, webhook

DOORS = ("policies", "scale", "load", "pods")
APP = webhook()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "no AdmissionReview"),
        (b"\xff\xfe", 400, "no AdmissionReview"),
        (b"[1, 2]", 400, "no AdmissionReview"),
        (b"{", 400, "no AdmissionReview"),
        (b"[" * 100_000, 400, "no AdmissionReview"),
        (b"{}", 400, "apiVersion and kind are nothing (allowed: admission.k8s.io/v1 AdmissionReview)"),
        (b'{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}', 400, "admission.k8s.io/v1beta1"),
        (b'{"apiVersion": "admission.k8s.io/v1", "kind": "Review"}', 400, "admission.k8s.io/v1 Review"),
        (b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}', 400, "request: missing"),
        (
            b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}',
            400,
            "request.uid: has 0 characters",
        ),
        (
            b'{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": 7}}',
            400,
            "the body is no AdmissionReview: Expected `str`, got `int`",
        ),
    ],
)
def test_what_has_no_uid_to_answer_to_is_told_why_as_a_status(door: str, body: bytes, status: int, words: str) -> None:
    reply = post(APP, door, body)
    assert (reply.status, reply.body["kind"], reply.body["code"]) == (status, "Status", status)
    assert words in reply.body["message"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [({"name": 7}, "$.request.name"), ({"userInfo": []}, "$.request.userInfo"), ({"kind": "Pod"}, "$.request.kind")],
)
def test_a_request_that_cannot_be_read_but_for_its_uid_is_let_pass_with_a_warning(broken: Any, words: str) -> None:
    reply = asked("load", review(JOB, job(demands(decode="9M")), **broken), APP)
    assert (reply.status, reply.response["uid"], reply.response["allowed"]) == (200, UID, True)
    assert words in reply.response["warnings"][0]
    assert reply.decision == "allowed-unreadable"


@pytest.mark.parametrize("door", DOORS)
def test_a_body_that_is_too_long_is_not_read_to_its_end(door: str) -> None:
    whole = post(APP, door, b"{}", headers=(("content-type", "application/json"), ("content-length", str(BODY_BYTES + 1))))
    assert (whole.status, whole.body["reason"]) == (413, "RequestEntityTooLarge")
    chunked = post(APP, door, b" " * (BODY_BYTES + 1), pieces=64)
    assert chunked.status == 413


def test_an_object_of_the_size_that_etcd_takes_is_read_before_and_after_a_change() -> None:
    big = {"metadata": {"name": "chat-prefill", "namespace": "llm"}, "spec": {"replicas": 1}, "data": "x" * (3 << 19)}
    question = scale("chat-prefill", 5, 3, object={**big, "spec": {"replicas": 2}}, oldObject=big)
    assert post(APP, "scale", json.dumps(question).encode(), pieces=48).response["allowed"] is False


@pytest.mark.parametrize("kind", ["", "text/plain", "application/vnd.kubernetes.protobuf", "application/jsonx"])
def test_only_json_is_taken(kind: str) -> None:
    reply = post(APP, "load", json.dumps(review(POD, leader("chat-prefill"))).encode(), headers=(("content-type", kind),))
    assert reply.status == 415
    assert repr(kind) in reply.body["message"]


def test_json_with_a_charset_is_json() -> None:
    question = json.dumps(review(POD, leader("chat-prefill"))).encode()
    assert post(APP, "pods", question, headers=(("content-type", "Application/JSON; charset=utf-8"),)).patch


@given(uid=st.text(min_size=1, max_size=253), padding=st.text(max_size=20))
def test_every_uid_comes_back_as_it_came(uid: str, padding: str) -> None:
    question = review(JOB, job({}), uid=uid, unknownField=padding)
    answered = read(json.dumps(question).encode())
    if isinstance(answered, Unreadable):
        assert any("\ud800" <= char <= "\udfff" for char in uid + padding)
        return
    assert json.loads(wire(answered.uid, Ruling()))["response"] == {"uid": uid, "allowed": True}


@given(st.lists(st.text(max_size=600), max_size=40), st.text(max_size=3000))
def test_warnings_and_messages_fit_what_the_api_server_passes_on(warnings: list[str], message: str) -> None:
    denial = Ruling(False, 403, "Forbidden", message, warnings=tuple(warnings))
    response = json.loads(wire(UID, denial))["response"]
    told = response.get("warnings", [])
    assert len(told) == min(len(warnings), WARNINGS)
    assert all(len(text) <= WARNING_CHARS and text.isprintable() for text in told)
    assert sum(map(len, told)) <= 4096
    assert len(response["status"]["message"]) <= MESSAGE_CHARS


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("short", 20, "short"),
        ("two\nlines\tand\x00 more", 40, "two lines and more"),
        ("cut between these words here", 20, "cut between these..."),
        ("oneverylongwordthatdoesnotend", 20, "oneverylongwordth..."),
    ],
)
def test_a_long_line_is_cut_between_words(text: str, most: int, expected: str) -> None:
    assert shortened(text, most) == expected


def test_an_admission_says_no_more_than_that_and_a_denial_never_carries_a_patch() -> None:
    patch: tuple[dict[str, Any], ...] = ({"op": "add", "path": "/a", "value": 1},)
    assert json.loads(wire("u", Ruling()))["response"] == {"uid": "u", "allowed": True}
    assert "patch" not in json.loads(wire("u", Ruling(False, 403, "Forbidden", "no", patch=patch)))["response"]
    assert json.loads(wire("u", Ruling(patch=patch)))["response"]["patchType"] == "JSONPatch"


def test_fields_of_a_newer_api_server_are_ignored() -> None:
    question = review(JOB, job(demands(decode="9M")), audience="tomorrow", requestSubResource="status")
    answered = read(json.dumps(question).encode())
    assert isinstance(answered, Review)
    assert not asked("load", question, APP).response["allowed"]


@pytest.mark.parametrize("door", DOORS)
def test_a_door_opens_to_post_alone(door: str) -> None:
    reply = post(APP, f"{door}/more", b"{}")
    assert (reply.status, reply.body["kind"]) == (404, "Status")
