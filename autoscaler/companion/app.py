"""How does an API server reach external metrics? Thin routes over discovery.py, external.py and callers.py.

    /apis, /apis/GROUP, /apis/GROUP/VERSION                              to everybody
    /apis/GROUP/VERSION/namespaces/NAMESPACE/METRIC?labelSelector=...    to the front proxy, and whom the authority lets in
    anything else                                                        404, as a Status; of /openapi the aggregator takes that
                                                                         for "no schema"

`scope["state"]["peer"]` is what the TLS server verified: the caller's certificate as `getpeercert` of ssl tells it, or None.
Every failure of this application, whosever routes are added to it, is a metav1.Status: nobody upstream reads HTML.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from autoscaler.companion import discovery
from autoscaler.companion.callers import Access, Caller, Callers
from autoscaler.companion.external import GROUP_VERSION, value_list
from autoscaler.companion.failures import GROUP, Failure, bad_request
from autoscaler.companion.metrics import Objects

Clock = Callable[[], float]

log = logging.getLogger(__name__)


def create_app(objects: Objects, callers: Callers, clock: Clock) -> FastAPI:
    """The group external.metrics.k8s.io. `objects` gives every PDAutoscaler as the API server last told of it, `clock` the
    seconds since 1970.
    """
    app = bare_app()
    _add_discovery(app)

    @app.get(f"/apis/{GROUP_VERSION}/namespaces/{{namespace}}/{{metric}}")
    async def values(namespace: str, metric: str, request: Request) -> Response:
        caller = await _caller(request, callers, Access(namespace, metric))
        if isinstance(caller, Failure):
            return failed(caller)
        selectors = request.query_params.getlist("labelSelector")
        if len(selectors) > 1:
            return failed(bad_request(metric, f"labelSelector is there {len(selectors)} times (allowed: once)"))
        found = value_list(objects(), clock(), namespace, metric, selectors[0] if selectors else "")
        log.debug("%s asked for %s in %s: %s", caller.user, metric, namespace, found)
        return failed(found) if isinstance(found, Failure) else JSONResponse(found)

    return app


def bare_app() -> FastAPI:
    """An application without any route, whose failures are all told as a Status. Redirects are off: a probe fails on one."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(HTTPException, _http_failure)
    app.add_exception_handler(Exception, _bug)
    return app


def failed(failure: Failure) -> Response:
    """A failure as an answer."""
    return JSONResponse(failure.body(), status_code=failure.code)


async def _caller(request: Request, callers: Callers, access: Access) -> Caller | Failure:
    peer: Mapping[str, Any] | None = (request.scope.get("state") or {}).get("peer")
    headers = request.scope["headers"]
    if callers.authority is None:
        return callers.admit(peer, headers, access)
    return await run_in_threadpool(callers.admit, peer, headers, access)  # it asks an API server


def _add_discovery(app: FastAPI) -> None:
    @app.get("/apis")
    async def groups(request: Request) -> Response:
        version = discovery.discovery_version(",".join(request.headers.getlist("accept")))
        if version is None:
            return JSONResponse(discovery.group_list(), headers={"vary": "Accept"})
        document = discovery.group_discovery(version)
        headers = {"vary": "Accept", "etag": discovery.etag(document)}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return JSONResponse(document, headers=headers, media_type=discovery.media_type(version))

    @app.get(f"/apis/{GROUP}")
    async def group() -> Response:
        return JSONResponse(discovery.group())

    @app.get(f"/apis/{GROUP_VERSION}")
    async def resources() -> Response:
        return JSONResponse(discovery.resource_list())


async def _http_failure(request: Request, error: Exception) -> Response:
    code, detail = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, "an error of this server")
    return failed(Failure(code, f"{request.method} {ascii(request.scope['path'])[:200]}: {detail}"))


async def _bug(_request: Request, _error: Exception) -> Response:
    return failed(Failure(500, "an error of this server; its log has the traceback"))
