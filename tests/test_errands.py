"""Is nobody waited for longer than was said, and is every errand done that was given?"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from itertools import pairwise

import pytest

from autoscaler.errands import LEAST_REST_S, AtOnce, Daemons, Pace, settle, spare


def test_an_errand_done_at_once_is_done_when_it_was_given() -> None:
    assert AtOnce().submit(divmod, 7, 2).result(timeout=0) == (3, 1)


def squared(number: int) -> tuple[int, int]:
    """Its square, and who worked it out."""
    return number * number, threading.get_ident()


def test_every_errand_is_done_though_there_are_fewer_hands() -> None:
    pool = Daemons(workers=3)
    errands = [pool.submit(squared, n) for n in range(200)]
    squares, hands = zip(*(errand.result(timeout=30) for errand in errands), strict=True)
    assert list(squares) == [n * n for n in range(200)]
    assert len(set(hands)) <= 3


def test_one_that_hangs_keeps_no_other_from_being_done() -> None:
    pool, released = Daemons(workers=2), threading.Event()
    stuck = pool.submit(released.wait, 30)
    others = [pool.submit(int) for _ in range(20)]
    settle([stuck, *others], grace_s=0.2, within_s=10.0)
    assert all(errand.done() for errand in others)
    assert not stuck.done()
    released.set()
    assert stuck.result(timeout=30) is True


def test_those_in_line_behind_errands_that_hang_get_hands_of_their_own() -> None:
    released, pace = threading.Event(), Pace(Daemons(workers=2), grace_s=0.05)
    stuck = [pace.executor.submit(released.wait, 30) for _ in range(9)]
    quick = pace.executor.submit(int)
    pace.settle([*stuck, quick])
    assert quick.done()
    assert not any(errand.done() for errand in stuck)
    released.set()


def test_what_an_errand_raises_is_raised_where_its_result_is_asked_for() -> None:
    pool = Daemons(workers=1)
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result(timeout=30)
    assert pool.submit(divmod, 1, 1).result(timeout=30) == (1, 0)


def test_the_hands_are_daemons_so_that_a_hanging_server_does_not_hold_up_the_exit() -> None:
    assert Daemons().submit(threading.current_thread).result(timeout=30).daemon


def test_settling_waits_for_progress_but_not_for_ever() -> None:
    """Errands that come home now and then are waited for until the time is over; one that came before is not missed."""
    done: Future[int] = Future()
    done.set_result(1)
    never: Future[int] = Future()
    began_s = time.monotonic()
    settle([done, never], grace_s=0.05, within_s=60.0)
    settle([done, never], grace_s=60.0, within_s=0.05)
    settle([], grace_s=60.0, within_s=60.0)
    assert time.monotonic() - began_s < 30.0


def test_what_has_time_is_done_one_after_the_other_by_a_hand_that_rests() -> None:
    pool, under_way = spare(), list[int]()

    def errand(number: int) -> tuple[int, float]:
        under_way.append(number)
        assert under_way == [number]
        under_way.pop()
        return number, time.monotonic()

    done = [one.result(timeout=30) for one in [pool.submit(errand, number) for number in range(2)]]
    assert [number for number, _ in done] == [0, 1]
    assert all(after - before >= LEAST_REST_S for (_, before), (_, after) in pairwise(done))


def test_a_hand_rests_longer_after_more_work() -> None:
    pool = Daemons(workers=1, rest=3.0)

    def work(cpu_s: float) -> float:
        ends_s = time.thread_time() + cpu_s
        while time.thread_time() < ends_s:
            pass
        return time.monotonic()

    ended, begun = (pool.submit(work, cpu_s) for cpu_s in (0.02, 0.0))
    assert begun.result(timeout=30) - ended.result(timeout=30) >= 0.06
