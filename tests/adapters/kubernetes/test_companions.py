"""Are a companion's few reads and writes right: policies as they are, our own registrations only, reviews kept for seconds?"""

from __future__ import annotations

import base64
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.one_map import OneMap
from autoscaler.adapters.kubernetes.policies_told import PoliciesTold
from autoscaler.adapters.kubernetes.registrations import API_SERVICES, WEBHOOKS, Registrations
from autoscaler.adapters.kubernetes.reviews import KEPT_S, SUBJECTS, TOKENS, Reviews, User
from autoscaler.adapters.kubernetes.shared_secret import SharedSecret
from tests.adapters.kubernetes.fake_api import END, REFUSED, FakeApi

POLICIES = "/apis/pdautoscaler.io/v1alpha1/namespaces/chat/pdautoscalers"
OURS = {"app.kubernetes.io/name": "pd-autoscaler"}
SERVICE = f"{API_SERVICES}/v1beta1.external.metrics.k8s.io"
HOOKS = f"{WEBHOOKS}/validatingwebhookconfigurations/load"
CONFLICT = ApiFault(409, "Conflict", "")


class WritingApi(FakeApi):
    """One that also takes whole objects."""

    def create(self, path: str, body: Body) -> Body | ApiFault:
        return self.get(f"POST {path}", of=str(body["spec"].get("token") or body["spec"].get("user")))

    def replace(self, path: str, body: Body) -> Body | ApiFault:
        self.replaced = body
        return self.get(f"PUT {path}")


def policy(name: str) -> Body:
    metadata = {"name": name, "namespace": "chat", "uid": name, "managedFields": [{"manager": "kubectl"}]}
    return {"metadata": metadata, "spec": {"mode": "Auto"}, "status": {"mode": "Auto", "state": {"epoch": 1}}}


def test_policies_are_told_as_they_are_but_for_what_nobody_there_reads() -> None:
    api = WritingApi()
    api.lists(POLICIES, policy("b"), policy("a"))
    told = PoliciesTold(api, ("chat",))
    told._snapshots["chat"].picture(5.0)
    found = told.objects()
    assert [one["metadata"]["name"] for one in found] == ["a", "b"]
    assert found[0]["status"] == {"mode": "Auto"}
    assert "managedFields" not in found[0]["metadata"]
    assert told.objects() is found
    assert told.trouble() == ""
    told.stop()
    api.events[POLICIES].put(END)


def test_a_list_that_was_silent_for_too_long_is_told_and_so_is_one_that_never_came() -> None:
    api, now = WritingApi(), [0.0]
    api.lists(POLICIES, policy("a"))
    told = PoliciesTold(api, ("chat",), monotonic=lambda: now[0])
    told._snapshots["chat"].picture(5.0)
    now[0] = 1e12
    assert told.trouble().startswith("PDAutoscalers of namespace chat: Silent: nothing heard for")
    told.stop()
    api.events[POLICIES].put(END)
    api.holds(POLICIES, REFUSED)
    never = PoliciesTold(api, ("chat",))
    never._snapshots["chat"].picture(5.0)
    assert (never.objects(), "Connection refused" in never.trouble()) == ((), True)
    never.stop()


def test_one_config_map_is_asked_for_by_its_name() -> None:
    api = WritingApi()
    path = "/api/v1/namespaces/kube-system/configmaps"
    api.lists(path, {"metadata": {"name": "trust"}, "data": {"a": "1", "b": 2}})
    one = OneMap(api, "kube-system", "trust")
    one._snapshot.picture(5.0)
    assert one.data() == {"a": "1"}
    assert api.asked[0][1]["fieldSelector"] == "metadata.name=trust"
    one.stop()
    api.events[path].put(END)


def test_a_secret_is_written_under_the_version_that_was_read() -> None:
    api = WritingApi()
    path = "/api/v1/namespaces/pd/secrets/own"
    stored = {"metadata": {"name": "own", "resourceVersion": "7", "labels": OURS}, "data": {"a": "YQ==", "bad": "%"}}
    api.holds(path, stored)
    secret = SharedSecret(api, "pd", "own")
    content = secret.read()
    assert not isinstance(content, ApiFault)
    assert content.entries == {"a": b"a"}
    api.holds(f"PUT {path}", CONFLICT)
    assert secret.write(content, {"b": b"b"}) == CONFLICT
    assert api.replaced == {**stored, "data": {"b": "Yg=="}}


def registered(labels: dict[str, str], **parts: Any) -> Body:
    return {"metadata": {"name": "x", "resourceVersion": "3", "labels": labels}, **parts}


def test_every_registration_of_ours_is_told_the_bundle_once() -> None:
    api, known = WritingApi(), base64.b64encode(b"pem").decode()
    api.holds(SERVICE, registered(OURS, spec={"group": "external.metrics.k8s.io"}))
    hooks = [{"clientConfig": {"caBundle": known}}, {"clientConfig": {}}]
    api.holds(HOOKS, registered(OURS, webhooks=hooks))
    for path in (SERVICE, HOOKS):
        api.holds(f"PATCH {path}", {"metadata": {}})
    registrations = Registrations(api, ("v1beta1.external.metrics.k8s.io",), ("load",), ("absent",))
    assert registrations.trust(b"pem") == []
    same = {"op": "test", "path": "/metadata/resourceVersion", "value": "3"}
    assert api.patched == [
        (SERVICE, [same, {"op": "add", "path": "/spec/caBundle", "value": known}]),
        (HOOKS, [same, {"op": "add", "path": "/webhooks/1/clientConfig/caBundle", "value": known}]),
    ]


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/name": "keda-operator"}])
def test_what_is_another_products_is_left_alone(labels: dict[str, str]) -> None:
    api = WritingApi()
    api.holds(SERVICE, registered(labels, spec={}))
    assert Registrations(api, ("v1beta1.external.metrics.k8s.io",), (), ()).trust(b"pem") == []
    assert api.patched == []


def test_a_registration_that_cannot_be_told_is_named() -> None:
    api = WritingApi()
    api.holds(SERVICE, registered(OURS, spec={}))
    api.holds(f"PATCH {SERVICE}", ApiFault(403, "Forbidden", "no"))
    assert Registrations(api, ("v1beta1.external.metrics.k8s.io",), (), ()).trust(b"pem") == [f"{SERVICE}: Forbidden: no"]


def test_a_review_is_kept_for_seconds_and_a_fault_is_not() -> None:
    api, now = WritingApi(), [0.0]
    alice = {"status": {"authenticated": True, "user": {"username": "alice", "groups": ["people"], "extra": {"a": ["b"]}}}}
    api.holds(f"POST {TOKENS}", REFUSED, alice, {"status": {"authenticated": False}})
    reviews = Reviews(api, lambda: now[0])
    assert reviews.whose("t") is None
    user = User("alice", ("people",), {"a": ("b",)})
    assert reviews.whose("t") == reviews.whose("t") == user
    now[0] = KEPT_S
    assert reviews.whose("t") is None
    assert api.times_asked(f"POST {TOKENS}") == 3

    api.holds(f"POST {SUBJECTS}", REFUSED, {"status": {"allowed": True}}, {"status": {"allowed": False}})
    asked = (user, "list", "external.metrics.k8s.io", "m", "chat")
    assert [reviews.may(*asked) for _ in range(3)] == [False, True, True]
    assert not reviews.may(*asked[:-1], "other")
    assert api.times_asked(f"POST {SUBJECTS}") == 3


def test_somebody_who_is_not_authenticated_is_nobody_whatever_name_is_told() -> None:
    api = WritingApi()
    api.holds(f"POST {TOKENS}", {"status": {"authenticated": False, "user": {"username": "system:admin"}}})
    assert Reviews(api).whose("t") is None
