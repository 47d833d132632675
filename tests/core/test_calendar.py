"""Does a floor hold in its hours, and in no others?"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from autoscaler.core.calendar import DAY_S, Floor, floor

OFFICE = Floor(8 * 3600.0, 12 * 3600.0, 6)  # Monday 08:00 to 20:00
WEEKEND = Floor(6 * DAY_S + 22 * 3600.0, 4 * 3600.0, 3)  # Sunday 22:00 to Monday 02:00


@pytest.mark.parametrize(
    ("at", "replicas"),
    [
        ("2026-11-23T07:59:59", 0),
        ("2026-11-23T08:00:00", 6),
        ("2026-11-23T19:59:59", 6),
        ("2026-11-23T20:00:00", 0),
        ("2026-11-24T09:00:00", 0),
        ("2026-11-22T22:00:00", 3),
        ("2026-11-23T01:59:59", 3),
        ("2026-11-23T02:00:00", 0),
    ],
)
def test_a_floor_holds_in_its_hours_of_the_week(at: str, replicas: int) -> None:
    now = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
    assert floor((OFFICE, WEEKEND), now) == replicas


def test_of_several_the_highest_holds() -> None:
    now = datetime(2026, 11, 23, 9, tzinfo=UTC).timestamp()
    assert floor((OFFICE, Floor(0.0, DAY_S, 9), Floor(0.0, DAY_S, 2)), now) == 9
