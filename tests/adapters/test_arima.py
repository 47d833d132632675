"""Are ARIMA models fitted as statsmodels fits them, apart from the tick, and is a worker that fails replaced?"""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from autoscaler.adapters.arima import IN_HAND, SILENT_S, THREADS, ArimaFitter, fit
from autoscaler.core.arima import ArimaFit, FitTask

pytestmark = pytest.mark.slow


def drawn(count: int = 360, phi: float = 0.6, theta: float = -0.5) -> tuple[float, ...]:
    """An ARIMA(1,1,1) with surprises of deviation 3."""
    rng, values, change, before = random.Random(2), [500.0], 0.0, 0.0
    for _ in range(count - 1):
        surprise = rng.gauss(0.0, 3.0)
        change, before = phi * change + surprise + theta * before, surprise
        values.append(values[-1] + change)
    return tuple(values)


def task(values: tuple[float, ...], key: str = "a", start: ArimaFit | None = None) -> FitTask:
    return FitTask(key, values, 15.0, 5400.0, start)


def fitted(values: tuple[float, ...], start: ArimaFit | None = None) -> ArimaFit:
    found, _ = fit(task(values, start=start), limit_s=60.0)
    assert found.converged
    return found


def test_a_fit_finds_what_the_series_was_drawn_from() -> None:
    found = fitted(drawn(1000))
    assert [found.phi, found.theta, found.sigma / 3] == pytest.approx([0.6, -0.5, 1.0], abs=0.2)
    assert (found.bin_s, found.bins, found.fitted_at_s, found.converged) == (15.0, 1000, 5400.0, True)


def test_going_on_from_a_fit_says_what_statsmodels_says_by_extend_and_forecast() -> None:
    from statsmodels.tsa.arima.model import ARIMA  # noqa: PLC0415 - 3 s, which a run without slow tests does not pay

    values = drawn(420)
    found = fitted(values[:360])
    scale = float(np.std(values[:360]))
    result = ARIMA(np.array(values[:360]), order=(1, 1, 1)).filter([found.phi, found.theta, found.sigma**2])
    for end in (360, 361, 400, 420):
        theirs = (result.extend(np.array(values[360:end])) if end > 360 else result).forecast(8)
        ours = [found.forecast(np.array(values[end - 360 : end])[::-1], step) for step in range(1, 9)]
        assert ours == pytest.approx(list(theirs), abs=1e-4 * scale)


def test_a_warm_start_ends_at_the_same_coefficients() -> None:
    cold = fitted(drawn())
    warm = fitted(drawn(), cold)
    assert [warm.phi, warm.theta] == pytest.approx([cold.phi, cold.theta], abs=1e-3)


def test_a_gap_is_no_hindrance() -> None:
    values = tuple(math.nan if place % 5 == 2 or place > 340 else value for place, value in enumerate(drawn()))
    assert fitted(values).phi == pytest.approx(0.6, abs=0.4)


@pytest.mark.parametrize(
    "values",
    [(7.0,) * 100, (0.0,) * 100, (math.nan,) * 100, (*drawn(99), math.inf)],
    ids=["constant", "zero", "missing", "infinite"],
)
def test_what_cannot_be_fitted_gives_no_fit(values: tuple[float, ...]) -> None:
    assert fit(task(values)) == (task(values).failed, 0)


def test_a_fit_that_takes_too_long_is_given_up() -> None:
    fit(task(drawn()))  # loads the library
    began_s = time.process_time()
    assert fit(task(drawn()), limit_s=0.01) == (task(drawn()).failed, 0)
    assert time.process_time() - began_s < 0.5


def test_warnings_are_caught_and_counted() -> None:
    """Up and down by turns: what to start from is not invertible, and statsmodels says so."""
    _, warned = fit(task((0.0, 1.0) * 60), limit_s=60.0)
    assert warned >= 1


def test_differenced_noise_is_no_fit() -> None:
    """Its theta is -1: each surprise would be remembered for ever."""
    noise = np.random.default_rng(0).normal(size=120)
    assert fit(task(tuple(noise.tolist())), limit_s=60.0) == (task(tuple(noise.tolist())).failed, 0)


def answering(pipe: Connection) -> None:
    """A worker that tells how many threads it was given; it ends at a task named "die" and is silent at "hang"."""
    while True:
        one: FitTask = pipe.recv()
        if one.key == "die":
            sys.exit(1)
        if one.key != "hang":
            alone = all(os.environ[name] == "1" for name in THREADS) and "statsmodels" not in sys.modules
            pipe.send((ArimaFit(0.0, 0.0, 1.0, one.bin_s, int(alone), one.ends_s), 2))


class Clock:
    time_s = 0.0

    def __call__(self) -> float:
        return self.time_s


@pytest.fixture
def fitter() -> Iterator[ArimaFitter]:
    one = ArimaFitter(Clock(), answering)
    yield one
    one.close()


def until(done: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 30.0
    while not done():
        assert time.monotonic() < ends_s, "nothing came within 30 s"
        time.sleep(0.01)


def collected(fitter: ArimaFitter, count: int) -> list[tuple[str, ArimaFit]]:
    found: list[tuple[str, ArimaFit]] = []

    def enough() -> bool:
        found.extend(fitter.fitted())
        return len(found) >= count

    until(enough)
    return found


def test_fits_come_back_under_their_keys_from_a_process_with_one_thread(fitter: ArimaFitter) -> None:
    assert fitter.fitted() == []
    before = {name: os.environ.get(name) for name in THREADS}
    assert [fitter.submit(task((1.0, 2.0), key)) for key in "aba"] == [True, True, False]
    assert [(key, one.bins) for key, one in collected(fitter, 2)] == [("a", 1), ("b", 1)]
    assert (fitter.counts.fits, fitter.counts.warnings) == (2, 4)
    assert {name: os.environ.get(name) for name in THREADS} == before


def test_no_more_tasks_are_taken_than_the_pipe_holds(fitter: ArimaFitter) -> None:
    taken = [fitter.submit(task(drawn(), str(number))) for number in range(IN_HAND + 3)]
    assert taken == [True] * IN_HAND + [False] * 3
    collected(fitter, IN_HAND)
    assert fitter.submit(task(drawn(), "next"))


def test_a_worker_that_died_is_replaced(fitter: ArimaFitter) -> None:
    assert fitter.submit(task((1.0, 2.0), "die"))
    until(lambda: not fitter.fitted() and fitter.counts.restarts == 1)
    assert fitter.counts.failed == 1
    assert fitter.submit(task((1.0, 2.0), "a"))
    assert [key for key, _ in collected(fitter, 1)] == ["a"]


def test_a_worker_that_says_nothing_is_replaced(fitter: ArimaFitter) -> None:
    assert fitter.submit(task((1.0, 2.0), "hang"))
    assert fitter.fitted() == []
    Clock.time_s += SILENT_S + 1.0
    assert fitter.fitted() == []
    assert (fitter.counts.restarts, fitter.counts.failed) == (1, 1)
    assert fitter.submit(task((1.0, 2.0), "a"))
    assert [key for key, _ in collected(fitter, 1)] == ["a"]


# A controller with a socket and a file of its own, whose fitter has made a fit; it tells its worker's process id and waits.
CONTROLLER = """
import socket, sys, time
from autoscaler.adapters.arima import ArimaFitter
from autoscaler.core.arima import FitTask
if __name__ == "__main__":
    lease, server = open(sys.argv[1], "w"), socket.create_server(("127.0.0.1", 0))
    fitter = ArimaFitter()
    assert fitter.submit(FitTask("a", tuple(float(n % 7) for n in range(90)), 15.0, 5400.0, None))
    while not fitter.fitted():
        time.sleep(0.01)
    print(fitter._worker.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Such a controller and its worker's process id."""
    script = tmp_path / "controller.py"
    script.write_text(CONTROLLER)
    command = [sys.executable, str(script), str(tmp_path / "lease")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    yield process, int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()


def open_files(pid: int) -> list[str]:
    return [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc: what a process holds cannot be seen here")
def test_the_worker_holds_nothing_of_the_controllers_but_its_end_of_the_pipe(
    controller: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, worker = controller
    assert str(tmp_path / "lease") in open_files(process.pid)
    held = open_files(worker)
    assert str(tmp_path / "lease") not in held
    assert sum(name.startswith("socket:") for name in held) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "SIGTERM without a handler"])
def test_the_worker_does_not_outlive_the_controller_however_that_ended(
    controller: tuple[subprocess.Popen[str], int], number: signal.Signals
) -> None:
    process, worker = controller
    process.send_signal(number)
    process.wait()
    until(lambda: not alive(worker))


def test_ctrl_c_is_for_the_controller_alone(controller: tuple[subprocess.Popen[str], int]) -> None:
    process, worker = controller
    os.kill(worker, signal.SIGINT)
    time.sleep(0.3)
    assert alive(worker)
    assert process.poll() is None


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits to be told of, by whoever adopted it, does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.is_file() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
