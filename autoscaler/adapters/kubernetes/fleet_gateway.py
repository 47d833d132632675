"""How are the pools of a policy read from a cluster, and how is a new count written?

Read: from live lists, none per tick. A pool's object tells what is wanted, its pods what stands. Whatever is not known
(object missing, kind not installed, server silent) is a `Fault` for this fleet alone, in a line that says what to do.

Write: one patch that fails when the object or its count changed since they were read (writing.py). Before it, the
objections, each a refusal with its reason: an owner of the object writes it back, another autoscaler scales it, and no
shrink during a rollout (old and new groups are mixed then, and which would go is not known). At the very last the ledger,
if there is one: it refuses a leader whose term is over. And since each of those questions may take as long as a request
may, the term is looked at once more: a write is begun inside its deadline or not at all (lease.py).

Fleets are read and written by several threads at once, each fleet by one at a time. What is remembered about a pool is in
its own `Memory`; those of policies that have gone are dropped as others come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from autoscaler.adapters.kubernetes.api import Api, ApiFault
from autoscaler.adapters.kubernetes.pods import groups, replicas
from autoscaler.adapters.kubernetes.shortages import shortages
from autoscaler.adapters.kubernetes.snapshot import WATCH_S
from autoscaler.adapters.kubernetes.standing import Known, Standing, Standings
from autoscaler.adapters.kubernetes.views import PATIENCE_S, Views
from autoscaler.adapters.kubernetes.writing import outcome, unwritten
from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Pool, Role, Shortage
from autoscaler.policy import Document
from autoscaler.policy.sections import Target
from autoscaler.ports import Fault, Leadership

FEWEST_KEPT = 64  # memories of pools that are kept before any is looked through for gone policies


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


@dataclass(slots=True)
class Memory:
    """What is remembered about one pool: facts about its object, and which object the last reading was of."""

    known: Known = field(default_factory=Known)
    read_uid: str = ""


class KubernetesFleet:
    """FleetGateway over the targets that these documents name.

    `patience_s`: how long a list that was never heard is waited for; `watch_s`: how long one watch lasts.
    """

    def __init__(
        self,
        api: Api,
        documents: Documents,
        *,
        ledger: Ledger | None = None,
        leadership: Leadership | None = None,
        patience_s: float = PATIENCE_S,
        watch_s: int = WATCH_S,
    ) -> None:
        self._api, self._documents, self._ledger, self._leadership = api, documents, ledger, leadership
        self._views = Views(api, patience_s, watch_s)
        self._standings = Standings(api, self._views)
        self._lock = threading.Lock()
        self._memories: dict[tuple[str, Role], Memory] = {}
        self._look_through_at = FEWEST_KEPT

    def read(self, key: str, now: float) -> Fleet | Fault:
        """The fleet as it stands; a Fault that names the target when one of its pools cannot be known."""
        document, pools = self._documents.get(key), {}
        if document is None:
            return Fault("cluster", f"there is no policy {key} any more")
        namespace = document.metadata.namespace
        for role, spec in document.spec.pools.items():
            memory = self._memory(key, role)
            standing = self._standings.read(namespace, spec.target, memory.known)
            if isinstance(standing, ApiFault):
                return Fault("cluster", f"{role} {spec.target.called(namespace)}: {standing}")
            memory.read_uid = standing.uid
            pools[role] = Pool(
                role,
                standing.desired,
                replicas(standing.pods, standing.desired, standing.updating, now),
                spec.gpus_per_replica,
                note="; ".join(self._notes(namespace, spec.target, standing, memory.known)),
                shortages=self._shortages(namespace, standing, now),
            )
        return Fleet(key, pools)

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        """Write the count unless something speaks against it now, or the target is no longer the one that was read."""
        if isinstance(action, Flip):
            return Outcome(action, Verdict.REFUSED, "flips are not available on this target yet")
        return self._scale(key, action, term)

    def _scale(self, key: str, action: Action, term: int) -> Outcome:
        document = self._documents.get(key)
        if document is None:
            return Outcome(action, Verdict.CONFLICT, f"not written: there is no policy {key} any more")
        namespace, target = document.metadata.namespace, document.spec.pools[action.role].target
        memory = self._memory(key, action.role)
        decided_on = memory.read_uid
        standing = self._standings.read(namespace, target, memory.known)
        if isinstance(standing, ApiFault):
            return unwritten(action, standing)
        against = self._standings.objection(namespace, target, standing, memory.known)
        if isinstance(against, ApiFault):
            return unwritten(action, against)
        if not against and standing.updating and action.to_replicas < action.from_replicas:
            against = "a rollout is under way: nothing is taken away before it ends"
        if against:
            return Outcome(action, Verdict.REFUSED, f"{target.called()}: {against}")
        forbidden = self._forbidden(key, term, action)
        if forbidden is not None:
            return unwritten(action, forbidden)
        knob = standing.counted.knob
        return outcome(action, knob, self._api.patch(knob.path, knob.operations(decided_on or standing.uid, action)))

    def _forbidden(self, key: str, term: int, action: Action) -> ApiFault | None:
        """Why this process may not write (any more)."""
        fault = self._ledger.intend(key, term, action) if self._ledger else None
        if fault is None and self._leadership is not None and self._leadership.term() != term:
            return ApiFault(409, "TermOver", f"term {term} ended while the cluster was being asked")
        return fault

    def stop(self) -> None:
        """Follow the cluster no longer."""
        self._views.stop()

    def _memory(self, key: str, role: Role) -> Memory:
        """The pool's memory. Looking for gone policies each time the number has doubled costs little per pool."""
        with self._lock:
            if (key, role) not in self._memories:
                if len(self._memories) >= self._look_through_at:
                    self._memories = {of: one for of, one in self._memories.items() if self._documents.get(of[0]) is not None}
                    self._look_through_at = max(FEWEST_KEPT, 2 * len(self._memories))
                self._memories[key, role] = Memory()
            return self._memories[key, role]

    def _shortages(self, namespace: str, standing: Standing, now: float) -> tuple[Shortage, ...]:
        there = groups(standing.pods, standing.desired, standing.updating)
        return shortages(there, standing.desired, standing.makers, self._views.told(namespace), now)

    def _notes(self, namespace: str, target: Target, standing: Standing, known: Known) -> Iterator[str]:
        """What an operator should know about a pool beside its counts and what it lacks."""
        against = self._standings.objection(namespace, target, standing, known)
        if against:
            yield str(against)
        if standing.updating:
            yield "a rollout is under way"
