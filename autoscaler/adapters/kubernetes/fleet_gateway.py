"""How are the pools of a policy read from a cluster, and how is a new count written?

Read: from live lists, none per tick. A pool's object tells what is wanted, its pods what stands. Whatever is not known
(object missing, kind not installed, server silent) is a `Fault` for this fleet alone.

Write: one JSON patch on `/scale` whose `test` operations name the object (uid) and the count that was decided on. It
fails exactly when somebody else scaled or the object was made anew, and not when a controller touched its status in
between, as a resourceVersion would (reference/python.md 1.2). Before it, three objections, each a refusal with its
reason: an owner of the object writes it back, another autoscaler scales it, and no shrink during a rollout (old and new
groups are mixed then, and which would go is not known).

The patch says `add` and not `replace`, because a Scale leaves a count of 0 out of its JSON: there the `test` is that spec
is empty, and `add` writes the field whether it is there or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Body
from autoscaler.adapters.kubernetes.complaints import note
from autoscaler.adapters.kubernetes.objections import objection, rival_of
from autoscaler.adapters.kubernetes.pods import Pod, mixed, replicas
from autoscaler.adapters.kubernetes.snapshot import WATCH_S
from autoscaler.adapters.kubernetes.targets import Discovery, Owner, Scalable
from autoscaler.adapters.kubernetes.views import Views
from autoscaler.core.fleet import Fleet, Pool, Role
from autoscaler.core.plan import Action, Outcome, Verdict
from autoscaler.policy import Document
from autoscaler.policy.sections import Target
from autoscaler.ports import Fault

BUSY = 429


@dataclass(frozen=True, slots=True)
class Standing:
    """One target as it stands: the object and where it is, its count, its pods, whether old and new ones are mixed."""

    scalable: Scalable
    path: str
    desired: int
    pods: tuple[Pod, ...]
    updating: bool


class KubernetesFleet:
    """FleetGateway over the targets that these documents name. `watch_s`: how long one watch lasts."""

    def __init__(self, api: Api, documents: Sequence[Document], watch_s: int = WATCH_S) -> None:
        self._api, self._views, self._discovery = api, Views(api, watch_s), Discovery(api)
        self._documents = {document.key: document for document in documents}
        self._selectors: dict[str, str] = {}
        self._tops: dict[str, Owner | None] = {}
        self._read: dict[tuple[str, Role], str] = {}

    def read(self, key: str, now: float) -> Fleet | Fault:
        """The fleet as it stands; a Fault that names the target when one of its pools cannot be known."""
        document, pools = self._documents[key], {}
        namespace = document.metadata.namespace
        for role, spec in document.spec.pools.items():
            standing = self._standing(namespace, spec.target)
            if isinstance(standing, ApiFault):
                return Fault("cluster", f"{role} {spec.target.kind} {namespace}/{spec.target.name}: {standing}")
            self._read[key, role] = standing.scalable.uid
            found = replicas(standing.pods, standing.desired, standing.updating, now)
            told = "; ".join(self._told(namespace, spec.target, standing, now))
            pools[role] = Pool(role, standing.desired, found, spec.gpus_per_replica, told)
        return Fleet(key, pools)

    def apply(self, key: str, action: Action, now: float) -> Outcome:
        """Write the count unless something speaks against it now, or the target is no longer the one that was read."""
        document = self._documents[key]
        namespace, target = document.metadata.namespace, document.spec.pools[action.role].target
        standing = self._standing(namespace, target)
        if isinstance(standing, ApiFault):
            return Outcome(action, Verdict.FAILED, f"not written: {standing}")
        against = self._objection(namespace, target, standing)
        if isinstance(against, ApiFault):
            return Outcome(action, Verdict.FAILED, f"not written: {against}")
        if not against and standing.updating and action.to_replicas < action.from_replicas:
            against = "a rollout is under way: nothing is taken away before it ends"
        if against:
            return Outcome(action, Verdict.REFUSED, f"{target.kind} {target.name}: {against}")
        uid = self._read.get((key, action.role), standing.scalable.uid)
        return _outcome(action, self._api.patch(f"{standing.path}/scale", _operations(uid, action)))

    def stop(self) -> None:
        """Follow the cluster no longer."""
        self._views.stop()

    def _standing(self, namespace: str, target: Target) -> Standing | ApiFault:
        resource = self._discovery.scaled(target.api_version, target.kind)
        if isinstance(resource, ApiFault):
            return resource
        objects = self._views.objects(resource, namespace)
        if isinstance(objects, ApiFault):
            return objects
        found = objects.get(target.name)
        if found is None:
            return ApiFault(404, "NotFound", "no such object")
        path = f"{resource.within(namespace)}/{quote(target.name)}"
        scale = self._scale(found, path)
        if isinstance(scale, ApiFault):
            return scale
        selector, desired = scale
        pods = self._views.pods(namespace, selector)
        if isinstance(pods, ApiFault):
            return pods
        return Standing(found, path, desired, pods, found.updating or mixed(pods))

    def _scale(self, found: Scalable, path: str) -> tuple[str, int] | ApiFault:
        """(pod selector, count). The selector never changes, so `/scale` is asked for it once; for the count only where
        the kind keeps it elsewhere than in spec.replicas.
        """
        if found.uid in self._selectors and found.desired is not None:
            return self._selectors[found.uid], found.desired
        answer = self._api.get(f"{path}/scale")
        if isinstance(answer, ApiFault):
            return answer
        selector, desired = _scaled(answer)
        if not selector:  # a new LeaderWorkerSet has none before its manager has seen it
            return ApiFault(0, "NoSelector", "its /scale names no pods (yet): status.selector is empty")
        self._selectors[found.uid] = selector
        return selector, desired if found.desired is None else found.desired

    def _objection(self, namespace: str, target: Target, standing: Standing) -> str | ApiFault:
        """Why this object must not be written by us, whatever the count; empty if it may, an ApiFault if nobody knows."""
        owned = objection(target.kind, self._top(namespace, standing.scalable))
        if owned:
            return owned
        rivals = self._views.rivals(namespace)
        if isinstance(rivals, ApiFault):
            return rivals
        rival = rival_of(target.identity, rivals)
        return f"{rival.kind} {rival.name} scales it already; remove one of the two" if rival else ""

    def _top(self, namespace: str, found: Scalable) -> Owner | None:
        """Owners are set when an object is made, so the way up is walked once per object."""
        if found.uid not in self._tops:
            self._tops[found.uid] = self._discovery.top(found.owner, namespace) if found.owner else None
        return self._tops[found.uid]

    def _told(self, namespace: str, target: Target, standing: Standing, now: float) -> Iterator[str]:
        """What an operator should know about a pool beside its counts."""
        against = self._objection(namespace, target, standing)
        if against:
            yield str(against)
        if standing.updating:
            yield "a rollout is under way"
        missing = note(target.name, standing.desired, standing.pods, self._views.complaints(namespace), now)
        if missing:
            yield missing


def _scaled(answer: Body) -> tuple[str, int]:
    """(selector, count) of a Scale; a count of 0 is left out of its JSON."""
    return str((answer.get("status") or {}).get("selector") or ""), int((answer.get("spec") or {}).get("replicas") or 0)


def _operations(uid: str, action: Action) -> list[Mapping[str, Any]]:
    """The JSON patch that writes the new count if the object and its count still are those that were decided on."""
    count = {"path": "/spec/replicas", "value": action.from_replicas}
    return [
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", **(count if action.from_replicas else {"path": "/spec", "value": {}})},
        {"op": "add", "path": "/spec/replicas", "value": action.to_replicas},
    ]


def _outcome(action: Action, answer: Body | ApiFault) -> Outcome:
    """What became of the write."""
    if isinstance(answer, ApiFault):
        return Outcome(action, *_verdict(answer))
    kept = (answer.get("spec") or {}).get("replicas", 0)
    if kept != action.to_replicas:
        return Outcome(action, Verdict.REFUSED, f"{action.to_replicas} was written and the cluster made it {kept}")
    return Outcome(action, Verdict.APPLIED, f"replicas {action.from_replicas} -> {kept}")


def _verdict(fault: ApiFault) -> tuple[Verdict, str]:
    if fault.unanswered:
        return Verdict.FAILED, f"{fault}; whether it was written shows at the next look"
    if fault.status == BUSY:
        return Verdict.FAILED, f"not written: {fault}"
    # A failed `test` is 422 without a named field; a count that is not allowed names spec.replicas.
    if fault.status == 409 or (fault.status == 422 and not fault.causes):
        return Verdict.CONFLICT, "somebody else scaled or replaced it since it was read"
    return Verdict.REFUSED, str(fault)
