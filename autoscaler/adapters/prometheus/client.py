"""What does one Prometheus answer to one query, within a bounded time and size, and why not when it does not?

`prometheus_api_client` speaks the API; this is the thin layer it needs in a control loop:

- Its time-outs hold per socket read, so an answer that drips a byte a second never ends. Here the body is read in whatever
  pieces arrive until a deadline, and the whole query runs in a thread that is given up at the deadline. Only that also
  bounds name resolution and a header that drips. A thread given up ends with its connection; at most three may hang.
- It sends a POST's query in the URL, where 2,000 pod names (60 KB and more) meet the limits of proxies: moved to the form.
- It drops `warnings`, with which Prometheus and Thanos say that parts are missing. Such an answer is not used.
- It retries by itself. A tick is the retry: no query is sent twice.

Everything that can go wrong outside comes back as `Unknown` with one line for the operator.
"""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests.auth import AuthBase, HTTPBasicAuth

from autoscaler.core.observation import Gap, Unknown
from autoscaler.refusal import Refusal

Row = Mapping[str, Any]  # {"metric": {label: value}, "value": [evaluation time, "number"]}

_HANGING = 3  # queries given up whose threads may still be waiting, beside those that are asked at once
_PIECE = 1 << 18  # bytes taken off the connection at once, at most


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a Prometheus is, as whom we ask (a tenant goes into `headers`), and how much time and memory one query may take.

    `timeout_s` bounds a whole query, `connect_s` its connection. 64 MiB is forty times the answer for 500 pods in 50 fleets.
    The environment's proxies and .netrc are not used: Prometheus is in the cluster, and its credentials stand here.
    Refusal for what cannot work.
    """

    url: str
    timeout_s: float = 5.0
    connect_s: float = 2.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token_file: Path | None = None
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    ca_file: Path | None = None
    max_answer_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise Refusal(f"prometheus {self.url!r}: must be http(s)://HOST[:PORT][/PATH]")
        if parts.username is not None or parts.password is not None:
            raise Refusal(f"prometheus {parts.hostname}: no credentials in the address; use a token file or basic auth")
        if self.timeout_s <= 0 or self.connect_s <= 0:
            raise Refusal(f"prometheus {self.url}: time-outs {self.timeout_s:g} and {self.connect_s:g} s must be above 0")
        if self.token_file and self.basic_auth:
            raise Refusal(f"prometheus {self.url}: a token file and basic auth exclude each other")
        for file in filter(None, (self.token_file, self.ca_file)):
            if not file.is_file():
                raise Refusal(f"prometheus {self.url}: no file {file}")


class PrometheusClient:
    """Asks one Prometheus instant queries. Keeps its connections; for so many callers `at_once`, each from its own thread."""

    def __init__(self, endpoint: Endpoint, at_once: int = 1) -> None:
        self._endpoint = endpoint
        self.session = _BoundedSession(endpoint)
        self._prometheus = PrometheusConnect(
            url=endpoint.url.rstrip("/"),
            headers=dict(endpoint.headers),
            auth=_auth(endpoint),
            session=self.session,
            retry=urllib3.Retry(0),
            timeout=(endpoint.connect_s, endpoint.timeout_s),
            method="POST",
        )
        self._room = threading.BoundedSemaphore(at_once + _HANGING)

    def query(self, promql: str, within_s: float) -> list[Row] | Unknown:
        """The rows of an instant vector at the server's own now, or why there are none. Takes at most `within_s` seconds."""
        within_s = min(within_s, self._endpoint.timeout_s)
        if within_s <= 0:
            return Unknown(Gap.TIMEOUT, f"{self._endpoint.url}: not asked, the time of this tick is spent")
        if not self._room.acquire(blocking=False):
            return Unknown(Gap.TIMEOUT, f"{self._endpoint.url}: not asked, too many earlier queries still hang")
        answer: Future[list[Row] | Unknown] = Future()
        threading.Thread(target=self._fulfil, args=(answer, promql, within_s), daemon=True, name="prometheus-query").start()
        try:
            return answer.result(timeout=within_s)
        except TimeoutError:
            return Unknown(Gap.TIMEOUT, f"{self._endpoint.url}: no whole answer within {within_s:.3g} s")

    def _fulfil(self, answer: Future[list[Row] | Unknown], promql: str, within_s: float) -> None:
        try:
            answer.set_result(self._ask(promql, within_s))
        except BaseException as error:  # noqa: BLE001 - not handled, only carried: result() raises it in the asking thread
            answer.set_exception(error)
        finally:
            self._room.release()

    def _ask(self, promql: str, within_s: float) -> list[Row] | Unknown:
        try:
            rows: object = self._prometheus.custom_query(promql, params={"timeout": f"{round(within_s * 1000)}ms"})
        except (PrometheusApiClientException, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            return why_not(error, self._endpoint)
        return rows if isinstance(rows, list) else Unknown(Gap.MALFORMED, f"{self._endpoint.url}: the result is no list")


class _Unusable(ValueError):
    """An answer that arrived and is not to be used, with its gap."""

    def __init__(self, gap: Gap, detail: str) -> None:
        super().__init__(detail)
        self.gap = gap


class _BoundedSession(requests.Session):
    """A session for answers of bounded time and size. The library above it sees only whole, complete ones with status 200."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self._endpoint = endpoint
        self.trust_env = False
        self.verify = str(endpoint.ca_file) if endpoint.ca_file else True

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        """Move a POST's parameters from the URL into the form."""
        if request.method == "POST":
            request.data, request.params = request.params, {}
        return super().prepare_request(request)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send once, follow nowhere (a login page is no answer), read up to the deadline, look before handing on."""
        ends = time.monotonic() + self._endpoint.timeout_s
        response = super().send(request, **kwargs | {"stream": True, "allow_redirects": False})
        try:
            body = self._read(response.raw, ends)
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error) from error
        _refuse(response.status_code, body)
        response.raw = io.BytesIO(body)
        return response

    def _read(self, raw: urllib3.BaseHTTPResponse, ends: float) -> bytes:
        """The decoded body. Closing ends a connection with something left on it; a drained one is back in the pool by then."""
        body = bytearray()
        with closing(raw):
            while piece := raw.read1(_PIECE, decode_content=True):
                body += piece
                if len(body) > self._endpoint.max_answer_bytes:
                    raise _Unusable(Gap.MALFORMED, f"answer larger than {self._endpoint.max_answer_bytes} bytes")
                if time.monotonic() > ends:
                    raise _Unusable(Gap.TIMEOUT, f"answer still dripping after {self._endpoint.timeout_s:g} s")
        return bytes(body)


def _refuse(status: int, body: bytes) -> None:
    """Raise for an answer that says no, or says that it is not whole. The quick look for warnings spares a second parse."""
    if status != requests.codes.ok:
        raise _Unusable(Gap.SERVER_ERROR, f"HTTP {status}: {_field(body, 'error') or body[:300].decode(errors='replace')}")
    if b'"warnings"' in body and (warnings := _field(body, "warnings")):
        raise _Unusable(Gap.INCOMPLETE, f"answered with warnings: {warnings}")


def _field(body: bytes, name: str) -> object:
    """A field of the answer's envelope; None where there is none, or no envelope."""
    try:
        envelope = json.loads(body)
    except ValueError:
        return None
    return envelope.get(name) if isinstance(envelope, dict) else None


def why_not(error: Exception, endpoint: Endpoint) -> Unknown:
    """The gap an expected error stands for, with its innermost cause: "[Errno 111] Connection refused" tells most."""
    told = str(_root(error)) or type(error).__name__
    match error:
        case _Unusable():
            gap = error.gap
        case requests.Timeout():
            gap = Gap.TIMEOUT
        case requests.exceptions.InvalidJSONError():
            gap, told = Gap.MALFORMED, f"not JSON: {error}"
        case OSError():
            gap = Gap.UNREACHABLE
        case PrometheusApiClientException():
            gap = Gap.SERVER_ERROR
        case _:
            gap, told = Gap.MALFORMED, f"not an answer of Prometheus: {type(error).__name__} {told}"
    return Unknown(gap, " ".join(f"{endpoint.url}: {told}".split())[:300])


def _root(error: BaseException) -> BaseException:
    while inner := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = inner
    return error


class _BearerFile(AuthBase):
    """A bearer token read for every request, since the platform rotates the file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._path.read_text(encoding='utf-8').strip()}"
        return request


def _auth(endpoint: Endpoint) -> AuthBase | None:
    if endpoint.token_file:
        return _BearerFile(endpoint.token_file)
    return HTTPBasicAuth(*endpoint.basic_auth) if endpoint.basic_auth else None
