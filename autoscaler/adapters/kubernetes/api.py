"""How is one request made to an API server, so that no answer, a refusal and an odd answer are all just values?

The client is used for what is hard about a cluster: kubeconfig, certificates, exec plugins, token rotation, TLS. Paths
and bodies are plain: no typed models (they cost seconds on large lists), no retries inside (urllib3's default would
turn a time-out of 2 s into 8 s), and a time-out on every call (a frozen server blocks a call without one for ever).
A request that got no answer may still have been carried out; `ApiFault.unanswered` says so (reference/python.md 1.2, 1.6).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

import yaml
from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from autoscaler.adapters.kubernetes.answers import parsed
from autoscaler.refusal import Refusal

CONNECT_S = 3.0
READ_S = 5.0
# What a call raises for what the outside did. Not all of it is an ApiException: transport errors are urllib3's, a token
# file that is being replaced is an OSError or a ConfigException, a body that is no JSON a ValueError.
OUTSIDE = (ApiException, HTTPError, OSError, config.ConfigException, ValueError)
# What reading a kubeconfig raises: some of it says what is wrong, some of it is only the wrong shape.
SAID = (config.ConfigException, OSError, yaml.YAMLError)
MISSHAPEN = (ValueError, TypeError, AttributeError, KeyError)

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
# Each watch and each errand holds a connection; what a pool has no room for is closed after one request.
CONNECTIONS = 128

MANAGER = "pd-autoscaler"
MANAGED = {"fieldManager": MANAGER}

Body = dict[str, Any]
Operation = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ApiFault:
    """A request that did not succeed. `status` is HTTP's, 0 where there was no answer; `detail` the server's words."""

    status: int
    reason: str
    detail: str
    causes: int = 0  # how many fields the server named; a JSON patch whose `test` failed names none

    @property
    def unanswered(self) -> bool:
        """Nobody knows whether it was carried out."""
        return self.status == 0 or self.status >= 500

    def __str__(self) -> str:
        """One line for the operator."""
        return f"{self.reason}: {self.detail}" if self.detail not in ("", self.reason) else self.reason


class Stream(Protocol):
    """An open watch: events as they come, an `ApiFault` last if it broke; `stop` ends it from another thread."""

    def __iter__(self) -> Iterator[Body | ApiFault]:
        """Until the server ends it in good order, or a fault."""
        ...

    def stop(self) -> None:
        """End it now."""
        ...


class Api(Protocol):
    """What the rest of this package needs of an API server."""

    def get(self, path: str, **query: str) -> Body | ApiFault:
        """One object or one page of a list."""
        ...

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        """Apply a JSON patch."""
        ...

    def delete(self, path: str, uid: str, version: str) -> Body | ApiFault:
        """Delete the object of this uid, if it still is as it was at this resourceVersion."""
        ...

    def watch(self, path: str, timeout_s: int, **query: str) -> Stream | ApiFault:
        """Follow a list for `timeout_s`."""
        ...


class KubeApi:
    """One API server. Thread-safe; every watch holds one connection of the pool."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    def get(self, path: str, **query: str) -> Body | ApiFault:
        """One object, or one page of a list with `labelSelector`, `fieldSelector`, `limit`, `continue`."""
        return self._whole("GET", path, query)

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        """Apply a JSON patch; the content type must be said, else the client sends a merge patch (reference/python.md 1.2)."""
        return self._whole("PATCH", path, MANAGED, list(operations), "application/json-patch+json")

    def create(self, path: str, body: Body) -> Body | ApiFault:
        """A new object in a collection."""
        return self._whole("POST", path, MANAGED, body)

    def rehearse(self, path: str, body: Body) -> Body | ApiFault:
        """A new object as it would be stored, with what the server drops left out; nothing is stored."""
        return self._whole("POST", path, {**MANAGED, "dryRun": "All"}, body)

    def replace(self, path: str, body: Body) -> Body | ApiFault:
        """A whole object; 409 if its resourceVersion is not the current one."""
        return self._whole("PUT", path, MANAGED, body)

    def delete(self, path: str, uid: str, version: str = "") -> Body | ApiFault:
        """The object of this uid (and resourceVersion), with the grace that it asks for itself; 409 if it is not so any more."""
        same = {"uid": uid, "resourceVersion": version} if version else {"uid": uid}
        return self._whole("DELETE", path, {}, {"preconditions": same})

    def watch(self, path: str, timeout_s: int, **query: str) -> KubeStream | ApiFault:
        """Follow a list for `timeout_s`; silence for READ_S longer is a broken connection."""
        query |= {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(timeout_s)}
        try:
            response = self._send("GET", path, query, timeout_s + READ_S)
            return KubeStream(response.response) if response.status == 200 else refused(response.status, response.read())
        except OUTSIDE as error:
            return unanswered(error)

    def _whole(
        self, method: str, path: str, query: Mapping[str, str], body: Any = None, content: str = "application/json"
    ) -> Body | ApiFault:
        try:
            response = self._send(method, path, query, READ_S, body, content)
            raw = response.read()
            if not 200 <= response.status <= 299:
                return refused(response.status, raw)
            answer = parsed(raw)
        except OUTSIDE as error:
            return unanswered(error)
        return answer if isinstance(answer, dict) else ApiFault(0, "Malformed", f"{path} answered no object")

    def _send(self, method: str, path: str, query: Mapping[str, str], read_s: float, body: Any = None, content: str = "") -> Any:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content
        url = f"{path}?{urlencode(query)}" if query else path
        request = self._client.param_serialize(method, url, header_params=headers, body=body, auth_settings=["BearerToken"])
        return self._client.call_api(*request, _request_timeout=(CONNECT_S, read_s))


class KubeStream:
    """An open watch: one JSON document a line."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __iter__(self) -> Iterator[Body | ApiFault]:
        """Events as they come; an ApiFault last if the connection broke."""
        rest = b""
        try:
            for chunk in self._response.stream(amt=None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (parsed(line) for line in lines if line.strip())
        except OUTSIDE as error:
            yield unanswered(error)
        finally:
            self._response.close()

    def stop(self) -> None:
        """Shut the socket, which ends the reading thread's wait. One that has ended meanwhile has nothing to shut."""
        with suppress(OSError, ValueError, RuntimeError):
            self._response.shutdown()


def connect(context: str | None = None) -> KubeApi:
    """The API server of $KUBECONFIG, else of ~/.kube/config, else of the cluster we run in. Raises Refusal.

    `context` names one of the kubeconfig's contexts; its current one otherwise.
    """
    settings = Configuration()
    settings.retries, settings.connection_pool_maxsize = False, CONNECTIONS
    where = _load(settings, context)
    server = urlsplit(settings.host)
    if server.scheme not in ("http", "https") or not server.hostname:
        raise _unusable(where, f"server {settings.host!r} must be http(s)://HOST[:PORT]")
    client = ApiClient(settings)
    client.user_agent = "pd-autoscaler"
    return KubeApi(client)


def home(context: str | None = None) -> str:
    """The namespace we run in, or the one that the kubeconfig's context names; "default" where neither says one."""
    given = os.environ.get("KUBECONFIG")
    file = given or str(Path.home() / ".kube" / "config")
    try:
        if not given and not Path(file).exists():
            return OWN_NAMESPACE.read_text(encoding="utf-8").strip() or "default"
        contexts, current = config.list_kube_config_contexts(config_file=file)
        named = next((one for one in contexts if one["name"] == context), current)
        return str(named["context"].get("namespace") or "default")
    except (*SAID, *MISSHAPEN):
        return "default"  # `connect` has told, or will tell, what is wrong with the file


def _load(settings: Configuration, context: str | None) -> str:
    """Fill in where the server is and who we are; where that was found."""
    given = os.environ.get("KUBECONFIG")
    file = given or str(Path.home() / ".kube" / "config")
    where = f"KUBECONFIG {file}" if given else file
    try:
        if given or Path(file).exists():
            config.load_kube_config(config_file=file, context=context, client_configuration=settings, persist_config=False)
        else:
            where = "no KUBECONFIG is set, there is no ~/.kube/config, and this is not inside a cluster"
            config.load_incluster_config(client_configuration=settings)
    except SAID as error:
        raise _unusable(where, " ".join(str(error).split())) from error
    except MISSHAPEN as error:
        raise _unusable(where, "is not a kubeconfig") from error
    return where


def _unusable(where: str, why: str) -> Refusal:
    return Refusal(f"--cluster kubernetes: {where}: {why}")


def refused(status: int, raw: bytes | None) -> ApiFault:
    """An error answer. Its body is a Status document, or anything: a proxy's page, plain text, nothing."""
    text = (raw or b"").decode(errors="replace")
    try:
        body = json.loads(text)
        causes = (body.get("details") or {}).get("causes") or ()
        return ApiFault(status, str(body.get("reason") or f"HTTP {status}"), str(body.get("message", ""))[:500], len(causes))
    except (ValueError, AttributeError):
        return ApiFault(status, f"HTTP {status}", " ".join(text.split())[:200])


def unanswered(error: Exception) -> ApiFault:
    """No answer, with the innermost reason in one line. Trouble with TLS comes as an ApiException with text in `reason`."""
    reason = getattr(error, "reason", None)
    if isinstance(error, ApiException):
        kind, _, words = str(reason).partition("\n")
    else:
        cause = reason if isinstance(reason, Exception) else error
        kind, words = type(cause).__name__, str(cause)
    return ApiFault(0, kind, " ".join(words.split())[:200])
