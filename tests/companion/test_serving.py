"""Does the companion's server let nobody keep it waiting, and everybody else alone?"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect

from autoscaler.companion import serving
from autoscaler.companion.tls import Door
from tests.companion.proxies import Client, listening, made

WHOLE = b"GET /peer HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhal"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = FastAPI()

    @app.get("/peer")
    async def peer(request: Request) -> dict[str, object]:
        return {"peer": request.scope["state"]["peer"]}

    @app.post("/body")
    async def body(request: Request) -> int:
        with suppress(ClientDisconnect):
            return len(await request.body())
        return 0

    served = made()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serving, "PATIENCE_S", 0.2)
        patched.setattr(serving, "SWEEP_S", 0.02)
        with listening(app, Door(served.pair, time.time()).context) as (found, _):
            with closing(Client(found, served.authority)) as client:
                assert client.get("/peer") == (200, {"peer": None})
            yield found


def closed_after(port: int, *sent: bytes) -> float | None:
    """Seconds until the other side closes; None if it does not within a second."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="x") as connection:
        connection.settimeout(1.0)
        began = time.monotonic()
        try:
            for one in sent:
                connection.sendall(one)
            while connection.recv(65536):
                pass
        except TimeoutError:
            return None
        except (ssl.SSLError, ConnectionError):
            pass
        return time.monotonic() - began


@pytest.mark.parametrize(
    "sent",
    [(), (b"GET /pe",), (POST,), (WHOLE, b"GET /pe")],
    ids=["nothing", "half a head", "half a body", "a request and half a head"],
)
def test_who_does_not_finish_is_closed(port: int, sent: tuple[bytes, ...]) -> None:
    assert closed_after(port, *sent) is not None


@pytest.mark.slow  # waits for a second
def test_who_has_been_answered_may_stay(port: int) -> None:
    assert closed_after(port, WHOLE) is None


def test_a_head_that_does_not_end_is_cut_off(port: int) -> None:
    assert closed_after(port, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000) is not None
