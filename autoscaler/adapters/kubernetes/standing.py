"""How does one target stand?

Everything about it that is read, put together from the live lists: the object and where its count is written, its pods,
whether old and new ones are mixed, and the objects whose sets make its pods. What is not known (object missing, kind not
installed, server silent) is an `ApiFault`.

Two things about an object never change, and the server is asked for them once: the selector of its pods, and who stands on
top of its owners. `Known` keeps them per pool; an object made anew under the old name is another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import Api, ApiFault
from autoscaler.adapters.kubernetes.discovery import Discovery
from autoscaler.adapters.kubernetes.objections import EVERYWHERE, INSIDE_A_SET, Handing, Rival, follower, objection, rivalry
from autoscaler.adapters.kubernetes.pods import SET, Pod, mixed
from autoscaler.adapters.kubernetes.roles import OF_SET, SCALER, below, selector_of
from autoscaler.adapters.kubernetes.targets import Owner, Scalable
from autoscaler.adapters.kubernetes.views import Views, group_terms
from autoscaler.adapters.kubernetes.writing import Knob, role_of, scale_of
from autoscaler.policy.sections import Target

MISSING = ApiFault(404, "NotFound", "there is no such object; create it, or correct target.name and target.kind")
T = TypeVar("T")


@dataclass(slots=True)
class Known:
    """What was asked once about the object of one pool. `top` is the owner above all, None if nobody owns it."""

    uid: str = ""
    selector: str = ""
    top: Owner | None = None
    climbed: bool = False


@dataclass(frozen=True, slots=True)
class Counted:
    """An object, where its count stands, how many it is, which pods are counted, and who has the count instead, if anybody."""

    scalable: Scalable
    knob: Knob
    desired: int
    selector: str
    handed_to: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """One target as it stands. `makers`: the objects whose sets make its pods."""

    counted: Counted
    pods: tuple[Pod, ...]
    updating: bool
    makers: frozenset[str]

    @property
    def uid(self) -> str:
        """Which object it is."""
        return self.counted.scalable.uid

    @property
    def desired(self) -> int:
        """How many replicas it wants."""
        return self.counted.desired


class Standings:
    """Reads targets from the lists of one cluster. Thread-safe, as long as each `Known` is in one thread's hands at a time."""

    def __init__(self, api: Api, views: Views) -> None:
        self._api, self._views, self._discovery = api, views, Discovery(api)

    def read(self, namespace: str, target: Target, known: Known) -> Standing | ApiFault:
        """The target as it stands; the server is asked only for what no list tells."""
        if target.role is None:
            counted = self._scaled(namespace, target, known)
        else:
            counted = self._inside(namespace, target, target.role, known)
        if isinstance(counted, ApiFault):
            return counted
        pods = self._views.pods(namespace, counted.selector)
        if isinstance(pods, ApiFault):
            return pods
        terms, makers, revised = group_terms(counted.selector), {target.name}, False
        if OF_SET in terms:
            children = self._views.children(namespace, terms[OF_SET])
            if isinstance(children, ApiFault):
                return children
            names, revised = below(children, terms)
            makers.update(names)
        makers.update(one.labels[SET] for one in pods if SET in one.labels)
        return Standing(counted, pods, counted.scalable.updating or revised or mixed(pods), frozenset(makers))

    def objection(self, namespace: str, target: Target, standing: Standing, known: Known, pool: Handing) -> str | ApiFault:
        """Why this object must not be written by us, or at our word, whatever the count; empty if it may, an ApiFault if nobody
        knows.
        """
        owned = objection(target.kind, self._top(namespace, standing.counted.scalable.owner, known))
        if owned or standing.counted.handed_to:
            return owned or standing.counted.handed_to
        rivals = self._rivals(namespace, target)
        return rivals if isinstance(rivals, ApiFault) else rivalry(target.identity, rivals, pool)

    def follower(self, namespace: str, target: Target, pool: Handing) -> str:
        """Who writes what is published for this object; empty where nobody does, or nobody knows."""
        rivals = self._rivals(namespace, target)
        return "" if isinstance(rivals, ApiFault) else follower(target.identity, rivals, pool)

    def _rivals(self, namespace: str, target: Target) -> tuple[Rival, ...] | ApiFault:
        return self._views.rivals(namespace, EVERYWHERE if target.role is None else INSIDE_A_SET)

    def _scaled(self, namespace: str, target: Target, known: Known) -> Counted | ApiFault:
        """An object with /scale. Its selector never changes, so `/scale` is asked for it once; for the count only where the
        kind keeps it elsewhere than in spec.replicas.
        """
        resource = self._discovery.resource(target.api_version, target.kind, "scale")
        if isinstance(resource, ApiFault):
            return resource
        found = _one(self._views.objects(resource, namespace), target.name)
        if isinstance(found, ApiFault):
            return found
        _acquaint(known, found.uid)
        knob = scale_of(f"{resource.within(namespace)}/{quote(target.name)}")
        if known.selector and found.desired is not None:
            return Counted(found, knob, found.desired, known.selector)
        answer = self._api.get(knob.path)
        if isinstance(answer, ApiFault):
            return answer
        known.selector = str((answer.get("status") or {}).get("selector") or "")
        if not known.selector:  # a new LeaderWorkerSet has none before its manager has seen it
            return ApiFault(0, "NoSelector", "its /scale names no pods (yet): status.selector is empty; does its controller run?")
        return Counted(found, knob, knob.count(answer) if found.desired is None else found.desired, known.selector)

    def _inside(self, namespace: str, target: Target, role: str, known: Known) -> Counted | ApiFault:
        """One role of an object that has roles inside; there is no /scale to ask."""
        resource = self._discovery.resource(target.api_version, target.kind)
        if isinstance(resource, ApiFault):
            return resource
        found = _one(self._views.role_sets(resource, namespace), target.name)
        if isinstance(found, ApiFault):
            return found
        part = found.part(role)
        if isinstance(part, ApiFault):
            return part
        _acquaint(known, found.uid)
        scalable = Scalable(found.name, found.uid, found.owner, part.replicas, part.outdated)
        knob = role_of(f"{resource.within(namespace)}/{quote(target.name)}", part.place, role)
        handed_to = f"its role {role} is handed out; target {SCALER} {found.name}-{role} instead" if part.external else ""
        return Counted(scalable, knob, part.replicas, selector_of(found.name, role), handed_to)

    def _top(self, namespace: str, owner: Owner | None, known: Known) -> Owner | None:
        """Owners are set when an object is made, so the way up is walked once per object."""
        if not known.climbed:
            known.top, known.climbed = self._discovery.top(owner, namespace) if owner else None, True
        return known.top


def _one(objects: Mapping[str, T] | ApiFault, name: str) -> T | ApiFault:
    return objects if isinstance(objects, ApiFault) else objects.get(name, MISSING)


def _acquaint(known: Known, uid: str) -> None:
    """Forget what was known about another object of that name."""
    if known.uid != uid:
        known.uid, known.selector, known.top, known.climbed = uid, "", None, False
