"""Does the simulated cluster keep a write's precondition?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.action import Action, Flip, Verdict
from autoscaler.core.fleet import Fleet, Phase, Role
from autoscaler.core.reason import Reason
from autoscaler.ports import Fault, FleetGateway
from autoscaler.simulator.cluster import SimulatedCluster
from autoscaler.simulator.engine import Engine, PoolSpec
from autoscaler.simulator.flips import DriverKind, FlipSpec
from tests.simulator.small_fleet import KEY, Answers, engine, even

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


FLIP = Flip(Role.DECODE, Role.PREFILL, 1, 1, Reason.SCALE_UP, {Role.PREFILL: 2, Role.DECODE: 2})


def flippable(kind: DriverKind = DriverKind.LABEL, answers: Answers | None = None, **changes: object) -> Engine:
    return engine([], even(flips=FlipSpec(kind), **changes), answers)


def test_a_flip_is_carried_out_as_the_fleet_can_and_told() -> None:
    answers = Answers()
    fleet = flippable(answers=answers)
    cluster: FleetGateway = SimulatedCluster(fleet)
    assert cluster.apply(KEY, FLIP, 0.0, 0).verdict is Verdict.APPLIED
    seen = cluster.read(KEY, 0.0)
    assert isinstance(seen, Fleet)
    assert {role: (pool.desired, pool.serving) for role, pool in seen.pools.items()} == {
        Role.PREFILL: (3, 3),
        Role.DECODE: (1, 1),
    }
    assert answers.flips == [(0.0, Role.DECODE, Role.PREFILL, 1)]


def test_a_flip_between_unequal_gpus_is_a_resize_that_starts_cold() -> None:
    """One TP4 prefill replica for two TP2 decode replicas, which take 30 s."""
    fleet = flippable(DriverKind.PAIRED_RESIZE, pools={Role.PREFILL: PoolSpec(2, 4), Role.DECODE: PoolSpec(2, 2)})
    flip = Flip(Role.PREFILL, Role.DECODE, 1, 2, Reason.SCALE_UP, {Role.PREFILL: 2, Role.DECODE: 2})
    assert SimulatedCluster(fleet).apply(KEY, flip, 0.0, 0).verdict is Verdict.APPLIED
    decode = fleet.fleet().pools[Role.DECODE]
    assert (decode.desired, len(decode.in_phase(Phase.STARTING)), fleet.fleet().gpus_held) == (4, 2, 12)
    fleet.advance(30.1)
    assert fleet.fleet().pools[Role.DECODE].serving == 4


@pytest.mark.parametrize("seen", [{Role.PREFILL: 1, Role.DECODE: 2}, {Role.PREFILL: 2, Role.DECODE: 3}])
def test_a_flip_decided_on_another_size_of_either_role_conflicts(seen: dict[Role, int]) -> None:
    fleet = flippable()
    outcome = SimulatedCluster(fleet).apply(KEY, replace(FLIP, seen=seen), 0.0, 0)
    assert outcome.verdict is Verdict.CONFLICT
    assert fleet.fleet().pools[Role.DECODE].desired == 2


@pytest.mark.parametrize(
    ("flip", "detail"),
    [
        (replace(FLIP, to_replicas=2), "1 for 2 is no multiple of 1 decode for 1 prefill"),
        (replace(FLIP, from_replicas=2, to_replicas=2), "2 more beside 0 under way (allowed at once: 1)"),
    ],
)
def test_a_flip_that_is_no_way_of_this_fleet_is_refused(flip: Flip, detail: str) -> None:
    fleet = flippable()
    outcome = SimulatedCluster(fleet).apply(KEY, flip, 0.0, 0)
    assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, detail)


def test_a_fleet_that_knows_no_flips_refuses_them() -> None:
    outcome = SimulatedCluster(engine([], even())).apply(KEY, FLIP, 0.0, 0)
    assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, "decode cannot be flipped to prefill here")


def test_no_more_is_flipped_than_serves() -> None:
    fleet = engine([], even(flips=FlipSpec(DriverKind.LABEL, max_in_flight=5)))
    fleet.scale(Role.DECODE, 3)
    flip = replace(FLIP, from_replicas=3, to_replicas=3, seen={Role.PREFILL: 2, Role.DECODE: 3})
    outcome = SimulatedCluster(fleet).apply(KEY, flip, 0.0, 0)
    assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, "decode replicas to flip 3 is not 1..2, those that serve")
