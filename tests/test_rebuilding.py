"""Do the forecasts of a fleet that is new to this process begin with its past, and nothing else of it?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from threading import Event
from typing import Any

import pytest

from autoscaler.controller import Controller
from autoscaler.core.capacity import Shape
from autoscaler.core.decide import HITS, REQUESTS, Memory
from autoscaler.core.fleet import FlipWay, Role
from autoscaler.core.forecast import forecast
from autoscaler.core.hysteresis import Damping
from autoscaler.core.observation import Gap, Signals, Unknown
from autoscaler.core.reason import Reason
from autoscaler.errands import AtOnce, Daemons, Pace
from autoscaler.ports import FleetScope, Managed, Past
from autoscaler.rebuilding import LEAST_TICKS, MOST_STEPS, readings
from tests.fakes import GONE, SHAPE, FakeClock, FakeFleet, FakeRoster, ScriptedSignals, fleet, policy, pool, signals

A = "models/a"
BEGAN_S = 100_000.0


class ScriptedPast:
    """A load that swings around 22 requests/s, of which the last `steps` are known, enough for proof; or `trouble` in its place.
    `asked` is what was asked for.
    """

    def __init__(self, trouble: Unknown | Exception | None = None, *, steps: int = 48) -> None:
        self.trouble, self.steps = trouble, steps
        self.asked: list[tuple[str, float, float, float]] = []

    def past(self, scope: FleetScope, until_s: float, span_s: float, step_s: float) -> Past | Unknown:
        self.asked.append((scope.key, until_s, span_s, step_s))
        if isinstance(self.trouble, Exception):
            raise self.trouble
        if self.trouble is not None:
            return self.trouble
        at_s = [until_s - span_s + step * step_s for step in range(1, round(span_s / step_s) + 1)][-self.steps :]
        rps = [22.0 * (1 + 0.1 * math.sin(one / 600)) for one in at_s]
        names = ("prompt_tokens", "uncached_tokens", "output_tokens")
        return Past(at_s, rps, [None] * len(at_s), {name: [getattr(SHAPE, name)] * len(at_s) for name in names})


class Later(Executor):
    """Does what it was given when it is told to."""

    def __init__(self) -> None:
        self.line: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.line.append(lambda: future.set_result(fn(*args, **kwargs)))
        return future


class Stage:
    """A controller that has just begun, over one fleet of 2 and 2 that carries 22 requests/s with 5 and 5."""

    def __init__(self, past: ScriptedPast, spare: Executor | None = None, *, size: int = 2, tick_s: float = 15.0) -> None:
        self.clock, self.past, self.tick_s = FakeClock(BEGAN_S), past, tick_s
        start = fleet(pool(Role.PREFILL, size), pool(Role.DECODE, size), key=A)
        self.cluster, self.signals = FakeFleet(start), ScriptedSignals()
        self.managed = Managed(A, "models", "a", policy(), tick_s=tick_s, uid="1")
        self.roster = FakeRoster([self.managed])
        pace = Pace(spare=spare or AtOnce())
        self.controller = Controller(self.roster, self.clock, self.signals, self.cluster, pace=pace, past=past)

    def tick(self, rps: float | Unknown = 22.0) -> None:
        """One tick, at which the fleet sees this load."""
        self.clock.at += self.tick_s
        self.signals.script = {A: signals(self.cluster.fleets[A], rps)}
        self.controller.tick()

    @property
    def memory(self) -> Memory:
        return self.controller._memory[A][1]

    def proven(self) -> set[str]:
        """The series whose forecast is earned."""
        limits = self.managed.policy.forecast
        told = {name: forecast(one, self.clock.at, limits) for name, one in self.memory.series.items()}
        return {name for name, one in told.items() if one is not None and one.reason is Reason.MODEL_EARNED}


def test_all_forecasts_are_proven_at_the_second_tick_after_a_restart() -> None:
    stage = Stage(ScriptedPast())
    stage.tick()
    assert stage.proven() == set()
    stage.tick()
    assert stage.proven() == {REQUESTS, HITS, *Role}
    assert len(stage.memory.series[Role.DECODE].lenses) == 2, "the horizons that a tick asks for are those it was rebuilt for"


def test_a_past_is_asked_for_once_however_many_ticks_follow_and_again_for_another_object() -> None:
    stage = Stage(ScriptedPast(steps=3))
    for _ in range(3):
        stage.tick()
    assert [key for key, *_ in stage.past.asked] == [A]
    stage.roster.entries[:] = [replace(stage.managed, uid="2")]
    stage.tick()
    assert len(stage.past.asked) == 2
    stage.roster.entries.clear()
    stage.tick()
    stage.roster.entries.append(stage.managed)
    stage.tick()
    assert len(stage.past.asked) == 3


def test_nobody_is_asked_before_a_load_is_seen() -> None:
    """A Prometheus that is away has no past to tell; when it is back it has."""
    stage = Stage(ScriptedPast())
    stage.tick(GONE)
    assert stage.past.asked == []
    stage.tick()
    stage.tick()
    assert REQUESTS in stage.proven()


@pytest.mark.parametrize("tick_s", [1.0, 4.0, 15.0, 60.0, 600.0])
def test_a_past_is_long_enough_for_proof_and_no_longer_than_can_be_paid_for(tick_s: float) -> None:
    stage = Stage(ScriptedPast(steps=3), tick_s=tick_s)
    stage.tick()
    ((_, until_s, span_s, step_s),) = stage.past.asked
    assert until_s == stage.clock.at
    assert min(7200.0, max(LEAST_TICKS * tick_s, 8 * 2 * stage.managed.policy.forecast.horizon_s)) <= span_s <= 7200
    assert step_s % tick_s == 0
    assert span_s / step_s <= MOST_STEPS


def test_the_horizons_of_a_flip_are_rebuilt_too() -> None:
    """Whatever a tick looks through has a past (core/sizing.py `size` has the last word on what that is)."""
    stage = Stage(ScriptedPast())
    ways = {(Role.PREFILL, Role.DECODE): FlipWay("label", 30.0, 1, 1, in_place=True, loses_cache=True)}
    stage.cluster.fleets[A] = replace(stage.cluster.fleets[A], flip_ways=ways)
    stage.tick()
    stage.tick()
    lenses = {role: stage.memory.series[role].lenses for role in Role}
    assert len(lenses[Role.DECODE]) > len(lenses[Role.PREFILL]) == 2
    assert all(lens.proven(stage.managed.policy.forecast) for role in Role for lens in lenses[role])


def test_ticks_do_not_wait_for_a_past_and_it_takes_its_place_when_it_comes() -> None:
    later = Later()
    stage = Stage(ScriptedPast(), later)
    for _ in range(4):
        stage.tick()
    assert stage.past.asked == []
    assert stage.proven() == set()
    later.line.pop()()
    assert stage.past.asked[0][1] == stage.clock.at, "up to the moment of its turn"
    stage.tick()
    assert stage.proven() == {REQUESTS, HITS, *Role}


def test_nothing_is_computed_while_a_tick_is_under_way() -> None:
    """It has hands of its own and has its answer, and yet it waits for the tick's end."""
    ticking, came = Event(), Event()

    class Slow(ScriptedSignals):
        def read(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
            ticking.set()
            assert came.wait(30)
            (errand,) = stage.controller._rebuilding._under_way.values()
            with pytest.raises(TimeoutError):
                errand.result(timeout=0.05)
            return super().read(scopes, now)

    class Watched(ScriptedPast):
        def past(self, *asked: Any) -> Past | Unknown:
            assert ticking.wait(30)
            came.set()
            return super().past(*asked)

    stage = Stage(Watched(steps=3), Daemons(1))
    stage.tick()
    stage.controller._signals = stage.signals = Slow()
    stage.tick()
    (errand,) = stage.controller._rebuilding._under_way.values()
    assert isinstance(rebuilt := errand.result(timeout=30), Mapping)
    assert REQUESTS in rebuilt


def test_a_fleet_that_has_proven_itself_before_its_turn_is_not_asked_about() -> None:
    later = Later()
    stage = Stage(ScriptedPast(), later)
    for _ in range(60):
        stage.tick()
    before = stage.memory.series
    later.line.pop()()
    assert stage.past.asked == []
    stage.tick()
    assert all(stage.memory.series[name].lenses[0].scored >= one.lenses[0].scored for name, one in before.items())


def test_nothing_is_asked_about_a_fleet_that_is_gone_when_its_turn_comes() -> None:
    later = Later()
    stage = Stage(ScriptedPast(), later)
    stage.tick()
    stage.roster.entries.clear()
    stage.tick()
    later.line.pop()()
    assert stage.past.asked == []


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        pytest.param(Unknown(Gap.TIMEOUT, "no whole answer"), "its past is unknown, timeout: no whole answer", id="a fault"),
        pytest.param(RuntimeError("a bug"), "its past is unknown, malformed: RuntimeError: a bug", id="a bug"),
    ],
)
def test_a_past_that_cannot_be_read_is_told_once_and_forecasts_begin_empty(
    trouble: Unknown | Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(ScriptedPast(trouble))
    for _ in range(4):
        stage.tick()
    assert len(stage.past.asked) == 1
    assert [told in record.getMessage() for record in caplog.records if record.name == "autoscaler.rebuilding"] == [True]
    assert stage.memory.series[REQUESTS].lenses[0].scored < 4
    assert stage.proven() == set()


def test_a_rebuilt_past_is_no_sight_so_nothing_shrinks_earlier() -> None:
    """Law 3. The whole past says that 5 and 5 are enough where 9 and 9 are."""
    moved_at = []
    for past in (ScriptedPast(), ScriptedPast(Unknown(Gap.MISSING))):
        stage = Stage(past, size=9)
        while not stage.cluster.applied:
            assert stage.clock.at < BEGAN_S + 3600
            stage.tick()
        moved_at.append(stage.clock.at)
    assert moved_at[0] >= moved_at[1]
    assert moved_at[0] - BEGAN_S > stage.managed.policy.damping.get(Role.PREFILL, Damping()).down.stabilization_s


def past(rps: list[float | None], **means: list[float | None]) -> Past:
    at_s = [15.0 * (step + 1) for step in range(len(rps))]
    return Past(at_s, rps, [None] * len(rps), means)


def test_readings_are_what_ticks_would_have_made_of_the_same() -> None:
    """Of 1,000 tokens 400 are cached; a request that was turned away is work too, but did not arrive; a length that nobody
    told is the last one told, but no news of a cached share.
    """
    told = past(
        [2.0, None, 4.0], prompt_tokens=[1000.0] * 3, uncached_tokens=[600.0, 500.0, None], output_tokens=[None, 100.0, 0.0]
    )
    told = replace(told, rejected_rps=[1.0, None, None])
    found = readings(told, replace(SHAPE, output_tokens=50.0))
    assert found[REQUESTS] == [(15.0, 2.0), (45.0, 4.0)]
    assert found[Role.PREFILL] == [(15.0, 3.0 * 600), (45.0, 4.0 * 500)]
    assert found[Role.DECODE] == [(15.0, 3.0 * 50), (45.0, 4.0 * 1)]
    assert found[HITS] == [(15.0, pytest.approx(0.4)), (30.0, 0.5)]


@pytest.mark.parametrize("shape", [None, Shape(1000.0, 500.0, 100.0)])
def test_work_is_unknown_until_a_whole_request_is_known(shape: Shape | None) -> None:
    found = readings(
        past([2.0, 2.0], prompt_tokens=[None, 1000.0], uncached_tokens=[1000.0] * 2, output_tokens=[10.0] * 2), shape
    )
    assert len(found[REQUESTS]) == 2
    assert [len(found[role]) for role in Role] == [2 if shape else 1] * 2
