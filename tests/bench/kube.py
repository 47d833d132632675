"""What does it cost to manage 500 models on a real API server, and how fast does a change reach the cluster?

    tick_cpu_s          CPU seconds of the controller per tick of 15 s: 500 PDAutoscalers of 20 groups each, everything it
                        does meanwhile included: decoding Prometheus' answers, watching, writing statuses (budget 3)
    peak_mb             the controller's peak resident memory, first lists included (budget 400)
    writes_quiet        writes to the API server per minute while the load stays as it is
    writes_busy         writes in the minute after the load of all 500 models rose thirtyfold at once
    write_after_tick_s  seconds from a metric's change to the /scale write that it causes, less the tick of 15 s; the change
                        comes right after Prometheus was asked, the worst moment. Longest of five models (budget 0.3)
    fail_over_s         seconds from kill -9 of the leader to a successor that leads (budget 20)

etcd and the API server are real; the managers have left the stage (tests/e2e/plane/crowd.py): 10,000 pods of one-pod
groups is what 2 cores can hold and make in a minute or two. Prometheus is a page that answers with the rows a real one
would (prometheus_answers.py), so its own time is not in any figure. The writes of every other program are taken before
the controller starts, and subtracted.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from autoscaler.adapters.kubernetes import KubeApi, connect
from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.ports import FleetScope
from tests.bench.prometheus_answers import Answers, fleets
from tests.e2e.plane.binaries import find_binaries
from tests.e2e.plane.crowd import SETS, populate
from tests.e2e.plane.plane import Plane
from tests.e2e.processes import Process, wait_for

FLEETS, GROUPS, NAMESPACES = 500, 20, 5
TICK_S, QUIET_TICKS, MINUTE_S = 15.0, 4, 60.0
CHANGED = 5  # models whose change is followed to the write
RISE = 30.0  # 1,200 requests a second: three times what 10 replicas carry, so 20 are wanted
WARM_S = 240.0
POLICY = Path(__file__).parents[2] / "policies" / "chat.yaml"
BUDGETS = {"tick_cpu_s": 3.0, "peak_mb": 400.0, "write_after_tick_s": 0.3, "fail_over_s": 20.0}
WRITES = re.compile(r'^apiserver_request_total\{[^}]*verb="(?:POST|PUT|PATCH|APPLY|DELETE)"[^}]*\} (\S+)$', re.MULTILINE)


def say(text: str) -> None:
    """A line about how far things are."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def policy(scope: FleetScope) -> dict[str, Any]:
    """policies/chat.yaml for this fleet, allowed to act and to grow to twice its size."""
    document: dict[str, Any] = yaml.safe_load(POLICY.read_text(encoding="utf-8"))
    document["metadata"] = {"namespace": scope.namespace, "name": scope.key.partition("/")[2]}
    spec = document["spec"]
    spec |= {"mode": "Auto", "model": scope.model}
    del spec["gpuBudget"]
    for role, pool in spec["pools"].items():
        pool |= {"target": {"name": f"{scope.model}-{role}"}, "min": GROUPS // 2, "max": GROUPS}
    return document


def crowd(namespaces: Sequence[str]) -> list[FleetScope]:
    """The fleets, dealt evenly to the namespaces; pods are named as a LeaderWorkerSet names them."""
    dealt = []
    for number, scope in enumerate(fleets(FLEETS, GROUPS)):
        namespace, model = namespaces[number * len(namespaces) // FLEETS], f"chat-{number}"
        dealt.append(replace(scope, namespace=namespace, model=model, key=f"{namespace}/{model}"))
    return dealt


@contextmanager
def prometheus(answers: Answers) -> Iterator[str]:
    """The address of a page that gives these answers."""

    class Page(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = answers.to(self.rfile.read(int(self.headers["Content-Length"])).decode())
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Written:
    """When each LeaderWorkerSet was last asked for another count (monotonic seconds), as a watch of the API server tells."""

    def __init__(self, api: KubeApi, namespaces: Sequence[str]) -> None:
        self._api, self._counts = api, dict[str, int]()
        self.at_s: dict[str, float] = {}
        for namespace in namespaces:
            threading.Thread(target=self._follow, args=(namespace,), daemon=True).start()

    def _follow(self, namespace: str) -> None:
        path = f"{SETS}/namespaces/{namespace}/leaderworkersets"
        while True:
            opened = self._api.watch(path, 600)
            for event in () if isinstance(opened, ApiFault) else opened:
                if not isinstance(event, ApiFault) and event["type"] in {"ADDED", "MODIFIED"}:
                    self._see(f"{namespace}/{event['object']['metadata']['name']}", event["object"]["spec"]["replicas"])

    def _see(self, name: str, count: int) -> None:
        if self._counts.setdefault(name, count) != count:
            self._counts[name], self.at_s[name] = count, time.monotonic()


class Bench:
    """The controllers at work on one plane."""

    def __init__(self, plane: Plane, folder: Path, scopes: Sequence[FleetScope], url: str) -> None:
        self._plane, self._folder, self.scopes, self._url = plane, folder, scopes, url
        self._started: list[Process] = []

    def controller(self) -> Process:
        """One more controller, once it has written or stands by."""
        namespaces = list(dict.fromkeys(scope.namespace for scope in self.scopes))
        where = [word for namespace in namespaces for word in ("--namespace", namespace)]
        where += ["--lease", f"{namespaces[0]}/autoscaler", "--prometheus", self._url, "--cluster", "kubernetes", "--port", "0"]
        self._started.append(Process(["run", *where], self._folder / f"controller-{len(self._started)}.log"))
        self._started[-1].address("live page")
        return self._started[-1]

    def claimed(self) -> bool:
        """Whether every PDAutoscaler has a status that a leader wrote."""
        told = self._plane.kubectl("get", "pda", "--all-namespaces", "-o", "jsonpath={.items[*].status.state.epoch}").split()
        return len(told) == len(self.scopes)

    def writes(self) -> float:
        """Write requests that the API server has counted so far, from anybody."""
        return sum(map(float, WRITES.findall(self._plane.kubectl("get", "--raw", "/metrics"))))

    def close(self) -> None:
        """End the controllers."""
        for one in self._started:
            if one.process.poll() is None:
                one.process.kill()
                one.process.wait()


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int) -> float:
    """The most memory a process ever had resident, in MB."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def per_second(count: Callable[[], float], during_s: float) -> float:
    """How fast a counter grows."""
    began_s, before = time.monotonic(), count()
    time.sleep(during_s)
    return (count() - before) / (time.monotonic() - began_s)


def followed(bench: Bench, answers: Answers, written: Written, load: Mapping[str, float]) -> float:
    """Change the load of these fleets, and give the longest time from a change to its first write."""
    written.at_s.clear()
    answers.shift(load)

    def first_writes() -> dict[str, float] | None:
        by_key = {key: [at_s for name, at_s in dict(written.at_s).items() if name.startswith(f"{key}-")] for key in load}
        return {key: min(times) for key, times in by_key.items()} if all(by_key.values()) else None

    writes: dict[str, float] = wait_for(first_writes, "every change is written")
    return max(at_s - answers.changed_s[key] for key, at_s in writes.items())


def measure(bench: Bench, answers: Answers, written: Written) -> dict[str, float]:
    """Every figure."""
    others = per_second(bench.writes, 20.0)
    leader = bench.controller()
    wait_for(bench.claimed, "every PDAutoscaler has its first status", WARM_S)
    say("every PDAutoscaler has a status; a quiet minute")
    time.sleep(2 * TICK_S)
    cpu_before, count_before, began_s = cpu_s(leader.process.pid), bench.writes(), time.monotonic()
    time.sleep(QUIET_TICKS * TICK_S)
    figures = {"tick_cpu_s": (cpu_s(leader.process.pid) - cpu_before) / (time.monotonic() - began_s) * TICK_S}
    figures["writes_quiet"] = ((bench.writes() - count_before) / (time.monotonic() - began_s) - others) * MINUTE_S
    say(f"so far {figures}; the load of a few rises")
    few = {scope.key: RISE for scope in bench.scopes[:: FLEETS // CHANGED]}
    figures["write_after_tick_s"] = followed(bench, answers, written, few) - TICK_S
    say(f"so far {figures}; the load of all rises")
    answers.shift({scope.key: RISE for scope in bench.scopes})
    time.sleep(TICK_S)
    figures["writes_busy"] = (per_second(bench.writes, MINUTE_S) - others) * MINUTE_S
    figures["peak_mb"] = peak_mb(leader.process.pid)
    say(f"so far {figures}; a second controller, and kill -9 of the first")
    second = bench.controller()
    time.sleep(2 * TICK_S)
    leader.process.send_signal(signal.SIGKILL)
    killed_s = time.monotonic()
    wait_for(lambda: "leading in term 1 " in second.log.read_text(), "the second one leads")
    figures["fail_over_s"] = time.monotonic() - killed_s
    return figures


def main() -> None:
    """Measure and print one JSON object."""
    binaries = find_binaries()
    if isinstance(binaries, str):
        raise SystemExit(binaries)
    with ExitStack() as closing:
        folder = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="bench-kube-")))
        say("starting the control plane")
        plane = closing.enter_context(Plane(binaries, folder))
        plane.install_crd()
        os.environ["KUBECONFIG"] = str(plane.kubeconfig)
        api, scopes = connect(), crowd([plane.namespace() for _ in range(NAMESPACES)])
        say(f"making {FLEETS} PDAutoscalers, {2 * FLEETS} LeaderWorkerSets and {FLEETS * GROUPS} pods")
        populate(plane, api, scopes, map(policy, scopes))
        answers = Answers(scopes)
        url = closing.enter_context(prometheus(answers))
        bench = Bench(plane, folder, scopes, url)
        closing.callback(bench.close)
        written = Written(api, list(dict.fromkeys(scope.namespace for scope in scopes)))
        figures = {name: round(value, 2) for name, value in measure(bench, answers, written).items()}
    met = all(figures[name] <= budget for name, budget in BUDGETS.items())
    sys.stdout.write(json.dumps({"bench": "kube", **figures, "budgets": BUDGETS, "met": met}) + "\n")


if __name__ == "__main__":
    main()
