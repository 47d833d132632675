"""Does the score count what users got, not what the fleet is proud of?"""

from __future__ import annotations

import pytest

from autoscaler.core.action import Action
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.reason import Reason
from autoscaler.simulator.clients import Retries
from autoscaler.simulator.engine import Engine, FleetSpec
from autoscaler.simulator.flips import LABEL
from autoscaler.simulator.losses import ReplicaLoss
from autoscaler.simulator.moves import Flipped
from autoscaler.simulator.score import Score, ScoreKeeper
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import changed, even, spec

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


def test_a_flip_back_within_the_dwell_is_a_reversal_and_flips_count_replicas() -> None:
    keeper = ScoreKeeper(SLOS, start_up_s=30.0, dwell_s=100.0)
    engine = Engine(even(), [], keeper)
    engine.flip(Role.PREFILL, Role.DECODE, 2, LABEL)
    engine.advance(100.0)
    engine.flip(Role.DECODE, Role.PREFILL, 1, LABEL)
    score = keeper.score(engine)
    assert (score.actions, score.flips, score.reversals) == (0, 3, 1)
    assert keeper.reversals(oracle=[Flipped(150.0, Role.DECODE, Role.PREFILL)]) == 0


def test_rejected_failed_and_wasted_are_told_apart_and_all_are_missed() -> None:
    """0 is rejected at arrival, 1 after its prefill, 2 fails with its replica at 0.5 s, 3 is served."""
    keeper = ScoreKeeper(SLOS, start_up_s=30.0)
    requests = [*(Request(number, 0.0, 100, 0, 1) for number in range(3)), Request(3, 50.0, 100, 0, 1)]
    lost = even(profile=changed(decode_s=(9.0, 0.0, 0.0)), pools=spec().pools, losses=(ReplicaLoss(0.5, Role.DECODE),))
    engine = Engine(lost, requests, keeper, admit=lambda r, _: r.id != 0, proceed=lambda r, _: r.id != 1)
    engine.advance(100.0)
    score = keeper.score(engine)
    assert (score.offered, score.served, score.rejected, score.failed, score.open, score.lost) == (4, 1, 2, 1, 0, 0)
    assert (score.wasted_prefills, score.wasted_prefill_tokens, score.cut_short) == (2, 200, 0)
    assert (score.met, score.attainment) == (0, 0.0), "the one that was served took 9 s to its first token"


def test_a_client_that_waits_to_try_again_is_open_until_its_ttft_is_over() -> None:
    """SLO 1 s; the second try at 0.5 s is rejected too, and the third would come at 1.5 s."""
    keeper = ScoreKeeper(SLOS, start_up_s=30.0)
    fleet = Engine(even(retries=Retries(jitter=0.0)), [Request(0, 0.0, 100, 0, 1)], keeper, admit=lambda r, now: False)
    fleet.advance(0.9)
    early = keeper.score(fleet)
    fleet.advance(1.1)
    late = keeper.score(fleet)
    assert (early.open, early.lost, early.attainment) == (1, 0, None)
    assert (late.open, late.lost, late.attainment) == (0, 0, 0.0)


def test_recovery_counts_from_the_shift_to_the_last_bad_window() -> None:
    """One prompt a second can be served; from 60 s on, for 30 s, three a second come, and the queue takes 60 s to empty:
    those who come until 150 s wait longer than 1 s.
    """
    keeper = ScoreKeeper(SLOS, start_up_s=30.0)
    calm = [float(second) for second in range(0, 400, 2)]
    spike = [60.0 + third / 3 for third in range(90)]
    requests = [Request(number, at_s, 10, 0, 1) for number, at_s in enumerate(sorted([*calm, *spike]))]
    engine = Engine(spec(profile=changed(prefill_s=(0.8, 0.0, 0.0))), requests, keeper)
    engine.advance(2_000.0)
    hurt_s = keeper.recovery_s(60.0, 0.99)
    assert hurt_s is not None
    queue_s = 90 * 0.8 + 15 * 0.8 - 30.0  # left when the spike is over
    assert 30.0 + queue_s < hurt_s <= 30.0 + queue_s / (1 - 0.4) + 30.0
    assert keeper.recovery_s(300.0, 0.99) == 0.0


def test_what_a_drain_deadline_ends_is_told() -> None:
    """A token takes 1 s, the answer ten; the drain may take 5 s."""
    keeper = ScoreKeeper(SLOS, start_up_s=30.0)
    engine = Engine(even(profile=changed(decode_s=(1.0, 0.0, 0.0)), drain_deadline_s=5.0), [Request(0, 0.0, 10, 0, 10)], keeper)
    engine.advance(1.0)
    engine.scale(Role.DECODE, 1)
    engine.scale(Role.DECODE, 0)
    engine.advance(10.0)
    score = keeper.score(engine)
    assert (score.failed, score.cut_short, score.rejected, score.wasted_prefills) == (1, 1, 0, 1)
