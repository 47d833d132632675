"""Stub engines, and servers that say one thing, for as long as a test takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.engines.fleet import StubFleet
from tests.engines.loopback import Answer, Loopback, Request

Serve = Callable[[Callable[[Request], Answer | None]], Loopback]


@pytest.fixture
def fleet() -> Iterator[StubFleet]:
    with StubFleet() as fleet:
        yield fleet


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with this answer to everything."""
    servers: list[Loopback] = []

    def start(answer: Callable[[Request], Answer | None]) -> Loopback:
        servers.append(Loopback(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
