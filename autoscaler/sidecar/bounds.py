"""How long may a client take, how much may it send, and how many may there be?

uvicorn bounds none of this before a request is whole, so its protocol is narrowed here:

    HEAD_BYTES   of a request line and headers that do not end; a flood of headers is cut off there
    PATIENCE_S   for one request from its first byte to its last, and for a connection until its first request: slow-loris
                 clients, and a Content-Length that promises more than comes
    connections  at once; one more is closed before it is read. A place is free again after PATIENCE_S at most, unless whoever
                 holds it sends requests

A closed connection is an error to a gateway, never a rejection, and an error is let through where the gateway is told to
(failure_mode_allow of Envoy; README). What answers a request that is whole is never refused for want of room: uvicorn's own
`limit_concurrency` would answer 503, which nginx takes for a broken sidecar and Envoy for a failed one.

uvicorn tells of every malformed request in the log; a flood of them must not become a flood of lines (`quiet`).
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
PATIENCE_S = 5.0
SWEEP_S = 1.0
IDLE_S = 75.0  # longer than nginx keeps an idle connection (60 s): who closes first must not be the one that is asked
SPARE_FILES = 64  # of those a process may have open: its state, its pages, the system's own
MOST_CONNECTIONS = 10_240
DONE_S = float("inf")


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol over httptools, for clients that mean no good. `most` connections at once."""

    most = MOST_CONNECTIONS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came; one too many is closed."""
        super().connection_made(transport)
        self.since_s = self.loop.time()
        self.head_bytes: int | None = None
        if len(self.connections) > self.most:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes came; a head that does not end is cut off."""
        super().data_received(data)
        if self.head_bytes is not None:
            self.head_bytes += len(data)
            if self.head_bytes > HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self.since_s = self.loop.time()
        self.head_bytes = 0

    def on_headers_complete(self) -> None:
        """Its head is whole."""
        self.head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Its last byte."""
        self.since_s = DONE_S
        super().on_message_complete()


class BoundedServer(uvicorn.Server):
    """uvicorn, which closes connections that have kept it waiting for PATIENCE_S."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ends on SIGTERM and SIGINT as every command does, with 0; uvicorn would raise the signal again when it is done."""
        if current_thread() is main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self.handle_exit)
        yield

    async def main_loop(self) -> None:
        """Serve until asked to end."""
        sweeping = asyncio.create_task(self._sweep())
        await super().main_loop()
        sweeping.cancel()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            oldest = loop.time() - PATIENCE_S
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, BoundedProtocol) and connection.since_s < oldest:
                    connection.transport.abort()


def server(app: Any, protocol: type[BoundedProtocol], connections: int = MOST_CONNECTIONS) -> BoundedServer:
    """A server of `app` within these bounds, which speaks by `protocol`."""
    protocol.most = min(connections, _files())
    config = uvicorn.Config(
        app, loop="uvloop", http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, backlog=2048,
        server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=int(IDLE_S),
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    return BoundedServer(config)


def quiet() -> None:
    """Only what is broken on our side is worth a line."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


def _files() -> int:
    """How many connections this process may have open, after asking for as many files as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, MOST_CONNECTIONS + SPARE_FILES) if hard != resource.RLIM_INFINITY else MOST_CONNECTIONS + SPARE_FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(1, max(soft, wanted) - SPARE_FILES)
