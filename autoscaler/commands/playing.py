"""Who plays when, on how many cores, and what if one of them dies?

Every policy in every case is a job of its own, and the jobs go to a pool of processes in lots (contenders.py `dealt`), the
longest first. What comes back is put into the order of the jobs, whoever was done first.

Bad input (a trace with a bad row) ends everything at once with its line. What goes wrong inside one run, a bug, is told with
its traceback and costs that run only. A process that is killed, as the kernel does when memory runs out, takes the pool with
it: what is left is then played in one process, so that the first lot which is not done is known to be the one that dies of it.

Nobody plays on when nobody listens. Each process holds the reading end of a pipe whose other end is ours alone: it closes when
we close it, after Ctrl-C or bad input, and also when we are killed and can do nothing any more, and whoever reads its end goes.
"""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from autoscaler.refusal import Refusal
from autoscaler.simulator.comparison import play_all
from autoscaler.simulator.contenders import BEST_STATIC, ORACLE, Job, dealt
from autoscaler.simulator.result import Result, gone

KILLED = "its process was killed, as happens when memory runs out"
SEARCHES = {ORACLE: 12.0, BEST_STATIC: 5.0}  # whole runs that a search is worth, about

Lot = tuple[Job, ...]
Played = Callable[[Lot], list[Result]]
Turns = Generator[tuple[Lot, list[Result]], None, None]


def played(jobs: Sequence[Job], processes: int, play: Played = play_all) -> list[Result]:
    """The results in the order of the jobs, with a progress bar where somebody watches. Raises Refusal on bad input."""
    lots = dealt(jobs)
    at = {(job.case.name, job.contender, job.seed): place for place, job in enumerate(jobs)}
    found: dict[int, Result] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    turns = _here(lots, play) if processes == 1 else _elsewhere(lots, processes, play)
    watching = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    with closing(turns), watching as progress:
        bar = progress.add_task("playing", total=sum(map(_weight, lots)))
        for lot, results in turns:
            for job, result in zip(lot, results, strict=True):
                found[at[job.case.name, job.contender, job.seed]] = result
            told = f"{len(found)} of {len(jobs)}: {lot[0].case.name} {lot[0].contender.name}"
            progress.update(bar, advance=_weight(lot), description=told)
    return [found[place] for place in range(len(jobs))]


def _weight(lot: Lot) -> float:
    """Roughly how long it takes, for the time that is left: simulated seconds, as often as they are played."""
    return sum(job.case.duration_s * SEARCHES.get(job.contender.name, 1.0) for job in lot)


def _here(lots: Sequence[Lot], play: Played) -> Turns:
    for lot in lots:
        yield lot, _safely(lot, play)


def _elsewhere(lots: Sequence[Lot], processes: int, play: Played) -> Turns:
    """In processes, and again in one process for what is left when one of them is killed."""
    left = dict(enumerate(lots))
    while left:
        alone = processes == 1
        try:
            with closing(_in_pool(left, processes, play)) as turns:
                for place, results in turns:
                    yield left.pop(place), results
        except BrokenProcessPool:
            if alone:
                lot = left.pop(next(iter(left)))
                yield lot, [gone(job, KILLED) for job in lot]
            processes = 1


def _in_pool(lots: dict[int, Lot], processes: int, play: Played) -> Generator[tuple[int, list[Result]], None, None]:
    """Spawned, not forked: the progress bar has a thread. Whatever ends this early ends them too, in the middle of a run."""
    theirs, ours = get_context("spawn").Pipe(duplex=False)
    pool = ProcessPoolExecutor(min(processes, len(lots)), get_context("spawn"), _stay_while_open, (theirs,))
    try:
        with _deaf_to_ctrl_c():  # all processes begin at the first submit
            futures = {pool.submit(_safely, lot, play): place for place, lot in lots.items()}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        ours.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()


def _stay_while_open(pipe: Connection) -> None:
    """Leave at once, from whatever is being done, when the other end of the pipe closes."""

    def wait() -> None:
        with suppress(EOFError, OSError):
            pipe.recv_bytes()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes begun meanwhile stay so. A terminal sends Ctrl-C to all of them, and each would print a traceback of its own."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _safely(lot: Lot, play: Played) -> list[Result]:
    try:
        return play(lot)
    except Refusal:
        raise
    except Exception as error:  # noqa: BLE001 - a bug in one policy must not cost the others' results
        traceback.print_exc()
        return [gone(job, f"a fault of ours: {type(error).__name__}: {error}") for job in lot]


def lost(results: Sequence[Result]) -> list[str]:
    """A line for each run that came to nothing, for stderr."""
    return [f"lost: {one.scenario} {one.contender.name}: {one.note}" for one in results if one.lost]


def tell_lost(results: Sequence[Result]) -> None:
    """Say which runs were lost, and end with exit code 1 if any was."""
    if lines := lost(results):
        raise click.ClickException("\n".join(lines))
