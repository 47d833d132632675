"""What must have been recorded of a fleet, so that its past can be played again?

A narrow door, owned by those who need it (rebuilt.py, backtest.py): whoever reads a metrics database fills it
(adapters/prometheus/history.py), and knows nothing of the simulator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Histogram


class Past(Protocol):
    """What was recorded of a fleet, one entry per step in every sequence; None: nobody knows."""

    @property
    def step_s(self) -> int:
        """Seconds of one step."""
        ...

    @property
    def offered_rps(self) -> Sequence[float | None]:
        """Requests per second that arrived."""
        ...

    @property
    def means(self) -> Mapping[str, Sequence[float | None]]:
        """Mean lengths, by the names of Shape's fields."""
        ...

    @property
    def spreads(self) -> Mapping[str, Sequence[Histogram | None]]:
        """The same lengths as histograms, where there are any."""
        ...

    @property
    def replicas(self) -> Mapping[Role, Sequence[int | None]]:
        """Replicas of each role that were seen."""
        ...

    @property
    def latencies(self) -> Mapping[str, Sequence[Histogram | None]]:
        """What users and engines saw, by the signal's name."""
        ...
