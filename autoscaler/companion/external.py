"""How does the HPA controller get a number? As an ExternalMetricValueList of external.metrics.k8s.io/v1beta1.

A quantity is a whole number ("7") or thousandths ("2500m"): that is what HPA reckons in, and no other form can be misread. What
is finer than a thousandth is rounded; Kubernetes knows neither NaN nor infinity, and neither gets as far as here. The timestamp
is the controller's own, of the tick that the number is from. HPA does not look at it, hence metrics.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from autoscaler.companion.failures import GROUP, Failure, bad_request
from autoscaler.companion.metrics import Sample, samples
from autoscaler.companion.selectors import BadSelector, parse

VERSION = "v1beta1"
GROUP_VERSION = f"{GROUP}/{VERSION}"
LIST_KIND = "ExternalMetricValueList"


def value_list(
    objects: Sequence[Mapping[str, Any]], now: float, namespace: str, metric: str, selector: str
) -> dict[str, Any] | Failure:
    """The list that answers one request, or why there is none."""
    try:
        wanted = parse(selector)
    except BadSelector as error:
        return bad_request(metric, f"labelSelector {ascii(selector)[:80]}: {error}")
    found = samples(objects, now, namespace, metric, wanted.matches)
    if isinstance(found, Failure):
        return found
    return {"kind": LIST_KIND, "apiVersion": GROUP_VERSION, "metadata": {}, "items": [_item(one) for one in found]}


def quantity(value: float) -> str:
    """A finite number as Kubernetes writes one, to a thousandth."""
    thousandths = round(Fraction(value) * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _item(sample: Sample) -> dict[str, Any]:
    return {
        "metricName": sample.metric,
        "metricLabels": dict(sample.labels),
        "timestamp": timestamp(sample.told_s),
        "value": quantity(sample.value),
    }
