"""Does the status of a PDAutoscaler tell the tick as it was, in the fields that its CRD has?

The golden objects in tests/contracts/crd/status are what readers of this release are promised; tests/e2e/plane/test_ledger.py
writes each to a real API server.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.story import FLIPS_SHOWN, MESSAGE_CHARS, story
from autoscaler.core.action import Flip, Mode, Outcome, Plan, Verdict
from autoscaler.core.conditions import Condition
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet, Flipping, Lack, Phase, Role, Shortage
from autoscaler.core.observation import Gap, Histogram, Observation, Signals
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import Status, refused, status_of, unreadable
from autoscaler.policy.crd import definition
from autoscaler.policy.crd.status import MAX_FLIPS
from tests.fakes import KEY, fleet, policy, pool, signals

GOLDEN = Path(__file__).parents[2] / "contracts" / "crd" / "status"
NOW = 1_767_603_615.25  # 2026-01-05T09:00:15Z
FLEET = fleet(pool(Role.PREFILL, 3, serving=2, starting=1), pool(Role.DECODE, 2))
EVEN = fleet(pool(Role.PREFILL, 3), pool(Role.DECODE, 3))
DARK = Signals.unknown(Gap.UNREACHABLE, "connection refused")
NO_NODES = Shortage(Lack.NODES_REFUSED, 1, NOW - 5, "no node group can grow: max size reached")


def ticked(
    said: Signals, mode: Mode = Mode.AUTO, verdict: Verdict = Verdict.APPLIED, high: int = 100, seen: Fleet = FLEET
) -> Status:
    """The status after one first tick at which every write ended alike."""
    wanted, observation = policy(high=high, mode=mode), Observation(NOW, seen, said)
    decision = decide(observation, Memory(), wanted)
    outcomes = tuple(Outcome(action, verdict, "quota exceeded") for action in decision.plan.to_apply)
    return status_of(observation, decision, outcomes, wanted)


def load(rps: float, seen: Fleet = FLEET, ttft: float = 97.5, tpot: float = 99.9) -> Signals:
    """This load, and these percentages of the requests within each objective."""
    said, within = signals(seen, rps), {Role.PREFILL: ttft, Role.DECODE: tpot}
    roles = {role: replace(one, latency=counted(within[role])) for role, one in said.roles.items()}
    return replace(said, roles=roles, traffic=replace(said.traffic, ttft=counted(ttft)))


def counted(within: float, samples: float = 100.0) -> Histogram:
    return Histogram((0.05, float("inf")), (within, samples))


FLIP = Flip(Role.PREFILL, Role.DECODE, 1, 2, Reason.FLIP, {Role.PREFILL: 3, Role.DECODE: 2})
UNDER_WAY = Flipping("flip-0", Role.PREFILL, Role.DECODE, 1, 2, Phase.DRAINING, NOW - 20, NOW - 30)


def flipping() -> Status:
    """One flip sent off now, another still under way, and a calendar floor in force."""
    status = ticked(load(14.0, EVEN), seen=EVEN)
    floor = replace(status.pools[Role.PREFILL], min_in_force=2, forecast_coverage=0.9125, speed_applied=1.234)
    pools = {**status.pools, Role.PREFILL: floor}
    return replace(status, pools=pools, outcomes=(Outcome(FLIP, Verdict.APPLIED),), flips=(UNDER_WAY,))


def asleep() -> Status:
    none, wanted = fleet(*(pool(role, 0) for role in Role)), replace(policy(), zero_after_s=60.0)
    observation = Observation(NOW, none, load(0.0, none))
    return status_of(observation, decide(observation, Memory(), wanted), (), wanted)


def found(reason: Reason, text: str) -> Finding:
    return Finding(Stage.OBSERVE, reason, text)


def short() -> Status:
    prefill = replace(FLEET.pools[Role.PREFILL], shortages=(NO_NODES,))
    status = ticked(load(9.0), seen=fleet(prefill, FLEET.pools[Role.DECODE]))
    pools = {**status.pools, Role.PREFILL: replace(status.pools[Role.PREFILL], startup_s=93.04, startup_samples=3)}
    return replace(status, pools=pools)


TYPICAL: Mapping[str, Status] = {
    "scaled-up": ticked(load(22.0)),
    "would-scale-up": ticked(load(22.0), Mode.RECOMMEND),
    "write-refused": ticked(load(22.0), verdict=Verdict.REFUSED),
    "at-max": ticked(load(22.0, EVEN), seen=EVEN, high=3),
    "first-window": ticked(load(2.0)),
    "steady": ticked(load(14.0, EVEN), seen=EVEN),
    "signals-unreachable": ticked(DARK),
    "nodes-refused": short(),
    "flipping": flipping(),
    "asleep": asleep(),
    "off": ticked(load(22.0), Mode.OFF),
    "fleet-unreadable": unreadable(KEY, NOW, policy(), found(Reason.FLEET_UNREADABLE, "cluster: no such object")),
    "invalid-policy": refused(KEY, NOW, found(Reason.INVALID_POLICY, "spec.slo.ttft.seconds: below what the profile can do")),
}


def misfits(value: Any, schema: Mapping[str, Any], path: str = "status") -> list[str]:
    """Where a value is not of its schema: an unknown or missing field, another type, no member of an enum."""
    kinds: Mapping[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    if not isinstance(value, kinds[schema["type"]]) or value not in schema.get("enum", [value]):
        return [path]
    if isinstance(value, list):
        return [one for n, item in enumerate(value) for one in misfits(item, schema["items"], f"{path}[{n}]")]
    if not isinstance(value, dict):
        return []
    wrong = [
        f"{path}.{name}" for name in {*value, *schema.get("required", ())} if (name in value) != (name in schema["properties"])
    ]
    inside = (misfits(part, schema["properties"][name], f"{path}.{name}") for name, part in value.items() if not wrong)
    return wrong + [one for many in inside for one in many]


@pytest.mark.parametrize("name", TYPICAL)
def test_a_typical_tick_is_told_as_promised_and_as_the_crd_has_it(name: str) -> None:
    told = story(TYPICAL[name], {}, generation=4)
    assert told == json.loads((GOLDEN / f"{name}.json").read_text())
    fields = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert misfits(told, fields) == []


def test_every_golden_object_is_of_a_typical_tick() -> None:
    assert {file.stem for file in GOLDEN.glob("*.json")} == set(TYPICAL)


def test_only_a_count_that_is_acted_on_is_a_target() -> None:
    shown = {mode: story(ticked(load(22.0), mode), {}, 1)["pools"]["prefill"] for mode in Mode}
    counts = {mode: {name: pool[name] for name in ("target", "recommended") if name in pool} for mode, pool in shown.items()}
    assert counts == {Mode.AUTO: {"target": 5}, Mode.RECOMMEND: {"recommended": 5}, Mode.OFF: {}}


def test_what_stopped_the_tick_is_its_word_then_what_was_done_then_what_was_wished() -> None:
    """Each finding alone, and before all that follow it."""
    order = [Reason.INTERNAL_ERROR, Reason.STATE_UNREADABLE, Reason.SCALE_UP, Reason.SIGNALS_STALE, Reason.GPU_BUDGET]
    order += [Reason.FIRST_WINDOW, Reason.WITHIN_TOLERANCE, Reason.HOLD]
    for first, reason in enumerate(order):
        findings = tuple(found(one, "x") for one in reversed(order[first:]))
        status = Status(KEY, NOW, Mode.AUTO, None, "", None, {}, (), Plan(NOW, Mode.AUTO, (), {}, findings), ())
        assert story(status, {}, 1)["reason"] == reason


def test_a_refused_write_is_told_before_one_that_was_made() -> None:
    status = ticked(load(22.0))
    first, second = status.outcomes
    mixed = replace(status, outcomes=(first, replace(second, verdict=Verdict.CONFLICT)))
    assert story(mixed, {}, 1)["reason"] == "WriteConflict"
    down = replace(first.action, from_replicas=5, to_replicas=3)
    assert story(replace(status, outcomes=(replace(first, action=down),)), {}, 1)["reason"] == "ScaledDown"


def test_a_condition_keeps_its_time_while_its_status_stays_and_only_then() -> None:
    first = story(ticked(DARK), {}, 1)
    later = story(replace(ticked(load(14.0)), now=NOW + 60), first, 2)
    times = {one["type"]: one["lastTransitionTime"] for one in later["conditions"]}
    assert times.pop("ScalingActive") == "2026-01-05T09:01:15Z"
    assert set(times.values()) == {"2026-01-05T09:00:15Z"}
    assert {one["observedGeneration"] for one in later["conditions"]} == {2}


@pytest.mark.parametrize(
    ("users", "told"),
    [
        pytest.param(counted(9999, samples=10_000), "TTFT 99 %, TPOT 80 %", id="users before engines, and never rounded up"),
        pytest.param(counted(1, samples=1), "TTFT 70 %, TPOT 80 %", id="too few users to say"),
    ],
)
def test_the_shares_are_those_of_users_where_a_gateway_tells(users: Histogram, told: str) -> None:
    said = load(9.0, ttft=70.0, tpot=80.0)
    assert story(ticked(replace(said, traffic=replace(said.traffic, ttft=users))), {}, 1)["slo"] == told


def test_a_share_that_nobody_can_tell_is_a_dash() -> None:
    said = load(9.0)
    half = {**said.roles, Role.DECODE: replace(said.roles[Role.DECODE], latency=counted(1, samples=1))}
    assert story(ticked(replace(said, roles=half)), {}, 1)["slo"] == "TTFT 97 %, TPOT -"


def test_words_of_the_cluster_are_cut_to_what_has_room() -> None:
    long = Condition("AbleToScale", False, "Refused", "x" * 40_000)
    (condition,) = story(replace(ticked(DARK), conditions=(long,)), {}, 1)["conditions"]
    assert condition["message"] == "x" * MESSAGE_CHARS


def test_no_more_flips_are_told_than_the_crd_takes() -> None:
    told = story(replace(ticked(load(9.0)), flips=(UNDER_WAY,) * 40), {}, 1)["flips"]
    assert len(told) == FLIPS_SHOWN <= MAX_FLIPS


def test_a_flip_is_the_word_of_a_tick_that_would_make_it_and_a_refused_one_of_a_tick_that_tried() -> None:
    status = ticked(load(14.0, EVEN), Mode.RECOMMEND, seen=EVEN)
    assert story(replace(status, plan=replace(status.plan, flips=(FLIP,))), {}, 1)["reason"] == "Flip"
    assert story(replace(status, outcomes=(Outcome(FLIP, Verdict.REFUSED),)), {}, 1)["reason"] == "WriteRefused"


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), -5.0])
def test_a_number_that_the_crd_does_not_take_never_costs_the_whole_status(wild: float) -> None:
    status = ticked(load(9.0))
    pools = {role: replace(one, demand=wild, forecast_mean=wild, speed_applied=wild) for role, one in status.pools.items()}
    told = json.dumps(story(replace(status, pools=pools), {}, 1)["pools"], allow_nan=False)
    assert "-5" not in told


def test_a_count_that_others_write_is_told_as_it_is_published_and_only_where_we_may_act() -> None:
    for mode, counts in ((Mode.AUTO, {"target": 3}), (Mode.RECOMMEND, {"recommended": 5}), (Mode.OFF, {})):
        status = ticked(load(22.0), mode)
        given = {role: replace(pool, published=3) for role, pool in status.pools.items()}
        told = story(replace(status, pools=given), {}, 1)["pools"]["prefill"]
        assert {name: told[name] for name in ("target", "recommended") if name in told} == counts
        assert told["actuation"] == "hpa"


@pytest.mark.parametrize(("left", "shown"), [(0.999, 0.99), (0.0, 0.0), (-0.001, -0.01), (None, None), (math.nan, None)])
def test_what_is_left_of_a_promise_is_never_told_to_be_more(left: float | None, shown: float | None) -> None:
    status = ticked(load(22.0), Mode.AUTO)
    told = story(replace(status, pools={Role.PREFILL: replace(status.pools[Role.PREFILL], slo_headroom=left)}), {}, 1)["pools"][
        "prefill"
    ]
    assert told.get("sloHeadroom") == shown
