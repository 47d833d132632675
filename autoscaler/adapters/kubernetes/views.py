"""Which lists are followed, and what do they say now?

A list is followed from its first use on, one thread each, and until nobody has used it for IDLE_S: objects by kind and
namespace; pods once per namespace for all LeaderWorkerSets together (whoever makes them), by selector for every other
target; other autoscalers by kind, the sets below DisaggregatedSets, and two kinds of events, per namespace. So 500 fleets of
LeaderWorkerSets in one namespace need seven threads, and 500 pairs of Deployments a thousand.

Many threads look at once. Lists are begun under a lock that nobody holds while waiting, and a new list is waited for
`patience_s` once, counted from its beginning: a server that hangs costs those who come later nothing more.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

from autoscaler.adapters.kubernetes.api import CONNECT_S, READ_S, Api, ApiFault, Body
from autoscaler.adapters.kubernetes.complaints import ABOUT_NODES, NOT_CREATED, Complaint, Told, answer, complaint
from autoscaler.adapters.kubernetes.objections import LISTS, Rival, keeper
from autoscaler.adapters.kubernetes.pods import GROUPED, PLACE, SET, Pod, pod
from autoscaler.adapters.kubernetes.roles import OF_SET, Child, RoleSet, child, role_set
from autoscaler.adapters.kubernetes.snapshot import SLACK_S, WATCH_S, Snapshot
from autoscaler.adapters.kubernetes.targets import Resource, Scalable, listing, scalable

PATIENCE_S = CONNECT_S + READ_S + 1.0  # long enough for the first answer of any list
IDLE_S = 1800.0  # three of the longest ticks
SETS = "/apis/leaderworkerset.x-k8s.io/v1"
T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


class Followed(Generic[T]):
    """One list, until when its first answer is waited for, and its items sorted out."""

    def __init__(self, snapshot: Snapshot[T], patience_s: float, max_age_s: float) -> None:
        self.snapshot, self._max_age_s = snapshot, max_age_s
        self._until_s = time.monotonic() + patience_s
        self._sorting = threading.Lock()  # held while computing, never while waiting
        self._sorted: dict[str, tuple[Mapping[str, T], dict[str, list[T]]]] = {}

    def items(self) -> Mapping[str, T] | ApiFault:
        """All items by name, or why they cannot be known."""
        picture = self.snapshot.picture(max(0.0, self._until_s - time.monotonic()))
        return picture.trouble(time.monotonic(), self._max_age_s) or picture.items

    def sorted_by(self, what: str, value: Callable[[T], str]) -> Mapping[str, Sequence[T]] | ApiFault:
        """The items by one of their values, sorted out once per picture: looking 20,000 pods through for each of 1,000
        pools would take seconds. `what` names the value.
        """
        items = self.items()
        if isinstance(items, ApiFault):
            return items
        with self._sorting:
            of, index = self._sorted.get(what, (None, {}))
            if of is not items:
                index = defaultdict(list)
                for one in items.values():
                    index[value(one)].append(one)
                self._sorted[what] = items, index
            return index


class Views:
    """Live lists of one cluster. Thread-safe."""

    def __init__(self, api: Api, patience_s: float = PATIENCE_S, watch_s: int = WATCH_S) -> None:
        self._api, self._patience_s, self._watch_s = api, patience_s, watch_s
        self._lock = threading.Lock()  # never held while waiting for a server
        self._followed: dict[tuple[str, str], Followed[Any]] = {}

    def objects(self, resource: Resource, namespace: str) -> Mapping[str, Scalable] | ApiFault:
        """The targets of one kind, by name."""
        return self._follow(resource.within(namespace), scalable).items()

    def role_sets(self, resource: Resource, namespace: str) -> Mapping[str, RoleSet] | ApiFault:
        """The targets of one kind that has roles inside, by name."""
        return self._follow(resource.within(namespace), role_set).items()

    def pods(self, namespace: str, selector: str) -> tuple[Pod, ...] | ApiFault:
        """The pods behind a target, workers of its groups included although the selector of `/scale` names leaders only."""
        path, terms = listing("/api/v1", "pods", namespace), group_terms(selector)
        followed = self._follow(path, pod, {"labelSelector": SET if terms else selector})
        if not terms:
            items = followed.items()
            return items if isinstance(items, ApiFault) else tuple(items.values())
        label, value = next(iter(terms.items()))
        found = followed.sorted_by(label, lambda one: one.labels.get(label, ""))
        return found if isinstance(found, ApiFault) else tuple(one for one in found.get(value, ()) if one.matches(terms))

    def children(self, namespace: str, set_name: str) -> Sequence[Child] | ApiFault:
        """The LeaderWorkerSets of a DisaggregatedSet."""
        path = listing(SETS, "leaderworkersets", namespace)
        found = self._follow(path, child, {"labelSelector": OF_SET}).sorted_by(OF_SET, lambda one: one.labels[OF_SET])
        return found if isinstance(found, ApiFault) else found.get(set_name, ())

    def rivals(self, namespace: str, kinds: Sequence[str]) -> tuple[Rival, ...] | ApiFault:
        """Every other autoscaler of these kinds in a namespace; an ApiFault if one kind cannot be listed."""
        found: list[Rival] = []
        for kind in kinds:
            prefix, plural = LISTS[kind]
            items = self._follow(listing(prefix, plural, namespace), keeper(kind), optional=True).items()
            if isinstance(items, ApiFault):
                return ApiFault(items.status, items.reason, f"whether a {kind} scales it is not known: {items.detail}")
            found.extend(items.values())
        return tuple(found)

    def told(self, namespace: str) -> Told:
        """What events say. They come on top of what pods and counts say: what cannot be read is empty."""
        path = listing("/api/v1", "events", namespace)
        complaints: Mapping[str, Complaint] | ApiFault = self._follow(path, complaint, NOT_CREATED).items()
        answers = self._follow(path, answer, ABOUT_NODES).sorted_by("pod", lambda one: one.pod)
        return Told(
            () if isinstance(complaints, ApiFault) else complaints.values(),
            {} if isinstance(answers, ApiFault) else answers,
        )

    def stop(self) -> None:
        """Follow nothing any more."""
        with self._lock:
            followed = tuple(self._followed.values())
        for one in followed:
            one.snapshot.stop()

    def _follow(
        self, path: str, keep: Callable[[Body], T | None], query: Mapping[str, str] | None = None, *, optional: bool = False
    ) -> Followed[T]:
        key = path, "&".join((query or {}).values())
        with self._lock:
            found = self._followed.get(key)
            if found is None or found.snapshot.ended:
                for gone in [known for known, one in self._followed.items() if one.snapshot.ended]:
                    del self._followed[gone]
                snapshot = Snapshot(self._api, path, keep, query, optional=optional, watch_s=self._watch_s, idle_s=IDLE_S)
                found = self._followed[key] = Followed(snapshot, self._patience_s, self._watch_s + SLACK_S)
        return cast("Followed[T]", found)


def group_terms(selector: str) -> dict[str, str]:
    """What a selector asks of the groups of LeaderWorkerSets, their place in it left out; empty for any other selector."""
    pairs = [term.split("=") for term in selector.split(",")]
    if not all(len(pair) == 2 and pair[0].startswith(GROUPED) for pair in pairs):
        return {}
    return {key: value for key, value in pairs if key != PLACE}
