"""How does KEDA get a number without the API server? Its `metrics-api` trigger asks for JSON and picks the field `value`.

    GET /keda/v1/NAMESPACE/POLICY/ROLE                                     pdautoscaler_desired_replicas
    GET /keda/v1/NAMESPACE/POLICY/ROLE?metric=pdautoscaler_queue_pressure  any other of metrics.py

KEDA takes any status but 200 for a failure: then its HPA holds, or the trigger's `fallback` acts. So the failures are the same
as for HPA, with the same status codes. The trigger needs `valueLocation: value`, `targetValue: "1"`, metricType AverageValue (the
default) and, to be exact, tolerance 0 in `advanced.horizontalPodAutoscalerConfig.behavior`. It can send a bearer token
(`authMode: bearer`); where one is configured here nothing is told without it. KEDA's `X-API-KEY`, basic and TLS modes are not
needed: what they bring is ignored. The value is a number and no quantity, which older releases of KEDA do not read. With
`aggregateFromKubeServiceEndpoints` KEDA asks every replica of ours and drops the query: leave it off.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from autoscaler.companion.app import Clock, bare_app, failed
from autoscaler.companion.callers import bearer
from autoscaler.companion.external import timestamp
from autoscaler.companion.failures import Failure, unauthorized
from autoscaler.companion.metrics import Objects, Sample, samples
from autoscaler.policy.actuation import DESIRED_METRIC, POLICY_LABEL, ROLE_LABEL


def create_keda_app(objects: Objects, clock: Clock, token: Callable[[], str] | None = None) -> FastAPI:
    """One route. `objects` and `clock` as for external metrics; `token` gives the one that callers must show at present, None:
    whoever reaches this port may ask.
    """
    app = bare_app()

    @app.get("/keda/v1/{namespace}/{policy}/{role}")
    async def value(namespace: str, policy: str, role: str, request: Request) -> Response:
        if token is not None and not _same(bearer(request.scope["headers"]), token()):
            return failed(unauthorized("a bearer token is needed, and this is not it"))
        metric = request.query_params.get("metric", DESIRED_METRIC)
        labels = {POLICY_LABEL: policy, ROLE_LABEL: role}
        found = samples(objects(), clock(), namespace, metric, lambda series: series == labels)
        if isinstance(found, Failure):
            return failed(found)
        return JSONResponse(answer(namespace, found[0]))

    return app


def answer(namespace: str, sample: Sample) -> dict[str, Any]:
    """What KEDA gets: `value` is for it, all else for people."""
    labels = dict(sample.labels)
    return {"value": sample.value, "metric": sample.metric, "namespace": namespace, **labels, "told": timestamp(sample.told_s)}


def _same(shown: str, wanted: str) -> bool:
    """Whether it is the token, in a time that tells nothing about it. No token is never the right one."""
    return bool(wanted) and hmac.compare_digest(shown.encode(), wanted.encode())
