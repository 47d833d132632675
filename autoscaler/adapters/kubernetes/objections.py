"""Who else writes this object?

Its owner: a child LeaderWorkerSet of a DisaggregatedSet is written by the set at every turn and gets a new name with
every rollout, so writing it does nothing for long (reference/engines.md A.5, A.6). FACADES are owned objects that exist
to be scaled from outside. TOLD_INSTEAD says, per owner, what to name instead of what it owns; an owner that is not there
is named itself: whoever owns, writes.

Another autoscaler: two on one object pull it to and fro at every turn, so the second one has to stand back, and we are
the one that can tell. KEDA makes horizontal autoscalers of its own; each kind is looked at by itself, so that the name
told is the one the operator wrote. Kinds whose definition is not installed are empty lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.targets import Owner

FACADES = frozenset(
    {
        "DisaggregatedSetRoleScaler",
        "DynamoGraphDeploymentScalingAdapter",
        "PodClique",
        "PodCliqueScalingGroup",
        "RoleBasedGroupScalingAdapter",
    }
)
TOLD_INSTEAD: Mapping[str, str] = {
    "DisaggregatedSet": "its DisaggregatedSetRoleScaler {name}-<role> (spec.roles[].scaling.mode External, LWS 0.10)",
    "DynamoGraphDeployment": "its DynamoGraphDeploymentScalingAdapter",
    "LLMInferenceService": "the service's own spec.replicas or spec.prefill.replicas; it cannot be scaled from outside",
    "PodCliqueSet": "its PodCliqueScalingGroup",
    "RoleBasedGroup": "its RoleBasedGroupScalingAdapter {name}-<role> (scalingAdapter.enable on the role)",
}
# Kind -> where its list is. All three name their object in spec.scaleTargetRef.
LISTS: Mapping[str, tuple[str, str]] = {
    "ScaledObject": ("/apis/keda.sh/v1alpha1", "scaledobjects"),
    "PodAutoscaler": ("/apis/autoscaling.aibrix.ai/v1alpha1", "podautoscalers"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
}


def objection(kind: str, top: Owner | None) -> str:
    """Why an object that `top` owns must not be written; empty if it may."""
    if top is None or kind in FACADES:
        return ""
    instead = TOLD_INSTEAD.get(top.kind, "{kind} {name} itself").format(kind=top.kind, name=top.name)
    return f"owned by {top.kind} {top.name}, which writes it back; target {instead}"


@dataclass(frozen=True, slots=True)
class Rival:
    """Another autoscaler, and the object it scales as (API group, kind, name)."""

    kind: str
    name: str
    scales: tuple[str, str, str]


def keeper(kind: str) -> Callable[[Body], Rival | None]:
    """How an object of `kind` is cut down; one that scales nothing is left out."""

    def keep(body: Body) -> Rival | None:
        ref = (body.get("spec") or {}).get("scaleTargetRef") or {}
        if not ref.get("name"):
            return None
        group = str(ref.get("apiVersion") or "apps/v1").rpartition("/")[0]  # KEDA's defaults: a Deployment
        return Rival(kind, body["metadata"]["name"], (group, str(ref.get("kind") or "Deployment"), str(ref["name"])))

    return keep


def rival_of(identity: tuple[str, str, str], rivals: Iterable[Rival]) -> Rival | None:
    """The first autoscaler that scales the object (API group, kind, name)."""
    return next((rival for rival in rivals if rival.scales == identity), None)
