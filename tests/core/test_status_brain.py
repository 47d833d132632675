"""Does the status show what the brain does beyond scaling: flips, what it expects of the traffic, floors and sleep?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from autoscaler.core.action import Action, Flip, Mode, Outcome, Verdict
from autoscaler.core.calendar import WEEK_S, Floor
from autoscaler.core.decide import HITS, REQUESTS, Memory, decide
from autoscaler.core.fleet import Flipping, FlipWay, Phase, Role
from autoscaler.core.flip import FlipLimits
from autoscaler.core.observation import Observation
from autoscaler.core.reason import Reason
from autoscaler.core.status import Status, document, status_of
from tests.fakes import fleet, policy, pool, signals

PREFILL, DECODE = Role
NOW = 1000.0
FLEET = replace(
    fleet(pool(PREFILL, 6), pool(DECODE, 2)),
    flip_ways={(PREFILL, DECODE): FlipWay("label", 1.0, 1, 1, in_place=True, loses_cache=True)},
)
UNDER_WAY = Flipping("flip-3", PREFILL, DECODE, 1, 1, Phase.DRAINING, NOW - 20.0, NOW - 30.0)
FLIP = Flip(PREFILL, DECODE, 1, 1, Reason.FLIP, {PREFILL: 6, DECODE: 2})


def status(memory: Memory | None = None) -> Status:
    observation = Observation(NOW, FLEET, signals(FLEET, 9.0))
    return status_of(observation, decide(observation, memory or Memory(), policy()), (), policy())


def test_a_flip_that_is_only_recommended_stands_beside_the_actions() -> None:
    """Prefill needs 2.8 of its 6 and decode 2.8 of its 2, once both have been seen for long enough."""
    wanted = replace(policy(mode=Mode.RECOMMEND), flip=FlipLimits(enabled=True, sighted_s=30.0))
    memory = Memory()
    for tick in range(5):
        observation = Observation(NOW + 15.0 * tick, FLEET, signals(FLEET, 14.0))
        decision = decide(observation, memory, wanted)
        memory = decision.memory
    said = document(status_of(observation, decision, (), wanted))
    assert [(one["from_role"], one["to_role"], one["from_replicas"], one["reason"]) for one in said["flips"]] == [
        ("prefill", "decode", 1, "Flip")
    ]
    assert "verdict" not in said["flips"][0]
    assert all("role" in action for action in said["actions"])
    assert json.loads(json.dumps(said, allow_nan=False)) == said


def test_flips_and_actions_that_were_tried_are_told_apart_with_how_they_ended() -> None:
    scaled = Outcome(Action(DECODE, 2, 3, Reason.DEMAND_ROSE), Verdict.APPLIED)
    said = document(replace(status(), outcomes=(Outcome(FLIP, Verdict.REFUSED, "one is on its way"), scaled)))
    (flip,), (action,) = said["flips"], said["actions"]
    assert (flip["from_role"], flip["verdict"], flip["detail"]) == ("prefill", "Refused", "one is on its way")
    assert flip["seen"] == {"prefill": 6, "decode": 2}
    assert (action["role"], action["verdict"]) == ("decode", "Applied")


def test_flips_under_way_are_told_with_their_phase_and_age() -> None:
    observation = Observation(NOW, replace(FLEET, flips=(UNDER_WAY,)), signals(FLEET, 9.0))
    (flip,) = document(status_of(observation, decide(observation, Memory(), policy()), (), policy()))["flips_in_flight"]
    assert (flip["name"], flip["phase"], flip["age_s"], flip["since_s"]) == ("flip-3", "draining", 30.0, NOW - 20.0)


def test_what_is_needed_lasting_and_soon_stands_beside_what_bound_it() -> None:
    memory = Memory()
    for now, rps in ((NOW - 30.0, 7.0), (NOW - 15.0, 10.0), (NOW, 14.0)):
        observation = Observation(now, FLEET, signals(FLEET, rps))
        decision = decide(observation, memory, policy())
        memory = decision.memory
    told, needed = status_of(observation, decision, (), policy()).pools[DECODE], decision.views[DECODE].demand
    assert needed is not None
    assert (told.demand, told.demand_soon, told.demand_lasting) == (needed.replicas, needed.soon, needed.lasting)
    assert told.needs == needed.needs
    assert told.needs[str(told.bound)] == told.demand


def test_requests_and_the_cached_share_are_told_as_they_are_expected() -> None:
    decided = decide(Observation(NOW - 15.0, FLEET, signals(FLEET, 9.0)), Memory(), policy())
    assert {REQUESTS, HITS} <= decided.memory.series.keys()
    seen = status(decided.memory).traffic
    assert seen is not None
    assert seen.requests is not None
    assert seen.requests.mean == pytest.approx(9.0)
    assert (seen.cached_share, seen.quarantined) == (0.0, False)
    assert seen.cached_ahead is not None
    said = document(status(decided.memory))["traffic"]
    assert (said["requests"]["model"], said["cached_share"]) == (seen.requests.model, 0.0)


def test_a_replica_that_has_just_begun_to_serve_puts_the_share_in_doubt() -> None:
    young = tuple(replace(one, since_s=NOW - 5.0) for one in FLEET.pools[PREFILL].replicas)
    seen = replace(FLEET, pools={**FLEET.pools, PREFILL: replace(FLEET.pools[PREFILL], replicas=young)})
    observation = Observation(NOW, seen, signals(seen, 9.0))
    traffic = status_of(observation, decide(observation, Memory(), policy()), (), policy()).traffic
    assert traffic is not None
    assert traffic.quarantined


def test_the_least_in_force_is_a_floors_while_it_holds() -> None:
    wanted = replace(policy(2), floors={DECODE: (Floor(0.0, WEEK_S, 4),)})
    observation = Observation(NOW, FLEET, signals(FLEET, 9.0))
    pools = status_of(observation, decide(observation, Memory(), wanted), (), wanted).pools
    assert {role: (one.min_replicas, one.min_in_force) for role, one in pools.items()} == {PREFILL: (2, 2), DECODE: (2, 4)}


def test_a_fleet_asleep_says_so_and_since_when_nobody_has_asked() -> None:
    none = fleet(*(pool(role, 0) for role in Role))
    wanted, observation = replace(policy(), zero_after_s=60.0), Observation(NOW, none, signals(none, 0.0))
    told = status_of(observation, decide(observation, Memory(idle_since_s=NOW - 500.0), wanted), (), wanted)
    assert (told.asleep, told.idle_s) == (True, 500.0)
    assert (status().asleep, status().idle_s) == (False, None)
