"""Does the score count what users got, not what the fleet is proud of?"""

from __future__ import annotations

import pytest

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.plan import Action
from autoscaler.core.reason import Reason
from autoscaler.simulator.engine import Engine, FleetSpec
from autoscaler.simulator.score import Score, ScoreKeeper
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import changed, spec

SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 1.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)}


def scored(requests: list[Request], at_s: float, fleet: FleetSpec | None = None) -> Score:
    keeper = ScoreKeeper(SLOS, start_up_s=30.0)
    engine = Engine(fleet or spec(), requests, keeper)
    engine.advance(at_s)
    return keeper.score(engine)


def test_a_request_in_time_is_met_and_pays_its_gpus() -> None:
    score = scored([Request(0, 0.0, 100, 0, 10)], 100.0)
    assert (score.offered, score.served, score.met, score.attainment) == (1, 1, 1, 1.0)
    assert score.goodput_rps == pytest.approx(0.01)
    assert score.gpu_hours == pytest.approx({Role.PREFILL: 400 / 3600, Role.DECODE: 200 / 3600})


def test_late_in_either_latency_is_missed() -> None:
    slow_prefill = scored([Request(0, 0.0, 100, 0, 10)], 100.0, spec(profile=changed(prefill_s=(1.0, 0.0, 0.0))))
    slow_decode = scored([Request(0, 0.0, 100, 0, 10)], 100.0, spec(profile=changed(decode_s=(0.06, 0.0, 0.0))))
    assert (slow_prefill.served, slow_prefill.met, slow_prefill.attainment) == (1, 0, 0.0)
    assert (slow_decode.served, slow_decode.met, slow_decode.attainment) == (1, 0, 0.0)


def test_what_is_refused_is_offered_and_missed() -> None:
    score = scored([Request(0, 0.0, 100, 0, 10), Request(1, 0.0, 200_000, 0, 10)], 100.0)
    assert (score.offered, score.served, score.refused, score.lost, score.attainment) == (2, 1, 1, 0, 0.5)


def test_what_waits_is_open_until_it_can_no_longer_be_met() -> None:
    """Nobody serves: 1 s after its arrival the request is missed, though it has not ended."""
    waiting = [Request(0, 10.0, 100, 0, 10)]
    early, late = scored(waiting, 10.9, spec(prefill=0)), scored(waiting, 11.1, spec(prefill=0))
    assert (early.open, early.attainment, early.lost) == (1, None, 0)
    assert (late.open, late.attainment, late.lost) == (0, 0.0, 0)


def test_what_decodes_too_slowly_is_missed_before_it_ends() -> None:
    """Steps of 0.1 s, 101 tokens: within 0.05 s each the last would have come 5 s after the first, at 5.3 s."""
    fleet = spec(profile=changed(decode_s=(0.1, 0.0, 0.0)))
    request = [Request(0, 0.0, 100, 0, 101)]
    assert (scored(request, 5.2, fleet).open, scored(request, 5.4, fleet).open) == (1, 0)


def test_a_reversal_is_an_opposite_move_of_the_same_role_soon_after() -> None:
    keeper = ScoreKeeper(SLOS, start_up_s=30.0)
    moves = [
        (0.0, Role.DECODE, 1, 2),
        (50.0, Role.DECODE, 2, 1),  # undone within 60 s: a reversal
        (60.0, Role.PREFILL, 1, 2),  # another role
        (200.0, Role.DECODE, 1, 2),  # later than 60 s: traffic, not haste
        (210.0, Role.DECODE, 2, 4),  # the same way
        (260.0, Role.DECODE, 4, 3),  # a reversal
    ]
    for now, role, seen, wanted in moves:
        keeper.acted(Action(role, seen, wanted, Reason.SCALE_UP if wanted > seen else Reason.SCALE_DOWN), now)
    score = keeper.score(Engine(spec(), [], keeper))
    assert (score.actions, score.reversals) == (6, 2)


def test_nothing_offered_is_no_attainment() -> None:
    score = scored([], 10.0)
    assert (score.offered, score.attainment, score.goodput_rps) == (0, None, 0.0)
