"""Is it told in one line why replicas are missing, and nothing where nothing is wrong?"""

from __future__ import annotations

import pytest

from autoscaler.adapters.kubernetes.complaints import BELIEVED_S, LONGEST, Complaint, complaint, note
from autoscaler.adapters.kubernetes.pods import Pod

NOW = 2_000_000_000.0
LWS = "leaderworkerset.sigs.k8s.io"


def engine(number: int, trouble: tuple[str, str] | None = None) -> Pod:
    labels = {f"{LWS}/name": "chat", f"{LWS}/group-index": str(number), f"{LWS}/worker-index": "0"}
    return Pod(f"chat-{number}", labels, NOW - 60, None if trouble else NOW, None, 1, f"chat-{number}", trouble)


QUOTA = Complaint("StatefulSet", "chat", NOW - 5, "pods is forbidden: exceeded quota: small")


def test_a_pool_with_everything_in_place_has_nothing_to_tell() -> None:
    assert note("chat", 2, [engine(0), engine(1)], [QUOTA], NOW) == ""


def test_pods_with_the_same_trouble_are_counted_and_one_message_stands_for_all() -> None:
    pods = [engine(0), engine(1, ("Unschedulable", "0/4 nodes")), engine(2, ("Unschedulable", "0/4 nodes"))]
    assert note("chat", 3, pods, [], NOW) == "2 pods Unschedulable: 0/4 nodes"


def test_different_fates_are_told_apart() -> None:
    pods = [engine(0, ("Unschedulable", "0/4 nodes")), engine(1, ("CrashLoopBackOff", ""))]
    told = note("chat", 3, pods, [QUOTA], NOW)
    assert told == (
        "1 pod CrashLoopBackOff; 1 pod Unschedulable: 0/4 nodes; "
        "1 of 3 replicas not created: pods is forbidden: exceeded quota: small"
    )


def test_a_group_that_lacks_a_refused_worker_is_not_created() -> None:
    leader = Pod("chat-0", {f"{LWS}/name": "chat"}, NOW - 60, NOW, None, 2, "chat-0", None)
    refused = Complaint("StatefulSet", "chat-0", NOW - 5, "exceeded quota")
    assert note("chat", 1, [leader], [refused], NOW) == "1 of 1 replicas not created: exceeded quota"


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
def test_only_those_that_make_its_pods_complain_for_a_target(kind: str, name: str, concerns: bool) -> None:
    assert Complaint(kind, name, NOW, "").concerns("chat") is concerns


def test_an_old_complaint_has_been_overcome() -> None:
    old = Complaint("StatefulSet", "chat", NOW - BELIEVED_S - 1, "exceeded quota")
    assert note("chat", 2, [engine(0)], [old], NOW) == ""


def test_a_long_message_is_cut_to_one_line() -> None:
    told = note("chat", 1, [engine(0, ("Unschedulable", "many\nreasons " * 50))], [], NOW)
    assert len(told) == LONGEST
    assert "\n" not in told


@pytest.mark.parametrize(
    "times",
    [
        {"lastTimestamp": "2033-05-18T03:33:20Z"},
        {"eventTime": "2033-05-18T03:33:20.000000Z", "lastTimestamp": None},
        {"series": {"lastObservedTime": "2033-05-18T03:33:20.000000Z"}, "eventTime": "2033-05-18T03:00:00.000000Z"},
        {},
    ],
)
def test_an_event_is_as_old_as_its_last_occurrence_however_it_says_so(times: dict[str, object]) -> None:
    made = {"creationTimestamp": "2033-05-18T03:00:00Z" if times else "2033-05-18T03:33:20Z"}
    body = {"involvedObject": {"kind": "StatefulSet", "name": "chat"}, "message": "no", "metadata": made, **times}
    assert complaint(body) == Complaint("StatefulSet", "chat", NOW, "no")
