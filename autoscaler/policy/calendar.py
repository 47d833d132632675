"""How does an operator write that a pool is larger at certain hours?

    floors:
      - {days: [Mon, Tue, Wed, Thu, Fri], start: "08:00", hours: 12, min: 6}

Hours are UTC (core/calendar.py tells why). A floor above the pool's max, or floors that together cost more than the GPU
budget, are refused where the other number is known: in sections.py and document.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from autoscaler.core.calendar import DAY_S, Floor
from autoscaler.policy.fields import ALLOWED, Section

HOUR_S = 3600.0


class Day(StrEnum):
    """A day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


Start = Annotated[str, Field(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", json_schema_extra={ALLOWED: '"00:00" to "23:59", UTC'})]


class FloorSpec(Section):
    """At certain hours of the week the pool has at least so many replicas."""

    days: list[Annotated[Day, Field(strict=False)]] = Field(default_factory=lambda: list(Day), max_length=7)
    """On which days it begins; every day if not given."""
    start: Start
    """When it begins, UTC."""
    hours: float = Field(ge=0.25, le=168.0)
    """For how many hours it holds; it may run into the next day."""
    min: int = Field(ge=1, le=1000)
    """The fewest replicas meanwhile."""

    def core(self) -> Iterator[Floor]:
        """One floor of the core for each day."""
        hour, minute = map(int, self.start.split(":"))
        for day in self.days:
            yield Floor(list(Day).index(day) * DAY_S + hour * HOUR_S + minute * 60.0, self.hours * HOUR_S, self.min)
