"""What does it cost a cluster to ask the webhook, and what does the companion cost it besides?

`autoscaler serve` as it is shipped, a process of its own, over TLS, with FLEETS policies from an API server that tells of TOLD_HZ
new statuses a second, as controllers write them while little happens (one a minute each). Another process sends reviews over
CONNECTIONS kept connections at even distances, whatever comes back, and takes the time from the moment at which each was due:

    p99_ms          99th percentile of the time until the answer, of all doors together and of each, at RATE_RPS reviews a second
    cpu_us          CPU microseconds of the companion per review (user + system of all its threads, by the kernel's nanosecond
                    account), what it does anyway included
    idle_cpu_ms     CPU milliseconds of it per second while nobody asks
    rss_mb          when all of that is over, in MB of 10^6 bytes
    start_cpu_s     CPU seconds of it until it is ready

Budgets: p99 5 ms, RSS 80 MB, start 2 s CPU. Wall times: read them on a quiet machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import os
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from typing import Any, cast

from autoscaler.adapters.kubernetes.story import timestamp
from tests.bench.sidecar import cpu_ns
from tests.companion.admission.cluster import JOB, LWS, PDA, POD, Object, policy, review
from tests.companion.api_server import MAPS, POLICIES, ApiServer, running
from tests.companion.proxies import Signer
from tests.companion.test_serve import Process, companion, files
from tests.companion.test_tls import config_map

FLEETS, TOLD_HZ = 200, 3.3
RATE_RPS, LENGTH_S, CONNECTIONS, IDLE_S = 200.0, 20.0, 16, 5.0
SHARES = {"scale": 8, "load": 8, "pods": 3, "policies": 1}  # of 20 reviews
BUDGETS = {"p99_ms": 5.0, "rss_mb": 80.0, "start_cpu_s": 2.0}
STRICT = {"pdautoscaler.io/guard": "deny", "pdautoscaler.io/early-reject": "deny"}
SPAWN = multiprocessing.get_context("spawn")


def fleet(number: int) -> Object:
    """A PDAutoscaler whose controller has just told."""
    made = policy(f"fleet-{number}", "default", annotations=STRICT, routing={"kind": "readinessGate"})
    made["status"]["lastTick"] = timestamp(time.time())
    made["metadata"]["resourceVersion"] = "1"
    return made


def statuses(ending: threading.Event) -> Iterator[Object]:
    """One fleet after the other is told of again, as a watch says it."""
    for number in itertools.count():
        if ending.wait(1 / TOLD_HZ):
            return
        told = fleet(number % FLEETS)
        told["metadata"]["resourceVersion"] = str(2 + number)
        yield {"type": "MODIFIED", "object": told}


def requests() -> list[tuple[str, bytes]]:
    """Doors and whole HTTP requests, in an order that repeats."""
    made: list[tuple[str, bytes]] = []
    for number in range(FLEETS):
        asked = {door: json.dumps(reviews(number)[door]).encode() for door in SHARES}
        made += [(door, posted(door, asked[door])) for door, share in SHARES.items() for _ in range(share)]
    return sorted(made, key=lambda one: hash_of(one[1]))


def hash_of(request: bytes) -> int:
    """The same order in every run."""
    return sum(request[::7]) * 2_654_435_761 % 2**32


def reviews(number: int) -> dict[str, Object]:
    """One review for each door about one fleet."""
    name = f"fleet-{number}"
    declared = {"pdautoscaler.io/demand-fleet": name, "pdautoscaler.io/demand-decode-tokens-per-second": f"{number}00"}
    pod_spec = {"containers": [{"name": "c", "image": "example.invalid/c:1", "args": ["--quiet"] * 20}]}
    job = {"metadata": {"name": "j", "namespace": "default", "annotations": declared}, "spec": {"template": {"spec": pod_spec}}}
    labels = {"pdautoscaler.io/inject": "true", "leaderworkerset.sigs.k8s.io/name": f"{name}-decode"}
    labels |= {"leaderworkerset.sigs.k8s.io/worker-index": "0"}
    pod = {"metadata": {"name": "p", "namespace": "default", "labels": labels}, "spec": pod_spec}
    old, new = ({"metadata": {"name": f"{name}-prefill", "namespace": "default"}, "spec": {"replicas": n}} for n in (4, 5))
    body, before = fleet(number), fleet(number)
    before["spec"] = {**before["spec"], "mode": "Off"}
    return {
        "scale": review(LWS, new, old, namespace="default", subResource="scale"),
        "load": review(JOB, job, namespace="default"),
        "pods": review(POD, pod, namespace="default"),
        "policies": review(PDA, body, before, namespace="default"),
    }


def posted(door: str, body: bytes) -> bytes:
    """As an API server sends it."""
    head = f"POST /admission/{door}?timeout=2s HTTP/1.1\r\nhost: companion.svc:443\r\nuser-agent: kube-apiserver-admission\r\n"
    head += "accept: application/json, */*\r\ncontent-type: application/json\r\naccept-encoding: gzip\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One kept connection; what is due while an answer is waited for waits, and its time runs."""

    def __init__(self, port: int, context: ssl.SSLContext, took: dict[str, list[float]]) -> None:
        self._port, self._context, self._took = port, context, took
        self.due: asyncio.Queue[tuple[float, str, bytes] | None] = asyncio.Queue()

    async def run(self) -> None:
        """Until None is due."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)
        while (one := await self.due.get()) is not None:
            due_s, door, request = one
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(head.decode())
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            self._took[door].append(time.perf_counter() - due_s)
        writer.close()


async def trickle(port: int, length_s: float) -> dict[str, list[float]]:
    """The seconds that each answer took, by door."""
    took: dict[str, list[float]] = {door: [] for door in SHARES}
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connections = [Connection(port, context, took) for _ in range(CONNECTIONS)]
    running = [asyncio.create_task(one.run()) for one in connections]
    sent, began = itertools.cycle(requests()), time.perf_counter() + 0.5
    for number in range(int(RATE_RPS * length_s)):
        due_s = began + number / RATE_RPS
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        connections[number % CONNECTIONS].due.put_nowait((due_s, *next(sent)))
    for one in connections:
        one.due.put_nowait(None)
    await asyncio.gather(*running)
    return took


def load(port: int, length_s: float, told: Any) -> None:
    """The other process."""
    told.put(asyncio.run(trickle(port, length_s)))


def loaded(port: int, length_s: float) -> dict[str, list[float]]:
    """What `trickle` found, in another process."""
    told = SPAWN.Queue()
    process = SPAWN.Process(target=load, args=(port, length_s, told))
    process.start()
    try:
        return cast(dict[str, list[float]], told.get(timeout=length_s + 60))
    finally:
        process.join(10)


def p99_ms(times: list[float]) -> float:
    """Milliseconds."""
    return round(1000 * quantiles(times, n=100)[98], 2)


def begin(stack: ExitStack) -> tuple[Process, bytes]:
    """The companion and its authority, with all that it reads."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    api: ApiServer = stack.enter_context(running())
    api.lists[MAPS] = [{"metadata": {"name": "extension-apiserver-authentication"}, "data": config_map(Signer.of("proxy"))}]
    api.lists[POLICIES] = [fleet(number) for number in range(FLEETS)]
    api.watched = lambda path: statuses(api.ending) if path == POLICIES else ()
    authority, options = files(folder)
    return stack.enter_context(companion(api, folder, *options)), authority


def main() -> None:
    """Print the figures as JSON."""
    with ExitStack() as stack:
        found, authority = begin(stack)
        pid = found.process.pid
        if found.ready(authority) != "ok\n":
            raise SystemExit("the companion did not become ready")
        start_cpu_s = cpu_ns(pid) / 1e9
        loaded(found.port, 3.0)
        before = cpu_ns(pid)
        time.sleep(IDLE_S)
        idle_cpu_ms = (cpu_ns(pid) - before) / 1e6 / IDLE_S
        before = cpu_ns(pid)
        took = loaded(found.port, LENGTH_S)
        cpu_us = (cpu_ns(pid) - before) / 1000 / (RATE_RPS * LENGTH_S)
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    figures = {
        "p99_ms": p99_ms([one for times in took.values() for one in times]),
        "p99_ms_by_door": {door: p99_ms(times) for door, times in took.items()},
        "cpu_us": round(cpu_us, 1),
        "idle_cpu_ms": round(idle_cpu_ms, 2),
        "rss_mb": round(resident / 1e6, 1),
        "start_cpu_s": round(start_cpu_s, 2),
        "reviews": sum(map(len, took.values())),
        "budgets": BUDGETS,
    }
    sys.stdout.write(json.dumps({"bench": "companion", **figures}) + "\n")


if __name__ == "__main__":
    main()
