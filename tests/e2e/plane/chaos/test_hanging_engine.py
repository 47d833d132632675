"""Does an engine that hangs for three minutes in its role switch delay another fleet of the same controller?"""

from __future__ import annotations

import logging
import time

import pytest

from autoscaler.core.transaction import Step
from tests.e2e.plane.chaos.arena import Arena, Stage
from tests.e2e.plane.chaos.courses import COURSES
from tests.e2e.plane.chaos.trials import laws
from tests.engines.loopback import HANGS

pytestmark = [pytest.mark.plane, pytest.mark.slow]

log = logging.getLogger(__name__)

TICK_S = 1.0


def drains_in_s(beside: Arena | None, arena: Arena) -> float:
    """From the beginning of a controller's work to the end of its drain; it leads the fleet `beside` as well."""
    began_s = time.monotonic()
    arena.lead(None, *([beside] if beside else []))
    arena.until(arena.settled, "the drain is over")
    return time.monotonic() - began_s


def test_an_engine_that_hangs_in_its_switch_delays_no_other_fleet_by_a_tick(stage: Stage) -> None:
    with Arena(stage, COURSES["a drain"]) as alone:
        without_s = drains_in_s(None, alone)
        alone.end()
    with Arena(stage, COURSES["a switch"]) as sick, Arena(stage, COURSES["a drain"]) as well:
        for engine in sick.fleet.engines.values():
            engine.http.faults["/pd_role_switch"] = HANGS
        first = sick.lead()
        sick.until(lambda: any(engine.http.asked["POST /pd_role_switch"] for engine in sick.fleet.engines.values()), "it hangs")
        first.kill()
        beside_s = drains_in_s(sick, well)
        log.info("a drain: %.1f s alone, %.1f s beside an engine that hangs", without_s, beside_s)
        assert sick.step() == Step.SWITCH
        for one in (sick, well):
            one.end()
            assert laws(one, settles=False) == []
    assert beside_s <= without_s + TICK_S
