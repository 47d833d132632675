"""Does this autoscaler write the count that is published for it, and nothing else?

With actuation hpa (policy/actuation.py) a HorizontalPodAutoscaler is no rival if it does just that: its one metric is ours, of
this policy and role, and its target is AverageValue 1. With a second metric it would take the largest of several counts; with
type Value it would multiply the count by the replicas that are ready (reference/interfaces.md B4). Such a one is told what is
wrong with it. KEDA's ScaledObject likewise: one metrics-api trigger whose URL ends in /POLICY/ROLE, targetValue 1. The
HorizontalPodAutoscaler that KEDA makes of it is not looked at: the operator did not write it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.policy.actuation import DESIRED_METRIC, POLICY_LABEL, ROLE_LABEL

HPA, SCALED_OBJECT = "HorizontalPodAutoscaler", "ScaledObject"
ONE = ("1", "1000m", 1)
MANY = "has another metric beside the published count, and takes the largest of them"
UNEVEN = "does not take the published count as it is: its target must be AverageValue 1"


@dataclass(frozen=True, slots=True)
class Reading:
    """Whose published count an autoscaler reads, and what keeps it from writing just that; empty if nothing does."""

    policy: str
    role: str
    flaw: str = ""


def reading(kind: str, body: Body) -> Reading | None:
    """What it reads of ours; None if nothing."""
    return READERS[kind](body.get("spec") or {}) if kind in READERS else None


def of_keda(kind: str, body: Body) -> bool:
    """Whether a ScaledObject made it, which is listed itself."""
    owners = body["metadata"].get("ownerReferences") or ()
    return kind == HPA and any(one.get("kind") == SCALED_OBJECT and one.get("controller") for one in owners)


def _of_hpa(spec: Body) -> Reading | None:
    metrics = spec.get("metrics") or ()
    for external in (one.get("external") or {} for one in metrics if one.get("type") == "External"):
        metric, target = external.get("metric") or {}, external.get("target") or {}
        labels = (metric.get("selector") or {}).get("matchLabels") or {}
        if metric.get("name") == DESIRED_METRIC and labels.keys() >= {POLICY_LABEL, ROLE_LABEL}:
            even = target.get("type") == "AverageValue" and target.get("averageValue") in ONE
            flaw = MANY if len(metrics) > 1 else "" if even else UNEVEN
            return Reading(str(labels[POLICY_LABEL]), str(labels[ROLE_LABEL]), flaw)
    return None


def _of_scaled_object(spec: Body) -> Reading | None:
    triggers = spec.get("triggers") or ()
    for trigger in triggers:
        metadata = trigger.get("metadata") or {}
        url = urlsplit(str(metadata.get("url", "")))
        parts, asked = url.path.split("/"), parse_qs(url.query).get("metric", [DESIRED_METRIC])
        if trigger.get("type") == "metrics-api" and len(parts) > 2 and asked == [DESIRED_METRIC]:
            even = metadata.get("targetValue") in ONE and trigger.get("metricType", "AverageValue") == "AverageValue"
            flaw = MANY if len(triggers) > 1 else "" if even else UNEVEN
            return Reading(parts[-2], parts[-1], flaw)
    return None


READERS: Mapping[str, Callable[[Body], Reading | None]] = {HPA: _of_hpa, SCALED_OBJECT: _of_scaled_object}
