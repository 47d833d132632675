"""What do real clients make of a rejection, and bad ones of a sidecar?"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import openai
import pytest

from autoscaler.sidecar import bounds
from tests.sidecar.running import WITHOUT_LEADER, exchange, running

ASK = b"GET /v1/auth-request/x HTTP/1.1\r\nhost: x\r\n\r\n"


def chat(port: int, **headers: str) -> None:
    """A chat by the SDK of OpenAI, as its users write it."""
    url = f"http://127.0.0.1:{port}/v1/forward-auth/v1"
    with openai.OpenAI(api_key="none", base_url=url, default_headers=headers, timeout=10) as client:
        client.chat.completions.create(model="llama", messages=[{"role": "user", "content": "hello " * 500}])


@pytest.mark.slow  # waits as the SDK does
def test_the_sdk_of_openai_sees_a_rate_limit_and_comes_back_when_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    with running(full=True) as (port, ledger), pytest.raises(openai.RateLimitError) as caught:
        chat(port)
    assert (caught.value.code, caught.value.type) == ("ttft", "overloaded")
    assert sum(ledger.verdicts.values()) == 3, "one try, and the two more that the SDK makes"
    assert ledger.total(admitted=False, again=False) == {"standard": 1}, "of which one counts as load"
    assert len(waits) == 2
    assert all(3 < wait_s < 10 for wait_s in waits), "the predicted drain time, not the SDK's own half second"


@pytest.mark.slow
def test_a_class_that_must_not_retry_makes_the_sdk_ask_once() -> None:
    with running(full=True) as (port, ledger):
        with pytest.raises(openai.RateLimitError):
            chat(port, **{"x-tier": "batch"})
        assert sum(ledger.verdicts.values()) == 1


@pytest.mark.slow
def test_clients_that_send_a_byte_now_and_then_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "PATIENCE_S", 1.0)
    monkeypatch.setattr(bounds, "SWEEP_S", 0.2)
    with running() as (port, _):
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
        for connection in slow[:25]:
            connection.sendall(b"POST /v1/decide HTTP/1.1\r\nhost:")
        for connection in slow[25:]:
            connection.sendall(b"POST /v1/decide HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{")
        assert exchange(port, ASK).startswith(b"HTTP/1.1 200 ")
        time.sleep(2.5)
        assert {_left(connection)[:12] for connection in slow[:25]} == {b""}
        assert {_left(connection)[:12] for connection in slow[25:]} <= {b"", b"HTTP/1.1 200"}, "judged by what came"
        for connection in slow:
            connection.close()


@pytest.mark.slow  # a process
def test_ten_thousand_open_connections_leave_room_for_the_next_request() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_400:
        pytest.skip(f"needs 10,400 open files, may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with subprocess.Popen(WITHOUT_LEADER, stderr=subprocess.PIPE, text=True) as process, ExitStack() as crowd:
        crowd.callback(process.kill)
        assert process.stderr is not None
        port = int(process.stderr.readline().rpartition(":")[2].rstrip("/\n"))
        for _ in range(10_000):
            crowd.enter_context(socket.create_connection(("127.0.0.1", port)))
        answer = exchange(port, ASK)
        process.terminate()
        process.wait(20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert process.returncode == 0


@pytest.mark.slow
def test_one_connection_too_many_is_closed_and_not_answered_with_an_error() -> None:
    with running(connections=3) as (port, _):
        crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        time.sleep(0.2)
        assert exchange(port, ASK) == b""
        for connection in crowd:
            connection.close()
        time.sleep(0.2)
        assert exchange(port, ASK).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"".join(b"x-%d: y\r\n" % n for n in range(200_000)), id="headers"),
        pytest.param(b"x: " + b"y" * 2_000_000, id="one-header"),
    ],
)
def test_a_flood_of_headers_is_cut_off(flood: bytes) -> None:
    with running() as (port, ledger):
        assert exchange(port, b"GET /v1/decide HTTP/1.1\r\n" + flood) == b""
        assert not ledger.verdicts
        assert exchange(port, ASK).startswith(b"HTTP/1.1 200 ")


@pytest.mark.slow
def test_a_hundred_megabytes_are_answered_before_they_are_read() -> None:
    head = b"POST /v1/ext-authz/x HTTP/1.1\r\nhost: x\r\ncontent-length: 104857600\r\n\r\n"
    with running() as (port, _), socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
        connection.sendall(head + b"x" * 100_000)
        assert connection.recv(4000).startswith(b"HTTP/1.1 200 ")


def _left(connection: socket.socket) -> bytes:
    connection.settimeout(1)
    try:
        return connection.recv(4000)
    except ConnectionError:
        return b""


@pytest.mark.slow  # a process
def test_a_sidecar_imports_neither_numbers_nor_clusters() -> None:
    """Half of what the controller needs would be 150 MB per worker."""
    told = "import sys, autoscaler.commands.sidecar; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert "msgspec" in done.stdout.split()
    assert not {"kubernetes", "numpy", "pandas", "prometheus_api_client", "scipy", "statsmodels"} & set(done.stdout.split())
