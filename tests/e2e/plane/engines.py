"""What do the engines in the plane's pods tell Prometheus? kwok's pods have no process.

`Engines` follows the pods of one namespace and lets a simulated fleet (autoscaler/simulator) work behind them in real
time: a replica joins when a pod of its role is Ready, and goes when the pod goes. Every pod, and the gateway, has a page
of its own for a real Prometheus to scrape, with the labels that a cluster's discovery gives. A test says how many
requests arrive (`offer`); what they do to queues and latencies follows from the pods there are.

A pod is known by its name, so the simulated replicas are dealt to the names in order: when a pod other than the last one
is replaced, some counters start over, as they do in a restarted engine.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from prometheus_client.core import Metric

from autoscaler.adapters.kubernetes.api import Api
from autoscaler.adapters.kubernetes.snapshot import Snapshot
from autoscaler.core.fleet import Phase, Role
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.exposition import gateway_families, replica_families
from autoscaler.simulator.pools import SimReplica, StartUp
from autoscaler.simulator.workload import Request
from tests.adapters.prometheus_server import Exporters

STEP_S = 0.1
FIRST_LIST_S = 10.0
NUMBER = re.compile(r"\d+")


class OpenEngine(Engine):
    """A simulated fleet whose requests are brought one by one, by somebody who does not know the next one yet."""

    def take(self, request: Request) -> None:
        """Let everything happen up to this arrival, and then this."""
        self.advance(request.arrival_s)
        self._arrive(request)


class _Page:
    """What one scrape finds. `families` is called under the engine's lock."""

    def __init__(self, engines: Engines, replica: SimReplica | None) -> None:
        self._engines, self._replica = engines, replica

    def collect(self) -> Iterable[Metric]:
        """The families of a replica; of the gateway, where there is none."""
        return self._engines.families(self._replica)


class Engines:
    """The simulated fleet behind a namespace's pods. Use as a context.

    `pods` says per role which pods are its engines (a pattern for the whole name); `targets` is the file that a
    Prometheus discovers them by.
    """

    def __init__(
        self, api: Api, namespace: str, model: str, profile: ReplicaProfile, pods: Mapping[Role, str], targets: Path
    ) -> None:
        self._namespace, self._model, self._targets = namespace, model, targets
        self._patterns = {role: re.compile(pattern) for role, pattern in pods.items()}
        spec = FleetSpec(f"{namespace}/{model}", profile, dict.fromkeys(pods, PoolSpec(0)), StartUp(0.0))
        self._engine, self._began_s = OpenEngine(spec, ()), time.monotonic()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._random, self._rps, self._lengths, self._sent = Random(1), 0.0, (1, 1), 0
        self._arrival_s = 0.0
        self._dealt: dict[str, SimReplica] = {}
        self._exporters = Exporters()
        self._exporters.add("gateway", _Page(self, None), lambda: None, namespace=namespace, pod="gateway")
        self._ready = Snapshot(api, f"/api/v1/namespaces/{namespace}/pods", self._role_if_ready)
        self._thread = threading.Thread(target=self._run, name=f"engines of {namespace}", daemon=True)

    def __enter__(self) -> Engines:
        assert self._ready.picture(FIRST_LIST_S).fault is None
        self._step()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._ready.stop()
        self._exporters.close()
        self._targets.unlink(missing_ok=True)

    def offer(self, rps: float, prompt_tokens: int = 1000, output_tokens: int = 100) -> None:
        """From now on so many requests arrive each second, at random moments."""
        with self._lock:
            self._catch_up()
            self._rps, self._lengths = rps, (prompt_tokens, output_tokens)
            self._arrival_s = self._engine.now + self._gap_s()

    def families(self, replica: SimReplica | None) -> list[Metric]:
        """What this replica tells now, or the gateway."""
        with self._lock:
            self._catch_up()
            if replica is None:
                return list(gateway_families(self._engine.gateway, self._model))
            replica.server.refresh(self._engine.now)
            return list(replica_families(replica.server.metrics, replica.server.occupancy(), self._model))

    def _run(self) -> None:
        while not self._stop.wait(STEP_S):
            self._step()

    def _step(self) -> None:
        names = self._ready.picture().items
        with self._lock:
            self._catch_up()
            dealt = {name: one for role in self._patterns for name, one in self._deal(role, names)}
            changed = dealt != self._dealt
            gone, self._dealt = self._dealt.keys() - dealt.keys(), dealt
        if changed or not self._targets.exists():
            self._publish(gone, dealt)

    def _deal(self, role: Role, ready: Mapping[str, Role]) -> list[tuple[str, SimReplica]]:
        """As many replicas as pods of the role are ready, the oldest to the lowest number."""
        names = sorted((name for name, of in ready.items() if of is role), key=_by_number)
        pool = self._engine.pools[role]
        if pool.desired != len(names):
            self._engine.scale(role, len(names))
            self._engine.advance(self._engine.now)
        return list(zip(names, (one for one in pool.replicas if one.phase is Phase.SERVING), strict=True))

    def _publish(self, gone: Iterable[str], dealt: Mapping[str, SimReplica]) -> None:
        for name in gone:
            self._exporters.remove(name)
        for name, replica in dealt.items():
            self._exporters.add(name, _Page(self, replica), lambda: None, namespace=self._namespace, pod=name)
        whole = self._targets.with_suffix(".new")
        whole.write_text(json.dumps(self._exporters.targets))
        whole.replace(self._targets)  # in one piece: Prometheus never reads half a file

    def _catch_up(self) -> None:
        now = time.monotonic() - self._began_s
        while self._rps and self._arrival_s <= now:
            prompt, output = self._lengths
            self._sent += 1
            self._engine.take(Request(self._sent, self._arrival_s, prompt, 0, output))
            self._arrival_s += self._gap_s()
        self._engine.advance(now)

    def _gap_s(self) -> float:
        return self._random.expovariate(self._rps) if self._rps else 0.0

    def _role_if_ready(self, body: dict[str, Any]) -> Role | None:
        """The role of a pod that serves; its engine has the process id, so to say."""
        name, status = body["metadata"]["name"], body.get("status") or {}
        conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
        if conditions.get("Ready") != "True" or body["metadata"].get("deletionTimestamp"):
            return None
        return next((role for role, pattern in self._patterns.items() if pattern.fullmatch(name)), None)


def _by_number(name: str) -> list[int]:
    """engines-2 before engines-10."""
    return [int(number) for number in NUMBER.findall(name)]
