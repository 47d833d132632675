"""What all chaos tests share: one nursery, and the administrator's way to the plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from autoscaler.adapters.kubernetes import connect
from tests.e2e.plane.chaos.arena import Stage
from tests.e2e.plane.chaos.driver import Nursery
from tests.e2e.plane.plane import Plane


@pytest.fixture(scope="session")
def stage(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("chaos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(plane.kubeconfig))
        api = connect()
    plane.install_crd()
    with Nursery(folder) as nursery:
        yield Stage(plane, api, nursery, folder)
