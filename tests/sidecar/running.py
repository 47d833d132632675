"""How do tests get a sidecar that listens? The whole of it in a thread, on a state that stays young for a minute."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import uvloop

from autoscaler.sidecar.bounds import BoundedProtocol, server
from autoscaler.sidecar.counts import Rows
from autoscaler.sidecar.express import express
from autoscaler.sidecar.hot import Hot
from autoscaler.sidecar.ledger import Ledger
from autoscaler.sidecar.pages import create_app
from tests.sidecar import states
from tests.sidecar.asking import Sidecar

# The command itself, with nobody at the address of its leader.
WITHOUT_LEADER = (
    sys.executable,
    "-m",
    "autoscaler",
    "sidecar",
    "--listen",
    "127.0.0.1:0",
    "--state",
    "http://127.0.0.1:9/v1/state/a/b",
)
YOUNG = {"max_age_s": 60}
VAST = states.crowds(prefill={"serving": 20_000}, decode={"serving": 20_000})  # own admissions of a whole test do not fill it


@contextmanager
def running(*, full: bool = False, connections: int = 1000) -> Iterator[tuple[int, Ledger]]:
    """A sidecar's port, and its ledger."""
    crowds = states.FULL if full else VAST
    made = Sidecar(states.board(crowds=crowds, rules=YOUNG, offered_rps=None))
    pages = create_app(made.board, made.ledger, Rows(1), lambda: "", lambda: made.now)
    with listening(Hot(made.desk, pages), express(made.desk), connections) as port:
        yield port, made.ledger


@contextmanager
def listening(app: object, protocol: type[BoundedProtocol], connections: int = 1000) -> Iterator[int]:
    """The port of an application behind the sidecar's bounds."""
    listener = socket.create_server(("127.0.0.1", 0))
    running_ = server(app, protocol, connections)

    def serve() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(running_.serve(sockets=[listener]))

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        running_.should_exit = True
        thread.join(10)
        listener.close()


def exchange(port: int, sent: bytes, patience_s: float = 3.0) -> bytes:
    """What comes back for these bytes until the other side closes, or nothing more comes for `patience_s`."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience_s) as connection:
        parts = []
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                parts.append(part)
        except OSError:
            pass
        return b"".join(parts)
