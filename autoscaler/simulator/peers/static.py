"""What does a fleet cost that nobody sizes?

The counts one is given stay, whatever happens: what most operators run today, and the yardstick of every saving.

Headroom knob: the counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Observation
from autoscaler.simulator.peers import Wishes


@dataclass(frozen=True, slots=True)
class Static:
    """So many replicas of each role, always."""

    replicas: Mapping[Role, int]
    interval_s: float = 15.0

    def begin(self) -> None:
        """Nothing is remembered."""

    def step(self, observation: Observation, memory: None) -> tuple[Wishes, None]:
        """The same counts at every look."""
        return Wishes(self.replicas), None
