"""Is a role inside a DisaggregatedSet read and written like any other pool, and left to its scaler where it has one?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.fleet_gateway import KubernetesFleet
from autoscaler.adapters.kubernetes.roles import role_set
from autoscaler.core.action import Action, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Lack, Pool, Role
from autoscaler.core.reason import Reason
from autoscaler.ports import Fault
from tests.adapters.kubernetes.fake_api import FakeApi
from tests.policy_documents import policy

NOW, TERM, KEY = 2_000_000_000.0, 7, "default/chat"
BORN = "2033-05-18T03:00:00Z"
NS = "namespaces/default"
ABOVE, LWS = "disaggregatedset.x-k8s.io", "leaderworkerset.sigs.k8s.io"
GROUP = f"/apis/{ABOVE}/v1"
SETS, SCALERS = f"{GROUP}/{NS}/disaggregatedsets", f"{GROUP}/{NS}/disaggregatedsetrolescalers"
CHILDREN = f"/apis/leaderworkerset.x-k8s.io/v1/{NS}/leaderworkersets"
PODS, EVENTS = f"/api/v1/{NS}/pods", f"/api/v1/{NS}/events"
KIND = {"kind": "DisaggregatedSet", "apiVersion": f"{ABOVE}/v1", "name": "llama"}
ROLES = ("prefill", "decode")


def a_set(replicas: int = 2, **changes: Any) -> Body:
    roles: list[Body] = [{"name": name, "spec": {"replicas": replicas}} for name in ROLES]
    spec = {"roles": roles, **changes.pop("spec", {})}
    return {"metadata": {"name": "llama", "uid": "uid-llama"}, "spec": spec, **changes}


def labels(role: str, revision: str) -> dict[str, str]:
    return {f"{ABOVE}/name": "llama", f"{ABOVE}/role": role, f"{ABOVE}/revision": revision}


def child(role: str, revision: str = "1a2b") -> Body:
    return {"metadata": {"name": f"llama-{revision}-{role}", "uid": f"{role}-{revision}", "labels": labels(role, revision)}}


def leader(role: str, number: int, revision: str = "1a2b") -> Body:
    name = f"llama-{revision}-{role}"
    own = {f"{LWS}/name": name, f"{LWS}/group-index": str(number), f"{LWS}/worker-index": "0"}
    metadata = {"name": f"{name}-{number}", "labels": {**labels(role, revision), **own}, "creationTimestamp": BORN}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": BORN}]}}


@pytest.fixture
def api() -> FakeApi:
    """A DisaggregatedSet of two roles with two groups each, on a cluster without role scalers."""
    api = FakeApi()
    api.holds(GROUP, {"resources": [{"name": "disaggregatedsets", "kind": "DisaggregatedSet"}]})
    api.lists(SETS, a_set())
    api.lists(CHILDREN, *(child(role) for role in ROLES))
    api.lists(PODS, *(leader(role, number) for role in ROLES for number in range(2)))
    api.lists(EVENTS)
    return api


@pytest.fixture
def gateway(api: FakeApi) -> Iterator[KubernetesFleet]:
    pools = {role: {"target": {**KIND, "role": role}, "max": 4} for role in ROLES}
    gateway = KubernetesFleet(api, {KEY: policy(pools=pools)})
    yield gateway
    gateway.stop()


def decode(gateway: KubernetesFleet) -> Pool:
    found = gateway.read(KEY, NOW)
    assert isinstance(found, Fleet), found
    return found.pools[Role.DECODE]


def fault(gateway: KubernetesFleet) -> str:
    found = gateway.read(KEY, NOW)
    assert isinstance(found, Fault), found
    return found.detail


def write(gateway: KubernetesFleet, count: int, seen: int = 2) -> Outcome:
    reason = Reason.SCALE_UP if count > seen else Reason.SCALE_DOWN
    return gateway.apply(KEY, Action(Role.DECODE, seen, count, reason), NOW, TERM)


def test_two_pools_share_one_set_and_count_their_own_groups(gateway: KubernetesFleet) -> None:
    found = gateway.read(KEY, NOW)
    assert isinstance(found, Fleet)
    names = {role: [replica.name for replica in pool.replicas] for role, pool in found.pools.items()}
    assert names == {role: [f"llama-1a2b-{role}-{number}" for number in range(2)] for role in Role}
    assert {(pool.desired, pool.serving, pool.note) for pool in found.pools.values()} == {(2, 2, "")}


def test_a_role_is_written_in_the_set_if_object_role_and_count_are_as_read(api: FakeApi, gateway: KubernetesFleet) -> None:
    decode(gateway)
    written = a_set()
    written["spec"]["roles"][1]["spec"]["replicas"] = 3
    api.holds(f"PATCH {SETS}/llama", written)
    assert write(gateway, 3).verdict is Verdict.APPLIED
    assert api.patched == [
        (
            f"{SETS}/llama",
            [
                {"op": "test", "path": "/metadata/uid", "value": "uid-llama"},
                {"op": "test", "path": "/spec/roles/1/name", "value": "decode"},
                {"op": "test", "path": "/spec/roles/1/spec/replicas", "value": 2},
                {"op": "add", "path": "/spec/roles/1/spec/replicas", "value": 3},
            ],
        )
    ]


def test_a_role_at_zero_is_tested_by_its_count(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.lists(SETS, a_set(0))
    decode(gateway)
    write(gateway, 1, seen=0)
    ((_, operations),) = api.patched
    assert operations[2] == {"op": "test", "path": "/spec/roles/1/spec/replicas", "value": 0}


def test_a_count_that_the_cluster_changed_on_the_way_is_refused(api: FakeApi, gateway: KubernetesFleet) -> None:
    decode(gateway)
    api.holds(f"PATCH {SETS}/llama", a_set())
    assert write(gateway, 3).detail == "3 was written and the cluster made it 2"


def test_a_role_that_was_handed_out_is_refused_in_favour_of_its_scaler(api: FakeApi, gateway: KubernetesFleet) -> None:
    roles = [{"name": name, "spec": {"replicas": 2}, "scaling": {"mode": "External"}} for name in ROLES]
    api.lists(SETS, a_set(spec={"roles": roles}))
    told = "its role decode is handed out; target DisaggregatedSetRoleScaler llama-decode instead"
    assert decode(gateway).note == told
    outcome = write(gateway, 3)
    assert (outcome.verdict, outcome.detail) == (Verdict.REFUSED, f"DisaggregatedSet llama role decode: {told}")
    assert not api.patched


def test_a_role_with_a_scaler_is_refused_and_the_other_is_not(api: FakeApi, gateway: KubernetesFleet) -> None:
    owner = {"apiVersion": f"{ABOVE}/v1", "kind": "DisaggregatedSet", "name": "llama", "controller": True}
    api.lists(
        SCALERS,
        {"metadata": {"name": "llama-decode", "ownerReferences": [owner]}},
        {"metadata": {"name": "llama-prefill", "ownerReferences": [{**owner, "name": "other"}]}},
        {"metadata": {"name": "llama-prefill-loose"}},
    )
    told = "DisaggregatedSetRoleScaler llama-decode scales it already; target that instead"
    found = gateway.read(KEY, NOW)
    assert isinstance(found, Fleet)
    assert {role: pool.note for role, pool in found.pools.items()} == {Role.PREFILL: "", Role.DECODE: told}
    assert write(gateway, 3).verdict is Verdict.REFUSED
    assert not api.patched


def test_a_second_revision_is_a_rollout_of_all_roles_also_before_it_has_pods(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.lists(CHILDREN, *(child(role) for role in ROLES), child("prefill", "3c4d"))
    assert decode(gateway).note == "a rollout is under way"
    assert (write(gateway, 1).verdict, len(api.patched)) == (Verdict.REFUSED, 0)
    write(gateway, 3)
    assert len(api.patched) == 1


def test_a_role_of_which_groups_are_outdated_is_rolled_out() -> None:
    told = {"roleStatuses": [{"name": "prefill", "replicas": 2, "updatedReplicas": 2}, {"name": "decode", "replicas": 2}]}
    assert {name: part.outdated for name, part in role_set(a_set(status=told)).parts.items()} == {
        "prefill": False,
        "decode": True,
    }


def test_refused_pods_of_a_role_without_any_are_told_by_the_set_below(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.lists(PODS, *(leader("prefill", number) for number in range(2)))
    about = {"kind": "StatefulSet", "name": "llama-1a2b-decode"}
    quota = {"metadata": {"name": "e", "creationTimestamp": "2033-05-18T03:33:10Z"}, "involvedObject": about, "message": "quota"}
    api.lists(f"{EVENTS}?reason=FailedCreate", quota)
    assert [(one.lack, one.replicas, one.text) for one in decode(gateway).shortages] == [(Lack.NOT_CREATED, 2, "quota")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            a_set(spec={"roles": [{"name": "prefill", "spec": {}}, {"name": "encode", "spec": {}}]}),
            'NoSuchRole: it has no role "decode" but prefill, encode; correct target.role',
        ),
        (
            a_set(spec={"slices": 3}),
            "NotScalable: its spec.slices is 3, and a role that is there so often has no one count",
        ),
    ],
)
def test_a_set_that_cannot_be_scaled_by_its_role_is_a_fault(
    api: FakeApi, gateway: KubernetesFleet, body: Body, told: str
) -> None:
    api.lists(SETS, body)
    assert told in fault(gateway)


def test_lists_that_cannot_be_read_are_a_fault(api: FakeApi, gateway: KubernetesFleet) -> None:
    api.holds(CHILDREN, ApiFault(403, "Forbidden", "leaderworkersets is forbidden"))
    assert fault(gateway) == "prefill DisaggregatedSet default/llama role prefill: Forbidden: leaderworkersets is forbidden"


def test_a_count_that_nobody_wrote_is_one() -> None:
    parts = role_set({"metadata": {"name": "llama", "uid": "u"}, "spec": {"roles": [{"name": "prefill"}]}}).parts
    assert parts["prefill"].replicas == 1
