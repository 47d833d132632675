"""Is a number told only where the controller gave it, in that mode, and lately?

The laws: whatever an object holds, reading it raises nothing; what is stale tells no number; a desired count is told in mode
Auto alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.scribe import SLOT_S
from autoscaler.apps.probes import STALLED_TICKS
from autoscaler.companion.told import (
    LATE_TICKS,
    LONGEST_TICK_S,
    SHORTEST_TICK_S,
    TICK_S,
    WRITTEN_S,
    PoolTold,
    moment,
    told,
)
from autoscaler.core.action import Mode
from autoscaler.core.fleet import Role
from autoscaler.policy.behaviour import Behaviour
from tests.companion.policies import NOW, policy, pool, recommending
from tests.examples import examples

STORIES = Path(__file__).parent.parent / "contracts" / "crd" / "status"
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
MOMENTS = st.one_of(JSON, st.sampled_from(["2026-01-05T08:59:50Z", "2026-01-05T09:00:31Z", "2026-01-05", "9999-12-31T23:59:59Z"]))


def test_a_fresh_status_in_mode_auto_tells_everything_it_holds() -> None:
    found = told(policy(), NOW)
    assert (found.namespace, found.name, found.uid, found.mode) == ("default", "chat", "uid-of-chat", Mode.AUTO)
    assert (found.told_s, found.stale, found.doubt) == (NOW - 10.0, False, "")
    assert found.pools[Role.DECODE] == PoolTold(7, None, 1400.0, -120.0, 1.25, 0.4, handed=True)
    assert found.pools[Role.PREFILL].desired == 5


def test_the_count_is_what_the_controller_wants_and_never_what_the_target_asks_for_already() -> None:
    """An HPA that read its own target's count back would never move it."""
    without = {"decode": {"desired": 9, "serving": 9, "actuation": "hpa"}}
    assert told(policy(pools=without), NOW).pools[Role.DECODE].desired is None
    assert told(policy(pools={"decode": pool(2, desired=9)}), NOW).pools[Role.DECODE].desired == 2


@pytest.mark.parametrize("actuation", [None, "direct", "HPA", ["hpa"], True])
def test_a_count_that_the_controller_writes_itself_is_not_told_for_it_is_not_drained_for_yet(actuation: object) -> None:
    found = told(policy(pools={"decode": pool(2, actuation=actuation)}), NOW).pools[Role.DECODE]
    assert found == PoolTold(None, None, 1400.0, -120.0, 1.25, 0.4)


def test_a_recommendation_is_never_a_desired_count() -> None:
    found = told(recommending(), NOW).pools[Role.DECODE]
    assert (found.desired, found.recommended) == (None, 7)
    both = policy(mode="Recommend", pools={"decode": pool(2, recommended=3)})
    assert told(both, NOW).pools[Role.DECODE].desired is None


@pytest.mark.parametrize(
    ("wanted", "ran", "mode"),
    [
        ("Auto", "Auto", Mode.AUTO),
        ("Off", "Auto", Mode.OFF),
        ("Recommend", "Auto", Mode.RECOMMEND),
        ("Auto", "Recommend", Mode.RECOMMEND),
        ("Auto", "Off", Mode.OFF),
        ("Auto", None, None),
        ("Automatic", "Auto", None),
        (["Auto"], "Auto", None),
    ],
)
def test_who_turns_a_policy_off_is_obeyed_at_once_and_who_turns_it_on_waits_for_a_tick(
    wanted: object, ran: object, mode: Mode | None
) -> None:
    found = told(policy(spec_mode=wanted, status_mode=ran), NOW)
    assert found.mode is mode
    assert (found.pools[Role.DECODE].desired is None) is (mode is not Mode.AUTO)


def test_a_spec_without_a_mode_recommends() -> None:
    thing = policy()
    del thing["spec"]["mode"]
    assert told(thing, NOW).mode is Mode.RECOMMEND


@pytest.mark.parametrize(
    ("tick_s", "age_s", "stale"),
    [
        (15, 135, False),
        (15, 136, True),
        (60, 270, False),
        (60, 271, True),
        (1, 93, False),
        (1, 94, True),
        (0, 136, True),
        (True, 136, True),
        ("60", 136, True),
        (15, -30, False),
        (15, -31, True),
    ],
)
def test_a_status_is_believed_for_one_write_and_three_ticks_and_not_from_the_future(
    tick_s: object, age_s: float, stale: bool
) -> None:
    found = told(policy(tick_s=tick_s, age_s=age_s), NOW)
    assert found.stale is stale
    assert (found.pools[Role.DECODE] == PoolTold()) is stale


def test_what_is_waited_for_is_what_the_controller_does() -> None:
    tick = Behaviour.model_fields["tick_seconds"]
    least, most = (next(getattr(one, name) for one in tick.metadata if hasattr(one, name)) for name in ("ge", "le"))
    assert (tick.default, least, most) == (TICK_S, SHORTEST_TICK_S, LONGEST_TICK_S)
    assert WRITTEN_S == SLOT_S / 2 + SLOT_S, "half a slot, and then the next place in one"
    assert LATE_TICKS == STALLED_TICKS


def test_a_policy_that_is_being_deleted_tells_nothing() -> None:
    thing = policy()
    thing["metadata"]["deletionTimestamp"] = "2026-01-05T08:59:59Z"
    assert told(thing, NOW).doubt == "it is being deleted"


@pytest.mark.parametrize("when", [None, "", "yesterday", 1767603600, "2026-01-05T08:59:50", "2026-01-05", "2026-13-05T08:59:50Z"])
def test_a_status_without_its_time_is_not_believed(when: object) -> None:
    thing = policy()
    thing["status"]["lastTick"] = when
    found = told(thing, NOW)
    assert found.doubt == "the controller has not told anything yet"
    assert found.pools[Role.DECODE] == PoolTold()


@pytest.mark.parametrize("count", [None, -1, 2.5, 3.0, True, "7", 2**31, [7], {}, float("nan")])
def test_a_count_that_is_none_is_unknown_and_not_zero(count: object) -> None:
    assert told(policy(pools={"decode": {"target": count, "actuation": "hpa"}}), NOW).pools[Role.DECODE].desired is None


@pytest.mark.parametrize("amount", [None, float("nan"), float("inf"), -float("inf"), "0.5", True, 1e16])
def test_an_amount_that_is_no_finite_number_is_unknown_and_not_zero(amount: object) -> None:
    written = {"sloHeadroom": amount, "pressure": amount, "forecast": {"upperTokensPerSecond": amount}}
    found = told(policy(pools={"decode": written}), NOW).pools[Role.DECODE]
    assert (found.slo_headroom, found.pressure, found.forecast_tokens_per_s) == (None, None, None)


def test_a_role_is_the_specs_so_one_that_was_taken_out_is_not_told() -> None:
    thing = policy()
    del thing["spec"]["pools"]["prefill"]
    assert set(told(thing, NOW).pools) == {Role.DECODE}
    del thing["status"]["pools"]["decode"]
    assert told(thing, NOW).pools == {Role.DECODE: PoolTold()}


@pytest.mark.parametrize("file", sorted(STORIES.glob("*.json")), ids=lambda file: file.stem)
def test_what_the_controller_really_writes_is_read_as_it_was_meant(file: Path) -> None:
    status = json.loads(file.read_text())
    thing = policy(spec_mode=status["mode"]) | {"status": status}
    at_s = moment(status["lastTick"])
    assert at_s is not None
    found = told(thing, at_s + 30.0)
    assert not found.stale
    by_hpa = {role: told_of | {"actuation": "hpa"} for role, told_of in status.get("pools", {}).items()}
    handed = told(thing | {"status": status | {"pools": by_hpa}}, at_s + 30.0)
    for role, pool_told in found.pools.items():
        written = status.get("pools", {}).get(role.value, {})
        assert (pool_told.desired, pool_told.handed) == (None, False)
        assert handed.pools[role].desired == (written.get("target") if status["mode"] == "Auto" else None)
        assert pool_told.recommended == written.get("recommended")
        assert pool_told.forecast_tokens_per_s == written.get("forecast", {}).get("upperTokensPerSecond")


@given(metadata=JSON, spec=JSON, status=JSON, when=MOMENTS, pools=JSON, mode=st.sampled_from(["Auto", "Recommend", "Off", 3]))
@examples(40)
@example({}, {}, {}, "0001-01-01T00:00:00+14:00", {}, "Auto")
def test_whatever_an_object_holds_reading_it_raises_nothing_and_what_is_stale_tells_nothing(
    metadata: Any, spec: Any, status: Any, when: Any, pools: Any, mode: Any
) -> None:
    whole = {"metadata": metadata, "spec": spec, "status": status}
    holding = {"mode": mode, "pools": {"prefill": {"target": 3, "actuation": "hpa"}, "decode": pools}}
    for thing in (whole, {"metadata": metadata, "spec": holding, "status": holding | {"lastTick": when}}):
        found = told(thing, NOW)
        for pool_told in found.pools.values():
            assert not found.stale or pool_told == PoolTold()
            assert found.mode is Mode.AUTO or pool_told.desired is None
