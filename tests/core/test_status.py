"""Does the status say what happened, in plain JSON, and nothing it cannot know?"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.action import Mode, Outcome, Verdict
from autoscaler.core.decide import Decision, Memory, decide
from autoscaler.core.door import Door, Verdicts
from autoscaler.core.fleet import Fleet, Lack, Role, Shortage, SloKind
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Observation, Signals, Unknown
from autoscaler.core.policy import Policy
from autoscaler.core.pool_status import PoolStatus
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.startup import StartUps
from autoscaler.core.state import record
from autoscaler.core.status import Status, document, refused, status_of, unreadable
from tests.examples import examples
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
    memory, wanted = Memory(), policy()
    for tick in range(80):
        observation = Observation(15.0 * tick, FLEET, signals(FLEET, 22.0 + tick * tick % 7))
        decision = decide(observation, memory, wanted)
        told = status_of(observation, decision, (), wanted).pools[Role.PREFILL]
        memory = decision.memory
        if tick == 0:
            assert told.forecast_error is None
    assert told.forecast_error is not None
    assert 0 < told.forecast_error <= 6_000.0  # requests of 1,000 tokens, 22 to 28 of them
    assert told.forecast_coverage is not None
    assert (0 <= told.forecast_coverage <= 1, told.forecast_reason) == (True, "ModelEarned")


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


def test_whom_sidecars_turn_away_is_told_beside_what_is_let_in_the_refused_first() -> None:
    told = signals(FLEET, 22.0)
    verdicts = (Verdicts("enforce", True, "fits", "free", 22.0), Verdicts("enforce", False, "ttft", "free", 4.0))
    traffic = replace(told.traffic, rejected_rps=Known(3.0), door=Door(verdicts, {"missed": (0.0, 0.1)}))
    said = document(looked(replace(told, traffic=traffic))[0])
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert (said["offered_rps"], said["rejected_rps"], said["door"]["mode"]) == (22.0, 3.0, "enforce")
    assert [(one["admit"], one["rps"]) for one in said["door"]["verdicts"]] == [(False, 4.0), (True, 22.0)]
    assert said["door"]["hindsight"] == {"missed": [0.0, 0.1]}


def test_without_a_sidecar_nothing_is_said_of_one() -> None:
    said = document(looked(signals(FLEET, 22.0))[0])
    assert (said["rejected_rps"], said["door"]) == (None, None)


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
    assert {one.reason for one in status.conditions} == {"FleetUnreadable"}
    assert status.state is None


def test_a_policy_that_cannot_be_worked_by_is_off_whatever_it_asks_for() -> None:
    status = refused(KEY, 7.0, Finding(Stage.OBSERVE, Reason.CLASHING_POLICY, "models/older has decode already"))
    assert (status.mode, status.pools, status.plan.to_apply, status.state) == (Mode.OFF, {}, (), None)
    assert {one.reason for one in status.conditions} == {"ClashingPolicy"}
    assert document(status)["findings"][0]["text"] == "models/older has decode already"


# What rides along


def test_what_to_keep_for_the_next_leader_is_told_beside_the_document() -> None:
    status, decision = looked(signals(FLEET, 22.0))
    assert status.state == record(decision.memory)
    assert status.state["memory"]["pools"]["decode"] == {"desired": 2}
    assert "state" not in document(status)


def test_a_pool_tells_why_replicas_are_missing_and_how_long_a_start_takes() -> None:
    short = Shortage(Lack.NODES_REFUSED, 2, 990.0, "max node group size reached")
    seen = fleet(replace(pool(Role.DECODE, 4, serving=2), shortages=(short,), note="a rollout is under way"))
    learned = Memory(startups={Role.DECODE: StartUps((60.0, 90.0, 70.0))})
    decision = decide(Observation(1000.0, seen, signals(seen, 9.0)), learned, policy())
    decode, prefill = (
        document(status_of(Observation(1000.0, seen, signals(seen, 9.0)), decision, (), policy()))["pools"][role]
        for role in ("decode", "prefill")
    )
    told = {"lack": "NodesRefused", "replicas": 2, "told_s": 990.0, "text": "max node group size reached"}
    assert (decode["shortages"], decode["note"]) == ([told], "a rollout is under way")
    assert (decode["startup_s"], decode["startup_samples"]) == (70.0, 3)
    assert (prefill["shortages"], prefill["startup_s"], prefill["startup_samples"]) == ([], None, 0)


def told(rps: float, seen: Fleet = FLEET) -> PoolStatus:
    return looked(signals(seen, rps, waiting=dict.fromkeys(Role, 0.0)), seen)[0].pools[Role.PREFILL]


def test_headroom_is_what_serves_beyond_the_upper_forecast_and_pressure_what_is_needed_of_it() -> None:
    """One replica carries 5 requests of 1,000 tokens a second (tests/fakes.py), two serve."""
    light, heavy = told(4.0), told(22.0)
    assert light.headroom_tokens_per_s == pytest.approx(10_000 - 4_000, rel=1e-3)
    assert heavy.headroom_tokens_per_s == pytest.approx(10_000 - 22_000, rel=1e-3)
    assert light.pressure == pytest.approx(0.4, rel=1e-2)
    assert heavy.pressure == pytest.approx(2.2, rel=1e-2)


@examples(40)
@given(st.floats(0.1, 60.0), st.floats(0.0, 20.0))
def test_more_load_never_raises_the_headroom_nor_lowers_the_pressure(rps: float, more: float) -> None:
    less, much = told(rps), told(rps + more)
    assert less.headroom_tokens_per_s is not None
    assert much.headroom_tokens_per_s is not None
    assert much.headroom_tokens_per_s <= less.headroom_tokens_per_s
    assert less.pressure is not None
    assert much.pressure is not None
    assert much.pressure >= less.pressure


def test_slo_headroom_is_the_share_of_the_promise_that_is_left_at_its_percentile() -> None:
    prefill = told(4.0)
    assert prefill.slo.value_s is not None
    assert prefill.slo_headroom == pytest.approx(1 - prefill.slo.value_s / prefill.slo.threshold_s)


def test_nobody_is_told_room_or_pressure_of_what_was_not_seen_in_full() -> None:
    partly = Unknown(Gap.INCOMPLETE, "one of two pods is silent")
    assert room(looked(signals(FLEET, partly))[0]) == room(looked(Signals.unknown(Gap.TIMEOUT, "dark"))[0]) == (None, None)
    silent = looked(signals(FLEET, 4.0, silent=["prefill-0"]))[0]
    assert room(silent) == (None, None)
    nobody = fleet(pool(Role.PREFILL, 2, serving=0, starting=2), pool(Role.DECODE, 2))
    assert looked(signals(nobody, 4.0), nobody)[0].pools[Role.PREFILL].pressure is None


def room(status: Status) -> tuple[float | None, float | None]:
    prefill = status.pools[Role.PREFILL]
    return prefill.headroom_tokens_per_s, prefill.pressure


def test_where_no_number_of_replicas_meets_the_promise_there_is_no_room_to_tell_of() -> None:
    wanted = policy()
    hopeless = replace(wanted, slos={**wanted.slos, SloKind.TTFT: replace(wanted.slos[SloKind.TTFT], threshold_s=0.01)})
    assert looked(signals(FLEET, 4.0), wanted=hopeless)[0].pools[Role.PREFILL].headroom_tokens_per_s is None
