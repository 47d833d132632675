"""Does every number carry its stage, its reason and its inputs (law 11)?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.attribution import Attribution
from autoscaler.core.calendar import WEEK_S, Floor
from autoscaler.core.capacity import Bound
from autoscaler.core.demand import Demand, Load
from autoscaler.core.explain import RoleView, TrafficView, explain, explain_floors, explain_late, explain_traffic, reason_of
from autoscaler.core.fleet import Role
from autoscaler.core.forecast import Forecast
from autoscaler.core.hysteresis import Target
from autoscaler.core.observation import Gap, Known, Unknown
from autoscaler.core.reason import Finding, Reason, Stage
from tests.fakes import GONE, SHAPE, carries, policy

LOAD = Load(Known(22_000.0), 3.0, 2.0, 1000.0, None)
VIEW = RoleView(
    LOAD,
    Forecast(21_500.0, 24_000.0, 120.0, "ses-30s", 800.0, Reason.MODEL_EARNED),
    carries(5000.0),
    Demand(4.8, Bound.FORECAST, None, {"TTFT": 4.4, "QUEUE": 4.5, "FORECAST": 4.8}),
    Target(4, Reason.STEP_LIMITED, 5),
)


def told(view: RoleView) -> list[Finding]:
    return list(explain(Role.PREFILL, view, SHAPE))


def test_a_whole_view_tells_every_stage_in_order() -> None:
    assert [(f.stage, f.reason, f.text) for f in told(VIEW)] == [
        (Stage.OBSERVE, Reason.SIGNALS_OK, "22000 tokens/s offered, 3 waiting, 2 running"),
        (Stage.FORECAST, Reason.MODEL_EARNED, "21500, at most 24000 tokens/s in 120 s says ses-30s; its mean error is 800"),
        (Stage.CAPACITY, Reason.CAPACITY_WITHIN_SLO, "one replica carries 5000 tokens/s, bound by TTFT"),
        (
            Stage.DEMAND,
            Reason.DEMAND_BOUND,
            "4.80 replicas, bound by FORECAST (before headroom: TTFT 4.40, QUEUE 4.50, FORECAST 4.80)",
        ),
        (Stage.TARGET, Reason.STEP_LIMITED, "target 4; undamped it would be 5"),
    ]
    assert {f.role for f in told(VIEW)} == {Role.PREFILL}


def test_the_inputs_hold_every_number_that_the_next_stage_used() -> None:
    inputs = {f.stage: f.inputs for f in told(VIEW)}
    assert inputs[Stage.OBSERVE] == {"offered_tokens_per_s": 22_000.0, "waiting": 3.0, "running": 2.0}
    said: dict[str, float | str] = {"mean": 21_500.0, "upper": 24_000.0, "horizon_s": 120.0, "model": "ses-30s", "error": 800.0}
    assert inputs[Stage.FORECAST] == said
    assert inputs[Stage.CAPACITY].items() >= {"tokens_per_s": 5000.0, "utilisation": 0.5, "uncached_tokens": 1000.0}.items()
    assert inputs[Stage.DEMAND].items() >= {"replicas": 4.8, "FORECAST": 4.8}.items()
    assert inputs[Stage.TARGET] == {"target": 4, "recommended": 5}


def test_a_stage_that_was_not_reached_is_silent() -> None:
    assert [f.stage for f in told(RoleView(GONE))] == [Stage.OBSERVE]
    assert [f.stage for f in told(RoleView(GONE, VIEW.forecast))] == [Stage.OBSERVE, Stage.FORECAST]


def test_what_is_unknown_names_its_gap_and_the_detail() -> None:
    (finding,) = told(RoleView(GONE))
    assert (finding.reason, finding.text) == (Reason.SIGNALS_UNREACHABLE, "not known: connection refused")


def test_what_is_partly_known_names_what_is_missing() -> None:
    finding = told(RoleView(replace(LOAD, partial=GONE, offered_tokens_per_s=GONE)))[0]
    assert (finding.reason, finding.text) == (Reason.SIGNALS_UNREACHABLE, "partly known: connection refused")
    assert finding.inputs == {"waiting": 3.0, "running": 2.0}


def test_an_slo_that_cannot_be_met_is_said_so() -> None:
    hopeless = carries(8000.0, feasible=False, use=0.8)
    finding = told(replace(VIEW, capacity=hopeless))[2]
    assert finding.reason is Reason.SLO_INFEASIBLE
    assert finding.text == (
        "no number of replicas meets the SLO for these requests, at best for 0.0% of them; "
        "one replica is sized at 80% use instead"
    )


def test_a_model_without_a_record_does_not_claim_one() -> None:
    unproven = Forecast(7.0, 7.0, 120.0, "last-value", None, Reason.MODEL_UNPROVEN)
    assert told(replace(VIEW, forecast=unproven))[1].text.endswith("no error known yet")


def test_a_model_with_a_record_tells_how_often_its_upper_bound_held() -> None:
    assert VIEW.forecast is not None
    finding = told(replace(VIEW, forecast=replace(VIEW.forecast, coverage=0.914)))[1]
    assert finding.text.endswith("its mean error is 800, its upper bound held 91% of the time")
    assert finding.inputs["coverage"] == 0.914


def test_what_is_needed_soon_and_lasting_is_told_where_it_differs() -> None:
    assert VIEW.demand is not None
    finding = told(replace(VIEW, demand=replace(VIEW.demand, lasting=5.2, soon=4.8, back=5.0, panic=True)))[3]
    assert finding.text.endswith(
        "FORECAST 4.80); 5.20 lasting; 5.00 until a flip could be undone; several times what serves, so no patience"
    )
    assert (finding.inputs["lasting"], finding.inputs["soon"], finding.inputs["back"]) == (5.2, 4.8, 5.0)


REQUESTS = Forecast(42.5, 55.0, 120.0, "arima", 3.25, Reason.MODEL_EARNED, 0.9)
HITS = Forecast(0.4, 0.45, 120.0, "last-value", None, Reason.MODEL_UNPROVEN)


def test_requests_are_told_as_expected_for_the_whole_fleet() -> None:
    (finding,) = explain_traffic(TrafficView(REQUESTS))
    assert (finding.stage, finding.reason, finding.role) == (Stage.FORECAST, Reason.MODEL_EARNED, None)
    assert finding.text == (
        "42.5, at most 55 requests/s in 120 s says arima; its mean error is 3.25, its upper bound held 90% of the time"
    )


@pytest.mark.parametrize(
    ("seen", "reason", "whence"),
    [
        pytest.param(TrafficView(None, 0.38, HITS), Reason.CACHE_MEASURED, "as last measured", id="measured"),
        pytest.param(TrafficView(None, 0.38, HITS, quarantined=True), Reason.CACHE_QUARANTINED, "as expected", id="doubted"),
        pytest.param(
            TrafficView(None, 0.38, None, quarantined=True), Reason.CACHE_MEASURED, "as last", id="doubted, nothing to go by"
        ),
    ],
)
def test_the_cached_share_tells_whether_it_was_measured_or_expected(seen: TrafficView, reason: Reason, whence: str) -> None:
    (finding,) = explain_traffic(seen)
    assert (finding.stage, finding.reason, finding.inputs["cached_share"]) == (Stage.CAPACITY, reason, 0.38)
    assert f"sized with 38.0% of the prompt tokens cached, {whence}" in finding.text


def test_of_traffic_that_is_not_known_nothing_is_said() -> None:
    assert list(explain_traffic(TrafficView())) == []


def test_a_calendar_floor_in_force_is_told_with_both_numbers() -> None:
    wanted = replace(policy(2), floors={Role.DECODE: (Floor(0.0, WEEK_S / 2, 5),), Role.PREFILL: (Floor(0.0, WEEK_S, 1),)})
    (finding,) = explain_floors(wanted, 4 * 86_400.0)
    assert (finding.role, finding.reason, finding.inputs) == (Role.DECODE, Reason.CALENDAR_FLOOR, {"floor": 5, "min": 2})
    assert list(explain_floors(wanted, 3 * 86_400.0)) == []


def test_what_was_turned_away_and_what_waits_for_others_is_told_beside_the_load() -> None:
    finding = told(RoleView(replace(LOAD, rejected_rps=Known(2.5), lent=12.0)))[0]
    assert finding.text.endswith("; 12 more wait here for another role or the transfer; 2.5 requests/s of it were turned away")
    assert (finding.inputs["lent"], finding.inputs["rejected_rps"]) == (12.0, 2.5)


def test_what_was_turned_away_and_is_not_known_is_not_counted_and_said_so() -> None:
    finding = told(RoleView(replace(LOAD, rejected_rps=Unknown(Gap.STALE, "300 s old"))))[0]
    assert finding.text.endswith("what was turned away is not known and not counted: 300 s old")


def test_without_anybody_who_turns_away_nothing_is_said_of_it() -> None:
    assert "turned away" not in told(RoleView(replace(LOAD, rejected_rps=Unknown(Gap.MISSING, "no sidecar"))))[0].text


def test_a_broken_promise_without_a_queue_and_a_slow_link_are_told_for_the_fleet() -> None:
    nobody = dict.fromkeys(Role, 0.0)
    unexplained, link = explain_late(Attribution(nobody, nobody, link=7.0, late=frozenset()))
    assert (unexplained.reason, link.reason) == (Reason.LATE_UNEXPLAINED, Reason.LINK_BOUND)
    assert link.inputs == {"waiting": 7.0}


def test_a_broken_promise_that_a_queue_explains_needs_no_word() -> None:
    nobody = dict.fromkeys(Role, 0.0)
    assert list(explain_late(Attribution(nobody, nobody, late=frozenset({Role.PREFILL})))) == []
    assert list(explain_late(Attribution(nobody, nobody))) == []


@pytest.mark.parametrize("gap", Gap)
def test_every_gap_has_its_reason(gap: Gap) -> None:
    assert reason_of(Unknown(gap)).value.lower() == f"signals{gap.value.replace('_', '')}"
