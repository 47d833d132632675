"""How did it go?

A `Result` is one contender's run in one case, told so that many can be compared: what it reached and what it cost, how it got
over shifts, where its replicas were when. What could not be played is a result too, with a note that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autoscaler.core.fleet import Role
from autoscaler.simulator.contenders import ORACLE, Contender, Job
from autoscaler.simulator.moves import Move, reversals
from autoscaler.simulator.score import Score
from autoscaler.simulator.shifts import Recovery


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was asked and what stood there, by the end of each step, `step_s` apart: requests per second since the step before,
    serving replicas, and the other replicas held (they start or drain).
    """

    step_s: float
    offered_rps: tuple[float, ...]
    serving: Mapping[Role, tuple[int, ...]]
    moving: Mapping[Role, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Result:
    """How it went. `score` is None where nothing was played: of the lower bound, and of what could not be found, which has no
    `gpu_hours` either. `note` is for people. `lost`: it was to be played and came to nothing, by a fault that is not the
    user's. `infeasible`: why no number of replicas keeps the case's promises, where that is so; `reachable`: the most that any
    fleet could attain, where it was counted (reach.py).
    """

    scenario: str
    contender: Contender
    gpu_hours: float | None
    score: Score | None = None
    recovery: Recovery | None = None
    timeline: Timeline | None = None
    moves: tuple[Move, ...] = ()
    hasty_s: tuple[float, float] = (0.0, 0.0)  # within what time a scaling, a flip back is a reversal
    note: str = ""
    lost: bool = False
    infeasible: str = ""
    reachable: float | None = None

    @property
    def attainment(self) -> float | None:
        """The share of the offered requests that was met; None where nothing was played or decided."""
        return self.score.attainment if self.score else None

    def reaches(self, attainment: float) -> bool:
        """Whether this share of the offered requests was met; the lower bound stands with those that do."""
        return self.gpu_hours is not None and (self.score is None or (self.score.attainment or 0.0) >= attainment)


def gone(job: Job, why: str) -> Result:
    """A run that came to nothing."""
    return Result(job.case.name, job.contender, None, note=why, lost=True)


def elsewhere(result: Result, job: Job) -> Result:
    """The same run told of another start-up time, by somebody for whom that makes no difference."""
    hasty_s = 2 * job.case.scenario.fleet.start_up.median_s, result.hasty_s[1]
    return _counted(replace(result, scenario=job.case.name, hasty_s=hasty_s), ())


def settled(results: Sequence[Result]) -> list[Result]:
    """The same, without the reversals that the oracle of the same case makes too, where it played."""
    paths = {result.scenario: result.moves for result in results if result.contender.name == ORACLE}
    return [_counted(result, paths[result.scenario]) if result.scenario in paths else result for result in results]


def _counted(result: Result, path: Sequence[Move]) -> Result:
    """With its reversals counted anew, but for the moves on this path."""
    if result.score is None:
        return result
    return replace(result, score=replace(result.score, reversals=len(reversals(result.moves, *result.hasty_s, path))))
