"""How does a whole run go, from the first request to its score, without a wall clock?

`VirtualRun` owns the fleet, its doors and its clock. The controller is any function that is called every `interval_s`
of virtual time; it sees the run through `clock`, `signals` and `cluster` only, as it would see a real fleet. At one
instant a scrape comes before a tick. The same scenario, requests and tick give the same run, to the last digit.

Seeing it live is the same run with `advance` called now and then with (seconds since start) x speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import SloKind
from autoscaler.simulator.cluster import SimulatedCluster
from autoscaler.simulator.early_rejection import EarlyRejection, Gate
from autoscaler.simulator.engine import Engine, FleetSpec
from autoscaler.simulator.front import Admit
from autoscaler.simulator.sampling import SampledSignals
from autoscaler.simulator.score import Score, ScoreKeeper
from autoscaler.simulator.workload import Request


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet, the promises it is judged by, how often it is scraped and how late that shows, how often the controller
    ticks, how long a flipped replica ought to keep its role, and who is turned away when it is full (None: nobody).
    """

    fleet: FleetSpec
    slos: Mapping[SloKind, Slo]
    scrape_s: float = 15.0
    interval_s: float = 15.0
    scrape_delay_s: float = 0.0
    dwell_s: float = 300.0
    rejection: EarlyRejection | None = None


class VirtualClock:
    """A `Clock` that shows an engine's time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def now(self) -> float:
        """Virtual seconds since the run began."""
        return self._engine.now


class VirtualRun:
    """One run. Set `tick` to the controller's tick (it is wired to this run's doors, so it comes after them).

    `keeper` keeps the score; `admit` and `proceed` decide on requests (engine.py) where the scenario does not.
    """

    def __init__(
        self, scenario: Scenario, requests: Iterable[Request], *, admit: Admit | None = None, proceed: Admit | None = None
    ) -> None:
        self.scenario = scenario
        self.keeper = ScoreKeeper(scenario.slos, scenario.fleet.start_up.median_s, scenario.dwell_s)
        gate = Gate(scenario.rejection) if scenario.rejection is not None else None
        if gate is not None:
            admit, proceed = gate.admit, gate.proceed
        self.engine = Engine(scenario.fleet, requests, self.keeper, admit=admit, proceed=proceed)
        if gate is not None:
            gate.engine = self.engine
        self.clock = VirtualClock(self.engine)
        self.signals = SampledSignals(self.engine, scenario.scrape_s, scenario.scrape_delay_s)
        self.cluster = SimulatedCluster(self.engine, self.keeper.acted)
        self.tick: Callable[[], object] = _nobody
        self._scrapes, self._ticks = 0, 1

    def advance(self, until_s: float) -> None:
        """Run to `until_s`, scraping and ticking on the way. Raises what the requests' source or the tick raises."""
        while True:
            scrape_at_s = self._scrapes * self.scenario.scrape_s
            tick_at_s = self._ticks * self.scenario.interval_s
            if min(scrape_at_s, tick_at_s) > until_s:
                break
            if scrape_at_s <= tick_at_s:
                self.engine.advance(scrape_at_s)
                self.signals.scrape()
                self._scrapes += 1
            else:
                self.engine.advance(tick_at_s)
                self._ticks += 1
                self.tick()
        self.engine.advance(until_s)

    def score(self) -> Score:
        """The figures so far."""
        return self.keeper.score(self.engine)


def _nobody() -> None:
    """No controller: the fleet stays as it is."""
