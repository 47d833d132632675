"""What must outlive this process?

    {"format": 1, "memory": {"shape": {...}, "pools": {role: {"desired", "moves": [[at_s, delta], ...], "start_up_s": [...],
                                                              "speed": {"profile": [...], "factors": [...], "since_s"}}},
                             "flips": {"begun": [[at_s, from, to], ...], "doubled", "reversed_s"}}}

`record` makes this of a memory, the next leader's `resume` makes a memory of it. Whoever stores it may keep things of
their own beside "memory" (on a cluster the ledger's epoch and intents); what is not known here is not read.

Kept is what no look can bring back: moves, without which cooldowns and step limits would end with the process; the count
they led to, so that a write just before the end is noticed as a move; the request shape, for as long as none completes;
start-up times; the factors that a profile is corrected by, with the coefficients they multiply, since they are of no use
to another profile. Not kept is what has been *seen*: recommendations of a process that is gone are no sight, so nothing
shrinks before a whole new window (law 3), and a forecast earns its word anew.

It is small by construction: `MOST_MOVES` moves and a few samples a pool, `MOST_FLIPS` flips, every number within a range,
times to the millisecond. And it is quiet, since a changed record is a write to the API server: no time of looking is in it,
and the shape is told to two figures. That is 5 % off at worst, and only until a request completes.

A record that cannot be read is a `Finding`: it may be of a newer release, which wants it back as it is. Then the fleet
holds and the record stays. A time to come counts as now: clocks of two leaders differ, and the longer cooldown is safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from autoscaler.core.calibration import LEAST_FACTOR, MOST_FACTOR, Calibration, restored
from autoscaler.core.capacity import Shape
from autoscaler.core.decide import Memory
from autoscaler.core.factors import Triple
from autoscaler.core.fleet import Role
from autoscaler.core.flip import MOST_BACK_OFF, FlipTrack
from autoscaler.core.hysteresis import Track
from autoscaler.core.reading import MOST_REPLICAS, Refused, mapping, number, past, sequence, shown, whole
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.startup import LONGEST_S, StartUps, keep

FORMAT = 1
MOST_MOVES = 32
MOST_FLIPS = 8  # the newest: a cooldown goes by the last one, a reversal by those of a dwell time
MOST_TOKENS = 1e9
MEASURED = ("prompt_tokens", "uncached_tokens", "output_tokens")
MOST_COEFFICIENT_S = 60.0  # the most a policy may write

Move = tuple[float, int]


def record(memory: Memory) -> dict[str, Any]:
    """The durable part of a memory, as JSON."""
    kept: dict[str, Any] = {}
    shape = memory.shape and {name: _two_figures(getattr(memory.shape, name)) for name in MEASURED}
    if shape and all(1 <= tokens <= MOST_TOKENS for tokens in shape.values()):
        kept["shape"] = shape
    pools = {
        role.value: _pool(memory.tracks.get(role, Track()), memory.startups.get(role, StartUps()), memory.speeds.get(role))
        for role in Role
    }
    if told := {role: pool for role, pool in pools.items() if pool}:
        kept["pools"] = told
    if flips := _flips(memory.flips):
        kept["flips"] = flips
    return {"format": FORMAT, "memory": kept}


def resume(raw: object, now: float) -> Memory | Finding:
    """The memory to go on with at `now`: an empty one for None, and a Finding for anything but a record of format 1."""
    if raw is None:
        return Memory()
    try:
        return _memory(mapping(raw, "it"), now)
    except Refused as refused:
        text = f"the stored state cannot be used, {refused}; the fleet holds until it is mended or removed"
        return Finding(Stage.OBSERVE, Reason.STATE_UNREADABLE, text)


def _two_figures(tokens: float) -> float:
    return float(f"{tokens:.1e}")


def _pool(track: Track, startups: StartUps, speed: Calibration | None) -> dict[str, Any]:
    """What is kept of one pool; empty where there is nothing to keep."""
    moves = _folded((round(at_s, 3), delta) for at_s, delta in track.moves)
    samples = keep(tuple(round(took_s, 3) for took_s in startups.samples))
    told: dict[str, Any] = {"moves": [list(move) for move in moves], "start_up_s": list(samples), "speed": _speed(speed)}
    desired = {} if track.desired_last is None else {"desired": track.desired_last}
    return desired | {name: values for name, values in told.items() if values}


def _speed(speed: Calibration | None) -> dict[str, Any]:
    """Factors to three figures; empty while none are trusted."""
    if speed is None or speed.trusted is None:
        return {}
    factors = [float(f"{factor:.3g}") for factor in speed.trusted]
    return {"profile": list(speed.anchor), "factors": factors, "since_s": round(speed.since_s or 0.0)}


def _flips(track: FlipTrack) -> dict[str, Any]:
    """What is kept of flips; empty where there is nothing to keep."""
    newest = sorted((round(at_s, 3), of.value, to.value) for at_s, of, to in track.begun)[-MOST_FLIPS:]
    told: dict[str, Any] = {"begun": [list(one) for one in newest]} if newest else {}
    return told | ({"doubled": track.doubled, "reversed_s": round(track.reversed_s, 3)} if track.doubled else {})


def _folded(moves: Iterable[Move]) -> Sequence[Move]:
    """At most `MOST_MOVES` moves by time. The oldest become one up and one down, each as young as its youngest: no cooldown
    or step limit ends earlier for it.
    """
    by_time = sorted(moves)
    surplus = len(by_time) - MOST_MOVES
    if surplus <= 0:
        return by_time
    oldest, rest = by_time[: surplus + 2], by_time[surplus + 2 :]
    ups, downs = ([move for move in oldest if move[1] * sign > 0] for sign in (1, -1))
    return [*sorted(_sum(many) for many in (ups, downs) if many), *rest]


def _sum(moves: Sequence[Move]) -> Move:
    change = sum(delta for _, delta in moves)
    return moves[-1][0], max(-MOST_REPLICAS, min(change, MOST_REPLICAS))


def _memory(raw: Mapping[str, Any], now: float) -> Memory:
    told = whole(raw.get("format"), "format", 1, MOST_REPLICAS)
    if told > FORMAT:
        raise Refused(f"format: {told} is of a newer release, this one reads up to {FORMAT}")
    kept = mapping(raw.get("memory", {}), "memory")
    pools = mapping(kept.get("pools", {}), "memory.pools")
    found = {role: mapping(pools[role], f"memory.pools.{role}") for role in Role if role in pools}
    return Memory(
        shape=_shape(mapping(kept["shape"], "memory.shape")) if "shape" in kept else None,
        tracks={role: _track(pool, f"memory.pools.{role}", now) for role, pool in found.items()},
        startups={role: StartUps(_samples(pool, f"memory.pools.{role}")) for role, pool in found.items()},
        speeds={
            role: _calibration(pool["speed"], f"memory.pools.{role}.speed", now)
            for role, pool in found.items()
            if "speed" in pool
        },
        flips=_flip_track(mapping(kept.get("flips", {}), "memory.flips"), now),
    )


def _flip_track(raw: Mapping[str, Any], now: float) -> FlipTrack:
    """Flips begun and the back-off; one of a role that is not known here is none of this release's."""
    told = [_begun(one, now) for one in sequence(raw.get("begun", []), "memory.flips.begun")]
    begun = tuple((at_s, Role(of), Role(to)) for at_s, of, to in sorted(told) if {of, to} <= {*Role})[-MOST_FLIPS:]
    if "doubled" not in raw:
        return FlipTrack(begun=begun)
    doubled = whole(raw["doubled"], "memory.flips.doubled", 0, MOST_BACK_OFF)
    return FlipTrack(begun=begun, doubled=doubled, reversed_s=past(raw.get("reversed_s"), "memory.flips.reversed_s", now))


def _begun(raw: object, now: float) -> tuple[float, str, str]:
    where = "memory.flips.begun"
    one = sequence(raw, where)
    if len(one) != 3 or not isinstance(one[1], str) or not isinstance(one[2], str):
        raise Refused(f"{where}: {shown(raw)} is not [seconds, from, to]")
    return past(one[0], where, now), one[1], one[2]


def _shape(raw: Mapping[str, Any]) -> Shape:
    return Shape(*(number(raw.get(name), f"memory.shape.{name}", 1, MOST_TOKENS) for name in MEASURED))


def _track(raw: Mapping[str, Any], where: str, now: float) -> Track:
    """Moves and the last count; that it has been seen is for this process to find out. The count's change since then, if
    any, is a move of this moment.
    """
    desired = whole(raw["desired"], f"{where}.desired", 0, MOST_REPLICAS) if "desired" in raw else None
    moves = [_move(move, f"{where}.moves", now) for move in sequence(raw.get("moves", []), f"{where}.moves")]
    return Track(moves=tuple(_folded(moves)), looked_last_s=None if desired is None else now, desired_last=desired)


def _move(raw: object, where: str, now: float) -> Move:
    pair = sequence(raw, where)
    if len(pair) != 2:
        raise Refused(f"{where}: {shown(raw)} is not [seconds, change]")
    return past(pair[0], where, now), whole(pair[1], where, -MOST_REPLICAS, MOST_REPLICAS)


def _samples(raw: Mapping[str, Any], where: str) -> tuple[float, ...]:
    found: Iterable[object] = sequence(raw.get("start_up_s", []), f"{where}.start_up_s")
    return keep(tuple(number(took_s, f"{where}.start_up_s", 0.0, LONGEST_S) for took_s in found))


def _calibration(told: object, where: str, now: float) -> Calibration:
    raw = mapping(told, where)
    anchor = _triple(raw.get("profile"), f"{where}.profile", 0.0, MOST_COEFFICIENT_S)
    factors = _triple(raw.get("factors"), f"{where}.factors", LEAST_FACTOR, MOST_FACTOR)
    return restored(anchor, factors, past(raw.get("since_s"), f"{where}.since_s", now))


def _triple(raw: object, where: str, least: float, most: float) -> Triple:
    numbers = sequence(raw, where)
    if len(numbers) != 3:
        raise Refused(f"{where}: {len(numbers)} numbers, 3 are needed")
    first, second, third = (number(one, where, least, most) for one in numbers)
    return first, second, third
