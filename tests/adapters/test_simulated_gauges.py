"""Can the engines of a simulated fleet in another process be asked as real ones are?"""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.adapters.engines.gauges import EngineGauges
from autoscaler.adapters.sim_cluster import SimulatedFleetClient
from autoscaler.apps.fleet_control import create_app
from autoscaler.apps.loopback import serve
from autoscaler.core.fleet import Fleet
from autoscaler.core.observation import Gauges
from autoscaler.ports import Managed
from autoscaler.simulator.exporters import FleetLabels, RealTimeFleet
from tests.fakes import policy
from tests.simulator.small_fleet import KEY, engine, even

pytestmark = pytest.mark.slow  # a server for each replica


def test_every_replica_that_serves_tells_how_full_it_is_at_its_own_address(tmp_path: Path) -> None:
    labels = FleetLabels("demo", "llama")
    with RealTimeFleet(engine([], even()), labels, tmp_path / "targets", now=lambda: 0.0) as running:
        server = serve(create_app(running))
        fleet = SimulatedFleetClient(server.url).read(KEY, 500.0)
        assert isinstance(fleet, Fleet), fleet
        replicas = [replica for pool in fleet.pools.values() for replica in pool.replicas]
        assert len({replica.address for replica in replicas}) == len(replicas) > 0
        managed = Managed(KEY, "demo", "llama", policy())
        told = {EngineGauges().gauges(managed, replica, 2.0) for replica in replicas}
        server.stop()
    assert told == {Gauges(0.0, 0.0, 0.0, 0.0)}
