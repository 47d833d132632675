"""Is every request to a gateway bounded, in time and in size?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from autoscaler.adapters.routing import GatewayClient, gateway_client
from autoscaler.ports import Fault
from tests.engines.loopback import HANGS, Answer, Loopback, told


@pytest.fixture
def server() -> Iterator[Loopback]:
    started = Loopback(lambda request: told({"asked": request.method, "body": request.body}))
    yield started
    started.close()


def test_a_request_comes_through_with_its_body(server: Loopback) -> None:
    client = GatewayClient(f"{server.url}/")
    assert client.ask("POST", "/workers", {"url": "x"}) == {"asked": "POST", "body": {"url": "x"}}
    assert client.ask("DELETE", "/workers/1") == {"asked": "DELETE", "body": None}
    assert server.asked == {"POST /workers": 1, "DELETE /workers/1": 1}


def test_a_gateway_that_hangs_is_given_up(server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_client, "READ_S", 0.05)
    server.faults["*"] = HANGS
    began_s = time.monotonic()
    fault = GatewayClient(server.url).ask("GET", "/workers")
    assert fault == Fault("routing", f"GET {server.url}/workers: not answered: ReadTimeoutError")
    assert time.monotonic() - began_s < 30.0
    assert server.asked == {"GET /workers": 1}  # not tried again: it may have been done


def test_an_answer_that_takes_too_long_or_too_much_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Loopback(lambda request: Answer(200, b" " * 300_000 + b"{}"))
    monkeypatch.setattr(gateway_client, "LARGEST", 300_001)
    assert GatewayClient(server.url).ask("GET", "/workers") is None
    monkeypatch.setattr(gateway_client, "LARGEST", 300_002)
    assert GatewayClient(server.url).ask("GET", "/workers") == {}
    monkeypatch.setattr(gateway_client, "WITHIN_S", -1.0)
    fault = GatewayClient(server.url).ask("GET", "/workers")
    assert isinstance(fault, Fault)
    assert "not answered" in fault.detail
    server.close()


def test_a_gateway_that_is_not_there_is_a_fault() -> None:
    fault = GatewayClient("http://127.0.0.1:1").ask("GET", "/workers")
    assert fault == Fault("routing", "GET http://127.0.0.1:1/workers: not answered: NewConnectionError")


def test_a_redirect_is_not_followed(server: Loopback) -> None:
    leads_on = Loopback(lambda request: Answer(307, b"{}", f"application/json\r\nLocation: {server.url}/workers"))
    fault = GatewayClient(leads_on.url).ask("GET", "/workers")
    leads_on.close()
    assert fault == Fault("routing", f"GET {leads_on.url}/workers: HTTP 307")
    assert not server.asked
