"""How does a decision cost little more than reading the request?

A raw ASGI application stands in front of FastAPI, whose routing would cost four times the decision: the paths of skins.py are
answered here, everything else (health, metrics, the ledger) is passed on. Nothing on the way logs, locks or awaits but the body.

Bodies are bounded: one that is announced as larger than MOST_BYTES is not waited for but judged by its size, one that comes
larger is cut there, and one that does not come on is judged by what came within BODY_S.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from autoscaler.sidecar.desk import LENGTH, Desk
from autoscaler.sidecar.headers import Headers, size_bytes
from autoscaler.sidecar.skins import Reads, skin_of

MOST_BYTES = 262_144
BODY_S = 1.0
CHUNKED = b"transfer-encoding"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Hot:
    """Answers what a gateway asks; `behind` answers the rest."""

    def __init__(self, desk: Desk, behind: Application) -> None:
        self._desk, self._behind = desk, behind

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request."""
        skin = skin_of(scope["path"]) if scope["type"] == "http" else None
        if skin is None:
            await self._behind(scope, receive, send)
            return
        headers = dict(scope["headers"])
        body = b"" if skin.reads is Reads.NOTHING else await _body(headers, receive)
        answer = self._desk.answer(skin, headers, body)
        await send(answer.start)
        await send(answer.body)


async def _body(headers: Headers, receive: Receive) -> bytes:
    """What comes of a body, up to MOST_BYTES and for up to BODY_S after its first bytes."""
    length = headers.get(LENGTH)
    if length is None and CHUNKED not in headers:
        return b""
    if length is not None and (size_bytes(length) or 0) > MOST_BYTES:
        return b""
    message = await receive()
    body: bytes = message.get("body", b"")
    return await _rest(body, receive) if message.get("more_body") else body


async def _rest(body: bytes, receive: Receive) -> bytes:
    parts, size, more = [body], len(body), True
    try:
        async with asyncio.timeout(BODY_S):
            while more and size < MOST_BYTES:
                message = await receive()
                part = message.get("body", b"")
                parts.append(part)
                size, more = size + len(part), message.get("more_body", False)
    except TimeoutError:
        pass  # judged by what came: a slow client is no reason to say no
    return b"".join(parts)[:MOST_BYTES]
