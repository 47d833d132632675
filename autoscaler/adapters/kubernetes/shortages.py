"""Why do replicas that are wanted not serve?

    not created    fewer groups are whole than are wanted, and a set says that its pods are refused
    unschedulable  a pod found no node (its PodScheduled condition)
    nodes refused  the same, and what adds nodes said that it will add none for that pod (complaints.py)
    failing        a container waits for its image, its configuration, or for its next try after a crash
    still starting nothing to tell

A replica counts once, for the first thing in its way: a leader that crashes because its worker has no node is short of a
node. Replicas are counted, not pods; the words are those of the newest complaint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from autoscaler.adapters.kubernetes.complaints import Told, newest, refusal
from autoscaler.adapters.kubernetes.pods import Pod, Trouble
from autoscaler.core.fleet import Lack, Shortage

LONGEST = 200
# What stands in the way first.
ORDER = (Lack.NODES_REFUSED, Lack.UNSCHEDULABLE, Lack.FAILING)


def shortages(
    members: Mapping[str, Sequence[Pod]], desired: int, owners: Iterable[str], told: Told, now: float
) -> tuple[Shortage, ...]:
    """One entry per lack of a pool: `members` are the pods of each group, `owners` the objects whose sets make them."""
    troubles: dict[Lack, list[Trouble]] = {}
    there = 0
    for pods in members.values():
        first = _first(pods, told, now)
        if first is not None:
            troubles.setdefault(first.lack, []).append(first)
        there += first is not None or len(pods) >= pods[0].size
    found = [_shortage(lack, troubles[lack]) for lack in ORDER if lack in troubles]
    refused = newest(told.complaints, owners, now) if there < desired else None
    if refused is not None:
        found.insert(0, Shortage(Lack.NOT_CREATED, desired - there, refused.at_s, _short(refused.message)))
    return tuple(found)


def _first(pods: Iterable[Pod], told: Told, now: float) -> Trouble | None:
    """What stands in a group's way first; None if nothing does. A pod on its way out is wanted no more."""
    found = [_sharpened(one, told, now) for one in pods if one.leaving_s is None]
    return min((one for one in found if one), key=lambda trouble: ORDER.index(trouble.lack), default=None)


def _sharpened(pod: Pod, told: Told, now: float) -> Trouble | None:
    """A pod's trouble; if it found no node and none will be added either, that."""
    trouble = pod.trouble
    if trouble is None or trouble.lack is not Lack.UNSCHEDULABLE:
        return trouble
    refused = refusal(told.answers.get(pod.name, ()), pod, now)
    return Trouble(Lack.NODES_REFUSED, "", refused.message, refused.at_s) if refused else trouble


def _shortage(lack: Lack, troubles: Sequence[Trouble]) -> Shortage:
    last = max(troubles, key=lambda trouble: trouble.since_s)
    reason = "" if last.reason == lack and last.message else last.reason
    return Shortage(lack, len(troubles), last.since_s, _short(f"{reason}: {last.message}" if reason else last.message))


def _short(text: str) -> str:
    line = " ".join(text.split()).removesuffix(":")
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
