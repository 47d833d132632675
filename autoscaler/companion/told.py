"""What does the status of one PDAutoscaler tell, and may it be believed now?

Everything that HPA, KEDA and the API server ask of us is answered from here: `told` reads one object as the API server gives
it, and a `now`. A number is there only where the controller wrote it, and only while it is fresh; what is missing, of a wrong
type or out of its range is None, never zero (law 2). The desired count is `status.pools.<role>.target`, which stands there in
mode Auto alone, and is told only of a pool whose status says `actuation: hpa`: there it is the count that may be written at
once. Of a pool that the controller writes itself it is the count before anything is drained for it, and an HPA that made it
true would cut requests off. `desired` beside it is what the target's spec asks for already; fed with that, an HPA would never
move it.

The mode is the more careful one of what the spec says and what the last tick ran in: who turns a policy off is obeyed at once,
who turns it on waits for a tick (law 13).

How old may a status be? While nothing happens the controller writes one 30 to 90 s after the last (adapters/kubernetes/
scribe.py), of a tick that began up to `tickSeconds` before. One late tick is no reason to be silent, three are, as for its
liveness (apps/probes.py): with 15 s that is 90 + 3 x 15 = 135 s. And one that is from the future: clocks differ by some
seconds; if ours is behind by more, no age can be told, and the status might be an hour old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from autoscaler.core.action import Mode
from autoscaler.core.fleet import Role
from autoscaler.core.reading import MOST_REPLICAS, Refused, number, whole
from autoscaler.policy.actuation import Actuation

WRITTEN_S = 90.0  # the longest time between two writes of a status in which nothing changes
LATE_TICKS = 3
AHEAD_S = 30.0  # how far ahead of ours the controller's clock may be
TICK_S, SHORTEST_TICK_S, LONGEST_TICK_S = 15.0, 1.0, 600.0  # of `spec.behaviour.tickSeconds`
MOST = 1e15  # tokens per second: what no fleet does

CAREFUL = (Mode.OFF, Mode.RECOMMEND, Mode.AUTO)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoolTold:
    """What is told of one pool. None: not told, or not to be believed.

    `desired` and `recommended` in replicas; `forecast_tokens_per_s` is the upper bound of what is expected, in the role's own
    tokens; `headroom_tokens_per_s` what the serving replicas carry within the SLO beyond that, negative where they do not;
    `pressure` the replicas needed over those that serve; `slo_headroom` 1 - latency / SLO, negative where it is missed.
    `handed`: the count is published for somebody else to write.
    """

    desired: int | None = None
    recommended: int | None = None
    forecast_tokens_per_s: float | None = None
    headroom_tokens_per_s: float | None = None
    pressure: float | None = None
    slo_headroom: float | None = None
    handed: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What one PDAutoscaler tells. `mode` None: in none that we know. `told_s`: when the controller looked, in seconds since
    1970. `doubt`: why nothing of it may be believed, as a clause; then every pool is empty. `pools` are those of the spec.
    """

    namespace: str
    name: str
    uid: str
    mode: Mode | None
    told_s: float | None
    doubt: str
    pools: Mapping[Role, PoolTold] = field(default_factory=dict)

    @property
    def stale(self) -> bool:
        """Whether nothing of it may be believed."""
        return bool(self.doubt)


def told(thing: Mapping[str, Any], now: float) -> Told:
    """What a PDAutoscaler (as JSON) tells at `now`, seconds since 1970. Never raises: what cannot be read is not told."""
    metadata, spec, status = (_part(thing, name) for name in ("metadata", "spec", "status"))
    told_s = moment(status.get("lastTick"))
    mode = _mode(spec.get("mode", Mode.RECOMMEND), status.get("mode"))
    doubt = _doubt(metadata, spec, told_s, now)
    pools = _part(status, "pools")
    return Told(
        namespace=text(metadata, "namespace"),
        name=text(metadata, "name"),
        uid=text(metadata, "uid"),
        mode=mode,
        told_s=told_s,
        doubt=doubt,
        pools={
            role: PoolTold() if doubt else _pool(_part(pools, role.value), mode)
            for role in Role
            if role.value in _part(spec, "pools")
        },
    )


def text(part: Mapping[str, Any], name: str) -> str:
    """A text of an object; empty where there is none."""
    found = part.get(name)
    return found if isinstance(found, str) else ""


def moment(raw: object) -> float | None:
    """An RFC 3339 time in seconds since 1970; None for anything else, and for one without its time zone."""
    try:
        found = datetime.fromisoformat(raw) if isinstance(raw, str) else None
        return found.timestamp() if found is not None and found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def patience_s(spec: Mapping[str, Any]) -> float:
    """How old the status of a policy may be, in seconds."""
    written = _part(spec, "behaviour").get("tickSeconds")
    tick_s = _read(lambda: number(written, "", SHORTEST_TICK_S, LONGEST_TICK_S))
    return WRITTEN_S + LATE_TICKS * (TICK_S if tick_s is None else tick_s)


def _doubt(metadata: Mapping[str, Any], spec: Mapping[str, Any], told_s: float | None, now: float) -> str:
    if metadata.get("deletionTimestamp"):
        return "it is being deleted"
    if told_s is None:
        return "the controller has not told anything yet"
    age_s = now - told_s
    if age_s < -AHEAD_S:
        return f"it is from {-age_s:.0f} s ahead of this clock (allowed: {AHEAD_S:.0f} s)"
    if not age_s <= patience_s(spec):
        return f"the controller's last word is {age_s:.0f} s old (allowed: {patience_s(spec):.0f} s)"
    return ""


def _mode(wanted: object, ran: object) -> Mode | None:
    found = [mode for mode in CAREFUL if mode in (wanted, ran)]
    known = all(one in CAREFUL for one in (wanted, ran))
    return found[0] if known else None


def _pool(pool: Mapping[str, Any], mode: Mode | None) -> PoolTold:
    def count(name: str, only: Mode) -> int | None:
        return _read(lambda: whole(pool.get(name), name, 0, MOST_REPLICAS)) if mode is only else None

    def amount(part: Mapping[str, Any], name: str, least: float) -> float | None:
        return _read(lambda: number(part.get(name), name, least, MOST))

    handed = pool.get("actuation") == Actuation.HPA
    return PoolTold(
        desired=count("target", Mode.AUTO) if handed else None,
        recommended=count("recommended", Mode.RECOMMEND),
        forecast_tokens_per_s=amount(_part(pool, "forecast"), "upperTokensPerSecond", 0.0),
        headroom_tokens_per_s=amount(pool, "headroomTokensPerSecond", -MOST),
        pressure=amount(pool, "pressure", 0.0),
        slo_headroom=amount(pool, "sloHeadroom", -MOST),
        handed=handed,
    )


def _part(thing: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = thing.get(name)
    return found if isinstance(found, Mapping) else {}


def _read(reader: Callable[[], T]) -> T | None:
    try:
        return reader()
    except Refused:
        return None
