"""What does a sidecar tell of itself?

    /healthz        200 while it answers at all
    /readyz         200 as soon as it answers: without a state it admits everybody, and says so here
    /metrics        counts.py
    /v1/ledger      what shadow mode would have done, the mode, and how old the state is
    /v1/decisions   one decision in 64, the last 256

Behind the hot path, by FastAPI: nobody asks for them more often than once a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from autoscaler.sidecar.board import Board
from autoscaler.sidecar.counts import Rows, counts, text
from autoscaler.sidecar.ledger import Ledger, Sampled


def create_app(
    board: Board,
    ledger: Ledger,
    rows: Rows,
    trouble: Callable[[], str],
    monotonic: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """The pages. `trouble` is why no newer state comes, in one line; empty if one does."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok\n"

    @app.get("/readyz", response_class=PlainTextResponse)
    async def readyz() -> str:
        return _standing(board, trouble(), monotonic())

    @app.get("/metrics")
    async def metrics() -> Response:
        page = text(rows.total(counts(ledger, board)), ledger, board, monotonic())
        return Response(page, headers={"content-type": "text/plain; version=0.0.4; charset=utf-8"})

    @app.get("/v1/ledger")
    async def look_back() -> JSONResponse:
        return JSONResponse(_looked_back(board, ledger, trouble(), monotonic()))

    @app.get("/v1/decisions")
    async def decisions() -> JSONResponse:
        now = monotonic()
        return JSONResponse([_told(one, now) for one in tuple(ledger.sampled)])

    return app


def _standing(board: Board, trouble: str, now: float) -> str:
    picture = board.picture
    if picture is None:
        return f"no state of the fleet yet, everybody is admitted: {trouble or 'asking for it'}\n"
    age_s, late = picture.age_s(now), picture.age_s(now) > picture.rules.max_age_s
    told = f"mode {picture.mode}, state {age_s:.1f} s old" + (", too old: everybody is admitted" if late else "")
    return f"{told}{'; ' + trouble if trouble else ''}\n"


def _looked_back(board: Board, ledger: Ledger, trouble: str, now: float) -> dict[str, Any]:
    picture = board.picture
    return {
        "mode": picture.mode if picture else None,
        "state_age_s": picture.age_s(now) if picture else None,
        "trouble": trouble,
        "shadow": asdict(ledger.hindsight) if ledger.hindsight else None,
    }


def _told(one: Sampled, now: float) -> dict[str, Any]:
    verdict = one.verdict
    return {
        "ago_s": round(now - one.at_s, 3),
        "mode": one.mode,
        "admit": verdict.admit,
        "reason": verdict.why,
        "class": verdict.qos,
        "ttft_s": verdict.ttft_s,
        "tpot_s": verdict.tpot_s,
    }
