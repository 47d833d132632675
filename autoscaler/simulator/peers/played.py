"""What was seen of a fleet while a run was played?

A run to its end, and beside it how many replicas stood there at the end of each step: what a timeline is drawn from. The
searched references keep it of their best run, so that this need not be played once more to be shown.

At the end some requests are on their way still. So that each of the offered ones is either met or missed, the fleet then plays
on as it is, unsteered and without new arrivals, until the last of them has ended or is too late (score.py `open`). What that
time costs, and what it adds in seconds, counts for nobody.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.fleet import Role
from autoscaler.simulator.run import VirtualRun
from autoscaler.simulator.score import Score

OVERTIME_STEP_S = 10.0  # how often it is asked whether all have ended


@dataclass(slots=True)
class Played:
    """`run` is played until `until_s` and looked at every `step_s`. By role and step: replicas that serve, and those that start
    or drain.
    """

    run: VirtualRun
    until_s: float
    step_s: float
    serving: Mapping[Role, list[int]] = field(init=False)
    moving: Mapping[Role, list[int]] = field(init=False)
    _steps: int = 0
    _final: Score | None = None

    def __post_init__(self) -> None:
        self.serving = {role: [] for role in self.run.engine.pools}
        self.moving = {role: [] for role in self.run.engine.pools}

    def advance(self, to_s: float) -> None:
        """Play on to this time, or to the end if that is sooner."""
        while self._steps < math.ceil(self.until_s / self.step_s):
            look_s = min((self._steps + 1) * self.step_s, self.until_s)
            if look_s > to_s:
                break
            self.run.advance(look_s)
            self._steps += 1
            for role, pool in self.run.engine.fleet().pools.items():
                self.serving[role].append(pool.serving)
                self.moving[role].append(pool.held - pool.serving)
        self.run.advance(min(to_s, self.until_s))

    def score(self) -> Score:
        """The figures so far; at the end, of all that were offered."""
        if self.run.engine.now < self.until_s:
            return self.run.score()
        if self._final is None:
            self._final = self._overtime(self.run.score())
        return self._final

    def _overtime(self, at_end: Score) -> Score:
        score = at_end
        self.run.engine.close()
        while score.open:
            self.run.engine.advance(self.run.engine.now + OVERTIME_STEP_S)
            score = self.run.score()
        goodput_rps = score.met / at_end.duration_s if at_end.duration_s else 0.0
        return replace(score, duration_s=at_end.duration_s, goodput_rps=goodput_rps, gpu_hours=at_end.gpu_hours)
