"""What happens in the fleet, in which order?

A discrete-event run on a virtual clock. Requests arrive at the gateway, which sends each to the least loaded serving
replica of the first role; done there, it goes to the least loaded of the next role, until the last one has given its
last token:

    arrive -> [wait for prefill] -> prefill -> [wait for decode] -> fetch KV -> decode -> finish

The user's TTFT runs from the arrival at the gateway to the first token out of decode, waiting, prefill, waiting and
fetching included: in a disaggregated engine nothing reaches the user before. TPOT is (finish - first token) /
(output - 1).

Every request ends in one of three ways: finished, refused (longer than a replica's context or KV cache: no engine
would take it, and in a queue it would block all behind it for ever), or still in flight. None is dropped. Memory holds
the requests in flight only; whoever wants to know what became of each is told once, by `Ledger`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from autoscaler.core.capacity import ReplicaProfile
from autoscaler.core.fleet import ROLE_FACTS, Fleet, Role, Sizing
from autoscaler.simulator.batch_server import BatchServer
from autoscaler.simulator.events import Agenda, Hooks, Job, Server
from autoscaler.simulator.metrics import GatewayMetrics, ReplicaMetrics
from autoscaler.simulator.pools import SimPool, StartUp
from autoscaler.simulator.queue_server import QueueServer
from autoscaler.simulator.workload import Request

_SERVERS: Mapping[Sizing, type[Server]] = {Sizing.QUEUE: QueueServer, Sizing.BATCH: BatchServer}


class Ledger(Protocol):
    """Is told what became of each request."""

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        """The last token was given."""
        ...

    def refused(self, request: Request) -> None:
        """No replica could ever hold it."""
        ...


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One role's pool at the beginning: replicas that serve at once, and GPUs each holds."""

    replicas: int
    gpus_per_replica: int = 1


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What is simulated. `pools` in the order in which a request passes them; `max_model_len` in tokens."""

    key: str
    profile: ReplicaProfile
    pools: Mapping[Role, PoolSpec]
    start_up: StartUp = StartUp()
    max_model_len: int = 131_072
    seed: int = 0


class Engine:
    """The fleet and its virtual clock. Requests must come sorted by arrival."""

    def __init__(self, spec: FleetSpec, requests: Iterable[Request], ledger: Ledger | None = None) -> None:
        self.spec, self.ledger = spec, ledger
        self.now = 0.0
        self.gateway = GatewayMetrics()
        self.in_flight: dict[int, Job] = {}
        self._requests = iter(requests)
        self._next = next(self._requests, None)
        self._agenda = Agenda()
        self._longest = min(spec.max_model_len, spec.profile.kv_tokens)
        self.pools = self._build(Random(spec.seed))  # noqa: S311 - a simulation, not a secret
        self._entry = self.pools[next(iter(spec.pools))]

    def advance(self, until_s: float) -> None:
        """Let everything happen up to and including `until_s`. An arrival comes before another event of its instant.

        Raises ValueError if `until_s` lies in the past, and what the requests' source raises.
        """
        if until_s < self.now:
            raise ValueError(f"until_s {until_s:g} is not >= now {self.now:g}")
        agenda = self._agenda
        while True:
            event_s = agenda.next_s
            arriving = self._next
            if arriving is not None and arriving.arrival_s <= event_s:
                if arriving.arrival_s > until_s:
                    break
                self._next = None
                self._arrive(arriving)
                self._next = next(self._requests, None)
            elif event_s <= until_s:
                self.now = event_s
                agenda.run_next()
            else:
                break
        self.now = until_s

    def scale(self, role: Role, replicas: int) -> None:
        """Ask for this many replicas of a role from now on. Raises ValueError below 0."""
        self.pools[role].scale(replicas, self.now)

    def fleet(self) -> Fleet:
        """The fleet as the controller sees it."""
        return Fleet(self.spec.key, {role: pool.snapshot() for role, pool in self.pools.items()})

    def refresh(self) -> None:
        """Bring every replica's counters up to now, for somebody who is about to read them."""
        for pool in self.pools.values():
            for replica in pool.replicas:
                replica.server.refresh(self.now)

    @property
    def offered(self) -> int:
        """Requests that have arrived."""
        return self.gateway.arrived

    @property
    def exhausted(self) -> bool:
        """No request will arrive any more, and none is in flight."""
        return self._next is None and not self.in_flight

    def _build(self, rng: Random) -> dict[Role, SimPool]:
        """The pools, last role first, since each must know where its finished work goes."""
        pools: dict[Role, SimPool] = {}
        cold_start, done = partial(self.spec.start_up.draw, rng), self._finish
        for role, pool_spec in reversed(list(self.spec.pools.items())):
            new_server = self._servers_of(role, Hooks(self._first_token, done))
            pool = pools[role] = SimPool(role, pool_spec.gpus_per_replica, new_server, self._agenda, cold_start)
            pool.seed(pool_spec.replicas, self.now)
            done = pool.route
        return {role: pools[role] for role in self.spec.pools}

    def _servers_of(self, role: Role, hooks: Hooks) -> Callable[[], Server]:
        kind = _SERVERS[ROLE_FACTS[role].sizing]
        return lambda: kind(self.spec.profile, ReplicaMetrics(self.spec.max_model_len), self._agenda, hooks)

    def _arrive(self, request: Request) -> None:
        if request.arrival_s < self.now:
            raise ValueError(f"request {request.id} arrives at {request.arrival_s:g} s, after one at {self.now:g} s")
        self.now = request.arrival_s
        self.gateway.arrived += 1
        if request.prompt_tokens + request.output_tokens > self._longest:
            self.gateway.refused += 1
            if self.ledger is not None:
                self.ledger.refused(request)
            return
        self.gateway.running += 1
        job = self.in_flight[request.id] = Job(request)
        self._entry.route(job, self.now)

    def _first_token(self, job: Job) -> None:
        self.gateway.ttft_s.observe(job.first_token_s - job.request.arrival_s)

    def _finish(self, job: Job, now: float) -> None:
        request, tpot_s = job.request, job.tpot_s(now)
        del self.in_flight[request.id]
        self.gateway.finished(request.prompt_tokens, request.output_tokens, tpot_s)
        if self.ledger is not None:
            self.ledger.finished(request, job.first_token_s - request.arrival_s, tpot_s)
