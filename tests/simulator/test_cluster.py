"""Does the simulated cluster keep a write's precondition?"""

from __future__ import annotations

from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.plan import Action, Verdict
from autoscaler.core.reason import Reason
from autoscaler.ports import Fault, FleetGateway
from autoscaler.simulator.cluster import SimulatedCluster
from tests.simulator.small_fleet import KEY, engine

UP = Action(Role.DECODE, 1, 3, Reason.SCALE_UP)


def test_an_action_is_carried_out_and_told() -> None:
    told: list[tuple[Action, float]] = []
    cluster: FleetGateway = SimulatedCluster(engine([]), lambda action, now: told.append((action, now)))
    assert cluster.apply(KEY, UP, 7.0, 0).verdict is Verdict.APPLIED
    fleet = cluster.read(KEY, 7.0)
    assert isinstance(fleet, Fleet)
    assert fleet.pools[Role.DECODE].desired == 3
    assert fleet.gpus_held == 4 * 1 + 2 * 3
    assert told == [(UP, 7.0)]


def test_an_action_decided_on_another_size_conflicts_and_changes_nothing() -> None:
    told: list[Action] = []
    fleet = engine([])
    cluster = SimulatedCluster(fleet, lambda action, now: told.append(action))
    fleet.scale(Role.DECODE, 2)
    outcome = cluster.apply(KEY, UP, 0.0, 0)
    assert (outcome.verdict, outcome.detail) == (Verdict.CONFLICT, "decode is at 2, not at 1")
    assert fleet.fleet().pools[Role.DECODE].desired == 2
    assert told == []


def test_another_fleet_is_a_fault() -> None:
    cluster = SimulatedCluster(engine([]))
    assert cluster.read("demo/other", 0.0) == Fault("simulated cluster", f"no fleet 'demo/other', only '{KEY}'")
    assert cluster.apply("demo/other", UP, 0.0, 0).verdict is Verdict.FAILED
