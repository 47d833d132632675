"""How do sidecars hear of a fleet as soon as something is known?

    GET /v1/state/NAMESPACE/NAME?after=EPOCH-SEQUENCE&wait_s=20    200 and the newest document once it is newer than `after`;
                                                                   204 when `wait_s` passed without one; 404: no such fleet yet;
                                                                   503: nobody leads that could be asked

A long poll: one request per document and sidecar, through any proxy, without a stream that somebody has to keep alive. Whoever
does not lead asks who does (forwarding.py), so that any controller can be asked.

The epoch is that of a leadership: its term times EPOCHS, plus the time at which it began, in milliseconds. A Lease counts its
holders, so what a later leader says is newer whatever the clocks of the two say; the time tells apart those that have no Lease,
one process after the other. A term that began anew (a Lease that was deleted) is heard again when what sidecars know has been
old for 10 s. The sequence grows with each document.

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
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response

LONGEST_WAIT_S = 30.0
EPOCHS = 10**13  # milliseconds, until the year 2286: an epoch of 64 bits has room for 900,000 terms
MOST_ASKED = 4096  # fleets that somebody asked for; the one that was not for longest is forgotten first

Elsewhere = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Published:
    """One document as it is sent, and when it was issued on the monotonic clock."""

    sequence: int
    text: bytes
    issued_s: float


class States:
    """The newest document of each fleet; `publish` may be called from any thread, and never waits. `leads` tells whether this
    process may speak at this very moment, which `lead` learns a second later.
    """

    def __init__(
        self,
        secret: bytes = b"",
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._secret, self._wall, self._monotonic, self._leads = secret, wall, monotonic, leads
        self._term: int | None = 0
        self._epoch, self._sequence = int(wall() * 1000), 0
        self._let_go = False
        self._lock = Lock()
        self._newest: dict[str, Published] = {}
        self._asked_s: dict[str, float] = {}
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    @property
    def leading(self) -> bool:
        """May this process tell of fleets?"""
        return self._term is not None and self._leads()

    def lead(self, term: int | None) -> None:
        """What is published from now on is of this term; None: nothing is, and whoever waits is let go."""
        with self._lock:
            if term == self._term:
                return
            self._term = term
            self._newest.clear()
            if term is not None:
                self._epoch, self._sequence = term * EPOCHS + int(self._wall() * 1000), 0
        self._wake()

    def publish(self, content: Mapping[str, Any]) -> None:
        """Make this the newest document of its fleet (core/published.py `document`), and wake who waits for it."""
        with self._lock:
            if self._term is None:
                return
            self._sequence += 1
            place = {"epoch": self._epoch, "sequence": self._sequence, "issued_at": self._wall()}
            text = json.dumps({**content, **place}, separators=(",", ":"), allow_nan=False).encode()
            self._newest[content["fleet"]] = Published(self._sequence, text, self._monotonic())
        self._wake(content["fleet"])

    def forget(self, fleet: str) -> None:
        """A fleet that is managed no more is told of no more."""
        with self._lock:
            self._newest.pop(fleet, None)

    def asked(self, fleet: str, within_s: float) -> bool:
        """Has anybody asked for this fleet in the last `within_s` seconds, or waits for it now?"""
        asked_s = self._asked_s.get(fleet)
        return fleet in self._waiting or (asked_s is not None and self._monotonic() - asked_s <= within_s)

    async def newer(self, fleet: str, after: str, wait_s: float) -> Published | None:
        """The fleet's newest document, as soon as it is newer than `after` ("epoch-sequence"); None if none came in time."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._ask(fleet)
            self._waiting.setdefault(fleet, set()).add(entry)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    while self.leading and not (self._let_go or self._is_newer(fleet, after)):
                        await entry[1].wait()
                        entry[1].clear()
            return self._newest.get(fleet) if self.leading and self._is_newer(fleet, after) else None
        finally:
            with self._lock:
                self._ask(fleet)
                self._waiting[fleet].discard(entry)
                if not self._waiting[fleet]:
                    del self._waiting[fleet]

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

    def _ask(self, fleet: str) -> None:
        self._asked_s.pop(fleet, None)
        self._asked_s[fleet] = self._monotonic()
        if len(self._asked_s) > MOST_ASKED:
            del self._asked_s[next(iter(self._asked_s))]

    def _wake(self, *fleets: str) -> None:
        """Those who wait for these fleets; all, where none is named."""
        with self._lock:
            waiting = [entry for fleet in fleets or self._waiting for entry in self._waiting.get(fleet, ())]
        for loop, event in waiting:
            with suppress(RuntimeError):  # a loop that has just closed has nobody left to wake
                loop.call_soon_threadsafe(event.set)

    def _is_newer(self, fleet: str, after: str) -> bool:
        newest = self._newest.get(fleet)
        return newest is not None and after != f"{self._epoch}-{newest.sequence}"


async def nobody(_: Request) -> Response:
    """For whoever cannot ask another."""
    raise HTTPException(503, "this controller does not lead, and knows of none that does")


def add_states(app: FastAPI, states: States, elsewhere: Elsewhere = nobody) -> None:
    """Serve them beside what the app has. `elsewhere` gets the answer of who leads, where this process does not."""

    @app.get("/v1/state/{namespace}/{name}")
    async def state(
        request: Request,
        namespace: str,
        name: str,
        after: str = "",
        wait_s: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S)] = 0.0,
    ) -> Response:
        fleet = f"{namespace}/{name}"
        if not states.lets_in(request.headers.get("authorization")):
            raise HTTPException(401, "the secret of --state-secret-file must be shown as a Bearer token")
        if not states.leading:
            return await elsewhere(request)
        found = await states.newer(fleet, after, wait_s)
        if found is not None:
            return Response(found.text, media_type="application/json", headers=states.headers(found))
        if not states.leading:
            raise HTTPException(503, "this controller leads no more; ask again")
        if not states.knows(fleet):
            raise HTTPException(404, f"nothing is known of {fleet} here (yet)")
        return Response(status_code=204)
