"""How does an app answer over HTTP next to the controller, without ever holding it up?

A thread of its own runs the server: the controller is plain, synchronous code. The port is bound before the thread
starts, so a command can refuse to start instead of running unseen. Who may bind what is told where it is served:
loopback.py (everything that shows or changes a fleet) and probes.py (nothing of the kind).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from threading import Thread

import uvicorn
from fastapi import FastAPI

from autoscaler.refusal import Refusal

GRACE_S = 0.5


class PortInUse(Refusal):
    """Somebody else listens on `port`."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use; choose another one, or 0 for any that is free")
        self.port = port


def nothing_to_close() -> None:
    """For an app without streams."""


class Server:
    """A running app. `url` is where; `stop` ends it, open streams included, within a second.

    `address` is an IP address of this machine, port 0 takes any free one. `closing` is called first when it stops, to end
    streams that would otherwise outlive it. Raises ValueError for a port out of range; PortInUse, or another Refusal
    where the system says no.
    """

    def __init__(self, app: FastAPI, address: str, port: int, closing: Callable[[], None] = nothing_to_close) -> None:
        listener = listen(address, port)
        host, self.port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"
        # The sidecar brings uvloop and httptools along, which uvicorn would take by itself: nothing here needs them.
        config = uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._server = _Server(config, closing)
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [listener]}, name="http-server", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection, and wait until that is done. A second call does nothing."""
        self._server.should_exit = True
        self._thread.join()


class _Server(uvicorn.Server):
    """uvicorn waits for answers to end before it stops, and an event stream ends when its client goes. So a stop closes
    the streams first, and after GRACE_S cuts what still has not ended: a client that does not read.
    """

    def __init__(self, config: uvicorn.Config, closing: Callable[[], None]) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        asyncio.get_running_loop().call_later(GRACE_S, self._cut)
        await super().shutdown(sockets)

    def _cut(self) -> None:
        for connection in tuple(self.server_state.connections):
            connection.transport.abort()


def listen(address: str, port: int) -> socket.socket:
    """A listening socket. It listens at once: two sockets may bind one port as long as neither of them listens."""
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port}: must be 0 (any free one) to 65535")
    try:
        listener = socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(address, port) from error
        raise Refusal(f"cannot listen on {address}, port {port}: {error.strerror}") from error
    # Inherited by what is accepted, which asyncio leaves as it is. Without it the second half of an answer waits 40 ms for
    # the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
