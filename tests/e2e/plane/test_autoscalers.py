"""Does a real API server take the autoscalers that are printed, and tell preflight what it makes of them?"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, KubeApi, connect
from autoscaler.adapters.kubernetes.metrics_api import Owner, Registration, keeps_tolerance, registration
from autoscaler.commands.hpa import handed
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.policy.autoscalers import horizontal
from tests.e2e.plane.plane import Plane
from tests.policy_documents import edited

pytestmark = [pytest.mark.plane, pytest.mark.slow]
NAME = "v1beta1.external.metrics.k8s.io"


@pytest.fixture
def api(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    return connect()


@pytest.fixture
def document(plane: Plane) -> Iterator[Document]:
    namespace = plane.namespace()
    yield Document.model_validate(edited({"metadata.namespace": namespace, "spec.pools.prefill.actuation": "hpa"}))
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


def test_the_printed_autoscaler_is_stored_as_it_is_with_its_tolerance_and_known_again(
    plane: Plane, api: KubeApi, document: Document
) -> None:
    printed, namespace = horizontal(document, Role.PREFILL), document.metadata.namespace
    assert keeps_tolerance(api, printed) is True
    assert json.loads(plane.kubectl("-n", namespace, "get", "hpa", "-o", "json"))["items"] == []
    assert {row.name: row.state for row in handed(document, api)}["prefill.autoscaler"] == "missing"
    plane.kubectl("create", "-f", "-", input=json.dumps(printed))
    stored = json.loads(plane.kubectl("-n", namespace, "get", "hpa", "chat-prefill", "-o", "json"))
    assert stored["spec"] == printed["spec"]
    rows = {row.name: row.state for row in handed(document, api)}
    assert (rows["prefill.autoscaler"], rows["tolerance"]) == ("there", "there")


def test_who_answers_for_external_metrics_is_read_from_the_one_registration(plane: Plane, api: KubeApi) -> None:
    before = registration(api)
    assert not isinstance(before, ApiFault)
    if before.owner is not Owner.NOBODY:
        pytest.skip(f"{before.owner} is registered by another test")
    spec = {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "service": {"name": "keda-metrics-apiserver", "namespace": "keda"},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    made = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": NAME}, "spec": spec}
    plane.kubectl("create", "-f", "-", input=json.dumps(made))
    try:
        found = registration(api)
        assert isinstance(found, Registration)
        assert (found.owner, found.service) == (Owner.KEDA, "keda/keda-metrics-apiserver")
        assert found.silent
    finally:
        plane.kubectl("delete", "apiservice", NAME)
