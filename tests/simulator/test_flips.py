"""Does a replica change its role as its driver can, and what does that cost meanwhile?"""

from __future__ import annotations

import pytest

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.engine import Engine, PoolSpec
from autoscaler.simulator.events import Cause
from autoscaler.simulator.flips import DRAINED_LABEL, ENGINE_SWITCH, LABEL, Driver, InPlace, PairedResize
from autoscaler.simulator.losses import ReplicaLoss
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, changed, engine, even
from tests.simulator.test_pools import phases

# One sequence at a time, 10 s each; prompts cost nothing.
SLOW = changed(max_seqs=1, decode_s=(1.0, 0.0, 0.0), prefill_s=(0.0, 0.0, 0.0))
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
