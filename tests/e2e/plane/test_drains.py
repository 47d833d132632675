"""Is a replica on a real cluster taken out of routing before it goes, and does it go only when it has no work?

Users send requests all the while; every engine notes what became of each. What is measured is
logged (`pytest --log-level=INFO -rP`).
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.conftest import FoundTown
from tests.e2e.plane.town import ROUTING, Leader, Town
from tests.e2e.plane.users import keep_busy, let_end, nobody_noticed, users
from tests.e2e.plane.watching import Steps, Watching
from tests.engines.ledger import End
from tests.engines.traffic import Fate
from tests.engines.vllm import Vllm

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.plane, pytest.mark.slow]

PREFILL, DECODE = Role.PREFILL, Role.DECODE


@pytest.fixture
def town(found_town: FoundTown) -> Town:
    return found_town(Vllm)


def test_the_highest_ordinals_leave_the_routing_end_their_work_and_go_and_nobody_notices(town: Town, during: ExitStack) -> None:
    town.pools({PREFILL: 1, DECODE: 3}, gone_after="500ms")
    town.policy()
    leader, traffic = during.enter_context(Leader(town)), users(town, during)
    keep_busy(town, "decode-1", "decode-2")
    watching, steps = during.enter_context(Watching(town)), during.enter_context(Steps(leader.under_way))
    leader.scale(DECODE, 1)
    town.until_routed(DECODE, "decode-0")
    let_end(town, "decode-2")
    leader.drains_on()
    assert town.wanted(DECODE) == 3
    let_end(town, "decode-1")
    idle_s = time.monotonic()
    ended = leader.until_over()
    nobody_noticed(town, traffic)
    assert (ended.done, ended.forced_requests, town.wanted(DECODE)) == (True, 0, 1)
    assert steps.went(Kind.DRAIN), steps.came
    for victim in ("decode-1", "decode-2"):
        assert watching.labels(victim) == ["decode", "draining"]
    assert watching.labels("decode-0") == ["decode"]
    assert watching.busy_when_deleted() == []
    assert {engine.role for engine in town.fleet.engines.values() if not engine.gone.is_set()} == {PREFILL, DECODE}
    shrunk_s = watching.deleted_at_s("decode-2") - idle_s
    log.info("drain: %.1f s in all; from the last answer to the first deletion %.1f s", ended.took_s, shrunk_s)


def test_who_is_still_busy_at_the_deadline_is_let_in_again_and_stays(town: Town, during: ExitStack) -> None:
    town.pools({PREFILL: 1, DECODE: 2})
    town.policy(behaviour__drain={"deadlineSeconds": 3})
    leader, traffic = during.enter_context(Leader(town)), users(town, during)
    keep_busy(town, "decode-1")
    watching = during.enter_context(Watching(town))
    leader.scale(DECODE, 1)
    ended = leader.until_over()
    assert (ended.done, ended.why, ended.forced_requests) == (False, "not idle within 3 s", 0)
    town.until_routed(DECODE, "decode-0", "decode-1")
    let_end(town, "decode-1")
    taken = town.engine("decode-1").taken
    wait_until(lambda: town.engine("decode-1").taken > taken, "it is sent requests again")
    nobody_noticed(town, traffic)
    assert (watching.labels("decode-1"), town.wanted(DECODE)) == (["decode", "draining", "decode"], 2)
    assert leader.fleet().pools[DECODE].desired == 2


def test_with_force_it_goes_and_what_is_lost_by_that_is_counted(town: Town, during: ExitStack) -> None:
    town.pools({PREFILL: 1, DECODE: 2})
    town.policy(behaviour__drain={"deadlineSeconds": 3, "onDeadline": "force"})
    leader, traffic = during.enter_context(Leader(town)), users(town, during)
    keep_busy(town, "decode-1")
    leader.scale(DECODE, 1)
    ended = leader.until_over()
    traffic.finish()
    lost = town.fleet.ledger.ended(End.LOST_BY_ACT)
    assert (ended.done, town.wanted(DECODE)) == (True, 1)
    assert ended.forced_requests == len(lost) > 0
    assert all("on decode-1" in leg for leg in lost)


def test_of_a_deployment_the_drained_pod_is_the_one_that_goes(town: Town, during: ExitStack) -> None:
    town.pools({PREFILL: 1, DECODE: 3}, deployments=True, gone_after="500ms")
    targets = {f"pools__{role}__target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": str(role)} for role in Role}
    town.policy(**targets)
    leader, traffic = during.enter_context(Leader(town)), users(town, during)
    watching = during.enter_context(Watching(town))
    before = town.routed(DECODE)
    leader.scale(DECODE, 2)
    (victim,) = (victim.name for victim in leader.under_way()[0].change.victims)
    keep_busy(town, victim)
    wait_until(lambda: victim not in town.routed(DECODE), "it has left the routing")
    leader.drains_on()
    let_end(town, victim)
    assert leader.until_over().done
    nobody_noticed(town, traffic)
    assert town.place.ready_pods() == {*town.routed(PREFILL), *before} - {victim}
    assert watching.labels(victim) == ["decode", "draining"]
    assert watching.busy_when_deleted() == []


def test_replicas_that_are_wanted_again_are_let_in_one_by_one(town: Town, during: ExitStack) -> None:
    town.pools({PREFILL: 1, DECODE: 3})
    town.policy()
    leader, traffic = during.enter_context(Leader(town)), users(town, during)
    keep_busy(town, "decode-1", "decode-2")
    watching = during.enter_context(Watching(town))
    leader.scale(DECODE, 1)
    town.until_routed(DECODE, "decode-0")
    leader.scale(DECODE, 2)
    town.until_routed(DECODE, "decode-0", "decode-1")
    leader.scale(DECODE, 3)
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2")
    let_end(town, "decode-1", "decode-2")
    assert leader.until_over(2).why == "wanted again"
    nobody_noticed(town, traffic)
    assert (town.wanted(DECODE), leader.fleet().pools[DECODE].serving) == (3, 3)
    assert not any(one.going for one in watching.sightings)


def test_behind_a_readiness_gate_pods_are_let_in_at_start_and_drained_by_it(town: Town, during: ExitStack) -> None:
    town.pools({PREFILL: 1, DECODE: 2}, gate=True)
    assert town.place.ready_pods() == set()
    town.policy(routing={"kind": "readinessGate", "settleSeconds": ROUTING["settleSeconds"]})
    leader = during.enter_context(Leader(town))
    town.until_routed(DECODE, "decode-0", "decode-1")
    town.until_routed(PREFILL, "prefill-0")
    traffic = users(town, during)
    keep_busy(town, "decode-1")
    watching = during.enter_context(Watching(town))
    leader.scale(DECODE, 1)
    town.until_routed(DECODE, "decode-0")
    leader.drains_on()
    assert town.wanted(DECODE) == 2
    let_end(town, "decode-1")
    assert leader.until_over().done
    nobody_noticed(town, traffic)
    assert (watching.readiness("decode-1"), watching.readiness("decode-0")) == ([True, False], [True])
    assert (watching.busy_when_deleted(), town.wanted(DECODE)) == ([], 1)


def test_a_victim_that_is_lost_and_comes_back_is_drained_anew(town: Town, during: ExitStack) -> None:
    """It may come back twice: kwok, the kubelet here, deletes a pod by its name alone, and late can meet the new one."""
    town.pools({PREFILL: 1, DECODE: 2})
    town.policy()
    leader, traffic = during.enter_context(Leader(town)), users(town, during)
    keep_busy(town, "decode-1")
    watching = during.enter_context(Watching(town))
    leader.scale(DECODE, 1)
    town.until_routed(DECODE, "decode-0")
    town.engines.mine("decode-1")
    town.place.kubectl("delete", "pod", "decode-1", "--grace-period=1", "--wait=false")
    wait_until(lambda: watching.labels("decode-1")[:4] == ["decode", "draining"] * 2, "it is taken out again")
    ended = leader.until_over()
    traffic.finish()
    assert (ended.done, ended.forced_requests, town.wanted(DECODE)) == (True, 0, 1)
    assert traffic.ended(Fate.LOST_BY_ACT) == town.fleet.ledger.ended(End.LOST_BY_ACT) == []
    assert len({one.uid for one in watching.of("decode-1")}) >= 2


def test_somebody_who_scales_meanwhile_is_heard(town: Town, during: ExitStack) -> None:
    town.pools({PREFILL: 1, DECODE: 2})
    town.policy()
    leader, traffic = during.enter_context(Leader(town)), users(town, during)
    keep_busy(town, "decode-1")
    leader.scale(DECODE, 1)
    town.until_routed(DECODE, "decode-0")
    town.place.kubectl("scale", f"leaderworkerset/{DECODE}", "--replicas=3")
    let_end(town, "decode-1")
    ended = leader.until_over()
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2")
    nobody_noticed(town, traffic)
    assert (ended.done, ended.why, town.wanted(DECODE)) == (False, "somebody else made decode 3", 3)
