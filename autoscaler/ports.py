"""What does the controller need from the world? Narrow doors, owned by the controller, filled in by adapters.

Every method answers with a value, also when the world fails: a `Fault`, an `Unknown`, an `Outcome`. Adapters turn
the errors they know into those; an exception that still escapes is a bug, and the tick catches it per fleet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from autoscaler.core.action import Action, Flip, Outcome
from autoscaler.core.arima import ArimaFit, FitTask
from autoscaler.core.fleet import Fleet, Phase, Replica, Role
from autoscaler.core.observation import Gauges, Signals, Unknown
from autoscaler.core.policy import Policy
from autoscaler.core.published import Judged
from autoscaler.core.reason import Finding
from autoscaler.core.status import Status


@dataclass(frozen=True, slots=True)
class Fault:
    """An expected failure outside: which door, and one line for the operator."""

    door: str
    detail: str


@dataclass(frozen=True, slots=True)
class FleetScope:
    """Where to look for one fleet's signals.

    `pods` are those whose work belongs to a role now (serving and draining); `window_s` is the rate window. What `moved` pods
    of them counted in that window is partly of another role.
    `queries` overrides the metric profile's PromQL by signal name.
    """

    key: str
    namespace: str
    model: str
    engine: str
    gateway: str | None
    pods: Mapping[Role, tuple[str, ...]]
    window_s: float = 60.0
    queries: Mapping[str, str] = field(default_factory=dict)
    moved: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Managed:
    """One fleet under management: its policy, and where its signals are found.

    `tick_s`: how often its owner wants it looked at. `uid` tells two objects of one name apart; `state` is what an earlier
    leader left of this fleet (core/state.py), None where nothing was kept. `judged`: how its requests are judged at the door,
    None where nobody may be told; `engine_port` is where its engines answer.
    """

    key: str
    namespace: str
    model: str
    policy: Policy
    engine: str = "vllm"
    gateway: str | None = None
    window_s: float = 60.0
    queries: Mapping[str, str] = field(default_factory=dict)
    tick_s: float = 15.0
    uid: str = ""
    state: Mapping[str, Any] | None = None
    judged: Judged | None = None
    engine_port: int = 8000

    def scope(self, fleet: Fleet, now: float) -> FleetScope:
        """Where to look at `now`: the pods whose work belongs to each role at this moment."""
        pods = {
            role: tuple(replica.name for replica in pool.in_phase(Phase.SERVING, Phase.DRAINING))
            for role, pool in fleet.pools.items()
        }
        moved = frozenset(
            replica.name
            for pool in fleet.pools.values()
            for replica in pool.replicas
            if replica.moved_s is not None and now - replica.moved_s < self.window_s
        )
        where = self.key, self.namespace, self.model, self.engine, self.gateway
        return FleetScope(*where, pods, self.window_s, self.queries, moved)


@dataclass(frozen=True, slots=True)
class Unusable:
    """A policy that cannot be worked by: whose, and why. Nothing is done about its fleet until it is mended."""

    key: str
    finding: Finding
    tick_s: float = 15.0
    uid: str = ""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> float:
        """Seconds; only differences and order matter to the core."""
        ...


class Roster(Protocol):
    """Tells which fleets there are. They come and go while the controller runs."""

    def managed(self) -> Sequence[Managed | Unusable]:
        """Every policy as it stands now, one entry per key. Never waits for the outside."""
        ...


class SignalSource(Protocol):
    """Reads the signals of many fleets at once, so that the number of queries does not grow with them."""

    def read(self, scopes: Sequence[FleetScope], now: float) -> Iterable[Mapping[str, Signals]]:
        """One `Signals` per scope, keyed by `FleetScope.key`, in parts as they come: what is told of the first fleets can be
        acted on before the last ones are asked about. Never raises for what the outside did.
        """
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """What was told of one fleet's traffic at the ends `at_s` of even steps, the oldest first; None where nobody told it.

    `offered_rps` and `rejected_rps` as in `Traffic`; `means` of lengths in tokens, by the names of `Shape`'s fields. All
    are as long as `at_s`.
    """

    at_s: Sequence[float]
    offered_rps: Sequence[float | None]
    rejected_rps: Sequence[float | None]
    means: Mapping[str, Sequence[float | None]]


class PastSource(Protocol):
    """Reads what one fleet's users have sent lately. Called from one thread, which may wait as long as it takes."""

    def past(self, scope: FleetScope, until_s: float, span_s: float, step_s: float) -> Past | Unknown:
        """The traffic of `span_s` seconds up to `until_s`, in steps of `step_s`; all as a look at those moments would have
        told it. Never raises for what the outside did.
        """
        ...


class FleetGateway(Protocol):
    """Reads and changes the replicas of one fleet. Called from several threads at once, for one fleet from one at a time."""

    def read(self, key: str, now: float) -> Fleet | Fault:
        """The fleet as it stands."""
        ...

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        """Carry out one action or flip, in this term of leadership, if the fleet still is what it was decided on."""
        ...


class Leadership(Protocol):
    """Tells whether this process is the one that may act."""

    def term(self) -> int | None:
        """The term in which it may, None while it may not. Asked before every write: a term may end between two."""
        ...


class Alone:
    """The Leadership of a controller without rivals."""

    def term(self) -> int | None:
        """Always the first."""
        return 0


class StatusSink(Protocol):
    """Where a fleet's status goes after each tick."""

    def report(self, status: Status) -> None:
        """Publish; must neither wait nor raise for what the outside did."""
        ...

    def forget(self, key: str) -> None:
        """The fleet is managed no more."""
        ...


class Fitter(Protocol):
    """Fits ARIMA models somewhere else. Neither method ever waits for a fit."""

    def submit(self, task: FitTask) -> bool:
        """Take a task in hand; False while there is no room for it, and for one that is in hand already."""
        ...

    def fitted(self) -> Sequence[tuple[str, ArimaFit]]:
        """Fits that have ended since the last call, each with its task's key; one that failed comes as not converged."""
        ...


class Engines(Protocol):
    """Asks engines themselves how full they are. Called from several threads at once."""

    def gauges(self, fleet: Managed, replica: Replica, within_s: float) -> Gauges | Fault:
        """What one replica's engine tells now. Never raises for what the outside did."""
        ...


class States(Protocol):
    """Where sidecars hear of fleets. Called from any thread; nothing here waits."""

    def lead(self, term: int | None) -> None:
        """What is published from now on is of this term of leadership; None: nothing is, and nothing more is told."""
        ...

    def asked(self, fleet: str, within_s: float) -> bool:
        """Has anybody asked for this fleet in the last `within_s` seconds?"""
        ...

    def publish(self, content: Mapping[str, Any]) -> None:
        """Make this the newest document of its fleet."""
        ...

    def forget(self, fleet: str) -> None:
        """The fleet is managed no more."""
        ...
