"""How is an app served to this machine and to nobody else?

What is served here asks nobody who is calling, so only loopback addresses are bound. A thread of its own runs the
server: the controller next to it is plain, synchronous code.
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

LOOPBACK = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1"}
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")  # the same, as they stand in a Host header
GRACE_S = 0.5


class PortInUse(Refusal):
    """Somebody else listens on `port`."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use; choose another one, or 0 for any that is free")
        self.port = port


class LoopbackServer:
    """A running app. `url` is where; `stop` ends it, open streams included, within a second."""

    def __init__(self, app: FastAPI, listener: socket.socket, closing: Callable[[], None]) -> None:
        host, self.port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"
        config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, access_log=False, server_header=False)
        self._server = _Server(config, closing)
        self._thread = Thread(target=self._server.run, kwargs={"sockets": [listener]}, name="loopback-server", daemon=True)
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


def _nothing_to_close() -> None:
    """An app without streams."""


def serve(
    app: FastAPI, host: str = "127.0.0.1", port: int = 0, closing: Callable[[], None] = _nothing_to_close
) -> LoopbackServer:
    """Serve an app in a thread of its own; port 0 takes any free one. `closing` is called first when it stops, to end
    streams that would otherwise outlive it.

    The port is bound before this returns, so a demo can refuse to start instead of running unseen. Raises ValueError for
    a host that is not loopback or a port out of range; PortInUse, or another Refusal where the system says no.
    """
    return LoopbackServer(app, _listen(host, port), closing)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. It listens at once: two sockets may bind one port as long as neither of them listens."""
    if host not in LOOPBACK:
        raise ValueError(f"host {host!r}: what is served asks nobody who they are, so it must be one of {', '.join(LOOPBACK)}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port}: must be 0 (any free one) to 65535")
    address = LOOPBACK[host]
    try:
        return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(address, port) from error
        raise Refusal(f"cannot listen on {address}, port {port}: {error.strerror}") from error
