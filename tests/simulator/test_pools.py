"""Do replicas start, drain and go as real ones do, and what do they cost meanwhile?"""

from __future__ import annotations

from random import Random
from statistics import median

import pytest

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, changed, engine, spec


def phases(fleet: Engine, role: Role) -> dict[str, Phase]:
    return {replica.name: replica.phase for replica in fleet.fleet().pools[role].replicas}


def test_a_new_replica_serves_only_after_its_cold_start() -> None:
    fleet = engine([])
    fleet.advance(100.0)
    fleet.scale(Role.DECODE, 2)
    fleet.advance(129.9)
    assert phases(fleet, Role.DECODE) == {"decode-0": Phase.SERVING, "decode-1": Phase.STARTING}
    fleet.advance(130.0)
    assert phases(fleet, Role.DECODE)["decode-1"] is Phase.SERVING
    assert fleet.fleet().pools[Role.DECODE].replicas[1].since_s == 130.0


def test_cold_starts_are_lognormal_around_their_median_and_repeat_with_the_seed() -> None:
    start_up = StartUp(90.0, 0.25)
    drawn = [start_up.draw(Random(seed)) for seed in range(400)]
    assert median(drawn) == pytest.approx(90.0, rel=0.05)
    assert min(drawn) > 90 / 3
    assert max(drawn) < 90 * 3
    assert start_up.draw(Random(1)) == drawn[1]
    assert StartUp(90.0, 0.0).draw(Random(1)) == 90.0


def test_scaling_down_takes_starting_replicas_first_and_newest_first() -> None:
    fleet = engine([], spec(prefill=2))
    fleet.scale(Role.PREFILL, 4)
    fleet.scale(Role.PREFILL, 3)
    assert phases(fleet, Role.PREFILL) == {"prefill-0": Phase.SERVING, "prefill-1": Phase.SERVING, "prefill-2": Phase.STARTING}
    fleet.scale(Role.PREFILL, 1)
    assert phases(fleet, Role.PREFILL) == {"prefill-0": Phase.SERVING}


def test_a_replica_given_up_while_starting_never_serves() -> None:
    fleet = engine([])
    fleet.scale(Role.DECODE, 2)
    fleet.scale(Role.DECODE, 1)
    fleet.advance(100.0)
    assert phases(fleet, Role.DECODE) == {"decode-0": Phase.SERVING}


def test_a_name_is_never_used_again() -> None:
    fleet = engine([])
    for _ in range(2):
        fleet.scale(Role.DECODE, 2)
        fleet.advance(fleet.now + 50.0)
        fleet.scale(Role.DECODE, 1)
    fleet.scale(Role.DECODE, 2)
    assert list(phases(fleet, Role.DECODE)) == ["decode-0", "decode-3"]


def test_a_draining_decode_replica_finishes_what_it_has_and_gives_away_what_waits() -> None:
    """One sequence at a time, 10 s each. Requests 0 and 1 run, 2 and 3 wait; then decode-1 is drained."""
    profile = changed(max_seqs=1, decode_s=(1.0, 0.0, 0.0), prefill_s=(0.0, 0.0, 0.0))
    answers = Answers()
    fleet = engine([Request(number, 0.0, 10, 0, 10) for number in range(4)], spec(decode=2, profile=profile), answers)
    fleet.advance(1.0)
    fleet.scale(Role.DECODE, 1)
    assert phases(fleet, Role.DECODE) == {"decode-0": Phase.SERVING, "decode-1": Phase.DRAINING}
    fleet.advance(9.0)
    assert phases(fleet, Role.DECODE)["decode-1"] is Phase.DRAINING
    fleet.advance(10.5)
    assert phases(fleet, Role.DECODE) == {"decode-0": Phase.SERVING}
    fleet.advance(100.0)
    assert answers.ttft_s == pytest.approx({0: 1.0, 1: 1.0, 2: 11.0, 3: 21.0})


def test_a_draining_prefill_replica_stays_until_its_kv_is_fetched() -> None:
    """Decode takes one request at a time, so the second prompt is computed long before it is fetched."""
    profile = changed(max_seqs=1, decode_s=(1.0, 0.0, 0.0), prefill_s=(1.0, 0.0, 0.0))
    answers = Answers()
    fleet = engine([Request(number, 0.0, 10, 0, 10) for number in range(2)], spec(prefill=2, profile=profile), answers)
    fleet.advance(5.0)
    fleet.scale(Role.PREFILL, 1)
    fleet.advance(10.9)
    assert phases(fleet, Role.PREFILL) == {"prefill-0": Phase.SERVING, "prefill-1": Phase.DRAINING}
    fleet.advance(11.1)
    assert phases(fleet, Role.PREFILL) == {"prefill-0": Phase.SERVING}
    fleet.advance(100.0)
    assert sorted(answers.ttft_s) == [0, 1]


def test_a_drained_replica_gets_no_new_work() -> None:
    requests = [Request(0, 0.0, 10, 0, 1_000), *(Request(number, float(number), 10, 0, 1) for number in range(1, 20))]
    fleet = engine(requests, spec(decode=2))
    fleet.advance(0.5)
    fleet.scale(Role.DECODE, 1)
    fleet.scale(Role.DECODE, 2)
    taken = {replica.name: replica.server.metrics for replica in fleet.pools[Role.DECODE].replicas}
    fleet.advance(29.0)
    assert sum(metrics.completed for name, metrics in taken.items() if name != "decode-0") == 0


def test_work_waits_in_order_while_nobody_serves() -> None:
    answers = Answers()
    requests = [Request(number, float(number), 100, 0, 1) for number in range(3)]
    fleet = engine(requests, spec(prefill=0), answers)
    fleet.advance(5.0)
    assert [job.request.id for job in fleet.pools[Role.PREFILL].unrouted] == list(fleet.in_flight) == [0, 1, 2]
    fleet.scale(Role.PREFILL, 1)
    fleet.advance(100.0)
    starts_s = {number: number + ttft_s - 0.2 - 0.012 for number, ttft_s in answers.ttft_s.items()}
    assert starts_s == pytest.approx({0: 35.0, 1: 35.2, 2: 35.4})


def test_gpus_are_paid_from_asking_to_going() -> None:
    """4 GPUs per prefill replica: one for 100 s, and a second that starts for 30 s and drains from 60 s to 75 s."""
    profile = changed(prefill_s=(25.0, 0.0, 0.0))
    fleet = engine([Request(0, 41.0, 10, 0, 1), Request(1, 50.0, 10, 0, 1)], spec(profile=profile))
    fleet.advance(10.0)
    fleet.scale(Role.PREFILL, 2)
    fleet.advance(60.0)
    fleet.scale(Role.PREFILL, 1)
    fleet.advance(100.0)
    assert phases(fleet, Role.PREFILL) == {"prefill-0": Phase.SERVING}
    assert fleet.pools[Role.PREFILL].gpu_s(100.0) == pytest.approx(4 * (100 + 65), abs=0.1)


def test_asking_for_less_than_none_is_refused() -> None:
    with pytest.raises(ValueError, match="prefill replicas -1 is not >= 0"):
        engine([]).scale(Role.PREFILL, -1)
