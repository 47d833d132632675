"""What does the companion tell of itself, to kubelets and to Prometheus?

    /healthz, /livez   200 while it answers at all
    /readyz            200 while it can answer what it is asked, else 503 and why, a line each; remarks follow an `ok`
    /metrics           requests by route and code, how long the certificate lasts, and what is in the way

On every port, to anybody: a kubelet shows no certificate. Nothing here names a fleet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

OWN = frozenset({"/healthz", "/livez", "/readyz", "/metrics"})

Lines = Callable[[], Sequence[str]]


class Pages:
    """`troubles`: why nothing can be answered now. `remarks`: what is wrong although it can. `until_s`: when the certificate
    ends, in seconds since 1970.
    """

    def __init__(self, troubles: Lines, remarks: Lines, until_s: Callable[[], float]) -> None:
        self._troubles, self._remarks = troubles, remarks
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "pd_autoscaler_companion_requests", "Requests answered.", ("route", "code"), registry=self._registry
        )
        ready = Gauge("pd_autoscaler_companion_ready", "1 while it can answer what it is asked.", registry=self._registry)
        ready.set_function(lambda: not troubles())
        remarked = Gauge("pd_autoscaler_companion_remarks", "Things that need a look.", registry=self._registry)
        remarked.set_function(lambda: len(remarks()))
        ends = Gauge(
            "pd_autoscaler_companion_certificate_end_timestamp_seconds", "End of what is served.", registry=self._registry
        )
        ends.set_function(until_s)
        self._app = self._pages()

    def before(self, app: Any) -> Any:
        """The ASGI app with these pages in front of it, every request counted."""

        async def answer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
            async def counting(message: Mapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    route = getattr(scope.get("route"), "path", "other")
                    self._requests.labels(route, str(message["status"])).inc()
                await send(message)

            await (self._app if scope.get("path") in OWN else app)(scope, receive, counting)

        return answer

    def _pages(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @app.get("/livez", response_class=PlainTextResponse)
        @app.get("/healthz", response_class=PlainTextResponse)
        async def healthz() -> str:
            return "ok\n"

        @app.get("/readyz", response_class=PlainTextResponse)
        async def readyz() -> Response:
            troubles = self._troubles()
            lines = troubles or ["ok", *self._remarks()]
            return PlainTextResponse("\n".join(lines) + "\n", status_code=503 if troubles else 200)

        @app.get("/metrics")
        async def metrics() -> Response:
            return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})

        return app
