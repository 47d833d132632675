"""Does a simulated fleet in another process show and take flips as one in this process does?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.adapters.sim_cluster import SimulatedFleetClient
from autoscaler.apps.fleet_control import create_app
from autoscaler.apps.loopback import serve
from autoscaler.core.action import Flip, Verdict
from autoscaler.core.fleet import Fleet, Phase, Role
from autoscaler.core.reason import Reason
from autoscaler.ports import FleetGateway
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.exporters import FleetLabels, RealTimeFleet
from autoscaler.simulator.flips import DriverKind, FlipSpec
from tests.simulator.small_fleet import KEY, engine, even

pytestmark = pytest.mark.slow  # a server

NOW_S = 500.0
FLIP = Flip(Role.DECODE, Role.PREFILL, 1, 1, Reason.SCALE_UP, {Role.PREFILL: 2, Role.DECODE: 2})


@pytest.fixture
def simulated() -> Engine:
    return engine([], even(flips=FlipSpec(DriverKind.ENGINE_SWITCH, 20.0, drains=True)))


@pytest.fixture
def gateway(simulated: Engine, tmp_path: Path) -> Iterator[FleetGateway]:
    """The fleet's clock stands still."""
    server = serve(create_app(RealTimeFleet(simulated, FleetLabels("demo", "llama"), tmp_path / "targets", now=lambda: 0.0)))
    yield SimulatedFleetClient(server.url)
    server.stop()


def read(gateway: FleetGateway) -> Fleet:
    fleet = gateway.read(KEY, NOW_S)
    assert isinstance(fleet, Fleet)
    return fleet


def test_a_flip_is_taken_and_shown_on_our_clock(gateway: FleetGateway, simulated: Engine) -> None:
    assert read(gateway).flip_ways == simulated.fleet().flip_ways != {}
    assert gateway.apply(KEY, FLIP, NOW_S, 0).verdict is Verdict.APPLIED
    seen = read(gateway)
    (flip,) = seen.flips
    assert (flip.from_role, flip.to_role, flip.phase, flip.since_s) == (Role.DECODE, Role.PREFILL, Phase.SWITCHING, NOW_S)
    assert {role: pool.desired for role, pool in seen.pools.items()} == {Role.PREFILL: 3, Role.DECODE: 1}
    assert seen.gpus_held == 4


def test_a_flip_that_is_too_late_conflicts_and_one_too_many_is_refused(gateway: FleetGateway, simulated: Engine) -> None:
    gateway.apply(KEY, FLIP, NOW_S, 0)
    late = gateway.apply(KEY, FLIP, NOW_S, 0)
    assert (late.verdict, late.detail) == (Verdict.CONFLICT, "prefill is at 3, not at 2")
    again = Flip(Role.PREFILL, Role.DECODE, 1, 1, Reason.SCALE_UP, {Role.PREFILL: 3, Role.DECODE: 1})
    refused = gateway.apply(KEY, again, NOW_S, 0)
    assert (refused.verdict, refused.detail) == (Verdict.REFUSED, "1 more beside 1 under way (allowed at once: 1)")
