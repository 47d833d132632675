"""Does every number carry its stage, its reason and its inputs (law 11)?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.attribution import Attribution
from autoscaler.core.capacity import Bound
from autoscaler.core.demand import Demand, Load
from autoscaler.core.explain import RoleView, explain, explain_late, reason_of
from autoscaler.core.fleet import Role
from autoscaler.core.forecast import Forecast
from autoscaler.core.hysteresis import Target
from autoscaler.core.observation import Gap, Known, Unknown
from autoscaler.core.reason import Finding, Reason, Stage
from tests.fakes import GONE, SHAPE, carries

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
    assert inputs[Stage.FORECAST] == {"mean": 21_500.0, "upper": 24_000.0, "horizon_s": 120.0, "model": "ses-30s"}
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
