"""What does one decision of the sidecar cost, and what would it cost elsewhere?

Servers on the same uvicorn, uvloop and httptools answer the same POST over 16 kept connections, in turns, ROUNDS times:

    bare        a raw ASGI application that parses the same body and answers with 50 fixed bytes
    sidecar     the decide path on a state that changes every half second: headers, verdict, own admissions, counts
    rejecting   the same while every request is turned away
    asgi        the same decision by the raw ASGI application (hot.py) that answers what does not come whole in one read
    route       the same decision behind a FastAPI route that takes the question as a pydantic model

    cpu_us          CPU microseconds of the server per request (user + system of all its threads, by the kernel's nanosecond
                    account), median over the rounds; a ratio is the median over rounds of that round's ratio
    p99_ms          99th percentile of the time until the answer at half of what the CPU time would allow on one core, sent at
                    even distances whatever comes back; wall time, so read it on a quiet machine
    rss_mb          of `autoscaler sidecar` when it is ready, in MB of 10^6 bytes
    start_cpu_s     CPU seconds of it until then

Budgets: sidecar / bare <= 1.25, route / sidecar >= 3.5, p99 5 ms, RSS 60 MB, start 1 s CPU.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, cast

import msgspec
import uvloop
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from autoscaler.sidecar.answers import Answers
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.bodies import Question
from autoscaler.sidecar.bounds import BoundedProtocol, quiet, server
from autoscaler.sidecar.desk import Desk
from autoscaler.sidecar.express import express
from autoscaler.sidecar.hot import Hot, Message, Receive, Send
from autoscaler.sidecar.ledger import Ledger
from autoscaler.sidecar.skins import skin_of
from tests.sidecar import states
from tests.sidecar.running import WITHOUT_LEADER

ROUNDS, REQUESTS, CONNECTIONS = 5, 4000, 16
BUDGETS = {"sidecar_over_bare": 1.25, "route_over_sidecar": 3.5, "p99_ms": 5.0, "rss_mb": 60.0, "start_cpu_s": 1.0}
QUESTION = b'{"prompt_tokens": 1200, "uncached_tokens": 800, "output_tokens": 180, "class": "standard"}'
REQUEST = (
    b"POST /v1/decide HTTP/1.1\r\nhost: sidecar:8090\r\nuser-agent: gateway/1.0\r\naccept: */*\r\n"
    b"content-type: application/json\r\nx-request-id: 7f6cf1de-27c8-4b6e-a7b5-0d9f1a2b3c4d\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(QUESTION), QUESTION)
)
VAST = states.crowds(prefill={"serving": 20_000}, decode={"serving": 20_000})  # own admissions of half a second do not fill it
SPAWN = multiprocessing.get_context("spawn")


async def bare(scope: Message, receive: Receive, send: Send) -> None:
    """Parses the body, and answers."""
    message = await receive()
    PARSE(message["body"])
    await send({"type": "http.response.start", "status": 200, "headers": FIXED})
    await send({"type": "http.response.body", "body": b'{"admit": true, "reason": "fits", "class": "any"}\n'})


PARSE = msgspec.json.Decoder(Question).decode
FIXED = [(b"content-length", b"50"), (b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class Asked(BaseModel):
    """The question as FastAPI likes it."""

    prompt_tokens: float | None = None
    uncached_tokens: float | None = None
    output_tokens: float | None = None


def route(desk: Desk) -> FastAPI:
    """The same decision behind FastAPI."""
    app, skin = FastAPI(), skin_of("/v1/decide")
    assert skin is not None

    @app.post("/v1/decide")
    async def decide(asked: Asked, request: Request) -> Response:
        answer = desk.answer(skin, dict(request.headers.raw), asked.model_dump_json().encode())
        headers = {name.decode(): value.decode() for name, value in answer.start["headers"]}
        return Response(answer.body["body"], answer.start["status"], headers)

    return app


def serve(which: str, listener: socket.socket) -> None:
    """One of the servers, until it is ended."""
    board = Board()
    desk = Desk(board, Ledger(), Answers())
    apps: dict[str, Callable[[], Any]] = {
        "bare": lambda: bare,
        "route": lambda: route(desk),
        "sidecar": lambda: Hot(desk, bare),
        "rejecting": lambda: Hot(desk, bare),
        "asgi": lambda: Hot(desk, bare),
    }
    app = apps[which]()
    quiet()
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        protocol = express(desk) if which in ("sidecar", "rejecting") else type("Plain", (BoundedProtocol,), {})
        runner.run(_keep(board, which == "rejecting", server(app, protocol), listener))


async def _keep(board: Board, full: bool, running: Any, listener: socket.socket) -> None:
    crowds = states.FULL if full else VAST
    heard = states.heard(crowds=crowds, rules={"max_age_s": 60}, offered_rps=None)

    async def refresh() -> None:
        for sequence in range(1, 1 << 30):
            text = msgspec.structs.replace(heard.text, sequence=sequence, issued_at=sequence / 2)
            board.offer(type(heard)(text, heard.rules), time.monotonic(), 0.0, trusted=True)
            await asyncio.sleep(0.5)

    keeping = asyncio.create_task(refresh())
    await running.serve(sockets=[listener])
    keeping.cancel()


class Client(asyncio.Protocol):
    """One kept connection: `answered` is called with the seconds that each answer took."""

    def __init__(self, answered: Callable[[Client, float], None]) -> None:
        self._answered = answered
        self._sent: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self) -> None:
        self._sent.append(time.perf_counter())
        self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"HTTP/1.1 ")):
            self._answered(self, time.perf_counter() - self._sent.pop(0))


async def flood(port: int, requests: int) -> None:
    """So many requests, as fast as they are answered."""
    done, left = asyncio.Event(), requests

    def answered(client: Client, _: float) -> None:
        nonlocal left
        left -= 1
        if left >= CONNECTIONS:
            client.send()
        elif left == 0:
            done.set()

    for client in await _clients(port, answered):
        client.send()
    await done.wait()


async def trickle(port: int, rate_rps: float, length_s: float) -> list[float]:
    """The time of each answer in seconds, at a constant rate whatever comes back."""
    times: list[float] = []
    clients = await _clients(port, lambda _, took_s: times.append(took_s))
    count, began = int(rate_rps * length_s), time.perf_counter()
    for n in range(count):
        ahead_s = began + n / rate_rps - time.perf_counter()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        clients[n % CONNECTIONS].send()
    await asyncio.sleep(0.5)
    return times


async def _clients(port: int, answered: Callable[[Client, float], None]) -> list[Client]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Client(answered), "127.0.0.1", port) for _ in range(CONNECTIONS)]
    return [client for _, client in made]


def cpu_ns(pid: int) -> int:
    """CPU nanoseconds of a process, all its threads."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def per_request_us(pid: int, port: int) -> float:
    """CPU microseconds per request of one round."""
    before = cpu_ns(pid)
    uvloop.run(flood(port, REQUESTS))
    return (cpu_ns(pid) - before) / REQUESTS / 1000


def begun() -> dict[str, float]:
    """What the command itself costs until it is ready."""
    with subprocess.Popen(WITHOUT_LEADER, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found is not None
            with urllib.request.urlopen(found[0] + "readyz", timeout=20) as answer:
                assert answer.status == 200
            resident = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return {"rss_mb": resident / 1e6, "start_cpu_s": cpu_ns(process.pid) / 1e9}
        finally:
            process.terminate()


def main() -> None:
    """Print the figures as JSON."""
    names, running = ("bare", "sidecar", "rejecting", "asgi", "route"), {}
    for name in names:
        listener = socket.create_server(("127.0.0.1", 0))
        process = SPAWN.Process(target=serve, args=(name, listener), daemon=True)
        process.start()
        running[name] = (process.pid or 0, listener.getsockname()[1])
    for name in names:
        uvloop.run(flood(running[name][1], 500))
    rounds = [{name: per_request_us(*running[name]) for name in names} for _ in range(ROUNDS)]
    cost = {name: median(one[name] for one in rounds) for name in names}
    slow = uvloop.run(trickle(running["sidecar"][1], 0.5e6 / cost["sidecar"], 3.0))
    figures = {
        "cpu_us": {name: round(value, 1) for name, value in cost.items()},
        "sidecar_over_bare": round(median(one["sidecar"] / one["bare"] for one in rounds), 3),
        "asgi_over_bare": round(median(one["asgi"] / one["bare"] for one in rounds), 3),
        "rejecting_over_bare": round(median(one["rejecting"] / one["bare"] for one in rounds), 3),
        "route_over_sidecar": round(median(one["route"] / one["sidecar"] for one in rounds), 2),
        "p99_ms": round(1000 * quantiles(slow, n=100)[98], 2),
        "p99_at_rps": round(0.5e6 / cost["sidecar"]),
        **{name: round(value, 2) for name, value in begun().items()},
        "budgets": BUDGETS,
    }
    sys.stdout.write(json.dumps({"bench": "sidecar", **figures}) + "\n")


if __name__ == "__main__":
    main()
