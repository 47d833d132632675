"""Do fits reach the series they were made for, and does every fleet have its turn?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from autoscaler.controller import Controller
from autoscaler.core.arima import LEAST_BINS, ArimaFit, FitTask
from autoscaler.core.decide import HITS, REQUESTS, Memory
from autoscaler.core.forecast import ForecastLimits, Series, rebuilt
from autoscaler.core.observation import Signals
from autoscaler.fitting import ASKED, Fitting
from autoscaler.ports import FleetScope, Managed
from tests.fakes import KEY, FakeClock, FakeFleet, FakeRoster, ScriptedSignals, fleet, policy, signals

FIT = ArimaFit(0.5, -0.3, 1.0, 15.0, 60, 900.0)


class ScriptedFitter:
    """Takes tasks while there is `room`, and gives `ready` once; or breaks."""

    def __init__(self, room: int = 1000, *, broken: bool = False) -> None:
        self.room, self.broken = room, broken
        self.tasks: list[FitTask] = []
        self.ready: list[tuple[str, ArimaFit]] = []

    def submit(self, task: FitTask) -> bool:
        if self.broken:
            raise RuntimeError("a bug")
        if len(self.tasks) < self.room:
            self.tasks.append(task)
            return True
        return False

    def fitted(self) -> Sequence[tuple[str, ArimaFit]]:
        if self.broken:
            raise RuntimeError("a bug")
        ready, self.ready = self.ready, []
        return ready


@pytest.fixture(scope="module")
def ripe() -> Series:
    """A series that is due for its first fit."""
    return rebuilt(((15.0 * step, 100.0 + step % 7) for step in range(LEAST_BINS + 2)), ForecastLimits())


def test_a_fit_goes_to_the_series_that_it_was_made_for_and_to_no_other(ripe: Series) -> None:
    fitter = ScriptedFitter()
    memories = {key: (key, Memory(series={HITS: ripe, REQUESTS: ripe})) for key in ("models/a", "models/b")}
    fitting = Fitting(fitter)
    fitting.give(memories)
    assert [task.key for task in fitter.tasks] == [f"models/{fleet} {name}" for fleet in "ab" for name in (HITS, REQUESTS)]
    fitter.ready = [(fitter.tasks[2].key, FIT)]
    fitting.take(memories)
    informed = [(key, name) for key, (_, memory) in memories.items() for name, one in memory.series.items() if one.fits]
    assert informed == [("models/b", HITS)]
    assert memories["models/b"][0] == "models/b", "it is still of the same object"
    assert memories["models/b"][1].series[HITS].fits == (FIT,)


def test_a_fit_for_a_fleet_that_is_gone_is_let_go(ripe: Series) -> None:
    fitter = ScriptedFitter()
    memories = {"models/a": ("", Memory(series={REQUESTS: ripe}))}
    fitter.ready = [("models/gone requests", FIT), ("models/a gone", FIT)]
    Fitting(fitter).take(memories)
    assert memories == {"models/a": ("", Memory(series={REQUESTS: ripe}))}


def test_every_fleet_has_its_turn_though_there_is_never_room_for_all(ripe: Series) -> None:
    fitter = ScriptedFitter()
    memories = {f"models/{number}": ("", Memory(series={REQUESTS: ripe})) for number in range(3 * ASKED + 5)}
    fitting = Fitting(fitter)
    for _ in range(4):
        fitting.give(memories)
    assert {task.key.partition(" ")[0] for task in fitter.tasks} == memories.keys()
    assert len(fitter.tasks) == 4 * ASKED


def test_a_fitter_that_breaks_and_one_that_is_not_there_change_nothing(ripe: Series, caplog: pytest.LogCaptureFixture) -> None:
    memories = {"models/a": ("", Memory(series={REQUESTS: ripe}))}
    for fitting in (Fitting(ScriptedFitter(broken=True)), Fitting(None)):
        fitting.take(memories)
        fitting.give(memories)
        fitting.give({})
    assert memories == {"models/a": ("", Memory(series={REQUESTS: ripe}))}
    assert [record.message for record in caplog.records] == ["taking fits failed", "asking for fits failed"]


def test_a_tick_takes_fits_in_before_it_decides_and_asks_for_others_after(ripe: Series) -> None:
    order: list[str] = []

    class Watched(ScriptedFitter):
        def submit(self, task: FitTask) -> bool:
            order.append("asked")
            return super().submit(task)

        def fitted(self) -> Sequence[tuple[str, ArimaFit]]:
            order.append("taken")
            return super().fitted()

    class Watching(ScriptedSignals):
        def read(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
            order.append("decided")
            return super().read(scopes, now)

    fitter, now = Watched(), ripe.at_s + 15.0
    seen = fleet()
    doors = FakeClock(now), Watching({KEY: signals(seen, 22.0)}), FakeFleet(seen)
    controller = Controller(FakeRoster([Managed(KEY, "models", "chat", policy())]), *doors, fitter=fitter)
    controller._memory[KEY] = "", Memory(series={REQUESTS: ripe, HITS: ripe})
    fitter.ready = [(f"{KEY} {REQUESTS}", FIT)]
    controller.tick()
    assert order == ["taken", "decided", "asked"]
    assert [task.key for task in fitter.tasks] == [f"{KEY} {HITS}"], "the other one has just been fitted"
    assert controller._memory[KEY][1].series[REQUESTS].fits == (FIT,)
