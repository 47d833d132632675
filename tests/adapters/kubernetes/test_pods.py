"""Do pods become the replicas that an operator would count?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.pods import Pod, Trouble, mixed, pod, replicas
from autoscaler.core.fleet import Lack, Phase

NOW = 2_000_000_000.0
BORN_S, READY_S, LEFT_S = NOW - 300, NOW - 200, NOW - 10
LWS = "leaderworkerset.sigs.k8s.io"


def member(group: int, place: int = 0, size: int = 1, *, ready: bool = True, leaving: bool = False) -> Pod:
    """A pod of the LeaderWorkerSet `e`."""
    labels = {f"{LWS}/name": "e", f"{LWS}/group-index": str(group), f"{LWS}/worker-index": str(place)}
    name = f"e-{group}" if place == 0 else f"e-{group}-{place}"
    return Pod(name, labels, BORN_S, READY_S if ready else None, LEFT_S if leaving else None, size, f"e-{group}", None)


def phases(pods: Sequence[Pod], desired: int, updating: bool = False) -> dict[str, Phase]:
    return {replica.name: replica.phase for replica in replicas(pods, desired, updating, NOW)}


def test_a_group_serves_only_when_every_pod_of_it_is_there_and_ready() -> None:
    whole, partial = [member(0, 0, 2), member(0, 1, 2)], [member(1, 0, 2)]
    unready = [member(2, 0, 2), member(2, 1, 2, ready=False)]
    assert phases(whole + partial + unready, 3) == {"e-0": Phase.SERVING, "e-1": Phase.STARTING, "e-2": Phase.STARTING}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=4), st.integers(1, 4))
def test_a_serving_group_has_no_pod_missing_unready_or_leaving(states: list[tuple[bool, bool]], size: int) -> None:
    pods = [member(0, place, size, ready=ready, leaving=leaving) for place, (ready, leaving) in enumerate(states)]
    (phase,) = phases(pods, 1).values()
    assert (phase is Phase.SERVING) == (len(pods) >= size and all(ready and not leaving for ready, leaving in states))


def test_a_group_beyond_the_wanted_number_is_on_its_way_out_and_one_within_is_restarting() -> None:
    pods = [member(0, leaving=True), member(1), member(2, leaving=True)]
    assert phases(pods, 2) == {"e-0": Phase.STARTING, "e-1": Phase.SERVING, "e-2": Phase.DRAINING}


def test_a_replica_answers_at_its_leaders_address_and_at_none_while_that_is_gone() -> None:
    pods = [replace(member(0, place, 2), ip=f"10.0.0.{place}") for place in range(2)]
    assert [replica.address for replica in replicas(pods, 1, False, NOW)] == ["10.0.0.0"]
    assert [replica.address for replica in replicas(pods[1:], 1, False, NOW)] == [""]


def test_workers_whose_leader_is_gone_still_hold_their_place() -> None:
    assert phases([member(0), member(1, 1, 2, leaving=True)], 1) == {"e-0": Phase.SERVING, "e-1": Phase.DRAINING}


def test_surge_groups_of_a_rollout_are_left_out_and_otherwise_counted() -> None:
    pods = [member(0), member(1), member(2)]
    assert list(phases(pods, 2, updating=True)) == ["e-0", "e-1"]
    assert list(phases(pods, 2)) == ["e-0", "e-1", "e-2"]


def test_a_group_with_a_hashed_identity_has_no_number_and_drains_when_it_leaves() -> None:
    hashed = replace(member(0, leaving=True), labels={**member(0).labels, f"{LWS}/group-index": "9f" * 20})
    assert hashed.ordinal is None
    assert phases([hashed], 1) == {"e-0": Phase.DRAINING}


def test_since_tells_when_the_phase_began_and_never_the_future() -> None:
    pods = [replace(member(0), ready_s=NOW + 5), member(1), member(2, ready=False), member(3, leaving=True)]
    since = [replica.since_s for replica in replicas(pods, 3, updating=False, now=NOW)]
    assert since == [NOW, READY_S, BORN_S, LEFT_S]


def test_a_group_is_born_with_the_oldest_of_its_pods_and_anew_with_its_leader() -> None:
    grown = [replace(member(0, 1, 2), created_s=BORN_S + 20), member(0, 0, 2)]
    anew = [replace(one, leader="e-1", created_s=BORN_S + 100) for one in grown]
    assert [one.born_s for one in replicas(grown + anew, 2, updating=False, now=NOW)] == [BORN_S, BORN_S + 100]


@pytest.mark.parametrize("label", [f"{LWS}/template-revision-hash", "disaggregatedset.x-k8s.io/revision", "pod-template-hash"])
def test_two_revisions_side_by_side_are_a_rollout_unless_one_is_leaving(label: str) -> None:
    old, new = (replace(member(0), labels={label: revision}) for revision in ("a", "b"))
    assert mixed([old, new])
    assert not mixed([old, old])
    assert not mixed([replace(old, leaving_s=LEFT_S), new])


def body(**changes: Any) -> dict[str, Any]:
    metadata = {"name": "e-0-1", "creationTimestamp": "2033-05-18T03:33:20Z", "labels": {}, "annotations": {}}
    labels = {f"{LWS}/name": "e", f"{LWS}/group-index": "0", f"{LWS}/worker-index": "1"}
    annotations = {f"{LWS}/size": "2", f"{LWS}/leader-name": "e-0"}
    metadata |= {"labels": labels, "annotations": annotations, **changes.pop("metadata", {})}
    return {"metadata": metadata, "status": {"phase": "Running", **changes}}


def test_a_pod_is_cut_down_to_what_is_used() -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2033-05-18T03:33:30Z"}
    found = pod(
        body(conditions=[ready], metadata={"deletionTimestamp": "2033-05-18T03:34:20Z", "deletionGracePeriodSeconds": 30})
    )
    assert found is not None
    assert (found.name, found.leader, found.size, found.ordinal) == ("e-0-1", "e-0", 2, 0)
    assert (found.created_s, found.ready_s, found.leaving_s) == (NOW, NOW + 10, NOW + 30)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_holds_nothing(phase: str) -> None:
    assert pod(body(phase=phase)) is None


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/4 nodes",
                        "lastTransitionTime": "2033-05-18T03:33:25Z",
                    }
                ]
            },
            Trouble(Lack.UNSCHEDULABLE, "Unschedulable", "0/4 nodes", NOW + 5),
        ),
        (
            {
                "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}],
                "conditions": [{"type": "ContainersReady", "status": "False", "lastTransitionTime": "2033-05-18T03:33:27Z"}],
            },
            Trouble(Lack.FAILING, "ImagePullBackOff", "no such image", NOW + 7),
        ),
        (
            {"initContainerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            Trouble(Lack.FAILING, "CrashLoopBackOff", "", NOW),
        ),
        ({"containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, None),
        ({"containerStatuses": [{"state": {"running": {}}}]}, None),
    ],
)
def test_why_a_pod_does_not_start_is_kept(status: dict[str, Any], trouble: Trouble | None) -> None:
    found = pod(body(**status))
    assert found is not None
    assert found.trouble == trouble
