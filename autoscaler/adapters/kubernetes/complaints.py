"""Why are replicas missing, in the cluster's own words?

A replica that is wanted and does not serve has one of four fates, and an operator does something else about each:

    not created      a quota or a webhook refuses its pod: FailedCreate, an event of the stateful or replica set
    not scheduled    no node has room: the pod's PodScheduled condition
    not started      the image or the configuration is wrong, or it crashes: the container's waiting reason
    still starting   nothing to tell

The line made here is for people. What is decided is decided by counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.pods import SET, Pod, groups, seconds

# The set's controller tries again after at most 1000 s, which repeats the event: an older one has been overcome.
BELIEVED_S = 1000.0
LONGEST = 200
MAKERS = {"StatefulSet": r"(-\d+)?", "ReplicaSet": r"(-[a-z0-9]+)?"}  # what they are called after the object above them


@dataclass(frozen=True, slots=True)
class Complaint:
    """A FailedCreate event: which object could not create its pods, when last, and why."""

    kind: str
    name: str
    at_s: float
    message: str

    def concerns(self, owner: str) -> bool:
        """Is the object one that makes the pods of `owner`?"""
        return re.fullmatch(re.escape(owner) + MAKERS.get(self.kind, ""), self.name) is not None


def complaint(body: Body) -> Complaint:
    """Cut an event down to what is used."""
    about, series = body.get("involvedObject") or {}, body.get("series") or {}
    times = (series.get("lastObservedTime"), body.get("lastTimestamp"), body.get("eventTime"))
    at = next((time for time in times if time), body["metadata"]["creationTimestamp"])
    return Complaint(str(about.get("kind")), str(about.get("name")), seconds(at), str(body.get("message", "")))


def note(target: str, desired: int, pods: Sequence[Pod], complaints: Iterable[Complaint], now: float) -> str:
    """Why fewer than `desired` replicas stand or start, in one line; empty if nothing is wrong."""
    told: dict[str, list[str]] = {}
    for one in pods:
        if one.trouble is not None and one.leaving_s is None:
            told.setdefault(one.trouble[0], []).append(one.trouble[1])
    lines = [_short(f"{_pods(len(messages))} {reason}: {messages[0]}") for reason, messages in sorted(told.items())]
    whole = sum(len(members) >= members[0].size for members in groups(pods).values())
    if whole < desired:
        owners = {target, *(one.labels[SET] for one in pods if SET in one.labels)}
        fresh = [one for one in complaints if now - one.at_s < BELIEVED_S and any(one.concerns(owner) for owner in owners)]
        if fresh:
            newest = max(fresh, key=lambda one: one.at_s)
            lines.append(_short(f"{desired - whole} of {desired} replicas not created: {newest.message}"))
    return "; ".join(lines)


def _pods(count: int) -> str:
    return f"{count} pod" if count == 1 else f"{count} pods"


def _short(text: str) -> str:
    line = " ".join(text.split()).removesuffix(":")
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
