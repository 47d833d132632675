"""How many replicas does the operator want at this hour, whatever the load?

A calendar floor raises a pool's min for a part of the week: Monday at eight the offices open, and no forecast has seen it
yet this week. It only ever raises; what the load asks for beyond it is granted as always. Of several the highest holds.

Hours are UTC, for a core without a clock has no time zones either: 08:00 in Berlin is 07:00 in winter and 06:00 in summer,
and a floor that begins an hour early is the cheaper mistake. `now` is seconds since 1970-01-01, which was a Thursday, so
the week's first Monday began 4 days later: (now - 4 days) mod 7 days is the time since Monday 00:00.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
FIRST_MONDAY_S = 4 * DAY_S


@dataclass(frozen=True, slots=True)
class Floor:
    """At least `replicas`, from `from_s` on for `lasts_s`, counted from Monday 00:00 UTC; it may run over the week's end."""

    from_s: float
    lasts_s: float
    replicas: int

    def holds(self, now: float) -> bool:
        """Whether it does at `now`, seconds since 1970."""
        return (now - FIRST_MONDAY_S - self.from_s) % WEEK_S < self.lasts_s


def floor(floors: Iterable[Floor], now: float) -> int:
    """The highest that holds at `now`; 0 where none does."""
    return max((one.replicas for one in floors if one.holds(now)), default=0)
