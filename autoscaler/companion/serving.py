"""How does the companion answer over TLS, and how does it end without a request that gets no answer?

uvicorn, narrowed:

    peer        the verified certificate of each connection stands in the scope, as `scope["state"]["peer"]`, None without one
    PATIENCE_S  for a connection until its first request and for one request until its last byte; then it is closed
    IDLE_S      a connection without requests is kept: longer than the 90 s of Go's clients, so that not we close it in the
                moment in which an API server sends
    end         first "not ready" for LEAVE_S, so that nobody sends to us any more, every answer asking to close its
                connection; then no new connection, and GRACE_S for the answers that are under way

A client authority that is trusted no more takes its connections with it: each ends after the answer under way.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

PATIENCE_S = 10.0
SWEEP_S = 1.0
IDLE_S = 120
LEAVE_S = 3.0
GRACE_S = 5  # LEAVE_S + GRACE_S and what ends need are under 10 s
BACKLOG = 1024
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class PeerProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which tells who is at the other end and how long it has kept us waiting."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came, and its handshake is over."""
        super().connection_made(transport)
        # asyncio does so only for sockets made with their protocol's number, and a listener has none. Head and body of an
        # answer are two writes: the second one would wait 40 ms for the client's delayed word that it has the first.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        seen = transport.get_extra_info("ssl_object")
        self.app_state = {**self.app_state, "peer": (seen.getpeercert() or None) if seen is not None else None}
        self._cycle: RequestResponseCycle | None = None
        self._since_s = self.loop.time()

    def overdue(self, now: float) -> bool:
        """Whether a request has been awaited for longer than PATIENCE_S at `now` (the loop's time)."""
        cycle: RequestResponseCycle | None = vars(self)["cycle"]  # uvicorn's own type leaves the None out
        if cycle is not self._cycle or not self._awaited(cycle):
            self._cycle, self._since_s = cycle, now
        return now - self._since_s > PATIENCE_S

    def _awaited(self, cycle: RequestResponseCycle | None) -> bool:
        """Something of a request should come: its first byte, its last one, or the rest of the one after it."""
        if cycle is None or cycle.more_body:
            return True
        return cycle.response_complete and (self.timeout_keep_alive_task is None or bool(self.conn.trailing_data[0]))


class Server(uvicorn.Server):
    """uvicorn without signals of its own; `companion` ends it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

    async def main_loop(self) -> None:
        """Serve until asked to end, and close what keeps us waiting."""
        sweeping = asyncio.create_task(self._sweep())
        await super().main_loop()
        sweeping.cancel()

    def let_go(self) -> None:
        """Every connection ends after the answer that is under way."""
        for connection in tuple(self.server_state.connections):
            connection.shutdown()

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            for connection in tuple(self.server_state.connections):
                if isinstance(connection, PeerProtocol) and connection.overdue(loop.time()):
                    connection.transport.abort()


def server(app: Any, context: ssl.SSLContext | None = None) -> Server:
    """A server of `app`; over TLS with this context, in the clear without one."""
    config = uvicorn.Config(
        app, loop="none", http=PeerProtocol, ws="none", lifespan="off", log_config=None, access_log=False, backlog=BACKLOG,
        server_header=False, proxy_headers=False, timeout_keep_alive=IDLE_S, timeout_graceful_shutdown=GRACE_S,
        ssl_context_factory=None if context is None else lambda *_: context,
    )  # fmt: skip
    return Server(config)


class Companion:
    """All ports of one process, until SIGTERM or SIGINT. `leaving` tells that it will end; `app`s ask it."""

    def __init__(self, leave_s: float = LEAVE_S) -> None:
        self._leave_s, self._servers = leave_s, list[Server]()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.leaving = False

    def courteous(self, app: Any) -> Any:
        """The same ASGI app, whose answers ask to close the connection once this process is about to end."""

        async def answer(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
            async def closing(message: dict[str, Any]) -> None:
                if self.leaving and message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
                await send(message)

            await app(scope, receive, closing)

        return answer

    def let_go(self) -> None:
        """Every connection ends after the answer under way. May be called from any thread, and before anything is served."""
        if self._loop is not None:
            for one in self._servers:
                self._loop.call_soon_threadsafe(one.let_go)

    async def serve(self, servers: Sequence[tuple[Server, socket.socket]], began: Callable[[], None]) -> None:
        """Answer on these sockets until asked to end; `began` is called once it does."""
        self._loop, self._servers = asyncio.get_running_loop(), [one for one, _ in servers]
        asked = asyncio.Event()
        for number in SIGNALS:
            self._loop.add_signal_handler(number, asked.set)
        serving = [asyncio.create_task(one.serve(sockets=[listener])) for one, listener in servers]
        began()
        ending = asyncio.create_task(asked.wait())
        await asyncio.wait([ending, *serving], return_when=asyncio.FIRST_COMPLETED)  # a server that fails ends them all
        ending.cancel()
        self.leaving = True
        await asyncio.sleep(self._leave_s)
        for one in self._servers:
            one.should_exit = True
        await asyncio.gather(*serving)
