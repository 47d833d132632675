"""Is it told once per replica why it does not come, and nothing where nothing is wrong?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.complaints import Answer, Complaint, Told
from autoscaler.adapters.kubernetes.pods import Pod, Trouble, groups
from autoscaler.adapters.kubernetes.shortages import LONGEST, shortages
from autoscaler.core.fleet import Lack, Shortage

NOW = 2_000_000_000.0
LWS = "leaderworkerset.sigs.k8s.io"
NO_ROOM = Trouble(Lack.UNSCHEDULABLE, "Unschedulable", "0/4 nodes", NOW - 30)
CRASHES = Trouble(Lack.FAILING, "CrashLoopBackOff", "", NOW - 20)
QUOTA = Complaint("StatefulSet", "chat", NOW - 5, "exceeded quota: small")


def engine(number: int, trouble: Trouble | None = None, *, place: int = 0, size: int = 1, leaving: bool = False) -> Pod:
    labels = {f"{LWS}/name": "chat", f"{LWS}/group-index": str(number), f"{LWS}/worker-index": str(place)}
    name = f"chat-{number}" if place == 0 else f"chat-{number}-{place}"
    ready_s = None if trouble else NOW
    return Pod(name, labels, NOW - 60, ready_s, NOW - 1 if leaving else None, size, f"chat-{number}", trouble)


def lacking(
    pods: Sequence[Pod], desired: int, *complaints: Complaint, answers: Mapping[str, Sequence[Answer]] | None = None
) -> tuple[Shortage, ...]:
    return shortages(groups(pods, desired, updating=False), desired, ["chat"], Told(complaints, answers or {}), NOW)


def test_a_pool_with_everything_in_place_lacks_nothing() -> None:
    assert lacking([engine(0), engine(1)], 2, QUOTA) == ()


def test_replicas_are_counted_and_not_pods_and_the_newest_words_stand_for_all() -> None:
    later = Trouble(Lack.UNSCHEDULABLE, "Unschedulable", "0/5 nodes", NOW - 10)
    pods = [engine(0, NO_ROOM, size=2), engine(0, NO_ROOM, place=1, size=2), engine(1, later, size=2)]
    assert lacking(pods, 2) == (Shortage(Lack.UNSCHEDULABLE, 2, NOW - 10, "0/5 nodes"),)


def test_different_fates_are_told_apart() -> None:
    assert lacking([engine(0), engine(1, NO_ROOM), engine(2, CRASHES)], 4, QUOTA) == (
        Shortage(Lack.NOT_CREATED, 1, NOW - 5, "exceeded quota: small"),
        Shortage(Lack.UNSCHEDULABLE, 1, NOW - 30, "0/4 nodes"),
        Shortage(Lack.FAILING, 1, NOW - 20, "CrashLoopBackOff"),
    )


def test_a_replica_counts_once_for_what_stands_in_its_way_first() -> None:
    pods = [engine(0, CRASHES, size=3), engine(0, NO_ROOM, place=1, size=3)]
    assert [(one.lack, one.replicas) for one in lacking(pods, 1, QUOTA)] == [(Lack.UNSCHEDULABLE, 1)]


def test_a_group_that_lacks_a_refused_worker_is_not_created() -> None:
    refused = Complaint("StatefulSet", "chat-0", NOW - 5, "exceeded quota")
    assert lacking([engine(0, size=2)], 1, refused) == (Shortage(Lack.NOT_CREATED, 1, NOW - 5, "exceeded quota"),)


def test_a_pod_for_which_no_node_will_be_added_is_short_of_nodes_and_one_without_an_answer_is_not() -> None:
    answers = {"chat-0": [Answer("chat-0", NOW - 7, "max node group size reached", refused=True)]}
    assert lacking([engine(0, NO_ROOM), engine(1, NO_ROOM)], 2, answers=answers) == (
        Shortage(Lack.NODES_REFUSED, 1, NOW - 7, "max node group size reached"),
        Shortage(Lack.UNSCHEDULABLE, 1, NOW - 30, "0/4 nodes"),
    )


def test_a_pod_that_crashes_has_its_node_whatever_was_answered_before() -> None:
    answers = {"chat-0": [Answer("chat-0", NOW - 7, "max node group size reached", refused=True)]}
    assert [one.lack for one in lacking([engine(0, CRASHES)], 1, answers=answers)] == [Lack.FAILING]


def test_what_is_on_its_way_out_is_not_missed() -> None:
    assert lacking([engine(0), engine(1, NO_ROOM, leaving=True)], 1) == ()


def test_a_reason_that_says_more_than_the_lack_is_told() -> None:
    gated = Trouble(Lack.UNSCHEDULABLE, "SchedulingGated", "waits for its group", NOW)
    assert [one.text for one in lacking([engine(0, gated)], 1)] == ["SchedulingGated: waits for its group"]


def test_a_long_message_is_cut_to_one_line() -> None:
    ((text,),) = ([one.text for one in lacking([engine(0, Trouble(Lack.FAILING, "Why", "many\nlines " * 50, NOW))], 1)],)
    assert (len(text), "\n" in text) == (LONGEST, False)


@given(st.lists(st.sampled_from([None, NO_ROOM, CRASHES]), max_size=5), st.integers(0, 6))
@settings(max_examples=30)
def test_no_more_replicas_are_missed_than_are_wanted_or_stand(troubles: list[Trouble | None], desired: int) -> None:
    pods = [engine(number, trouble) for number, trouble in enumerate(troubles)]
    found = lacking(pods, desired, QUOTA)
    serving = troubles.count(None)
    assert sum(one.replicas for one in found) == max(desired, len(pods)) - serving
    assert all(one.replicas > 0 for one in found)
