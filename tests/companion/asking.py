"""How does a test ask an application as a TLS server would hand requests on, with a verified peer or without one?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI

from autoscaler.companion.callers import Callers, FrontProxy

PROXY = FrontProxy(("front-proxy-client",), ("x-remote-user",), ("x-remote-group",), ("x-remote-extra-",))
CALLERS = Callers(lambda: PROXY)
HPA = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
Headers = Iterable[tuple[str, str]]


def certificate(common_name: str) -> dict[str, Any]:
    """A verified certificate as `getpeercert` tells it."""
    return {"subject": ((("organizationName", "somebody"),), (("commonName", common_name),)), "version": 3}


PEER = certificate("front-proxy-client")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


def ask(
    app: FastAPI,
    url: str,
    headers: Headers = (("X-Remote-User", HPA),),
    peer: Mapping[str, Any] | None = PEER,
    method: str = "GET",
    query: bytes | None = None,
) -> Answer:
    """One request. `url`: the path, not percent-encoded, and behind `?` the query, encoded; with a `query` the path alone."""
    path, _, behind = (url, "", "") if query is not None else url.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": behind.encode("latin-1") if query is None else query,
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 443),
        "state": {"peer": peer},
    }
    return asyncio.run(_ask(app, scope))


async def _ask(app: FastAPI, scope: dict[str, Any]) -> Answer:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))
