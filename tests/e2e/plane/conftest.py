"""One control plane for all tests of a run that need one.

Bare `pytest` runs them where the programs are found and skips them with one line where not; `make test` leaves them out;
`make test-plane` builds the programs first. Where CI promised them, their absence is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Protocol

import pytest

from autoscaler.core.fleet import Role
from tests.e2e.plane.binaries import Binaries, find_binaries
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.town import Town
from tests.engines.contract import Contract, Launch
from tests.engines.fleet import StubFleet


class FoundTown(Protocol):
    """Makes a town whose engines speak so and are launched so."""

    def __call__(self, contract: type[Contract], launch: Callable[[Role], Launch] = Launch, /) -> Town: ...


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    """The programs of the control plane."""
    found = find_binaries()
    if isinstance(found, str):
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse(found)
    return found


@pytest.fixture(scope="session")
def plane(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A running control plane. What a test makes in its own `plane.namespace()` disturbs no other test."""
    with Plane(binaries, tmp_path_factory.mktemp("plane")) as started:
        yield started


@pytest.fixture
def found_town(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> Iterator[FoundTown]:
    """Towns that end with the test."""
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    plane.install_crd()
    with ExitStack() as ends:
        yield lambda contract, launch=Launch: ends.enter_context(Town(plane, ends.enter_context(StubFleet()), contract, launch))


@pytest.fixture
def during(found_town: FoundTown) -> Iterator[ExitStack]:
    """What goes on while something is done, and ends before the town does."""
    with ExitStack() as ends:
        yield ends
