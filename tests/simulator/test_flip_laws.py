"""Whatever is flipped and scaled in whatever order: is the GPU budget kept at every event, and is no request lost?

Whoever moves asks before each move what the controller would: is what `Fleet.gpus_held` leaves of the budget enough?
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.action import Action, Flip, Verdict
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.reason import Reason
from autoscaler.simulator.cluster import SimulatedCluster
from autoscaler.simulator.engine import Engine, PoolSpec
from autoscaler.simulator.flips import DriverKind, FlipSpec
from autoscaler.simulator.losses import ReplicaLoss
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.workload import Request
from tests.examples import examples
from tests.simulator.small_fleet import KEY, Answers, changed, even

SLOW = changed(max_seqs=2, decode_s=(0.2, 0.01, 0.0))
REQUESTS = [Request(number, 0.8 * number, 100, 0, 1 + 7 * (number % 4)) for number in range(40)]
EQUAL = {role: PoolSpec(2, 2) for role in Role}
UNEQUAL = {Role.PREFILL: PoolSpec(2, 4), Role.DECODE: PoolSpec(3, 2)}
FLEETS = st.one_of(
    st.tuples(
        st.just(EQUAL),
        st.builds(FlipSpec, st.just(DriverKind.LABEL), st.sampled_from([0.0, 3.0]), st.booleans(), max_in_flight=st.just(3)),
    ),
    st.tuples(
        st.sampled_from([EQUAL, UNEQUAL]),
        st.builds(FlipSpec, st.just(DriverKind.PAIRED_RESIZE), grows_first=st.booleans(), max_in_flight=st.just(3)),
    ),
)
LOSSES = st.lists(st.builds(ReplicaLoss, st.floats(1.0, 30.0), st.sampled_from(Role)), max_size=2).map(tuple)
MOVES = st.lists(
    st.tuples(st.floats(0.0, 6.0), st.one_of(st.sampled_from(list(permutations(Role))), st.tuples(st.sampled_from(Role)))),
    min_size=2,
    max_size=8,
)


def moved(fleet: Fleet, roles: tuple[Role, ...], by: int) -> Flip | Action | None:
    """A flip between two roles that leaves one serving, or one replica more or fewer of one; None where there is none."""
    if len(roles) == 1:
        (role,) = roles
        desired = fleet.pools[role].desired
        return Action(role, desired, max(1, desired + by), Reason.SCALE_UP)
    way, seen = fleet.flip_ways[roles[0], roles[1]], {role: fleet.pools[role].desired for role in roles}
    source = fleet.pools[roles[0]]
    if min(source.serving - source.leaving, source.desired) <= way.from_replicas:
        return None
    return Flip(roles[0], roles[1], way.from_replicas, way.to_replicas, Reason.SCALE_UP, seen)


def cost_gpus(fleet: Fleet, move: Flip | Action) -> int:
    """GPUs it takes beyond those held now."""
    if isinstance(move, Action):
        return max(0, move.to_replicas - move.from_replicas) * fleet.pools[move.role].gpus_per_replica
    taken = move.to_replicas * fleet.pools[move.to_role].gpus_per_replica
    given_up = move.from_replicas * fleet.pools[move.from_role].gpus_per_replica
    return taken if fleet.flip_ways[move.from_role, move.to_role].grows_first else taken - given_up


def events(engine: Engine, until_s: float) -> Iterator[None]:
    """Every moment at which something happens, one after the other."""
    while (next_s := min(engine._agenda.next_s, engine._next.arrival_s if engine._next else inf)) <= until_s:
        engine.advance(next_s)
        yield
    engine.advance(until_s)


def check(engine: Engine, budget: int) -> None:
    paid = sum(pool.gpus_per_replica * (one.paid_s is not None) for pool in engine.pools.values() for one in pool.replicas)
    assert paid <= engine.fleet().gpus_held <= budget


def lived(
    fleet: tuple[dict[Role, PoolSpec], FlipSpec],
    moves: list[tuple[float, tuple[Role, ...]]],
    spare: int,
    losses: tuple[ReplicaLoss, ...],
) -> tuple[Engine, Answers]:
    answers = Answers()
    spec = even(pools=fleet[0], flips=fleet[1], profile=SLOW, start_up=StartUp(4.0, 0.3), losses=losses)
    engine = Engine(spec, REQUESTS, answers)
    cluster, budget = SimulatedCluster(engine), engine.fleet().gpus_held + spare
    for number, (wait_s, roles) in enumerate(moves):
        for _ in events(engine, engine.now + wait_s):
            check(engine, budget)
        seen = engine.fleet()
        move = moved(seen, roles, by=1 - 2 * (number % 2))
        if move is not None and cost_gpus(seen, move) <= budget - seen.gpus_held:
            verdict = cluster.apply(KEY, move, engine.now, 0).verdict
            assert verdict in {Verdict.APPLIED, Verdict.REFUSED}
            check(engine, budget)
    for _ in events(engine, engine.now + 500.0):
        check(engine, budget)
    return engine, answers


@examples(15)
@given(fleet=FLEETS, moves=MOVES, spare=st.sampled_from([0, 2, 4]), losses=LOSSES)
def test_flips_keep_the_budget_at_every_event_and_lose_no_request(
    fleet: tuple[dict[Role, PoolSpec], FlipSpec],
    moves: list[tuple[float, tuple[Role, ...]]],
    spare: int,
    losses: tuple[ReplicaLoss, ...],
) -> None:
    engine, answers = lived(fleet, moves, spare, losses)
    assert engine.exhausted
    assert engine.fleet().flips == (), "every flip ends"
    if not losses:
        assert sorted(answers.ttft_s) == [request.id for request in REQUESTS]
