"""How does an API server reach the webhook?

Through four doors, one per configuration, since each has other objects and another patience:

    POST /admission/policies   PDAutoscalers that are made or changed     policies.py
    POST /admission/scale      writes to targets and their counts         guard.py
    POST /admission/load       batch objects that are made or resumed     load.py
    POST /admission/pods       pods that are made, mutating               injection.py

The answer is 200 with a review, or a Status that says what is wrong with the question. A body is read no further than
BODY_BYTES. An API server shows a webhook no certificate (reference/interfaces.md C3), so anybody in reach may ask: nothing is
written, and no answer tells more than the API server's own users may know.

A review costs tens of microseconds and is judged in the event loop. A policy is the exception, and goes to a thread: to check
one takes milliseconds, and somebody's pod would wait for it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from autoscaler.companion.admission import guard, injection, load, policies
from autoscaler.companion.admission.fleets import Fleets, Register
from autoscaler.companion.admission.review import BODY_BYTES, Review, Ruling, Unreadable, read, unread, wire
from autoscaler.companion.admission.strictness import AdmissionSettings
from autoscaler.companion.app import failed
from autoscaler.companion.failures import Failure

PREFIX = "/admission"
JSON = "application/json"

Judge = Callable[[Review, Fleets], Ruling]
Asked = Callable[[Request], Awaitable[Response]]

log = logging.getLogger(__name__)


def add_admission(
    app: FastAPI,
    objects: Callable[[], Sequence[Mapping[str, Any]]],
    clock: Callable[[], float],
    settings: AdmissionSettings,
) -> None:
    """Add the doors to `app`. `objects` gives every PDAutoscaler as the API server last told of it, `clock` the seconds since
    1970. The same sequence, or at least the same objects, while nothing has changed: the index is kept as long.
    """
    register = Register(objects)
    judges: Mapping[str, Judge] = {
        "scale": lambda review, fleets: guard.judge(review, fleets, clock(), settings),
        "load": lambda review, fleets: load.judge(review, fleets, clock(), settings),
        "pods": lambda review, fleets: injection.judge(review, fleets, clock()),
    }
    for name, judge in judges.items():
        app.post(f"{PREFIX}/{name}")(_door(name, partial(_at_once, judge), register))
    app.post(f"{PREFIX}/policies")(_door("policies", _aside, register))


async def _at_once(judge: Judge, review: Review, fleets: Fleets) -> Ruling:
    return judge(review, fleets)


async def _aside(review: Review, fleets: Fleets) -> Ruling:
    return await run_in_threadpool(policies.judge, review, fleets)


def _door(name: str, judge: Callable[[Review, Fleets], Awaitable[Ruling]], register: Register) -> Asked:
    async def asked(request: Request) -> Response:
        body = await _body(request)
        review = body if isinstance(body, Unreadable) else read(body)
        if isinstance(review, Unreadable):
            if not review.uid:
                return failed(Failure(review.status, review.text))
            ruling = unread(review)
        else:
            ruling = await judge(review, register.fleets())
            if not ruling.allowed:
                log.info("%s: %s: %s", name, review.user_info.username, ruling.message)
        return Response(wire(review.uid, ruling), media_type=JSON)

    return asked


async def _body(request: Request) -> bytes | Unreadable:
    """The whole body, if it is JSON and not too long. Its length is believed only as a reason to stop."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        return Unreadable(415, f"content-type is {kind!a} (allowed: {JSON})")
    too_long = Unreadable(413, f"the body has more than {BODY_BYTES >> 20} MiB, which no review has")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and len(length) < 20 and int(length) > BODY_BYTES:
        return too_long
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES:
                return too_long
    except ClientDisconnect:
        return Unreadable(400, "the body ends before its end")
    return bytes(body)
