"""What is a new pod given that its fleet counts on?

A readiness gate can only be added to a pod that is being made, and a router that tells roles by a label needs it from the first
moment on. A pod template asks for both by one label, so that the API server itself leaves all other pods alone:

    pdautoscaler.io/inject: "true"

What is given follows from the PDAutoscaler that has the pod's set as its target, and from its spec.routing: with kind
readinessGate the gate pdautoscaler.io/routed, with a label the role's value of it, where the pod has no value yet. A pod that
has it already gets nothing: asked twice, the answer is the same.

Whose is a pod? A pod of a LeaderWorkerSet or of a DisaggregatedSet bears its set's name; of a Deployment the name of its
ReplicaSet is cut at the hash; else its owner is the target. In a group only the leader is routed to: only it is given anything.

A gate is a promise that somebody opens it. Where the controller is silent or in mode Off nobody would, and the pod would never
be Ready; it is made without, with a warning, and cannot be drained by its gate later on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autoscaler.companion.admission.fleets import Fleets, Owned, plural
from autoscaler.companion.admission.review import ALLOWED, Review, Ruling, listed, mapping
from autoscaler.companion.admission.strictness import PREFIX
from autoscaler.companion.told import told
from autoscaler.core.action import Mode
from autoscaler.policy.routing import TELLS_ROLES, Routing, RoutingKind

INJECT = f"{PREFIX}inject"
GATE = f"{PREFIX}routed"  # the one that adapters/routing/readiness.py opens and shuts
LWS_NAME, LWS_PLACE = "leaderworkerset.sigs.k8s.io/name", "leaderworkerset.sigs.k8s.io/worker-index"
LWS_GROUP = "leaderworkerset.x-k8s.io"
SET_NAME, SET_ROLE = "disaggregatedset.x-k8s.io/name", "disaggregatedset.x-k8s.io/role"
SET_GROUP = "disaggregatedset.x-k8s.io"
HASH = "pod-template-hash"

Operation = Mapping[str, Any]


def judge(review: Review, fleets: Fleets, now: float) -> Ruling:
    """The patch of a pod that is being made, at `now` in seconds since 1970."""
    pod = mapping(review.new)
    labels = mapping(mapping(pod.get("metadata")).get("labels"))
    if review.operation != "CREATE" or review.kind.kind != "Pod" or review.sub_resource or labels.get(INJECT) != "true":
        return ALLOWED
    if LWS_NAME in labels and labels.get(LWS_PLACE) != "0":
        return ALLOWED
    owned = owner(pod, labels, review.namespace, fleets)
    if owned is None:
        text = f"{INJECT} is set, and the pod belongs to no target of a PDAutoscaler in namespace {review.namespace}"
        return _nothing("allowed-unknown", text)
    return _given(pod, owned, fleets, now).audited(policy=owned.fleet.key, role=owned.role)


def _given(pod: Mapping[str, Any], owned: Owned, fleets: Fleets, now: float) -> Ruling:
    routing = owned.fleet.routing
    if routing is None:
        text = f"{INJECT} is set, and PDAutoscaler {owned.fleet.key} has no spec.routing that says what to inject"
        return _nothing("allowed-no-routing", text)
    doubt = _nobody_opens(fleets.bodies[owned.fleet.key], now) if routing.kind is RoutingKind.READINESS_GATE else ""
    if doubt:
        text = f"the pod is made without readiness gate {GATE}, which nobody would open: {doubt}"
        return _nothing("allowed-no-gate", text)
    patch = (*_gate(pod, routing), *_role(pod, owned, routing))
    return Ruling(patch=patch, audit={"decision": "injected" if patch else "allowed"})


def _nothing(decision: str, warning: str) -> Ruling:
    return Ruling(warnings=(warning,), audit={"decision": decision})


def owner(pod: Mapping[str, Any], labels: Mapping[str, Any], namespace: str, fleets: Fleets) -> Owned | None:
    """The pool that a pod is made for; None: none that is known."""
    for group, resource, name, role in _sets(pod, labels):
        found = fleets.owned(namespace, group, resource, name)
        for one in found:
            if one.target.role is None or one.target.role == role:
                return one
    return None


def _sets(pod: Mapping[str, Any], labels: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """(group, plural, name, role inside) of whatever may be the target, the most specific first."""
    role = str(labels.get(SET_ROLE, ""))
    if SET_NAME in labels:
        yield SET_GROUP, "disaggregatedsets", str(labels[SET_NAME]), role
        yield SET_GROUP, "disaggregatedsetrolescalers", f"{labels[SET_NAME]}-{role}", ""
    if LWS_NAME in labels:
        yield LWS_GROUP, "leaderworkersets", str(labels[LWS_NAME]), ""
    for one in map(mapping, listed(mapping(pod.get("metadata")).get("ownerReferences"))):
        group, kind, name = str(one.get("apiVersion", "")).rpartition("/")[0], str(one.get("kind", "")), str(one.get("name", ""))
        yield group, plural(kind), name, ""
        suffix = f"-{labels.get(HASH)}"
        if kind == "ReplicaSet" and name.endswith(suffix):
            yield group, "deployments", name.removesuffix(suffix), ""


def _nobody_opens(body: Mapping[str, Any], now: float) -> str:
    said = told(body, now)
    if said.stale:
        return said.doubt
    return "" if said.mode in (Mode.AUTO, Mode.RECOMMEND) else f"its mode is {said.mode}"


def _gate(pod: Mapping[str, Any], routing: Routing) -> Iterator[Operation]:
    if routing.kind is not RoutingKind.READINESS_GATE:
        return
    gates = mapping(pod.get("spec")).get("readinessGates")
    wanted = {"conditionType": GATE}
    if not listed(gates):
        yield {"op": "add", "path": "/spec/readinessGates", "value": [wanted]}
    elif all(mapping(one).get("conditionType") != GATE for one in listed(gates)):
        yield {"op": "add", "path": "/spec/readinessGates/-", "value": wanted}


def _role(pod: Mapping[str, Any], owned: Owned, routing: Routing) -> Iterator[Operation]:
    """Labels are there: one of them asked for this."""
    if routing.kind in TELLS_ROLES and routing.label is not None and routing.label not in pod["metadata"]["labels"]:
        yield {"op": "add", "path": f"/metadata/labels/{_escaped(routing.label)}", "value": routing.values[owned.role]}


def _escaped(key: str) -> str:
    """A key as a JSON pointer has it (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
