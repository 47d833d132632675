"""What do events say about replicas that do not come?

Two lists of events are followed per namespace, filtered by the server, since a namespace has thousands of others:

    a pod was not created   reason FailedCreate, of the stateful or replica set: a quota or a webhook refused it
    nodes for a pod         events of pods that neither the kubelet nor the scheduler wrote. What adds nodes answers there:
                            Cluster Autoscaler with NotTriggerScaleUp or TriggeredScaleUp, Karpenter with FailedScheduling
                            (in words of its own; other schedulers use the reason too) or Nominated. Which component signs
                            it is no help: managed clusters run both under other names.

Events are written again and again while nothing changes, but ever more rarely: a set's controller tries after at most
1000 s, and whatever repeats itself is cut down to one in 5 minutes. An older one than that has been overcome.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.pods import Pod, seconds

NOT_CREATED = {"fieldSelector": "reason=FailedCreate"}
ABOUT_NODES = {"fieldSelector": "involvedObject.kind=Pod,source!=kubelet,source!=default-scheduler"}
CREATED_AGAIN_S = 1000.0
ANSWERED_AGAIN_S = 600.0  # twice the 300 s between two repetitions
MAKERS = {"StatefulSet": r"(-\d+)?", "ReplicaSet": r"(-[a-z0-9]+)?"}  # what they are called after the object above them
# Reason -> how its message begins.
REFUSING: Mapping[str, str] = {"NotTriggerScaleUp": "", "FailedScheduling": "Failed to schedule pod, "}
GRANTING = frozenset({"TriggeredScaleUp", "Nominated"})


@dataclass(frozen=True, slots=True)
class Complaint:
    """Which object could not create its pods, when last, and why."""

    kind: str
    name: str
    at_s: float
    message: str

    def concerns(self, owner: str) -> bool:
        """Is the object one that makes the pods of `owner`?"""
        return re.fullmatch(re.escape(owner) + MAKERS.get(self.kind, ""), self.name) is not None


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said last about a node for a pod, and when."""

    pod: str
    at_s: float
    message: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Told:
    """What events of one namespace say: all complaints, and the answers by the pod they are about."""

    complaints: Collection[Complaint] = ()
    answers: Mapping[str, Sequence[Answer]] = field(default_factory=dict)


def complaint(body: Body) -> Complaint:
    """Cut an event about a pod that was not created down to what is used."""
    about = body.get("involvedObject") or {}
    return Complaint(str(about.get("kind")), str(about.get("name")), _last(body), str(body.get("message", "")))


def answer(body: Body) -> Answer | None:
    """Cut an event of a pod down to what is used; None if it is not about adding nodes."""
    reason, message = str(body.get("reason")), str(body.get("message", ""))
    refused = reason in REFUSING and message.startswith(REFUSING[reason])
    if not refused and reason not in GRANTING:
        return None
    return Answer(str((body.get("involvedObject") or {}).get("name")), _last(body), message, refused)


def newest(complaints: Iterable[Complaint], owners: Iterable[str], now: float) -> Complaint | None:
    """The last complaint of those who make the pods of `owners`; None if nothing is wrong any more."""
    owners = tuple(owners)
    fresh = (one for one in complaints if now - one.at_s < CREATED_AGAIN_S and any(map(one.concerns, owners)))
    return max(fresh, key=lambda one: one.at_s, default=None)


def refusal(answers: Iterable[Answer], pod: Pod, now: float) -> Answer | None:
    """The refusal of a node that stands for this pod, out of the answers for its name; None if a node may come.

    A pod of a stateful set has the name of its predecessor: what was answered before it was made is not about it.
    """
    of_pod = [one for one in answers if one.at_s >= pod.created_s and now - one.at_s < ANSWERED_AGAIN_S]
    last = max(of_pod, key=lambda one: (one.at_s, not one.refused), default=None)
    return last if last is not None and last.refused else None


def _last(body: Body) -> float:
    """When it happened last: a client says it in one of three places."""
    times = ((body.get("series") or {}).get("lastObservedTime"), body.get("lastTimestamp"), body.get("eventTime"))
    return seconds(next((time for time in times if time), body["metadata"]["creationTimestamp"]))
