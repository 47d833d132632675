"""Does a scenario say how its fleet's replicas change their role, and is what no fleet can do refused?"""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.core.fleet import Role
from autoscaler.refusal import Refusal
from autoscaler.simulator.fleet_spec import FleetSpec
from autoscaler.simulator.flips import DriverKind, FlipSpec
from autoscaler.simulator.scenarios import load_cases
from tests.simulator.test_scenarios import Document, document, written

ALIKE = {role.value: {**document()["pools"][role.value], "gpus": 1} for role in Role}


def fleet(folder: Path, **changed: object) -> FleetSpec:
    return load_cases(None, written(folder, document(**changed))).ready[0].scenario.fleet


def test_a_scenario_that_says_nothing_of_flips_knows_none(tmp_path: Path) -> None:
    assert fleet(tmp_path).flip_ways() == {}


@pytest.mark.parametrize(
    ("flips", "spec"),
    [
        ({"driver": "label"}, FlipSpec(DriverKind.LABEL)),
        ({"driver": "label", "seconds": 2, "drains": True}, FlipSpec(DriverKind.LABEL, 2.0, drains=True)),
        ({"driver": "engineSwitch"}, FlipSpec(DriverKind.ENGINE_SWITCH, 20.0, drains=True)),
        ({"driver": "engineSwitch", "seconds": 45, "maxInFlight": 3}, FlipSpec(DriverKind.ENGINE_SWITCH, 45.0, True, False, 3)),
        ({"driver": "pairedResize"}, FlipSpec(DriverKind.PAIRED_RESIZE)),
        ({"driver": "pairedResize", "growsFirst": True}, FlipSpec(DriverKind.PAIRED_RESIZE, grows_first=True)),
    ],
)
def test_each_driver_is_chosen_by_its_name(tmp_path: Path, flips: Document, spec: FlipSpec) -> None:
    assert fleet(tmp_path, pools=ALIKE, flips=flips).flips == spec


def test_a_resize_takes_what_a_start_up_takes_and_exchanges_by_gpus(tmp_path: Path) -> None:
    """Decode has two GPUs per replica, prefill one; a start-up takes 60 s."""
    ways = fleet(tmp_path, flips={"driver": "pairedResize"}).flip_ways()
    way = ways[Role.DECODE, Role.PREFILL]
    assert (way.driver, way.takes_s, way.from_replicas, way.to_replicas) == ("pairedResize", 60, 1, 2)


@pytest.mark.parametrize(
    ("flips", "line"),
    [
        ({"driver": "cold"}, 'driver: "cold" is unknown (allowed: label, engineSwitch, pairedResize)'),
        ({"driver": "pairedResize", "seconds": 5}, "seconds: is no word for driver pairedResize"),
        ({"driver": "engineSwitch", "drains": True}, "drains: is no word for driver engineSwitch"),
        ({"driver": "label", "growsFirst": True}, "growsFirst: is no word for driver label"),
        ({"driver": "label", "maxInFlight": 0}, "maxInFlight: 0 is out of range (allowed: 1..100)"),
        ({"driver": "label"}, "driver: label needs replicas of equal GPUs, and they have 1 and 2 (allowed: pairedResize)"),
    ],
)
def test_what_no_fleet_can_do_is_refused_in_one_line(tmp_path: Path, flips: Document, line: str) -> None:
    path = written(tmp_path, document(flips=flips))
    with pytest.raises(Refusal) as refused:
        load_cases(None, path)
    (told,) = str(refused.value).splitlines()
    assert told.startswith(f"{path}:")
    assert told.endswith(f"scenarios.waves.flips.{line}")
