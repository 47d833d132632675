"""Which law is broken at which moment?

Looked at all the time, by somebody who is not the controller: every event of the fleet's pods from the API server, and who
could be sent a request, fifty times a second.

    GPUs       every pod holds its GPUs from the moment it is stored until its object is gone
    serving    each role has a replica that is ready, has the label, and whose engine has that role
    requests   the stubs' own ledger, and the users' (tests/engines)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from autoscaler.adapters.kubernetes.api import ApiFault, KubeApi
from autoscaler.core.fleet import Role
from tests.engines.on_plane import PlaneEngines

SET = "leaderworkerset.sigs.k8s.io/name"
WATCH_S = 600
LOOK_S = 0.02


class Witness:
    """Watches one fleet while the context lasts. `peak`: the most GPUs held at any of the pods' `events`; `bared`: roles seen
    without anybody, at one of `glances`.
    """

    def __init__(self, api: KubeApi, namespace: str, engines: PlaneEngines, gpus: Mapping[Role, int]) -> None:
        self.peak, self.events, self.glances, self.bared = 0, 0, 0, set[Role]()
        self._api, self._path, self._engines, self._gpus = api, f"/api/v1/namespaces/{namespace}/pods", engines, gpus
        self._held: dict[str, int] = {}  # by uid
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._follow, self._look)]
        self._stream: Any = None

    def __enter__(self) -> Witness:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._stream is not None:
            self._stream.stop()
        for thread in self._threads:
            thread.join()

    def _follow(self) -> None:
        """From a list on, event by event; from a new list where the server was away."""
        while not self._stop.is_set():
            listed = self._api.get(self._path)
            if isinstance(listed, ApiFault):
                self._stop.wait(LOOK_S)
                continue
            self._held = {pod["metadata"]["uid"]: self._gpus_of(pod) for pod in listed["items"]}
            self._count()
            version = listed["metadata"]["resourceVersion"]
            stream = self._stream = self._api.watch(self._path, WATCH_S, resourceVersion=version)
            if self._stop.is_set() or isinstance(stream, ApiFault):
                continue
            for event in stream:
                if isinstance(event, ApiFault) or event["type"] == "ERROR":
                    break
                self._learn(event)

    def _learn(self, event: Mapping[str, Any]) -> None:
        pod = event["object"]
        match event["type"]:
            case "ADDED":
                self._held[pod["metadata"]["uid"]] = self._gpus_of(pod)
            case "DELETED":
                self._held.pop(pod["metadata"]["uid"], None)
        self._count()

    def _count(self) -> None:
        self.events += 1
        self.peak = max(self.peak, sum(self._held.values()))

    def _gpus_of(self, pod: Mapping[str, Any]) -> int:
        return self._gpus[Role(pod["metadata"]["labels"][SET])]

    def _look(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.glances += 1
            for role in Role:
                routed = self._engines.router.routable(role)
                if not any(one.accepting and (one.launch.any_leg or one.role is role) for one in routed):
                    self.bared.add(role)
