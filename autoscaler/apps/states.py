"""How do sidecars hear of a fleet as soon as something is known?

    GET /v1/state/NAMESPACE/NAME?after=EPOCH-SEQUENCE&wait_s=20    200 and the newest document once it is newer than `after`;
                                                                   204 when `wait_s` passed without one; 404: no such fleet yet

A long poll: one request per document and sidecar, through any proxy, without a stream that somebody has to keep alive. The
epoch is the time at which this process began to publish, in milliseconds, so a later leader's documents are newer than all of
an earlier one's; the sequence grows with each document.

Who asks must show the shared secret where there is one (`authorization: Bearer`), and gets the document signed with it
(x-pda-signature: HMAC-SHA256 in hex), so that it cannot be made up by somebody in between; without a secret this is served to
this machine alone (apps/loopback.py). `x-pda-age-ms` is how old the document was when it was sent, by the clock it was issued by.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Query, Response

LONGEST_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Published:
    """One document as it is sent, and when it was issued on the monotonic clock."""

    sequence: int
    text: bytes
    issued_s: float


class States:
    """The newest document of each fleet; `publish` may be called from any thread, and never waits."""

    def __init__(
        self, secret: bytes = b"", wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._secret, self._wall, self._monotonic = secret, wall, monotonic
        self._epoch = int(wall() * 1000)
        self._sequence = 0
        self._let_go = False
        self._lock = Lock()
        self._newest: dict[str, Published] = {}
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def publish(self, content: Mapping[str, Any]) -> None:
        """Make this the newest document of its fleet (core/published.py `document`), and wake who waits."""
        with self._lock:
            self._sequence += 1
            place = {"epoch": self._epoch, "sequence": self._sequence, "issued_at": self._wall()}
            text = json.dumps({**content, **place}, separators=(",", ":"), allow_nan=False).encode()
            self._newest[content["fleet"]] = Published(self._sequence, text, self._monotonic())
        self._wake()

    def forget(self, fleet: str) -> None:
        """A fleet that is managed no more is told of no more."""
        with self._lock:
            self._newest.pop(fleet, None)

    async def newer(self, fleet: str, after: str, wait_s: float) -> Published | None:
        """The fleet's newest document, as soon as it is newer than `after` ("epoch-sequence"); None if none came in time."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting.add(entry)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while not (self._let_go or self._is_newer(fleet, after)):
                        await entry[1].wait()
                        entry[1].clear()
            return self._newest[fleet] if self._is_newer(fleet, after) else None
        finally:
            with self._lock:
                self._waiting.discard(entry)

    def let_go(self) -> None:
        """Answer everybody who waits, now and later, at once: the server is about to stop."""
        self._let_go = True
        self._wake()

    def knows(self, fleet: str) -> bool:
        """Was there ever a document of it?"""
        return fleet in self._newest

    def lets_in(self, authorization: str | None) -> bool:
        """Does this header show the secret, if there is one?"""
        shown = (authorization or "").removeprefix("Bearer ").encode()
        return not self._secret or hmac.compare_digest(shown, self._secret)

    def headers(self, published: Published) -> dict[str, str]:
        """What stands beside a document when it is sent now."""
        age_ms = max(0.0, self._monotonic() - published.issued_s) * 1000
        told = {"x-pda-age-ms": f"{age_ms:.0f}", "cache-control": "no-store"}
        if self._secret:
            told["x-pda-signature"] = hmac.new(self._secret, published.text, hashlib.sha256).hexdigest()
        return told

    def _wake(self) -> None:
        with self._lock:
            waiting = tuple(self._waiting)
        for loop, event in waiting:
            with suppress(RuntimeError):  # a loop that has just closed has nobody left to wake
                loop.call_soon_threadsafe(event.set)

    def _is_newer(self, fleet: str, after: str) -> bool:
        newest = self._newest.get(fleet)
        return newest is not None and after != f"{self._epoch}-{newest.sequence}"


def add_states(app: FastAPI, states: States) -> None:
    """Serve them beside what the app has."""

    @app.get("/v1/state/{namespace}/{name}")
    async def state(
        namespace: str,
        name: str,
        after: str = "",
        wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0.0,
        authorization: Annotated[str | None, Header()] = None,
    ) -> Response:
        fleet = f"{namespace}/{name}"
        if not states.lets_in(authorization):
            raise HTTPException(401, "the secret of --state-secret-file must be shown as a Bearer token")
        found = await states.newer(fleet, after, wait_s)
        if found is not None:
            return Response(found.text, media_type="application/json", headers=states.headers(found))
        if not states.knows(fleet):
            raise HTTPException(404, f"nothing is known of {fleet} here (yet)")
        return Response(status_code=204)
