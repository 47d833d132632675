"""What does one engine answer to one request, within a bounded time and size, and why not when it does not?

An engine is asked at the address of its pod and nowhere else: http://IP:PORT from the pod's status. So a name is never
resolved, no proxy of the environment is used, and a redirect is not followed: it is an answer like any other that is not 200.
Each request has a connection of its own. One a second to an engine that drains is not worth a pool, which would hold sockets
of pods that are gone, and without one there is nothing for threads to share.

    time   a socket's time-out holds per read, so a server that drips a byte a second never ends. A timer shuts the socket
           when the time is over, in whatever state the answer is then; nothing that hangs is left behind.
    size   the body is read in pieces, and no further than `LARGEST`: twenty times 5,000 lines of metrics.
    whole  an answer that does not announce its length cannot be told from half of one, and half the metrics of two ranks
           look like one rank at rest. It is not used.

Whatever the other side does is a value: an `EngineFault` with one line, in which nothing of what it sent can move a cursor.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from enum import StrEnum
from http.client import HTTPException
from ipaddress import ip_address
from typing import Any

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

CONNECT_S = 1.0  # pods are one hop away; a packet to a node that died is never answered
ASK_S = 2.0
LARGEST = 8 << 20  # bytes
LINE = 300  # characters of an engine's words that a person gets to read

_PIECE = 1 << 16
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "pd-autoscaler"}
_NO_SUCH_DOOR = frozenset({404, 405, 501})


class FaultKind(StrEnum):
    """What an engine did instead of answering."""

    UNREACHABLE = "unreachable"  # nobody listens: the connection is refused, or there is no address yet
    CUT_OFF = "cutOff"  # no connection came about, or it broke: who listens may be well and at work
    TIMEOUT = "timeout"  # no whole answer in time
    ABSENT = "absent"  # it has no such path
    REFUSED = "refused"  # any other status than 200
    TOO_LARGE = "tooLarge"
    MALFORMED = "malformed"  # it answered something else


@dataclass(frozen=True, slots=True)
class EngineFault:
    """Why there is no answer: the kind, and one line for the operator that begins with the address."""

    kind: FaultKind
    detail: str


@dataclass(frozen=True, slots=True)
class Engine:
    """Where one engine answers, and as what: `profile` is the name of its metric profile, `ip` that of its pod's status."""

    profile: str
    ip: str
    port: int

    def fault(self, kind: FaultKind, told: str) -> EngineFault:
        """A fault of this engine."""
        return EngineFault(kind, one_line(f"{self.ip or 'a pod without an address'}:{self.port}: {told}"))


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, whatever its status."""

    status: int
    body: bytes


def ask(
    engine: Engine, path: str, within_s: float = ASK_S, *, send: Mapping[str, Any] | None = None, largest: int = LARGEST
) -> Answer | EngineFault:
    """GET a path, or POST `send` to it as JSON. Takes `within_s` seconds at most, `CONNECT_S` of them to connect."""
    ends_s = time.monotonic() + within_s
    try:
        host = str(ip_address(engine.ip))
    except ValueError:
        return engine.fault(FaultKind.UNREACHABLE, f"{engine.ip!r} is no IP address")
    connection = HTTPConnection(host, engine.port, timeout=min(CONNECT_S, within_s))
    try:
        with closing(connection):
            connection.connect()
            answer = _exchange(connection, path, send, ends_s, largest)
    except (HTTPError, HTTPException, OSError, ValueError) as error:
        if time.monotonic() >= ends_s:
            return _too_late(engine, path, within_s)
        return engine.fault(_kind(error), f"{path}: {str(_root(error)) or type(_root(error)).__name__}")
    if time.monotonic() >= ends_s:  # cut by the timer, it may look like an answer that ended early
        return _too_late(engine, path, within_s)
    return answer


def fetch(engine: Engine, path: str, within_s: float = ASK_S) -> bytes | EngineFault:
    """What is at a path, if the engine says 200."""
    answer = ask(engine, path, within_s)
    if isinstance(answer, EngineFault):
        return answer
    return answer.body if answer.status == 200 else not_ok(engine, path, answer)


def not_ok(engine: Engine, path: str, answer: Answer) -> EngineFault:
    """The fault that any status but 200 is."""
    kind = FaultKind.ABSENT if answer.status in _NO_SUCH_DOOR else FaultKind.REFUSED
    return engine.fault(kind, f"{path} answers HTTP {answer.status}: {answer.body[:LINE].decode(errors='replace')}")


def fields(body: bytes) -> Mapping[str, Any] | None:
    """A JSON object's fields; None for anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def fetch_fields(engine: Engine, path: str, within_s: float = ASK_S) -> Mapping[str, Any] | EngineFault:
    """The fields of the JSON object at a path."""
    body = fetch(engine, path, within_s)
    if isinstance(body, EngineFault):
        return body
    found = fields(body)
    return engine.fault(FaultKind.MALFORMED, f"{path} answers no JSON object") if found is None else found


def one_line(text: str) -> str:
    """As much of it as fits a line, without what a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 2 * LINE]).split())[:LINE]


class _TooLargeError(ValueError):
    """More than we read."""


def _too_late(engine: Engine, path: str, within_s: float) -> EngineFault:
    return engine.fault(FaultKind.TIMEOUT, f"{path} not answered within {within_s:g} s")


def _kind(error: Exception) -> FaultKind:
    root = _root(error)
    if isinstance(root, ConnectionRefusedError):
        return FaultKind.UNREACHABLE
    if isinstance(root, TimeoutError):
        return FaultKind.TIMEOUT
    if isinstance(error, _TooLargeError):
        return FaultKind.TOO_LARGE
    return FaultKind.CUT_OFF if isinstance(error, OSError | HTTPError) else FaultKind.MALFORMED


def _exchange(connection: HTTPConnection, path: str, send: Mapping[str, Any] | None, ends_s: float, largest: int) -> Answer:
    left_s = max(0.001, ends_s - time.monotonic())
    connection.timeout = left_s
    end = threading.Timer(left_s, _shut, [connection.sock])
    end.daemon = True
    end.start()
    try:
        body = None if send is None else json.dumps(send).encode()
        headers = _HEADERS if body is None else {**_HEADERS, "Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, headers, preload_content=False)
        response = connection.getresponse()
        return Answer(response.status, _read(response, largest))
    finally:
        end.cancel()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it has ended by itself
        sock.shutdown(socket.SHUT_RDWR)


def _read(response: HTTPResponse, largest: int) -> bytes:
    if response.length_remaining is None and not response.chunked:
        raise ValueError("answers without telling how much")
    body = bytearray()
    with closing(response):
        while piece := response.read1(_PIECE, decode_content=False):
            body += piece
            if len(body) > largest:
                raise _TooLargeError(f"answers more than {largest} bytes")
    return bytes(body)


def _root(error: BaseException) -> BaseException:
    while inner := error.__cause__ or error.__context__:
        error = inner
    return error
