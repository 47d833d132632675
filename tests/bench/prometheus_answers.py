"""What would a Prometheus answer to the very queries the adapter sends? The bytes, without a socket.

`CannedPrometheus` is a transport for the adapter's HTTP session. `Answers` reads which signals and pods a query asks for, and
answers as Prometheus does: compact JSON, labels in alphabetical order, rows grouped by signal, histograms with vLLM's and
the gateway's edges as Python's exporters spell them, counts with the long fractions that `increase` gives.
tests/adapters/test_prometheus_server.py holds its rows against a real server's. An answer is made when a query is first
seen and kept, so that a second `read` of the same fleets costs what the product costs.

    python -m tests.bench.prometheus_answers      prints what reading one large fleet and 1,000 fleets costs
"""

from __future__ import annotations

import io
import json
import random
import re
import resource
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import parse_qs

import requests
import urllib3
from requests.adapters import HTTPAdapter

from autoscaler.adapters.prometheus import Endpoint, PrometheusSignals
from autoscaler.adapters.prometheus.profile import SHAPES
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Unknown
from autoscaler.ports import FleetScope
from autoscaler.simulator.metrics import GATEWAY_TTFT_EDGES_S, TOKEN_TIME_EDGES_S, TTFT_EDGES_S
from tests.fakes import merged

URL = "http://prometheus.invalid:9090"
EVALUATED_AT = 1_790_000_000.123
EDGES: Mapping[str, Sequence[float]] = {
    "prefill.latency": TTFT_EDGES_S,
    "decode.latency": TOKEN_TIME_EDGES_S,
    "traffic.ttft": GATEWAY_TTFT_EDGES_S,
    "prefill.service": (),
    "decode.service": (),
}
# (lowest, highest) of what a steady fleet shows: 128 requests a second for 64 replicas, prompts of 1,500 tokens.
RANGES: Mapping[str, tuple[float, float]] = {
    "pods.waiting": (0, 3),
    "pods.running": (4, 48),
    "pods.kv_usage": (0.2, 0.7),
    "pods.age_s": (0.2, 14.8),
    "pods.deferred": (1, 3),
    "prefill.tokens_per_request": (1100, 1200),
    "decode.tokens_per_request": (190, 210),
    "traffic.offered_rps": (39, 41),
    "traffic.rejected_rps": (0, 1),
    "traffic.held": (0, 3),
    "traffic.direct_share": (0.1, 0.2),
    "traffic.prompt_tokens": (1480, 1520),
    "traffic.age_s": (0.2, 14.8),
}
# A sidecar that turns one of 40 away, and what it tells of shadow mode.
PARTS: Mapping[str, Mapping[tuple[str, ...], float]] = {
    "door.verdicts": {("shadow", "admit", "fits", "free"): 39.0, ("shadow", "reject", "ttft", "free"): 1.0},
    "door.hindsight": {("rejected", "both"): 0.025, ("missed", "least"): 0.0, ("missed", "most"): 0.02},
}
WHOLE = frozenset({"pods.waiting", "pods.running", "pods.deferred", "traffic.held"})
TOLD_BY_EVERY = {"pods.deferred": 4}  # a pod that defers nothing is not in the answer
LOAD = frozenset({"traffic.offered_rps"})
_SIGNAL = re.compile(r', "signal", "([^"]+)", "", ""\)')
_PODS = re.compile(r'pod=~"([^"]*)"')


def fleets(count: int, replicas: int, gateway: str | None = "llm-d") -> list[FleetScope]:
    """`count` fleets of `replicas` pods, half of them prefill, ten to a namespace, each with a model of its own."""
    return [
        FleetScope(
            key=f"team-{number // 10}/chat-{number}",
            namespace=f"team-{number // 10}",
            model=f"meta-llama/Llama-3.1-70B-Instruct-{number}",
            engine="vllm",
            gateway=gateway,
            pods={
                role: tuple(f"chat-{number}-{role}-{index}" for index in range(share))
                for role, share in ((Role.PREFILL, replicas // 2), (Role.DECODE, replicas - replicas // 2))
            },
        )
        for number in range(count)
    ]


class Answers:
    """The bytes that answer instant queries about `scopes`, as forms carry them. Thread-safe."""

    def __init__(self, scopes: Iterable[FleetScope], seed: int = 1) -> None:
        self._scopes = tuple(scopes)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._load: dict[str, float] = {}
        self._answers: dict[str, bytes] = {}
        self._next: dict[str, bytes] = {}
        self.changed_s: dict[str, float] = {}

    def to(self, form: str) -> bytes:
        """The answer to a form. One that `shift` made ready is the next one's; the worst moment for a change to come."""
        with self._lock:
            if form not in self._answers:
                self._answers[form] = self._answer(form)
            answer = self._answers[form]
            if form in self._next:
                self._answers[form] = self._next.pop(form)
                self.changed_s |= dict.fromkeys((one.key for one in self._asked(_query(form))), time.monotonic())
            return answer

    def shift(self, load: Mapping[str, float]) -> None:
        """Let these fleets get so many times the load, in every answer after the next one. `changed_s` tells when (monotonic)."""
        with self._lock:
            self._load |= load
            self.changed_s = {}
            self._next = {form: self._answer(form) for form in self._answers}

    @property
    def size(self) -> int:
        """Bytes of all answers made so far."""
        return sum(map(len, self._answers.values()))

    def _asked(self, query: str) -> list[FleetScope]:
        pods = {pod for names in _PODS.findall(query) for pod in names.split("|")}
        return [scope for scope in self._scopes if not pods.isdisjoint(_pods(scope))]

    def _answer(self, form: str) -> bytes:
        query = _query(form)
        asked = self._asked(query)
        rows = [row for signal in _SIGNAL.findall(query) for row in self._rows(signal, asked)]
        envelope = {"status": "success", "data": {"resultType": "vector", "result": rows}}
        return json.dumps(envelope, separators=(",", ":")).encode()

    def _rows(self, signal: str, scopes: Sequence[FleetScope]) -> Iterator[dict[str, Any]]:
        shape = SHAPES[signal]
        per_pod = shape.owner == "pod"
        of = {(scope.namespace, owner): scope.key for scope in scopes for owner in (_pods(scope) if per_pod else [scope.model])}
        for (namespace, owner), key in sorted(of.items())[:: TOLD_BY_EVERY.get(signal, 1)]:
            labels = {"namespace": namespace, shape.owner: owner, "signal": signal}
            if shape.buckets:
                yield from self._buckets(labels, EDGES[signal])
            elif shape.parts:
                for part, value in PARTS[signal].items():
                    yield _row({**dict(zip(shape.parts, part, strict=True)), **labels}, value)
            else:
                value = self._random.uniform(*RANGES[signal]) * (self._load.get(key, 1.0) if signal in LOAD else 1.0)
                yield _row(labels, round(value) if signal in WHOLE else value)

    def _buckets(self, labels: Mapping[str, str], edges: Sequence[float]) -> Iterator[dict[str, Any]]:
        steps = (self._random.randrange(40) * 60 / 59.4 for _ in range(len(edges) + 1))
        for edge, count in zip([*map(repr, edges), "+Inf"], accumulate(steps), strict=True):
            yield _row({"le": edge, **labels}, count)
        yield _row(labels, self._random.uniform(50, 5000))


class CannedPrometheus(HTTPAdapter):
    """Answers instant queries about `scopes` by itself; counts them."""

    def __init__(self, scopes: Iterable[FleetScope], seed: int = 1) -> None:
        super().__init__()
        self.queries = 0
        self._answers = Answers(scopes, seed)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """The transport's one method."""
        self.queries += 1
        body = io.BytesIO(self._answers.to(str(request.body)))
        raw = urllib3.HTTPResponse(body, {"Content-Type": "application/json"}, preload_content=False)
        raw.status = 200
        return self.build_response(request, raw)

    @property
    def answer_bytes(self) -> int:
        """The size of all answers made so far."""
        return self._answers.size


def canned(scopes: Sequence[FleetScope], **options: Any) -> tuple[PrometheusSignals, CannedPrometheus]:
    """The adapter with a canned Prometheus about `scopes` behind it."""
    signals, server = PrometheusSignals(Endpoint(URL), **options), CannedPrometheus(scopes)
    for client in (signals.client, signals.own_client):
        client.session.mount(f"{URL}/api/", server)
    return signals, server


def _query(form: str) -> str:
    return parse_qs(form)["query"][0]


def _pods(scope: FleetScope) -> list[str]:
    return [pod for names in scope.pods.values() for pod in names]


def _row(labels: Mapping[str, str], value: float) -> dict[str, Any]:
    spelled = f"{value:.0f}" if value == int(value) else repr(value)  # Go's shortest form
    return {"metric": dict(sorted(labels.items())), "value": [EVALUATED_AT, spelled]}


def _measure(count: int, replicas: int, repeats: int) -> None:
    scopes = fleets(count, replicas)
    signals, server = canned(scopes)
    read = merged(signals.read(scopes, 0.0))
    if any(isinstance(one.gauges, Unknown) for one in read.values()):
        raise SystemExit(f"a canned answer was not understood: {next(iter(read.values())).gauges}")
    server.queries = 0
    costs_ms = []
    for _ in range(repeats):
        started = time.process_time()
        merged(signals.read(scopes, 0.0))
        costs_ms.append((time.process_time() - started) * 1e3)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"read {count} fleets x {replicas} replicas: {sorted(costs_ms)[repeats // 2]:.1f} ms CPU (median of {repeats}), "
        f"{server.queries // repeats} queries, {server.answer_bytes / 1e6:.1f} MB of answers, peak {peak_mib:.0f} MiB\n"
    )


if __name__ == "__main__":
    _measure(1, 64, 51)
    _measure(1000, 20, 3)
