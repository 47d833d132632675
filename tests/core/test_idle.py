"""Does a fleet sleep only when nobody is seen to want it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.idle import idle_since, may_sleep
from autoscaler.core.observation import Freshness, Known, Observation, Signals
from tests.fakes import GONE, fleet, pool, signals

UP = fleet(pool(Role.PREFILL, 2), pool(Role.DECODE, 2))
ASLEEP = fleet(pool(Role.PREFILL, 0), pool(Role.DECODE, 0))
FRESH = Freshness()


def seen(now: float, told: Signals, stands: Fleet = UP) -> Observation:
    return Observation(now, stands, told)


def test_idleness_lasts_from_its_first_look() -> None:
    since = idle_since(None, seen(100.0, signals(UP, 0.0)), FRESH)
    assert since == 100.0
    assert idle_since(since, seen(900.0, signals(UP, 0.0)), FRESH) == 100.0
    assert not may_sleep(since, seen(699.0, signals(UP, 0.0)), 600.0)
    assert may_sleep(since, seen(700.0, signals(UP, 0.0)), 600.0)
    assert not may_sleep(since, seen(9e9, signals(UP, 0.0)), None)


@pytest.mark.parametrize(
    "told",
    [
        signals(UP, 0.1),
        signals(UP, GONE),
        signals(UP, 0.0, waiting={Role.PREFILL: 1.0}),
        signals(UP, 0.0, running={Role.DECODE: 1.0}),
        signals(UP, 0.0, silent=["decode-1"]),
        signals(UP, 0.0, stale=["prefill-0"]),
    ],
    ids=["arrivals", "arrivals unknown", "waiting", "running", "a silent pod", "a stale pod"],
)
def test_whatever_is_asked_for_or_not_seen_ends_idleness(told: Signals) -> None:
    assert idle_since(100.0, seen(900.0, told), FRESH) is None


def test_a_fleet_found_asleep_stays_so_until_somebody_comes_or_nobody_can_tell() -> None:
    since = idle_since(None, seen(100.0, signals(ASLEEP, 0.0), ASLEEP), FRESH)
    assert may_sleep(since, seen(100.0, signals(ASLEEP, 0.0), ASLEEP), 600.0)
    assert idle_since(since, seen(115.0, signals(ASLEEP, 0.2), ASLEEP), FRESH) is None
    assert idle_since(since, seen(115.0, signals(ASLEEP, GONE), ASLEEP), FRESH) is None


@pytest.mark.parametrize(
    "knocks", [lambda many: {"rejected_rps": Known(many)}, lambda many: {"held": Known(many)}], ids=["rejected", "held"]
)
def test_who_knocks_while_no_pod_stands_wakes_the_fleet(knocks: Callable[[float], dict[str, Any]]) -> None:
    """A gateway that counts a request once it has been given a pod counts nobody then."""
    quiet = signals(ASLEEP, 0.0)
    for told, stays in ((0.0, 100.0), (0.1, None)):
        knocking = replace(quiet, traffic=replace(quiet.traffic, **knocks(told)))
        assert idle_since(100.0, seen(115.0, knocking, ASLEEP), FRESH) == stays
