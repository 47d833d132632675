"""How does a test drain and flip replicas on the plane, with users who would notice?

A `Town` is one model: two targets, `prefill` and `decode`, stub engines at their pods' own addresses, and a PDAutoscaler.
`Leader` is all of a controller but its brain: the test decides, and everything from the decision on is the product's, over the
real API server and real HTTP: choice of victims, transactions in the object's status, steps, writes, engines asked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from autoscaler.adapters.kubernetes import Book, KubeApi, KubernetesFleet, Ledger, PolicyObjects, connect
from autoscaler.adapters.routing import GATE
from autoscaler.conductor import Conductor, routing_of
from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import Ended, Fleet, Role
from autoscaler.core.reason import Reason
from autoscaler.core.transaction import Step, Transaction
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.workloads import Place
from tests.engines.contract import Contract, Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.on_plane import PlaneEngines
from tests.engines.routing import LABEL, Router
from tests.policy_documents import edited

FIRST_LIST_S = 20.0
SETTLE_S = 1.0
STAYS_S = 2.5
ROUTING = {"kind": "label", "label": LABEL, "settleSeconds": SETTLE_S}


class Town:
    """One model on the plane. Use as a context, inside that of the fleet of stubs."""

    def __init__(
        self, plane: Plane, fleet: StubFleet, contract: type[Contract], launch: Callable[[Role], Launch] = Launch
    ) -> None:
        self.plane, self.place, self.fleet, self.api = plane, Place(plane), fleet, connect()
        self.namespace, self.sglang = self.place.namespace, contract.TOGETHER
        self.engines = PlaneEngines(self.api, self.namespace, fleet, contract, launch)

    def __enter__(self) -> Self:
        self.engines.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.engines.__exit__()
        self.plane.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def pools(self, counts: Mapping[Role, int], *, size: int = 1, deployments: bool = False, **of_pods: Any) -> None:
        """The two targets, once an engine stands behind each of their replicas. `of_pods`: see `template`."""
        for role, count in counts.items():
            pod = template(role, **of_pods)
            if deployments:
                pod["metadata"]["labels"]["app"] = role
                spec = {"replicas": count, "selector": {"matchLabels": {"app": role}}, "template": pod}
                self.place.create("apps/v1", "Deployment", role, spec)
            else:
                group = {"size": size, "workerTemplate": pod}
                spec = {"replicas": count, "leaderWorkerTemplate": group}
                self.place.create("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", role, spec)
        wait_until(lambda: len(self.fleet.engines) == sum(counts.values()), "an engine stands behind each replica")

    def policy(self, **spec: Any) -> None:
        """The PDAutoscaler "chat" over the two targets, with other values in its spec; `__` stands for a dot."""
        changes = {f"spec.{path.replace('__', '.')}": value for path, value in spec.items()}
        targets = {f"spec.pools.{role}.target.name": str(role) for role in Role}
        most = {f"spec.pools.{role}.max": 100 for role in Role}
        usual = {"metadata.namespace": self.namespace, "spec.mode": "Auto", "spec.routing": ROUTING}
        usual["spec.engine"] = "sglang" if self.sglang else "vllm"
        document = edited({**usual, **targets, **most, **changes})
        self.place.kubectl("create", "-f", "-", input=json.dumps(document))

    def engine(self, pod: str) -> StubEngine:
        """The engine behind a pod that has one."""
        found = self.engines.engine(pod)
        assert found is not None, f"no engine behind {pod}"
        return found

    def routed(self, role: Role, router: Router | None = None) -> list[str]:
        """The pods that new requests of this role are sent to."""
        return sorted(engine.name for engine in (router or self.engines.router).routable(role))

    def until_routed(self, role: Role, *pods: str, router: Router | None = None) -> None:
        """Wait for it."""
        wait_until(lambda: self.routed(role, router) == sorted(pods), f"{role} is {sorted(pods)}")

    def wanted(self, role: Role) -> int:
        """What the LeaderWorkerSet of a role is asked for."""
        return self.place.wanted(f"leaderworkerset/{role}")


def template(
    role: Role, *, gpus: Mapping[Role, int] | None = None, gate: bool = False, grace_s: int = 30, **annotations: str
) -> dict[str, Any]:
    """A pod template of this role. `gpus` by role; `annotations`: `ready_after` and `gone_after` as in stages.yaml."""
    limits = {"nvidia.com/gpu": str(gpus[role])} if gpus else {}
    engine = {"name": "engine", "image": "example.invalid/engine:1", "resources": {"limits": limits}}
    gates = {"readinessGates": [{"conditionType": GATE}]} if gate else {}
    told = {f"plane/{name.replace('_', '-')}": value for name, value in annotations.items()}
    metadata = {"labels": {LABEL: str(role)}, "annotations": told}
    return {"metadata": metadata, "spec": {"containers": [engine], "terminationGracePeriodSeconds": grace_s, **gates}}


class Term:
    """A Leadership of one term, until it is over."""

    def __init__(self, term: int) -> None:
        self._term: int | None = term

    def term(self) -> int | None:
        return self._term

    def end(self) -> None:
        self._term = None


class Leader:
    """A controller that is told what to decide. Use as a context; `over` has what has ended, the oldest first."""

    def __init__(self, town: Town, term: int = 1) -> None:
        api: KubeApi = connect()
        self.key, self.number = f"{town.namespace}/chat", term
        self._objects = PolicyObjects(api, (town.namespace,))
        self._term = Term(term)
        ledger = Ledger(api, self._objects.kept)
        self.book = Book(ledger, self._objects.kept)
        self.gateway = KubernetesFleet(api, self._objects, ledger=ledger, leadership=self._term, book=self.book)
        routing = partial(routing_of, api=api)
        self._conductor = Conductor(self.gateway, self.book, self._objects, routing, self._term, time.time)
        self._over: list[Ended] = []

    def __enter__(self) -> Self:
        assert self._objects.ready(FIRST_LIST_S), self._objects.trouble()
        wait_until(lambda: [one.key for one in self._objects.managed()] == [self.key], "the policy is seen")
        assert self._objects.get(self.key) is not None, self._objects.managed()
        wait_until(lambda: isinstance(self.gateway.read(self.key, time.time()), Fleet), "the fleet is seen")
        self._conductor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """It does nothing any more."""
        self._term.end()
        self._conductor.stop()
        self.gateway.stop()
        self._objects.stop()

    def fleet(self) -> Fleet:
        """As it is going to be."""
        found = self.gateway.read(self.key, time.time())
        assert isinstance(found, Fleet), found
        self._over += found.ended
        return found

    def scale(self, role: Role, to: int) -> Outcome:
        """Decide this count."""
        seen = self.fleet().pools[role].desired
        reason = Reason.SCALE_UP if to > seen else Reason.SCALE_DOWN
        return self._apply(Action(role, seen, to, reason))

    def flip(self, from_role: Role, to_role: Role, give: int = 1, take: int = 1) -> Outcome:
        """Decide this flip, once it is known that there is a way."""
        wait_until(lambda: (from_role, to_role) in self.fleet().flip_ways, "there is a way to flip")
        seen = {role: self.fleet().pools[role].desired for role in (from_role, to_role)}
        return self._apply(Flip(from_role, to_role, give, take, Reason.FLIP, seen))

    def under_way(self) -> Sequence[Transaction]:
        """What it has stored."""
        found = self.book.under_way(self.key, self.number, time.time())
        assert isinstance(found, tuple), found
        return found

    def drains_on(self) -> None:
        """It waits for its victims to be idle, for longer than two beats, in which what would be done too early is done."""
        wait_until(lambda: [one.step for one in self.under_way()] == [Step.IDLE], "it waits for victims to be idle")
        time.sleep(STAYS_S)
        assert [one.step for one in self.under_way()] == [Step.IDLE], self.under_way()

    def until_over(self, count: int = 1) -> Ended:
        """The last one that has ended, once so many have and nothing is under way."""

        def ended() -> bool:
            self.fleet()
            return len(self._over) >= count and not self.under_way()

        try:
            wait_until(ended, f"{count} transactions have ended")
        except AssertionError as error:
            raise AssertionError(f"{error}; under way: {self.under_way()}; over: {self._over}") from None
        return self._over[-1]

    def _apply(self, decision: Action | Flip) -> Outcome:
        outcome = self.gateway.apply(self.key, decision, time.time(), self.number)
        assert outcome.verdict is Verdict.APPLIED, outcome
        return outcome
