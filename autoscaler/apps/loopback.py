"""How is an app served to this machine and to nobody else?

What is served here asks nobody who is calling, so only loopback addresses are bound.
"""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI

from autoscaler.apps.server import Server, nothing_to_close

LOOPBACK = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1"}
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")  # the same, as they stand in a Host header


class LoopbackServer(Server):
    """A server that only this machine reaches. Raises ValueError for a host that is not loopback."""

    def __init__(self, app: FastAPI, host: str, port: int, closing: Callable[[], None]) -> None:
        if host not in LOOPBACK:
            raise ValueError(
                f"host {host!r}: what is served asks nobody who they are, so it must be one of {', '.join(LOOPBACK)}"
            )
        super().__init__(app, LOOPBACK[host], port, closing)


def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 0, closing: Callable[[], None] = nothing_to_close) -> LoopbackServer:
    """Serve an app in a thread of its own; what may be asked for, and what is refused, stands at `Server`."""
    return LoopbackServer(app, host, port, closing)
