"""How is ARIMA(1,1,1) fitted without holding anybody up?

statsmodels takes 3 s and 150 MiB to load and a tenth of a second per fit, so it lives in one worker process and nowhere
else: started with the first task, with one BLAS thread, fed through a pipe and asked for results that are there, never
waited for. At most `IN_HAND` tasks are on their way, so that the pipe never fills; the next ones are refused and come again
at a later tick. After a fit the worker rests four times as long: a thousand fleets make it 20 % of one core, not a storm.

Input is brought to mean 0 and deviation 1, and what does not move is not fitted. A fit has `FIT_S` seconds of CPU, checked
by the system's own timer, then it is given up. What could not be fitted comes back as not converged. Warnings (a fifth of
the fits begin with one about the starting values) are caught in the worker and counted. A worker that died, or has said
nothing for `SILENT_S`, is replaced by another; what it had in hand is lost and asked for again when it is due.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from autoscaler.core.arima import ArimaFit, FitTask

IN_HAND = 8  # of 3 kB each, in a pipe of 64
FIT_S = 0.25
SILENT_S = 30.0  # loading takes 3, on a busy machine 10
REST = 4.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

log = logging.getLogger(__name__)

Answer = tuple[ArimaFit, int]  # and how many warnings were caught


class TooLong(Exception):
    """A fit has used up its time."""


@dataclass
class Counts:
    """What became of the tasks since the process began, for the metrics."""

    fits: int = 0
    failed: int = 0
    warnings: int = 0
    restarts: int = 0


class ArimaFitter:
    """The `Fitter` with a worker process. Not thread-safe: for the thread that ticks."""

    def __init__(self, now: Callable[[], float] = time.monotonic, work: Callable[[Connection], None] | None = None) -> None:
        self.counts = Counts()
        self._now, self._work = now, work or serve
        self._worker: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._in_hand: list[FitTask] = []
        self._heard_s = 0.0

    def submit(self, task: FitTask) -> bool:
        """Take a task in hand; False while there is no room for it, and for one that is in hand already."""
        if len(self._in_hand) >= IN_HAND or any((one.key, one.bin_s) == (task.key, task.bin_s) for one in self._in_hand):
            return False
        if self._pipe is None:
            self._start()
        if not self._in_hand:
            self._heard_s = self._now()
        try:
            if self._pipe is not None:
                self._pipe.send(task)
        except OSError:
            self._replace("has ended")
            return False
        self._in_hand.append(task)
        return True

    def fitted(self) -> Sequence[tuple[str, ArimaFit]]:
        """Fits that have ended since the last call, each with its task's key."""
        found = []
        try:
            while self._in_hand and self._pipe is not None and self._pipe.poll():
                fit, warned = self._pipe.recv()
                task = self._in_hand.pop(0)
                self._heard_s = self._now()
                self.counts.warnings += warned
                self.counts.fits += fit.converged
                self.counts.failed += not fit.converged
                found.append((task.key, fit))
        except (OSError, EOFError):
            self._replace("has ended")
        if self._in_hand and self._now() - self._heard_s > SILENT_S:
            self._replace(f"said nothing for {SILENT_S:g} s")
        return found

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.join()
        if self._pipe is not None:
            self._pipe.close()
        self._worker, self._pipe = None, None
        self._in_hand.clear()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._worker = context.Process(target=self._work, args=(theirs,), name="arima", daemon=True)
        before = {name: os.environ.get(name) for name in THREADS}
        os.environ.update(dict.fromkeys(THREADS, "1"))  # read when numpy is loaded, which is before the worker's first line
        try:
            self._worker.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()

    def _replace(self, why: str) -> None:
        """The next task starts another worker."""
        log.warning("the ARIMA worker %s, %d fits are lost", why, len(self._in_hand))
        self.counts.restarts += 1
        self.counts.failed += len(self._in_hand)
        self.close()


def serve(pipe: Connection) -> None:
    """The worker: one answer for every task, in their order, until the other end is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the controller, which ends this one
    with suppress(EOFError, OSError):
        while True:
            task: FitTask = pipe.recv()
            began_s = time.monotonic()
            pipe.send(fit(task))
            time.sleep(REST * min(1.0, time.monotonic() - began_s))


def fit(task: FitTask, limit_s: float = FIT_S) -> Answer:
    """ARIMA(1,1,1) by maximum likelihood, from the last fit on where there is one; not converged where it cannot be had."""
    from statsmodels.tsa.arima.model import ARIMA  # noqa: PLC0415 - 3 s and 150 MiB: in the worker only

    values = np.asarray(task.values)
    spread = float(np.nanstd(values)) if np.isfinite(values).any() and not np.isinf(values).any() else 0.0
    if not spread > 0:
        return task.failed, 0
    start = None if task.start is None else (task.start.phi, task.start.theta, (task.start.sigma / spread) ** 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = ARIMA((values - np.nanmean(values)) / spread, order=(1, 1, 1))
        found = _within(limit_s, lambda: model.fit(start_params=start))
    return _fit(found, spread, task), len(caught)


def _fit(found: Any, spread: float, task: FitTask) -> ArimaFit:
    """The result as a value."""
    if found is None:
        return task.failed
    phi, theta, variance = (float(one) for one in found.params)
    try:
        sigma = spread * math.sqrt(variance)
        return ArimaFit(phi, theta, sigma, task.bin_s, len(task.values), task.ends_s, bool(found.mle_retvals["converged"]))
    except ValueError:  # on the edge: noise that was differenced for nothing, or a load that explodes
        return task.failed


def _within(limit_s: float, act: Callable[[], Any]) -> Any:
    """What `act` gives; None if it takes more seconds of CPU or fails in the ways that a fit can."""
    before = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, limit_s)
    try:
        return act()
    except (TooLong, ValueError, ArithmeticError, IndexError):  # LinAlgError is a ValueError
        return None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def _too_long(_signal: int, _frame: object) -> None:
    raise TooLong
