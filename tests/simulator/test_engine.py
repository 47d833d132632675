"""Does the engine do what queueing theory and a sheet of paper say?"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.batch_server import BatchServer
from autoscaler.simulator.engine import Engine, PoolSpec
from autoscaler.simulator.flips import LABEL
from autoscaler.simulator.losses import ReplicaLoss
from autoscaler.simulator.queue_server import QueueServer
from autoscaler.simulator.workload import Kind, Lengths, Request, constant
from tests.simulator.small_fleet import PROFILE, Answers, changed, engine, even, spec


def servers(fleet: Engine, role: Role) -> list[QueueServer | BatchServer]:
    found = [replica.server for replica in fleet.pools[role].replicas]
    assert all(isinstance(server, QueueServer | BatchServer) for server in found)
    return found  # type: ignore[return-value]


@pytest.mark.slow
@pytest.mark.parametrize("utilisation", [0.4, 0.7])
def test_mean_wait_of_equal_prompts_is_that_of_an_m_d_1_queue(utilisation: float) -> None:
    """W = rho D / (2 (1 - rho)) for Poisson arrivals and constant service D (Pollaczek-Khinchine)."""
    service_s = 0.1
    profile = changed(prefill_s=(service_s, 0.0, 0.0), decode_s=(1e-6, 0.0, 0.0))
    kind = Kind(Lengths(10), Lengths(1))
    requests = constant(Random(1), kind, utilisation / service_s, duration_s=40_000 * service_s / utilisation)
    fleet = engine(requests, spec(profile=profile))
    fleet.advance(1e6)
    ttft = servers(fleet, Role.PREFILL)[0].metrics.ttft_s
    wait_s = ttft.total / ttft.samples - service_s
    assert wait_s == pytest.approx(utilisation * service_s / (2 * (1 - utilisation)), rel=0.03)


def test_a_lone_request_takes_the_sum_of_its_steps() -> None:
    """Prompt 100, output 4: prefill 0.2 s, then steps over 100, 101, 102 and 103 resident tokens."""
    answers = Answers()
    fleet = engine([Request(0, 5.0, 100, 0, 4)], ledger=answers)
    fleet.advance(10.0)
    steps_s = [0.010 + 0.001 + 1e-5 * tokens for tokens in (100, 101, 102, 103)]
    assert answers.ttft_s[0] == pytest.approx(0.2 + steps_s[0], abs=1e-12)
    assert answers.tpot_s[0] == pytest.approx(sum(steps_s[1:]) / 3, abs=1e-12)


def test_cached_tokens_cost_no_prefill_time_but_are_held_and_read() -> None:
    answers = Answers()
    fleet = engine([Request(0, 0.0, 100, 60, 1)], ledger=answers)
    fleet.advance(10.0)
    assert answers.ttft_s[0] == pytest.approx(0.1 + 0.040 + (0.010 + 0.001 + 1e-5 * 100), abs=1e-12)


def test_two_requests_share_steps_from_the_moment_the_second_joins() -> None:
    """By hand, with prefill so fast that both join on arrival.

    A (prompt 100, output 10) joins at 0 s. Alone its steps take 12.00, 12.01, 12.02 ms; three end at 36.03 ms, and at
    that moment B (prompt 200, output 3) joins: 2 requests hold 103 + 200 tokens, so steps take 10 + 2 + 3.03 = 15.03,
    then 15.05 and 15.07 ms; B leaves at 81.18 ms. A, with 106 tokens held, has four steps left: 12.06, 12.07, 12.08
    and 12.09 ms, and ends at 129.48 ms.
    """
    profile = changed(prefill_s=(0.0, 0.0, 0.0))
    answers = Answers()
    requests = [Request(0, 0.0, 100, 0, 10), Request(1, 0.03603, 200, 0, 3)]
    fleet = engine(requests, spec(prefill=2, profile=profile), answers)
    fleet.advance(10.0)
    ends_s = {
        number: number * 0.03603 + answers.ttft_s[number] + answers.tpot_s[number] * (output - 1)
        for number, output in ((0, 10), (1, 3))
    }
    assert ends_s[1] == pytest.approx(0.08118, abs=1e-9)
    assert ends_s[0] == pytest.approx(0.12948, abs=1e-9)
    assert answers.ttft_s[1] == pytest.approx(0.01503, abs=1e-9)


def test_a_full_decode_pool_stalls_prefill() -> None:
    """Decode holds one request, prefill's KV two prompts: prefill ends up idle, full, and with a growing queue."""
    profile = changed(kv_tokens=1_000, decode_s=(10.0, 0.0, 0.0))
    requests = [Request(number, float(number), 400, 0, 200) for number in range(60)]
    fleet = engine(requests, spec(profile=profile))
    fleet.advance(30.0)
    prefill, decode = (servers(fleet, role)[0].occupancy() for role in (Role.PREFILL, Role.DECODE))
    assert prefill.running == 0
    assert prefill.kv_usage == pytest.approx(0.8)
    assert (decode.running, decode.waiting) == (1, 2)
    early = prefill.waiting
    fleet.advance(50.0)
    late = servers(fleet, Role.PREFILL)[0].occupancy()
    assert (late.running, late.waiting) == (0, early + 20)


def test_prefill_goes_on_as_soon_as_decode_has_fetched() -> None:
    profile = changed(kv_tokens=1_000, decode_s=(0.1, 0.0, 0.0))
    answers = Answers()
    fleet = engine([Request(number, 0.0, 400, 0, 200) for number in range(6)], spec(profile=profile), answers)
    fleet.advance(1_000.0)
    assert sorted(answers.ttft_s) == list(range(6))


def test_a_request_longer_than_any_replica_is_refused_and_blocks_nobody() -> None:
    answers = Answers()
    fleet = engine([Request(0, 0.0, 99_990, 0, 11), Request(1, 1.0, 10, 0, 1)], ledger=answers)
    fleet.advance(1_000.0)
    assert (answers.refusals, list(answers.ttft_s)) == ([0], [1])
    assert (fleet.offered, fleet.gateway.refused) == (2, 1)


def test_work_goes_to_the_least_loaded_replica_and_ties_to_the_first() -> None:
    requests = [Request(0, 0.0, 500, 0, 1), Request(1, 0.0, 100, 0, 1), Request(2, 0.0, 100, 0, 1), Request(3, 0.0, 600, 0, 1)]
    fleet = engine(requests, spec(prefill=2))
    fleet.advance(0.0)
    assert [server.load for server in servers(fleet, Role.PREFILL)] == [500, 800]


def test_fetching_kv_takes_base_plus_bytes_over_bandwidth() -> None:
    profile = changed(kv_bytes_per_token=1_000, link_bytes_per_s=1e6, link_base_s=0.5)
    answers = Answers()
    fleet = engine([Request(0, 0.0, 100, 0, 1)], spec(profile=profile), answers)
    fleet.advance(0.45)
    assert servers(fleet, Role.DECODE)[0].occupancy().deferred == 1
    fleet.advance(10.0)
    assert answers.ttft_s[0] == pytest.approx(0.2 + 0.5 + 0.1 + 0.012)


def test_the_same_seed_gives_the_same_run() -> None:
    def ends(seed: int) -> dict[int, float]:
        answers = Answers()
        fleet = engine(constant(Random(seed), Kind(Lengths(300, 1.0), Lengths(50, 1.0)), 4.0, 200.0), spec(2, 2), answers)
        fleet.advance(300.0)
        return answers.ttft_s

    assert ends(7) == ends(7)
    assert ends(7) != ends(8)


def test_how_often_the_engine_is_stopped_does_not_change_the_run() -> None:
    def ttft_s(stops: int) -> dict[int, float]:
        answers = Answers()
        fleet = engine(constant(Random(3), Kind(Lengths(300, 1.0), Lengths(50, 1.0)), 4.0, 60.0), ledger=answers)
        for stop in range(1, stops + 1):
            fleet.advance(100.0 * stop / stops)
            fleet.refresh()
        return answers.ttft_s

    assert ttft_s(500) == pytest.approx(ttft_s(1), abs=1e-9)


def test_time_cannot_go_back() -> None:
    fleet = engine([])
    fleet.advance(5.0)
    with pytest.raises(ValueError, match=r"until_s 4 is not >= now 5"):
        fleet.advance(4.0)


def test_requests_must_come_in_order() -> None:
    fleet = engine([Request(0, 2.0, 1, 0, 1), Request(1, 1.0, 1, 0, 1)])
    with pytest.raises(ValueError, match="request 1 arrives at 1 s, after one at 2 s"):
        fleet.advance(5.0)


def test_tokens_and_intervals_add_up() -> None:
    """Every output token is counted once; every token but a request's first ends one interval."""
    kind = Kind(Lengths(200, 0.5), Lengths(30, 0.8), cached_share=0.5)
    requests = list(constant(Random(5), kind, 3.0, 100.0))
    fleet = engine(requests)
    fleet.advance(1_000.0)
    decode, prefill = (servers(fleet, role)[0].metrics for role in (Role.DECODE, Role.PREFILL))
    output = sum(request.output_tokens for request in requests)
    assert decode.generated_tokens == pytest.approx(output, rel=1e-9)
    assert decode.itl_s.samples == pytest.approx(output - len(requests), rel=1e-9)
    assert prefill.computed_tokens + prefill.cached_tokens == sum(request.prompt_tokens for request in requests)
    assert decode.fetched_tokens + decode.computed_tokens == sum(request.prompt_tokens for request in requests)
    assert fleet.exhausted


def test_profile_of_the_small_fleet_is_the_one_the_sheets_use() -> None:
    assert PROFILE.step_time_s(1, 100) == pytest.approx(0.012)


# Twice as fast as the fleet's own, and with room for 1,000 tokens.
QUICK = changed(prefill_s=(0.05, 0.0005, 0.0), decode_s=(0.005, 0.0005, 5e-6), kv_tokens=1_000)


@pytest.mark.parametrize(
    ("quick", "ttft_s", "tpot_s"),
    [
        pytest.param({}, 0.2 + 0.012, 0.01201, id="one profile for both"),
        pytest.param({Role.PREFILL: QUICK}, 0.1 + 0.012, 0.01201, id="another for prefill"),
        pytest.param({Role.DECODE: QUICK}, 0.2 + 0.006, 0.006005, id="another for decode"),
    ],
)
def test_each_role_works_at_the_pace_of_its_own_profile(
    quick: Mapping[Role, ReplicaProfile], ttft_s: float, tpot_s: float
) -> None:
    answers = Answers()
    engine([Request(0, 0.0, 100, 0, 2)], even(profiles=quick), answers).advance(10.0)
    assert answers.ttft_s[0] == pytest.approx(ttft_s)
    assert answers.tpot_s[0] == pytest.approx(tpot_s)


def test_a_flipped_replica_has_the_profile_of_its_new_role() -> None:
    """Prefill's last replica but one decodes now: it holds no more than decode's profile says."""
    fleet = engine([], even(profiles={Role.DECODE: QUICK}))
    fleet.flip(Role.PREFILL, Role.DECODE, 1, LABEL)
    profiles = {role: {server.profile.kv_tokens for server in servers(fleet, role)} for role in Role}
    assert profiles == {Role.PREFILL: {PROFILE.kv_tokens}, Role.DECODE: {1_000}}


@pytest.mark.parametrize(
    ("small", "refused"),
    [
        pytest.param(Role.PREFILL, [2, 3], id="prefill holds the prompt alone"),
        pytest.param(Role.DECODE, [1, 2, 3], id="decode holds the answer too"),
    ],
)
def test_what_one_role_has_no_room_for_is_refused(small: Role, refused: list[int]) -> None:
    lengths = [(500, 500), (1_000, 1), (1_001, 1), (99_999, 2)]
    answers = Answers()
    requests = [Request(number, 0.0, prompt, 0, output) for number, (prompt, output) in enumerate(lengths)]
    fleet = engine(requests, even(profiles={small: QUICK}), answers)
    fleet.advance(1e4)
    assert answers.refusals == refused
    assert fleet.exhausted


@pytest.mark.parametrize(
    ("impossible", "sentence"),
    [
        ({"cache_tokens": -1}, "cache_tokens -1 is not >= 0"),
        ({"drain_deadline_s": -5.0}, "drain_deadline_s -5 is not >= 0"),
        ({"gateway_holds_above": 0}, "gateway_holds_above 0 is not >= 1"),
        ({"pools": {Role.PREFILL: PoolSpec(1)}, "losses": (ReplicaLoss(1.0, Role.DECODE),)}, "a loss among decode"),
    ],
)
def test_an_impossible_fleet_is_refused(impossible: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        even(**impossible)
