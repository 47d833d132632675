"""Does what the leader publishes reach a sidecar as what was seen?"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.core.calibration import CalibrationLimits, Trust, coefficients, restored
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.observation import Gap, Gauges, Observation, Signals
from autoscaler.core.outlook import Strategy
from autoscaler.core.published import Judged, document, sure_profile
from autoscaler.core.qos import Promise, QosClass
from autoscaler.core.rejection import RejectionMode, Rules
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.state import Heard, read
from tests.fakes import PROFILE, SHAPE, fleet, policy, pool, signals

PROMISES = {SloKind.TTFT: Promise(2.0, 0.5, 10.0, 0.5), SloKind.TPOT: Promise(0.05, 0.02, 0.2, 0.99)}
GOLD = QosClass("gold", PROMISES, 5, {Role.PREFILL: 0.2}, (("x-tier", "gold"),), frozenset({"vip"}), False, 200, "plain")
RULES = Rules(
    {"gold": GOLD, "plain": QosClass("plain", PROMISES)}, "plain", RejectionMode.ENFORCE, Strategy.EARLY, 0.1, 0.7, 1.5
)  # nothing in it is what it would be by itself
JUDGED = Judged(RULES, 429, "llama")
FLEET = fleet(*(pool(role, 4) for role in Role))


def heard(content: dict[str, Any] | None) -> Heard:
    assert content is not None
    found = read(json.dumps({**content, "epoch": 1, "sequence": 1, "issued_at": 5.0}).encode())
    assert isinstance(found, Heard), found
    return found


def published(seen: Signals, *, measured: bool = True) -> dict[str, Any] | None:
    return document(Observation(100.0, FLEET, seen), PROFILE if measured else None, SHAPE, policy(), JUDGED)


def test_what_was_seen_is_what_a_sidecar_judges_by() -> None:
    board = Board()
    found = heard(published(signals(FLEET, 8.0, waiting=dict.fromkeys(Role, 12.0))))
    assert board.offer(found, 50.0, 0.0, trusted=True)
    assert board.picture is not None
    standing = board.picture.standing
    assert standing.profile == PROFILE
    assert (standing.shape.prompt_tokens, standing.shape.output_tokens) == (SHAPE.prompt_tokens, SHAPE.output_tokens)
    assert standing.crowds[Role.PREFILL].waiting == pytest.approx(12.0)
    assert standing.crowds[Role.PREFILL].waiting_tokens == pytest.approx(12.0 * SHAPE.uncached_tokens)
    assert standing.crowds[Role.DECODE].serving == 4
    assert board.picture.rules == RULES
    assert board.picture.namespace + "/llama" == f"{FLEET.key.partition('/')[0]}/{board.picture.model_name}"


def test_pods_that_do_not_tell_are_taken_to_be_as_the_others() -> None:
    silent = [FLEET.pools[Role.PREFILL].replicas[0].name]
    content = published(signals(FLEET, 8.0, waiting=dict.fromkeys(Role, 12.0), silent=silent))
    whole = published(signals(FLEET, 8.0, waiting=dict.fromkeys(Role, 12.0)))
    assert content is not None
    assert whole is not None
    assert content["crowds"][Role.PREFILL]["serving"] == 4
    assert content["crowds"][Role.PREFILL]["waiting"] == pytest.approx(whole["crowds"][Role.PREFILL]["waiting"], rel=0.35)


def test_a_replica_that_does_nothing_is_told_as_idle_and_one_that_says_nothing_is_not() -> None:
    seen = signals(FLEET, 8.0, waiting=dict.fromkeys(Role, 12.0))
    names = [replica.name for replica in FLEET.pools[Role.PREFILL].replicas]
    gauges = {name: Gauges(1.0, 1.0, 0.1, 0.5) for members in FLEET.pools.values() for name in (r.name for r in members.replicas)}
    gauges[names[0]] = Gauges(0.0, 0.0, 0.0, 0.5)
    del gauges[names[1]]
    content = published(replace(seen, gauges=gauges))
    assert content is not None
    assert content["crowds"][Role.PREFILL]["idle"] == 1


def test_speed_that_is_not_calibrated_is_told_as_not_known() -> None:
    assert heard(published(signals(FLEET, 8.0), measured=False)).text.profile is None


@pytest.mark.parametrize(
    ("trust", "measured", "sure"),
    [
        (Trust.PROFILE, (), True),
        (Trust.MEASURED, (), False),
        (Trust.MEASURED, (Role.PREFILL,), False),
        (Trust.MEASURED, tuple(Role), True),
        (Trust.NOTHING, (Role.PREFILL,), False),
        (Trust.NOTHING, tuple(Role), True),
    ],
)
def test_nobody_is_judged_by_a_speed_that_is_neither_measured_nor_the_owners_word(
    trust: Trust, measured: tuple[Role, ...], sure: bool
) -> None:
    wanted = replace(policy(), calibration=CalibrationLimits(trust))
    speeds = {role: restored(coefficients(PROFILE, role), (2.0, 2.0, 2.0), 0.0) for role in measured}
    found = sure_profile(wanted, speeds)
    assert (found is not None) == sure
    assert found is None or trust is Trust.PROFILE or found.prefill_s[1] == pytest.approx(2 * PROFILE.prefill_s[1])


@pytest.mark.parametrize("seen", [Signals.unknown(Gap.TIMEOUT, "dark"), replace(signals(FLEET, 8.0), gauges={})])
def test_without_a_look_at_every_role_nothing_is_published(seen: Signals) -> None:
    assert published(seen) is None
