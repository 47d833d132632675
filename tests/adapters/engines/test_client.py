"""One request to one engine: whatever the other side does, the caller gets a value, in time and in one line."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from autoscaler.adapters.engines.client import Answer, Engine, EngineFault, FaultKind, ask, fetch, fetch_fields
from tests.adapters.answering import Answering, Script, http

Send = Callable[[bytes], Any]
Serve = Callable[[Script], Answering]

SOON_S = 0.02


def engine_at(server: Answering) -> Engine:
    return Engine("vllm", "127.0.0.1", server.server_address[1])


def says(*parts: bytes, then_hangs_up: bool = True) -> Script:
    def script(request: str, send: Send) -> None:
        for part in parts:
            send(part)
        if then_hangs_up:
            raise ConnectionAbortedError

    return script


def drips(request: str, send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")  # cut here, it would be a whole answer
    while True:
        send(b"X-More: 1\r\n")
        time.sleep(0.005)


def floods(request: str, send: Send) -> None:
    send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
    while True:
        send(b"x" * 4096)


def test_an_answer_of_any_status_comes_whole(answering: Serve) -> None:
    server = answering(says(http("no", "400 Bad Request")))
    assert ask(engine_at(server), "/pd_role_switch", send={"new_role": "decode"}) == Answer(400, b"no")
    (request,) = server.requests
    assert request.startswith("POST /pd_role_switch HTTP/1.1\r\n")
    assert request.endswith('{"new_role": "decode"}')


def test_an_answer_in_chunks_comes_whole(answering: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = answering(says(head, b"3\r\nabc\r\n", b"2\r\nde\r\n", b"0\r\n\r\n"))
    assert fetch(engine_at(server), "/metrics") == b"abcde"


@pytest.mark.parametrize(
    ("script", "kind", "told"),
    [
        pytest.param(says(then_hangs_up=False), FaultKind.TIMEOUT, "/metrics not answered within 0.02 s", id="hangs"),
        pytest.param(drips, FaultKind.TIMEOUT, "/metrics not answered within 0.02 s", id="a header without an end"),
        pytest.param(
            says(http("half", length=100), then_hangs_up=False), FaultKind.TIMEOUT, "not answered", id="a body without an end"
        ),
        pytest.param(says(), FaultKind.CUT_OFF, "closed connection", id="hangs up"),
        pytest.param(says(http("half", length=100)), FaultKind.CUT_OFF, "4 bytes read, 96 more expected", id="half a body"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\n\r\nall?"), FaultKind.MALFORMED, "without telling how much", id="no length"),
        pytest.param(says(b"\x00\x1b[2Jgarbage\r\n"), FaultKind.MALFORMED, "[2Jgarbage", id="no HTTP"),
        pytest.param(floods, FaultKind.TOO_LARGE, "answers more than 1000 bytes", id="100 MB"),
    ],
)
def test_what_is_no_answer_is_a_fault_in_one_line(answering: Serve, script: Script, kind: FaultKind, told: str) -> None:
    engine = engine_at(answering(script))
    within_s = SOON_S if kind is FaultKind.TIMEOUT else 2.0
    fault = ask(engine, "/metrics", within_s, largest=1000)
    assert isinstance(fault, EngineFault)
    assert fault.kind is kind
    assert fault.detail.startswith(f"127.0.0.1:{engine.port}: /metrics")
    assert told in fault.detail
    assert fault.detail.isprintable()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("404 Not Found", FaultKind.ABSENT),
        ("405 Method Not Allowed", FaultKind.ABSENT),
        ("503 Service Unavailable", FaultKind.REFUSED),
    ],
)
def test_any_status_but_200_is_a_fault_with_the_engines_words(answering: Serve, status: str, kind: FaultKind) -> None:
    server = answering(says(http("down\r\nfor \x1b[31mnow", status)))
    fault = fetch(engine_at(server), "/server_info")
    assert isinstance(fault, EngineFault)
    assert fault.kind is kind
    assert fault.detail.endswith(f"/server_info answers HTTP {status[:3]}: down for [31mnow")


def test_a_redirect_is_followed_nowhere(answering: Serve) -> None:
    elsewhere = answering(says(http("{}")))
    server = answering(says(http("", "302 Found", f"Location: {elsewhere.url}/server_info")))
    fault = fetch_fields(engine_at(server), "/server_info")
    assert isinstance(fault, EngineFault)
    assert fault.kind is FaultKind.REFUSED
    assert not elsewhere.requests


def test_proxies_of_the_environment_are_not_used(answering: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = answering(says(http("from the proxy")))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    assert fetch(engine_at(answering(says(http("from the engine")))), "/metrics") == b"from the engine"


def test_nobody_at_the_port_is_told_apart_from_somebody_who_cannot_be_reached() -> None:
    with socket.socket() as held:  # bound, and nobody listens
        held.bind(("127.0.0.1", 0))
        fault = ask(Engine("vllm", "127.0.0.1", held.getsockname()[1]), "/metrics")
    assert isinstance(fault, EngineFault)
    assert fault.kind is FaultKind.UNREACHABLE
    assert "Connection refused" in fault.detail


def test_a_connection_that_does_not_come_about_is_not_taken_for_nobody() -> None:
    """A full backlog drops packets, as a node that is cut off does."""
    with socket.socket() as held, socket.socket() as first, socket.socket() as second:
        held.bind(("127.0.0.1", 0))
        held.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(held.getsockname())
        fault = ask(Engine("vllm", "127.0.0.1", held.getsockname()[1]), "/metrics", SOON_S)
    assert isinstance(fault, EngineFault)
    assert fault.kind is FaultKind.TIMEOUT


@pytest.mark.parametrize("ip", ["", "engine.prod.svc", "127.0.0.1:8000", "127.0.0.1/x"])
def test_only_an_ip_address_is_asked(ip: str) -> None:
    fault = ask(Engine("vllm", ip, 8000), "/metrics")
    assert fault == EngineFault(FaultKind.UNREACHABLE, f"{ip or 'a pod without an address'}:8000: {ip!r} is no IP address")


@pytest.mark.parametrize("body", ["", "[]", "<html>", "[" * 100_000, '{"a": ' * 100_000, "\x00", "9" * 5000])
def test_fields_of_what_is_no_json_object_are_a_fault(answering: Serve, body: str) -> None:
    fault = fetch_fields(engine_at(answering(says(http(body)))), "/server_info")
    assert isinstance(fault, EngineFault)
    assert fault.kind is FaultKind.MALFORMED
