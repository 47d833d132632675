"""Does a replica that needs a node, or more than the quota, wait for it, and does the controller see why?"""

from __future__ import annotations

import pytest

from autoscaler.core.fleet import Lack, Phase, Role
from autoscaler.simulator.engine import Engine, Handover, PoolSpec
from autoscaler.simulator.events import Cause
from autoscaler.simulator.flips import DRAINED_LABEL
from autoscaler.simulator.losses import NodeLoss
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.provisioning import NodeSpec
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, changed, engine, even
from tests.simulator.test_pools import phases


def on(nodes: NodeSpec, **changes: object) -> Engine:
    """2 + 2 replicas of one GPU each, 30 s to start."""
    return engine([], even(nodes=nodes, **changes))


def nodes(ready: int, most: int, gpus: int = 4, quota_gpus: int | None = None) -> NodeSpec:
    return NodeSpec(ready, most, gpus, StartUp(120.0, 0.0), quota_gpus=quota_gpus)


def lacks(fleet: Engine, role: Role) -> dict[Lack, int]:
    return {one.lack: one.replicas for one in fleet.fleet().pools[role].shortages}


def test_where_there_is_room_a_replica_starts_at_once() -> None:
    fleet = on(nodes(2, 2))
    fleet.scale(Role.DECODE, 4)
    fleet.advance(30.0)
    assert list(phases(fleet, Role.DECODE).values()) == [Phase.SERVING] * 4


def test_a_node_that_must_come_first_is_waited_for_and_not_paid_for() -> None:
    """Ordered at 0 s, there at 120 s, its replica serves at 150 s: 30 s of one GPU until then."""
    fleet = on(nodes(1, 2))
    fleet.scale(Role.DECODE, 3)
    assert lacks(fleet, Role.DECODE) == {Lack.UNSCHEDULABLE: 1}
    assert phases(fleet, Role.DECODE)["decode-2"] is Phase.STARTING
    fleet.advance(149.9)
    assert phases(fleet, Role.DECODE)["decode-2"] is Phase.STARTING
    fleet.advance(150.0)
    assert (phases(fleet, Role.DECODE)["decode-2"], lacks(fleet, Role.DECODE)) == (Phase.SERVING, {})
    assert fleet.pools[Role.DECODE].gpu_s(150.0) == pytest.approx(2 * 150.0 + 30.0)


def test_one_node_is_ordered_for_all_who_fit_on_it() -> None:
    fleet = on(nodes(1, 9))
    fleet.scale(Role.DECODE, 7)
    fleet.advance(200.0)
    assert fleet._nodes is not None
    assert fleet._nodes.standing == 3, "5 more of one GPU: two nodes of four"


def test_beyond_the_most_nodes_none_will_come_and_what_frees_gpus_helps() -> None:
    fleet = on(nodes(1, 1))
    fleet.scale(Role.DECODE, 4)
    shortage = fleet.fleet().pools[Role.DECODE].shortages[0]
    assert (shortage.lack, shortage.replicas, shortage.told_s) == (Lack.NODES_REFUSED, 2, 0.0)
    assert shortage.text == "no node has 1 free GPUs, max node count 1 reached"
    fleet.advance(1000.0)
    fleet.scale(Role.PREFILL, 1)
    assert lacks(fleet, Role.DECODE) == {Lack.NODES_REFUSED: 1}
    fleet.advance(1030.0)
    assert phases(fleet, Role.DECODE)["decode-2"] is Phase.SERVING


def test_a_quota_lets_no_pod_be_made_until_somebody_gives_up() -> None:
    fleet = on(nodes(2, 2, quota_gpus=5))
    fleet.scale(Role.DECODE, 5)
    assert lacks(fleet, Role.DECODE) == {Lack.NOT_CREATED: 2}
    assert list(phases(fleet, Role.DECODE)) == ["decode-0", "decode-1", "decode-2"], "what has no pod is not seen"
    assert fleet.fleet().pools[Role.DECODE].desired == 5
    fleet.scale(Role.PREFILL, 1)
    assert lacks(fleet, Role.DECODE) == {Lack.NOT_CREATED: 1}


def test_giving_up_what_waits_costs_nothing_and_frees_nothing() -> None:
    fleet = on(nodes(1, 1))
    fleet.scale(Role.DECODE, 4)
    fleet.advance(50.0)
    fleet.scale(Role.DECODE, 2)
    assert lacks(fleet, Role.DECODE) == {}
    assert fleet.pools[Role.DECODE].gpu_s(50.0) == pytest.approx(2 * 50.0)


def test_an_ordered_node_goes_when_idle_and_a_ready_one_stays() -> None:
    fleet = on(nodes(1, 2))
    fleet.scale(Role.DECODE, 3)
    fleet.advance(200.0)
    fleet.scale(Role.DECODE, 1)
    fleet.scale(Role.PREFILL, 1)
    assert fleet._nodes is not None
    fleet.advance(799.9)
    assert fleet._nodes.standing == 2
    fleet.advance(800.1)
    assert fleet._nodes.standing == 1
    fleet.advance(5_000.0)
    assert fleet._nodes.standing == 1


def test_a_node_takes_its_replicas_with_it_and_they_start_anew_elsewhere() -> None:
    """Both nodes carry two of the four replicas; the two that die wait for a third node."""
    answers = Answers()
    requests = [Request(number, 0.0, 10, 0, 5_000) for number in range(2)]
    fleet = engine(requests, even(nodes=nodes(2, 2, gpus=2), losses=(NodeLoss(5.0),)), answers)
    fleet.advance(5.0)
    seen = [*phases(fleet, Role.PREFILL).values(), *phases(fleet, Role.DECODE).values()]
    assert sorted(seen) == [Phase.SERVING] * 2 + [Phase.STARTING] * 2
    fleet.advance(155.1)
    assert set(phases(fleet, Role.PREFILL).values()) == set(phases(fleet, Role.DECODE).values()) == {Phase.SERVING}
    assert set(answers.given_up_for.values()) <= {Cause.NODE_LOST}


def test_under_the_fleet_that_stands_at_the_beginning_there_are_nodes_enough_and_they_go_when_idle() -> None:
    """Four GPUs on nodes of three: a second node stands, and goes 600 s after the last replica on it."""
    fleet = on(nodes(1, 4, gpus=3))
    assert fleet._nodes is not None
    assert fleet._nodes.standing == 2
    assert set(phases(fleet, Role.PREFILL).values()) == set(phases(fleet, Role.DECODE).values()) == {Phase.SERVING}
    fleet.scale(Role.DECODE, 1)
    fleet.advance(600.1)
    assert fleet._nodes.standing == 1


@pytest.mark.parametrize(
    ("room", "lack"),
    [(nodes(1, 1, gpus=3), Lack.NODES_REFUSED), (nodes(2, 2, gpus=3, quota_gpus=3), Lack.NOT_CREATED)],
)
def test_what_does_not_fit_at_the_beginning_waits_and_starts_cold_when_there_is_room(room: NodeSpec, lack: Lack) -> None:
    fleet = on(room)
    assert lacks(fleet, Role.DECODE) == {lack: 1}
    fleet.advance(100.0)
    fleet.scale(Role.PREFILL, 1)
    fleet.advance(129.9)
    assert fleet.fleet().pools[Role.DECODE].serving == 1
    fleet.advance(130.0)
    assert fleet.fleet().pools[Role.DECODE].serving == 2
    assert fleet.pools[Role.DECODE].gpu_s(130.0) == pytest.approx(130.0 + 30.0)


@pytest.mark.parametrize("replicas", [0, 1])
def test_a_replica_larger_than_a_node_is_refused_before_one_is_asked_for(replicas: int) -> None:
    with pytest.raises(ValueError, match="a replica of 2 GPUs fits on no node of 1"):
        even(nodes=NodeSpec(9, 9, 1), pools={role: PoolSpec(replicas, 2) for role in Role})


def test_impossible_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ready nodes 3 is not 0\.\.2"):
        NodeSpec(3, 2)
    with pytest.raises(ValueError, match="GPUs per node 0 is not >= 1"):
        NodeSpec(1, 2, 0)


def test_a_ready_node_stays_however_long_it_is_empty() -> None:
    fleet = on(nodes(1, 2))
    for role in Role:
        fleet.scale(role, 0)
    fleet.advance(5_000.0)
    assert fleet._nodes is not None
    assert fleet._nodes.standing == 1


def test_what_dies_with_its_node_does_not_change_its_role_first() -> None:
    """With push decode-0 has promised room to a prompt of prefill-0 and waits for it before it flips. The node dies with
    all: the prompt fails and decode-0 has nothing left to wait for, but it is dead too.
    """
    fleet = engine(
        [Request(0, 0.0, 100, 0, 10)],
        even(
            profile=changed(prefill_s=(60.0, 0.0, 0.0)),
            nodes=nodes(1, 2),
            losses=(NodeLoss(5.0),),
            handover=Handover.PUSH,
        ),
    )
    fleet.advance(1.0)
    fleet.flip(Role.DECODE, Role.PREFILL, 2, DRAINED_LABEL)
    assert phases(fleet, Role.DECODE) == {"decode-0": Phase.DRAINING}
    fleet.advance(5.0)
    assert phases(fleet, Role.DECODE) == {}
    assert set(phases(fleet, Role.PREFILL).values()) == {Phase.STARTING}
    assert len(phases(fleet, Role.PREFILL)) == 4
