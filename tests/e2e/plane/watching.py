"""What has been seen of pods while something was done to them?

`Watching` notes every event of every pod of a namespace, in order, and what its engine had to do at that moment; beside that
it adds up the GPUs of all pods that are not gone, every SAMPLE_S, from a list that the API server makes at that instant.
`Steps` notes when each transaction that is stored came to which step.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from autoscaler.adapters.kubernetes import KubeApi
from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.kubernetes.snapshot import Snapshot
from autoscaler.core.transaction import PATHS, Kind, Step, Transaction
from tests.e2e.plane.town import Town
from tests.engines.routing import LABEL

SAMPLE_S = 0.05
POLL_S = 0.01
FIRST_LIST_S = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sighting:
    """One event of a pod. `open`: requests in its engine then, 0 where it has none."""

    at_s: float
    pod: str
    uid: str
    label: str | None
    ready: bool
    going: bool
    open: int


class Watching:
    """Use as a context, around what is done."""

    def __init__(self, town: Town) -> None:
        self._town, self.sightings = town, list[Sighting]()
        self.gpus: list[int] = []
        self._path = f"/api/v1/namespaces/{town.namespace}/pods"
        self._pods: Snapshot[str] = Snapshot(town.api, self._path, self._keep)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="samples", daemon=True)

    def __enter__(self) -> Self:
        assert self._pods.picture(FIRST_LIST_S).fault is None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pods.stop()

    def of(self, pod: str) -> list[Sighting]:
        """What was seen of a pod of this name."""
        return [one for one in self.sightings.copy() if one.pod == pod]

    def labels(self, pod: str) -> list[str | None]:
        """The values that its label had, one after another."""
        return _changes([one.label for one in self.of(pod)])

    def readiness(self, pod: str) -> list[bool]:
        """Likewise whether it was Ready."""
        return _changes([one.ready for one in self.of(pod)])

    def deleted_at_s(self, pod: str) -> float:
        """When its deletion began."""
        return next(one.at_s for one in self.of(pod) if one.going)

    def busy_when_deleted(self) -> list[str]:
        """The pods whose deletion began while requests were in their engines."""
        gone: dict[str, Sighting] = {}
        for one in self.sightings.copy():
            if one.going:
                gone.setdefault(one.uid, one)
        return [one.pod for one in gone.values() if one.open]

    def _keep(self, body: dict[str, Any]) -> str:
        metadata, conditions = body["metadata"], (body.get("status") or {}).get("conditions") or ()
        engine = self._town.fleet.engines.get(metadata["name"])
        found = Sighting(
            time.monotonic(),
            metadata["name"],
            metadata["uid"],
            (metadata.get("labels") or {}).get(LABEL),
            any(one["type"] == "Ready" and one["status"] == "True" for one in conditions),
            "deletionTimestamp" in metadata,
            engine.open if engine is not None else 0,
        )
        self.sightings.append(found)
        return found.uid

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            found = gpus_held(self._town.api, self._path)
            if found is not None:
                self.gpus.append(found)


def gpus_held(api: KubeApi, path: str) -> int | None:
    """Of all pods that are not gone, whatever their phase; None if the server did not answer."""
    answer = api.get(path)
    if isinstance(answer, ApiFault):
        return None
    limits = [container["resources"].get("limits") or {} for pod in answer["items"] for container in pod["spec"]["containers"]]
    return sum(int(one.get("nvidia.com/gpu", 0)) for one in limits)


class Steps:
    """When which transaction came to which step. Use as a context."""

    def __init__(self, under_way: Callable[[], Sequence[Transaction]]) -> None:
        self._under_way, self._stop = under_way, threading.Event()
        self.came: list[tuple[float, str, Step | None]] = []  # None: it is stored no more
        self._thread = threading.Thread(target=self._run, name="steps", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def went(self, kind: Kind) -> bool:
        """Whether one transaction of this kind went its path from the first step on, and ended. What lasts for milliseconds
        only, since it was true already, may not have been seen.
        """
        *seen, last = [step for _, _, step in self.came]
        return last is None and seen[:1] == [PATHS[kind][0]] and seen == [step for step in PATHS[kind] if step in seen]

    def at(self, step: Step | None) -> float:
        """When the first of them came to it."""
        return next(at_s for at_s, _, one in self.came if one is step)

    def _run(self) -> None:
        known: dict[str, Step] = {}
        while not self._stop.wait(POLL_S):
            now, found = time.monotonic(), {one.key: one.step for one in self._under_way()}
            self.came += [(now, key, step) for key, step in found.items() if known.get(key) is not step]
            self.came += [(now, key, None) for key in known.keys() - found.keys()]
            known = found


def _changes(values: Sequence[T]) -> list[T]:
    return [value for place, value in enumerate(values) if place == 0 or value != values[place - 1]]
