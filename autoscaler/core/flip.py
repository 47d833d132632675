"""When should a replica change its role, and which flip is worth it?

A flip moves capacity from a role that has to spare to one that lacks, faster than a new replica starts and at no GPU more.
What it costs is the time away (`FlipWay.takes_s`), the drain, and a prefix cache; what it risks is a fleet that hunts.

    outlook    per role, in replicas: `soon`, what it needs when a flip begun now has taken effect, and `lasting`, the most it
               needs until another could have undone it: that is when a flip has paid back
    lack       soon > desired x (1 + `lack`): decided on what is coming, so a flip that takes seconds looks seconds ahead
    spare      desired - lasting x (1 + `spare`), the lowest of the last `window_s`. The donor must be sure, the receiver only
               in need: the two thresholds differ, or one replica would go back and forth between two roles in balance
    price      a donor whose caches are lost works off again what they saved: with 40 % of the prompt tokens cached by n
               replicas, losing one of n = 4 adds 0.4 / 0.6 / 4 = 17 % to what its role has to compute (reference/papers.md A8:
               prefill counts in cache-missed tokens). It is charged to `lasting`

Then two cases.
    to spare   one role lacks, another has whole units to spare: flip as many as both allow, if a flip is faster than starting
               a replica or no GPU is free for one. (Arrow, papers.md A1: the roles trade; DESIGN.md section 9)
    relief     the receiver lacks, nobody has to spare and nothing can be added: the flip is made if it lowers the larger of the
               two loads per replica by `gain` at least. The backlog is left out of that (`steady`): it swings to whichever
               role was given last, and would take the replica along, back and forth for ever. So a fixed fleet under too
               much load keeps the split that hurts least, and does not trade back: the way back would have to gain as much
               again.

Brakes: `cooldown_s` between two flips; each replica keeps its role for `dwell_s`; a flip back of one younger than that
doubles the cooldown, up to `MOST_BACK_OFF` times, until no such has happened for as long as eight dwell times; at most
`max_in_flight` units under way; the donor seen in full for `sighted_s` without a gap (law 3).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.action import Flip
from autoscaler.core.fleet import Fleet, Flipping, FlipWay, Phase, Pool, Role
from autoscaler.core.reason import Finding, Reason, Stage

ROUNDING = 1e-9
MOST_BACK_OFF = 3  # doublings
FORGIVEN_DWELLS = 8.0
SENT_OFF_S = 60.0  # a flip shows on the cluster so long after it was sent off, at most

Pair = tuple[Role, Role]


@dataclass(frozen=True, slots=True)
class FlipLimits:
    """Knobs. `lack` and `spare`: shares by which a role must be over and under; `gain`: by which relief must help."""

    enabled: bool = False
    max_in_flight: int = 2
    dwell_s: float = 300.0
    cooldown_s: float = 30.0
    window_s: float = 30.0
    sighted_s: float = 300.0
    lack: float = 0.0
    spare: float = 0.05
    gain: float = 0.1


@dataclass(frozen=True, slots=True)
class Outlook:
    """One role as a flip sees it: replicas it needs `soon` and `lasting`, `price` the share by which losing the caches of one
    replica raises that, and since when it has been seen in full (None: it is not). `steady` is the need without the backlog,
    `soon` where it is None.
    """

    soon: float
    lasting: float
    price: float = 0.0
    seen_since_s: float | None = None
    steady: float | None = None

    @property
    def at_length(self) -> float:
        """What a split is judged by where nothing can be added."""
        return self.soon if self.steady is None else self.steady


@dataclass(frozen=True, slots=True)
class FlipTrack:
    """What is remembered: `lasting` of each role over the window as (time, replicas), flips begun as (time, from, to), and how
    often the cooldown has been doubled.
    """

    lasting: Mapping[Role, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    begun: tuple[tuple[float, Role, Role], ...] = ()
    doubled: int = 0
    reversed_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class Room:
    """What else there is to know: GPUs that nobody holds (None: no budget), and how long a new replica takes to serve."""

    free_gpus: int | None
    startup_s: Mapping[Role, float]


def follow(track: FlipTrack, fleet: Fleet, outlooks: Mapping[Role, Outlook], limits: FlipLimits, now: float) -> FlipTrack:
    """The track after one more look: needs of the window, and flips that the cluster shows to have begun."""
    lasting = {role: _window(track.lasting.get(role, ()), one.lasting, limits, now) for role, one in outlooks.items()}
    forgiven = now - track.reversed_s > FORGIVEN_DWELLS * limits.dwell_s
    track = replace(track, lasting=lasting, doubled=0 if forgiven else track.doubled)
    for flip in fleet.flips:
        if flip.started_s <= now and not any(_same(flip, one) for one in track.begun):
            track = _begun(track, (flip.started_s, flip.from_role, flip.to_role), limits)
    kept = tuple(one for one in track.begun if 0 <= now - one[0] <= limits.dwell_s * 2)
    return replace(track, begun=kept)


def remember(track: FlipTrack, flip: Flip, limits: FlipLimits, now: float) -> FlipTrack:
    """The track after this flip was sent off. One that is over at once never shows on the cluster."""
    return _begun(track, (now, flip.from_role, flip.to_role), limits)


def _same(flip: Flipping, begun: tuple[float, Role, Role]) -> bool:
    at, *pair = begun
    return pair == [flip.from_role, flip.to_role] and -1.0 <= flip.started_s - at <= SENT_OFF_S


def _window(
    before: tuple[tuple[float, float], ...], lasting: float, limits: FlipLimits, now: float
) -> tuple[tuple[float, float], ...]:
    return (*((at, need) for at, need in before if 0 <= now - at <= limits.window_s), (now, lasting))


def _begun(track: FlipTrack, one: tuple[float, Role, Role], limits: FlipLimits) -> FlipTrack:
    """A flip back within the dwell time of its opposite is a reversal."""
    at, source, sink = one
    back = any(0 <= at - earlier < limits.dwell_s and (source, sink) == (b, a) for earlier, a, b in track.begun)
    track = replace(track, begun=(*track.begun, one))
    return replace(track, doubled=min(track.doubled + 1, MOST_BACK_OFF), reversed_s=at) if back else track


def choose(
    now: float, fleet: Fleet, outlooks: Mapping[Role, Outlook], room: Room, limits: FlipLimits, track: FlipTrack
) -> tuple[Flip | None, tuple[Finding, ...]]:
    """The flip to begin now, if any, and why (not) for every role that lacks. The role that lacks most is asked for first."""
    findings: list[Finding] = []
    for pair, way in sorted(fleet.flip_ways.items(), key=lambda item: (-_pressure(fleet, outlooks, item[0][1]), item[0])):
        if not limits.enabled or not set(pair) <= outlooks.keys():
            continue
        weighed = _Weighed(now, fleet, pair, way, outlooks, room, limits, track)
        if not weighed.lacks:
            continue
        units, finding = weighed.verdict()
        findings.append(finding)
        if units:
            return weighed.flip(units, finding.reason), tuple(findings)
    return None, tuple(findings)


def _pressure(fleet: Fleet, outlooks: Mapping[Role, Outlook], role: Role) -> float:
    return outlooks[role].soon / max(1, fleet.pools[role].desired) if role in outlooks else 0.0


@dataclass(frozen=True, slots=True)
class _Weighed:
    """One way to flip, weighed at one look."""

    now: float
    fleet: Fleet
    pair: Pair
    way: FlipWay
    outlooks: Mapping[Role, Outlook]
    room: Room
    limits: FlipLimits
    track: FlipTrack

    @property
    def source(self) -> Pool:
        return self.fleet.pools[self.pair[0]]

    @property
    def sink(self) -> Pool:
        return self.fleet.pools[self.pair[1]]

    @property
    def lacks(self) -> bool:
        """Whether the receiver lacks at all."""
        return self.outlooks[self.pair[1]].soon > self.sink.desired * (1 + self.limits.lack) + ROUNDING

    def flip(self, units: int, reason: Reason) -> Flip:
        """So many units as a flip."""
        seen = {role: self.fleet.pools[role].desired for role in self.pair}
        return Flip(*self.pair, units * self.way.from_replicas, units * self.way.to_replicas, reason, seen)

    def verdict(self) -> tuple[int, Finding]:
        """How many units to flip now, and why no more."""
        for reason, text in self._brakes():
            return 0, self._told(reason, text, 0)
        spare = math.floor(self._spare() / self.way.from_replicas + ROUNDING)
        wanted = math.ceil((self.outlooks[self.pair[1]].soon - self.sink.desired) / self.way.to_replicas - ROUNDING)
        units = min(spare, wanted, self._free_ways(), self._old_enough())
        if units > 0 and (self._faster() or not self._gpus_free()):
            return units, self._told(Reason.FLIP, f"{spare} to spare", units)
        if units > 0:
            return 0, self._told(Reason.FLIP_NO_FASTER, "a new replica is there as soon, and GPUs are free for it", 0)
        if not self._gpus_free() and self._relieves() and self._old_enough() > 0:
            return 1, self._told(Reason.FLIP_RELIEF, "nobody has to spare and no GPU is free", 1)
        return 0, self._told(Reason.FLIP_NOTHING_TO_SPARE, f"{self.pair[0]} has {self._spare():.2f} replicas to spare", 0)

    def _brakes(self) -> Iterator[tuple[Reason, str]]:
        seen_since_s = self.outlooks[self.pair[0]].seen_since_s
        if seen_since_s is None or self.now - seen_since_s < self.limits.sighted_s:
            yield Reason.FIRST_WINDOW, f"{self.pair[0]} has not been seen in full for {self.limits.sighted_s:.0f} s"
        if self._free_ways() <= 0:
            yield Reason.FLIP_IN_FLIGHT, f"{len(self.fleet.flips)} under way"
        rest_s = self.limits.cooldown_s * 2**self.track.doubled
        waits = [at + rest_s - self.now for at, _, _ in self.track.begun if at + rest_s > self.now]
        if waits:
            yield Reason.COOLDOWN, f"{max(waits):.0f} s of {rest_s:.0f} s are left"

    def _free_ways(self) -> int:
        return min(self.limits.max_in_flight, self.way.max_in_flight) - len(self.fleet.flips)

    def _needed(self, count: int) -> float:
        """Replicas the donor needs at most, over the window, when it is down to `count` and the lost caches are priced in."""
        outlook = self.outlooks[self.pair[0]]
        lasting = max((need for _, need in self.track.lasting.get(self.pair[0], ())), default=outlook.lasting)
        return max(lasting, outlook.lasting) * (1 + (outlook.price / max(1, count) if self.way.loses_cache else 0.0))

    def _spare(self) -> float:
        return self.source.desired - self._needed(self.source.desired) * (1 + self.limits.spare)

    def _relieves(self) -> bool:
        """Whether one unit lowers the larger load per replica by the gain; each role keeps one replica."""
        left = self.source.desired - self.way.from_replicas
        if left < 1:
            return False
        giving, taking = (self.outlooks[role].at_length for role in self.pair)
        price = self.outlooks[self.pair[0]].price / left if self.way.loses_cache else 0.0
        before = max(giving / self.source.desired, taking / max(1, self.sink.desired))
        after = max(giving * (1 + price) / left, taking / (self.sink.desired + self.way.to_replicas))
        return after < before * (1 - self.limits.gain)

    def _faster(self) -> bool:
        return self.way.takes_s < self.room.startup_s.get(self.pair[1], math.inf)

    def _gpus_free(self) -> bool:
        return self.room.free_gpus is None or self.room.free_gpus >= self.sink.gpus_per_replica

    def _old_enough(self) -> int:
        """Units whose replicas have kept their role for the dwell time."""
        serving = self.source.in_phase(Phase.SERVING)
        old = sum(self.now - replica.since_s >= self.limits.dwell_s for replica in serving)
        return min(old, len(serving) - self.source.leaving - 1) // self.way.from_replicas

    def _told(self, reason: Reason, why: str, units: int) -> Finding:
        source, sink = self.pair
        verb = f"flip {units * self.way.from_replicas} {source} to {units * self.way.to_replicas} {sink}" if units else "no flip"
        lasting, soon = self.outlooks[source].lasting, self.outlooks[sink].soon
        text = f"{verb} by {self.way.driver}: {sink} needs {soon:.2f} of {self.sink.desired} soon; {why}"
        inputs: dict[str, float | str] = {"soon": soon, "lasting": lasting, "units": units, "driver": self.way.driver}
        return Finding(Stage.PLAN, reason, text, sink, inputs)
