"""Do a simulated fleet's sidecars turn away what would be late, and nobody else?"""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import SloKind
from autoscaler.core.rejection import LEAST_WAIT_S, MOST_WAIT_S
from autoscaler.simulator.clients import TurnedAway
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.scenario_conditions import ConditionsSpec, SidecarsSpec
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import engine, even

SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.9), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.9)}
PER_S, UNTIL_S = 10.0, 40.0  # two replicas prefill 10 prompts of 100 tokens a second


@cache
def met(rps: float, sidecars: int | None, *, tries: int = 0) -> tuple[int, int, int]:
    """Promises kept, requests rejected, and tries."""
    conditions = {} if sidecars is None else {"sidecars": {"count": sidecars}, "retries": {"most": tries}}
    requests = [Request(number, number / rps, 100, 0, 4) for number in range(round(rps * UNTIL_S))]
    run = VirtualRun(ConditionsSpec.model_validate(conditions).applied(Scenario(even(seed=1), SLOS)), requests)
    run.advance(UNTIL_S + 200.0)
    assert run.engine.exhausted
    score = run.score()
    assert score.served + score.rejected == score.offered == len(requests)
    return score.met, score.rejected, run.engine.gateway.arrived


@pytest.mark.parametrize(("sidecars", "share"), [(1, 0.75), (4, 0.55)])
def test_under_overload_most_of_what_the_fleet_can_do_is_kept_and_without_them_hardly_any(sidecars: int, share: float) -> None:
    """Three times what prefill does: its queue has grown beyond the promise after two seconds. Four that do not know of each
    other let in too many at first.
    """
    kept, rejected, _ = met(3 * PER_S, sidecars)
    assert met(3 * PER_S, None)[0] < 0.2 * PER_S * UNTIL_S
    assert kept > share * PER_S * UNTIL_S
    assert rejected > 0.5 * 3 * PER_S * UNTIL_S


def test_with_room_for_everybody_nobody_is_turned_away() -> None:
    kept, rejected, _ = met(0.8 * PER_S, 4)
    assert (kept, rejected) == (0.8 * PER_S * UNTIL_S, 0)


def test_clients_that_are_told_when_to_come_again_do_come_again() -> None:
    _, rejected, tries = met(3 * PER_S, 1, tries=2)
    assert tries > 1.5 * met(3 * PER_S, 1)[2]
    assert rejected < met(3 * PER_S, 1)[1]


def test_before_anything_has_ended_nobody_is_turned_away_and_then_each_is_given_a_turn_of_its_own() -> None:
    rules = SidecarsSpec().core(SLOS)
    requests = [Request(number, 0.0, 100, 0, 4) for number in range(200)]
    fleet = engine(requests, even(sidecars=rules, seed=1))
    fleet.advance(0.0)
    assert (fleet.gateway.arrived, fleet.gateway.rejected) == (200, 0)
    fleet.advance(5.0)
    admit = fleet._sidecars.admit  # type: ignore[union-attr]
    told = [admit(Request(1_000 + number, 5.0, 100, 0, 4), 5.0) for number in range(40)]
    waits = [no.wait_s for no in told if isinstance(no, TurnedAway) and no.wait_s is not None]
    assert len(waits) == 40
    assert all(LEAST_WAIT_S <= wait_s <= MOST_WAIT_S for wait_s in waits)
    assert max(waits) - min(waits) > 1.0
    assert sum(one != other for one, other in pairwise(waits)) > 30


@pytest.mark.parametrize("may_retry", [True, False])
def test_the_rules_are_those_of_the_scenario_and_a_class_that_must_not_come_again_is_told_so(may_retry: bool) -> None:
    spec = SidecarsSpec.model_validate({"count": 3, "strategy": "early", "margin": 0.1, "sureness": 0.8, "mayRetry": may_retry})
    rules = spec.core(SLOS)
    qos = rules.rules.class_named("")
    assert (rules.count, rules.rules.strategy, rules.rules.margin, rules.rules.sureness) == (3, "early", 0.1, 0.8)
    assert {kind: (promise.seconds, promise.quantile) for kind, promise in qos.promises.items()} == {
        SloKind.TTFT: (2.0, 0.9),
        SloKind.TPOT: (0.05, 0.9),
    }
    assert qos.may_retry is may_retry


def test_a_door_of_ones_own_stands_in_the_sidecars_place() -> None:
    fleet = engine([Request(0, 0.0, 100, 0, 4)], even(sidecars=SidecarsSpec().core(SLOS)), admit=lambda *_: False)
    fleet.advance(1.0)
    assert fleet.gateway.rejected == 1
