"""Are the pod templates of the example fleets found on a real API server, and do they promise what preflight looks for?"""

from __future__ import annotations

import pytest
import yaml

from autoscaler.adapters.kubernetes import connect
from autoscaler.adapters.kubernetes.templates import MISSING, Templates
from autoscaler.adapters.prometheus import Endpoint
from autoscaler.adapters.prometheus.client import PrometheusClient
from autoscaler.commands.preflight import Subject, pods
from autoscaler.policy import Document
from autoscaler.policy.sections import Target
from autoscaler.roster import managed
from manifests import build
from tests.e2e.plane.plane import Plane

pytestmark = [pytest.mark.plane, pytest.mark.slow]

UNASKED = PrometheusClient(Endpoint("http://127.0.0.1:9"))


@pytest.mark.parametrize("name", ["disaggregatedset", "sglang", "vllm"])
def test_every_pool_of_an_example_can_be_drained_and_may_finish(plane: Plane, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    namespace, templates = plane.namespace(), Templates(connect())
    *objects, policy = yaml.safe_load_all((build.FOLDER / "examples" / f"{name}.yaml").read_text(encoding="utf-8"))
    document = Document.model_validate({**policy, "metadata": {"name": name, "namespace": namespace}})
    subject = Subject(document, managed(document), {}, UNASKED, 1.0, templates)
    before = [row.state for row in pods(subject)]
    plane.kubectl("apply", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(objects))
    assert before == ["failed"] * len(document.spec.pools)
    assert {row.name: row.state for row in pods(subject)} == {
        f"{role}.{what}": "there" for role in document.spec.pools for what in ("leaving", "ending")
    }
    assert templates.of(namespace, Target(name="nobody")) == MISSING
