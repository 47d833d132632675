"""Does a resize come to its end when the API server itself dies or freezes in the middle of it?

It is everybody's, so nothing else goes on meanwhile. One controller's own trouble with it is in test_faults.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.plane.chaos.arena import Arena, Stage
from tests.e2e.plane.chaos.courses import COURSES
from tests.e2e.plane.chaos.faults import meddling, until
from tests.e2e.plane.chaos.trials import trial
from tests.e2e.plane.plane import Plane

pytestmark = [pytest.mark.plane, pytest.mark.slow, pytest.mark.chaos]

AWAY_S = 9.0  # longer than a leader acts on one renewal


@pytest.mark.parametrize(
    ("name", "end", "begin"), [("is killed", Plane.stop_api, Plane.start_api), ("freezes", Plane.pause_api, Plane.resume_api)]
)
def test_a_resize_ends_well_though_the_api_server(
    stage: Stage, name: str, end: Callable[[Plane], None], begin: Callable[[Plane], None]
) -> None:
    def away(arena: Arena) -> Iterator[int]:
        yield from until(lambda: len(arena.gate.writes) >= 2)
        end(stage.plane)
        time.sleep(AWAY_S)
        begin(stage.plane)
        yield 1

    found = trial(stage, f"the API server {name}", COURSES["drain first"], meddle=meddling(away))
    assert [*found.broken] == []
    assert found.faults == 1
