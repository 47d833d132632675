"""Are requests turned away by the rule that was chosen, and at the moment at which it looks?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.simulator.clients import Retries
from autoscaler.simulator.early_rejection import FORGOTTEN, EarlyRejection, Gate, Rejects
from autoscaler.simulator.engine import Engine, PoolSpec
from autoscaler.simulator.fleet_spec import FleetSpec
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, changed, even

ONE_EACH = dict.fromkeys(Role, PoolSpec(1))


def played(fleet: FleetSpec, rules: EarlyRejection, requests: Sequence[Request]) -> tuple[Engine, Answers]:
    """To the end of the last request."""
    gate, answers = Gate(rules), Answers()
    engine = gate.engine = Engine(fleet, requests, answers, admit=gate.admit, proceed=gate.proceed)
    while not engine.exhausted:
        engine.advance(engine.now + 5.0)
    return engine, answers


@pytest.mark.parametrize("rejects", Rejects)
def test_who_would_wait_too_long_for_prefill_is_turned_away_at_once(rejects: Rejects) -> None:
    """Prompts of 900 tokens take 1 s each: the third would have its first token after 3 s. A short one after 2.2 s may come."""
    requests = [*(Request(number, 0.0, 900, 0, 1) for number in range(3)), Request(3, 0.0, 100, 0, 1)]
    engine, answers = played(even(pools=ONE_EACH), EarlyRejection(rejects, 2.5, 9.0, 9.0), requests)
    assert set(answers.given_up_for) == {2}
    assert engine.front.wasted_prefills == 0


def test_the_replica_with_the_least_ahead_is_the_one_that_counts() -> None:
    requests = [Request(number, 0.0, 900, 0, 1) for number in range(5)]
    _, answers = played(even(), EarlyRejection(Rejects.EARLY, 2.5, 9.0), requests)
    assert set(answers.given_up_for) == {4}


# A step of two that hold 1,000 tokens each and one more: 10 ms + 2 x 1 ms + 10 us x 2,000 = 32 ms. One alone: 21 ms.
FULL = [Request(0, 0.0, 1_000, 0, 400), Request(1, 3.0, 1_000, 0, 10)]


@pytest.mark.parametrize(
    ("rejects", "stays_s", "given_up", "wasted"),
    [
        pytest.param(Rejects.BASELINE, 0.0, {1}, 1, id="decode looks too late, and a prompt is wasted"),
        pytest.param(Rejects.EARLY, 0.0, {1}, 0, id="decode is full on arrival"),
        pytest.param(Rejects.PREDICTED, 60.0, {1}, 0, id="who decodes now still does by the end of prefill"),
    ],
)
def test_each_rule_looks_at_decode_at_its_own_moment(rejects: Rejects, stays_s: float, given_up: set[int], wasted: int) -> None:
    """The first decodes for 9 s and more; 25 ms a step leave no room for a second beside it."""
    engine, answers = played(even(pools=ONE_EACH), EarlyRejection(rejects, 9.0, 0.025, stays_s), FULL)
    assert (set(answers.given_up_for), engine.front.wasted_prefills) == (given_up, wasted)


def test_prediction_lets_in_who_comes_to_an_empty_decode_and_keeps_out_who_would_not() -> None:
    """The first is decoded within 0.2 s of its prefill's end, before the second's prefill is over: early rejection turns the
    second away for it, prediction does not. Two that come at once are seen by nobody but prediction.
    """
    leaving = [Request(0, 0.0, 1_000, 0, 10), Request(1, 1.2, 1_000, 0, 10)]
    together = [Request(0, 0.0, 1_000, 0, 100), Request(1, 0.0, 1_000, 0, 100)]
    early, predicted = EarlyRejection(Rejects.EARLY, 9.0, 0.025), EarlyRejection(Rejects.PREDICTED, 9.0, 0.025, 0.2)
    assert set(played(even(pools=ONE_EACH), early, leaving)[1].given_up_for) == {1}
    assert set(played(even(pools=ONE_EACH), predicted, leaving)[1].given_up_for) == set()
    rules = (early, replace(predicted, stays_s=9.0))
    assert [played(even(pools=ONE_EACH), one, together)[0].front.wasted_prefills for one in rules] == [1, 0]


def test_who_waits_now_and_has_decoded_by_the_end_of_a_long_queue_is_not_in_the_way() -> None:
    """Prompts of 900 tokens take 1 s each. The third is computed after 3 s; the first decodes from 1 s to 1.2 s, the second
    from 2 s to 2.2 s. With 25 ms a step nobody can decode beside another one, and who stays 1.5 s is in the way of both.
    """
    queued = [Request(number, 0.0, 900, 0, 5) for number in range(3)]
    rules = EarlyRejection(Rejects.PREDICTED, 9.0, 0.025, stays_s=0.2)
    assert set(played(even(pools=ONE_EACH), rules, queued)[1].given_up_for) == set()
    assert set(played(even(pools=ONE_EACH), replace(rules, stays_s=1.5), queued)[1].given_up_for) == {1, 2}


def test_while_nobody_serves_nobody_is_turned_away() -> None:
    """The replica that is asked for at once starts within 30 s and serves them then."""
    gate, answers = Gate(EarlyRejection(Rejects.EARLY, 0.5, 0.02)), Answers()
    fleet = even(pools=dict.fromkeys(Role, PoolSpec(0)))
    engine = gate.engine = Engine(fleet, [Request(0, 1.0, 100, 0, 1)], answers, admit=gate.admit)
    for role in Role:
        engine.scale(role, 1)
    engine.advance(60.0)
    assert set(answers.ttft_s) == {0}


def test_requests_that_have_ended_are_forgotten() -> None:
    gate = Gate(EarlyRejection(Rejects.PREDICTED, 9.0, 9.0, 1.0))
    requests = [Request(number, 0.5 * number, 100, 0, 1) for number in range(3 * FORGOTTEN)]
    engine = gate.engine = Engine(even(), requests, admit=gate.admit, proceed=gate.proceed)
    engine.advance(1_500.0 * 3)
    assert engine.exhausted
    assert 0 < len(gate._computed_s) <= FORGOTTEN + 100


def judged(rejection: EarlyRejection | None, retries: Retries) -> Score:
    """Twice what one prefill replica can do, for 100 s, in a run as policies play it."""
    slos = {SloKind.TTFT: Slo(SloKind.TTFT, 3.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.1, 0.95)}
    requests = [Request(number, 0.5 * number, 900, 0, 5) for number in range(200)]
    fleet = even(pools=ONE_EACH, retries=retries, profile=changed(kv_tokens=1_000_000))
    run = VirtualRun(Scenario(fleet, slos, rejection=rejection), requests)
    run.advance(400.0)
    return run.score()


def test_a_scenario_that_turns_away_in_time_keeps_more_promises_and_its_clients_come_again() -> None:
    rule = EarlyRejection(Rejects.EARLY, 3.0, 0.1)
    nobody, early, again = judged(None, Retries(0)), judged(rule, Retries(0)), judged(rule, Retries())
    assert (nobody.rejected, nobody.offered) == (0, 200)
    assert early.rejected > 80
    assert early.met > 4 * nobody.met
    assert again.rejected < early.rejected
