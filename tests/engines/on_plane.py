"""Which engine is behind a pod of the real control plane? kwok's pods have no process; here each gets one.

`PlaneEngines` follows the pods of one namespace. A leader pod (worker-index 0, or none) whose containers are ready gets an
engine, launched in the role of its label at that moment: its template's. It listens at the pod's own address, on PORT, as a
controller expects. A pod that is being deleted sends SIGTERM to its engine,
which then has the pod's grace period, as a kubelet gives it; whether kwok keeps the object so long is up to the annotation
`plane/gone-after`. A pod that is gone without a word (deleted with force, or while nobody watched) counts as deleted with
its grace period; a test that means more than that kills the engine itself. A pod made anew under the same name has a new
uid, and a new engine.

Who deleted a pod nobody can see. A test that does it says so first (`mine`); every other deletion is an act of the
controller's, and so is what is lost by it.

Requests are sent to pods that are Ready, by their label (`router`), or by whatever router a test has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autoscaler.adapters.kubernetes.api import KubeApi
from autoscaler.adapters.kubernetes.snapshot import Snapshot
from autoscaler.core.fleet import Role
from tests.engines.contract import Contract, Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.ledger import End
from tests.engines.routing import LABEL, LabelRouter
from tests.engines.smg import Selected

INDEX = "leaderworkerset.sigs.k8s.io/worker-index"
PORT = 8000
STEP_S = 0.05
FIRST_LIST_S = 10.0


@dataclass(frozen=True, slots=True)
class SeenPod:
    """What is used of a leader pod. `runs`: its containers are ready; `ready`: its gates, if it has any, are open as well.
    `grace_s`: as its spec says.
    """

    name: str
    uid: str
    ip: str
    label: str | None
    runs: bool
    ready: bool
    ending: bool
    grace_s: float


class PlaneEngines:
    """The engines behind a namespace's pods. Use as a context, inside that of the fleet.

    `launch` makes the launch of an engine from its role.
    """

    def __init__(
        self,
        api: KubeApi,
        namespace: str,
        fleet: StubFleet,
        contract: type[Contract],
        launch: Callable[[Role], Launch] = Launch,
    ) -> None:
        self._fleet, self._contract, self._launch = fleet, contract, launch
        self._behind: dict[str, tuple[SeenPod, StubEngine]] = {}  # by uid
        self._mine: set[str] = set()
        self._grace_s: dict[str, float] = {}  # by uid, of the pods that are or were being deleted
        self._pods = Snapshot(api, f"/api/v1/namespaces/{namespace}/pods", self._leader)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"engines of {namespace}", daemon=True)
        self.router = LabelRouter(self._labels, self.engine)

    def __enter__(self) -> PlaneEngines:
        assert self._pods.picture(FIRST_LIST_S).fault is None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pods.stop()

    def engine(self, pod: str) -> StubEngine | None:
        """The engine behind a pod; None before its containers are ready, and once the pod is being deleted."""
        with self._lock:
            found = (engine for seen, engine in self._behind.values() if seen.name == pod)
            return next(found, None)

    def at(self, url: str) -> StubEngine | None:
        """The engine with this base URL, as a gateway knows it."""
        with self._lock:
            return next((engine for _, engine in self._behind.values() if engine.url == url), None)

    def mine(self, pod: str) -> None:
        """The test is going to delete this pod: what that loses is a fault, not an act of the controller's."""
        engine = self.engine(pod)
        if engine is not None:
            self._mine.add(engine.url)

    def selected(self) -> list[Selected]:
        """What a gateway's two selectors match now, for `SmgStub.discover`."""
        roles: Mapping[str | None, Role] = {str(role): role for role in Role}
        with self._lock:
            pods = [(seen, engine) for seen, engine in self._behind.values() if seen.label in roles]
        return [Selected(seen.uid, engine.url, roles[seen.label]) for seen, engine in pods]

    def _run(self) -> None:
        while not self._stop.wait(STEP_S):
            self._step()

    def _step(self) -> None:
        there = {pod.uid: pod for pod in self._pods.picture().items.values()}
        for uid, (last, engine) in list(self._behind.items()):
            pod = there.get(uid)
            if pod is None or pod.ending:
                self._terminate(uid, pod or last, engine)
            else:
                self._keep(uid, pod, engine)
        for uid, pod in there.items():
            role = next((role for role in Role if pod.label == role), None)
            if uid not in self._behind and pod.runs and not pod.ending and role is not None:
                self._start(uid, pod, role)

    def _start(self, uid: str, pod: SeenPod, role: Role) -> None:
        """At the next step where an engine that ends still has the address: kwok gives it away with the last pod's object."""
        try:
            engine = self._fleet.start(pod.name, self._launch(role), self._contract, (pod.ip, PORT))
        except OSError:
            return
        self._keep(uid, pod, engine)

    def _keep(self, uid: str, pod: SeenPod, engine: StubEngine) -> None:
        with self._lock:
            self._behind[uid] = (pod, engine)

    def _terminate(self, uid: str, pod: SeenPod, engine: StubEngine) -> None:
        with self._lock:
            del self._behind[uid]
        grace_s = self._grace_s.get(uid, pod.grace_s)
        engine.terminate(grace_s, End.LOST_BY_FAULT if engine.url in self._mine else End.LOST_BY_ACT)

    def _labels(self) -> dict[str, str | None]:
        """As a router sees them: the labels of the pods that are ready and not being deleted."""
        pods = self._pods.picture().items.values()
        return {pod.name: pod.label for pod in pods if pod.ready and not pod.ending}

    def _leader(self, body: dict[str, Any]) -> SeenPod | None:
        """A pod that may have an engine. Called for each event: kwok may remove a pod before the next step looks."""
        metadata, status = body["metadata"], body.get("status") or {}
        labels = metadata.get("labels") or {}
        if labels.get(INDEX, "0") != "0":
            return None
        if ending := "deletionTimestamp" in metadata:
            # The first one counts: kwok, when it lets a pod go, sets it to 0.
            self._grace_s.setdefault(metadata["uid"], float(metadata["deletionGracePeriodSeconds"]))
        conditions = {one["type"]: one["status"] for one in status.get("conditions") or ()}
        return SeenPod(
            name=metadata["name"],
            uid=metadata["uid"],
            ip=str(status.get("podIP") or ""),
            label=labels.get(LABEL),
            runs=conditions.get("ContainersReady") == "True",
            ready=conditions.get("Ready") == "True",
            ending=ending,
            grace_s=float(body["spec"].get("terminationGracePeriodSeconds", 30)),
        )
