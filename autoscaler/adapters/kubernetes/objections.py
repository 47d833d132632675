"""Who else writes this object?

Its owner: a child LeaderWorkerSet of a DisaggregatedSet is written by the set at every turn and gets a new name with
every rollout, so writing it does nothing for long (reference/engines.md A.5, A.6). FACADES are owned objects that exist
to be scaled from outside. TOLD_INSTEAD says, per owner, what to name instead of what it owns; an owner that is not there
is named itself: whoever owns, writes.

Another autoscaler: two on one object pull it to and fro at every turn, so the second one has to stand back, and we are
the one that can tell. KEDA makes horizontal autoscalers of its own; each kind is looked at by itself, so that the name
told is the one the operator wrote. Kinds whose definition is not installed are empty lists. The role scaler of a
DisaggregatedSet is such another one for a role that is written in the set: where it exists it is the object to target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.roles import SCALER
from autoscaler.adapters.kubernetes.targets import Owner, owner_of

FACADES = frozenset(
    {
        SCALER,
        "DynamoGraphDeploymentScalingAdapter",
        "PodClique",
        "PodCliqueScalingGroup",
        "RoleBasedGroupScalingAdapter",
    }
)
TOLD_INSTEAD: Mapping[str, str] = {
    "DisaggregatedSet": f"the set itself with target.role, or its {SCALER} {{name}}-<role> where there is one (LWS 0.10)",
    "DynamoGraphDeployment": "its DynamoGraphDeploymentScalingAdapter",
    "LLMInferenceService": "the service's own spec.replicas or spec.prefill.replicas; it cannot be scaled from outside",
    "PodCliqueSet": "its PodCliqueScalingGroup",
    "RoleBasedGroup": "its RoleBasedGroupScalingAdapter {name}-<role> (scalingAdapter.enable on the role)",
}
# Kind -> where its list is. All but the role scaler name their object in spec.scaleTargetRef.
LISTS: Mapping[str, tuple[str, str]] = {
    "ScaledObject": ("/apis/keda.sh/v1alpha1", "scaledobjects"),
    "PodAutoscaler": ("/apis/autoscaling.aibrix.ai/v1alpha1", "podautoscalers"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    SCALER: ("/apis/disaggregatedset.x-k8s.io/v1", "disaggregatedsetrolescalers"),
}
EVERYWHERE = tuple(kind for kind in LISTS if kind != SCALER)
INSIDE_A_SET = tuple(LISTS)


def objection(kind: str, top: Owner | None) -> str:
    """Why an object that `top` owns must not be written; empty if it may."""
    if top is None or kind in FACADES:
        return ""
    instead = TOLD_INSTEAD.get(top.kind, "{kind} {name} itself").format(kind=top.kind, name=top.name)
    return f"owned by {top.kind} {top.name}, which writes it back; target {instead}"


@dataclass(frozen=True, slots=True)
class Rival:
    """Another autoscaler, and the identity of what it scales (API group, kind, name, and the role inside if there is one)."""

    kind: str
    name: str
    scales: tuple[str, ...]

    @property
    def objection(self) -> str:
        """Why what it scales must not be written."""
        advice = "target that instead" if self.kind == SCALER else "remove one of the two"
        return f"{self.kind} {self.name} scales it already; {advice}"


def keeper(kind: str) -> Callable[[Body], Rival | None]:
    """How an object of `kind` is cut down; one that scales nothing is left out."""
    return _scaler if kind == SCALER else partial(_autoscaler, kind)


def rival_of(identity: tuple[str, ...], rivals: Iterable[Rival]) -> Rival | None:
    """The first autoscaler that scales what has this identity."""
    return next((rival for rival in rivals if rival.scales == identity), None)


def _autoscaler(kind: str, body: Body) -> Rival | None:
    ref = (body.get("spec") or {}).get("scaleTargetRef") or {}
    if not ref.get("name"):
        return None
    group = str(ref.get("apiVersion") or "apps/v1").rpartition("/")[0]  # KEDA's defaults: a Deployment
    return Rival(kind, body["metadata"]["name"], (group, str(ref.get("kind") or "Deployment"), str(ref["name"])))


def _scaler(body: Body) -> Rival | None:
    """A role scaler is called after the set that owns it and the role."""
    owner, name = owner_of(body), str(body["metadata"]["name"])
    if owner is None:
        return None
    return Rival(
        SCALER, name, (owner.api_version.rpartition("/")[0], owner.kind, owner.name, name.removeprefix(f"{owner.name}-"))
    )
