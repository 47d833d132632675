"""What would a fleet's forecasts know, had we been there all along?

After a restart or a take-over there are no series, and a model needs two horizons to earn its word: twenty minutes where a
replica takes five to start. But Prometheus was there. So at the first look that sees a fleet's load its past is asked for,
and its series are rebuilt from it as ticks would have made them, promises, errors and elections included.

    how far back    `HORIZONS` of the longest horizon: one until the first promise falls due, one until enough of them have,
                    six for the 60 errors that bounds are made of; `LEAST_TICKS` at least (60 bins make the first ARIMA fit)
                    and two hours at most
    how finely      like its ticks, but in no more than `MOST_STEPS`: each costs 0.1 ms of CPU for every series and
                    horizon, 149 steps of a fleet 0.1 s

It is an errand without haste (`Pace.spare`), and computes only while no tick does. Until it comes home the fleet's series
grow by themselves, as they would without a past; then the rebuilt ones take their place. Those have seen the same ticks, but
for one that came between the answer and its use, which is a gap of one reading. A fleet whose own forecasts are proven before
its turn comes is not asked about. What cannot be read is told once, and the series stay as they are.

Nothing but series is rebuilt. What was not looked at was not seen: recommendations, and with them the stabilization before
anything shrinks, begin with the first tick (law 3).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from threading import Event

from autoscaler.core.attribution import attribute
from autoscaler.core.capacity import Shape
from autoscaler.core.decide import HITS, REQUESTS, Memory
from autoscaler.core.demand import SHAPE_FIELDS
from autoscaler.core.fleet import ROLE_FACTS, Role
from autoscaler.core.forecast import Series, rebuilt
from autoscaler.core.foreseen import ForecastLimits
from autoscaler.core.hits import share_of
from autoscaler.core.observation import Gap, Observation, Unknown
from autoscaler.core.sizing import Scene, aims_s, time_to_act
from autoscaler.core.startup import StartUps
from autoscaler.errands import attempt
from autoscaler.ports import FleetScope, Managed, Past, PastSource

log = logging.getLogger(__name__)

HORIZONS = 8.0
LEAST_TICKS, MOST_S = 120, 7200.0
MOST_STEPS = 240

Rebuilt = Mapping[str, Series]


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is wanted of one fleet's past: where to look, which horizons each series is for, and the request to begin with."""

    scope: FleetScope
    limits: ForecastLimits
    aims_s: Mapping[str, tuple[float, ...]]
    shape: Shape | None
    tick_s: float

    @property
    def span_s(self) -> float:
        """How far back."""
        longest_s = max((aim_s for aims_s in self.aims_s.values() for aim_s in aims_s), default=self.limits.horizon_s)
        return min(max(HORIZONS * longest_s, LEAST_TICKS * self.tick_s), MOST_S)

    @property
    def step_s(self) -> float:
        """How finely: a whole number of ticks."""
        return self.tick_s * max(1, math.ceil(self.span_s / MOST_STEPS / self.tick_s))


class Rebuilding:
    """The series of fleets that are new to this process, from their past; without a source there is none.

    `now` is called in the errand: a fleet that waits in line is rebuilt up to the moment of its turn.
    """

    def __init__(self, source: PastSource | None, now: Callable[[], float], executor: Executor) -> None:
        self._source, self._now, self._executor = source, now, executor
        self._asked: dict[str, str] = {}  # by fleet: of which object
        self._noted: list[tuple[PastSource, _Wish]] = []
        self._quiet = Event()
        self._wanted: dict[str, _Wish] = {}
        self._under_way: dict[str, Future[Rebuilt | Unknown]] = {}

    def pause(self) -> None:
        """A tick begins: nothing is computed until it has ended, but for the series that is in hand (20 ms)."""
        self._quiet.clear()

    def resume(self) -> None:
        """A tick has ended: now the pasts that were noted are asked for, and computing goes on."""
        self._quiet.set()
        for source, wish in self._noted:
            self._under_way[wish.scope.key] = self._executor.submit(self._rebuild, source, wish)
        self._noted.clear()

    def note(self, managed: Managed, observation: Observation, memory: Memory) -> None:
        """Note that the past of a fleet is wanted at the first look that has seen its load; later ones change nothing."""
        key = managed.key
        if self._source is None or REQUESTS not in memory.series or self._asked.get(key) == managed.uid:
            return
        self._asked[key] = managed.uid
        limits, shape = managed.policy.forecast, memory.shape or managed.policy.shape
        wish = _Wish(
            managed.scope(observation.fleet, observation.now), limits, _aims(managed, observation, memory), shape, managed.tick_s
        )
        self._wanted[key] = wish
        self._noted.append((self._source, wish))

    def merged(self, managed: Managed, memory: Memory) -> Memory:
        """The memory with the series that have come home since the last tick; ARIMA fits that it has stay."""
        errand = self._under_way.get(managed.key)
        if errand is None or self._asked.get(managed.key) != managed.uid:
            return memory
        if not errand.done():
            if _proven(memory, managed.policy.forecast):
                self._let_go(managed.key)
            return memory
        self._let_go(managed.key)
        found = errand.result()
        if isinstance(found, Unknown):
            log.warning("%s forecasts from now on: its past is unknown, %s: %s", managed.key, found.gap, found.detail)
            return memory
        return replace(memory, series={**memory.series, **{name: _fitted(past, memory, name) for name, past in found.items()}})

    def forget(self, key: str) -> None:
        """The fleet is managed no more; one of its name would be new."""
        self._let_go(key)
        self._asked.pop(key, None)

    def _let_go(self, key: str) -> None:
        """Nothing more is wanted of this fleet's past; its errand, if it is still in line, will ask nothing."""
        self._wanted.pop(key, None)
        self._under_way.pop(key, None)

    def _rebuild(self, source: PastSource, wish: _Wish) -> Rebuilt | Unknown:
        return attempt(
            "rebuilding the past", wish.scope.key, lambda: self._asking(source, wish), lambda why: Unknown(Gap.MALFORMED, why)
        )

    def _asking(self, source: PastSource, wish: _Wish) -> Rebuilt | Unknown:
        if self._wanted.get(wish.scope.key) is not wish:
            return {}
        past = source.past(wish.scope, self._now(), wish.span_s, wish.step_s)
        if isinstance(past, Unknown):
            return past
        series = {}
        for name, told in readings(past, wish.shape).items():
            self._quiet.wait()
            series[name] = rebuilt(told, wish.limits, wish.aims_s.get(name, ()))
        return {name: one for name, one in series.items() if one.lenses}


def readings(past: Past, shape: Shape | None) -> Mapping[str, list[tuple[float, float]]]:
    """(time, value) by name of series: what ticks would have made of these steps. A length that was not measured is the last
    one that was, the first of all `shape`'s; a cached share is a reading only where both its lengths were.
    """
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in (REQUESTS, HITS, *Role)}
    shared = zip(*(past.means[name] for name in ("prompt_tokens", "uncached_tokens")), strict=True)
    for at_s, arrived_rps, rejected_rps, request, prompt in zip(
        past.at_s, past.offered_rps, past.rejected_rps, _shapes(past, shape), shared, strict=True
    ):
        if request is not None and None not in prompt:
            told[HITS].append((at_s, share_of(request)))
        if arrived_rps is not None:
            told[REQUESTS].append((at_s, arrived_rps))
        if arrived_rps is not None and request is not None:
            for role in Role:
                work = getattr(request, ROLE_FACTS[role].work.value)
                told[role].append((at_s, (arrived_rps + (rejected_rps or 0.0)) * work))
    return told


def _shapes(past: Past, shape: Shape | None) -> Iterator[Shape | None]:
    """The mean request as it was known at each step; at least a token of each kind, as in core/demand.py."""
    known: dict[str, float] = {}
    for step in range(len(past.at_s)):
        measured = {name: told[step] for name, told in past.means.items()}
        known |= {name: max(1.0, tokens) for name, tokens in measured.items() if tokens is not None}
        if shape is not None:
            yield replace(shape, **known)
        else:
            yield Shape(**known) if len(known) == SHAPE_FIELDS else None


def _aims(managed: Managed, observation: Observation, memory: Memory) -> Mapping[str, tuple[float, ...]]:
    """The horizons that each role's series is looked through (core/sizing.py); the others go by the limits' one."""
    policy, ticking = managed.policy, Series(step_s=managed.tick_s)
    whose = attribute(observation, policy.slos, policy.freshness)
    scene, found = Scene(observation, policy, None, memory.shape, whose), {}
    for role in observation.fleet.pools:
        startups, arrivals = memory.startups.get(role, StartUps()), observation.signals.traffic.offered_rps
        act_s, soon_s = time_to_act(ticking, arrivals, startups, policy), scene.flip_s(role, managed.tick_s)
        found[role.value] = aims_s(act_s, soon_s)
    return found


def _proven(memory: Memory, limits: ForecastLimits) -> bool:
    lenses = [lens for series in memory.series.values() for lens in series.lenses]
    return bool(lenses) and all(lens.proven(limits) for lens in lenses)


def _fitted(past: Series, memory: Memory, name: str) -> Series:
    seen = memory.series.get(name)
    return past if seen is None else replace(past, fits=seen.fits)
