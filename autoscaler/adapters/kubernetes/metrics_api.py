"""Who answers for external metrics on this cluster, and does it keep an autoscaler's tolerance?

There is one APIService external.metrics.k8s.io per cluster, and whoever installed it first has it: often KEDA. Its Service tells
who that is. Whether `tolerance` is known (behind a gate from Kubernetes 1.33 on, by default from 1.35) no version tells for sure,
since a gate may be off; so an autoscaler with tolerance 0 is created as a rehearsal, and looked at for what is left of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.followers import HPA, SCALED_OBJECT
from autoscaler.adapters.kubernetes.objections import LISTS, Handing, Rival, follower, keeper, rivalry
from autoscaler.adapters.kubernetes.targets import listing
from autoscaler.policy.sections import Target

REGISTRATION = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
NOT_FOUND = 404


class Owner(StrEnum):
    """Who answers."""

    OURS = "pd-autoscaler"
    KEDA = "KEDA"
    PROMETHEUS_ADAPTER = "prometheus-adapter"
    OTHER = "another adapter"
    NOBODY = "nobody"


# How the names of their Services begin or what is in them, unless somebody has renamed them.
KNOWN: Mapping[str, Owner] = {
    "pd-autoscaler": Owner.OURS,
    "keda": Owner.KEDA,
    "prometheus-adapter": Owner.PROMETHEUS_ADAPTER,
    "custom-metrics": Owner.PROMETHEUS_ADAPTER,
}


class AutoscalersApi(Protocol):
    """What this needs of an API server."""

    def get(self, path: str, **query: str) -> Body | ApiFault:
        """One object, or a list."""
        ...

    def rehearse(self, path: str, body: Body) -> Body | ApiFault:
        """A new object as it would be stored."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """Who answers, by which Service (NAMESPACE/NAME), and why that does not answer at present; empty if it does."""

    owner: Owner
    service: str = ""
    silent: str = ""


def registration(api: AutoscalersApi) -> Registration | ApiFault:
    """Who has the APIService; a fault where that cannot be read."""
    answer = api.get(REGISTRATION)
    if isinstance(answer, ApiFault):
        return Registration(Owner.NOBODY) if answer.status == NOT_FOUND else answer
    service = (answer.get("spec") or {}).get("service") or {}
    name = str(service.get("name", ""))
    owner = next((owner for word, owner in KNOWN.items() if word in name), Owner.OTHER)
    told = {one.get("type"): one for one in (answer.get("status") or {}).get("conditions") or ()}.get("Available", {})
    silent = (
        "" if told.get("status") == "True" else str(told.get("message") or told.get("reason") or "it has not been heard of yet")
    )
    return Registration(owner, f"{service.get('namespace', '')}/{name}", " ".join(silent.split())[:200])


def keeps_tolerance(api: AutoscalersApi, hpa: Body) -> bool | ApiFault:
    """Whether a HorizontalPodAutoscaler with a tolerance in both directions is stored with them. It goes by a name that the
    server makes up: one of its own name may be there.
    """
    namespace = hpa["metadata"]["namespace"]
    unnamed = {**hpa, "metadata": {"generateName": f"{hpa['metadata']['name']}-", "namespace": namespace}}
    kept = api.rehearse(listing(*LISTS[HPA], namespace), unnamed)
    if isinstance(kept, ApiFault):
        return kept
    behavior = (kept.get("spec") or {}).get("behavior") or {}
    return all("tolerance" in (behavior.get(way) or {}) for way in ("scaleUp", "scaleDown"))


def following(api: AutoscalersApi, namespace: str, target: Target, pool: Handing) -> tuple[str, str] | ApiFault:
    """Who writes what is published for a target, and why not as it should; empty where there is nobody, or nothing wrong."""
    found: list[Rival] = []
    for kind in (SCALED_OBJECT, HPA):
        answer = api.get(listing(*LISTS[kind], namespace))
        if isinstance(answer, ApiFault):
            if answer.status == NOT_FOUND:
                continue
            return answer
        found += [rival for body in answer.get("items") or () if (rival := keeper(kind)(body)) is not None]
    return follower(target.identity, found, pool), rivalry(target.identity, found, pool)
