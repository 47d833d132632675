"""Is there an engine that says it works while its GPU does nothing?

NVIDIA's exporter (dcgm-exporter) tells how much of the time a GPU's engine was busy, and as whose pod. It collects every 30 s and
knows no queue, so no pool is sized by it. But it is the one witness beside the engine itself: an engine that has had requests
running at every look for ten minutes, on a GPU that did nothing all the while, hangs, while its pod counts as capacity.
A pod that was there for a part of that time only is not judged.

GPU_UTIL is no such witness, for it is near 100 % under any load; nor is FB_USED, for engines take their memory at the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.adapters.prometheus.answer import tabulate
from autoscaler.adapters.prometheus.client import PrometheusClient
from autoscaler.adapters.prometheus.history import filled
from autoscaler.adapters.prometheus.profile import load_profiles, queries_for
from autoscaler.adapters.prometheus.promql import named
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Unknown
from autoscaler.ports import Managed

IDLE = 0.02  # of the time: what a GPU does that serves nobody
SPAN_S = 600.0
LOOKS = 20  # in that time; one or two scrapes may be lost
# The pod is `exported_pod` where the scrape names its own target first (honorLabels: false). Of several GPUs the busiest counts.
ACTIVE = """
max by (namespace, pod) (
  max_over_time(DCGM_FI_PROF_GR_ENGINE_ACTIVE{namespace=~$namespaces, pod=~$pods, exported_pod=""}[$span])
  or
  label_replace(label_replace(
    max_over_time(DCGM_FI_PROF_GR_ENGINE_ACTIVE{exported_namespace=~$namespaces, exported_pod=~$pods}[$span])
  , "namespace", "$$1", "exported_namespace", "(.+)"), "pod", "$$1", "exported_pod", "(.+)")
)
"""
RUNNING = "pods.running"


@dataclass(frozen=True, slots=True)
class Witness:
    """How many pods have a GPU that tells, and which of them contradict it."""

    pods: int
    hanging: tuple[str, ...] = ()


def witness(
    client: PrometheusClient, fleet: Managed, pods: Mapping[Role, str], within_s: float, *, span_s: float = SPAN_S
) -> Witness | Unknown:
    """What the GPUs of these pods (a regular expression for each role) say of the last `span_s` seconds, or why nothing is known.
    Each query may take `within_s` seconds.
    """
    span, step = (f"{round(length_s * 1000)}ms" for length_s in (span_s, span_s / LOOKS))
    active = _asked(client, fleet, pods, ACTIVE.replace("$span", span), within_s)
    if isinstance(active, Unknown) or not active:
        return active if isinstance(active, Unknown) else Witness(0)
    running = queries_for(fleet.engine, fleet.gateway, fleet.queries, load_profiles())[RUNNING].promql
    looks = f"_over_time((\n{running})[{span}:{step}])"
    least = _asked(client, fleet, pods, f"min{looks} and count{looks} >= {LOOKS - 2}", within_s)
    if isinstance(least, Unknown):
        return least
    return Witness(len(active), tuple(sorted(pod for pod, share in active.items() if share < IDLE and least.get(pod, 0.0) > 0)))


def _asked(
    client: PrometheusClient, fleet: Managed, pods: Mapping[Role, str], promql: str, within_s: float
) -> Mapping[str, float] | Unknown:
    """A number per pod."""
    query = filled(promql, RUNNING, (fleet.namespace, fleet.model), pods, fleet.window_s)
    rows = client.query(named(RUNNING, query), within_s)
    if isinstance(rows, Unknown):
        return rows
    numbers = tabulate(rows).numbers.get(RUNNING, {})
    return {pod: value for (namespace, pod), value in numbers.items() if namespace == fleet.namespace}
