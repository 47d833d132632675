"""How does the SGLang model gateway take workers in and out? Its workers API and its discovery, as a stub router.

    GET    /workers, /workers/{id}   status pending | ready | not_ready | draining, worker_type, load
    POST   /workers                  202; 409 for a url that it has
    DELETE /workers/{id}             202: a ready worker gets nothing new from now on and is gone `settle_s` later

Discovery compares url and uid only: a live pod whose label changes from prefill to decode stays what it was. It has to be
out of both selectors until its worker is gone, and then come into the other one. Workers that were added by POST are none
of discovery's (reference/engines.md B.2).
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from autoscaler.core.fleet import Role
from tests.engines.engine import StubEngine
from tests.engines.loopback import NOT_FOUND, Answer, Loopback, Request, told


@dataclass(frozen=True, slots=True)
class Selected:
    """A pod that one of the two selectors matches now."""

    uid: str
    url: str
    role: Role


@dataclass(slots=True)
class _Worker:
    url: str
    kind: str
    uid: str | None = None
    gone_s: float | None = None  # when it will be gone; None: it is not draining
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class SmgStub:
    """One gateway. `forgets` has the urls it knows nothing of when asked, though it goes on routing to them."""

    def __init__(self, engine: Callable[[str], StubEngine | None], settle_s: float = 5.0) -> None:
        self.settle_s, self.forgets = settle_s, set[str]()
        self._engine, self._lock = engine, threading.Lock()
        self._all: list[_Worker] = []
        self.http = Loopback(self._answer)
        self.url = self.http.url

    def discover(self, pods: Iterable[Selected]) -> None:
        """One reconciliation with the pods that the selectors match now."""
        matched = {(pod.url, pod.uid): pod for pod in pods}
        with self._lock:
            known = {(worker.url, worker.uid): worker for worker in self._workers() if worker.uid}
            for key in known.keys() - matched.keys():
                self._drain(known[key])
            self._all += [_Worker(*_spec(pod)) for key, pod in matched.items() if key not in known]

    def routable(self, role: Role) -> list[StubEngine]:
        """The engines behind the ready workers of this type."""
        with self._lock:
            urls = [worker.url for worker in self._workers() if worker.kind == role and self._status(worker) == "ready"]
        engines = [self._engine(url) for url in urls]
        return [engine for engine in engines if engine is not None]

    def close(self) -> None:
        """End the server."""
        self.http.close()

    def _answer(self, request: Request) -> Answer | None:
        with self._lock:
            if request.path == "/workers":
                return self._add(request.body) if request.method == "POST" else self._list()
            found = [one for one in self._known() if request.path == f"/workers/{one.id}"]
            if not found:
                missing = {"error": f"{request.path} not found", "code": "WORKER_NOT_FOUND"}
                return told(missing, 404) if request.path.startswith("/workers/") else NOT_FOUND
            if request.method == "GET":
                return told(self._told(found[0]))
            self._drain(found[0])
            return told({"status": "accepted", "worker_id": found[0].id, "message": "removal queued"}, 202)

    def _add(self, body: Any) -> Answer:
        if not isinstance(body, dict) or not isinstance(body.get("url"), str):
            return told({"error": {"message": "url is missing", "type": "bad_request"}}, 400)
        if any(worker.url == body["url"] for worker in self._workers()):
            return told({"error": {"message": "worker exists", "type": "conflict"}}, 409)
        added = _Worker(body["url"], str(body.get("worker_type", "regular")))
        self._all.append(added)
        place = {"worker_id": added.id, "url": added.url, "location": f"/workers/{added.id}"}
        return told({"status": "accepted", **place, "message": "addition queued"}, 202)

    def _list(self) -> Answer:
        workers = [self._told(worker) for worker in self._known()]
        kinds = [worker["worker_type"] for worker in workers]
        stats = {f"{kind}_count": kinds.count(kind) for kind in ("prefill", "decode", "regular")}
        return told({"workers": workers, "total": len(workers), "stats": stats})

    def _told(self, worker: _Worker) -> dict[str, Any]:
        engine, status = self._engine(worker.url), self._status(worker)
        labels = {"smg.ai/pod-uid": worker.uid} if worker.uid else {}
        fields = {"id": worker.id, "url": worker.url, "worker_type": worker.kind, "labels": labels, "status": status}
        return fields | {"is_healthy": status == "ready", "load": engine.open if engine else 0, "connection_mode": "http"}

    def _status(self, worker: _Worker) -> str:
        if worker.gone_s is not None:
            return "draining"
        engine = self._engine(worker.url)
        return "ready" if engine is not None and engine.accepting and engine.healthy else "not_ready"

    def _drain(self, worker: _Worker) -> None:
        """A worker that is not ready is removed without waiting."""
        if worker.gone_s is None:
            worker.gone_s = time.monotonic() + self.settle_s * (self._status(worker) == "ready")

    def _workers(self) -> list[_Worker]:
        now = time.monotonic()
        self._all = [worker for worker in self._all if worker.gone_s is None or worker.gone_s > now]
        return self._all

    def _known(self) -> list[_Worker]:
        return [worker for worker in self._workers() if worker.url not in self.forgets]


def _spec(pod: Selected) -> tuple[str, str, str]:
    return pod.url, str(pod.role), pod.uid
