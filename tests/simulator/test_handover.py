"""Who waits for whom between the roles, with pull and with push, and what do large batches cost?"""

from __future__ import annotations

import pytest

from autoscaler.core.fleet import Role
from autoscaler.simulator.batch_server import BatchServer
from autoscaler.simulator.engine import Handover
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, changed, engine, even, spec

# One request at a time decodes, 10 s each; prompts take 1 s.
NARROW = changed(max_seqs=1, decode_s=(1.0, 0.0, 0.0), prefill_s=(1.0, 0.0, 0.0))
THREE = [Request(number, 0.0, 10, 0, 10) for number in range(3)]
ONE_EACH = spec().pools


def test_with_pull_prefill_runs_ahead_and_holds_what_decode_has_no_room_for() -> None:
    answers = Answers()
    fleet = engine(THREE, even(profile=NARROW, pools=ONE_EACH), answers)
    fleet.advance(5.0)
    prefill, decode = (fleet.pools[role].replicas[0].occupancy() for role in Role)
    assert prefill.running == 0
    assert prefill.kv_usage == pytest.approx(20 / 100_000)
    assert (decode.running, decode.waiting) == (1, 2)
    fleet.advance(100.0)
    assert answers.ttft_s == pytest.approx({0: 2.0, 1: 12.0, 2: 22.0})


def test_with_push_nothing_is_computed_before_it_has_room() -> None:
    """Each request is computed when the one before it has left decode: 1 s more per request than with pull."""
    answers = Answers()
    fleet = engine(THREE, even(profile=NARROW, pools=ONE_EACH, handover=Handover.PUSH), answers)
    fleet.advance(5.0)
    prefill, decode = (fleet.pools[role].replicas[0].occupancy() for role in Role)
    assert (prefill.running, prefill.waiting, prefill.kv_usage) == (0, 0, 0)
    assert (decode.running, decode.waiting) == (1, 2)
    fleet.advance(100.0)
    assert answers.ttft_s == pytest.approx({0: 2.0, 1: 13.0, 2: 24.0})


def test_with_push_a_slow_prefill_holds_rooms_empty() -> None:
    """100 tokens of room, 20 promised to each of 5: the sixth waits although nothing decodes yet."""
    profile = changed(kv_tokens=100, prefill_s=(10.0, 0.0, 0.0), max_seqs=100)
    requests = [Request(number, 0.0, 10, 0, 10) for number in range(6)]
    fleet = engine(requests, even(profile=profile, pools=ONE_EACH, handover=Handover.PUSH))
    fleet.advance(5.0)
    decode = fleet.pools[Role.DECODE].replicas[0].occupancy()
    assert (decode.running, decode.deferred, decode.waiting) == (0, 5, 1)


@pytest.mark.parametrize("handover", Handover)
def test_a_shared_network_makes_decode_wait_for_kv(handover: Handover) -> None:
    """Two prompts of 100 kB over 100 kB/s in all: alone 1 s each, together 2 s."""
    answers = Answers()
    profile = changed(kv_bytes_per_token=1_000, link_bytes_per_s=1e6, link_base_s=0.0)
    requests = [Request(number, 0.0, 100, 0, 1) for number in range(2)]
    fleet = engine(requests, even(profile=profile, handover=handover, network_bytes_per_s=1e5), answers)
    fleet.advance(100.0)
    assert answers.ttft_s == pytest.approx(dict.fromkeys(range(2), 0.2 + 2.0 + 0.012), rel=1e-6, abs=2e-3)


def test_large_batches_follow_the_second_piece() -> None:
    """Up to 2 residents a step takes 10 ms, with 3 it takes 100 ms. All three join at 0 s; the first leaves after 2 steps
    (0.2 s), and the others' 8 steps that are left take 10 ms each.
    """
    profile = changed(prefill_s=(0.0, 0.0, 0.0), decode_s=(0.01, 0.0, 0.0), decode_beyond=(3, (0.1, 0.0, 0.0)))
    answers = Answers()
    requests = [Request(number, 0.0, 10, 0, output) for number, output in enumerate((2, 10, 10))]
    fleet = engine(requests, even(profile=profile, pools=ONE_EACH), answers)
    fleet.advance(10.0)
    ends_s = {
        number: answers.ttft_s[number] + answers.tpot_s[number] * (requests[number].output_tokens - 1) for number in range(3)
    }
    assert ends_s == pytest.approx({0: 0.2, 1: 0.28, 2: 0.28})
    server = fleet.pools[Role.DECODE].replicas[0].server
    assert isinstance(server, BatchServer)
    assert server.b0 == 0.01


def test_a_gateway_holds_what_would_only_queue_and_lets_it_in_in_order() -> None:
    """At most 2 unfinished prompts on the one prefill replica: of 5 requests 3 wait at the gateway, then 2, 1, 0."""
    answers = Answers()
    profile = changed(prefill_s=(1.0, 0.0, 0.0))
    requests = [Request(number, 0.0, 10, 0, 1) for number in range(5)]
    fleet = engine(requests, even(profile=profile, pools=ONE_EACH, gateway_holds_above=2), answers)
    held = []
    for second in range(4):
        fleet.advance(second + 0.5)
        prefill = fleet.pools[Role.PREFILL]
        held.append((len(prefill.unrouted), prefill.replicas[0].server.occupancy().waiting))
    assert held == [(3, 1), (2, 1), (1, 1), (0, 1)]
    fleet.advance(100.0)
    assert list(answers.ttft_s) == [0, 1, 2, 3, 4], "no later, and in their order"
    assert max(answers.ttft_s.values()) == pytest.approx(5.0, abs=0.02)


def test_a_new_replica_takes_from_the_gateway_at_once() -> None:
    profile = changed(prefill_s=(1000.0, 0.0, 0.0))
    requests = [Request(number, 0.0, 10, 0, 1) for number in range(5)]
    fleet = engine(requests, even(profile=profile, pools=ONE_EACH, gateway_holds_above=2))
    fleet.scale(Role.PREFILL, 2)
    fleet.advance(31.0)
    assert [replica.server.requests for replica in fleet.pools[Role.PREFILL].replicas] == [2, 2]
    assert len(fleet.pools[Role.PREFILL].unrouted) == 1
