"""What is a gateway told, byte for byte?

An admission is 200, empty where the gateway has no use for a body. A rejection is the policy's status (429 | 503 | 529), or the
only one that the skin's gateway takes for a no, with what clients act on (reference/interfaces.md A2, tested with the
SDK of OpenAI):

    retry-after       whole seconds, 1..RETRY_MOST_S, for LiteLLM reads it as an integer: the predicted drain time, spread by
                      JITTER so that who was turned away together does not come back together
    retry-after-ms    the same, finer; the SDK prefers it
    x-should-retry    "false" for a class that must not retry: the SDK then asks once instead of three times
    x-pda-reject-reason, x-pda-class
    {"error": {"message", "type", "param", "code"}}    the envelope of OpenAI, from which the SDK takes code and type

What is predicted (x-pda-predicted-ttft-ms, x-pda-predicted-tpot-ms) is told only to who asks for it where the operator allows it:
it tells a stranger how full the fleet is.

Answers that come again are made once; a message is never changed after.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from random import random
from typing import Any

from autoscaler.core.rejection import Verdict, Why
from autoscaler.sidecar.skins import Skin

RETRY_LEAST_S = 1.0
RETRY_MOST_S = 30.0
JITTER = 0.2
JSON = (b"content-type", b"application/json")
WORDS = {200: b"OK", 403: b"Forbidden", 429: b"Too Many Requests", 503: b"Service Unavailable", 529: b"Overloaded"}
NO_STORE = (b"cache-control", b"no-store")

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: as two ASGI messages, and as the bytes that these become on the wire."""

    start: Message
    body: Message
    wire: bytes


class Answers:
    """Makes them. `chance` gives numbers of 0..1; `predictions`: whether anybody may be told what is predicted."""

    def __init__(self, predictions: bool = False, chance: Callable[[], float] = random) -> None:
        self._predictions, self._chance = predictions, chance
        self._refusals: dict[tuple[int, Why, str, bool, int], Answer] = {}
        self._made: dict[tuple[str, str, str, int | None], Answer] = {}

    def admitted(self, skin: Skin, verdict: Verdict, predict: bool) -> Answer:
        """Let it pass. `max_tokens` in it: if its answer is cut to so many."""
        if predict and self._predictions:
            return _admission(skin, verdict, _predicted(verdict))
        key = (skin.name, verdict.why, verdict.qos, verdict.max_tokens)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = _admission(skin, verdict, [])  # as few as the policy has classes, times the reasons
        return made

    def rejected(self, skin: Skin, verdict: Verdict, wait_s: float, how: tuple[int, bool], predict: bool) -> Answer:
        """Turn it away, for so many seconds. `how`: with which status, and whether it may retry."""
        wait_s = min(RETRY_MOST_S, max(RETRY_LEAST_S, wait_s * (1 + JITTER * (2 * self._chance() - 1))))
        whole_s, (status, may_retry) = math.ceil(wait_s), how
        key = (skin.refuses_with or status, verdict.why, verdict.qos, may_retry, whole_s)
        made = self._refusals.get(key)
        if made is None:
            made = self._refusals[key] = _refusal(*key)  # a few hundred at most, for nothing in it comes from a client
        own = [(b"retry-after-ms", b"%d" % (1000 * wait_s))]
        if predict and self._predictions:
            own += _predicted(verdict)
        return _with(made, own)


def _refusal(status: int, why: Why, qos: str, may_retry: bool, whole_s: int) -> Answer:
    """All of a rejection but for what differs from one to the next."""
    words = f"The service is too busy to answer in time ({why}); please retry in {whole_s} s."
    error = {"message": words, "type": "overloaded", "param": None, "code": why}
    text = json.dumps({"error": error}).encode()
    headers = [
        JSON,
        NO_STORE,
        (b"content-length", b"%d" % len(text)),
        (b"retry-after", b"%d" % whole_s),
        (b"x-pda-reject-reason", why.encode()),
        (b"x-pda-class", qos.encode("ascii", "replace")),
    ]
    return _answer(status, headers if may_retry else [*headers, (b"x-should-retry", b"false")], text)


def _with(made: Answer, own: list[tuple[bytes, bytes]]) -> Answer:
    head, _, text = made.wire.partition(b"\r\n\r\n")
    wire = b"".join((head, *(b"\r\n%s: %s" % header for header in own), b"\r\n\r\n", text))
    return Answer({**made.start, "headers": made.start["headers"] + own}, made.body, wire)


def _admission(skin: Skin, verdict: Verdict, predicted: list[tuple[bytes, bytes]]) -> Answer:
    text = json.dumps(_admitted(verdict)).encode() if skin.tells else b""
    headers = [(b"content-length", b"%d" % len(text)), NO_STORE]
    if skin.tells:
        headers.append(JSON)
    if verdict.qos:
        headers.append((b"x-pda-class", verdict.qos.encode("ascii", "replace")))
    if verdict.max_tokens is not None:
        headers.append((b"x-pda-max-tokens", b"%d" % verdict.max_tokens))
    return _answer(200, headers + predicted, text)


def _admitted(verdict: Verdict) -> dict[str, Any]:
    told = {"admit": True, "reason": verdict.why, "class": verdict.qos}
    return told if verdict.max_tokens is None else {**told, "max_tokens": verdict.max_tokens}


def _predicted(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    times = ((b"x-pda-predicted-ttft-ms", verdict.ttft_s), (b"x-pda-predicted-tpot-ms", verdict.tpot_s))
    return [(name, b"%d" % (1000 * time_s)) for name, time_s in times if time_s is not None and math.isfinite(time_s)]


def _answer(status: int, headers: list[tuple[bytes, bytes]], text: bytes) -> Answer:
    start = {"type": "http.response.start", "status": status, "headers": headers}
    wire = b"".join((_LINES[status], *(b"%s: %s\r\n" % header for header in headers), b"\r\n", text))
    return Answer(start, {"type": "http.response.body", "body": text}, wire)


_LINES = {status: b"HTTP/1.1 %d %s\r\n" % (status, words) for status, words in WORDS.items()}
