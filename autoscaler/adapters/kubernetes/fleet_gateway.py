"""How are the pools of a policy read from a cluster, and how is a new count written?

Read: from live lists, none per tick. A pool's object tells what is wanted, its pods what stands. Whatever is not known
(object missing, kind not installed, server silent) is a `Fault` for this fleet alone, in a line that says what to do.

Write: one patch that fails when the object or its count changed since they were read (writing.py). Before it, the
objections, each a refusal with its reason: an owner of the object writes it back, another autoscaler scales it, and no
shrink during a rollout (old and new groups are mixed then, and which would go is not known). A count that somebody else
writes is published instead (handing.py). At the very last the ledger, if there is one: it refuses a leader whose term is
over. And since each of those questions may take as long as a request may, the term is looked at once more: a write is begun
inside its deadline or not at all (lease.py).
Fleets are read and written by several threads at once, each fleet by one at a time. What is remembered about them between two
looks is in memories.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Operation
from autoscaler.adapters.kubernetes.handing import Handings, handing
from autoscaler.adapters.kubernetes.memories import Memories, Written
from autoscaler.adapters.kubernetes.pods import groups
from autoscaler.adapters.kubernetes.shortages import shortages
from autoscaler.adapters.kubernetes.single_pods import SinglePods
from autoscaler.adapters.kubernetes.snapshot import WATCH_S
from autoscaler.adapters.kubernetes.standing import Standing, Standings
from autoscaler.adapters.kubernetes.transactions.beginning import Beginnings, Write
from autoscaler.adapters.kubernetes.transactions.book import Book
from autoscaler.adapters.kubernetes.transactions.choosing import driver, room, ways
from autoscaler.adapters.kubernetes.transactions.ground import Ground, patience_of
from autoscaler.adapters.kubernetes.transactions.living import living
from autoscaler.adapters.kubernetes.views import PATIENCE_S, Views
from autoscaler.adapters.kubernetes.writing import outcome, unwritten
from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Role, Shortage
from autoscaler.core.reason import Reason
from autoscaler.core.transaction import Transaction
from autoscaler.core.transit import stuck
from autoscaler.policy import Document
from autoscaler.policy.behaviour import FlipDriver, FlipOrder
from autoscaler.ports import Fault, Leadership

NOT_ASKED = "its engines have not been asked yet"
ROLLOUT = "a rollout is under way"

log = logging.getLogger(__name__)


class Documents(Protocol):
    """The policies by key; they come and go."""

    def get(self, key: str, /) -> Document | None:
        """The policy, None if there is none of that name (any more)."""
        ...


class Ledger(Protocol):
    """Where an action is put down before it is carried out, so that a successor knows of it."""

    def intend(self, key: str, term: int, action: Action) -> ApiFault | None:
        """Put it down; the fault that forbids the action otherwise."""
        ...


class KubernetesFleet:
    """FleetGateway over the targets that these documents name.

    With a `book`, replicas are drained before they go, and can be flipped. `patience_s`: how long a list that was never heard
    is waited for; `watch_s`: how long one watch lasts.
    """

    def __init__(
        self,
        api: Api,
        documents: Documents,
        *,
        ledger: Ledger | None = None,
        leadership: Leadership | None = None,
        book: Book | None = None,
        patience_s: float = PATIENCE_S,
        watch_s: int = WATCH_S,
    ) -> None:
        self._api, self._documents, self._ledger, self._leadership = api, documents, ledger, leadership
        self._book, self.single_pods = book, SinglePods(api)
        self._cannot: dict[str, Sequence[str]] = {}
        self._beginnings = None if book is None else Beginnings(book)
        self._views = Views(api, patience_s, watch_s)
        self._standings = Standings(api, self._views)
        self._memories = Memories(lambda key: documents.get(key) is not None)
        self._handings = Handings(self._standings, self._memories, stored=book is not None)

    def ground(self, key: str, now: float) -> Ground | Fault:
        """All there is to decide and act on; a Fault that names the target when one of its pools cannot be known."""
        document, standings = self._documents.get(key), {}
        if document is None:
            return Fault("cluster", f"there is no policy {key} any more")
        namespace = document.metadata.namespace
        for role, spec in document.spec.pools.items():
            memory = self._memories.of(key, role)
            standing = self._standings.read(namespace, spec.target, memory.known)
            if isinstance(standing, ApiFault):
                return Fault("cluster", f"{role} {spec.target.called(namespace)}: {standing}")
            standings[role] = standing if self._book is None else memory.corrected(standing, now)
        term = None if self._leadership is None else self._leadership.term()
        under_way = self._book.under_way(key, term, now) if self._book is not None else ()
        if isinstance(under_way, ApiFault):
            return Fault("cluster", str(under_way))
        return Ground(document, standings, living(standings, document.spec.routing, now), under_way)

    def read(self, key: str, now: float) -> Fleet | Fault:
        """The fleet as it is going to be, when all that is under way has ended."""
        ground = self.ground(key, now)
        if isinstance(ground, Fault):
            return ground
        for role, standing in ground.standings.items():
            self._memories.of(key, role).read_uid = standing.uid
        by, _ = self._driver(key, ground)
        notes = {role: "; ".join(self._notes(key, ground, role)) for role in ground.standings}
        made = {
            role: replace(
                pool,
                note=notes[role],
                shortages=self._shortages(ground.namespace, ground.standings[role], now),
                handed=self._handings.stands(key, ground, role, now),
            )
            for role, pool in ground.pools.items()
        }
        fleet = Fleet(key, made, flips=ground.flips, ended=self._memories.told(key), stuck=self._stuck(ground, now))
        return replace(fleet, flip_ways=ways(ground.spec, by, fleet))

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        """Begin or write what was decided, unless something speaks against it now, or it was decided on what is past."""
        decided_on = {role: self._memories.of(key, role).read_uid for role in action.roles}
        if self._book is None:
            return self._apply(key, action, decided_on, now, term)
        with self._book.alone(key):
            return self._apply(key, action, decided_on, now, term)

    def _apply(self, key: str, action: Action | Flip, decided_on: Mapping[Role, str], now: float, term: int) -> Outcome:
        ground = self.ground(key, now)
        if isinstance(ground, Fault):
            verdict = Verdict.CONFLICT if self._documents.get(key) is None else Verdict.FAILED
            return Outcome(action, verdict, f"not written: {ground.detail}")
        for role in action.roles:
            against = self._objection(key, ground, role)
            if isinstance(against, ApiFault):
                return unwritten(action, against)
            if not against and ground.standings[role].updating and (isinstance(action, Flip) or _shrinks(action)):
                against = f"{ROLLOUT}: nothing is taken away before it ends"
            if against:
                return Outcome(action, Verdict.REFUSED, f"{ground.spec.pools[role].target.called()}: {against}")
        if isinstance(action, Flip):
            return self._flip(key, ground, action, now, term)
        return self._scale(key, ground, action, decided_on[action.role], now=now, term=term)

    def _flip(self, key: str, ground: Ground, flip: Flip, now: float, term: int) -> Outcome:
        by, why = self._driver(key, ground)
        fleet = Fleet(key, ground.pools, flips=ground.flips)
        way = ways(ground.spec, by, fleet).get((flip.from_role, flip.to_role))
        if way is None or self._beginnings is None:
            return Outcome(flip, Verdict.REFUSED, "; ".join(why) or "flips need the policy as an object of the cluster")
        more_gpus = flip.to_replicas * fleet.pools[flip.to_role].gpus_per_replica
        if way.grows_first and ground.spec.gpu_budget is not None and not room(ground.spec, fleet, more_gpus):
            if ground.spec.behaviour.flip.order is FlipOrder.SURGE_FIRST:
                return Outcome(
                    flip, Verdict.REFUSED, f"surgeFirst needs {more_gpus} GPUs, and the GPU budget has not so many left"
                )
            way = replace(way, grows_first=False)  # decided on for less than this, or others have taken the room since
        return self._beginnings.flip(key, ground, flip, way, now, term)

    def _scale(self, key: str, ground: Ground, action: Action, decided_on: str, *, now: float, term: int) -> Outcome:
        write = Write(action.from_replicas, action.to_replicas)
        if self._beginnings is not None:
            begun = self._beginnings.scale(key, ground, action, now, term)
            if isinstance(begun, Outcome):
                return begun
            write = begun
        if ground.handed(action.role):
            return self._handings.decided(key, action, write, now)
        forbidden = self._forbidden(key, term, action)
        if forbidden is not None:
            return unwritten(action, forbidden)
        standing = ground.standings[action.role]
        written = self._write(key, action, standing, write, decided_on or standing.uid, now)
        if written.verdict is Verdict.APPLIED and write.moved and self._book is not None:
            fault = self._book.put(key, term, now, *write.moved)
            if fault is not None:
                log.warning("%s: what is under way does not know of the new %s count: %s", key, action.role, fault)
        return written

    def _write(
        self, key: str, action: Action, standing: Standing, write: Write, uid: str, now: float, *tests: Operation
    ) -> Outcome:
        knob = standing.counted.knob
        own = replace(action, from_replicas=write.seen, to_replicas=write.wanted)
        written = outcome(own, knob, self._api.patch(knob.path, knob.operations(uid, own)))
        if written.verdict is Verdict.APPLIED and self._book is not None:
            self._memories.of(key, action.role).written = Written(uid, write.seen, write.wanted, now)
        return replace(written, action=action)

    def count(self, key: str, role: Role, seen: int, wanted: int, now: float, term: int) -> Outcome:
        """Write a target's count for a transaction whose step is stored, unless something speaks against it now."""
        ground = self.ground(key, now)
        action = Action(role, seen, wanted, Reason.SCALE_UP if wanted > seen else Reason.SCALE_DOWN)
        if isinstance(ground, Fault):
            return Outcome(action, Verdict.FAILED, ground.detail)
        against = self._objection(key, ground, role)
        if against == "" and self._leadership is not None and self._leadership.term() != term:
            against = term_over(term)
        if isinstance(against, ApiFault):
            return unwritten(action, against)
        if against or (ground.standings[role].updating and wanted < seen):
            return Outcome(action, Verdict.REFUSED, against or ROLLOUT)
        standing = ground.standings[role]
        if ground.handed(role):
            return self._handings.asked(key, action, standing.desired, now)
        return self._write(key, action, standing, Write(seen, wanted), standing.uid, now)

    def over(self, key: str, one: Transaction, now: float) -> None:
        """A transaction has ended; the next reading of the fleet tells of it."""
        self._memories.over(key, one, now)
        document = self._documents.get(key)
        if self._beginnings is not None and document is not None:
            self._beginnings.over(key, one, now, document.spec.behaviour.drain.deadline_seconds)

    def _stuck(self, ground: Ground, now: float) -> tuple[str, ...]:
        patience = patience_of(ground)
        told = ((one.key, stuck(one, now, patience)) for one in ground.under_way)
        return (*(f"{key}: {why}" for key, why in told if why), *ground.left_out)

    def engines_say(self, key: str, cannot: Sequence[str]) -> None:
        """Why this fleet's engines do not switch their role themselves, as they say; empty where they do."""
        self._cannot[key] = tuple(cannot)

    def _objection(self, key: str, ground: Ground, role: Role) -> str | ApiFault:
        target, known = ground.spec.pools[role].target, self._memories.of(key, role).known
        return self._standings.objection(ground.namespace, target, ground.standings[role], known, handing(ground, role))

    def _driver(self, key: str, ground: Ground) -> tuple[FlipDriver | None, tuple[str, ...]]:
        """By which way this fleet's replicas change their role, and why by none better."""
        return (None, ()) if self._book is None else driver(ground.spec, self._cannot.get(key, (NOT_ASKED,)))

    def _forbidden(self, key: str, term: int, action: Action) -> ApiFault | None:
        """Why this process may not write (any more)."""
        fault = self._ledger.intend(key, term, action) if self._ledger else None
        if fault is None and self._leadership is not None and self._leadership.term() != term:
            return term_over(term)
        return fault

    def stop(self) -> None:
        """Follow the cluster no longer."""
        self._views.stop()

    def _shortages(self, namespace: str, standing: Standing, now: float) -> tuple[Shortage, ...]:
        there = groups(standing.pods, standing.desired, standing.updating)
        return shortages(there, standing.desired, standing.makers, self._views.told(namespace), now)

    def _notes(self, key: str, ground: Ground, role: Role) -> Iterator[str]:
        """What an operator should know about a pool beside its counts and what it lacks."""
        against = self._objection(key, ground, role)
        if against:
            yield str(against)
        if ground.standings[role].updating:
            yield ROLLOUT
        yield from (f"{one.key}: {one.step}{', ' if one.why else ''}{one.why}" for one in ground.under_way if touches(one, role))


def term_over(term: int) -> ApiFault:
    """Why a leader may not write any more."""
    return ApiFault(409, "TermOver", f"term {term} ended while the cluster was being asked")


def touches(one: Transaction, role: Role) -> bool:
    """Whether a transaction changes this role."""
    return role in (one.change.from_role, one.change.to_role)


def _shrinks(action: Action) -> bool:
    return action.to_replicas < action.from_replicas
