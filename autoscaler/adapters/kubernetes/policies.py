"""Which PDAutoscalers are there, and which of them can be worked by?

The `Roster` of a cluster: one live list per namespace, kept by its watch thread; the tick takes what is there and waits
for nothing. An object is validated when its spec changes and not when its status does: 500 objects whose status is written
once a minute would cost 0.15 s of CPU a minute for nothing. `generation` counts the changes of a spec.

The API server accepts more than can be worked by (policy/crd tells what CEL cannot see). Such an object is `Unusable`,
with its problems in one line for its condition, and so is one that claims what another has already (policy/claims.py). The
oldest goes on, then the first by name; an object that is unusable itself claims nothing. When the older one goes, the
newer one takes its place at the next tick.

What the API server does not answer is not gone: the last picture stays, `trouble` tells why there is no newer one, and
fleets hold by themselves because their targets cannot be read either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from autoscaler.adapters.kubernetes.api import Api, Body
from autoscaler.adapters.kubernetes.snapshot import SLACK_S, WATCH_S, Snapshot
from autoscaler.adapters.kubernetes.targets import listing
from autoscaler.adapters.kubernetes.unlisted import told_of
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.policy import Document
from autoscaler.policy.claims import Claim, claims
from autoscaler.policy.crd.definition import GROUP, KIND, PLURAL, VERSION
from autoscaler.policy.document import Spec
from autoscaler.policy.fields import dotted, objections
from autoscaler.ports import Managed, Unusable
from autoscaler.refusal import Refusal
from autoscaler.roster import managed

# A Lease counts its terms in 32 bits. One of 500 years at one every 16 s was written by hand; to count on from there would
# bring the Lease to its end, and then nobody could lead any fleet.
LATEST_TERM = 2**30
LONGEST = 900  # an event's note has room for 1024 characters, and who is meant stands there too

Check = Callable[[Managed], object]
Settled = Managed | Unusable


@dataclass(frozen=True, slots=True)
class Kept:
    """What the writer of a status must know of the stored object: which it is, the generation of its spec, its status."""

    uid: str
    generation: int
    namespace: str
    name: str
    status: Mapping[str, Any]

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Reading:
    """What one generation of a spec says: a policy, the fleet that it makes and what it claims; or, in one line, why not."""

    document: Document | None = None
    fleet: Managed | None = None
    claims: tuple[Claim, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """One object as it stands. `entry` is what it is if nobody claims the same before it."""

    kept: Kept
    created: str
    reading: Reading
    entry: Settled

    @property
    def seniority(self) -> tuple[str, str]:
        """Older comes first. The API server writes all times in one form, so they sort as text."""
        return self.created, self.kept.name


@dataclass(frozen=True, slots=True)
class View:
    """What one tick goes by; all three are of one moment."""

    entries: tuple[Settled, ...] = ()
    documents: Mapping[str, Document] = field(default_factory=dict)
    kept: Mapping[str, Kept] = field(default_factory=dict)


class Reader:
    """Reads the objects of one namespace, in one thread. Anything may stand in them but for the name."""

    def __init__(self, namespace: str, recommend_only: bool, check: Check | None) -> None:
        self._namespace, self._recommend_only, self._check = namespace, recommend_only, check
        # Known as long as a picture has an object of that generation: nothing is left of those that are gone.
        self._known: WeakValueDictionary[tuple[str, str, int], Reading] = WeakValueDictionary()

    def read(self, body: Body) -> Stored:
        """Cut an object down to what is used."""
        metadata, status = body["metadata"], _mapping(body.get("status"))
        uid, generation = str(metadata.get("uid", "")), metadata.get("generation")
        kept = Kept(
            uid=uid,
            generation=generation if isinstance(generation, int) else 0,
            namespace=self._namespace,
            name=metadata["name"],
            status=status,
        )
        reading = self._reading(kept, body.get("spec"))
        if reading.fleet is None:
            entry: Settled = _unusable(kept, Reason.INVALID_POLICY, reading.problem)
        else:
            entry = replace(reading.fleet, uid=uid, state=_mapping(status.get("state")) or None)
        return Stored(kept, str(metadata.get("creationTimestamp", "")), reading, entry)

    def _reading(self, kept: Kept, spec: object) -> Reading:
        if not kept.uid or not kept.generation:  # no server leaves them out; what cannot be told apart is read anew
            return self._validated(kept, spec)
        generation = kept.name, kept.uid, kept.generation
        found = self._known.get(generation)
        if found is None:
            found = self._known[generation] = self._validated(kept, spec)
        return found

    def _validated(self, kept: Kept, spec: object) -> Reading:
        """The policy of a spec. What the server adds to the metadata is its own, and the model would refuse it."""
        metadata = {"name": kept.name, "namespace": kept.namespace}
        raw = {"apiVersion": f"{GROUP}/{VERSION}", "kind": KIND, "metadata": metadata, "spec": spec}
        try:
            document = Document.model_validate(raw)
            fleet = managed(document, recommend_only=self._recommend_only)
            if self._check is not None:
                self._check(fleet)
        except ValidationError as error:
            return Reading(problem=one_line(map(str, objections(error, Document))))
        except Refusal as refusal:
            return Reading(problem=one_line(str(refusal).splitlines()))
        return Reading(document, fleet, tuple(claims(document)))


class PolicyObjects:
    """The Roster over the PDAutoscalers of these namespaces.

    `recommend_only`: no policy may act, whatever its mode. `check` raises Refusal for a fleet that other rooms could not
    work by. `watch_s`: how long one watch lasts. `get` and `kept` answer as of the last `managed()`, so that all that a
    tick does with a fleet goes by one policy; they may be called from any thread.
    """

    def __init__(
        self,
        api: Api,
        namespaces: Iterable[str],
        *,
        recommend_only: bool = False,
        check: Check | None = None,
        watch_s: int = WATCH_S,
    ) -> None:
        self._max_age_s = watch_s + SLACK_S
        self._snapshots = {
            namespace: Snapshot(
                api,
                listing(f"/apis/{GROUP}/{VERSION}", PLURAL, namespace),
                Reader(namespace, recommend_only, check).read,
                watch_s=watch_s,
            )
            for namespace in namespaces
        }
        self._pictures: list[Mapping[str, Stored]] = [{} for _ in self._snapshots]
        self._view = View()

    def managed(self) -> Sequence[Settled]:
        """Every object as it stands, by namespace and name; worked out anew only if a picture is another than before."""
        pictures = [snapshot.picture().items for snapshot in self._snapshots.values()]
        if any(new is not old for new, old in zip(pictures, self._pictures, strict=True)):
            self._pictures, self._view = pictures, _settled(pictures)
        return self._view.entries

    def get(self, key: str) -> Document | None:
        """The policy of a fleet; None if there is none, or none that is usable."""
        return self._view.documents.get(key)

    def specs(self) -> Mapping[str, Spec]:
        """What the owner of every usable policy wants, by key."""
        return {key: document.spec for key, document in self._view.documents.items()}

    def kept(self, key: str) -> Kept | None:
        """The stored object, usable or not; None if there is none."""
        return self._view.kept.get(key)

    def newest_term(self) -> int:
        """The latest term that has claimed one of the objects, usable or not; -1 if none has. May be called from any thread."""
        objects = (one for snapshot in self._snapshots.values() for one in snapshot.picture().items.values())
        epochs = (_mapping(one.kept.status.get("state")).get("epoch") for one in objects)
        return max((epoch for epoch in epochs if isinstance(epoch, int) and epoch <= LATEST_TERM), default=-1)

    def ready(self, patience_s: float) -> bool:
        """Wait for the first answer about each namespace, so long in all; whether every list is there and believed."""
        ends = time.monotonic() + patience_s
        for snapshot in self._snapshots.values():
            snapshot.picture(max(0.0, ends - time.monotonic()))
        return not self.trouble()

    def trouble(self) -> str:
        """Why the lists are not known or not believed any more, in one line with what to do; empty if all is well."""
        now_s = time.monotonic()
        return told_of({name: one.picture().trouble(now_s, self._max_age_s) for name, one in self._snapshots.items()})

    def stop(self) -> None:
        """Follow the cluster no longer."""
        for snapshot in self._snapshots.values():
            snapshot.stop()


def one_line(problems: Iterable[str]) -> str:
    """As many problems as a condition and an event have room for, and how many more there are."""
    first, *rest = (" ".join(problem.split()) for problem in problems)
    line = first if len(first) <= LONGEST else f"{first[: LONGEST - 3]}..."
    for told, problem in enumerate(rest):
        if len(line) + len(problem) > LONGEST:
            return f"{line}; and {len(rest) - told} more"
        line = f"{line}; {problem}"
    return line


def _settled(pictures: Iterable[Mapping[str, Stored]]) -> View:
    """Who goes on, claim by claim, oldest first. No claim reaches beyond its namespace."""
    owners: dict[tuple[str, ...], str] = {}
    entries: dict[str, Settled] = {}
    objects = {one.kept.key: one for picture in pictures for one in picture.values()}
    for key, one in sorted(objects.items(), key=lambda item: item[1].seniority):
        taken = [claim for claim in one.reading.claims if claim.what in owners]
        entries[key] = _clashing(one.kept, taken, owners) if taken else one.entry
        if not taken:
            owners |= {claim.what: key for claim in one.reading.claims}
    documents = {
        key: document
        for key, one in objects.items()
        if isinstance(entries[key], Managed) and (document := one.reading.document) is not None
    }
    return View(tuple(entries[key] for key in sorted(entries)), documents, {key: one.kept for key, one in objects.items()})


def _clashing(kept: Kept, taken: Iterable[Claim], owners: Mapping[tuple[str, ...], str]) -> Unusable:
    words = (f"{dotted(claim.path)}: {claim.words} ({owners[claim.what]}, which was there first)" for claim in taken)
    return _unusable(kept, Reason.CLASHING_POLICY, one_line(words))


def _unusable(kept: Kept, reason: Reason, text: str) -> Unusable:
    return Unusable(kept.key, Finding(Stage.OBSERVE, reason, text), uid=kept.uid)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
