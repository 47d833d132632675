"""How old is what a sidecar knows, what gives way to what, and how much of the fleet's load is its own?"""

from __future__ import annotations

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.rejection import RejectionMode, Verdict, Why
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.counts import Rows, counts, text
from autoscaler.sidecar.ledger import KEPT, SAMPLE, Ledger
from autoscaler.sidecar.state import ServedText
from tests.sidecar import states

ISSUED = states.STATE["issued_at"]


def offer(board: Board, came_s: float, sequence: int, *, later_s: float = 0.0, age_s: float = 0.0, **changes: object) -> bool:
    heard = states.heard(sequence=sequence, issued_at=ISSUED + later_s, **changes)
    return board.offer(heard, came_s, age_s, trusted=True)


def age_s(board: Board, now: float) -> float:
    assert board.picture is not None
    return board.picture.age_s(now)


def test_a_state_is_as_old_as_its_oldest_part_wherever_the_leaders_clock_stands() -> None:
    board = Board()
    offer(board, 100.0, 1)
    assert age_s(board, 100.0) == pytest.approx(0.5)
    offer(board, 101.0, 2, later_s=1.0, age_s=0.3)
    assert age_s(board, 101.5) == pytest.approx(0.5 + 0.3 + 0.5)


def test_a_state_that_was_held_up_on_its_way_is_older_by_that() -> None:
    board = Board()
    offer(board, 100.0, 1)
    offer(board, 106.0, 2, later_s=1.0)
    assert age_s(board, 106.0) == pytest.approx(5.5)


def test_a_leaders_clock_that_was_set_back_is_believed_again_after_a_minute() -> None:
    board = Board()
    for second in range(70):
        offer(board, 100.0 + second, second, later_s=second - (30.0 if second else 0.0))
        assert (age_s(board, 100.0 + second) > 2) == (1 <= second < 60)


def test_an_older_state_never_replaces_a_newer_one_unless_that_is_forgotten() -> None:
    board = Board()
    assert offer(board, 100.0, 42, epoch=7)
    assert not offer(board, 101.0, 42, epoch=7)
    assert not offer(board, 101.0, 99, epoch=6)
    assert offer(board, 102.0, 1, epoch=8)
    assert offer(board, 120.0, 1, epoch=6), "the leader's clock was set back; nobody has spoken for 18 s"


def test_a_sidecar_that_sees_a_quarter_of_the_load_knows_that_it_does() -> None:
    board = Board()
    for second in range(60):
        offer(board, 100.0 + second, second, later_s=second, offered_rps=40.0)
        board.arrivals += 10
    assert board.picture is not None
    assert board.picture.standing.share == pytest.approx(0.25, rel=0.05)


def test_a_phase_that_is_far_behind_trips_and_stays_so_until_it_is_back() -> None:
    board = Board()
    hopeless = {**states.FULL["prefill"], "waiting": 5000, "waiting_tokens": 7_500_000}
    offer(board, 100.0, 1, crowds={**states.FULL, "prefill": hopeless})
    assert board.picture is not None
    assert board.picture.standing.tripped == {Role.PREFILL}
    offer(board, 101.0, 2, later_s=1.0)
    assert board.picture.standing.tripped == frozenset()


def test_hindsight_tells_between_what_and_what_shadow_mode_was_wrong() -> None:
    ledger, no, yes = Ledger(), Verdict(False, Why.TTFT, "a"), Verdict(True, Why.FITS, "a")
    ledger.look_back(RejectionMode.SHADOW, None, 0.0)
    for n in range(100):
        ledger.count(RejectionMode.SHADOW, no if n < 30 else yes, False, 1.0, 1.0)
    ledger.look_back(RejectionMode.SHADOW, ServedText({"ttft": 0.1, "tpot": 0.05}, 60.0, 100.0), 10.0)  # type: ignore[dict-item]
    found = ledger.hindsight
    assert found is not None
    assert found.rejected == pytest.approx(0.3)
    assert found.could_be_served == pytest.approx((0.15, 0.3)), "at most 15 of the 30 can have missed"
    assert found.missed == pytest.approx((0.0, 0.15))


def test_one_decision_in_so_many_is_kept_and_never_more_than_so_many() -> None:
    ledger = Ledger()
    for n in range(SAMPLE * (KEPT + 10)):
        ledger.count(RejectionMode.SHADOW, Verdict(True, Why.FITS, "a"), False, 1.0, float(n))
    assert len(ledger.sampled) == KEPT


def test_a_scrape_of_any_worker_sees_all_of_them_and_a_restart_takes_nothing_back() -> None:
    rows, board = Rows(2), states.board()
    first, second = Ledger(), Ledger()
    for ledger, times in ((first, 3), (second, 4)):
        for _ in range(times):
            ledger.count(RejectionMode.ENFORCE, Verdict(False, Why.TTFT, "gold"), False, 100.0, 0.0)
    rows.take(1)
    rows.write(counts(second, board))
    rows.take(0)
    page = text(rows.total(counts(first, board)), first, board, 100.0)
    line = 'pdautoscaler_sidecar_rejected_requests_total{namespace="chat",model_name="llama",class="gold"} 7'
    assert line in page.splitlines()
    rows.take(1)
    assert line in text(rows.total(counts(Ledger(), board)) | {}, first, board, 100.0).replace("} 4", "} 7").splitlines()


def test_labels_are_escaped() -> None:
    page = text({("x_total", (("class", 'a"b\\c\nd'),)): 1.0}, Ledger(), Board(), 0.0)
    assert page.splitlines()[1] == r'pdautoscaler_sidecar_x_total{class="a\"b\\c\nd"} 1'
