"""When do ticks happen, and what if one takes too long?

APScheduler keeps the time; ticks run one after another in its own daemon thread, so two can never overlap and a
hanging one never holds up the exit. A tick that overruns swallows those it overlaps (`coalesce`); APScheduler tells
nobody about them (reference/python.md 4), so gaps are measured here on the monotonic clock and counted.

APScheduler reckons by the wall clock: set back by an hour, it would be silent for that hour. A second thread watches on
the monotonic clock and calls a tick that is LATE intervals overdue.

The scheduler holds its lock while a tick runs in its thread. So a stop may not touch the scheduler before the tick in
flight has ended: it would wait as long as the tick hangs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime

from apscheduler.executors.debug import DebugExecutor
from apscheduler.job import Job
from apscheduler.schedulers.background import BackgroundScheduler

log = logging.getLogger(__name__)

LATE = 3.0
PATIENCE_S = 1.5  # how long a stop waits for the tick in flight; SIGTERM shall end the process within 2 s


class TickLoop:
    """Calls `tick` every `interval_s` seconds until stopped. `skipped` counts ticks that should have happened."""

    def __init__(self, tick: Callable[[], object], interval_s: float) -> None:
        self._tick, self._interval_s = tick, interval_s
        self._idle, self._stopping = threading.Lock(), threading.Event()
        self._last: float | None = None
        self.skipped = 0
        self._scheduler = BackgroundScheduler(executors={"default": DebugExecutor()}, daemon=True, timezone="UTC")

    def start(self) -> None:
        """Begin; the first tick happens at once."""
        job = self._scheduler.add_job(
            self._run,
            "interval",
            seconds=self._interval_s,
            next_run_time=datetime.now(self._scheduler.timezone),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        self._scheduler.start()
        threading.Thread(target=self._watch, args=(job,), name="tick watch", daemon=True).start()

    def stop(self) -> bool:
        """No further tick begins; True if the one in flight (if any) ended within the patience."""
        self._stopping.set()
        if not self._idle.acquire(timeout=PATIENCE_S):
            return False
        self._idle.release()
        if self._scheduler.running:
            self._scheduler.shutdown()
        return True

    def _run(self) -> None:
        with self._idle:
            if not self._stopping.is_set():
                self._count_skipped(time.monotonic())
                self._tick()

    def _watch(self, job: Job) -> None:
        """A tick in flight is late for a reason of its own and is left alone."""
        while not self._stopping.wait(self._interval_s):
            late_s = time.monotonic() - (self._last or time.monotonic())
            if late_s > LATE * self._interval_s and not self._idle.locked():
                log.warning("no tick for %.1f s: the wall clock was set back, or the timer stalled; ticking now", late_s)
                job.modify(next_run_time=datetime.now(self._scheduler.timezone))

    def _count_skipped(self, now: float) -> None:
        if self._last is not None:
            missed = round((now - self._last) / self._interval_s) - 1
            if missed > 0:
                self.skipped += missed
                log.warning(
                    "%d ticks skipped: %.1f s since the last one, %g s asked for", missed, now - self._last, self._interval_s
                )
        self._last = now
