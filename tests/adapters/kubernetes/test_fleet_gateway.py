"""Is a fleet read from lists alone, and is a count written only where nothing speaks against it?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.complaints import ABOUT_NODES, NOT_CREATED
from autoscaler.adapters.kubernetes.fleet_gateway import KubernetesFleet
from autoscaler.adapters.kubernetes.memories import FEWEST_KEPT
from autoscaler.core.action import Action, Flip, Verdict
from autoscaler.core.fleet import Fleet, Lack, Role
from autoscaler.core.reason import Reason
from autoscaler.ports import Fault
from tests.adapters.kubernetes.fake_api import REFUSED, FakeApi
from tests.adapters.kubernetes.fake_cluster import PDA
from tests.adapters.prometheus_server import wait_until
from tests.conductor.stage import FLIPS, Stage, staged
from tests.fakes import FakeLeadership
from tests.policy_documents import policy

NOW = 2_000_000_000.0
TERM = 7
KEY, NS = "default/chat", "namespaces/default"
GROUP = "/apis/leaderworkerset.x-k8s.io/v1"
SETS = f"{GROUP}/{NS}/leaderworkersets"
DEPLOYMENTS = f"/apis/apps/v1/{NS}/deployments"
PODS, EVENTS = f"/api/v1/{NS}/pods", f"/api/v1/{NS}/events"
HPAS = f"/apis/autoscaling/v2/{NS}/horizontalpodautoscalers"
SCALED_OBJECTS = f"/apis/keda.sh/v1alpha1/{NS}/scaledobjects"
SELECTED = (ABOUT_NODES["fieldSelector"], NOT_CREATED["fieldSelector"])
FORBIDDEN = ApiFault(403, "Forbidden", "horizontalpodautoscalers is forbidden")
LWS = "leaderworkerset.sigs.k8s.io"
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}
LWS_REF = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet", "name": "chat-decode"}


def resources(plural: str, kind: str, *subresources: str) -> Body:
    names = (plural, *(f"{plural}/{name}" for name in subresources))
    return {"resources": [{"name": name, "kind": kind if name == plural else "Other"} for name in names]}


def a_set(name: str, replicas: int, **extra: Any) -> Body:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", **extra.pop("metadata", {})},
        "spec": {"replicas": replicas},
        **extra,
    }


def leader(name: str, number: int) -> Body:
    labels = {f"{LWS}/name": name, f"{LWS}/group-index": str(number), f"{LWS}/worker-index": "0"}
    metadata = {"name": f"{name}-{number}", "labels": labels, "creationTimestamp": "2033-05-18T03:00:00Z"}
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2033-05-18T03:01:00Z"}
    return {"metadata": metadata, "status": {"phase": "Running", "conditions": [ready]}}


def scale(name: str, replicas: int) -> Body:
    selector = f"{LWS}/name={name},{LWS}/worker-index=0"
    return {"metadata": {"uid": f"uid-{name}"}, "spec": {"replicas": replicas}, "status": {"selector": selector}}


@pytest.fixture
def api() -> FakeApi:
    """A cluster with two LeaderWorkerSets of two groups each, and no other autoscaler."""
    api = FakeApi()
    api.holds(GROUP, resources("leaderworkersets", "LeaderWorkerSet", "scale", "status"))
    names = ("chat-prefill", "chat-decode")
    api.lists(SETS, *(a_set(name, 2) for name in names))
    api.lists(PODS, *(leader(name, number) for name in names for number in range(2)))
    api.lists(EVENTS)
    api.lists(HPAS)
    for name in names:
        api.holds(f"{SETS}/{name}/scale", scale(name, 2))
    return api


@pytest.fixture
def gateway(api: FakeApi) -> Iterator[KubernetesFleet]:
    gateway = KubernetesFleet(api, {KEY: policy()})
    yield gateway
    gateway.stop()


def fleet(gateway: KubernetesFleet) -> Fleet:
    found = gateway.read(KEY, NOW)
    assert isinstance(found, Fleet), found
    return found


def fault(gateway: KubernetesFleet) -> str:
    found = gateway.read(KEY, NOW)
    assert isinstance(found, Fault), found
    return found.detail


def to(count: int, seen: int = 2) -> Action:
    return Action(Role.DECODE, seen, count, Reason.SCALE_UP if count > seen else Reason.SCALE_DOWN)


def test_a_fleet_is_read_once_and_then_only_followed(api: FakeApi, gateway: KubernetesFleet) -> None:
    for _ in range(5):
        pools = fleet(gateway).pools
    assert {role: (pool.desired, pool.serving) for role, pool in pools.items()} == {Role.PREFILL: (2, 2), Role.DECODE: (2, 2)}
    assert [replica.name for replica in pools[Role.DECODE].replicas] == ["chat-decode-0", "chat-decode-1"]
    assert max(api.times_asked(path) for path in (GROUP, SETS, PODS, HPAS, f"{SETS}/chat-decode/scale")) == 1
    assert sorted(query["fieldSelector"] for path, query in api.asked if path == EVENTS) == sorted(SELECTED)


def test_a_write_tests_the_object_and_the_count_it_was_decided_on(api: FakeApi, gateway: KubernetesFleet) -> None:
    fleet(gateway)
    api.holds(f"PATCH {SETS}/chat-decode/scale", scale("chat-decode", 3))
    assert gateway.apply(KEY, to(3), NOW, TERM).verdict is Verdict.APPLIED
    assert api.patched == [
        (
            f"{SETS}/chat-decode/scale",
            [
                {"op": "test", "path": "/metadata/uid", "value": "uid-chat-decode"},
                {"op": "test", "path": "/spec/replicas", "value": 2},
                {"op": "add", "path": "/spec/replicas", "value": 3},
            ],
        )
    ]


def test_a_count_of_zero_which_json_leaves_out_is_tested_too(api: FakeApi, gateway: KubernetesFleet) -> None:
    fleet(gateway)
    gateway.apply(KEY, to(1, seen=0), NOW, TERM)
    ((_, operations),) = api.patched
    assert operations[1] == {"op": "test", "path": "/spec", "value": {}}


@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (ApiFault(422, "Invalid", "the server rejected our request"), Verdict.CONFLICT, "somebody else"),
        (ApiFault(409, "Conflict", "the object has been modified"), Verdict.CONFLICT, "somebody else"),
        (ApiFault(422, "Invalid", "spec.replicas: must be at most 9", 1), Verdict.REFUSED, "at most 9"),
        (ApiFault(403, "Forbidden", "no access"), Verdict.REFUSED, "no access"),
        (ApiFault(404, "NotFound", "not found"), Verdict.REFUSED, "not found"),
        (ApiFault(429, "TooManyRequests", "later"), Verdict.FAILED, "not written"),
        (ApiFault(0, "ReadTimeoutError", "no answer"), Verdict.FAILED, "whether it was written shows at the next look"),
        (ApiFault(500, "InternalError", "etcd"), Verdict.FAILED, "whether it was written shows at the next look"),
        (scale("chat-decode", 2), Verdict.REFUSED, "the cluster made it 2"),
    ],
)
def test_every_answer_to_a_write_has_its_verdict(
    api: FakeApi, gateway: KubernetesFleet, answer: Body | ApiFault, verdict: Verdict, words: str
) -> None:
    fleet(gateway)
    api.holds(f"PATCH {SETS}/chat-decode/scale", answer)
    outcome = gateway.apply(KEY, to(3), NOW, TERM)
    assert outcome.verdict is verdict
    assert words in outcome.detail


def test_nothing_is_taken_away_during_a_rollout_and_something_may_be_added(api: FakeApi, gateway: KubernetesFleet) -> None:
    updating = {"conditions": [{"type": "UpdateInProgress", "status": "True"}]}
    api.lists(SETS, a_set("chat-prefill", 2), a_set("chat-decode", 2, status=updating))
    assert fleet(gateway).pools[Role.DECODE].note == "a rollout is under way"
    assert "rollout" in gateway.apply(KEY, to(1), NOW, TERM).detail
    assert not api.patched
    gateway.apply(KEY, to(3), NOW, TERM)
    assert len(api.patched) == 1


def test_a_deployment_that_still_counts_old_pods_is_rolling_out(api: FakeApi) -> None:
    api.holds("/apis/apps/v1", resources("deployments", "Deployment", "scale"))
    status = {"replicas": 2, "availableReplicas": 2}  # the first new pod was refused: none is updated, and that is left out
    api.lists(DEPLOYMENTS, a_set("d", 2, status=status))
    api.holds(f"{DEPLOYMENTS}/d/scale", {"spec": {"replicas": 2}, "status": {"selector": "app=d"}})
    pools = {"prefill": {"target": {"name": "chat-prefill"}, "max": 4}, "decode": {"target": DEPLOYMENT, "max": 4}}
    gateway = KubernetesFleet(api, {KEY: policy(pools=pools)})
    assert fleet(gateway).pools[Role.DECODE].note == "a rollout is under way"
    gateway.stop()
    assert {"labelSelector": "app=d"}.items() <= next(
        query for path, query in api.asked if query.get("labelSelector") == "app=d"
    ).items()


@pytest.mark.parametrize(
    ("path", "ref", "kind"),
    [
        (HPAS, {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}, "HorizontalPodAutoscaler"),
        (SCALED_OBJECTS, {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}, "ScaledObject"),
    ],
)
def test_another_autoscaler_is_refused_by_name(
    api: FakeApi, gateway: KubernetesFleet, path: str, ref: dict[str, str], kind: str
) -> None:
    rival = {"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": {**ref, "name": "chat-decode"}}}
    elsewhere = {"metadata": {"name": "alien"}, "spec": {"scaleTargetRef": {"name": "chat-prefill"}}}  # a Deployment, by default
    api.lists(path, rival, elsewhere)
    pools = fleet(gateway).pools
    assert (pools[Role.DECODE].note, pools[Role.PREFILL].note) == (f"{kind} theirs scales it already; remove one of the two", "")
    outcome = gateway.apply(KEY, to(3), NOW, TERM)
    assert (outcome.verdict, f"{kind} theirs" in outcome.detail) == (Verdict.REFUSED, True)
    assert not api.patched


def test_nothing_is_written_while_other_autoscalers_cannot_be_listed(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.holds(HPAS, FORBIDDEN)
    fleet(gateway)
    outcome = gateway.apply(KEY, to(3), NOW, TERM)
    told = "not written: Forbidden: whether a HorizontalPodAutoscaler scales it is not known: "
    assert (outcome.verdict, outcome.detail) == (Verdict.FAILED, told + FORBIDDEN.detail)
    assert not api.patched


def test_the_topmost_owner_is_named_to_be_targeted_instead(api: FakeApi, gateway: KubernetesFleet) -> None:
    def owned_by(kind: str, name: str) -> dict[str, Any]:
        return {"ownerReferences": [{"apiVersion": "serving.x/v1", "kind": kind, "name": name, "controller": True}]}

    api.lists(SETS, a_set("chat-prefill", 2), a_set("chat-decode", 2, metadata=owned_by("Middle", "m")))
    both = {"resources": [{"name": "middles", "kind": "Middle"}, {"name": "llms", "kind": "LLMInferenceService"}]}
    api.holds("/apis/serving.x/v1", both)
    api.holds(f"/apis/serving.x/v1/{NS}/middles/m", {"metadata": owned_by("LLMInferenceService", "top")})
    api.holds(f"/apis/serving.x/v1/{NS}/llms/top", {"metadata": {}})
    fleet(gateway)
    outcome = gateway.apply(KEY, to(3), NOW, TERM)
    assert outcome.verdict is Verdict.REFUSED
    assert "owned by LLMInferenceService top" in outcome.detail
    assert not api.patched


def test_a_kind_that_is_not_installed_or_has_no_scale_is_a_fault(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.holds(GROUP, resources("leaderworkersets", "LeaderWorkerSet"))
    told = "NotScalable: LeaderWorkerSet of leaderworkerset.x-k8s.io/v1 has no /scale subresource; "
    told += "target an object that can be scaled"
    assert fault(gateway) == f"prefill LeaderWorkerSet default/chat-prefill: {told}"
    del api.answers[GROUP]
    other = KubernetesFleet(api, {KEY: policy()})
    unknown = "this cluster has no LeaderWorkerSet of leaderworkerset.x-k8s.io/v1; "
    assert unknown + "install it, or correct target.kind and target.apiVersion" in fault(other)
    other.stop()


def test_a_server_that_does_not_answer_is_asked_once_for_all_pools(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.holds(GROUP, REFUSED)
    for _ in range(3):
        assert "Connection refused" in fault(gateway)
    assert api.times_asked(GROUP) == 1


def test_a_target_without_a_pod_selector_yet_is_a_fault(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.holds(f"{SETS}/chat-prefill/scale", {"spec": {"replicas": 2}, "status": {}}, scale("chat-prefill", 2))
    assert "names no pods (yet)" in fault(gateway)
    fleet(gateway)


def test_a_new_count_and_a_lost_pod_show_without_a_new_list(api: FakeApi, gateway: KubernetesFleet) -> None:
    fleet(gateway)
    api.tell(SETS, "MODIFIED", a_set("chat-decode", 5))
    api.tell(PODS, "DELETED", leader("chat-decode", 1))

    def seen() -> bool:
        pool = fleet(gateway).pools[Role.DECODE]
        return (pool.desired, len(pool.replicas)) == (5, 1)

    wait_until(seen, "5 wanted, one left")
    assert (api.times_asked(SETS), api.times_asked(PODS)) == (1, 1)


def test_an_object_that_is_not_there_is_named_with_what_to_do(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.lists(SETS, a_set("chat-prefill", 2))
    told = "NotFound: there is no such object; create it, or correct target.name and target.kind"
    assert fault(gateway) == f"decode LeaderWorkerSet default/chat-decode: {told}"


def test_a_policy_that_is_gone_is_a_fault_and_writes_nothing(api: FakeApi, gateway: KubernetesFleet) -> None:
    found = gateway.read("default/gone", NOW)
    assert isinstance(found, Fault)
    assert found.detail == "there is no policy default/gone any more"
    assert gateway.apply("default/gone", to(3), NOW, TERM).verdict is Verdict.CONFLICT
    assert not api.patched


class LedgerOf:
    """Answers always the same, and keeps what it was asked and how many patches there were by then."""

    def __init__(self, api: FakeApi, answer: ApiFault | None) -> None:
        self.api, self.answer = api, answer
        self.intended: list[tuple[str, int, Action, int]] = []

    def intend(self, key: str, term: int, action: Action) -> ApiFault | None:
        self.intended.append((key, term, action, len(self.api.patched)))
        return self.answer


def test_an_action_is_put_down_in_the_ledger_before_it_is_carried_out(api: FakeApi) -> None:
    ledger = LedgerOf(api, None)
    gateway = KubernetesFleet(api, {KEY: policy()}, ledger=ledger)
    fleet(gateway)
    api.holds(f"PATCH {SETS}/chat-decode/scale", scale("chat-decode", 3))
    assert gateway.apply(KEY, to(3), NOW, TERM).verdict is Verdict.APPLIED
    assert ledger.intended == [(KEY, TERM, to(3), 0)]
    gateway.stop()


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (ApiFault(422, "Invalid", "a later leader"), Verdict.CONFLICT),
        (ApiFault(409, "Conflict", "another term"), Verdict.CONFLICT),
        (ApiFault(404, "NotFound", "it is gone"), Verdict.FAILED),
        (ApiFault(0, "ReadTimeoutError", "no answer"), Verdict.FAILED),
    ],
)
def test_what_the_ledger_forbids_is_not_written(api: FakeApi, answer: ApiFault, verdict: Verdict) -> None:
    gateway = KubernetesFleet(api, {KEY: policy()}, ledger=LedgerOf(api, answer))
    fleet(gateway)
    outcome = gateway.apply(KEY, to(3), NOW, TERM)
    assert (outcome.verdict, outcome.detail) == (verdict, f"not written: {answer}")
    assert not api.patched
    gateway.stop()


@pytest.mark.parametrize("answers", [[None], [TERM + 1]])
def test_a_term_that_ended_while_the_cluster_was_asked_writes_nothing(api: FakeApi, answers: list[int | None]) -> None:
    """Owners, other autoscalers and the ledger may each take seconds; the renew deadline counts until the write begins."""
    gateway = KubernetesFleet(api, {KEY: policy()}, ledger=LedgerOf(api, None), leadership=FakeLeadership(answers))
    fleet(gateway)
    outcome = gateway.apply(KEY, to(3), NOW, TERM)
    assert (outcome.verdict, api.patched) == (Verdict.CONFLICT, [])
    gateway.stop()


def test_what_is_refused_anyway_is_not_put_down_in_the_ledger(api: FakeApi) -> None:
    ledger = LedgerOf(api, None)
    gateway = KubernetesFleet(api, {KEY: policy()}, ledger=ledger)
    api.lists(HPAS, {"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": LWS_REF}})
    assert gateway.apply(KEY, to(3), NOW, TERM).verdict is Verdict.REFUSED
    assert not ledger.intended
    gateway.stop()


def test_what_events_say_about_missing_replicas_is_a_shortage_and_no_note(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.lists(SETS, a_set("chat-prefill", 2), a_set("chat-decode", 4))
    pending = leader("chat-decode", 2)
    no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/4 nodes"}
    pending["status"] = {"phase": "Pending", "conditions": [no_room]}
    api.lists(PODS, *(leader("chat-decode", number) for number in range(2)), pending)
    quota = {"involvedObject": {"kind": "StatefulSet", "name": "chat-decode"}, "message": "exceeded quota: small"}
    refused = {"involvedObject": {"kind": "Pod", "name": "chat-decode-2"}, "reason": "NotTriggerScaleUp", "message": "max size"}
    for selector, body in zip(SELECTED, (refused, quota), strict=True):
        metadata = {"name": "event", "creationTimestamp": "2033-05-18T03:33:10Z"}
        api.lists(f"{EVENTS}?{selector}", {**body, "metadata": metadata})
    pool = fleet(gateway).pools[Role.DECODE]
    assert [(one.lack, one.replicas, one.told_s, one.text) for one in pool.shortages] == [
        (Lack.NOT_CREATED, 1, NOW - 10, "exceeded quota: small"),
        (Lack.NODES_REFUSED, 1, NOW - 10, "max size"),
    ]
    assert pool.note == ""


def test_many_fleets_are_read_at_once_from_the_same_lists(api: FakeApi) -> None:
    keys = [f"default/{number}" for number in range(64)]
    gateway = KubernetesFleet(api, dict.fromkeys(keys, policy()))
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda key: gateway.read(key, NOW), keys))
    assert {one.pools[Role.DECODE].serving for one in found if isinstance(one, Fleet)} == {2}
    assert [one.key for one in found if isinstance(one, Fleet)] == keys
    assert max(api.times_asked(path) for path in (GROUP, SETS, PODS, HPAS)) == 1
    gateway.stop()


def test_a_target_whose_list_hangs_is_a_fault_soon_and_for_its_own_fleet_alone(api: FakeApi) -> None:
    let_go = threading.Event()
    answer = api.get

    def get(path: str, **query: str) -> Body | ApiFault:
        if path == DEPLOYMENTS:
            let_go.wait()
        return answer(path, **query)

    api.get = get  # type: ignore[method-assign]
    api.holds("/apis/apps/v1", resources("deployments", "Deployment", "scale"))
    pools = {"prefill": {"target": DEPLOYMENT, "max": 4}, "decode": {"target": {"name": "chat-decode"}, "max": 4}}
    hanging = policy(pools=pools)
    gateway = KubernetesFleet(api, {KEY: policy(), "default/hanging": hanging}, patience_s=0.05)
    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(gateway.read, "default/hanging", NOW)
        fleet(gateway)
        found = stuck.result()
    assert isinstance(found, Fault)
    assert found.detail == f"prefill Deployment default/d: Unanswered: no answer yet about {DEPLOYMENTS}"
    let_go.set()
    gateway.stop()


def test_memories_of_policies_that_went_are_dropped_as_others_come(api: FakeApi) -> None:
    document = policy()
    documents = {KEY: document}
    gateway = KubernetesFleet(api, documents)
    for number in range(2 * FEWEST_KEPT):
        documents[f"default/{number}"] = document
        assert isinstance(gateway.read(f"default/{number}", NOW), Fleet)
        del documents[f"default/{number}"]
    assert len(gateway._memories) <= FEWEST_KEPT + len(Role)
    gateway.stop()


def test_a_flip_needs_a_place_where_it_can_be_stored(api: FakeApi, gateway: KubernetesFleet) -> None:
    assert fleet(gateway).flip_ways == {}
    flip = Flip(Role.DECODE, Role.PREFILL, 1, 1, Reason.SCALE_UP, {Role.PREFILL: 2, Role.DECODE: 2})
    outcome = gateway.apply(KEY, flip, NOW, TERM)
    assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, "flips need the policy as an object of the cluster")
    assert not api.patched


PAIRED = {role.value: {"target": {"name": f"chat-{role}"}, "max": 4, "capacityPool": "h100"} for role in Role}


def resizing(order: str, budget: int) -> dict[str, Any]:
    flip = {"enabled": True, "driver": "pairedResize", "order": order}
    return {"pools": PAIRED, "behaviour": {"flip": flip}, "gpuBudget": budget}


def test_with_a_book_a_shrink_is_begun_and_not_written() -> None:
    with staged() as stage:
        outcome = stage.scale(Role.PREFILL, 3, 2)
        assert (outcome.verdict, outcome.detail) == (Verdict.APPLIED, f"begun: drain-chat-prefill-2-{NOW:.0f}")
        assert (stage.cluster.count("chat-prefill"), stage.cluster.stored) == (3, [("drain", "leave")])
        assert stage.fleet.pools[Role.PREFILL].note == f"drain-chat-prefill-2-{NOW:.0f}: leave"
        assert stage.fleet.pools[Role.DECODE].note == ""


def test_with_a_book_growth_is_written_at_once_and_put_down_before() -> None:
    with staged() as stage:
        assert stage.scale(Role.DECODE, 2, 4).verdict is Verdict.APPLIED
        assert (stage.cluster.count("chat-decode"), stage.cluster.state["desired"]) == (4, {"decode": 4})
        assert [path for _, path in stage.cluster.writes] == [f"{PDA}/status", f"{SETS}/chat-decode/scale"]


def test_nothing_that_takes_away_is_begun_during_a_rollout() -> None:
    with staged(behaviour=dict(FLIPS)) as stage:
        body = stage.cluster.objects[f"{SETS}/chat-prefill"]
        body["status"] = {"conditions": [{"type": "UpdateInProgress", "status": "True"}]}
        for outcome in (stage.scale(Role.PREFILL, 3, 2), stage.flip(Role.DECODE, Role.PREFILL)):
            assert (outcome.verdict, "a rollout is under way" in outcome.detail) == (Verdict.REFUSED, True)
        assert stage.cluster.writes == []
        assert stage.scale(Role.PREFILL, 3, 4).verdict is Verdict.APPLIED


def test_a_count_of_a_transaction_is_not_lowered_during_a_rollout_nor_under_another_autoscaler() -> None:
    with staged() as stage:
        stage.cluster.objects[f"{SETS}/chat-decode"]["status"] = {"conditions": [{"type": "UpdateInProgress", "status": "True"}]}
        found = stage.fleets.count(KEY, Role.DECODE, 2, 1, NOW, stage.terms.now or 0)
        assert (found.verdict, found.detail) == (Verdict.REFUSED, "a rollout is under way")
        stage.cluster.lists(
            HPAS, {"metadata": {"name": "theirs"}, "spec": {"scaleTargetRef": {**LWS_REF, "name": "chat-prefill"}}}
        )
        other = Stage(stage.cluster, stage.policies)
        found = other.fleets.count(KEY, Role.PREFILL, 3, 2, NOW, 3)
        assert (found.verdict, "HorizontalPodAutoscaler theirs" in found.detail) == (Verdict.REFUSED, True)
        other.fleets.stop()
        assert stage.cluster.writes == []


def test_a_surge_that_finds_no_room_any_more_drains_first_where_it_may() -> None:
    """One unit has room, two have not: 5 of 6 GPUs are held."""
    with staged(**resizing("auto", 6)) as stage:
        assert stage.fleet.flip_ways[Role.PREFILL, Role.DECODE].grows_first
        assert stage.flip(Role.PREFILL, Role.DECODE, 2, 2).verdict is Verdict.APPLIED
        assert stage.cluster.stored == [("drainFirst", "leave")]
    with staged(**resizing("surgeFirst", 6)) as stage:
        outcome = stage.flip(Role.PREFILL, Role.DECODE, 2, 2)
        assert (outcome.verdict, outcome.detail) == (
            Verdict.REFUSED,
            "surgeFirst needs 2 GPUs, and the GPU budget has not so many left",
        )


def test_a_transaction_that_does_not_get_on_is_told_with_what_to_do() -> None:
    with staged(behaviour={**FLIPS, "drain": {"deadlineSeconds": 60.0}}) as stage:
        stage.scale(Role.PREFILL, 3, 2)
        assert not stage.fleet.stuck
        stage.clock.at += 61
        told = list(stage.fleet.stuck)
        assert len(told) == 1
        assert told[0].startswith(f"drain-chat-prefill-2-{NOW:.0f}: leave for 61 s: the router still sends requests")
        stage.cluster.label("chat-decode-0", "draining")
        assert list(stage.fleet.stuck)[-1].startswith("chat-decode-0 serves nobody: label llm-d.ai/role is draining")
