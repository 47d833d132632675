"""One control plane for all tests of a run that need one.

Bare `pytest` runs them where the programs are found and skips them with one line where not; `make test` leaves them out;
`make test-plane` builds the programs first. Where CI promised them, their absence is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.e2e.plane.binaries import Binaries, find_binaries
from tests.e2e.plane.plane import Plane


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
