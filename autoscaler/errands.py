"""What if something outside hangs, or something of ours breaks?

Whatever may hang is an errand, done in a thread of its own, and nobody waits for it longer than `settle` says. The wait
is for progress, not for a fixed time: as long as errands come home, a thousand of them may take their second; when none
has for `grace_s`, those that are left hang, and the rest of the fleets go on without them.

The threads are daemons, unlike those of the standard library's pool, which are joined when the process ends: a SIGTERM
must not wait for a server that does not answer. There are `WORKERS` at most, made as they are needed, as long as errands come
home. When none does, those in line get hands of their own, up to `MOST`, a reading and a writing for each of 500 fleets:
otherwise 64 fleets whose writes hang would take up all hands, again at every tick, and the healthy ones would stand in line
behind them. A thread that waits costs 16 KiB.

What has time goes one after the other through a hand that rests (`spare`): a thousand of them at a start are no storm on
anybody's server, and leave three quarters of the interpreter to the ticks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

WORKERS = 64
MOST = 1024
REST = 3.0  # times the CPU time that an errand took
LEAST_REST_S = 0.25  # so that no more than four are begun in a second

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class AtOnce(Executor):
    """Does every errand while it is being given, for a caller that has all the time (a simulation, one single tick)."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The errand, done. Raises what it raises."""
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Daemons(Executor):
    """Does up to `workers` errands at once in daemon threads; more wait in line, until they are relieved. After each one a
    thread rests for `rest` times the CPU time that it took, `least_rest_s` at least.
    """

    def __init__(self, workers: int = WORKERS, rest: float = 0.0, least_rest_s: float = 0.0) -> None:
        self._workers, self._hands, self._idle = workers, 0, threading.Semaphore(0)
        self._rest, self._least_rest_s = rest, least_rest_s
        self._line: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The errand, under way or in line. Called from one thread only."""
        future: Future[T] = Future()
        self._line.put((future, partial(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._hands < self._workers:
            self._hire()
        return future

    def relieve(self) -> bool:
        """Hands for whoever stands in line, because those under way hang; whether there were any to give."""
        wanted = min(self._line.qsize(), MOST - self._hands)
        for _ in range(wanted):
            self._hire()
        return wanted > 0

    def _hire(self) -> None:
        self._hands += 1
        threading.Thread(target=self._work, name=f"errands {self._hands}", daemon=True).start()

    def _work(self) -> None:
        while True:
            future, errand = self._line.get()
            began_s = time.thread_time()
            try:
                future.set_result(errand())
            except BaseException as error:  # noqa: BLE001 - not handled, only carried: result() raises it where it is asked
                future.set_exception(error)
            del future, errand  # what it gave may be large, and the next errand late
            if rest_s := max(self._least_rest_s, self._rest * (time.thread_time() - began_s)):
                time.sleep(rest_s)
            self._idle.release()


def spare() -> Daemons:
    """One hand for errands that have time."""
    return Daemons(1, REST, LEAST_REST_S)


def attempt(what: str, fleet: str, act: Callable[[], T], instead: Callable[[str], T]) -> T:
    """What `act` gives; or, if it has a bug, what stands `instead` of it, told why. The traceback goes to the log.

    Faults of the outside are values and never come here. This is the one place that catches what nobody expected, so that a
    bug about one fleet neither ends a loop nor holds the other fleets.
    """
    try:
        return act()
    except Exception as error:  # whatever it is: see above
        log.exception("%s failed", what, extra={"fleet": fleet})
        return instead(f"{type(error).__name__}: {error}")


def settle(errands: Collection[Future[Any]], grace_s: float, within_s: float) -> bool:
    """Wait until all have ended, or none has for `grace_s` seconds (then those left hang: True), or `within_s` are over."""
    ends_s = time.monotonic() + within_s
    home: SimpleQueue[Future[Any]] = SimpleQueue()
    for errand in errands:
        errand.add_done_callback(home.put)
    try:
        for _ in errands:
            home.get(timeout=max(0.0, min(grace_s, ends_s - time.monotonic())))
    except Empty:
        return time.monotonic() < ends_s
    return False


@dataclass(frozen=True, slots=True)
class Pace:
    """How a caller shares its time among its errands.

    `executor` does the errands, `spare` those that nobody waits for. `beat_s`: how often `tick` is called; None: every fleet
    is due at every tick. Errands of which none came home for `grace_s` hang (within the 300 ms from a metric to the write);
    all those of one kind in one tick get `within_s`, those of the very first look `warm_s`: lists of 20,000 pods take seconds.
    """

    executor: Executor = field(default_factory=AtOnce)
    beat_s: float | None = None
    grace_s: float = 0.25
    within_s: float = 2.0
    warm_s: float = 10.0
    spare: Executor = field(default_factory=AtOnce)

    def settle(self, errands: Collection[Future[Any]]) -> None:
        """Wait as long as a tick may."""
        hanging = settle(errands, self.grace_s, self.within_s)
        if hanging and isinstance(self.executor, Daemons) and self.executor.relieve():
            settle(errands, self.grace_s, self.within_s)

    def settle_slowly(self, errands: Collection[Future[Any]]) -> None:
        """Wait as long as the very first look may."""
        settle(errands, self.warm_s, self.warm_s)
