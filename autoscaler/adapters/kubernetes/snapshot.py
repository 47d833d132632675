"""What does the cluster hold now, without asking it at every tick?

One thread per kind (in one namespace, with one selector) lists once and then watches. A reader gets an immutable
`Picture` and never waits for the server. It is copied when somebody looks after a change, not at every event: a copy of
20,000 pods takes 0.2 ms, and a node that goes down is thousands of events.

Is it still true? A healthy watch ends in good order after WATCH_S and is reopened at once, so silence longer than that
is a broken connection, and a picture older than WATCH_S + SLACK_S is not believed. A connection that breaks is reopened at
once and only if that fails is there a fault: load balancers cut idle connections all the time. History that is gone
(410) means listing again. Retries back off to BACKOFF_S with jitter, so that a hundred watches do not return together.
Every RELIST_S all is listed anew: after etcd was restored from a backup a watch ends in good order and tells nothing.

A list that nobody has looked at for `idle_s` ends by itself: policies come and go, and a watch costs a thread here and a
connection there.

The client's own informer crashes on custom objects and its watch retries an expired version for ever
(reference/python.md 1.3, 1.4).
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from autoscaler.adapters.kubernetes.api import Api, ApiFault, Body, Stream

WATCH_S = 30
SLACK_S = 15.0
BACKOFF_S = 10.0
RELIST_S = 600.0
SHORTEST_S = 1.0  # a watch that ends sooner is not reopened before, whoever ends it
PAGE = "500"
GONE = 410

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture(Generic[T]):
    """What was known at `seen_s` (monotonic): one item per name. `fault` tells why nothing newer is known."""

    items: Mapping[str, T] = field(default_factory=dict)
    seen_s: float = float("-inf")
    fault: ApiFault | None = None

    def trouble(self, now_s: float, max_age_s: float) -> ApiFault | None:
        """Why this may not be believed at `now_s` (monotonic); None if it may."""
        if self.fault is None and now_s - self.seen_s > max_age_s:
            return ApiFault(0, "Silent", f"nothing heard for {now_s - self.seen_s:.0f} s")
        return self.fault


class Snapshot(Generic[T]):
    """A live list of one path. `keep` cuts an object down to what is used; None leaves it out.

    `optional`: a path that does not exist (its CRD is not installed) is an empty list, looked for again later.
    `idle_s`: how long it is followed without anybody looking; then `ended` is set, and a new one must be made.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        keep: Callable[[Body], T | None],
        query: Mapping[str, str] | None = None,
        *,
        optional: bool = False,
        watch_s: int = WATCH_S,
        idle_s: float = math.inf,
    ) -> None:
        self._api, self._path, self._keep, self._query = api, path, keep, dict(query or {})
        self._optional, self._watch_s, self._idle_s = optional, watch_s, idle_s
        self._looked_s = time.monotonic()
        self._lock = threading.Lock()  # held for moments, never while waiting for the server
        self._items: dict[str, T] = {}
        self._picture: Picture[T] = Picture()
        self._outdated = False
        self._version, self._listed_s = "", 0.0
        self._first, self._stop = threading.Event(), threading.Event()
        self._stream: Stream | None = None
        threading.Thread(target=self._follow, name=f"watch {path}", daemon=True).start()

    def picture(self, patience_s: float = 0.0) -> Picture[T]:
        """What is known; waits up to `patience_s` for the first answer of a server that was never heard."""
        self._looked_s = time.monotonic()
        self._first.wait(patience_s)
        if not self._first.is_set():
            return Picture(fault=ApiFault(0, "Unanswered", f"no answer yet about {self._path}"))
        with self._lock:
            if self._outdated:
                self._picture, self._outdated = replace(self._picture, items=dict(self._items)), False
            return self._picture

    @property
    def ended(self) -> bool:
        """It is followed no longer."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End the thread; the last picture stays."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.stop()

    def _follow(self) -> None:
        failures = 0
        while not self._stop.is_set():
            if time.monotonic() - self._looked_s > self._idle_s:
                self._retire()
                break
            fault = self._once()
            if fault is None:
                failures = 0
            elif fault.status == GONE:  # at once, but not all watches in the same moment
                self._version = ""
                self._stop.wait(SHORTEST_S * random.random())  # noqa: S311
            else:
                failures += 1
                self._hear(fault)
                # full jitter over the upper half: 0.5..1 s after the first failure, 5..10 s at last
                self._stop.wait(min(BACKOFF_S, 2.0 ** (failures - 1)) * random.uniform(0.5, 1.0))  # noqa: S311

    def _retire(self) -> None:
        """Nobody looks any more: hold nothing, and be known to know nothing to one who looks at this very moment."""
        with self._lock:
            fault = ApiFault(0, "Ended", "nobody looked for long; the next look begins anew")
            self._items, self._picture, self._outdated = {}, Picture(fault=fault), False
        self._first.set()
        self._stop.set()

    def _once(self) -> ApiFault | None:
        try:
            if self._version and time.monotonic() - self._listed_s < RELIST_S:
                return self._watch()
            return self._list()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._version = ""
            return ApiFault(0, "Malformed", f"{self._path} answers what no list is: {type(error).__name__} {error}")

    def _list(self) -> ApiFault | None:
        items: dict[str, T] = {}
        page = {"limit": PAGE}
        while True:
            answer = self._api.get(self._path, **self._query, **page)
            if isinstance(answer, ApiFault):
                return self._missing(answer)
            kept = ((body["metadata"]["name"], self._keep(body)) for body in answer.get("items") or ())
            items |= {name: one for name, one in kept if one is not None}
            metadata = answer.get("metadata") or {}
            if not metadata.get("continue"):
                break
            page["continue"] = metadata["continue"]
        self._version, self._listed_s = metadata["resourceVersion"], time.monotonic()
        self._learn(items)
        return None

    def _missing(self, fault: ApiFault) -> ApiFault | None:
        if not (self._optional and fault.status == 404):
            return fault
        self._learn({})
        self._stop.wait(self._watch_s)
        return None

    def _watch(self) -> ApiFault | None:
        """Follow until the server ends it. A fault only if nothing could be opened, or the server said why it stopped."""
        opened = self._api.watch(self._path, self._watch_s, resourceVersion=self._version, **self._query)
        if isinstance(opened, ApiFault):
            return opened
        self._hear()
        opened_s = time.monotonic()
        self._stream = opened
        if self._stop.is_set():  # `stop` came before there was a stream to end
            opened.stop()
        for event in opened:
            if self._stop.is_set():
                break
            if isinstance(event, ApiFault):  # broken while open: not a fault before reopening fails
                self._stop.wait(max(0.0, SHORTEST_S - (time.monotonic() - opened_s)))
                return None
            if event.get("type") == "ERROR":
                status = event.get("object") or {}
                code = int(status.get("code") or 0)
                return ApiFault(code, str(status.get("reason") or "Error"), str(status.get("message", "")))
            self._follow_event(event)
        self._hear()
        self._stop.wait(max(0.0, SHORTEST_S - (time.monotonic() - opened_s)))
        return None

    def _follow_event(self, event: Body) -> None:
        body = event["object"]
        self._version = body["metadata"]["resourceVersion"]
        if event["type"] != "BOOKMARK":
            name, kept = body["metadata"]["name"], None if event["type"] == "DELETED" else self._keep(body)
            with self._lock:
                self._outdated = True
                if kept is None:
                    self._items.pop(name, None)
                else:
                    self._items[name] = kept
        self._hear()

    def _learn(self, items: dict[str, T]) -> None:
        with self._lock:
            self._items, self._outdated = items, True
        self._hear()

    def _hear(self, fault: ApiFault | None = None) -> None:
        """The server was heard just now, or `fault` tells why not."""
        with self._lock:
            seen_s = self._picture.seen_s if fault else time.monotonic()
            self._picture = replace(self._picture, seen_s=seen_s, fault=fault)
        self._first.set()
