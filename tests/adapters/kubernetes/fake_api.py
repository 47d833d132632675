"""How do tests play an API server without one? Objects by path, watches that are fed by hand, patches that are kept."""

from __future__ import annotations

import queue
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from autoscaler.adapters.kubernetes.api import ApiFault, Body, Operation

NOT_FOUND = ApiFault(404, "NotFound", "the server could not find the requested resource")
REFUSED = ApiFault(0, "NewConnectionError", "Connection refused")
END = None


class FakeStream:
    """An open watch; ends with END, breaks with an ApiFault."""

    def __init__(self, events: queue.SimpleQueue[Body | ApiFault | None]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[Body | ApiFault]:
        while (event := self._events.get()) is not END:
            yield event
            if isinstance(event, ApiFault):
                return

    def stop(self) -> None:
        self._events.put(END)


class FakeApi:
    """Answers by path, the last one for ever; everything else is not found. A list of only some objects has its selector
    as a query behind the path where it is to differ from the whole list.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Body | ApiFault]] = {}
        self.refused_watches: dict[str, ApiFault] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.watched: list[tuple[str, dict[str, str]]] = []
        self.patched: list[tuple[str, list[Operation]]] = []
        self.events: dict[str, queue.SimpleQueue[Body | ApiFault | None]] = defaultdict(queue.SimpleQueue)

    def holds(self, path: str, *answers: Body | ApiFault) -> None:
        """Answer these in turn."""
        self.answers[path] = list(answers)

    def lists(self, path: str, *objects: Body, version: str = "1") -> None:
        self.holds(path, listed(*objects, version=version))

    def tell(self, path: str, kind: str, body: Body, version: str = "2") -> None:
        """An event for whoever watches."""
        self.events[path].put(event(kind, body, version))

    def get(self, path: str, **query: str) -> Body | ApiFault:
        self.asked.append((path, query))
        selected = "?".join((path, *(query[name] for name in ("labelSelector", "fieldSelector") if name in query)))
        answers = self.answers.get(selected) or self.answers.get(path, [NOT_FOUND])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        self.patched.append((path, list(operations)))
        return self.get(f"PATCH {path}")

    def delete(self, path: str, uid: str, version: str) -> Body | ApiFault:
        return self.get(f"DELETE {path}", uid=uid, version=version)

    def watch(self, path: str, timeout_s: int, **query: str) -> FakeStream | ApiFault:
        self.watched.append((path, query))
        return self.refused_watches.get(path) or FakeStream(self.events[path])

    def times_asked(self, path: str) -> int:
        return sum(asked == path for asked, _ in self.asked)


def listed(*objects: Body, version: str = "1", more: str = "") -> Body:
    """One page of a list."""
    return {"metadata": {"resourceVersion": version, "continue": more}, "items": list(objects)}


def event(kind: str, body: Body, version: str) -> Body:
    return {"type": kind, "object": {**body, "metadata": {**body.get("metadata", {}), "resourceVersion": version}}}


def named(name: str, **spec: Any) -> Body:
    return {"metadata": {"name": name, "uid": f"uid-of-{name}"}, "spec": spec}
