"""How is an API server told that something cannot be answered?

By a metav1.Status as JSON, whatever was asked for: anything else is logged there as "not a Status", and a client sees no
reason. A `Failure` is that as a value; its `code` is the HTTP status.

No failure carries a Retry-After header: client-go obeys it inside the call, ten times over, and a worker of the HPA controller
would sleep on one metric while other HPAs wait. Without it the next sync comes in 15 s, and the count is held until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

GROUP = "external.metrics.k8s.io"
CAUSES_SHOWN = 16

REASONS: Mapping[int, str] = {
    HTTPStatus.BAD_REQUEST: "BadRequest",
    HTTPStatus.UNAUTHORIZED: "Unauthorized",
    HTTPStatus.FORBIDDEN: "Forbidden",
    HTTPStatus.NOT_FOUND: "NotFound",
    HTTPStatus.METHOD_NOT_ALLOWED: "MethodNotAllowed",
    HTTPStatus.NOT_ACCEPTABLE: "NotAcceptable",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestEntityTooLarge",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaType",
    HTTPStatus.TOO_MANY_REQUESTS: "TooManyRequests",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailable",
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One series that stands in the way: `where` is POLICY/ROLE, `reason` a CamelCase word, `message` a sentence."""

    where: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer. `name`: of the metric, where one was named."""

    code: int
    message: str
    name: str = ""
    causes: tuple[Cause, ...] = ()

    def body(self) -> dict[str, Any]:
        """The metav1.Status."""
        told = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": REASONS.get(self.code, "Unknown"),
        }
        return told | self._details() | {"code": self.code}

    def _details(self) -> dict[str, Any]:
        """`kind` is the resource here, by the API's own custom, and that is the metric."""
        if not self.name:
            return {}
        causes = [{"reason": one.reason, "message": one.message, "field": one.where} for one in self.causes[:CAUSES_SHOWN]]
        return {"details": {"name": self.name, "group": GROUP, "kind": self.name} | ({"causes": causes} if causes else {})}


def bad_request(name: str, message: str) -> Failure:
    """What was asked cannot be understood."""
    return Failure(HTTPStatus.BAD_REQUEST, message, name)


def unauthorized(message: str) -> Failure:
    """Nobody knows who asks."""
    return Failure(HTTPStatus.UNAUTHORIZED, f"Unauthorized: {message}")


def forbidden(name: str, message: str) -> Failure:
    """Who asks is known, and may not."""
    return Failure(HTTPStatus.FORBIDDEN, f"{name} is forbidden: {message}", name)


def not_found(name: str, message: str, causes: Sequence[Cause] = ()) -> Failure:
    """There is no such number, and waiting brings none."""
    return Failure(HTTPStatus.NOT_FOUND, message, name, tuple(causes))


def unavailable(name: str, message: str, causes: Sequence[Cause] = ()) -> Failure:
    """There is no number that may be believed just now."""
    return Failure(HTTPStatus.SERVICE_UNAVAILABLE, message, name, tuple(causes))
