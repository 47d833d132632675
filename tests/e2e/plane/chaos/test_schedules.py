"""Are all laws kept in whatever order things happen? By seeds, which are in every message.

`PDA_CHAOS_SEED` is the first one, `PDA_CHAOS_SCHEDULES` how many follow it on the plane.
"""

from __future__ import annotations

import logging
import os
from functools import partial

import pytest

from tests.e2e.plane.chaos.arena import Stage
from tests.e2e.plane.chaos.schedules import on_plane, pure
from tests.e2e.plane.chaos.trials import all_of

log = logging.getLogger(__name__)

SEED = int(os.environ.get("PDA_CHAOS_SEED", "1"))
ON_PLANE = int(os.environ.get("PDA_CHAOS_SCHEDULES", "10"))
PURE = 1000


@pytest.mark.slow
def test_a_thousand_schedules_in_the_pure_world_keep_every_law() -> None:
    broken = []
    for seed in range(SEED, SEED + PURE):
        try:
            pure(seed)
        except AssertionError as error:
            broken.append(f"seed {seed}: {error}")
    assert broken == []


@pytest.mark.plane
@pytest.mark.chaos  # how many requests a forced drain still meets depends on how fast this machine is
@pytest.mark.slow
def test_schedules_on_the_plane_keep_every_law_and_come_to_their_end(stage: Stage) -> None:
    verdicts = all_of({str(seed): partial(on_plane, stage, seed) for seed in range(SEED, SEED + ON_PLANE)})
    for one in verdicts.values():
        log.info("%s: %.1f s, %d faults, %d served, %d undone", one.name, one.took_s, one.faults, one.served, one.undone)
    assert [f"{one.name}: {why}" for one in verdicts.values() for why in one.broken] == []
    assert all(one.served > 0 for one in verdicts.values())
    assert sum(one.faults for one in verdicts.values()) > 0
