"""What does a body tell of a request, and what if it cannot be read?

Two bodies are read. The JSON of /v1/decide names what is known; a field that is missing is not known:

    {"prompt_tokens": 812, "uncached_tokens": 300, "output_tokens": 120, "max_tokens": 500, "class": "premium", "attempt": 0}

The request of a user, as Envoy and Traefik hand it on, has none of this. Its size stands for its prompt (four bytes of
JSON to a token of English text), and its `max_tokens` bounds its answer. Only those two fields are decoded: msgspec steps over
the messages, 8 KB in 18 us where a whole decode takes 67. A gateway that hands on only the beginning leaves JSON that ends
in the middle; then the bytes are searched for the field.

What cannot be read is not known: no body of any kind is a reason to reject. A number that no request can have (negative, or
beyond MOST_TOKENS) is not known either.
"""

from __future__ import annotations

import re

import msgspec

BYTES_PER_TOKEN = 4.0
MOST_TOKENS = 100_000_000
LIMIT = re.compile(rb'"max_(?:completion_)?tokens"\s*:\s*(\d{1,9})\b')


class Question(msgspec.Struct, frozen=True, gc=False):
    """The JSON of /v1/decide. Tokens; `attempt` 0 for a first try."""

    prompt_tokens: float | None = None
    uncached_tokens: float | None = None
    output_tokens: float | None = None
    max_tokens: float | None = None
    attempt: int = 0
    predict: bool = False
    qos: str | None = msgspec.field(default=None, name="class")


class UserRequest(msgspec.Struct, frozen=True, gc=False):
    """What matters here of a user's request for a completion."""

    max_tokens: int | None = None
    max_completion_tokens: int | None = None


NOTHING_KNOWN = Question()
_question = msgspec.json.Decoder(Question).decode
_request = msgspec.json.Decoder(UserRequest).decode


def question(body: bytes) -> tuple[Question, bool]:
    """What a body of /v1/decide asks, and whether it could be read; one that could not asks about a request of which
    nothing is known.
    """
    try:
        return _question(body), True
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NOTHING_KNOWN, False


def longest_answer(body: bytes) -> int | None:
    """The most tokens that a user's request asks for, also from a body that was cut; None where it does not tell."""
    try:
        asked = _request(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = LIMIT.search(body)
        return possible(int(found[1])) if found else None
    limit = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
    return None if limit is None else possible(limit)


def possible(tokens: float | None) -> int | None:
    """So many tokens, if a request can have them; NaN can not be had."""
    return int(tokens) if tokens is not None and 0 <= tokens <= MOST_TOKENS else None
