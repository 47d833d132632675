"""Is the short way the same as the long one, however a request comes?"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.sidecar.running import exchange, running

pytestmark = pytest.mark.slow  # servers
BODY = b'{"prompt_tokens": 1000, "output_tokens": 50}'
HEAD = b"POST /v1/decide HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY)
WHOLE = HEAD + BODY
YES = b'{"admit": true, "reason": "fits", "class": "standard"}'


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running() as (found, _):
        yield found


def in_parts(port: int, parts: Sequence[bytes]) -> bytes:
    """What comes back when the parts come one by one."""
    with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            connection.sendall(part)
            time.sleep(0.02)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def bodies(answer: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1.1 200 OK\r\n.*?\r\n\r\n(\{.*?\})", answer, re.DOTALL)


@pytest.mark.parametrize("cut", [1, 20, len(HEAD) - 1, len(HEAD), len(HEAD) + 1, len(WHOLE) - 1])
def test_a_request_that_comes_in_two_parts_gets_the_answer_of_a_whole_one(port: int, cut: int) -> None:
    assert bodies(in_parts(port, [WHOLE[:cut], WHOLE[cut:]])) == bodies(exchange(port, WHOLE)) == [YES]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([WHOLE * 3], id="three-in-one-read"),
        pytest.param([WHOLE, WHOLE, WHOLE], id="one-after-the-other"),
        pytest.param([WHOLE + HEAD, BODY + WHOLE], id="one-across-two-reads"),
    ],
)
def test_a_pipeline_is_answered_in_its_order(port: int, sent: list[bytes]) -> None:
    assert bodies(in_parts(port, sent)) == [YES] * 3


def test_a_page_asked_for_before_and_after_keeps_its_place(port: int) -> None:
    page = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = in_parts(port, [page + WHOLE + page])
    assert [answer.find(b"ok\n"), answer.find(YES), answer.rfind(b"ok\n")] == sorted(
        [answer.find(b"ok\n"), answer.find(YES), answer.rfind(b"ok\n")]
    )
    assert answer.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    "request_line",
    [
        pytest.param(b"HEAD /v1/ext-authz/x HTTP/1.1\r\nhost: x\r\n\r\n", id="head"),
        pytest.param(b"GET /v1/ext-authz/%2e%2e/x HTTP/1.1\r\nhost: x\r\n\r\n", id="encoded"),
        pytest.param(b"GET /v1/ext-authz/x HTTP/1.0\r\n\r\n", id="http-1.0"),
        pytest.param(b"GET /v1/ext-authz/x HTTP/1.1\r\nconnection: close\r\n\r\n", id="close"),
        pytest.param(b"GET http://x/v1/ext-authz/x HTTP/1.1\r\nhost: x\r\n\r\n", id="absolute"),
        pytest.param(
            b"OPTIONS /v1/auth-request HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n", id="upgrade"
        ),
        pytest.param(b"POST /v1/forward-auth HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", id="chunked"),
    ],
)
def test_every_kind_of_request_is_answered_once(port: int, request_line: bytes) -> None:
    answer = exchange(port, request_line)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1
    assert b"x-pda-class: standard" in answer


def test_who_waits_for_100_continue_gets_it(port: int) -> None:
    head = HEAD.replace(b"host: x", b"host: x\r\nexpect: 100-continue")
    answer = in_parts(port, [head, BODY])
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert bodies(answer) == [YES]


def test_several_workers_share_a_port_and_their_counts_and_one_that_dies_comes_back() -> None:
    command = [sys.executable, "-m", "autoscaler", "sidecar", "--workers", "2", "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--state", "http://127.0.0.1:9/v1/state/a/b"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            url = process.stderr.readline().split()[-1]
            _until(lambda: _page(url + "readyz").startswith("no state of the fleet yet, everybody is admitted"))
            _until(lambda: len(_children(process.pid)) == 2)
            for _ in range(40):
                urllib.request.urlopen(url + "v1/decide", b"{}", timeout=3).close()
            _until(lambda: _counted(url) == 40)
            time.sleep(1.2)  # what a worker counted in its last second goes with it
            first, _ = _children(process.pid)
            os.kill(first, signal.SIGKILL)
            _until(lambda: len(_children(process.pid)) == 2 and first not in _children(process.pid))
            _until(lambda: _counted(url) == 40)
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert not _children(process.pid)


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=3) as answer:
        return str(answer.read().decode())


def _counted(url: str) -> float:
    lines = [line for line in _page(url + "metrics").splitlines() if line.startswith("pdautoscaler_sidecar_decisions_total")]
    return sum(float(line.split()[-1]) for line in lines)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _until(holds: object, patience_s: float = 15.0) -> None:
    assert callable(holds)
    ends_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < ends_s, "did not come true"
        time.sleep(0.1)
