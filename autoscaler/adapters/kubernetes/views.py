"""Which lists are followed, and what do they say now?

A list is followed from its first use on, one thread each: objects by kind and namespace; pods once per namespace for
all LeaderWorkerSets together (whoever makes them), by selector for every other target; other autoscalers by kind, and
events of refused pods, per namespace. So 500 fleets of LeaderWorkerSets in one namespace need six threads, and 500
pairs of Deployments a thousand.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from autoscaler.adapters.kubernetes.api import CONNECT_S, READ_S, Api, ApiFault, Body
from autoscaler.adapters.kubernetes.complaints import Complaint, complaint
from autoscaler.adapters.kubernetes.objections import LISTS, Rival, keeper
from autoscaler.adapters.kubernetes.pods import GROUPED, PLACE, SET, Pod, pod
from autoscaler.adapters.kubernetes.snapshot import SLACK_S, WATCH_S, Snapshot
from autoscaler.adapters.kubernetes.targets import Resource, Scalable, listing, scalable

PATIENCE_S = CONNECT_S + READ_S + 1.0  # for the first answer of a list; later reads wait for nothing
T = TypeVar("T")


class Views:
    """Live lists of one cluster."""

    def __init__(self, api: Api, watch_s: int = WATCH_S) -> None:
        self._api, self._watch_s = api, watch_s
        self._snapshots: dict[tuple[str, str], Snapshot[Any]] = {}
        self._indexes: dict[tuple[str, str], tuple[Mapping[str, Pod], dict[str, list[Pod]]]] = {}

    def objects(self, resource: Resource, namespace: str) -> Mapping[str, Scalable] | ApiFault:
        """The targets of one kind, by name."""
        return self._items(resource.within(namespace), scalable)

    def pods(self, namespace: str, selector: str) -> tuple[Pod, ...] | ApiFault:
        """The pods behind a target, workers of its groups included although the selector of `/scale` names leaders only."""
        path, terms = listing("/api/v1", "pods", namespace), _group_terms(selector)
        items = self._items(path, pod, {"labelSelector": SET if terms else selector})
        if isinstance(items, ApiFault):
            return items
        if not terms:
            return tuple(items.values())
        label, value = next(iter(terms.items()))
        return tuple(one for one in self._indexed(path, items, label).get(value, ()) if one.matches(terms))

    def rivals(self, namespace: str) -> tuple[Rival, ...] | ApiFault:
        """Every other autoscaler in a namespace; an ApiFault if one kind cannot be listed."""
        found: list[Rival] = []
        for kind, (prefix, plural) in LISTS.items():
            items = self._items(listing(prefix, plural, namespace), keeper(kind), optional=True)
            if isinstance(items, ApiFault):
                return ApiFault(items.status, items.reason, f"whether a {kind} scales it is not known: {items.detail}")
            found.extend(items.values())
        return tuple(found)

    def complaints(self, namespace: str) -> tuple[Complaint, ...]:
        """Pods that could not be created. Only told, never decided on: what cannot be read is empty."""
        items = self._items(listing("/api/v1", "events", namespace), complaint, {"fieldSelector": "reason=FailedCreate"})
        return () if isinstance(items, ApiFault) else tuple(items.values())

    def stop(self) -> None:
        """Follow nothing any more."""
        for snapshot in self._snapshots.values():
            snapshot.stop()

    def _indexed(self, path: str, items: Mapping[str, Pod], label: str) -> Mapping[str, Sequence[Pod]]:
        """The pods by their value of a label, sorted out once per picture: looking 20,000 pods through for each of 1,000
        pools would take seconds.
        """
        of, index = self._indexes.get((path, label), (None, {}))
        if of is not items:
            index = defaultdict(list)
            for one in items.values():
                index[one.labels.get(label, "")].append(one)
            self._indexes[path, label] = items, index
        return index

    def _items(
        self, path: str, keep: Callable[[Body], T | None], query: Mapping[str, str] | None = None, *, optional: bool = False
    ) -> Mapping[str, T] | ApiFault:
        key = path, "&".join((query or {}).values())
        if key not in self._snapshots:
            self._snapshots[key] = Snapshot(self._api, path, keep, query, optional=optional, watch_s=self._watch_s)
        picture = self._snapshots[key].picture(PATIENCE_S)
        return picture.trouble(time.monotonic(), self._watch_s + SLACK_S) or picture.items


def _group_terms(selector: str) -> dict[str, str]:
    """What a selector asks of the groups of LeaderWorkerSets, their place in it left out; empty for any other selector."""
    pairs = [term.split("=") for term in selector.split(",")]
    if not all(len(pair) == 2 and pair[0].startswith(GROUPED) for pair in pairs):
        return {}
    return {key: value for key, value in pairs if key != PLACE}
