"""Is each duty one write, and is a "no" remembered until it is a "yes"?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.kubernetes.pods import COST
from autoscaler.adapters.routing import LabelRouting, ReadinessRouting, SglangGatewayRouting
from autoscaler.conductor import Hands, routing_of
from autoscaler.conductor.looking import Looking
from autoscaler.core.duties import Count, Remake, Route, Switch
from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind, Step, Victim
from tests.adapters.kubernetes.fake_cluster import DEPLOYMENTS, KEY, LABEL, PODS, FakeCluster
from tests.adapters.kubernetes.transactions.standing_fleet import moving
from tests.conductor.stage import BY_LABEL, TERM, Stage, staged
from tests.policy_documents import policy

P, D = Role.PREFILL, Role.DECODE
FORBIDDEN = ApiFault(403, "Forbidden", "no access to pods")
DRAIN = moving(Kind.DRAIN, Step.SHRINK, ["chat-prefill-2"])


def victim(stage: Stage, name: str = "chat-prefill-2") -> Victim:
    return Victim(name, stage.cluster.pod(name)["metadata"]["uid"])


def done(stage: Stage, duty: Any, looking: Looking | None = None, one: Any = DRAIN) -> str:
    ground = stage.ground
    hands = Hands(KEY, stage.fleets, looking or Looking(), TERM)
    return hands.do(duty, one, ground, routing_of(ground.spec, stage.cluster), stage.clock.now())


def test_a_route_that_is_refused_for_good_is_remembered_until_it_is_done() -> None:
    with staged() as stage:
        looking, route = Looking(), Route(victim(stage), None)
        stage.cluster.before = lambda verb, path: FORBIDDEN
        why = done(stage, route, looking)
        assert "no access to pods" in why
        assert looking.answers == {route.victim.uid: (why, "")}
        stage.cluster.before = lambda verb, path: None
        assert done(stage, route, looking) == ""
        assert (looking.answers, stage.cluster.label("chat-prefill-2")) == ({}, "draining")


def test_a_route_that_may_be_done_later_is_not() -> None:
    with staged() as stage:
        looking = Looking()
        stage.cluster.before = lambda verb, path: ApiFault(429, "TooManyRequests", "later")
        assert "later" in done(stage, Route(victim(stage), None), looking)
        assert looking.answers == {}


def test_who_is_gone_needs_no_route_and_without_routing_there_is_none() -> None:
    with staged() as stage:
        assert done(stage, Route(Victim("chat-prefill-9", "u"), None)) == ""
        stage.policies.document = policy(mode="Auto")
        looking, route = Looking(), Route(victim(stage), None)
        assert done(stage, route, looking) == "the policy says no routing any more"
        assert route.victim.uid in looking.answers
        assert stage.cluster.writes == []


def test_a_count_is_written_by_compare_and_swap_in_our_term() -> None:
    with staged() as stage:
        assert "somebody else" in done(stage, Count(P, 4, 2))
        assert done(stage, Count(P, 3, 2)) == ""
        assert stage.cluster.count("chat-prefill") == 2
        stage.terms.now = TERM + 1
        assert "term 3 ended" in done(stage, Count(P, 2, 1))
        assert stage.cluster.count("chat-prefill") == 2


def test_where_the_cluster_chooses_it_is_told_who_goes_before_the_count_is_written() -> None:
    kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
    pools = {role.value: {"target": {**kind, "name": f"chat-{role}"}, "max": 4} for role in Role}
    with staged(plural=DEPLOYMENTS, pools=pools) as stage:
        first, *_, last = stage.cluster.pods("chat-prefill")
        stage.cluster.edit(last, annotations={COST: "-1000000", "theirs": "kept"})  # of a drain that was called off
        one = moving(Kind.DRAIN, Step.SHRINK, [first])
        assert done(stage, Count(P, 3, 2), one=one) == ""
        assert [path for _, path in stage.cluster.writes] == [f"{PODS}/{first}", f"{PODS}/{last}"]
        assert stage.cluster.pod(last)["metadata"]["annotations"] == {COST: "0", "theirs": "kept"}
        assert done(stage, Count(P, 3, 2), one=one) == ""
        assert (stage.cluster.count("chat-prefill"), first in stage.cluster.pods()) == (2, False)
        assert last in stage.cluster.pods()


def test_a_fault_of_telling_who_goes_keeps_the_count() -> None:
    kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
    pools = {role.value: {"target": {**kind, "name": f"chat-{role}"}, "max": 4} for role in Role}
    with staged(plural=DEPLOYMENTS, pools=pools) as stage:
        stage.cluster.before = lambda verb, path: FORBIDDEN
        one = moving(Kind.DRAIN, Step.SHRINK, stage.cluster.pods("chat-prefill")[:1])
        assert done(stage, Count(P, 3, 2), one=one) == str(FORBIDDEN)
        assert stage.cluster.count("chat-prefill") == 3


def test_a_pod_is_made_anew_only_if_it_is_the_one_that_was_meant_and_still_away() -> None:
    with staged() as stage:
        meant = victim(stage)
        assert "LetInAgain" in done(stage, Remake(meant))
        assert stage.cluster.pod("chat-prefill-2")["metadata"]["uid"] == meant.uid
        assert done(stage, Route(meant, None)) == ""
        assert done(stage, Remake(meant)) == ""
        assert stage.cluster.pod("chat-prefill-2")["metadata"]["uid"] != meant.uid
        assert done(stage, Remake(meant)) == ""  # another by now
        assert "chat-prefill-2" in stage.cluster.pods("chat-prefill")


def test_an_engine_that_has_no_switch_says_so() -> None:
    with staged() as stage:
        looking, duty = Looking(), Switch(victim(stage), D)
        assert done(stage, duty, looking) == "vllm engines have no switch"
        assert looking.answers == {duty.victim.uid: ("vllm engines have no switch", "")}


@pytest.mark.parametrize(
    ("said", "way"),
    [
        (None, type(None)),
        (dict(BY_LABEL), LabelRouting),
        ({"kind": "readinessGate"}, ReadinessRouting),
        ({"kind": "sglangGateway", "label": LABEL, "url": "http://gateway:30000"}, SglangGatewayRouting),
    ],
)
def test_each_kind_of_routing_has_its_way(said: Any, way: type) -> None:
    assert type(routing_of(policy(**({} if said is None else {"routing": said})).spec, FakeCluster())) is way
