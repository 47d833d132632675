"""Do ticks keep coming, one at a time, whatever one of them does? Real time, short intervals, no exact speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from autoscaler import scheduling
from autoscaler.scheduling import TickLoop

pytestmark = pytest.mark.slow  # real time

SOON_S = 10.0  # how long a test waits before it calls something lost


class Ticks:
    """A tick that counts itself and does what it is told."""

    def __init__(self, act: Callable[[int], None] = lambda _: None) -> None:
        self.act, self.began, self.ended, self.overlapped = act, 0, 0, False
        self._more = threading.Condition()

    def __call__(self) -> None:
        self.overlapped |= self.began != self.ended
        with self._more:
            self.began += 1
            self._more.notify_all()
        try:
            self.act(self.began)
        finally:
            self.ended += 1

    def wait_for(self, count: int) -> None:
        """Until that many have begun."""
        with self._more:
            assert self._more.wait_for(lambda: self.began >= count, SOON_S)


def hang(release: threading.Event) -> None:
    """Longer than anybody waits, unless released."""
    release.wait(60.0)


@pytest.fixture
def running() -> Iterator[Callable[[Ticks], TickLoop]]:
    loops: list[TickLoop] = []

    def start(ticks: Ticks) -> TickLoop:
        loops.append(TickLoop(ticks, 0.05))
        loops[-1].start()
        return loops[-1]

    yield start
    for loop in loops:
        loop.stop()


Running = Callable[[Ticks], TickLoop]


def test_ticks_come_again_and_again_until_stopped(running: Running) -> None:
    ticks = Ticks()
    loop = running(ticks)
    ticks.wait_for(3)
    assert loop.stop()
    count = ticks.began
    time.sleep(0.2)
    assert ticks.began == count == ticks.ended


def test_the_first_tick_does_not_wait_for_the_interval() -> None:
    ticks = Ticks()
    loop = TickLoop(ticks, 3600.0)
    loop.start()
    ticks.wait_for(1)
    assert loop.stop()


def test_a_tick_that_takes_longer_than_the_interval_overlaps_nothing_and_its_misses_are_counted(running: Running) -> None:
    """At 50 ms a tick of 230 ms swallows three or four; the next begins when it has ended."""
    ticks = Ticks(lambda number: time.sleep(0.23) if number == 1 else None)
    loop = running(ticks)
    ticks.wait_for(4)
    assert loop.stop()
    assert not ticks.overlapped
    assert loop.skipped >= 3


def test_a_tick_that_raises_does_not_end_the_loop(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    def fail_twice(number: int) -> None:
        if number <= 2:
            raise RuntimeError("a bug")

    ticks = Ticks(fail_twice)
    loop = running(ticks)
    ticks.wait_for(4)
    assert loop.stop()
    assert "a bug" in caplog.text


def test_a_stop_waits_for_the_tick_in_flight(running: Running) -> None:
    ticks = Ticks(lambda _: time.sleep(0.3))
    loop = running(ticks)
    ticks.wait_for(1)
    assert loop.stop()
    assert ticks.ended == ticks.began == 1


def test_a_stop_does_not_wait_for_ever_for_a_tick_that_hangs(monkeypatch: pytest.MonkeyPatch, running: Running) -> None:
    monkeypatch.setattr(scheduling, "PATIENCE_S", 0.2)
    release = threading.Event()
    ticks = Ticks(lambda _: hang(release))
    loop = running(ticks)
    ticks.wait_for(1)
    answers: list[bool] = []
    stopper = threading.Thread(target=lambda: answers.append(loop.stop()), daemon=True)
    stopper.start()
    stopper.join(SOON_S)
    assert answers == [False]
    release.set()


def test_a_tick_that_ends_after_the_stop_gave_up_is_the_last(monkeypatch: pytest.MonkeyPatch, running: Running) -> None:
    monkeypatch.setattr(scheduling, "PATIENCE_S", 0.1)
    release = threading.Event()
    ticks = Ticks(lambda _: hang(release))
    loop = running(ticks)
    ticks.wait_for(1)
    assert not loop.stop()
    release.set()
    time.sleep(0.2)
    assert ticks.began == 1


def test_a_loop_that_never_started_or_has_stopped_can_be_stopped() -> None:
    loop = TickLoop(Ticks(), 0.05)
    assert loop.stop()
    assert loop.stop()


def test_a_wall_clock_set_back_does_not_silence_the_loop(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Set back by an hour, the clock puts the next run an hour ahead: the same is done here to the job itself."""
    ticks = Ticks()
    loop = running(ticks)
    ticks.wait_for(2)
    (job,) = loop._scheduler.get_jobs()
    job.modify(next_run_time=datetime.now(UTC) + timedelta(hours=1))
    ticks.wait_for(ticks.began + 3)
    assert "ticking now" in caplog.text
