"""Who else writes this object?

Its owner: a child LeaderWorkerSet of a DisaggregatedSet is written by the set at every turn and gets a new name with
every rollout, so writing it does nothing for long (reference/engines.md A.5, A.6). FACADES are owned objects that exist
to be scaled from outside. TOLD_INSTEAD says, per owner, what to name instead of what it owns; an owner that is not there
is named itself: whoever owns, writes.

Another autoscaler: two on one object pull it to and fro at every turn, so the second one has to stand back, and we are
the one that can tell. KEDA makes horizontal autoscalers of its own; each kind is looked at by itself, so that the name
told is the one the operator wrote. Kinds whose definition is not installed are empty lists. One that writes what we publish
for it is no rival of a pool that is handed to it (followers.py). The role scaler of a
DisaggregatedSet is such another one for a role that is written in the set: where it exists it is the object to target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from autoscaler.adapters.kubernetes.api import Body
from autoscaler.adapters.kubernetes.followers import Reading, of_keda, reading
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
class Handing:
    """Which pool it is: its policy's name and its role, and whether an autoscaler is to write its count."""

    policy: str
    role: str
    handed: bool


@dataclass(frozen=True, slots=True)
class Rival:
    """Another autoscaler, and the identity of what it scales (API group, kind, name, and the role inside if there is one).
    `reads`: which published count of ours.
    """

    kind: str
    name: str
    scales: tuple[str, ...]
    reads: Reading | None = None

    @property
    def called(self) -> str:
        """It in a message."""
        return f"{self.kind} {self.name}"

    def follows(self, pool: Handing) -> bool:
        """Whether it reads this pool's published count, and the pool is handed over."""
        return pool.handed and self._reads(pool)

    def objection(self, pool: Handing) -> str:
        """Why what it scales must not be written, by us or at our word; empty if it follows and does nothing else."""
        if self.reads is not None and self._reads(pool):
            if pool.handed:
                return f"{self.called} {self.reads.flaw}" if self.reads.flaw else ""
            return f"{self.called} scales it by the count that is published; set the pool's actuation to hpa, or remove it"
        advice = "target that instead" if self.kind == SCALER else "remove one of the two"
        return f"{self.called} scales it already; {advice}"

    def _reads(self, pool: Handing) -> bool:
        return self.reads is not None and (self.reads.policy, self.reads.role) == (pool.policy, pool.role)


def keeper(kind: str) -> Callable[[Body], Rival | None]:
    """How an object of `kind` is cut down; one that scales nothing is left out."""
    return _scaler if kind == SCALER else partial(_autoscaler, kind)


def rivalry(identity: tuple[str, ...], rivals: Iterable[Rival], pool: Handing) -> str:
    """Why other autoscalers speak against a write of what has this identity; empty if none does. Of two that follow the second
    one is too many: each has bounds of its own.
    """
    scaling = [rival for rival in rivals if rival.scales == identity]
    against = next((text for rival in scaling if (text := rival.objection(pool))), "")
    if not against and len(scaling) > 1:
        return f"{scaling[0].called} and {scaling[1].called} both scale it; remove one of the two"
    return against


def follower(identity: tuple[str, ...], rivals: Iterable[Rival], pool: Handing) -> str:
    """The autoscaler that writes what is published of this pool; empty if there is none."""
    return next((rival.called for rival in rivals if rival.scales == identity and rival.follows(pool)), "")


def _autoscaler(kind: str, body: Body) -> Rival | None:
    ref = (body.get("spec") or {}).get("scaleTargetRef") or {}
    if not ref.get("name") or of_keda(kind, body):
        return None
    group = str(ref.get("apiVersion") or "apps/v1").rpartition("/")[0]  # KEDA's defaults: a Deployment
    scales = (group, str(ref.get("kind") or "Deployment"), str(ref["name"]))
    return Rival(kind, body["metadata"]["name"], scales, reading(kind, body))


def _scaler(body: Body) -> Rival | None:
    """A role scaler is called after the set that owns it and the role."""
    owner, name = owner_of(body), str(body["metadata"]["name"])
    if owner is None:
        return None
    return Rival(
        SCALER, name, (owner.api_version.rpartition("/")[0], owner.kind, owner.name, name.removeprefix(f"{owner.name}-"))
    )
