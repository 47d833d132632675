"""Are events that tell why replicas do not come told apart from the others, and from those that are overcome?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.complaints import (
    ANSWERED_AGAIN_S,
    CREATED_AGAIN_S,
    Answer,
    Complaint,
    answer,
    complaint,
    newest,
    refusal,
)
from autoscaler.adapters.kubernetes.pods import Pod

NOW = 2_000_000_000.0
POD = Pod("chat-0", {}, NOW - 300, None, None, 1, "chat-0", None)
QUOTA = Complaint("StatefulSet", "chat", NOW - 5, "pods is forbidden: exceeded quota: small")
MADE = {"creationTimestamp": "2033-05-18T03:33:20Z"}


def said(at_s: float, *, refused: bool = True, message: str = "") -> Answer:
    return Answer("chat-0", at_s, message, refused)


@pytest.mark.parametrize(
    ("kind", "name", "concerns"),
    [
        ("StatefulSet", "chat", True),
        ("StatefulSet", "chat-12", True),
        ("StatefulSet", "chat-decode", False),
        ("StatefulSet", "chat-decode-0", False),
        ("ReplicaSet", "chat-7d9f8c6b5", True),
        ("ReplicaSet", "chat-decode-7d9f8c6b5", False),
        ("Job", "chat", True),
        ("Job", "chat-1", False),
    ],
)
def test_only_those_that_make_its_pods_complain_for_an_object(kind: str, name: str, concerns: bool) -> None:
    assert Complaint(kind, name, NOW, "").concerns("chat") is concerns


def test_the_newest_complaint_stands_and_an_old_one_has_been_overcome() -> None:
    older = Complaint("StatefulSet", "chat", NOW - 60, "a webhook")
    old = Complaint("StatefulSet", "chat", NOW - CREATED_AGAIN_S - 1, "a quota")
    assert newest([older, QUOTA, old], ["chat"], NOW) == QUOTA
    assert newest([old], ["chat"], NOW) is None
    assert newest([QUOTA], ["cha", "hat"], NOW) is None


@pytest.mark.parametrize(
    ("reason", "message", "refused"),
    [
        ("NotTriggerScaleUp", "pod didn't trigger scale-up: 1 max node group size reached", True),
        ("FailedScheduling", "Failed to schedule pod, all available instance types exceed limits", True),
        ("TriggeredScaleUp", "pod triggered scale-up: [{gpu 1->2 (max: 9)}]", False),
        ("Nominated", "Pod should schedule on: nodeclaim/gpu-1", False),
        ("FailedScheduling", "0/4 nodes are available: 4 Insufficient nvidia.com/gpu", None),
        ("Preempted", "by a pod on node n", None),
    ],
)
def test_what_adds_nodes_is_heard_and_a_scheduler_is_not(reason: str, message: str, refused: bool | None) -> None:
    body: Body = {"involvedObject": {"kind": "Pod", "name": "chat-0"}, "reason": reason, "message": message, "metadata": MADE}
    assert answer(body) == (None if refused is None else Answer("chat-0", NOW, message, refused))


@pytest.mark.parametrize(
    ("answers", "refused"),
    [
        ([], False),
        ([said(NOW - 10)], True),
        ([said(NOW - 10, refused=False)], False),
        ([said(NOW - 20), said(NOW - 10, refused=False)], False),
        ([said(NOW - 10), said(NOW - 20, refused=False)], True),
        ([said(NOW - 10), said(NOW - 10, refused=False)], False),
    ],
)
def test_the_last_answer_counts_and_a_node_on_its_way_lifts_a_refusal(answers: list[Answer], refused: bool) -> None:
    assert (refusal(answers, POD, NOW) is not None) is refused


def test_an_answer_that_is_not_repeated_or_was_about_a_predecessor_counts_no_more() -> None:
    old_pod = Pod("chat-0", {}, NOW - 2 * ANSWERED_AGAIN_S, None, None, 1, "chat-0", None)
    assert refusal([said(NOW - ANSWERED_AGAIN_S + 1)], old_pod, NOW)
    assert refusal([said(NOW - ANSWERED_AGAIN_S - 1)], old_pod, NOW) is None
    assert refusal([said(POD.created_s - 1)], POD, NOW) is None


@pytest.mark.parametrize(
    "times",
    [
        {"lastTimestamp": "2033-05-18T03:33:20Z"},
        {"eventTime": "2033-05-18T03:33:20.000000Z", "lastTimestamp": None},
        {"series": {"lastObservedTime": "2033-05-18T03:33:20.000000Z"}, "eventTime": "2033-05-18T03:00:00.000000Z"},
        {},
    ],
)
def test_an_event_is_as_old_as_its_last_occurrence_however_it_says_so(times: dict[str, Any]) -> None:
    made = {"creationTimestamp": "2033-05-18T03:00:00Z" if times else "2033-05-18T03:33:20Z"}
    body = {"involvedObject": {"kind": "StatefulSet", "name": "chat"}, "message": "no", "metadata": made, **times}
    assert complaint(body) == Complaint("StatefulSet", "chat", NOW, "no")
