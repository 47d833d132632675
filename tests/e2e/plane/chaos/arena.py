"""What is one case made of? A fleet on the plane with engines behind its pods, users, a witness, and controllers.

Every case has a namespace and a way to the API server of its own, so that many go on at once and a controller's trouble is
nobody else's. Whoever leads next need not wait for the Lease to run out: `depose` takes it from whoever has it, as
an expired one is taken. That a leader which is only silent keeps it for its whole time is another test's matter
(tests/e2e/plane/test_two_controllers.py).
"""

from __future__ import annotations

import math
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from autoscaler.adapters.kubernetes.api import ApiFault, Body, KubeApi
from autoscaler.core.fleet import Role
from tests.e2e.plane.chaos.courses import Course
from tests.e2e.plane.chaos.driver import LEASE, Leader, Nursery, clock_of
from tests.e2e.plane.chaos.gate import Gate, gated
from tests.e2e.plane.chaos.proxy import Proxy
from tests.e2e.plane.chaos.witness import SET, Witness
from tests.e2e.plane.plane import Plane
from tests.engines.contract import Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.on_plane import PlaneEngines
from tests.engines.routing import LABEL
from tests.engines.traffic import Fate, Traffic
from tests.engines.vllm import Vllm

RPS = 6.0
TAKES_S = 0.1
HESITATES_S = 0.3  # less than the policy's settleSeconds
GONE_AFTER = "400ms"
LOOK_S = 0.1
ENDLESS = "decode-2"  # the last one, which a drain takes
RESTS = re.compile(r"tried again in (\d+) s")
PDA = "/apis/pdautoscaler.io/v1alpha1"
LWS = "/apis/leaderworkerset.x-k8s.io/v1"
LEASES = "/apis/coordination.k8s.io/v1"


class Users(Traffic):
    """As ever, and how long the slowest hand-over of a request took: from the router's choice until its decode engine has it."""

    slowest_s = 0.0

    def _try(self, request: str, prefill: StubEngine, decode: StubEngine) -> Fate | None:
        began_s = time.monotonic()
        fate = super()._try(request, prefill, decode)
        taken = (leg.taken_s - began_s for leg in self._ledger.legs(request) if leg.engine == decode.name)
        self.slowest_s = max(self.slowest_s, *taken, 0.0)
        return fate


class Stage:
    """What all cases share: the plane, its administrator, the nursery, a folder."""

    def __init__(self, plane: Plane, api: KubeApi, nursery: Nursery, folder: Path) -> None:
        self.plane, self.api, self.nursery, self.folder = plane, api, nursery, folder


class Arena:
    """One case. As a context; when it is entered all replicas serve and users send, and nobody leads yet."""

    def __init__(self, stage: Stage, course: Course, gate: Gate | None = None) -> None:
        self.stage, self.course, self.gate = stage, course, gate or Gate()
        self.api, self.namespace = stage.api, stage.plane.namespace()
        self.fleet, self._closing = StubFleet(), ExitStack()
        contract = Vllm if course.engine == "vllm" else gated(self.gate, course.switching)
        self.engines = PlaneEngines(self.api, self.namespace, self.fleet, contract, self._launch)
        self.witness = Witness(self.api, self.namespace, self.engines, course.gpus)
        self.traffic = Users(self.engines.router, self.fleet.ledger, RPS)
        self.traffic.hesitates_s = HESITATES_S
        self.ways: list[Proxy] = []
        self.proxy = self.way()
        self.leaders: list[Leader] = []
        self._off_s = 0.0

    def __enter__(self) -> Arena:
        try:
            self._open(self._closing)
        except BaseException:
            self._closing.close()
            raise
        return self

    def _open(self, closing: ExitStack) -> None:
        closing.callback(self._delete)
        closing.enter_context(self.fleet)
        closing.enter_context(self.engines)
        for role in Role:
            self._target(role)
        self._made(f"{PDA}/namespaces/{self.namespace}/pdautoscalers", self.course.policy(self.namespace))
        self.until(lambda: self.shape() == {(role, role): self.course.start[role] for role in Role}, "all replicas serve")
        closing.enter_context(self.witness)
        for engine in self.fleet.engines.values():
            engine.takes_s = TAKES_S
        if self.course.force_s:
            self.fleet.engines[ENDLESS].takes_s = math.inf
        closing.enter_context(self.traffic)
        closing.callback(self.end)

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def way(self) -> Proxy:
        """One more way to the API server, for a controller with troubles of its own."""
        file = self.stage.folder / f"{self.namespace}-{len(self.ways)}.kubeconfig"
        made = Proxy(self.stage.plane.server, self.stage.plane.folder, self.gate, file)
        self.ways.append(made)
        self._closing.callback(made.close)
        return made

    def lead(self, way: Proxy | None = None, *beside: Arena) -> Leader:
        """One more controller; of the fleets `beside`, too."""
        fleets = {arena.namespace: arena.course.goal for arena in (self, *beside)}
        born = self.stage.nursery.leader((way or self.proxy).kubeconfig, fleets)
        self.leaders.append(born)
        self.gate.leader = born
        return born

    def end(self) -> None:
        """Nobody leads any more, and no user is waiting."""
        for leader in self.leaders:
            leader.kill()
        self.gate.release()
        self.traffic.finish()

    def depose(self) -> None:
        """Take the Lease from whoever has it; nobody may have it when this returns."""
        path = f"{LEASES}/namespaces/{self.namespace}/leases/{LEASE}"
        lease = self.api.get(path)
        if isinstance(lease, dict):
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            taken = self.api.replace(path, lease)
            assert not isinstance(taken, ApiFault) or taken.status == 409, taken

    def succeed(self) -> Leader:
        """A successor that leads in the next term, at once."""
        self.depose()
        return self.lead()

    def jump(self, seconds: float) -> None:
        """From now on the clock of its controllers is off by so much."""
        self._off_s, file = seconds, clock_of(self.stage.folder, self.namespace)
        file.with_suffix(".new").write_text(str(seconds))
        file.with_suffix(".new").replace(file)  # nobody reads half of it

    def hurry(self) -> None:
        """A brain that rests after something was undone need not do so in real time."""
        rests = RESTS.findall(self.leaders[-1].said.rpartition("\n2")[2])
        if rests:
            self.jump(self._off_s + float(rests[-1]) + 1.0)

    def step(self) -> str:
        """At which step its oldest transaction is; empty if none is under way."""
        return str(next((one["step"] for one in self.stored().get("transactions") or ()), ""))

    def stored(self) -> dict[str, Any]:
        """status.state of its PDAutoscaler."""
        found = self.api.get(f"{PDA}/namespaces/{self.namespace}/pdautoscalers/chat")
        assert not isinstance(found, ApiFault), found
        return dict((found.get("status") or {}).get("state") or {})

    def counts(self) -> dict[Role, int]:
        """What the targets are asked for."""
        return {
            role: int(self._object(f"{LWS}/namespaces/{self.namespace}/leaderworkersets/{role}")["spec"]["replicas"])
            for role in Role
        }

    def shape(self) -> dict[tuple[Role, str], int]:
        """(whose target made it, its label): how many replicas, all of them ready and with an engine that has that role; one that
        is not counts under its target and "-".
        """
        pods = self._object(f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        return dict(Counter((Role(pod["metadata"]["labels"][SET]), self._does(pod)) for pod in pods))

    def settled(self) -> bool:
        """Whether nothing is under way and the fleet is as wanted."""
        course, state = self.course, self.stored()
        if course.is_undone and not any(": undone " in leader.said for leader in self.leaders):
            return False
        return not state.get("transactions") and self.counts() == course.counts and self.shape() == course.end

    def until(self, holds: Callable[[], bool], what: str, patience_s: float = 60.0) -> None:
        """Wait for it. Fails with what is stored and what the last controller said."""
        ends_s = time.monotonic() + patience_s
        while not holds():
            if time.monotonic() > ends_s:
                raise AssertionError(f"{self.namespace}: waited {patience_s:g} s in vain: {what}; {self.told()}")
            time.sleep(LOOK_S)

    def told(self) -> str:
        """For the message of a test that fails."""
        said = [line for leader in self.leaders for line in leader.said.splitlines()[-12:]]
        return "\n".join([f"{self.stored()}, {self.counts()}, {self.shape()}", *self.gate.writes, *said])

    def _launch(self, role: Role) -> Launch:
        return Launch(role, any_leg=self.course.both)

    def _does(self, pod: Body) -> str:
        label = str(pod["metadata"]["labels"].get(LABEL, ""))
        engine = self.engines.engine(pod["metadata"]["name"])
        serves = engine is not None and engine.accepting and (self.course.both or str(engine.role) == label)
        return label if serves and "deletionTimestamp" not in pod["metadata"] else "-"

    def _target(self, role: Role) -> None:
        engine = {"name": "engine", "image": "example.invalid/engine:1"}
        pace = {"plane/ready-after": f"{self.course.ready_s:g}s", "plane/gone-after": GONE_AFTER}
        about = {"labels": {LABEL: str(role)}, "annotations": pace}
        group = {"size": 1, "workerTemplate": {"metadata": about, "spec": {"containers": [engine]}}}
        spec = {"replicas": self.course.start[role], "leaderWorkerTemplate": group}
        made = {
            "apiVersion": "leaderworkerset.x-k8s.io/v1",
            "kind": "LeaderWorkerSet",
            "metadata": {"name": str(role)},
            "spec": spec,
        }
        self._made(f"{LWS}/namespaces/{self.namespace}/leaderworkersets", made)

    def _made(self, path: str, body: Body) -> None:
        made = self.api.create(path, body)
        assert not isinstance(made, ApiFault), f"{path}: {made}"

    def _object(self, path: str) -> Body:
        found = self.api.get(path)
        assert not isinstance(found, ApiFault), f"{path}: {found}"
        return found

    def _delete(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}"
        self.api.delete(path, str(self._object(path)["metadata"]["uid"]))
