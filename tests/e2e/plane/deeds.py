"""What does a controller do on a cluster, one deed at a time, and in what would the loss of a right show?

Each deed is begun by an account, with the product's own adapters, and gives a `Symptom`: what goes wrong now, empty if nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from autoscaler.adapters.kubernetes import Election, KubeApi, KubernetesFleet, Ledger, PolicyObjects, Scribe
from autoscaler.adapters.kubernetes.views import Views
from autoscaler.adapters.routing import LabelRouting, ReadinessRouting, Routing
from autoscaler.core.action import Action, Outcome, Verdict
from autoscaler.core.fleet import Role
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import unreadable
from autoscaler.core.transaction import Victim
from autoscaler.ports import Fault, Managed
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.test_routing import VALUES, seen
from tests.e2e.plane.town import template
from tests.e2e.plane.workloads import DISAGGREGATED, Place
from tests.engines.routing import LABEL

LEASE = "pd-autoscaler"
SINGLE = "single"  # a pod with a role's label and our gate
DEPLOYMENT = {"apiVersion": "apps/v1", "kind": "Deployment"}
SCALER = {"apiVersion": DISAGGREGATED, "kind": "DisaggregatedSetRoleScaler"}
SET = {"apiVersion": DISAGGREGATED, "kind": "DisaggregatedSet", "name": "both"}
# A fleet for every way in which a pool is found: its targets for prefill and decode.
FLEETS: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "groups": ({"name": "prefill"}, {"name": "decode"}),
    "pods": ({**DEPLOYMENT, "name": "prefill"}, {**DEPLOYMENT, "name": "decode"}),
    "scalers": ({**SCALER, "name": "ours-prefill"}, {**SCALER, "name": "ours-decode"}),
    "set": ({**SET, "role": "prefill"}, {**SET, "role": "decode"}),
}
Symptom = Callable[[], str]


@dataclass
class World:
    """What all accounts look at: the namespace, and the policies in it as the administrator reads them."""

    place: Place
    policies: PolicyObjects
    terms: Iterator[int]
    log: pytest.LogCaptureFixture

    def key(self, fleet: str) -> str:
        return f"{self.place.namespace}/{fleet}"


class Leading:
    """A Leadership of one term."""

    def __init__(self, term: int) -> None:
        self._term = term

    def term(self) -> int | None:
        return self._term


def sees_policies(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    policies = PolicyObjects(api, [world.place.namespace])
    closing.callback(policies.stop)
    policies.ready(20.0)
    return policies.trouble


def scales(fleet: str) -> Callable[[World, KubeApi, ExitStack], Symptom]:
    """Reads the fleet and writes the count that it has."""

    def begin(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
        gateway = KubernetesFleet(api, world.policies)
        closing.callback(gateway.stop)

        def symptom() -> str:
            read = gateway.read(world.key(fleet), time.time())
            if isinstance(read, Fault):
                return read.detail
            desired = read.pools[Role.PREFILL].desired
            outcome = gateway.apply(world.key(fleet), Action(Role.PREFILL, desired, desired, Reason.SCALE_UP), time.time(), 0)
            return "" if outcome.verdict is Verdict.APPLIED else outcome.detail

        return symptom

    return begin


def is_told_why_pods_are_missing(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    views = Views(api)
    closing.callback(views.stop)
    return lambda: "" if views.told(world.place.namespace).complaints else "nothing is told"


def notes_what_it_will_do(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    ledger = Ledger(api, world.policies.kept)
    action = Action(Role.PREFILL, 1, 2, Reason.SCALE_UP)
    return lambda: str(ledger.intend(world.key("groups"), next(world.terms), action) or "")


def tells_what_it_did(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    def symptom() -> str:
        leading = Leading(next(world.terms))
        scribe = Scribe(world.policies.kept, Ledger(api, world.policies.kept), api, leading, "test")
        done = Outcome(Action(Role.PREFILL, 1, 2, Reason.SCALE_UP), Verdict.APPLIED, "replicas 1 -> 2")
        managed = next(one for one in world.policies.managed() if isinstance(one, Managed) and one.key == world.key("groups"))
        status = unreadable(managed.key, time.time(), managed.policy, Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, "a test"))
        world.log.clear()
        scribe.report(replace(status, outcomes=(done,)))
        wait_until(lambda: scribe.step() >= 0 and scribe.writes + scribe.failures >= 2, "its status and an Event were tried")
        return "; ".join(world.log.messages)

    return symptom


def routes(by: Callable[[KubeApi], Routing]) -> Callable[[World, KubeApi, ExitStack], Symptom]:
    """Takes a pod out of routing and lets it in again."""

    def begin(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
        routing = by(api)

        def symptom() -> str:
            faults = [routing.route(seen(world.place, SINGLE), role) for role in (None, Role.PREFILL)]
            return "; ".join(fault.detail for fault in faults if fault is not None)

        return symptom

    return begin


def makes_a_group_anew(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    """Deletes a pod; a new one for each try."""
    gateway = KubernetesFleet(api, world.policies)
    closing.callback(gateway.stop)

    def symptom() -> str:
        name = f"broken-{time.time_ns()}"
        world.place.create("v1", "Pod", name, template(Role.DECODE)["spec"])
        uid = world.place.kubectl("get", "pod", name, "-o", "jsonpath={.metadata.uid}")
        return str(gateway.single_pods.remake(world.place.namespace, Victim(name, uid), lambda pod: True) or "")

    return symptom


def leads(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    election = Election(api, world.place.namespace, LEASE, "pod-a")

    def symptom() -> str:
        election.step()
        return "" if election.term() is not None else "does not lead"

    return symptom


def leads_for_the_first_time(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    world.place.kubectl("delete", "lease", LEASE, "--ignore-not-found")
    return leads(world, api, closing)


def takes_the_lead(world: World, api: KubeApi, closing: ExitStack) -> Symptom:
    world.place.kubectl("delete", "lease", LEASE, "--ignore-not-found")
    world.place.create("coordination.k8s.io/v1", "Lease", LEASE, {"holderIdentity": "", "leaseDurationSeconds": 1})
    return leads(world, api, closing)


EVERYTHING = {
    "sees policies": sees_policies,
    **{f"scales {fleet}": scales(fleet) for fleet in FLEETS},
    "is told why pods are missing": is_told_why_pods_are_missing,
    "notes what it will do": notes_what_it_will_do,
    "routes by label": routes(lambda api: LabelRouting(api, LABEL, VALUES, "draining")),
    "routes by readiness": routes(ReadinessRouting),
    "makes a group anew": makes_a_group_anew,
    "tells what it did": tells_what_it_did,
    "leads for the first time": leads_for_the_first_time,
    "takes the lead": takes_the_lead,
}
# (resource, or resource and verb) -> in what the loss shows.
NEEDED_BY = {
    "pdautoscalers": "sees policies",
    "pdautoscalers get": "notes what it will do",
    "pdautoscalers/status": "notes what it will do",
    "leaderworkersets": "scales groups",
    "leaderworkersets/scale": "scales groups",
    "deployments": "scales pods",
    "deployments/scale": "scales pods",
    "disaggregatedsetrolescalers": "scales scalers",
    "disaggregatedsetrolescalers/scale": "scales scalers",
    "disaggregatedsets": "scales set",
    "pods": "scales groups",
    "pods get": "routes by label",
    "pods patch": "routes by label",
    "pods/status": "routes by readiness",
    "pods delete": "makes a group anew",
    "horizontalpodautoscalers": "scales groups",
    "scaledobjects": "scales groups",
    "podautoscalers": "scales groups",
    "events": "is told why pods are missing",
    "events create": "tells what it did",
    "leases": "takes the lead",
    "leases create": "leads for the first time",
}
# What is told instead of the server's words, where reading or leading just does not happen.
SILENT = {
    "is told why pods are missing": "nothing is told",
    "takes the lead": "does not lead",
    "leads for the first time": "does not lead",
}
