"""What becomes of requests whose replica dies, whose drain takes too long, or which are turned away?"""

from __future__ import annotations

from random import Random

import pytest

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.clients import NEVER, Retries, TurnedAway
from autoscaler.simulator.engine import Handover
from autoscaler.simulator.events import Cause
from autoscaler.simulator.flips import DRAINED_LABEL
from autoscaler.simulator.losses import ReplicaLoss
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, changed, engine, even, spec
from tests.simulator.test_pools import phases

# Prompts take 1 s, tokens 1 s each; a replica decodes one request at a time.
SLOW = changed(max_seqs=1, decode_s=(1.0, 0.0, 0.0), prefill_s=(1.0, 0.0, 0.0))
NO_JITTER = Retries(jitter=0.0)


def test_a_dead_decode_replica_fails_all_that_was_sent_to_it_and_another_starts() -> None:
    """At 4 s request 0 decodes, and 1 stands in the queue of the replica that dies, its KV still in prefill."""
    answers = Answers()
    lost = even(profile=SLOW, pools=spec().pools, losses=(ReplicaLoss(4.0, Role.DECODE),))
    fleet = engine([Request(number, 0.0, 10, 0, 10) for number in range(2)], lost, answers)
    fleet.advance(4.0)
    assert phases(fleet, Role.DECODE) == {"decode-1": Phase.STARTING}
    fleet.advance(100.0)
    assert answers.given_up_for == {0: Cause.REPLICA_LOST, 1: Cause.REPLICA_LOST}
    assert fleet.front.wasted_prefills == 2
    assert (fleet.gateway.failed, fleet.gateway.running) == (2, 0)


def test_a_dead_prefill_replica_fails_what_it_computes_queues_and_holds_but_not_what_was_fetched() -> None:
    """At 3.5 s: 0 decodes, 1 and 2 are computed and not fetched, 3 is being computed, 4 waits."""
    answers = Answers()
    lost = even(profile=SLOW, pools=spec().pools, losses=(ReplicaLoss(3.5, Role.PREFILL),))
    fleet = engine([Request(number, 0.0, 10, 0, 10) for number in range(5)], lost, answers)
    fleet.advance(100.0)
    assert list(answers.ttft_s) == [0]
    assert sorted(answers.given_up_for) == [1, 2, 3, 4]
    assert fleet.front.wasted_prefills == 2


def test_with_push_a_dead_prefill_replica_gives_promised_room_back() -> None:
    """Two of three requests have room promised; when prefill dies at 0.5 s all fail, and the next has the room."""
    answers = Answers()
    profile = changed(max_seqs=2, prefill_s=(1.0, 0.0, 0.0))
    lost = even(profile=profile, pools=spec().pools, handover=Handover.PUSH, losses=(ReplicaLoss(0.5, Role.PREFILL),))
    requests = [*(Request(number, 0.0, 10, 0, 10) for number in range(3)), Request(3, 40.0, 10, 0, 10)]
    fleet = engine(requests, lost, answers)
    fleet.advance(100.0)
    assert sorted(answers.given_up_for) == [0, 1]
    assert sorted(answers.ttft_s) == [2, 3], "2 waited for room, got it, and was computed by the new replica"
    assert all(replica.server.requests == replica.server.load == 0 for replica in fleet.pools[Role.DECODE].replicas)


def test_what_a_drain_has_not_finished_by_its_deadline_fails() -> None:
    answers = Answers()
    fleet = engine([Request(number, 0.0, 10, 0, 10) for number in range(2)], even(profile=SLOW, drain_deadline_s=5.0), answers)
    fleet.advance(3.0)
    fleet.scale(Role.DECODE, 1)
    fleet.advance(7.9)
    assert phases(fleet, Role.DECODE)["decode-1"] is Phase.DRAINING
    fleet.advance(8.0)
    assert phases(fleet, Role.DECODE) == {"decode-0": Phase.SERVING}
    assert answers.given_up_for == {1: Cause.DRAIN_DEADLINE}
    assert fleet.pools[Role.DECODE].gpu_s(8.0) == pytest.approx(16.0)
    fleet.advance(100.0)
    assert list(answers.ttft_s) == [0]


def test_a_drain_that_ends_in_time_knows_no_deadline() -> None:
    answers = Answers()
    fleet = engine([Request(number, 0.0, 10, 0, 10) for number in range(2)], even(profile=SLOW, drain_deadline_s=50.0), answers)
    fleet.advance(3.0)
    fleet.scale(Role.DECODE, 1)
    fleet.advance(100.0)
    assert sorted(answers.ttft_s) == [0, 1]


def test_a_client_tries_again_and_its_user_has_waited_since_the_first_try() -> None:
    """Rejected until 1 s: tries at 0 s, 0.5 s and 1.5 s (0.5 s, then 1 s); the third is taken."""
    answers, tries = Answers(), []

    def admit(request: Request, now: float) -> bool:
        tries.append(now)
        return now > 1.0

    fleet = engine([Request(0, 0.0, 100, 0, 1)], even(retries=NO_JITTER), answers, admit=admit)
    fleet.advance(100.0)
    assert tries == [0.0, 0.5, 1.5]
    assert answers.ttft_s[0] == pytest.approx(1.5 + 0.2 + 0.012)
    assert fleet.gateway.ttft_s.total == pytest.approx(0.212), "the gateway knows no tries"
    assert (fleet.offered, fleet.gateway.arrived, fleet.gateway.rejected) == (1, 3, 2)


def test_a_client_gives_up_after_its_last_try() -> None:
    answers = Answers()
    fleet = engine([Request(0, 0.0, 100, 0, 1)], even(retries=NO_JITTER), answers, admit=lambda request, now: False)
    fleet.advance(0.6)
    assert not fleet.exhausted
    assert list(fleet.front.waiting_clients) == [0]
    fleet.advance(2.0)
    assert (answers.given_up_for, fleet.gateway.arrived, fleet.exhausted) == ({0: Cause.REJECTED}, 3, True)


def test_waits_double_to_their_limit_and_are_shortened_by_a_quarter_at_most() -> None:
    assert [Retries(6, jitter=0.0).wait_s(retry, Random(1)) for retry in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    waits = [Retries(3).wait_s(2, Random(seed)) or 0.0 for seed in range(200)]
    assert 1.5 < min(waits) < 1.55
    assert 1.95 < max(waits) <= 2.0


@pytest.mark.parametrize(
    ("no", "tries"),
    [
        pytest.param(TurnedAway(1.0), [0.0, 1.0, 2.0], id="just what it is told, each time"),
        pytest.param(TurnedAway(120.0), [0.0, 120.0, 240.0], id="the longest that it waits"),
        pytest.param(TurnedAway(300.0), [0.0], id="too long"),
        pytest.param(TurnedAway(0.0), [0.0, 0.5, 1.5], id="nothing that can be waited for"),
        pytest.param(TurnedAway(), [0.0, 0.5, 1.5], id="told nothing"),
        pytest.param(TurnedAway(1.0, may_retry=False), [0.0], id="asked not to come again"),
    ],
)
@pytest.mark.parametrize("at_arrival", [True, False])
def test_a_client_comes_again_when_its_rejection_says_so(no: TurnedAway, tries: list[float], at_arrival: bool) -> None:
    """Prompts take no time here, so whoever is turned away once its prompt is computed is so at once."""
    answers, seen = Answers(), []

    def ask(_: Request, now: float) -> TurnedAway:
        seen.append(now)
        return no

    at_once = even(profile=changed(prefill_s=(0.0, 0.0, 0.0)), retries=NO_JITTER)
    fleet = engine([Request(0, 0.0, 100, 0, 1)], at_once, answers, **{"admit" if at_arrival else "proceed": ask})
    fleet.advance(1_000.0)
    assert seen == tries
    assert answers.given_up_for == {0: Cause.REJECTED}


def test_whoever_never_tries_again_is_not_made_to_by_being_told_when() -> None:
    assert NEVER.wait_s(0, Random(1), TurnedAway(1.0)) is None


def test_an_answer_that_had_begun_is_not_asked_for_again() -> None:
    """The stream breaks in the user's hands at 5 s: request 0 had its first token at 2 s."""
    answers = Answers()
    lost = even(profile=SLOW, pools=spec().pools, losses=(ReplicaLoss(5.0, Role.DECODE),), retries=NO_JITTER)
    fleet = engine([Request(0, 0.0, 10, 0, 10)], lost, answers)
    fleet.advance(100.0)
    assert answers.given_up_for == {0: Cause.REPLICA_LOST}


def test_a_request_lost_before_its_first_token_is_sent_again_and_served() -> None:
    answers = Answers()
    lost = even(profile=SLOW, losses=(ReplicaLoss(0.5, Role.PREFILL), ReplicaLoss(0.5, Role.PREFILL)), retries=NO_JITTER)
    fleet = engine([Request(0, 0.0, 10, 0, 10)], lost, answers)
    fleet.advance(200.0)
    assert answers.given_up_for == {}
    assert answers.ttft_s[0] == pytest.approx(30.5 + 1.0 + 1.0)


def test_turning_away_after_prefill_wastes_it() -> None:
    answers = Answers()
    fleet = engine([Request(number, 0.0, 100, 40, 1) for number in range(2)], even(), answers, proceed=lambda r, _: r.id == 0)
    fleet.advance(100.0)
    assert (list(answers.ttft_s), answers.given_up_for) == ([0], {1: Cause.REJECTED})
    assert (fleet.front.wasted_prefills, fleet.front.wasted_tokens) == (1, 60)
    assert all(replica.server.occupancy().kv_usage == 0 for replica in fleet.pools[Role.PREFILL].replicas)


def test_who_stays_in_a_batch_goes_on_without_what_another_held() -> None:
    """Steps take 10 us per token held. A (prompt 1,000) and B (prompt 100, output 10) join at 0 s; a step with both takes
    11.0 ms and a little more each time. When A fails after two steps B has 102 tokens: its 8 steps left take 1.02, 1.03 ms ...
    """
    answers = Answers()
    profile = changed(prefill_s=(0.0, 0.0, 0.0), decode_s=(0.0, 0.0, 1e-5))
    requests = [Request(0, 0.0, 1_000, 0, 500), Request(1, 0.0, 100, 0, 10)]
    fleet = engine(requests, even(profile=profile, pools=spec().pools), answers)
    two_steps_s = (1_100 + 1_102) * 1e-5
    fleet.advance(two_steps_s)
    fleet._fail(fleet.in_flight[0], Cause.REPLICA_LOST, fleet.now)
    fleet.advance(100.0)
    end_s = answers.ttft_s[1] + answers.tpot_s[1] * 9
    assert end_s == pytest.approx(two_steps_s + sum(range(102, 110)) * 1e-5)


def test_a_deadline_cuts_only_the_drain_it_was_set_for() -> None:
    """A drain from 1 s to 10 s ended in a flip; its deadline at 51 s does not touch the drain that began at 40 s."""
    answers = Answers()
    profile = changed(max_seqs=1, decode_s=(1.0, 0.0, 0.0), prefill_s=(0.0, 0.2, 0.0))
    requests = [Request(0, 0.0, 1, 0, 9), Request(1, 0.0, 1, 0, 9), *(Request(n, 35.0, 240, 0, 1) for n in range(2, 5))]
    fleet = engine(requests, even(profile=profile, drain_deadline_s=50.0), answers)
    fleet.advance(1.0)
    fleet.flip(Role.DECODE, Role.PREFILL, 1, DRAINED_LABEL)
    fleet.advance(40.0)
    assert phases(fleet, Role.PREFILL)["decode-0"] is Phase.SERVING
    fleet.scale(Role.PREFILL, 0)
    fleet.advance(200.0)
    assert answers.given_up_for == {}
    assert sorted(answers.ttft_s) == [0, 1, 2, 3, 4]
