"""Does a replica change its role as its driver can, and what does that cost meanwhile?"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.engine import Engine, PoolSpec
from autoscaler.simulator.events import Cause
from autoscaler.simulator.flips import DRAINED_LABEL, ENGINE_SWITCH, LABEL, Driver, DriverKind, FlipSpec, InPlace, PairedResize
from autoscaler.simulator.losses import ReplicaLoss
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, changed, engine, even
from tests.simulator.test_pools import phases

# One sequence at a time, 10 s each; prompts cost nothing.
SLOW = changed(max_seqs=1, decode_s=(1.0, 0.0, 0.0), prefill_s=(0.0, 0.0, 0.0))
ROLES = (Role.DECODE, Role.PREFILL)
FOUR = [Request(number, 0.0, 10, 0, 10) for number in range(4)]


def flipped(driver: Driver, answers: Answers | None = None, **changes: object) -> Engine:
    """Requests 0 and 1 decode until 10 s, 2 and 3 wait for room; at 1 s one decode replica is to prefill."""
    fleet = engine(FOUR, even(profile=SLOW, **changes), answers)
    fleet.advance(1.0)
    fleet.flip(Role.DECODE, Role.PREFILL, 1, driver)
    return fleet


def test_a_label_flips_at_once_and_the_old_work_is_finished_beside_the_new() -> None:
    answers = Answers()
    fleet = flipped(LABEL, answers)
    assert phases(fleet, Role.PREFILL) == dict.fromkeys(("prefill-0", "prefill-1", "decode-0"), Phase.SERVING)
    assert phases(fleet, Role.DECODE) == {"decode-1": Phase.SERVING}
    flipped_one = fleet.pools[Role.PREFILL].replicas[-1]
    assert (flipped_one.occupancy().running, len(flipped_one.busy)) == (1, 1), "its decoding still runs and is still seen"
    fleet.advance(100.0)
    assert flipped_one.busy == []
    assert answers.ttft_s == pytest.approx({0: 1.0, 1: 1.0, 3: 11.0, 2: 21.0}), "2 had waited for the one that flipped"


def test_a_flip_after_drain_waits_for_the_last_token() -> None:
    fleet = flipped(DRAINED_LABEL)
    assert phases(fleet, Role.DECODE)["decode-0"] is Phase.DRAINING
    fleet.advance(9.9)
    assert "decode-0" not in phases(fleet, Role.PREFILL)
    fleet.advance(10.1)
    assert phases(fleet, Role.PREFILL)["decode-0"] is Phase.SERVING


def test_an_engine_switch_is_away_after_its_drain() -> None:
    fleet = flipped(ENGINE_SWITCH)
    fleet.advance(29.9)
    assert phases(fleet, Role.PREFILL)["decode-0"] is Phase.SWITCHING
    assert "decode-0" not in {replica.name for replica in fleet.pools[Role.PREFILL].exposed()}, "a restart answers no scrape"
    fleet.advance(30.1)
    assert phases(fleet, Role.PREFILL)["decode-0"] is Phase.SERVING


@pytest.mark.parametrize("driver", [LABEL, DRAINED_LABEL, ENGINE_SWITCH])
def test_a_flip_in_place_holds_its_gpus_throughout_and_asks_for_no_more(driver: InPlace) -> None:
    fleet = flipped(driver)
    assert {role: pool.desired for role, pool in fleet.pools.items()} == {Role.PREFILL: 3, Role.DECODE: 1}
    fleet.advance(100.0)
    assert sum(pool.gpu_s(100.0) for pool in fleet.pools.values()) == pytest.approx(4 * 100.0)
    flipped_at_s = {LABEL: 1.0, DRAINED_LABEL: 10.0, ENGINE_SWITCH: 10.0}[driver]
    assert fleet.pools[Role.PREFILL].gpu_s(100.0) == pytest.approx(3 * 100.0 - flipped_at_s)


def test_a_paired_resize_starts_cold_when_the_given_ones_are_gone() -> None:
    fleet = flipped(PairedResize(give=2, take=1))
    assert phases(fleet, Role.DECODE) == {"decode-0": Phase.DRAINING, "decode-1": Phase.DRAINING}
    assert fleet.pools[Role.PREFILL].desired == 3
    fleet.advance(9.9)
    assert len(phases(fleet, Role.PREFILL)) == 2
    fleet.advance(10.1)
    assert phases(fleet, Role.PREFILL)["prefill-2"] is Phase.STARTING
    fleet.advance(40.1)
    assert phases(fleet, Role.PREFILL)["prefill-2"] is Phase.SERVING


def test_replicas_of_other_sizes_flip_only_by_resize() -> None:
    fleet = engine([], even(pools={Role.PREFILL: PoolSpec(2, 4), Role.DECODE: PoolSpec(2, 2)}))
    with pytest.raises(ValueError, match="no flip in place: prefill has 4 GPUs per replica, decode 2"):
        fleet.flip(Role.PREFILL, Role.DECODE, 1, LABEL)
    fleet.flip(Role.PREFILL, Role.DECODE, 1, PairedResize(1, 2))
    assert fleet.pools[Role.DECODE].desired == 4


def test_only_what_serves_can_be_flipped() -> None:
    fleet = engine([], even())
    fleet.scale(Role.DECODE, 3)
    with pytest.raises(ValueError, match=r"decode replicas to flip 3 is not 1\.\.2, those that serve"):
        fleet.flip(Role.DECODE, Role.PREFILL, 3, LABEL)


def test_the_replica_with_the_least_work_is_flipped() -> None:
    fleet = engine([Request(0, 0.0, 10, 0, 10)], even(profile=SLOW))
    fleet.advance(1.0)
    fleet.flip(Role.DECODE, Role.PREFILL, 1, LABEL)
    assert list(phases(fleet, Role.DECODE)) == ["decode-0"], "decode-1 had nothing to do"


def test_a_flip_that_nobody_wants_any_more_ends_with_the_replica_gone() -> None:
    fleet = flipped(DRAINED_LABEL)
    fleet.scale(Role.PREFILL, 2)
    fleet.advance(100.0)
    assert list(phases(fleet, Role.PREFILL)) == ["prefill-0", "prefill-1"]
    assert list(phases(fleet, Role.DECODE)) == ["decode-1"]


def test_a_replica_that_dies_on_its_way_is_replaced_where_it_was_going() -> None:
    fleet = flipped(DRAINED_LABEL)
    pool = fleet.pools[Role.DECODE]
    pool.lose(pool.replicas[0], Cause.REPLICA_LOST, fleet.now)
    assert phases(fleet, Role.PREFILL)["prefill-2"] is Phase.STARTING
    assert list(phases(fleet, Role.DECODE)) == ["decode-1"]


def test_a_drain_deadline_ends_the_wait_for_a_flip() -> None:
    answers = Answers()
    fleet = flipped(DRAINED_LABEL, answers, drain_deadline_s=3.0)
    fleet.advance(4.0)
    assert phases(fleet, Role.PREFILL)["decode-0"] is Phase.SERVING
    assert answers.given_up_for == {0: Cause.DRAIN_DEADLINE}


def test_a_flip_is_told_with_its_moment() -> None:
    answers = Answers()
    flipped(LABEL, answers)
    assert answers.flips == [(1.0, Role.DECODE, Role.PREFILL, 1)]


def test_a_flipped_replica_works_in_its_new_role() -> None:
    """At 1 prompt per second and replica, three prefill replicas compute three prompts at once."""
    answers = Answers()
    profile = changed(prefill_s=(1.0, 0.0, 0.0))
    fleet = engine([Request(number, 5.0, 10, 0, 1) for number in range(3)], even(profile=profile), answers)
    fleet.flip(Role.DECODE, Role.PREFILL, 1, LABEL)
    fleet.advance(100.0)
    assert max(answers.ttft_s.values()) < 1.1


def test_losses_at_set_times_hit_a_serving_replica() -> None:
    fleet = engine([], even(losses=(ReplicaLoss(5.0, Role.DECODE),)))
    fleet.advance(5.0)
    assert sorted(phases(fleet, Role.DECODE).values()) == [Phase.SERVING, Phase.STARTING]


def test_work_of_the_old_role_is_counted_between_events_too() -> None:
    """Three tokens between 1 s and 4 s, with no event in between."""
    fleet = flipped(LABEL)
    replica = fleet.pools[Role.PREFILL].replicas[-1]
    fleet.refresh()
    before = replica.server.metrics.generated_tokens
    fleet.advance(4.0)
    fleet.refresh()
    assert replica.server.metrics.generated_tokens == pytest.approx(before + 3)


def gpus_held(driver: Driver, at_s: Iterable[float]) -> list[int]:
    """GPUs counted by the controller after one flip at 1 s, at these times."""
    fleet = flipped(driver)
    held = []
    for moment_s in at_s:
        fleet.advance(moment_s)
        held.append(fleet.fleet().gpus_held)
    return held


@pytest.mark.parametrize("driver", [LABEL, DRAINED_LABEL, ENGINE_SWITCH, PairedResize()])
def test_gpus_that_change_their_role_are_counted_once(driver: Driver) -> None:
    """2 + 2 replicas of one GPU: drained from 1 s to 10 s, away or starting to 30 s or 40 s."""
    assert gpus_held(driver, [1.0, 9.9, 10.1, 29.9, 50.0]) == [4] * 5


def test_whoever_grows_first_holds_both_until_the_old_ones_have_gone() -> None:
    """The new one starts for 30 s from 1 s on; then decode-1, which took request 3 at 10 s and 11 s, finishes that."""
    fleet = flipped(PairedResize(grows_first=True))
    assert fleet.fleet().gpus_held == 5
    assert phases(fleet, Role.DECODE)["decode-1"] is Phase.SERVING
    fleet.advance(30.9)
    assert (fleet.fleet().pools[Role.DECODE].leaving, fleet.fleet().gpus_held) == (1, 5)
    fleet.advance(31.1)
    assert phases(fleet, Role.PREFILL)["prefill-2"] is Phase.SERVING
    assert list(phases(fleet, Role.DECODE)) == ["decode-0"], "by then it had nothing left to do"
    assert fleet.fleet().gpus_held == 4


def test_two_small_replicas_that_drain_for_a_large_one_hold_what_it_is_promised() -> None:
    """TP2 decode x2 for TP4 prefill x1: 4 + 4 GPUs at any time, although decode-1 goes at 5 s and decode-0 at 10 s."""
    pools = {Role.PREFILL: PoolSpec(1, 4), Role.DECODE: PoolSpec(2, 2)}
    requests = [Request(0, 0.0, 10, 0, 10), Request(1, 0.0, 10, 0, 5)]
    fleet = engine(requests, even(profile=SLOW, pools=pools))
    fleet.advance(1.0)
    fleet.flip(Role.DECODE, Role.PREFILL, 1, PairedResize(2, 1))
    seen = {}
    for moment_s in (1.0, 5.1, 10.1, 40.1):
        fleet.advance(moment_s)
        now = fleet.fleet()
        seen[moment_s] = (now.gpus_held, [(flip.phase, flip.since_s, flip.shared_gpus) for flip in now.flips])
    assert seen == {
        1.0: (8, [(Phase.DRAINING, 1.0, 4)]),
        5.1: (8, [(Phase.DRAINING, 1.0, 2)]),
        10.1: (8, [(Phase.STARTING, 10.0, 0)]),
        40.1: (8, []),
    }


def test_what_is_given_up_on_its_way_is_held_until_it_has_drained_and_no_longer() -> None:
    fleet = flipped(DRAINED_LABEL)
    fleet.scale(Role.PREFILL, 2)
    assert fleet.fleet().gpus_held == 4
    fleet.advance(10.1)
    assert fleet.fleet().gpus_held == 3
    assert fleet.fleet().flips == ()


def test_a_flip_under_way_is_seen_with_its_roles_and_its_phase() -> None:
    fleet = flipped(ENGINE_SWITCH)
    (draining,) = fleet.fleet().flips
    assert (draining.from_role, draining.to_role, draining.from_replicas, draining.to_replicas) == (*ROLES, 1, 1)
    assert (draining.phase, draining.since_s, draining.started_s) == (Phase.DRAINING, 1.0, 1.0)
    fleet.advance(15.0)
    (away,) = fleet.fleet().flips
    assert (away.name, away.phase, away.since_s, away.started_s) == (draining.name, Phase.SWITCHING, 10.0, 1.0)
    fleet.advance(30.1)
    assert fleet.fleet().flips == ()


@pytest.mark.parametrize(
    ("gpus", "ways"),
    [((4, 2), {ROLES: (2, 1), ROLES[::-1]: (1, 2)}), ((2, 2), {ROLES: (1, 1), ROLES[::-1]: (1, 1)})],
)
def test_a_resize_exchanges_the_fewest_replicas_that_are_worth_as_many_gpus(
    gpus: tuple[int, int], ways: dict[tuple[Role, Role], tuple[int, int]]
) -> None:
    pools = {role: PoolSpec(2, count) for role, count in zip(Role, gpus, strict=True)}
    told = even(pools=pools, flips=FlipSpec(DriverKind.PAIRED_RESIZE)).flip_ways()
    assert {roles: (way.from_replicas, way.to_replicas) for roles, way in told.items()} == ways
    assert {(way.takes_s, way.in_place) for way in told.values()} == {(30.0, False)}


def test_no_way_is_told_where_nothing_can_be_flipped() -> None:
    unequal = {Role.PREFILL: PoolSpec(2, 4), Role.DECODE: PoolSpec(2, 2)}
    assert even(pools=unequal, flips=FlipSpec(DriverKind.LABEL)).flip_ways() == even().flip_ways() == {}
