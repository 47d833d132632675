"""A real Prometheus for the tests that need one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.adapters.prometheus_server import RealPrometheus, find_prometheus

StartPrometheus = Callable[[Path, Iterable[Mapping[str, object]]], RealPrometheus]


@pytest.fixture(scope="session")
def prometheus_binary() -> str:
    """The server on PATH. Without it: a skip that says so, and a failure where CI promised it."""
    binary = find_prometheus()
    if binary is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no prometheus on PATH: nothing here was tested against a real server (Debian: apt-get install prometheus)")
    return binary


@pytest.fixture(scope="module")
def start_prometheus(prometheus_binary: str) -> Iterator[StartPrometheus]:
    """Starts servers that end with the module."""
    started: list[RealPrometheus] = []

    def start(folder: Path, targets: Iterable[Mapping[str, object]]) -> RealPrometheus:
        server = RealPrometheus(prometheus_binary, folder, targets)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()
