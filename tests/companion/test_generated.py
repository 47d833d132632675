"""Do the autoscalers that we print ask for what we answer?

The HPA controller asks for `external.metric.name` with the selector as text (matchLabels joined by commas, sorted by key); KEDA
asks for the trigger's `url` and takes the field that `valueLocation` names.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest

from autoscaler.companion.app import create_app
from autoscaler.companion.keda import create_keda_app
from autoscaler.core.fleet import Role
from autoscaler.policy.autoscalers import horizontal, scaled_object
from tests import policy_documents
from tests.companion.asking import CALLERS, ask
from tests.companion.policies import NOW, policy

OBJECTS = (policy("chat"), policy("other"))
COUNTS = {Role.PREFILL: 5, Role.DECODE: 7}


@pytest.mark.parametrize("role", Role)
def test_the_printed_horizontal_pod_autoscaler_gets_exactly_its_pools_count(role: Role) -> None:
    printed = horizontal(policy_documents.policy(), role)
    metric = printed["spec"]["metrics"][0]["external"]["metric"]
    selector = ",".join(f"{key}={value}" for key, value in sorted(metric["selector"]["matchLabels"].items()))
    path = f"/apis/external.metrics.k8s.io/v1beta1/namespaces/{printed['metadata']['namespace']}/{metric['name']}"
    answer = ask(create_app(lambda: OBJECTS, CALLERS, lambda: NOW), f"{path}?labelSelector={quote(selector)}")
    assert [item["value"] for item in answer.json["items"]] == [str(COUNTS[role])]


@pytest.mark.parametrize("role", Role)
def test_the_printed_scaled_object_gets_exactly_its_pools_count(role: Role) -> None:
    (trigger,) = scaled_object(policy_documents.policy(), role, "http://companion:8080")["spec"]["triggers"]
    asked = urlsplit(trigger["metadata"]["url"])
    answer = ask(create_keda_app(lambda: OBJECTS, lambda: NOW), asked.path, [("Host", asked.netloc)], peer=None)
    assert answer.json[trigger["metadata"]["valueLocation"]] == COUNTS[role]
