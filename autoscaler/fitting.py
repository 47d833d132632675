"""Who gets a new ARIMA fit, and when is it in?

Fits are made somewhere else (the `Fitter`) and come back when they are done. A tick takes in those that have come before
it decides, and hands out what is overdue once everybody is served. Nothing ever waits for a fit, and a series without one
forecasts by its other candidates.

There is room for a few tasks only, so fleets are asked in turn, `ASKED` at each tick and the next ones at the next: were it
always the first ones, the last of a thousand would never have one. Asking 64 whose tasks are all refused takes 2 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from functools import partial

from autoscaler.core.arima import ArimaFit
from autoscaler.core.decide import Memory
from autoscaler.core.forecast import informed, overdue
from autoscaler.errands import attempt
from autoscaler.ports import Fitter

ASKED = 64

Memories = Mapping[str, tuple[str, Memory]]  # by fleet: of which object, and what is remembered


class Fitting:
    """The traffic with a `Fitter`; without one there is none."""

    def __init__(self, fitter: Fitter | None) -> None:
        self._fitter, self._turn = fitter, 0

    def take(self, memories: MutableMapping[str, tuple[str, Memory]]) -> None:
        """Put the fits that have come into the memories of their fleets; those of fleets that are gone are let go."""
        if self._fitter is not None:
            for key, fit in attempt("taking fits", "", self._fitter.fitted, lambda _: ()):
                fleet, _, name = key.rpartition(" ")
                uid, memory = memories.get(fleet, ("", Memory()))
                if name in memory.series:
                    memories[fleet] = uid, _with(memory, name, fit)

    def give(self, memories: Memories) -> None:
        """Hand out what is overdue in the fleets whose turn it is."""
        if self._fitter is None or not memories:
            return
        fleets, first = list(memories), self._turn % len(memories)
        asked = (fleets[first:] + fleets[:first])[:ASKED]
        self._turn = first + len(asked)
        for fleet in asked:
            _, memory = memories[fleet]
            attempt("asking for fits", fleet, partial(_ask, self._fitter, fleet, memory), lambda _: None)


def _ask(fitter: Fitter, fleet: str, memory: Memory) -> None:
    for name, series in memory.series.items():
        for task in overdue(series, f"{fleet} {name}"):
            fitter.submit(task)


def _with(memory: Memory, name: str, fit: ArimaFit) -> Memory:
    return replace(memory, series={**memory.series, name: informed(memory.series[name], fit)})
