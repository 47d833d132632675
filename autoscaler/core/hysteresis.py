"""How is a raw demand damped into a target that does not flap?

Five brakes, applied in this order; each names itself when it holds something back:

1. tolerance            |demand / desired - 1| inside the band keeps what is asked for. Demand 2.1 at desired 2 and a
                        band of 10 % is 2; demand 2.3 is 3.
2. stabilization window going down, the highest recommendation of the window wins; going up, the lowest (HPA).
3. first window         after a restart, or after a stretch without full sight, nothing shrinks until one whole
                        stabilization window has been seen without a gap (law 3). What is partly seen is no sight
                        here: its recommendations are lower bounds, and a window of those protects nobody.
4. backlog              while one is worked off nothing shrinks: the last of it is served by the replicas it asked for.
5. cooldown and steps   a minimum time since the pool's last move, and a largest change per period, whichever of
                        `replicas` and `percent` allows more (HPA's selectPolicy Max).

What a pool was given, by growth or by a flip, it keeps for one stabilization window: the window holds what was recommended
of the pool as it was then, and would give away at once what a flip has just brought.

A move is what is seen to have changed in `desired` since the last look, whoever changed it. That keeps the memory
true when a write fails or a human scales by hand, and it counts nothing in Recommend mode. What lies in the
future, because the clock stepped back, is forgotten.

A panic (core/demand.py) waits for no window and no cooldown going up. There is none going down: a load that is gone may be
back, a metric that is gone is none.

Growth compares against `desired`, which includes replicas still starting: they are credited, and nothing freezes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from autoscaler.core.demand import Demand
from autoscaler.core.reason import Reason

ROUNDING = 1e-9  # 3.0000000001 replicas are 3
BACKLOG = 0.25  # replicas that only the backlog asks for: of 120 s to drain it, half a minute's work of one


@dataclass(frozen=True, slots=True)
class Step:
    """The largest change in `period_s` seconds: `replicas`, or `percent` of the pool at the period's start, if more."""

    replicas: int
    percent: float
    period_s: float


@dataclass(frozen=True, slots=True)
class Brakes:
    """The brakes of one direction."""

    tolerance: float
    stabilization_s: float
    cooldown_s: float
    step: Step


@dataclass(frozen=True, slots=True)
class Damping:
    """Both directions, and how long without sight makes the window start anew."""

    up: Brakes = Brakes(0.1, 0.0, 0.0, Step(4, 100.0, 15.0))
    down: Brakes = Brakes(0.05, 300.0, 60.0, Step(1, 10.0, 60.0))
    gap_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Track:
    """What the damper remembers of one pool: recommendations and moves as (time, count), since when it has seen in full
    without a gap, when it last did, and what it found at the last look, seeing or blind.
    """

    recommendations: tuple[tuple[float, int], ...] = ()
    moves: tuple[tuple[float, int], ...] = ()
    seen_since_s: float | None = None
    seen_last_s: float | None = None
    looked_last_s: float | None = None
    desired_last: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Replicas to aim for, the damper's reason, and what was recommended before damping."""

    replicas: int
    reason: Reason
    recommended: int


def damp(demand: Demand, desired: int, track: Track, limits: Damping, now: float) -> tuple[Target, Track]:
    """One pool's target and the track after this look. `desired` is what is asked for at present."""
    recommended = recommend(demand, desired, limits)
    track = _remember(watch(desired, track, limits, now), demand, recommended, limits, now)
    target, reason = desired, Reason.WITHIN_TOLERANCE
    if recommended > desired:
        target, reason = _grow(demand, desired, track, limits.up, now)
    elif recommended < desired:
        target, reason = _shrink(demand, desired, track, limits.down, now)
    return Target(target, reason, recommended), track


def watch(desired: int, track: Track, limits: Damping, now: float) -> Track:
    """The track of a pool whose demand is not known at this look: moves are still noticed, sight is not extended."""
    return replace(track, moves=_moves(track, desired, limits, now), looked_last_s=now, desired_last=desired)


def recommend(demand: Demand, desired: int, limits: Damping) -> int:
    """Whole replicas for a demand, or `desired` inside the tolerance. Up by what is needed, down only to the most that is
    needed until a replica that goes could be back.
    """
    if demand.replicas > desired * (1 + limits.up.tolerance):
        return max(_whole(demand.replicas, limits.up.tolerance), desired)
    if demand.most < desired * (1 - limits.down.tolerance):
        return min(_whole(demand.most, limits.up.tolerance), desired)
    return desired


def _whole(replicas: float, tolerance: float) -> int:
    """What is over by less than half of what growth tolerates is no replica: a pool of 6 that needs 6.2 is left at 6, so one
    of 8 is not stopped at 7. Never less than 1 for what needs any.
    """
    return max(math.ceil(replicas / (1 + tolerance / 2) - ROUNDING), 1 if replicas > ROUNDING else 0)


def _remember(track: Track, demand: Demand, recommended: int, limits: Damping, now: float) -> Track:
    window_s = max(limits.up.stabilization_s, limits.down.stabilization_s)
    kept = tuple((at, count) for at, count in track.recommendations if 0 <= now - at <= window_s)
    since_s, last_s = track.seen_since_s, track.seen_last_s
    if demand.partial is None:
        blind = last_s is None or not 0 <= now - last_s <= limits.gap_s
        since_s, last_s = now if blind else since_s, now
    return replace(track, recommendations=(*kept, (now, recommended)), seen_since_s=since_s, seen_last_s=last_s)


def _moves(track: Track, desired: int, limits: Damping, now: float) -> tuple[tuple[float, int], ...]:
    """Moves young enough to matter. A change is dated to the last look: it happened right after it."""
    memory_s = max(max(b.cooldown_s, b.step.period_s, b.stabilization_s) for b in (limits.up, limits.down))
    moves = tuple((at, delta) for at, delta in track.moves if 0 <= now - at <= memory_s)
    if track.desired_last is None or track.looked_last_s is None or track.desired_last == desired:
        return moves
    return (*moves, (min(track.looked_last_s, now), desired - track.desired_last))


def _grow(demand: Demand, desired: int, track: Track, brakes: Brakes, now: float) -> tuple[int, Reason]:
    """In a panic neither window nor cooldown is waited for; the step still limits how much is asked for at once."""
    stable = max(desired, _whole(demand.replicas, brakes.tolerance) if demand.panic else _over_window(track, brakes, now, min))
    if stable <= desired:
        return desired, Reason.SCALE_UP_STABILIZED
    if not demand.panic and any(delta > 0 and now - at < brakes.cooldown_s for at, delta in track.moves):
        return desired, Reason.COOLDOWN
    start = desired - sum(_in_period(track, brakes, now))
    most = max(start + brakes.step.replicas, math.ceil(start * (1 + brakes.step.percent / 100) - ROUNDING), desired)
    return (stable, Reason.DEMAND_ROSE) if stable <= most else (most, Reason.STEP_LIMITED)


def _shrink(demand: Demand, desired: int, track: Track, brakes: Brakes, now: float) -> tuple[int, Reason]:
    if demand.partial is not None:
        return desired, Reason.KNOWN_PART_ONLY
    if demand.backlog >= BACKLOG:
        return desired, Reason.BACKLOG
    stable = min(desired, _over_window(track, brakes, now, max))
    if stable >= desired:
        return desired, Reason.SCALE_DOWN_STABILIZED
    if track.seen_since_s is None or now - track.seen_since_s < brakes.stabilization_s:
        return desired, Reason.FIRST_WINDOW
    rests_s = {True: max(brakes.cooldown_s, brakes.stabilization_s), False: brakes.cooldown_s}
    if any(now - at < rests_s[delta > 0] for at, delta in track.moves):
        return desired, Reason.COOLDOWN
    start = desired - sum(min(0, delta) for delta in _in_period(track, brakes, now))
    least = min(start - brakes.step.replicas, math.floor(start * (1 - brakes.step.percent / 100) + ROUNDING), desired)
    return (stable, Reason.DEMAND_FELL) if stable >= least else (least, Reason.STEP_LIMITED)


def _over_window(track: Track, brakes: Brakes, now: float, extreme: Callable[[list[int]], int]) -> int:
    """The extreme recommendation of the window; the newest one is always inside it."""
    return extreme([count for at, count in track.recommendations if now - at <= brakes.stabilization_s])


def _in_period(track: Track, brakes: Brakes, now: float) -> list[int]:
    return [delta for at, delta in track.moves if now - at < brakes.step.period_s]
