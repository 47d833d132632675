"""How does a HorizontalPodAutoscaler brake what its metric recommends?

In the order of autoscaling/v2 `behavior` (reference/peers.md 3.1, read in kube-controller-manager):

    stabilization  up: the lowest recommendation of the up window; down: the highest of the down window
    policies       at most max(+pods, +percent) of the count at the period's start, which is current - added in the period
                   + removed in the period; the percent limit is rounded up going up and truncated going down

Going up by the default of +4 pods or +100 % per 15 s: 3 become at most max(3 + 4, 6) = 7, then 14, then 28. The product's
own damper (core/hysteresis.py) is another one: it waits for a whole window of sight first, and knows cooldowns.

An HPA knows one role. `each_by_itself` is one for every role of a fleet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.fleet import Pool, Role
from autoscaler.core.observation import Observation, Unknown
from autoscaler.simulator.peers import Wishes, hold

ROUNDING = 1e-9  # 3.0000000001 pods are 3


@dataclass(frozen=True, slots=True)
class Limit:
    """One direction: window in seconds, and the largest change per period: `pods` or `percent`, whichever is more."""

    window_s: float
    pods: int
    percent: float
    period_s: float


@dataclass(frozen=True, slots=True)
class Behavior:
    """Both directions; the defaults are those of Kubernetes."""

    up: Limit = field(default=Limit(0.0, 4, 100.0, 15.0))
    down: Limit = field(default=Limit(300.0, 0, 100.0, 15.0))


@dataclass(frozen=True, slots=True)
class Past:
    """What an HPA remembers, in memory only: recommendations and changes, as (time, count) and (time, delta)."""

    recommended: tuple[tuple[float, int], ...] = ()
    changed: tuple[tuple[float, int], ...] = ()


def behave(recommended: int, current: int, past: Past, behavior: Behavior, now: float) -> tuple[int, Past]:
    """The count to ask for at `now`, and the memory after. The first look seeds the window with what stands."""
    before = past.recommended or ((now, current),)
    longest_s = max(behavior.up.window_s, behavior.down.window_s)
    earlier = tuple((at, count) for at, count in before if now - at < longest_s)
    stable = _stabilized(recommended, current, earlier, behavior, now)
    wanted = _limited(stable, current, past.changed, behavior, now)
    period_s = max(behavior.up.period_s, behavior.down.period_s)
    changed = tuple((at, delta) for at, delta in past.changed if now - at < period_s)
    moved = ((now, wanted - current),) if wanted != current else ()
    return wanted, replace(past, recommended=(*earlier, (now, recommended)), changed=(*changed, *moved))


def each_by_itself(
    observation: Observation, memory: Mapping[Role, Past], behavior: Behavior, recommend: Callable[[Role, Pool], int]
) -> tuple[Wishes, Mapping[Role, Past]]:
    """Every role's count from what is recommended for it, and the memory after; all are kept where no metric can be read."""
    if isinstance(observation.signals.gauges, Unknown):
        return hold(observation.fleet), memory
    wanted, after = {}, {}
    for role, pool in observation.fleet.pools.items():
        past = memory.get(role, Past())
        wanted[role], after[role] = behave(recommend(role, pool), pool.desired, past, behavior, observation.now)
    return Wishes(wanted), after


def _stabilized(recommended: int, current: int, earlier: tuple[tuple[float, int], ...], behavior: Behavior, now: float) -> int:
    def over(window_s: float, extreme: Callable[[list[int]], int]) -> int:
        return extreme([recommended, *(count for at, count in earlier if now - at < window_s)])

    if recommended > current:
        return max(current, over(behavior.up.window_s, min))
    return min(current, over(behavior.down.window_s, max))


def _limited(wanted: int, current: int, changed: tuple[tuple[float, int], ...], behavior: Behavior, now: float) -> int:
    limit = behavior.up if wanted > current else behavior.down
    start = current - sum(delta for at, delta in changed if now - at < limit.period_s)
    if wanted > current:
        most = max(start + limit.pods, math.ceil(start * (1 + limit.percent / 100) - ROUNDING))
        return max(current, min(wanted, most))
    least = min(start - limit.pods, math.floor(start * (1 - limit.percent / 100) + ROUNDING))
    return min(current, max(wanted, least))
