"""What differs from one kind of engine to another, and from one launch to another?

A `Contract` is how a kind speaks: paths, bodies, metric names, whether its role can be switched. A `Launch` is the command
line of one engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from prometheus_client.core import Metric

from autoscaler.core.fleet import Role
from tests.engines.ledger import Address, Leg, Stage
from tests.engines.loopback import Answer, Request

if TYPE_CHECKING:
    from tests.engines.engine import StubEngine

Body = dict[str, Any]


class Switching(StrEnum):
    """What becomes of a role switch."""

    WORKS = "works"
    REFUSES = "says that it is not idle, whatever it does"
    BREAKS = "fails half-way: unhealthy until restarted"
    PRETENDS = "says success and does nothing"


class Flag(StrEnum):
    """Whether the engine was launched with its role switch enabled."""

    ON = "on"
    OFF = "off: refused by the engine"
    UNKNOWN = "a version without one: 404"


@dataclass(frozen=True, slots=True)
class Launch:
    """The arguments an engine was started with; a restart comes back to them.

    `tp_ranks`, `dp_ranks`: series per rank, all TP ranks telling the same. `patience_s`: how long running requests are
    waited for after SIGTERM at most; None: what the engine does by default. `any_leg`: whether it serves both kinds.
    `arguments`: those of its server that are told otherwise than by default.
    """

    role: Role
    model: str = "llama-3-8b"
    slots: int = 64
    kv_tokens: int = 100_000
    kv_lease_s: float = 30.0
    dp_ranks: int = 1
    tp_ranks: int = 1
    patience_s: float | None = None
    role_switch: Flag = Flag.ON
    any_leg: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Load:
    """What one DP rank has at an instant: legs by stage, tokens in its KV."""

    stages: Mapping[Stage, int] = field(default_factory=Counter)
    kv_tokens: int = 0


class Contract(Protocol):
    """How one kind of engine speaks; one object per engine."""

    GENERATE: tuple[str, ...]  # the paths that take requests; a router uses the first
    TOGETHER: bool  # whether a router sends both legs at once, or the decode leg after the prefill leg's answer
    PATIENCE_S: float  # how long running requests are waited for after SIGTERM
    HELD_IS_WORK: bool  # whether it waits for KV to be fetched, too

    def __init__(self, engine: StubEngine) -> None: ...

    @staticmethod
    def prefill_body(request: str, prefill: StubEngine, prompt_tokens: int, output_tokens: int) -> Body:
        """What a router sends to the prefill engine."""
        ...

    @staticmethod
    def decode_body(body: Body, answer: Body, output_tokens: int) -> Body:
        """What it sends to the decode engine, given that and (unless TOGETHER) the prefill engine's answer."""
        ...

    def leg(self, body: Body) -> Leg | Answer:
        """The leg that a request asks for, or why not."""
        ...

    def done(self, leg: Leg) -> None:
        """Count a leg that has run."""
        ...

    def reply(self, leg: Leg) -> Answer:
        """What the caller of such a leg gets."""
        ...

    def families(self, loads: list[Load]) -> Iterable[Metric]:
        """The metrics, given the load of each DP rank."""
        ...

    def answer(self, request: Request) -> Answer | None:
        """Everything else that can be asked."""
        ...


class Peers(Protocol):
    """Where KV can be fetched."""

    def at(self, address: Address) -> StubEngine | None:
        """The last engine at this address, whether it still runs or not."""
        ...
