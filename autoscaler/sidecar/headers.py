"""What do the headers of a request tell: its class, the SLO it asks for, its lengths, and which try it is?

    x-llm-d-inference-objective                     the class, by the name of an InferenceObjective; any header that the policy
    (x-gateway-inference-objective)                 names for a class, with its value, tells it too
    x-llm-d-slo-ttft-ms, x-llm-d-slo-tpot-ms        what the client asks for, held to its class's range
    (x-slo-ttft-ms, x-slo-tpot-ms)
    x-pda-prompt-tokens, x-pda-uncached-tokens      lengths, from a gateway that knows them: no body has to be looked at
    x-pda-output-tokens, x-pda-max-tokens
    x-pda-content-length                            bytes of the body, from a gateway that asks without it
    x-stainless-retry-count, x-envoy-attempt-count  which try this is: the SDKs of OpenAI and Anthropic count from 0, Envoy from 1
    x-pda-predict                                   tell what is predicted (only where the operator allows it)

Names in brackets are older spellings (reference/interfaces.md A4); the newer one wins. A header is written by whoever sends
the request, so it is never trusted with more than its class's range, and never becomes a metric's label: a class is one of the
policy's or the default. A value that cannot be read is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoscaler.core.fleet import SloKind
from autoscaler.core.qos import QosClass
from autoscaler.sidecar.bodies import MOST_TOKENS, possible

OBJECTIVES = (b"x-llm-d-inference-objective", b"x-gateway-inference-objective")
PROMISES: Mapping[SloKind, tuple[bytes, bytes]] = {
    SloKind.TTFT: (b"x-llm-d-slo-ttft-ms", b"x-slo-ttft-ms"),
    SloKind.TPOT: (b"x-llm-d-slo-tpot-ms", b"x-slo-tpot-ms"),
}
PROMPT, UNCACHED, OUTPUT, LONGEST, SIZE = (
    b"x-pda-prompt-tokens",
    b"x-pda-uncached-tokens",
    b"x-pda-output-tokens",
    b"x-pda-max-tokens",
    b"x-pda-content-length",
)
FIRST_TRY: Mapping[bytes, int] = {b"x-stainless-retry-count": 0, b"x-envoy-attempt-count": 1}  # what a first try carries
PREDICT = b"x-pda-predict"
ALWAYS = frozenset((*OBJECTIVES, *PROMISES[SloKind.TTFT], *PROMISES[SloKind.TPOT], *FIRST_TRY, PREDICT))
LENGTHS = frozenset((PROMPT, UNCACHED, OUTPUT, LONGEST, SIZE))

Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Told:
    """What headers tell. Tokens and bytes, None where they do not; `qos` "" for the default class; `asked_s` clamped."""

    qos: str = ""
    asked_s: Mapping[SloKind, float] = field(default_factory=dict)
    prompt_tokens: int | None = None
    uncached_tokens: int | None = None
    output_tokens: int | None = None
    max_tokens: int | None = None
    size_bytes: int | None = None
    again: bool = False
    predict: bool = False


NOTHING_TOLD = Told()


class Reader:
    """Reads headers by one policy's classes. Made once per policy, so that a request without any header of interest costs one
    look.
    """

    def __init__(self, classes: Sequence[QosClass], default: QosClass | None = None) -> None:
        self._classes = {one.name: one for one in classes}
        self._default = default
        self._rules = tuple(
            (one.name, tuple((name.encode(), value.encode()) for name, value in one.headers)) for one in classes if one.headers
        )
        self._objectives = {name.encode(): one.name for one in reversed(classes) for name in one.objectives}
        own = {name for _, rows in self._rules for name, _ in rows}
        self._names = ALWAYS | LENGTHS | own

    def read(self, headers: Headers) -> Told:
        """What these headers tell; names are in lower case."""
        if self._names.isdisjoint(headers):
            return NOTHING_TOLD
        qos = self._class(headers)
        return Told(
            qos,
            self._asked(qos, headers),
            _tokens(headers.get(PROMPT)),
            _tokens(headers.get(UNCACHED)),
            _tokens(headers.get(OUTPUT)),
            _tokens(headers.get(LONGEST)),
            size_bytes(headers.get(SIZE)),
            _again(headers),
            PREDICT in headers,
        )

    def known(self, name: str | None) -> str:
        """A class's name where the policy has it, else "": the default."""
        return name if name is not None and name in self._classes else ""

    def _class(self, headers: Headers) -> str:
        """The first class of the policy that a header or the objective makes it one of; empty: the default."""
        told = self._objectives.get(_first(headers, OBJECTIVES) or b"", "")
        if not self._rules:
            return told
        for name, rows in self._rules:
            if name == told or any(headers.get(header) == value for header, value in rows):
                return name
        return told

    def _asked(self, qos: str, headers: Headers) -> Mapping[SloKind, float]:
        one = self._classes.get(qos, self._default)
        if one is None:
            return {}
        asked = {}
        for kind, names in PROMISES.items():
            seconds = _seconds(_first(headers, names))
            promise = one.promises.get(kind)
            if seconds is not None and promise is not None:
                asked[kind] = promise.clamped(seconds)
        return asked


def size_bytes(value: bytes | None) -> int | None:
    """Bytes of a Content-Length; None for anything that is none."""
    return int(value) if value is not None and len(value) < 16 and value.isdigit() else None


def _tokens(value: bytes | None) -> int | None:
    size = size_bytes(value)
    return possible(size) if size is not None and size <= MOST_TOKENS else None


def _again(headers: Headers) -> bool:
    for name, first in FIRST_TRY.items():
        tries = size_bytes(headers.get(name))
        if tries is not None and tries > first:
            return True
    return False


def _first(headers: Headers, names: tuple[bytes, ...]) -> bytes | None:
    for name in names:
        if name in headers:
            return headers[name]
    return None


def _seconds(milliseconds: bytes | None) -> float | None:
    if milliseconds is None or len(milliseconds) > 32:
        return None
    try:
        return float(milliseconds) / 1000
    except ValueError:
        return None
