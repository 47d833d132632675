"""Is a run that is compared judged on all that was offered, and charged for its own time only?"""

from __future__ import annotations

import pytest

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.simulator.peers.played import Played
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import even

SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 1.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)}


def played(*requests: Request, until_s: float = 60.0) -> Played:
    one = Played(VirtualRun(Scenario(even(), SLOS), requests), until_s, 15.0)
    one.advance(until_s)
    return one


def test_who_is_on_the_way_at_the_end_is_met_or_missed_by_what_becomes_of_it() -> None:
    """Both come in the last half second; the second's prompt takes 2.1 s, twice what is promised. Nobody new comes then."""
    score = played(Request(0, 59.6, 100, 0, 300), Request(1, 59.8, 2_000, 0, 2), Request(2, 60.5, 100, 0, 2)).score()
    assert (score.offered, score.met, score.open, score.attainment) == (2, 1, 0, 0.5)


def test_the_time_after_the_end_costs_nobody_anything() -> None:
    """Four replicas of one GPU for a minute; the last answer is in 3 s and more after it."""
    one = played(Request(0, 59.6, 100, 0, 300))
    score = one.score()
    assert one.run.engine.now > 63.0
    assert score.duration_s == 60.0
    assert score.goodput_rps == pytest.approx(1 / 60.0)
    assert score.gpu_hours == {role: pytest.approx(2 * 60.0 / 3600) for role in Role}
    assert one.score() is score, "and it is found out once"


def test_before_the_end_what_is_on_the_way_is_open() -> None:
    one = Played(VirtualRun(Scenario(even(), SLOS), [Request(0, 29.9, 100, 0, 300)]), 60.0, 15.0)
    one.advance(30.0)
    assert (one.score().open, one.run.engine.now) == (1, 30.0)
