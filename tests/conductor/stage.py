"""How do tests have a whole controller's hands at work? A fleet on a cluster in memory, its book, and a conductor that is beaten.

Nothing waits: the clock is the test's, errands are done at once, and before each beat the lists are given the moment that they
need to hear of what has changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from autoscaler.adapters.kubernetes import Book, KubernetesFleet, Ledger
from autoscaler.adapters.kubernetes.pods import pod
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.conductor import Conductor, routing_of
from autoscaler.core.action import Action, Flip, Outcome
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.reason import Reason
from autoscaler.errands import AtOnce
from autoscaler.policy import Document
from autoscaler.policy.document import Spec
from tests.adapters.kubernetes.fake_cluster import DEPLOYMENTS, KEY, LABEL, PDA, SETS, FakeCluster
from tests.engines.contract import Contract, Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.vllm import Vllm
from tests.fakes import FakeClock
from tests.policy_documents import policy

NOW = 2_000_000_000.0  # 2033-05-18T03:33:20Z
HEARD_S = 5.0  # no healthy machine needs so long
TERM = 3
BY_LABEL: Mapping[str, Any] = {"kind": "label", "label": LABEL, "settleSeconds": 2.0}
FLIPS: Mapping[str, Any] = {"flip": {"enabled": True, "driver": "relabel", "dwellSeconds": 0.0}}


@dataclass
class Terms:
    """A leadership that a test takes away, and gives."""

    now: int | None = TERM

    def term(self) -> int | None:
        return self.now


@dataclass
class Policies:
    """The one policy, if there is one."""

    document: Document | None

    def get(self, key: str) -> Document | None:
        return self.document

    def specs(self) -> Mapping[str, Spec]:
        return {} if self.document is None else {KEY: self.document.spec}


@dataclass
class Stage:
    """One process: gateway, book, conductor. Several may work on one cluster."""

    cluster: FakeCluster
    policies: Policies
    clock: FakeClock = field(default_factory=lambda: FakeClock(NOW))
    terms: Terms = field(default_factory=Terms)

    def __post_init__(self) -> None:
        ledger = Ledger(self.cluster, self.kept)
        self.book = Book(ledger, self.kept)
        self.fleets = KubernetesFleet(self.cluster, self.policies, ledger=ledger, leadership=self.terms, book=self.book)
        made = partial(routing_of, api=self.cluster)
        doors = (self.fleets, self.book, self.policies, made, self.terms, self.clock.now)
        self.conductor = Conductor(*doors, monotonic=self.clock.now, executor=AtOnce())

    def kept(self, key: str) -> Kept | None:
        """The stored object, as it was watched."""
        body = self.cluster.objects.get(PDA)
        return None if body is None else Kept(body["metadata"]["uid"], 1, "default", "chat", body.get("status") or {})

    @property
    def ground(self) -> Ground:
        """What this process sees, once it has heard of everything."""
        ends = time.monotonic() + HEARD_S
        while True:
            ground = self.fleets.ground(KEY, self.clock.now())
            assert isinstance(ground, Ground), ground
            if self._versions(ground) == self._stored_versions():
                return ground
            assert time.monotonic() < ends, f"the lists have not told of {self._stored_versions()}"
            time.sleep(0.001)

    def hear(self) -> None:
        """Wait until the lists have told of everything."""
        assert self.ground.replicas is not None

    @property
    def fleet(self) -> Fleet:
        """What the next tick would see."""
        self.hear()
        found = self.fleets.read(KEY, self.clock.now())
        assert isinstance(found, Fleet), found
        return found

    @property
    def wished(self) -> dict[Role, int]:
        """The counts as the core sees them."""
        return {role: pool.desired for role, pool in self.ground.pools.items()}

    def scale(self, role: Role, seen: int, wanted: int) -> Outcome:
        """What a tick decided."""
        reason = Reason.SCALE_UP if wanted > seen else Reason.SCALE_DOWN
        self.hear()
        return self.fleets.apply(KEY, Action(role, seen, wanted, reason), self.clock.now(), self.terms.now or 0)

    def flip(self, of: Role, to: Role, take: int = 1, give: int = 1) -> Outcome:
        """The same for a flip."""
        seen = self.wished
        return self.fleets.apply(KEY, Flip(of, to, take, give, Reason.FLIP, seen), self.clock.now(), self.terms.now or 0)

    def beat(self, times: int = 1, step_s: float = 1.0) -> None:
        """So many seconds pass."""
        for _ in range(times):
            self.hear()
            self.conductor.beat()
            self.clock.at += step_s

    def until(self, step: str, most: int = 40) -> None:
        """Beat until the oldest transaction is there ("": nothing is under way)."""
        for _ in range(most):
            if self.step == step:
                return
            self.beat()
        raise AssertionError(f"never {step!r}, but {self.cluster.stored}")

    @property
    def step(self) -> str:
        """Where the oldest transaction is stored to be."""
        return self.cluster.stored[0][1] if self.cluster.stored else ""

    def _versions(self, ground: Ground) -> tuple[Any, ...]:
        pods = {pod.name: (pod.uid, dict(pod.labels), dict(pod.gates), pod.leaving_s is None, pod.cost, pod.ready_s is None)
                for standing in ground.standings.values() for pod in standing.pods}  # fmt: skip
        return pods, sorted(standing.desired for standing in ground.standings.values())

    def _stored_versions(self) -> tuple[Any, ...]:
        cut = (pod(self.cluster.pod(name)) for name in self.cluster.pods())
        pods = {one.name: (one.uid, dict(one.labels), dict(one.gates), one.leaving_s is None, one.cost, one.ready_s is None)
                for one in cut if one is not None}  # fmt: skip
        counts = [body["spec"]["replicas"] for path, body in self.cluster.objects.items() if path.startswith((SETS, DEPLOYMENTS))]
        return pods, sorted(counts)


class Engines:
    """A stub engine behind every pod, all at one port, each at its pod's own loopback address, in its template's role."""

    def __init__(self, fleet: StubFleet, contract: type[Contract]) -> None:
        self._fleet, self._contract = fleet, contract
        self._made, self.port = 0, 0

    def ip(self, name: str) -> str:
        """The address of a pod that is just being made, where its engine serves by now."""
        if name in self._fleet.engines:
            self._fleet.engines[name].kill()
        self._made += 1
        launch = Launch(next(role for role in Role if role in name))
        engine = self._fleet.start(name, launch, self._contract, (f"127.7.{self._made // 250}.{self._made % 250 + 1}", self.port))
        self.port = engine.port
        return engine.address[0]

    def __getitem__(self, name: str) -> StubEngine:
        return self._fleet.engines[name]


@contextmanager
def engaged(contract: type[Contract] = Vllm, **staging: Any) -> Iterator[tuple[Stage, Engines]]:
    """The same with engines."""
    with StubFleet() as fleet:
        engines = Engines(fleet, contract)
        first = engines.ip("prefill-probe")  # whoever is first finds a port that is free
        assert first
        with staged(cluster=FakeCluster(engines.ip), enginePort=engines.port, **staging) as stage:
            yield stage, engines


@contextmanager
def staged(
    prefill: int = 3, decode: int = 2, *, cluster: FakeCluster | None = None, plural: str = SETS, **spec: Any
) -> Iterator[Stage]:
    """Two targets and their policy: drains by label, in mode Auto, unless told otherwise."""
    cluster = cluster or FakeCluster()
    for role, count in ((Role.PREFILL, prefill), (Role.DECODE, decode)):
        cluster.target(f"chat-{role}", count, role, plural)
    stage = Stage(cluster, Policies(policy(**{"mode": "Auto", "routing": dict(BY_LABEL), **spec})))
    try:
        yield stage
    finally:
        stage.fleets.stop()
