"""How does a test get an HTTP server with a base URL of its own, and make it misbehave?

Each `Loopback` has a port on a loopback address (all of 127.0.0.0/8 is) and answers in one thread per connection. What can
go wrong is set per path, or for all paths ("*"), at any time:

    server.faults["/metrics"] = HANGS       nothing happens for 180 s, or until the server is closed
    server.faults["/metrics"] = ABSENT      404
    server.faults["/metrics"] = GARBAGE     200 and bytes that mean nothing
    server.faults["*"] = DROPS              the connection is closed without a word
    server.faults["/x"] = Fault(after_s=9)  it is done at once and told late: the caller gives up on what has happened
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. `body` is the parsed JSON, None where there was none or it was no JSON."""

    method: str
    path: str
    body: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    body: bytes
    content: str = "application/json"


def told(body: Any, status: int = 200) -> Answer:
    """An answer in JSON."""
    return Answer(status, json.dumps(body).encode())


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong: late before it is done, late after it was done, another answer or none in place of doing it."""

    before_s: float = 0.0
    after_s: float = 0.0
    answer: Answer | None = None
    drop: bool = False


NO_FAULT = Fault()
HANGS = Fault(before_s=180.0)
DROPS = Fault(drop=True)
ABSENT = Fault(answer=told({"detail": "Not Found"}, 404))
GARBAGE = Fault(answer=Answer(200, b"\x00<html>{]", "text/html"))
NOT_FOUND = told({"detail": "Not Found"}, 404)


class Loopback:
    """One server, on any free port unless told. `answer` does what was asked; None drops the connection. `asked` counts
    "GET /health" and the like.
    """

    def __init__(self, answer: Callable[[Request], Answer | None], host: str = "127.0.0.1", port: int = 0) -> None:
        self.faults: dict[str, Fault] = {}
        self.asked: Counter[str] = Counter()
        self._answer, self._closed = answer, threading.Event()
        self._bugs: list[BaseException] = []
        self._server = _Server((host, port), self._respond, self._bugs)
        self.host, self.port = host, int(self._server.server_address[1])
        self.url = f"http://{self.host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name=self.url, daemon=True)
        self._thread.start()

    def wait_for_answers(self, patience_s: float) -> None:
        """Until everything that was asked has been answered."""
        with self._server.idle:
            self._server.idle.wait_for(lambda: not self._server.under_way, patience_s)

    def close(self) -> None:
        """End at once: open connections are cut, new ones refused, whatever hangs returns. Raises what a stub did wrong."""
        if not self._closed.is_set():
            self._closed.set()
            self._server.cut()
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        if self._bugs:
            raise self._bugs[0]

    def _respond(self, request: Request) -> Answer | None:
        self.asked[f"{request.method} {request.path}"] += 1
        fault = self.faults.get(request.path) or self.faults.get("*") or NO_FAULT
        if self._closed.wait(fault.before_s) or fault.drop:
            return None
        if fault.answer is not None:
            return fault.answer
        answer = self._answer(request)
        return None if self._closed.wait(fault.after_s) else answer


class _Server(ThreadingHTTPServer):
    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, address: tuple[str, int], respond: Callable[[Request], Answer | None], bugs: list[BaseException]) -> None:
        self._open: set[Any] = set()
        self.respond, self.bugs = respond, bugs
        self.idle, self.under_way = threading.Condition(), 0
        super().__init__(address, _Connection)

    def server_bind(self) -> None:
        """Without the look-up of our own name that http.server does here."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """From the request to its answer's last byte."""
        with self.idle:
            self.under_way += 1
        try:
            yield
        finally:
            with self.idle:
                self.under_way -= 1
                self.idle.notify_all()

    def cut(self) -> None:
        """Wake whoever waits at a socket, the accepting thread too: `shutdown` alone takes until its next poll."""
        for one in (self.socket, *self._open.copy()):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended by itself

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is none of our business; a mistake of a stub is."""
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self.bugs.append(error)


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out in two writes, which would cost 40 ms

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.server.answering():
            answer = self.server.respond(Request(self.command, self.path.partition("?")[0], _parsed(raw)))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def log_message(self, *args: object) -> None:
        pass


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return None
