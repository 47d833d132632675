"""Do the four conditions say what is wrong, each with its reason, and all of them at every tick?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from autoscaler.core.action import Flip, Outcome, Verdict
from autoscaler.core.conditions import GRAVITY, Condition, conditions, held
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet, Lack, Role, Shortage
from autoscaler.core.observation import Gap, Gauges, Observation, Signals
from autoscaler.core.policy import Policy
from autoscaler.core.reason import Finding, Reason, Stage
from tests.fakes import fleet, policy, pool, signals

FLEET = fleet(pool(Role.PREFILL, 3, serving=2, starting=1, draining=1, gpus=4), pool(Role.DECODE, 2, gpus=2))
TYPES = ["AbleToScale", "ScalingActive", "ScalingLimited", "Degraded"]


def said(
    signs: Signals, seen: Fleet = FLEET, wanted: Policy | None = None, verdicts: Sequence[Verdict] = ()
) -> dict[str, Condition]:
    """The conditions after one tick whose writes ended as told, by type."""
    decision = decide(Observation(1000.0, seen, signs), Memory(), wanted or policy())
    outcomes = [Outcome(*ended, "why") for ended in zip(decision.plan.to_apply, verdicts, strict=False)]
    return {one.type: one for one in conditions(seen, decision, outcomes)}


def test_all_is_well() -> None:
    seen = fleet()
    assert [(one.type, one.status, one.reason) for one in said(signals(seen, 9.0), seen).values()] == [
        ("AbleToScale", True, "Ready"),
        ("ScalingActive", True, "ValidMetricFound"),
        ("ScalingLimited", False, "DesiredWithinRange"),
        ("Degraded", False, "AsDesired"),
    ]


@pytest.mark.parametrize(
    "reason", [Reason.FLEET_UNREADABLE, Reason.INTERNAL_ERROR, Reason.STATE_UNREADABLE, Reason.INVALID_POLICY]
)
def test_a_fleet_that_is_held_has_all_four_with_what_holds_it(reason: Reason) -> None:
    """One left out would go on standing on the object as it last was."""
    told = held(Finding(Stage.OBSERVE, reason, "in words"))
    assert [(one.type, one.status, one.reason) for one in told] == [
        ("AbleToScale", False, reason),
        ("ScalingActive", False, reason),
        ("ScalingLimited", False, reason),
        ("Degraded", True, reason),
    ]
    assert [one.message for one in told if one.type != "ScalingLimited"] == ["in words"] * 3


@pytest.mark.parametrize("verdict", [Verdict.CONFLICT, Verdict.REFUSED, Verdict.FAILED])
def test_a_write_that_did_not_go_through_shows(verdict: Verdict) -> None:
    able = said(signals(FLEET, 22.0), verdicts=[verdict, Verdict.APPLIED])["AbleToScale"]
    assert able == Condition("AbleToScale", False, verdict, "prefill: why")


def test_a_flip_that_did_not_go_through_names_both_roles() -> None:
    decision = decide(Observation(1000.0, FLEET, signals(FLEET, 9.0)), Memory(), policy())
    flip = Flip(Role.PREFILL, Role.DECODE, 1, 1, Reason.FLIP, {Role.PREFILL: 3, Role.DECODE: 2})
    able = conditions(FLEET, decision, [Outcome(flip, Verdict.REFUSED, "it drains already")])[0]
    assert able == Condition("AbleToScale", False, Verdict.REFUSED, "prefill to decode: it drains already")


@pytest.mark.parametrize(
    ("verdicts", "able"),
    [
        pytest.param([Verdict.PENDING, Verdict.APPLIED], (True, "WritePending", "prefill: why"), id="one is under way"),
        pytest.param([Verdict.PENDING, Verdict.FAILED], (False, "Failed", "decode: why"), id="and the other failed"),
    ],
)
def test_a_write_under_way_has_not_failed(verdicts: list[Verdict], able: tuple[bool, str, str]) -> None:
    assert said(signals(FLEET, 22.0), verdicts=verdicts)["AbleToScale"] == Condition("AbleToScale", *able)


@pytest.mark.parametrize(
    ("signs", "reason"),
    [
        pytest.param(Signals.unknown(Gap.TIMEOUT, "dark"), Reason.SIGNALS_TIMEOUT, id="blind"),
        pytest.param(signals(FLEET, 9.0, silent=["decode-0"]), Reason.SIGNALS_MISSING, id="one pod is silent"),
        pytest.param(
            replace(signals(FLEET, 9.0), gauges={"prefill-0": Gauges(1, 1, 0, 99)}), Reason.SIGNALS_STALE, id="one is stale"
        ),
    ],
)
def test_blindness_and_partial_sight_show_with_their_reason(signs: Signals, reason: Reason) -> None:
    active = said(signs)["ScalingActive"]
    assert (active.status, active.reason) == (False, reason)


def test_a_fleet_that_sleeps_is_not_blind() -> None:
    """No replica reports, and none is missed: whoever is woken by blindness sleeps on, too."""
    none = fleet(*(pool(role, 0) for role in Role))
    active = said(signals(none, 0.0), none, replace(policy(), zero_after_s=60.0))["ScalingActive"]
    assert (active.status, active.reason) == (True, "Idle")
    assert said(signals(none, 0.0), none)["ScalingActive"].status is False, "nobody may sleep here"


REFUSED = fleet(replace(pool(Role.DECODE, 3), shortages=(Shortage(Lack.NOT_CREATED, 1, 1000.0, "exceeded quota: gpus"),)))


@pytest.mark.parametrize(
    ("seen", "wanted", "rps", "reason"),
    [
        pytest.param(FLEET, policy(high=4), 40.0, Reason.TOO_MANY_REPLICAS, id="max"),
        pytest.param(FLEET, policy(low=5), 9.0, Reason.TOO_FEW_REPLICAS, id="min"),
        pytest.param(FLEET, policy(gpu_budget=24), 40.0, Reason.GPU_BUDGET, id="budget"),
        pytest.param(REFUSED, policy(), 40.0, Reason.NOT_CREATED, id="a quota"),
    ],
)
def test_what_holds_the_targets_back_shows(seen: Fleet, wanted: Policy, rps: float, reason: Reason) -> None:
    limited = said(signals(seen, rps), seen, wanted)["ScalingLimited"]
    assert (limited.status, limited.reason) == (True, reason)


def test_replicas_that_do_not_come_degrade_the_fleet_and_the_worst_lack_names_it() -> None:
    shortages = (Shortage(Lack.UNSCHEDULABLE, 2, 990.0, "0/4 nodes"), Shortage(Lack.FAILING, 1, 900.0, "CrashLoopBackOff"))
    short = replace(pool(Role.DECODE, 5, serving=2, starting=3), shortages=shortages)
    seen = fleet(replace(pool(Role.PREFILL, 3), shortages=REFUSED.pools[Role.DECODE].shortages), short)
    degraded = said(signals(seen, 9.0), seen)["Degraded"]
    assert (degraded.status, degraded.reason) == (True, "Failing")
    assert degraded.message == (
        "decode: 1 Failing: CrashLoopBackOff; prefill: 1 NotCreated: exceeded quota: gpus; decode: 2 Unschedulable: 0/4 nodes"
    )


def test_every_lack_has_its_gravity() -> None:
    assert sorted(GRAVITY) == sorted(Lack)


def test_every_fleet_is_told_of_by_the_same_four() -> None:
    finding = Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, "gone")
    assert list(said(signals(FLEET, 9.0))) == [one.type for one in held(finding)] == TYPES


def test_a_drain_that_does_not_get_on_comes_before_a_replica_that_does_not_come() -> None:
    """It waits for a human, and a node may still come by itself."""
    short = replace(FLEET.pools[Role.PREFILL], shortages=(Shortage(Lack.UNSCHEDULABLE, 1, 990.0, "0/4 nodes"),))
    seen = replace(
        FLEET, pools={**FLEET.pools, Role.PREFILL: short}, stuck=("drain-a: gone for 400 s: see it", "drain-b: so, too")
    )
    degraded = said(signals(seen, 9.0), seen)["Degraded"]
    assert degraded == Condition("Degraded", True, Reason.STUCK, "drain-a: gone for 400 s: see it; drain-b: so, too")
