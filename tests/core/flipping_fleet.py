"""How do tests have a fleet whose replicas change their role, seen as a cluster shows it while they do?

A gateway over one fleet in memory. Time passes when it is read: who has started serves, who has drained is gone, and each
flip goes one step on. By its way a flip is one of three.

    in place      the old one drains, then is away for the way's `takes_s` and serves its new role
    shrink first  the old ones drain, and when they are gone the new ones start
    grow first    the new ones start, and when they serve the old ones drain

Both counts change at once. GPUs that the old ones hold and the new ones are promised are told as shared. A way that takes
0 s with nothing to drain is over before anybody looks again, so it is never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Flipping, FlipWay, Phase, Pool, Replica, Role
from tests.fakes import KEY, LONG_AGO_S

Ways = Mapping[tuple[Role, Role], FlipWay]


@dataclass(slots=True, eq=False)
class Unit:
    """One unit of a flip. `new` are the names of those that came for it, None before they do."""

    name: str
    pair: tuple[Role, Role]
    way: FlipWay
    old: list[str]
    began_s: float
    new: list[str] | None = None


@dataclass(slots=True)
class Standing:
    """One role's replicas as they stand."""

    desired: int
    gpus: int
    replicas: list[Replica] = field(default_factory=list)

    def named(self, names: list[str]) -> list[Replica]:
        """Those of these names that are still there."""
        return [one for one in self.replicas if one.name in names]


class FlippingFleet:
    """`pools` are (replicas, GPUs of each) by role. New replicas serve after `start_s`, removed ones drain for `drain_s`; the
    newest go first, or the oldest.
    """

    def __init__(
        self,
        pools: Mapping[Role, tuple[int, int]],
        ways: Ways,
        *,
        start_s: float = 0.0,
        drain_s: float = 0.0,
        oldest_first: bool = False,
    ) -> None:
        self.pools = {role: Standing(count, gpus) for role, (count, gpus) in pools.items()}
        self.ways, self.start_s, self.drain_s, self.oldest_first = ways, start_s, drain_s, oldest_first
        self.units: list[Unit] = []
        self._made = 0
        for role, (count, _) in pools.items():
            for _ in range(count):
                self._add(role, Phase.SERVING, LONG_AGO_S)

    @property
    def fleet(self) -> Fleet:
        """As it was at the last look."""
        pools = {
            role: Pool(role, one.desired, tuple(one.replicas), one.gpus, leaving=len(self._lent(role)))
            for role, one in self.pools.items()
        }
        return Fleet(KEY, pools, self.ways, tuple(self._shown()))

    @property
    def gpus_in_use(self) -> int:
        """By replicas that exist, whatever is promised."""
        return sum(len(one.replicas) * one.gpus for one in self.pools.values())

    def read(self, now: float) -> Fleet:
        """The fleet at `now`."""
        for one in self.pools.values():
            one.replicas = [aged for replica in one.replicas if (aged := self._aged(replica, now)) is not None]
        for unit in self.units:
            self._step(unit, now)
        self.units = [unit for unit in self.units if not self._over(unit)]
        return self.fleet

    def apply(self, action: Action | Flip, now: float) -> Outcome:
        """Scale or flip, if the fleet still is what that was decided on."""
        seen = action.seen if isinstance(action, Flip) else {action.role: action.from_replicas}
        if any(self.pools[role].desired != count for role, count in seen.items()):
            return Outcome(action, Verdict.CONFLICT)
        if isinstance(action, Flip):
            return Outcome(action, self._flip(action, now))
        self.scale(action.role, action.to_replicas, now)
        return Outcome(action, Verdict.APPLIED)

    def scale(self, role: Role, count: int, now: float) -> None:
        """What a human with kubectl does, too."""
        self.pools[role].desired = count
        self._fill(role, now)
        own = self._own(role)
        surplus = max(0, len(own) - count)
        self._drain(role, own[:surplus] if self.oldest_first else own[len(own) - surplus :], now)

    def kill(self, role: Role, number: int, now: float) -> None:
        """One replica dies; one that was to stay is replaced."""
        standing = self.pools[role].replicas
        if standing:
            del standing[number % len(standing)]
            self._fill(role, now)

    def _flip(self, flip: Flip, now: float) -> Verdict:
        """Refused where a cluster would have to: no such way, no whole units, too many at once, or too few that serve."""
        source, way = self.pools[flip.from_role], self.ways.get((flip.from_role, flip.to_role))
        free = [one for one in self._own(flip.from_role) if one.phase is Phase.SERVING]
        if way is None or flip.from_replicas > len(free):
            return Verdict.REFUSED
        units = flip.from_replicas // way.from_replicas
        whole = (units * way.from_replicas, units * way.to_replicas) == (flip.from_replicas, flip.to_replicas)
        if units < 1 or not whole or len(self.units) + units > way.max_in_flight:
            return Verdict.REFUSED
        source.desired -= flip.from_replicas
        self.pools[flip.to_role].desired += flip.to_replicas
        chosen = free if way.in_place or self.oldest_first else free[::-1]
        for first in range(0, flip.from_replicas, way.from_replicas):
            old = chosen[first : first + way.from_replicas]
            self._begin((flip.from_role, flip.to_role), way, old, now)
        return Verdict.APPLIED

    def _begin(self, pair: tuple[Role, Role], way: FlipWay, old: list[Replica], now: float) -> None:
        self._made += 1
        unit = Unit(f"flip-{self._made}", pair, way, [one.name for one in old], now)
        self.units.append(unit)
        if way.grows_first:
            unit.new = [self._add(pair[1], Phase.STARTING, now) for _ in range(way.to_replicas)]
        else:
            self._drain(pair[0], old, now)

    def _step(self, unit: Unit, now: float) -> None:
        source, sink = (self.pools[role] for role in unit.pair)
        if unit.new is None and not source.named(unit.old):
            count = min(unit.way.to_replicas, max(0, sink.desired - len(self._own(unit.pair[1]))))
            away = Phase.SWITCHING if unit.way.in_place else Phase.STARTING
            unit.new = [self._add(unit.pair[1], away, now) for _ in range(count)]
        elif unit.way.grows_first and all(one.phase is Phase.SERVING for one in sink.named(unit.new or [])):
            self._drain(unit.pair[0], [one for one in source.named(unit.old) if one.phase is Phase.SERVING], now)

    def _over(self, unit: Unit) -> bool:
        source, sink = (self.pools[role] for role in unit.pair)
        come = unit.new is not None and all(one.phase not in COMING for one in sink.named(unit.new))
        return come and not source.named(unit.old)

    def _aged(self, replica: Replica, now: float) -> Replica | None:
        lasts_s = {Phase.STARTING: self.start_s, Phase.SWITCHING: self._switch_s, Phase.DRAINING: self.drain_s}
        if replica.phase is Phase.SERVING or now - replica.since_s < lasts_s[replica.phase]:
            return replica
        return None if replica.phase is Phase.DRAINING else replace(replica, phase=Phase.SERVING, since_s=now)

    @property
    def _switch_s(self) -> float:
        return max((way.takes_s for way in self.ways.values() if way.in_place), default=0.0)

    def _add(self, role: Role, phase: Phase, now: float) -> str:
        self._made += 1
        self.pools[role].replicas.append(Replica(f"{role}-{self._made}", phase, now))
        return self.pools[role].replicas[-1].name

    def _drain(self, role: Role, victims: list[Replica], now: float) -> None:
        self.pools[role].replicas = [
            replace(one, phase=Phase.DRAINING, since_s=now) if one in victims else one for one in self.pools[role].replicas
        ]

    def _fill(self, role: Role, now: float) -> None:
        for _ in range(self.pools[role].desired - len(self._own(role)) - self._promised(role)):
            self._add(role, Phase.STARTING, now)

    def _lent(self, role: Role) -> list[Replica]:
        """Those that serve until others have taken their place."""
        names = [name for unit in self.units if unit.way.grows_first and unit.pair[0] is role for name in unit.old]
        return [one for one in self.pools[role].named(names) if one.phase is Phase.SERVING]

    def _own(self, role: Role) -> list[Replica]:
        """Those that are to stay."""
        lent = self._lent(role)
        return [one for one in self.pools[role].replicas if one.phase is not Phase.DRAINING and one not in lent]

    def _promised(self, role: Role) -> int:
        return sum(unit.way.to_replicas for unit in self.units if unit.new is None and unit.pair[1] is role)

    def _shown(self) -> Iterator[Flipping]:
        wanted = {role: min(self._promised(role), max(0, one.desired - len(self._own(role)))) for role, one in self.pools.items()}
        for unit in self.units:
            source, sink = unit.pair
            left, coming = self.pools[source].named(unit.old), self.pools[sink].named(unit.new or [])
            promised = 0 if unit.new is not None else min(unit.way.to_replicas, wanted[sink])
            wanted[sink] -= promised
            shared = min(len(left) * self.pools[source].gpus, promised * self.pools[sink].gpus)
            moving = next((one for one in (*left, *coming) if one.phase is not Phase.SERVING), None)
            phase = moving.phase if moving else Phase.DRAINING
            counts = unit.way.from_replicas, unit.way.to_replicas
            yield Flipping(
                unit.name,
                source,
                sink,
                *counts,
                phase,
                max(unit.began_s, moving.since_s if moving else 0.0),
                unit.began_s,
                shared,
            )


COMING = (Phase.STARTING, Phase.SWITCHING)
