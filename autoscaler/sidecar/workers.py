"""How does one port use several cores?

The port is bound once and its socket inherited, so a connection waits for whichever worker is free, and none is lost with a
worker that ends. Each worker is a whole sidecar: its own feed, its own admissions, weighted by its own share of the fleet's
arrivals, as if it stood on another machine. Only their counts are shared (counts.py).

Workers are forked after everything is imported and frozen (`gc.freeze`): what is there stays shared between them, and the
collector never looks at it again. With one worker there is no fork.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import uvloop

from autoscaler.sidecar.answers import Answers
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.bounds import BoundedServer, quiet, server
from autoscaler.sidecar.counts import Rows, counts
from autoscaler.sidecar.desk import Desk
from autoscaler.sidecar.express import express
from autoscaler.sidecar.feed import Feed, Source
from autoscaler.sidecar.hot import Hot
from autoscaler.sidecar.ledger import Ledger
from autoscaler.sidecar.pages import create_app

WRITE_S = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)
AGAIN_S = 1.0  # between the end of a worker that failed and its next start


@dataclass(frozen=True, slots=True)
class Settings:
    """What one sidecar is told. `connections` per worker."""

    source: Source
    workers: int = 1
    predictions: bool = False
    connections: int = 10_240


def serve(listener: socket.socket, settings: Settings) -> None:
    """Answer on this socket until SIGTERM or SIGINT."""
    quiet()
    rows = Rows(settings.workers)
    gc.collect()
    gc.freeze()
    if settings.workers == 1:
        work(0, listener, rows, settings)
    else:
        parent = os.getpid()
        _Herd(settings.workers, lambda mine: work(mine, listener, rows, settings, parent)).run()


def work(mine: int, listener: socket.socket, rows: Rows, settings: Settings, parent: int | None = None) -> None:
    """Be one worker until asked to end, or until the process `parent` that would ask is gone."""
    rows.take(mine)
    board, ledger = Board(), Ledger()
    feed = Feed(settings.source, board)
    pages = create_app(board, ledger, rows, lambda: feed.trouble)
    desk = Desk(board, ledger, Answers(settings.predictions))
    running = server(Hot(desk, pages), express(desk), settings.connections)
    feed.start()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_answer(running, listener, lambda: rows.write(counts(ledger, board)), parent))
    feed.stop()


async def _answer(running: BoundedServer, listener: socket.socket, write: Callable[[], None], parent: int | None) -> None:
    async def keep_writing() -> None:
        while True:
            await asyncio.sleep(WRITE_S)
            write()
            if parent is not None and os.getppid() != parent:
                running.should_exit = True

    writing = asyncio.create_task(keep_writing())
    try:
        await running.serve(sockets=[listener])
    finally:
        writing.cancel()
        write()


class _Herd:
    """Starts workers, starts those anew that fail, and ends them all when asked to."""

    def __init__(self, workers: int, work: Callable[[int], None]) -> None:
        self._work, self._alive, self._ending = work, dict[int, int](), False
        self._wanted = range(workers)

    def run(self) -> None:
        """Until SIGTERM or SIGINT, and until the last worker has ended."""
        for number in SIGNALS:
            signal.signal(number, lambda *_: self._end())
        for mine in self._wanted:
            self._start(mine)
        while self._alive:
            pid, _ = os.wait()
            mine = self._alive.pop(pid)
            if not self._ending:
                time.sleep(AGAIN_S)
                self._start(mine)

    def _end(self) -> None:
        self._ending = True
        for pid in self._alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _start(self, mine: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # one that came before the child is in `_alive` would not reach it
        pid = os.fork()
        if pid == 0:
            _be_child(lambda: self._work(mine))
        self._alive[pid] = mine
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        if self._ending:
            os.kill(pid, signal.SIGTERM)


def _be_child(work: Callable[[], None]) -> NoReturn:
    """Work in a process that was just forked, and never return into what the parent was doing."""
    code = 1
    try:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        work()
        code = 0
    finally:
        os._exit(code)
