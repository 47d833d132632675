"""Does the status say what happened, in plain JSON, and nothing it cannot know?"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from autoscaler.core.decide import Decision, Memory, Policy, decide
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.forecast import Series
from autoscaler.core.observation import Gap, Gauges, Histogram, Observation, Signals, Unknown
from autoscaler.core.plan import Mode, Outcome, Verdict
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import Condition, Status, document, status_of, unreadable
from tests.fakes import GONE, KEY, fleet, histogram, policy, pool, signals

FLEET = fleet(pool(Role.PREFILL, 3, serving=2, starting=1, draining=1, gpus=4), pool(Role.DECODE, 2, gpus=2))
TWO = dict.fromkeys(Role, 2.0)


def looked(
    said: Signals, seen: Fleet = FLEET, wanted: Policy | None = None, verdict: Verdict | None = Verdict.APPLIED
) -> tuple[Status, Decision]:
    """The status after one tick at which every write ended alike; no write at all with None."""
    wanted, observation = wanted or policy(), Observation(1000.0, seen, said)
    decision = decide(observation, Memory(), wanted)
    outcomes = tuple(Outcome(action, verdict, "why") for action in decision.plan.to_apply) if verdict else ()
    return status_of(observation, decision, outcomes, wanted), decision


def condition(status: Status, name: str) -> Condition:
    return next(one for one in status.conditions if one.type == name)


def test_a_pool_tells_its_replicas_gpus_queues_and_what_was_made_of_them() -> None:
    status, _ = looked(signals(FLEET, 22.0, waiting=TWO, running=TWO))
    prefill = status.pools[Role.PREFILL]
    assert (prefill.desired, prefill.target, prefill.gpus) == (3, 5, 16)
    assert prefill.phases == {"serving": 2, "starting": 1, "draining": 1}
    assert (prefill.waiting, prefill.running, prefill.kv_usage) == (2.0, 2.0, 0.5)
    assert (prefill.load, prefill.forecast_upper, prefill.forecast_model) == (22_000.0, 22_000.0, "last-value")
    assert prefill.demand == pytest.approx(4.4, abs=0.01)
    assert prefill.bound == "QUEUE"
    assert (status.offered_rps, status.offered_source) == (22.0, "gateway")
    assert prefill.signal_age_s == 5.0


@pytest.mark.parametrize("budget", [None, 64])
def test_the_gpu_budget_stands_beside_what_is_held_also_while_the_fleet_cannot_be_read(budget: int | None) -> None:
    wanted = policy(gpu_budget=budget)
    gone = unreadable(KEY, 7.0, wanted, Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, "gone"))
    for status in (looked(signals(FLEET, 22.0), wanted=wanted)[0], gone):
        assert document(status)["gpu_budget"] == budget


def test_a_model_that_has_earned_to_speak_is_told_with_its_error() -> None:
    series = Series(985.0, (20_000.0,) * 4, (), ((-500.0,) * 4, (1500.0,) * 4) * 5)
    observation = Observation(1000.0, FLEET, signals(FLEET, 22.0))
    decision = decide(observation, Memory(series={Role.PREFILL: series}), policy())
    status = status_of(observation, decision, (), policy())
    assert status.pools[Role.PREFILL].forecast_error == 1000.0
    assert status.pools[Role.DECODE].forecast_error is None


def test_what_is_not_known_is_none_and_not_zero() -> None:
    status, _ = looked(Signals.unknown(Gap.TIMEOUT, "dark"))
    prefill = status.pools[Role.PREFILL]
    unknown = (
        prefill.waiting,
        prefill.running,
        prefill.kv_usage,
        prefill.load,
        prefill.demand,
        prefill.forecast_mean,
        prefill.bound,
        prefill.signal_age_s,
    )
    assert unknown == (None,) * 8
    assert (status.offered_rps, status.user_ttft and status.user_ttft.value_s) == (None, None)
    assert (prefill.desired, prefill.target) == (3, 3)


@pytest.mark.parametrize(
    ("latency", "value_s", "share", "samples"),
    [
        pytest.param(histogram(within=95, over=5, edge_s=0.05), 0.05, 0.95, 100, id="enough samples"),
        pytest.param(
            histogram(within=100, over=0, edge_s=0.1), 0.095, 0.0, 100, id="the SLO lies inside a bucket: at least none"
        ),
        pytest.param(histogram(within=28, over=1), None, None, 29, id="too few to say"),
        pytest.param(histogram(within=0, over=0), None, None, 0, id="none"),
        pytest.param(GONE, None, None, 0, id="not known"),
    ],
)
def test_attainment_is_told_with_its_samples_and_only_from_enough_of_them(
    latency: Histogram | Unknown, value_s: float | None, share: float | None, samples: float
) -> None:
    """The TPOT SLO is 50 ms; here at its 95th percentile."""
    said, wanted = signals(FLEET, 22.0), policy()
    said = replace(said, roles={role: replace(one, latency=latency) for role, one in said.roles.items()})
    strict = replace(wanted, slos={kind: replace(slo, quantile=0.95) for kind, slo in wanted.slos.items()})
    slo = looked(said, wanted=strict)[0].pools[Role.DECODE].slo
    assert (slo.kind, slo.threshold_s, slo.samples) == ("tpot", 0.05, samples)
    assert slo.value_s == (None if value_s is None else pytest.approx(value_s))
    assert slo.share == share


def test_a_histogram_that_is_no_number_says_nothing() -> None:
    said = replace(
        signals(FLEET, 22.0), traffic=replace(signals(FLEET).traffic, ttft=Histogram((0.5, math.inf), (math.nan, math.nan)))
    )
    ttft = looked(said)[0].user_ttft
    assert ttft is not None
    assert (ttft.value_s, ttft.share) == (None, None)


# Conditions, in the words of the Horizontal Pod Autoscaler


def test_all_is_well() -> None:
    seen = fleet()
    status, _ = looked(signals(seen, 9.0), seen)
    assert [(one.type, one.status, one.reason) for one in status.conditions] == [
        ("AbleToScale", True, "Ready"),
        ("ScalingActive", True, "ValidMetricFound"),
        ("ScalingLimited", False, "DesiredWithinRange"),
    ]


@pytest.mark.parametrize("verdict", [Verdict.CONFLICT, Verdict.REFUSED, Verdict.FAILED])
def test_a_write_that_did_not_go_through_shows(verdict: Verdict) -> None:
    status, _ = looked(signals(FLEET, 22.0), verdict=verdict)
    assert condition(status, "AbleToScale") == Condition("AbleToScale", False, verdict, "prefill: why")


def test_blindness_and_partial_sight_show_with_their_reason() -> None:
    for said, reason in (
        (Signals.unknown(Gap.TIMEOUT, "dark"), Reason.SIGNALS_TIMEOUT),
        (signals(FLEET, 9.0, silent=["decode-0"]), Reason.SIGNALS_MISSING),
        (replace(signals(FLEET, 9.0), gauges={"prefill-0": Gauges(1, 1, 0, 99)}), Reason.SIGNALS_STALE),
    ):
        active = condition(looked(said)[0], "ScalingActive")
        assert (active.status, active.reason) == (False, reason)


@pytest.mark.parametrize(
    ("wanted", "rps", "reason"),
    [
        pytest.param(policy(high=4), 40.0, Reason.TOO_MANY_REPLICAS, id="max"),
        pytest.param(policy(low=5), 9.0, Reason.TOO_FEW_REPLICAS, id="min"),
        pytest.param(policy(gpu_budget=24), 40.0, Reason.GPU_BUDGET, id="budget"),
    ],
)
def test_what_holds_the_targets_back_shows(wanted: Policy, rps: float, reason: Reason) -> None:
    limited = condition(looked(signals(FLEET, rps), wanted=wanted)[0], "ScalingLimited")
    assert (limited.status, limited.reason) == (True, reason)


# The document


def test_the_document_is_plain_json_that_comes_back_as_it_went() -> None:
    status, decision = looked(signals(FLEET, 22.0, waiting=TWO))
    said = document(status)
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert (said["format"], said["fleet"], said["now"], said["mode"]) == (1, KEY, 1000.0, "Auto")
    assert set(said["pools"]) == {"prefill", "decode"}
    assert len(said["findings"]) == len(decision.plan.findings)
    assert said["actions"][0] == {
        "role": "prefill",
        "from_replicas": 3,
        "to_replicas": 5,
        "reason": "DemandRose",
        "verdict": "Applied",
        "detail": "why",
    }


def test_a_recommendation_shows_its_actions_without_a_verdict() -> None:
    status, _ = looked(signals(FLEET, 22.0), wanted=policy(mode=Mode.RECOMMEND))
    assert [set(action) for action in document(status)["actions"]] == [{"role", "from_replicas", "to_replicas", "reason"}] * 2


def test_what_is_no_number_becomes_null() -> None:
    said = replace(signals(FLEET, math.inf), gauges={"prefill-0": Gauges(math.nan, 0, math.nan, 1.0)})
    text = json.dumps(document(looked(said)[0]), allow_nan=False)
    assert json.loads(text)["offered_rps"] is None


def test_a_fleet_that_cannot_be_read_holds_with_the_reason() -> None:
    finding = Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, "cluster: connection refused")
    status = unreadable(KEY, 7.0, policy(), finding)
    said = document(status)
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert (said["actions"], said["pools"], status.plan.to_apply) == ([], {}, ())
    assert status.conditions == (Condition("ScalingActive", False, "FleetUnreadable", "cluster: connection refused"),)
