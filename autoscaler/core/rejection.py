"""In which words is early rejection ruled, and a verdict told?

`Rules` are what the owner wants, by the policy; `Verdict` is what comes of them for one request, by core/judge.py. It is refused
only where a promise of its class would be missed although the fleet could have kept it for fewer. Everything that is not known
lets it in, with the reason:

    off                nobody is judged
    no_state, stale, unauthenticated, uncalibrated, no_replicas     nothing to go by (law 10)
    unreachable_slo    own prefill and hand-off alone miss the promise: refusing it for ever would help nobody
    idle               a phase in which a replica has nothing to do refuses nobody; no phase objects, and one is idle
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from autoscaler.core.arrivals import Burden
from autoscaler.core.outlook import Strategy
from autoscaler.core.qos import QosClass

LEAST_WAIT_S, MOST_WAIT_S = 1.0, 30.0


class RejectionMode(StrEnum):
    """What a verdict is for."""

    OFF = "off"  # nobody judges
    SHADOW = "shadow"  # everybody is let in; the ledger tells what would have been
    ENFORCE = "enforce"


class Why(StrEnum):
    """The reason of a verdict, in the words of header and metrics."""

    OFF = "off"
    FITS = "fits"
    SHORTENED = "shortened"
    DEGRADED = "degraded"
    NO_STATE = "no_state"
    STALE = "stale"
    UNAUTHENTICATED = "unauthenticated"
    UNCALIBRATED = "uncalibrated"
    NO_REPLICAS = "no_replicas"
    IDLE = "idle"
    UNREACHABLE = "unreachable_slo"
    TTFT = "ttft"  # a no from here on
    TPOT = "tpot"
    RESERVED = "reserved"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True)
class Rules:
    """How to judge. `classes` by name, `default` names the one of requests that belong to none. `margin`: by what share of the
    time that a promise leaves beyond the request's own it must be missed (below 0: kept), -0.9..1. `sureness`:
    the chance of keeping it below which it is refused, 0.5..0.999. `max_age_s` of a picture: 2 s to enforce.

    A door that lets in up to the very edge keeps decode there, and chance makes many late: at margin 0 30 % of what it let in on
    a ramp to twice what a fleet carries, at -0.05 1 %, with two fifths more promises kept.
    """

    classes: Mapping[str, QosClass]
    default: str
    mode: RejectionMode = RejectionMode.SHADOW
    strategy: Strategy = Strategy.PREDICTIVE
    margin: float = -0.05
    sureness: float = 0.9
    max_age_s: float = 2.0
    bound_by: Mapping[str, tuple[QosClass, ...]] = field(init=False)
    below: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        """Work out once who has a say over whom: those above and those who have something reserved, and who is below."""
        every = self.classes.values()
        over = {one.name: tuple(o for o in every if o is not one and (o.priority > one.priority or o.reserved)) for one in every}
        object.__setattr__(self, "bound_by", over)
        below = {one.name: tuple(o.name for o in every if o.priority < one.priority) for one in every}
        object.__setattr__(self, "below", below)

    def class_named(self, name: str) -> QosClass:
        """The class, or the default one for a name that nobody knows."""
        return self.classes.get(name) or self.classes[self.default]


class Verdict(NamedTuple):
    """Yes or no, and why. `qos`: the class it is served in. Seconds expected, None where nothing is known or looked at.
    `max_tokens`: cut its answer to so many, None: as it is. `burden` is what it brings, None where that is not known.
    """

    admit: bool
    why: Why
    qos: str
    ttft_s: float | None = None
    tpot_s: float | None = None
    wait_s: float | None = None
    max_tokens: int | None = None
    burden: Burden | None = None
