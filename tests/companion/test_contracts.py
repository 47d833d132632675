"""Does the API server get exactly what external.metrics.k8s.io/v1beta1 and API discovery promise?

A golden file is one exchange: the request as an API server hands it on, and the whole answer.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoscaler.companion.app import create_app
from autoscaler.companion.discovery import discovery_version
from tests.companion.asking import CALLERS, PEER, ask
from tests.companion.policies import NOW, policy, pool, recommending

GOLDEN = Path(__file__).parent.parent / "contracts" / "external_metrics"
OBJECTS = (
    policy("chat"),
    recommending("draft"),
    policy("old", age_s=1000.0),
    policy("ahead", age_s=-1000.0),
    policy("shy", pools={"prefill": pool(5), "decode": pool(7, pressure=None)}),
    policy("own", namespace="handless", pools={"prefill": pool(5), "decode": pool(7, actuation=None)}),
    policy("chat", namespace="elsewhere", pools={"prefill": pool(55), "decode": pool(77)}),
)
APP = create_app(lambda: OBJECTS, CALLERS, lambda: NOW)
FILES = sorted(GOLDEN.glob("*.json"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_exchange_is_as_it_was_agreed(file: Path) -> None:
    agreed = json.loads(file.read_text())
    answer = ask(APP, agreed["request"]["url"], agreed["request"]["headers"].items())
    assert answer.status == agreed["status"]
    assert answer.headers["content-type"] == agreed["content-type"]
    assert answer.json == agreed["body"]


def test_every_failure_is_a_status_whose_code_is_that_of_the_answer() -> None:
    failures = [json.loads(file.read_text()) for file in FILES if file.stem.startswith("fail-")]
    assert {one["status"] for one in failures} == {400, 404, 503}
    for one in failures:
        body = one["body"]
        assert (body["kind"], body["apiVersion"], body["status"], body["code"]) == ("Status", "v1", "Failure", one["status"])
        assert one["content-type"] == "application/json"


def test_no_failure_makes_a_client_of_the_api_server_sleep_inside_the_call() -> None:
    stale = ask(APP, "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/pdautoscaler_desired_replicas")
    assert stale.status == 503
    assert "retry-after" not in stale.headers


def test_discovery_answers_a_user_without_groups_and_even_nobody() -> None:
    for path in ("/apis", "/apis/external.metrics.k8s.io", "/apis/external.metrics.k8s.io/v1beta1"):
        assert ask(APP, path, [("X-Remote-User", "system:kube-aggregator")]).status == 200, path
        assert ask(APP, path, [], peer=None).status == 200, path


def test_discovery_that_is_known_already_is_not_sent_again() -> None:
    wanted = ("Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
    first = ask(APP, "/apis", [wanted])
    again = ask(APP, "/apis", [wanted, ("If-None-Match", first.headers["etag"])])
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert ask(APP, "/apis", [wanted, ("If-None-Match", '"another"')]).json == first.json


V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("", None),
        ("application/json, */*", None),
        (V2, "v2"),
        (V2.replace(";", " ; "), "v2"),
        (f"{V2};profile=nopeer", "v2"),
        (f"application/json,{V2}", "v2"),
        (f"{V2.replace('v2', 'v3')},{V2.replace('v2', 'v2beta1')},{V2}", "v2beta1"),
        (V2.replace("v2", "v3"), None),
        (V2.replace("json", "vnd.kubernetes.protobuf"), None),
        (V2.replace("as=APIGroupDiscoveryList", "as=Table"), None),
        ("application/json;g=apidiscovery.k8s.io;v;as=APIGroupDiscoveryList", None),
    ],
)
def test_everything_at_once_is_told_in_the_first_version_wanted_that_we_have(accept: str, version: str | None) -> None:
    assert discovery_version(accept) == version


def test_a_probe_is_never_redirected() -> None:
    for path in ("/apis/", "/apis/external.metrics.k8s.io/", "/apis/external.metrics.k8s.io/v1beta1/"):
        assert ask(APP, path).status == 404, path


def test_nothing_can_be_written_and_that_is_told_as_a_status() -> None:
    for path in ("/apis", "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/pdautoscaler_desired_replicas"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            answer = ask(APP, path, peer=PEER, method=method)
            assert (answer.status, answer.json["reason"]) == (405, "MethodNotAllowed")
