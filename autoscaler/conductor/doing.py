"""What is done at a step of a transaction, and with whose hands?

Each duty is one write to one outside thing: the router or a pod's label, a target's count, an engine, a pod. What came of it
is not remembered but looked at again; only an engine's "no" is, because nothing else shows it. Nothing is raised: a duty that
failed is done again at the next beat, until the step's patience is over (core/transit.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from autoscaler.adapters.engines import Engine, EngineFault, Failed, Refused, Switched, roles, switch
from autoscaler.adapters.kubernetes import KubernetesFleet
from autoscaler.adapters.kubernetes.pods import Pod
from autoscaler.adapters.kubernetes.single_pods import GOING
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.adapters.routing import GatewayClient, LabelRouting, ReadinessRouting, Routing, SglangGatewayRouting
from autoscaler.adapters.routing import Refused as Unroutable
from autoscaler.adapters.routing.pods import PodApi
from autoscaler.conductor.looking import Looking, endpoint_of, engine_of, leader_of
from autoscaler.core.action import Verdict
from autoscaler.core.duties import Count, Duty, Remake, Route, Switch
from autoscaler.core.fleet import Phase, Role
from autoscaler.core.sight import AWAY
from autoscaler.core.transaction import Transaction
from autoscaler.policy.document import Spec


class Hands:
    """Carries out duties of one transaction, in one term of leadership."""

    def __init__(self, key: str, fleets: KubernetesFleet, looking: Looking, term: int) -> None:
        self._key, self._fleets, self._looking, self.term = key, fleets, looking, term

    def do(self, duty: Duty, one: Transaction, ground: Ground, routing: Routing | None, now: float) -> str:
        """Why it was not done, in one line; empty if it was, or may have been."""
        match duty:
            case Route():
                return self._route(duty, ground, routing)
            case Count():
                return self._count(duty, one, ground, now)
            case Switch():
                return self._switch(duty, ground)
            case Remake():
                return self._remake(duty, ground, routing)

    def _route(self, duty: Route, ground: Ground, routing: Routing | None) -> str:
        """A final refusal is remembered until the same is done after all."""
        leader = leader_of(duty.victim.name, ground)
        if leader is None:
            return ""
        gone = Unroutable("routing", "the policy says no routing any more")
        fault = gone if routing is None else routing.route(endpoint_of(leader, ground), duty.role)
        if isinstance(fault, Unroutable):
            self._looking.answers[leader.uid] = (fault.detail, "")
        elif fault is None:
            self._looking.answers.pop(leader.uid, None)
        return "" if fault is None else fault.detail

    def _count(self, duty: Count, one: Transaction, ground: Ground, now: float) -> str:
        """A lower count, where it is the cluster that chooses who goes, only once it has been told who, and shows it."""
        if duty.wanted < duty.seen:
            untold = list(_untold(one, duty.role, ground))
            for leader, going in untold:
                fault = self._fleets.single_pods.offer(ground.namespace, leader, going=going)
                if fault is not None:
                    return str(fault)
            if untold:
                return ""
        outcome = self._fleets.count(self._key, duty.role, duty.seen, duty.wanted, now, self.term)
        return "" if outcome.verdict is Verdict.APPLIED else outcome.detail

    def _remake(self, duty: Remake, ground: Ground, routing: Routing | None) -> str:
        leader = leader_of(duty.victim.name, ground)
        if leader is None:
            return ""
        if routing is None:
            return "the policy says no routing any more"
        endpoint = endpoint_of(leader, ground)

        def away(now: Pod) -> bool:
            return routing.routed(replace(endpoint, labels=now.labels, gates=now.gates)) is AWAY

        fault = self._fleets.single_pods.remake(ground.namespace, duty.victim, away)
        return "" if fault is None else str(fault)

    def _switch(self, duty: Switch, ground: Ground) -> str:
        leader = leader_of(duty.victim.name, ground)
        if leader is None:
            return ""
        alike = (one for one in ground.replicas if one.role is duty.role and one.replica.phase is Phase.SERVING)
        like = next((engine_of(one.leader, ground) for one in alike if one.leader.uid != leader.uid), None)
        engine = engine_of(leader, ground)
        answer = switch(engine, duty.role, like)
        match answer:
            case Switched():
                why = _pretence(engine, duty.role)
                if why:
                    self._looking.answers[leader.uid] = (why, "")
                return why
            case Refused(why):
                self._looking.answers[leader.uid] = (why, "")
                return why
            case Failed(why):
                self._looking.answers[leader.uid] = ("", why)
                return why
            case _:
                return answer.fault.detail


def _pretence(engine: Engine, role: Role) -> str:
    """Why an engine that says it has switched has not; empty if it has, or does not tell. Nothing would come of asking again."""
    told = roles(engine)
    live = None if isinstance(told, EngineFault) else told.live
    return "" if live in (None, role) else f"it says that it has switched to {role}, and is {live} all the same"


def _untold(one: Transaction, role: Role, ground: Ground) -> Iterator[tuple[Pod, bool]]:
    """Pods without ordinals that are to go and do not say so, and those that say so from a time before and are to stay."""
    names = {victim.name for victim in one.change.victims}
    for pod in ground.standings[role].pods:
        meant = pod.name in names
        if pod.ordinal is None and pod.leading and pod.leaving_s is None and meant is not (pod.cost == GOING):
            yield pod, meant


def routing_of(spec: Spec, api: PodApi) -> Routing | None:
    """The way that a policy says; None where it says none."""
    said = spec.routing
    if said is None:
        return None
    if said.label is None:
        return ReadinessRouting(api)
    label = LabelRouting(api, said.label, said.values, said.away)
    return label if said.url is None else SglangGatewayRouting(GatewayClient(said.url), spec.engine_port, label)


RoutingOf = Callable[[Spec], Routing | None]
