"""How does a test set up one model on the plane, with load, a Prometheus that sees it, and controllers at work?

A `Scene` has a namespace of its own with two LeaderWorkerSets, `chat-prefill` and `chat-decode`, the simulated engines
behind their pods (engines.py), and whatever PDAutoscalers and controllers the test asks for. Controllers are processes of
the real command, under one Lease, that know nothing but the cluster and Prometheus.
"""

from __future__ import annotations

import copy
import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from autoscaler.adapters.kubernetes import connect
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from tests.adapters.prometheus_server import RealPrometheus
from tests.e2e.plane.engines import Engines
from tests.e2e.plane.plane import Plane, Refused
from tests.e2e.plane.workloads import Place
from tests.e2e.processes import Process, wait_for

MODEL = "llama-3-8b"
POLICY: Mapping[str, Any] = {
    "apiVersion": "pdautoscaler.io/v1alpha1",
    "kind": "PDAutoscaler",
    "metadata": {"name": "chat"},
    "spec": {
        "mode": "Auto",
        "model": MODEL,
        "engine": "vllm",
        "gateway": "llm-d",
        "profile": "llama-3-8b-a100-tp1",
        "slo": {"ttft": {"seconds": 2.0, "percentile": 95}, "tpot": {"seconds": 0.05, "percentile": 95}},
        "pools": {
            "prefill": {"target": {"name": "chat-prefill"}, "min": 1, "max": 8},
            "decode": {"target": {"name": "chat-decode"}, "min": 1, "max": 8},
        },
        "metrics": {"windowSeconds": 8, "scrapeIntervalSeconds": 1},
        "freshness": {"maxAgeSeconds": 5, "graceSeconds": 12},
        "forecast": {"horizonSeconds": 5, "gapSeconds": 10},
        "behaviour": {
            "tickSeconds": 1,
            "gapSeconds": 6,
            "scaleUp": {"tolerance": 0.15},
            "scaleDown": {
                "tolerance": 0.15,
                "stabilizationSeconds": 10,
                "cooldownSeconds": 2,
                "step": {"replicas": 4, "percent": 50, "periodSeconds": 2},
            },
        },
    },
}
ENGINES = {Role.PREFILL: r"chat-prefill-\d+", Role.DECODE: r"chat-decode-\d+"}


class Scene:
    """One model on the plane."""

    def __init__(self, plane: Plane, prometheus: RealPrometheus, targets: Path, folder: Path, pods: Mapping[Role, str]) -> None:
        self.plane, self.prometheus, self.place, self._folder = plane, prometheus, Place(plane), folder
        self.namespace = self.place.namespace
        profile = Document.model_validate(POLICY).core().profile
        file = targets / f"targets-{self.namespace}.json"
        self.engines = Engines(connect(), self.namespace, MODEL, profile, pods, file)
        self.controllers: list[Process] = []

    def pools(self, prefill: int = 1, decode: int = 1) -> None:
        """The two LeaderWorkerSets, once all their pods are ready."""
        for role, replicas in (("prefill", prefill), ("decode", decode)):
            self.place.leader_worker_set(f"chat-{role}", replicas)
        wait_for(lambda: len(self.place.ready_pods()) == prefill + decode, "all pods are ready")

    def policy(self, name: str = "chat", /, **changes: Any) -> None:
        """Create a PDAutoscaler. `changes` by dotted path, with `__` for the dots, set other values in its spec."""
        document = copy.deepcopy(dict(POLICY))
        document["metadata"] = {"name": name, "namespace": self.namespace}
        for path, value in changes.items():
            *parents, last = path.split("__")
            place = document["spec"]
            for parent in parents:
                place = place[parent]
            place[last] = value
        self.place.kubectl("create", "-f", "-", input=json.dumps(document))

    def controller(self) -> Process:
        """One more controller, once its page is served."""
        arguments = ["--cluster", "kubernetes", "--namespace", self.namespace, "--lease", f"{self.namespace}/autoscaler"]
        arguments += ["--prometheus", self.prometheus.url, "--port", "0"]
        started = Process(["run", *arguments], self._folder / f"{self.namespace}-{len(self.controllers)}.log")
        self.controllers.append(started)
        started.address("live page")
        return started

    def wanted(self, role: str) -> int:
        """What the LeaderWorkerSet of a role is asked for."""
        return self.place.wanted(f"leaderworkerset/chat-{role}")

    def status(self, name: str = "chat") -> dict[str, Any]:
        """The status of a PDAutoscaler, as the API server has it."""
        status: dict[str, Any] = json.loads(self.place.kubectl("get", "pda", name, "-o", "json")).get("status") or {}
        return status

    def condition(self, kind: str, name: str = "chat") -> tuple[str, str, str]:
        """(status, reason, message) of a condition; empty strings before there is one."""
        found: dict[str, str] = next((one for one in self.status(name).get("conditions") or () if one["type"] == kind), {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def events(self, name: str = "chat") -> list[tuple[str, str]]:
        """(reason, note) of the Events about a PDAutoscaler, oldest first."""
        found = json.loads(self.place.kubectl("get", "events", "--sort-by=.metadata.creationTimestamp", "-o", "json"))["items"]
        mine = [one for one in found if one["involvedObject"].get("kind") == "PDAutoscaler"]
        return [(one["reason"], one["message"]) for one in mine if one["involvedObject"]["name"] == name]

    def until(self, holds: Callable[[], Any], what: str, patience_s: float = 60.0) -> Any:
        """The first true value; the last status is told if there is none in time."""
        try:
            return wait_for(holds, what, patience_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; statuses: {self._told()}") from None

    def close(self) -> None:
        """End the controllers, and leave the namespace to the garbage collector."""
        for controller in self.controllers:
            if controller.process.poll() is None:
                controller.process.send_signal(signal.SIGCONT)
                controller.process.kill()
                controller.process.wait()
        self.plane.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def _told(self) -> str:
        try:
            return self.place.kubectl("get", "pda", "-o", "jsonpath={range .items[*]}{.metadata.name}: {.status}{'\\n'}{end}")
        except (Refused, subprocess.TimeoutExpired) as error:
            return str(error)


@contextmanager
def scene(
    plane: Plane, prometheus: RealPrometheus, targets: Path, folder: Path, pods: Mapping[Role, str] = ENGINES
) -> Iterator[Scene]:
    """A scene, ended with the block. Its controllers and connections go to the plane."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as closing:
        patch.setenv("KUBECONFIG", str(plane.kubeconfig))
        plane.install_crd()
        made = Scene(plane, prometheus, targets, folder, pods)
        closing.callback(made.close)
        closing.enter_context(made.engines)
        yield made
