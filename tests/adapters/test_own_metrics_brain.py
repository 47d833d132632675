"""Does /metrics tell what the brain expects, what it learned of the engines, and the flips it makes?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.action import Flip, Mode, Outcome, Verdict
from autoscaler.core.calendar import WEEK_S, Floor
from autoscaler.core.calibration import restored
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Observation
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import Status, status_of
from tests.adapters.test_own_metrics import FLEET, UNDER_WAY, Page, page, tick
from tests.fakes import PROFILE, fleet, policy, pool, signals

__all__ = ["page"]  # the fixture

FLIP = Flip(Role.PREFILL, Role.DECODE, 1, 1, Reason.FLIP, {Role.PREFILL: 3, Role.DECODE: 2})


def flipped(verdict: Verdict) -> Status:
    """A quiet tick at which one flip was tried."""
    return replace(tick(), outcomes=(Outcome(FLIP, verdict),))


def test_flips_count_by_their_roles_and_by_how_they_ended(page: Page) -> None:
    page.report(tick())
    assert page.of("flips_total", from_role="decode", to_role="prefill", verdict="Applied") == 0, "told before the first one"
    page.report(flipped(Verdict.APPLIED), flipped(Verdict.APPLIED), flipped(Verdict.REFUSED))
    told = {verdict: page.of("flips_total", from_role="prefill", to_role="decode", verdict=verdict) for verdict in Verdict}
    assert told == dict.fromkeys(Verdict) | {Verdict.APPLIED: 2, Verdict.REFUSED: 1}
    assert page.of("actions_total", role="decode", direction="up", verdict="Applied") == 0, "a flip is no scaling"


def test_a_role_that_flips_or_would_is_not_held(page: Page) -> None:
    would = tick(wanted=policy(mode=Mode.RECOMMEND))
    page.report(flipped(Verdict.APPLIED), replace(would, plan=replace(would.plan, actions=(), flips=(FLIP,))))
    holds = page.samples()["pd_autoscaler_holds_total"]
    assert {dict(labels)["reason"] for labels in holds} == {"ModeForbidsActing"}
    assert set(holds.values()) == {1}


def test_flips_under_way_are_counted_per_pair_of_roles_with_the_age_of_the_oldest(page: Page) -> None:
    page.report(replace(tick(now=1000.0), flips=(UNDER_WAY, replace(UNDER_WAY, name="flip-2", started_s=990.0))))
    assert page.of("flips_in_flight", from_role="prefill", to_role="decode") == 2
    assert page.of("flips_in_flight", from_role="decode", to_role="prefill") == 0
    assert page.of("flip_age_seconds", from_role="prefill", to_role="decode") == 1000.0 - UNDER_WAY.started_s
    assert page.of("flip_age_seconds", from_role="decode", to_role="prefill") is None


def test_speed_is_told_as_measured_and_as_sized_by(page: Page) -> None:
    observation = Observation(1000.0, FLEET, signals(FLEET, 9.0))
    learned = Memory(speeds={Role.PREFILL: restored(PROFILE.prefill_s, (1.5, 1.5, 1.5), 0.0)})
    page.report(status_of(observation, decide(observation, learned, policy()), (), policy()))
    assert page.of("speed_applied_ratio", role="prefill") == pytest.approx(1.5)
    assert page.of("speed_applied_ratio", role="decode") == 1.0
    assert page.of("speed_measured_ratio", role="decode") is None, "nothing was measured"


def test_requests_and_the_cached_share_are_told_as_expected(page: Page) -> None:
    memory, wanted = Memory(), policy()
    for number in range(3):
        now = 15.0 * number
        observation = Observation(now, FLEET, signals(FLEET, 9.0))
        decision = decide(observation, memory, wanted)
        memory = decision.memory
    page.report(status_of(observation, decision, (), wanted))
    assert page.of("forecast_mean_requests_per_second") == pytest.approx(9.0)
    assert page.of("cached_share_ratio") == 0
    assert page.of("cached_share_quarantined") == 1, "FLEET has a replica that drains"


def test_a_calendar_floor_shows_beside_the_policys_min(page: Page) -> None:
    wanted = replace(policy(), floors={Role.DECODE: (Floor(0.0, WEEK_S, 4),)})
    page.report(tick(wanted=wanted))
    read = [page.of(name, role="decode") for name in ("min_replicas", "min_in_force_replicas")]
    assert read == [1, 4]
    assert page.of("min_in_force_replicas", role="prefill") == 1


def test_a_fleet_that_sleeps_says_so_and_counts_as_held_by_it(page: Page) -> None:
    none = fleet(*(pool(role, 0) for role in Role))
    wanted = replace(policy(), zero_after_s=60.0)
    observation = Observation(1000.0, none, signals(none, 0.0))
    page.report(status_of(observation, decide(observation, Memory(), wanted), (), wanted))
    assert page.of("asleep") == 1
    assert [page.of("holds_total", role=role, reason="Idle") for role in Role] == [1, 1]
    page.report(tick())
    assert page.of("asleep") == 0


def test_a_fleet_that_cannot_be_read_is_not_said_to_sleep(page: Page) -> None:
    gone = replace(tick(), pools={}, flips=(), traffic=None)
    page.report(replace(gone, plan=replace(gone.plan, findings=(Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, "gone"),))))
    assert page.of("asleep") is None
    assert page.of("cached_share_quarantined") is None
