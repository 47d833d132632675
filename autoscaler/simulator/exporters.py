"""How can a real Prometheus watch a simulated fleet?

`RealTimeFleet` lets an engine run at the pace of a clock and gives every replica its own /metrics page, and the
gateway one, each on a free port of 127.0.0.1. Which pages there are stands in a file of targets (Prometheus' file_sd
format, with the labels `namespace` and `pod` that a cluster would give them), rewritten whenever a replica comes or
goes; a page closes with its replica. A starting replica has none, as an engine that loads its weights answers nothing.

One thread keeps the engine moving and the pages in step with the replicas. Readers (pages, `fleet`, `scale`) may come
from any thread: each first brings the engine up to the clock, under the one lock there is. Counters count in the
engine's seconds: with a `speed` other than 1 a Prometheus that scrapes by the wall clock sees `speed` times the load.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, ThreadingWSGIServer, generate_latest

from autoscaler.core.action import Flip, Outcome
from autoscaler.core.fleet import Fleet, Pool, Role
from autoscaler.simulator.cluster import SimulatedCluster
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.exposition import gateway_families, replica_families
from autoscaler.simulator.replicas import SimReplica

STEP_S = 0.1
CLOSING_POLL_S = 0.05
GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class FleetLabels:
    """What a cluster and its operator would call this fleet. `model` is the served model's name."""

    namespace: str
    model: str
    engine_job: str = "vllm"
    gateway_job: str = "llm-d-epp"


class _Page:
    """One /metrics page, open from its making to `close`, always in the classic text format.

    The library's own server would answer Prometheus 2.42 in OpenMetrics, where prometheus_client 0.26 turns the colon
    of `vllm:` into an underscore (client_python issue 1177).
    """

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self.collect = families
        self._server = make_server("127.0.0.1", 0, self._answer, ThreadingWSGIServer, handler_class=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(CLOSING_POLL_S,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Free the port; waits for the server's thread to end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        """Any path is the page, as with the library's server."""
        text = generate_latest(self)
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4), ("Content-Length", str(len(text)))])
        return [text]


class _Quiet(WSGIRequestHandler):
    """Logs no scrape: one line per second and replica would be all that a terminal shows."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library's name
        """Say nothing."""


class RealTimeFleet:
    """An engine at the pace of `now()` x `speed`, and its pages. Use as a context: leaving it closes every page.

    `fault` is what the source of requests raised, a trace's bad row for one; None while all is well.
    """

    def __init__(
        self,
        engine: Engine,
        labels: FleetLabels,
        targets_file: Path,
        *,
        speed: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._labels, self._targets_file = engine, labels, targets_file
        self._speed, self._now, self._began = speed, now, now()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated fleet", daemon=True)
        self._pages: dict[str, _Page] = {}
        self.fault: ValueError | None = None

    def __enter__(self) -> RealTimeFleet:
        self.step()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for page in self._pages.values():
            page.close()

    def step(self) -> None:
        """Bring the engine up to the clock and the pages in step with the replicas. For one thread at a time."""
        with self._lock:
            self._catch_up()
            replicas = {replica.name: replica for pool in self._engine.pools.values() for replica in pool.exposed()}
        if {*replicas, GATEWAY} != self._pages.keys():
            self._open_and_close(replicas)

    def fleet(self) -> tuple[Fleet, float]:
        """The fleet as it stands, and the engine's time. Safe to call from any thread."""
        with self._lock:
            self._catch_up()
            fleet, now = self._engine.fleet(), self._engine.now
        return replace(fleet, pools={role: self._addressed(pool) for role, pool in fleet.pools.items()}), now

    def _addressed(self, pool: Pool) -> Pool:
        """With the address of each replica's page."""
        pages = self._pages.copy()
        replicas = (replace(one, address=pages[one.name].address) if one.name in pages else one for one in pool.replicas)
        return replace(pool, replicas=tuple(replicas))

    def scale(self, role: Role, expected: int, replicas: int) -> bool:
        """Ask for `replicas` if `expected` is what is asked for now. Safe to call from any thread."""
        with self._lock:
            self._catch_up()
            if self._engine.pools[role].desired != expected:
                return False
            self._engine.scale(role, replicas)
            return True

    def flip(self, flip: Flip) -> Outcome:
        """Have replicas change their role, if the pools still are what it was decided on. Safe to call from any thread."""
        with self._lock:
            self._catch_up()
            engine = self._engine
            return SimulatedCluster(engine).apply(engine.spec.key, flip, engine.now, term=0)

    def _run(self) -> None:
        while not self._stop.wait(STEP_S):
            self.step()

    def _catch_up(self) -> None:
        """Advance to the clock. A source of requests that breaks ends the arrivals, not the fleet; `fault` keeps why."""
        try:
            self._engine.advance(max(self._engine.now, (self._now() - self._began) * self._speed))
        except ValueError as fault:
            self.fault = fault

    def _open_and_close(self, replicas: Mapping[str, SimReplica]) -> None:
        for name in self._pages.keys() - replicas.keys() - {GATEWAY}:
            self._pages.pop(name).close()
        for name in replicas.keys() - self._pages.keys():
            self._pages[name] = _Page(partial(self._replica_page, replicas[name]))
        if GATEWAY not in self._pages:
            self._pages[GATEWAY] = _Page(self._gateway_page)
        self._write_targets()

    def _replica_page(self, replica: SimReplica) -> list[Metric]:
        with self._lock:
            self._catch_up()
            replica.refresh(self._engine.now)
            return list(replica_families(replica.server.metrics, replica.occupancy(), self._labels.model))

    def _gateway_page(self) -> list[Metric]:
        with self._lock:
            self._catch_up()
            return list(gateway_families(self._engine.gateway, self._labels.model))

    def _write_targets(self) -> None:
        """In one piece: Prometheus must never read half a file."""
        targets = [
            {"targets": [page.address], "labels": {"namespace": self._labels.namespace, "pod": name, "job": self._job(name)}}
            for name, page in sorted(self._pages.items())
        ]
        whole = self._targets_file.with_name(self._targets_file.name + ".new")
        whole.write_text(json.dumps(targets, indent=1), encoding="utf-8")
        whole.replace(self._targets_file)

    def _job(self, name: str) -> str:
        return self._labels.gateway_job if name == GATEWAY else self._labels.engine_job
