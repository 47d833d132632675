"""A real Prometheus for the tests that need one, and a scripted one for the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.adapters.answering import Answering, Script
from tests.adapters.fake_cluster import Cluster, open_cluster
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


@pytest.fixture(scope="session")
def cluster(prometheus_binary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One server for all tests of the metric profiles: most of their time is the wait for the first scrapes."""
    yield from open_cluster(prometheus_binary, tmp_path_factory.mktemp("profiles"))


@pytest.fixture
def answering() -> Iterator[Callable[[Script], Answering]]:
    servers: list[Answering] = []

    def start(script: Script) -> Answering:
        servers.append(Answering(script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
