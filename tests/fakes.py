"""How do tests speak of fleets, signals and policies in one line each, without mocks?

The numbers are round on purpose. A request is 1,000 uncached prompt tokens and 100 output tokens; prefill takes 190 ms
and the promise is so wide that only the highest utilisation, 95 %, binds; a decode step takes 20 ms and holds 10 requests,
whose spread the median does not mind. So one replica of *either* role carries 5 requests per second and ten carry 50,
headroom is off, and `signals(fleet, rps=22)` means a demand of 4.4 replicas per role.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoscaler.core.action import Action, Flip, Mode, Outcome, Verdict
from autoscaler.core.capacity import Bound, Capacity, Shape, Slo
from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import Fleet, Phase, Pool, Replica, Role, SloKind
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, RoleSignals, Signals, Traffic, Unknown
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.status import Status
from autoscaler.ports import Fault, FleetScope, Managed, Unusable

KEY = "models/chat"
LONG_AGO_S = -86_400.0
SHAPE = Shape(prompt_tokens=1000.0, uncached_tokens=1000.0, output_tokens=100.0)
PROFILE = ReplicaProfile("round", (0.0, 1.9e-4, 0.0), (0.02, 1e-7, 0.0), kv_tokens=1_000_000, max_seqs=10, link_base_s=0.0)
RPS_PER_REPLICA = 5.0
GONE = Unknown(Gap.UNREACHABLE, "connection refused")

SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 20.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.5)}


def pool(
    role: Role, desired: int, *, serving: int | None = None, starting: int = 0, draining: int = 0, stuck: int = 0, gpus: int = 1
) -> Pool:
    """A pool whose replicas have long been in their phase; all of `desired` serve unless told otherwise."""
    counts = {
        Phase.SERVING: desired if serving is None else serving,
        Phase.STARTING: starting,
        Phase.STUCK: stuck,
        Phase.DRAINING: draining,
    }
    phases = [phase for phase, count in counts.items() for _ in range(count)]
    replicas = tuple(Replica(f"{role}-{number}", phase, LONG_AGO_S) for number, phase in enumerate(phases))
    return Pool(role, desired, replicas, gpus)


def fleet(*pools: Pool, key: str = KEY) -> Fleet:
    """A fleet of these pools; two serving replicas in any pool that is not named."""
    given = {p.role: p for p in pools}
    return Fleet(key, {role: given.get(role) or pool(role, 2) for role in Role})


def policy(
    low: int = 1, high: int = 100, *, mode: Mode = Mode.AUTO, gpu_budget: int | None = None, shape: Shape | None = SHAPE
) -> Policy:
    """Bounds for every role; further knobs with `dataclasses.replace`."""
    pools = {role: PoolLimits(low, high) for role in Role}
    return Policy(mode, SLOS, pools, PROFILE, gpu_budget, shape, demand=DemandLimits(headroom=0.0))


def signals(
    seen: Fleet,
    rps: float | Unknown = 0.0,
    *,
    waiting: Mapping[Role, float] | None = None,
    running: Mapping[Role, float] | None = None,
    silent: Collection[str] = (),
    stale: Collection[str] = (),
    shape: Shape | None = SHAPE,
) -> Signals:
    """What every serving pod of `seen` reports, but for the `silent`; requests are spread evenly over a role's pods."""
    gauges = {}
    for role, members in seen.pools.items():
        serving = [replica.name for replica in members.in_phase(Phase.SERVING)]
        for name in serving:
            queue, busy = ((counts or {}).get(role, 0.0) / len(serving) for counts in (waiting, running))
            gauges[name] = Gauges(queue, busy, 0.5, 600.0 if name in stale else 5.0)
    for name in silent:
        gauges.pop(name, None)
    unmeasured = Unknown(Gap.MISSING, "no request completed")
    work = {role: Known(getattr(shape, _WORK[role])) if shape else unmeasured for role in Role}
    roles = {role: RoleSignals(histogram(within=100.0, over=0.0), work[role]) for role in Role}
    prompt = Known(shape.prompt_tokens) if shape else unmeasured
    offered = rps if isinstance(rps, Unknown) else Known(rps, 5.0)
    return Signals(gauges, roles, Traffic(offered, "gateway", histogram(), prompt))


_WORK = {Role.PREFILL: "uncached_tokens", Role.DECODE: "output_tokens"}


def histogram(*, within: float = 90.0, over: float = 10.0, edge_s: float = 0.5) -> Histogram:
    """Requests below and above one edge."""
    return Histogram((edge_s, math.inf), (within, within + over))


@dataclass(frozen=True, slots=True)
class Alike:
    """A law without pooling: each replica carries the same."""

    tokens_per_s: float

    def replicas(self, tokens_per_s: float) -> float:
        """Load over what one carries."""
        return tokens_per_s / self.tokens_per_s

    def carried(self, replicas: float) -> float:
        """Replicas times what one carries."""
        return replicas * self.tokens_per_s


def carries(
    tokens_per_s: float, max_resident: float | None = None, bound: Bound = Bound.TTFT, *, feasible: bool = True, use: float = 0.5
) -> Capacity:
    """So much by each replica, at this utilisation."""
    return Capacity(Alike(tokens_per_s), max_resident, bound, feasible, tokens_per_s, use, float(feasible))


def merged(parts: Iterable[Mapping[str, Signals]]) -> dict[str, Signals]:
    """What a source tells of all fleets together."""
    return {key: signals for part in parts for key, signals in part.items()}


@dataclass
class FakeClock:
    """A clock that stands still until told otherwise."""

    at: float = 0.0

    def now(self) -> float:
        """Seconds."""
        return self.at


@dataclass
class ScriptedSignals:
    """Answers with `script`: signals per fleet, or an exception to raise. `reads` are the fleets asked for, call by call."""

    script: Mapping[str, Signals] | Exception = field(default_factory=dict)
    reads: list[tuple[str, ...]] = field(default_factory=list)
    part: int = 1000

    def read(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
        """The script, whatever the time, in parts of `part` fleets."""
        self.reads.append(tuple(scope.key for scope in scopes))
        if isinstance(self.script, Exception):
            raise self.script
        told = list(self.script.items())
        for first in range(0, len(told), self.part):
            yield dict(told[first : first + self.part])


class FakeFleet:
    """A gateway over fleets in memory. New replicas serve after `start_s`, removed ones drain for `drain_s`; the newest
    go first, or the oldest.

    It keeps the precondition: what was decided on other counts is a conflict. A flip takes the first that serve, and those
    who come in their place serve after `start_s`. `unreadable` makes a read answer a fault or raise; `answers` makes the
    writes to one role (flips from it) end otherwise. `applied` is every write that was tried, `terms`
    in which term of leadership each.
    """

    def __init__(self, *fleets: Fleet, start_s: float = 0.0, drain_s: float = 0.0, oldest_first: bool = False) -> None:
        self.fleets = {one.key: one for one in fleets}
        self.start_s, self.drain_s, self.oldest_first = start_s, drain_s, oldest_first
        self.unreadable: dict[str, Fault | Exception] = {}
        self.answers: dict[tuple[str, Role], Verdict | Exception] = {}
        self.applied: list[tuple[str, Action | Flip]] = []
        self.terms: list[int] = []
        self._made = 0

    def read(self, key: str, now: float) -> Fleet | Fault:
        """The fleet at `now`: who was starting may serve, who was draining may be gone."""
        trouble = self.unreadable.get(key)
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None:
            return trouble
        pools = {role: self._aged(members, now) for role, members in self.fleets[key].pools.items()}
        self.fleets[key] = replace(self.fleets[key], pools=pools)
        return self.fleets[key]

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        """Scale or flip, unless `answers` or the precondition say otherwise."""
        self.applied.append((key, action))
        self.terms.append(term)
        answer = self.answers.get((key, action.roles[0]), Verdict.APPLIED)
        if isinstance(answer, Exception):
            raise answer
        if answer is not Verdict.APPLIED:
            return Outcome(action, answer, "as scripted")
        pools = self.fleets[key].pools
        seen = action.seen if isinstance(action, Flip) else {action.role: action.from_replicas}
        other = [pools[role].desired for role, count in seen.items() if pools[role].desired != count]
        if other:
            return Outcome(action, Verdict.CONFLICT, f"desired is {other[0]}")
        if isinstance(action, Flip):
            self._take(key, action)
            self.scale(key, action.to_role, pools[action.to_role].desired + action.to_replicas, now)
        else:
            self.scale(key, action.role, action.to_replicas, now)
        return Outcome(action, Verdict.APPLIED)

    def _take(self, key: str, flip: Flip) -> None:
        members = self.fleets[key].pools[flip.from_role]
        gone = members.in_phase(Phase.SERVING)[: flip.from_replicas]
        left = tuple(replica for replica in members.replicas if replica not in gone)
        members = replace(members, desired=members.desired - flip.from_replicas, replicas=left)
        self.fleets[key] = replace(self.fleets[key], pools={**self.fleets[key].pools, flip.from_role: members})

    def scale(self, key: str, role: Role, count: int, now: float) -> None:
        """What a human with kubectl does, too."""
        members = self.fleets[key].pools[role]
        staying = [replica for replica in members.replicas if replica.phase is not Phase.DRAINING]
        for _ in range(count - len(staying)):
            self._made += 1
            staying.append(Replica(f"{role}-new-{self._made}", Phase.STARTING, now))
        surplus = len(staying) - count
        staying, leaving = (staying[surplus:], staying[:surplus]) if self.oldest_first else (staying[:count], staying[count:])
        drained = (replace(replica, phase=Phase.DRAINING, since_s=now) for replica in leaving)
        replicas = (*staying, *drained, *members.in_phase(Phase.DRAINING))
        pools = {**self.fleets[key].pools, role: replace(members, desired=count, replicas=replicas)}
        self.fleets[key] = replace(self.fleets[key], pools=pools)

    def _aged(self, members: Pool, now: float) -> Pool:
        kept = []
        for replica in members.replicas:
            age_s = now - replica.since_s
            if replica.phase is Phase.STARTING and age_s >= self.start_s:
                kept.append(replace(replica, phase=Phase.SERVING, since_s=now))
            elif replica.phase is not Phase.DRAINING or age_s < self.drain_s:
                kept.append(replica)
        return replace(members, replicas=tuple(kept))


@dataclass
class FakeSink:
    """Keeps what is reported and what is to be forgotten, or raises `error`."""

    error: Exception | None = None
    reported: list[Status] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    def report(self, status: Status) -> None:
        """Keep or raise."""
        if self.error is not None:
            raise self.error
        self.reported.append(status)

    def forget(self, key: str) -> None:
        """Keep or raise."""
        if self.error is not None:
            raise self.error
        self.forgotten.append(key)


@dataclass
class FakeRoster:
    """Fleets that a test adds and takes away."""

    entries: list[Managed | Unusable] = field(default_factory=list)

    def managed(self) -> Sequence[Managed | Unusable]:
        """Those of the moment."""
        return tuple(self.entries)


@dataclass
class FakeLeadership:
    """Leads in `terms` one after another, each asked once; the last one for ever."""

    terms: list[int | None]

    def term(self) -> int | None:
        """The next answer."""
        return self.terms.pop(0) if len(self.terms) > 1 else self.terms[0]
