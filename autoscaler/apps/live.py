"""How does a person watch the controller work, and how does a script read the same?

    /                      the live page: pictures of load, replicas, latency, queues, and every decision with its reason
    /api/state             the newest frame per fleet
    /api/history?fleet=    the kept frames of one fleet, oldest first, without the findings of uneventful ticks
                           (`fleet` may be left out while there is only one)
    /api/explain?fleet=    the newest status document of one fleet, reason chain included
    /events?fleet=&after=  server-sent events: a frame as soon as its tick is over; resumes from Last-Event-ID
    /healthz               "ok" while the server answers
    /metrics               the controller's own metrics, for Prometheus
    /v1/state/...          what sidecars on this machine judge by (apps/states.py)

Nothing here asks who is calling, so it is served on loopback only (apps/loopback.py). A browser is still a way in: a
page of another site may resolve its own name to 127.0.0.1 and read ours (DNS rebinding), hence the strict Host check;
no CORS header is ever sent; and names that come from a cluster are kept from becoming code twice, by the page (text
nodes only) and by the content security policy (no inline script).
"""

from __future__ import annotations

import asyncio
import html
import json
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles

from autoscaler.apps.feed import Feed, Frame
from autoscaler.apps.loopback import LOCAL_NAMES
from autoscaler.apps.states import States, add_states

STATIC = Path(__file__).parent / "static"
RETRY_MS = 1000
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-cache"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
MetricsPage = Callable[[], tuple[bytes, str]]


def create_app(
    feed: Feed, title: str, heartbeat_s: float = 15.0, metrics: MetricsPage | None = None, states: States | None = None
) -> FastAPI:
    """The page and its machine-readable twins over one feed. `title` names the browser's tab; `heartbeat_s` is the
    longest silence of an event stream, so that nothing in between takes a quiet stream for a dead one; `metrics` gives
    the text of /metrics and its content type.
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOCAL_NAMES, www_redirect=False)
    app.add_middleware(_Headers)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    _add_page(app, title)
    _add_documents(app, feed)
    _add_events(app, feed, heartbeat_s)
    if metrics is not None:
        _add_metrics(app, metrics)
    if states is not None:
        add_states(app, states)
    return app


def _add_page(app: FastAPI, title: str) -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8").replace("{{title}}", html.escape(title))

    @app.get("/", response_class=HTMLResponse)
    async def index() -> str:
        return page

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok\n"


def _add_documents(app: FastAPI, feed: Feed) -> None:
    @app.get("/api/state")
    async def state() -> Response:
        return _json("{" + ",".join(f"{json.dumps(fleet)}:{frame.text}" for fleet, frame in feed.latest().items()) + "}")

    @app.get("/api/history")
    async def history(fleet: str | None = None) -> Response:
        return _json("[" + ",".join(frame.text for frame in feed.history(_known(fleet, feed))) + "]")

    @app.get("/api/explain")
    async def explain(fleet: str | None = None) -> Response:
        return _json(json.dumps(feed.document(_known(fleet, feed))))


def _add_events(app: FastAPI, feed: Feed, heartbeat_s: float) -> None:
    @app.get("/events")
    async def events(
        fleet: str | None = None, after: str | None = None, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        # A browser that comes back asks the address it first asked, `after` included; its header is newer.
        return StreamingResponse(_stream(feed, fleet, last_event_id or after, heartbeat_s), media_type="text/event-stream")


def _add_metrics(app: FastAPI, metrics: MetricsPage) -> None:
    @app.get("/metrics")
    def page() -> Response:  # not async: a thousand fleets take half a second, and streams must not wait for it
        text, content_type = metrics()
        return Response(text, headers={"content-type": content_type})


async def _stream(feed: Feed, fleet: str | None, seen: str | None, heartbeat_s: float) -> AsyncIterator[str]:
    """Events of one watcher who has seen the frame of id `seen`. An id of another run is answered by a `reset`."""
    place = feed.place_of(seen) if seen else None
    missed, subscription = feed.subscribe(fleet, place)
    try:
        yield f"retry: {RETRY_MS}\n\n"
        if seen and place is None:
            yield "event: reset\ndata: these ticks are of another run\n\n"
        frames: list[Frame] | None = missed
        while frames is not None:
            for frame in frames:
                yield f"id: {frame.id}\ndata: {frame.text}\n\n"
            try:
                async with asyncio.timeout(heartbeat_s):
                    frames = await subscription.take()
            except TimeoutError:
                frames = []
                yield ": still here\n\n"
    finally:
        feed.unsubscribe(subscription)


def _json(text: str) -> Response:
    return Response(text, media_type="application/json")


def _known(fleet: str | None, feed: Feed) -> str:
    """The fleet that is meant: the one named, or the only one there is."""
    known = feed.fleets
    if fleet is None and len(known) == 1:
        return known[0]
    if fleet not in known:
        asked = "no fleet named" if fleet is None else f"no fleet {fleet!r} here"
        raise HTTPException(404, f"{asked}; known: {', '.join(sorted(known)) or 'none yet, no tick is over'}")
    return fleet


class _Headers:
    """Adds the security headers to every response. Plain ASGI: a stream passes through without being held."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(row for row in HEADERS if row[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers)
