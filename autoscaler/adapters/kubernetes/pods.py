"""Which replicas do these pods form?

A replica is a group. A pod of a LeaderWorkerSet names its group (set and index), its place in it (worker 0 leads) and
the group's size; it serves when every pod of the group is there and Ready. Any other pod is a replica of its own. The
replica bears its leader's name, since that is the pod whose metrics speak for it (reference/engines.md A.1, A.2).

A pod of a stateful set that goes while its number stays wanted is being restarted: its place comes back under the same
name and nothing leaves for good, so it counts as STARTING. Every other pod with a deletion time is on its way out
(DRAINING) and holds its GPUs on top of what is wanted.

A group is born with the oldest of its pods that are there now: one made anew after a failure starts anew, and the time
until it serves is a start-up time like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from sys import intern

from autoscaler.adapters.kubernetes.api import MANAGER, Body
from autoscaler.core.fleet import Lack, Phase, Replica

LWS = "leaderworkerset.sigs.k8s.io/"
SET, INDEX, PLACE = f"{LWS}name", f"{LWS}group-index", f"{LWS}worker-index"
ABOVE = "disaggregatedset.x-k8s.io/"
# Domains of the labels that pods of a LeaderWorkerSet bear: its own, and that of the set above it.
GROUPED = (LWS, ABOVE)
# Labels whose values differ between the old and the new pods of a rollout.
REVISIONS = (f"{LWS}template-revision-hash", f"{ABOVE}revision", "pod-template-hash")
# A container that waits for one of these is only being started.
PATIENT = frozenset({"ContainerCreating", "PodInitializing"})
COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not start: the cluster's reason (Unschedulable, ImagePullBackOff, CrashLoopBackOff, ...), its message,
    and since when.
    """

    lack: Lack
    reason: str
    message: str
    since_s: float


@dataclass(frozen=True, slots=True)
class Pod:
    """What is used of a pod. Times are seconds since 1970; `leaving_s` is when its deletion was asked for, `written_s` when we
    last wrote something in it (its label), None never. `gates` are its readiness gates with the status of each one's condition,
    "" before it has one; `grace_s` is what it gets to end in good order; `cost` its deletion cost, "" without one; `annotated`:
    it has annotations at all.
    """

    name: str
    labels: Mapping[str, str]
    created_s: float
    ready_s: float | None
    leaving_s: float | None
    size: int
    leader: str
    trouble: Trouble | None
    uid: str = ""
    ip: str = ""
    gates: Mapping[str, str] = field(default_factory=dict)
    grace_s: float | None = None
    cost: str = ""
    annotated: bool = False
    written_s: float | None = None

    @property
    def ordinal(self) -> int | None:
        """The group's number in a stateful set; None where groups have no number (other kinds, hashed identities)."""
        index = self.labels.get(INDEX, "")
        return int(index) if index.isdecimal() and len(index) < 10 else None

    @property
    def leading(self) -> bool:
        """Whether it is the one of its group that serves."""
        return self.name == self.leader

    def matches(self, terms: Mapping[str, str]) -> bool:
        """Does it bear all these labels?"""
        return all(self.labels.get(key) == value for key, value in terms.items())


def pod(body: Body) -> Pod | None:
    """Cut a pod down to what is used; None for one that has ended and holds nothing any more."""
    metadata, status = body["metadata"], body.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return None
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    created_s, ready = seconds(metadata["creationTimestamp"]), _condition(status, "Ready")
    size = notes.get(f"{LWS}size", "1")
    own_leader = labels.get(PLACE, "0") == "0"
    return Pod(
        name=metadata["name"],
        labels={intern(key): value for key, value in labels.items()},
        created_s=created_s,
        ready_s=seconds(ready["lastTransitionTime"]) if ready.get("status") == "True" else None,
        leaving_s=_leaving(metadata),
        size=int(size) if size.isdecimal() else 1,
        leader=metadata["name"] if own_leader else notes.get(f"{LWS}leader-name") or f"{labels[SET]}-{labels.get(INDEX)}",
        trouble=_trouble(status, created_s),
        uid=str(metadata.get("uid", "")),
        ip=str(status.get("podIP") or ""),
        gates=_gates(body.get("spec") or {}, status),
        grace_s=(body.get("spec") or {}).get("terminationGracePeriodSeconds"),
        cost=str(notes.get(COST, "")),
        annotated=bool(notes),
        written_s=_written(metadata),
    )


def groups(pods: Iterable[Pod], desired: int, updating: bool) -> dict[str, list[Pod]]:
    """The pods of each replica, by its leader's name, in order of age. Groups that a rollout adds on top (highest numbers)
    are left out: they go at its end.
    """
    found: dict[str, list[Pod]] = {}
    for one in sorted(pods, key=lambda pod: (pod.created_s, pod.name)):
        if not (updating and one.ordinal is not None and one.ordinal >= desired):
            found.setdefault(one.leader, []).append(one)
    return found


def replicas(pods: Iterable[Pod], desired: int, updating: bool, now: float) -> tuple[Replica, ...]:
    """The replicas these pods form."""
    found = []
    for leader, members in groups(pods, desired, updating).items():
        ordinal = members[0].ordinal
        phase, since_s = _phase(members, comes_back=ordinal is not None and ordinal < desired)
        address = next((one.ip for one in members if one.leading), "")
        found.append(Replica(leader, phase, min(since_s, now), min(members[0].created_s, now), address=address))
    return tuple(found)


def mixed(pods: Iterable[Pod]) -> bool:
    """Are old and new revisions side by side?"""
    staying = [one for one in pods if one.leaving_s is None]
    return any(len({one.labels[label] for one in staying if label in one.labels}) > 1 for label in REVISIONS)


def _phase(members: list[Pod], comes_back: bool) -> tuple[Phase, float]:
    leaving = [one.leaving_s for one in members if one.leaving_s is not None]
    if leaving:
        return (Phase.STARTING if comes_back else Phase.DRAINING), min(leaving)
    ready = [one.ready_s for one in members if one.ready_s is not None]
    if len(ready) == len(members) >= max(one.size for one in members):
        return Phase.SERVING, max(ready)
    return Phase.STARTING, members[0].created_s


def _gates(spec: Body, status: Body) -> Mapping[str, str]:
    gates = (str(one.get("conditionType")) for one in spec.get("readinessGates") or ())
    return {gate: str(_condition(status, gate).get("status", "")) for gate in gates}


def _leaving(metadata: Body) -> float | None:
    if "deletionTimestamp" not in metadata:
        return None
    return seconds(metadata["deletionTimestamp"]) - float(metadata.get("deletionGracePeriodSeconds") or 0)


def _written(metadata: Body) -> float | None:
    """The server keeps for every manager when it last changed a field; our label is one. The status is kept apart."""
    own = (one for one in metadata.get("managedFields") or () if one.get("manager") == MANAGER and not one.get("subresource"))
    return max((seconds(one["time"]) for one in own if one.get("time")), default=None)


def _trouble(status: Body, created_s: float) -> Trouble | None:
    """A container does not tell since when it waits, but it cannot have been ready since: that condition has a time."""
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("status") == "False":
        reason, message = str(scheduled.get("reason", "Unscheduled")), str(scheduled.get("message", ""))
        return Trouble(Lack.UNSCHEDULABLE, reason, message, _since(scheduled, created_s))
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in PATIENT:
            since_s = _since(_condition(status, "ContainersReady"), created_s)
            return Trouble(Lack.FAILING, str(waiting["reason"]), str(waiting.get("message", "")), since_s)
    return None


def _since(condition: Body, otherwise_s: float) -> float:
    return seconds(condition["lastTransitionTime"]) if condition.get("lastTransitionTime") else otherwise_s


def _condition(status: Body, kind: str) -> Body:
    conditions: Iterable[Body] = status.get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def seconds(text: str) -> float:
    """An RFC 3339 time as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()
