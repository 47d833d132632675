"""Which autoscaler makes a pool's count exactly what is published of it?

A HorizontalPodAutoscaler of one External metric with target AverageValue 1: any other kind of target multiplies. Its own brakes
are taken off, since the count has been damped already: windows of 0, one large step. And tolerance 0: with the default of 0.1 it
leaves a pool of 10 at 10 where 9 or 11 are published, and one of 64 at anything from 58 to 70 (tests/companion/
test_hpa_oracle.py). Where KEDA answers for external metrics, a ScaledObject has KEDA make that HorizontalPodAutoscaler.
"""

from __future__ import annotations

from typing import Any

from autoscaler.core.fleet import Role
from autoscaler.policy.actuation import DESIRED_METRIC, POLICY_LABEL, ROLE_LABEL
from autoscaler.policy.document import Document

LARGEST_STEP = 1000
SHORTEST_S = 15

Manifest = dict[str, Any]


def horizontal(document: Document, role: Role, *, tolerant: bool = False) -> Manifest:
    """The HorizontalPodAutoscaler (autoscaling/v2) of a pool, JSON-ready. `tolerant`: the cluster has no tolerance to set."""
    pool, metadata = document.spec.pools[role], document.metadata
    labels = {POLICY_LABEL: metadata.name, ROLE_LABEL: role.value}
    metric = {"name": DESIRED_METRIC, "selector": {"matchLabels": labels}}
    external = {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": f"{metadata.name}-{role.value}", "namespace": metadata.namespace},
        "spec": {
            "scaleTargetRef": _target(document, role),
            "minReplicas": pool.min,
            "maxReplicas": pool.max,
            "metrics": [{"type": "External", "external": external}],
            "behavior": _behavior(tolerant=tolerant),
        },
    }


def scaled_object(document: Document, role: Role, url: str, *, tolerant: bool = False) -> Manifest:
    """The ScaledObject (keda.sh/v1alpha1) of a pool, JSON-ready. `url`: of the companion's page for KEDA, http://HOST:PORT."""
    pool, metadata = document.spec.pools[role], document.metadata
    asked = f"{url.rstrip('/')}/keda/v1/{metadata.namespace}/{metadata.name}/{role.value}"
    trigger = {"url": asked, "valueLocation": "value", "targetValue": "1"}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": f"{metadata.name}-{role.value}", "namespace": metadata.namespace},
        "spec": {
            "scaleTargetRef": _target(document, role),
            "minReplicaCount": pool.min,
            "maxReplicaCount": pool.max,
            "triggers": [{"type": "metrics-api", "metricType": "AverageValue", "metadata": trigger}],
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _behavior(tolerant=tolerant)}},
        },
    }


def _target(document: Document, role: Role) -> Manifest:
    target = document.spec.pools[role].target
    return {"apiVersion": target.api_version, "kind": target.kind, "name": target.name}


def _behavior(*, tolerant: bool) -> Manifest:
    step = {"type": "Pods", "value": LARGEST_STEP, "periodSeconds": SHORTEST_S}
    exact = {} if tolerant else {"tolerance": "0"}
    return {
        way: {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [dict(step)], **exact}
        for way in ("scaleUp", "scaleDown")
    }
