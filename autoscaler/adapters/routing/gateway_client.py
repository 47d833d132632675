"""What does a gateway answer to one request, within a bounded time and size?

Its address is a name that may be resolved and may be https, unlike an engine's, and DELETE is among what it is asked. No
proxy of the environment is used, no redirect followed, nothing retried: a request that got no answer may have been carried
out, and the caller looks before it asks again. A socket's time-out holds per read: silence ends after READ_S, a body that
drips at the first piece after WITHIN_S. Only how long the system takes to resolve the name is up to the system.
"""

from __future__ import annotations

import json
import time
from typing import Any

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from autoscaler.adapters.routing.endpoint import DOOR, Refused
from autoscaler.ports import Fault

CONNECT_S = 1.0
READ_S = 2.0
WITHIN_S = 3.0
LARGEST = 8 << 20  # bytes: 8,000 workers at 1 KB each
PASSING = frozenset({408, 425, 429})
LINE = 200  # characters of a gateway's words that a person gets to read
_PIECE = 1 << 16


class GatewayClient:
    """The REST API at `url`, http(s)://HOST[:PORT]. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._http = PoolManager(retries=False, timeout=Timeout(connect=CONNECT_S, read=READ_S))

    def ask(self, method: str, path: str, body: Any = None, fine: int = 200) -> Any | Fault:
        """The answer's JSON, None if it is none. A Fault where there is no answer or it is neither 2xx nor `fine`; Refused where
        asking again would not change that.
        """
        ends_s = time.monotonic() + WITHIN_S
        try:
            answer = self._http.request(method, self._url + path, json=body, redirect=False, preload_content=False)
            try:
                said = json.loads(_whole(answer, ends_s))
            finally:
                answer.close()
        except (HTTPError, OSError) as error:
            return self._fault(method, path, f"not answered: {type(error).__name__}")
        except (ValueError, RecursionError):
            said = None
        if 200 <= answer.status <= 299 or answer.status == fine:
            return said
        final = 400 <= answer.status <= 499 and answer.status not in PASSING
        return self._fault(method, path, f"HTTP {answer.status} {_words(said)}", final=final)

    def fault(self, path: str, told: str) -> Fault:
        """An answer that means nothing."""
        return self._fault("GET", path, told)

    def _fault(self, method: str, path: str, told: str, *, final: bool = False) -> Fault:
        line = " ".join("".join(c if c.isprintable() else " " for c in told[: 2 * LINE]).split())[:LINE]
        return (Refused if final else Fault)(DOOR, f"{method} {self._url}{path}: {line}")


def _whole(answer: BaseHTTPResponse, ends_s: float) -> bytes:
    """The body; raises HTTPError where it is late and ValueError where it is too large."""
    body = b""
    while piece := answer.read1(_PIECE):
        body += piece
        if len(body) > LARGEST:
            raise ValueError
        if time.monotonic() > ends_s:
            raise HTTPError
    return body


def _words(said: Any) -> str:
    """What an error answer says: {"error": words}, or the same with the words one level deeper."""
    words = said.get("error") if isinstance(said, dict) else None
    return str(words.get("message") or "" if isinstance(words, dict) else words or "")
