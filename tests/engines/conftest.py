"""A fleet of stub engines that ends with the test, and how a test asks one of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from tests.engines.fleet import StubFleet

Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def fleet() -> Iterator[StubFleet]:
    with StubFleet() as started:
        yield started


@pytest.fixture
def ask() -> Ask:
    """`ask(port, "GET", "/health")` is the status and the body, parsed where it is JSON."""

    def asked(port: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if answer.headers["Content-Type"] == "application/json" else raw.decode()
        finally:
            connection.close()

    return asked
