"""Which part of an answer is one fleet's, and how old is it?

What is summed over pods is as old as the oldest of them; what the gateway tells is as old as the gateway's own samples.
Nothing is filled in: a pod that lacks a gauge it must have is left out, a sum that is not there is `Unknown`, and a fleet
whose sums are mixed with another's keeps its gauges, which come per pod, and loses the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from autoscaler.adapters.prometheus.answer import Answer, Owner
from autoscaler.adapters.prometheus.profile import NEEDED_OF_PODS, PodSignal, Query
from autoscaler.adapters.prometheus.promql import spellings
from autoscaler.core.door import Door, Verdicts
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Reading, RoleSignals, Signals, Traffic, Unknown
from autoscaler.ports import FleetScope

ENDS, BOTH = ("least", "most"), "both"  # of a range that hindsight gives; of a share that is known they are one


def signals_of(scope: FleetScope, queries: Mapping[str, Query], source: str, answer: Answer, shared: Unknown | None) -> Signals:
    """One fleet's signals out of its shard's answer. `shared` is why its sums cannot be told from another fleet's, if so."""
    gauges = _gauges(scope, answer)
    if shared is not None:
        roles = dict.fromkeys(scope.pods, RoleSignals(shared, shared, shared))
        return Signals(gauges, roles, Traffic(shared, source, shared, shared, shared, shared, shared))
    sums = _Sums(scope, queries, answer, gauges)
    roles = {
        role: RoleSignals(
            sums.histogram(f"{role}.latency"),
            sums.reading(f"{role}.tokens_per_request", pods),
            sums.histogram(f"{role}.service"),
        )
        for role, pods in scope.pods.items()
    }
    pods = [pod for names in scope.pods.values() for pod in names]
    traffic = Traffic(
        offered_rps=_not_negative(sums.reading("traffic.offered_rps", pods)),
        source=source,
        ttft=sums.histogram("traffic.ttft"),
        prompt_tokens=sums.reading("traffic.prompt_tokens", pods),
        rejected_rps=sums.reading("traffic.rejected_rps", pods),
        held=sums.reading("traffic.held", pods),
        direct_share=sums.reading("traffic.direct_share", pods),
        door=sums.door(),
    )
    return Signals(gauges, roles, traffic)


@dataclass(frozen=True, slots=True)
class _Sums:
    """What an answer says of one fleet as a whole."""

    scope: FleetScope
    queries: Mapping[str, Query]
    answer: Answer
    gauges: Mapping[str, Gauges] | Unknown

    def _owner(self, signal: str) -> Owner:
        """Whose row it is in the answer: the model's, or that of its name in lower case (metric_profiles/dynamo.yaml)."""
        exact = self.scope.namespace, self.scope.model
        if self.answer.tells(signal, exact):
            return exact
        other = self.scope.namespace, spellings(self.scope.model)[1]
        return other if self.answer.tells(signal, other) else exact

    def histogram(self, signal: str) -> Histogram | Unknown:
        return self.answer.histogram(signal, self._owner(signal)) if signal in self.queries else self._not_told(signal)

    def reading(self, signal: str, pods: Sequence[str]) -> Reading:
        """A number; if the engine tells it, from `pods`."""
        query = self.queries.get(signal)
        if query is None:
            return self._not_told(signal)
        gateway_age_s = self.answer.number("traffic.age_s", self._owner("traffic.age_s"))
        age_s = _oldest(self.gauges, pods) if query.scope == "engine" else math.inf if gateway_age_s is None else gateway_age_s
        return self.answer.reading(signal, self._owner(signal), age_s)

    def door(self) -> Door | None:
        """What sidecars say; None where there is none, or none that has judged anybody."""
        judged, shares = (self.answer.table(name, self._owner(name)) for name in ("door.verdicts", "door.hindsight"))
        if not judged:
            return None
        verdicts = tuple(
            Verdicts(mode, decision == "admit", reason, qos, rps)
            for (mode, decision, reason, qos), rps in sorted(judged.items())
            if math.isfinite(rps)
        )
        ends = {what: [shares.get((what, end), shares.get((what, BOTH), math.nan)) for end in ENDS] for what, _ in shares}
        hindsight = {what: (least, most) for what, (least, most) in ends.items() if math.isfinite(least + most)}
        return Door(verdicts, hindsight)

    def _not_told(self, signal: str) -> Unknown:
        gateway = f"gateway {self.scope.gateway}" if self.scope.gateway else "a gateway, for there is none,"
        return Unknown(Gap.MISSING, f"neither engine {self.scope.engine} nor {gateway} tells {signal}")


def _gauges(scope: FleetScope, answer: Answer) -> Mapping[str, Gauges] | Unknown:
    """Each pod's gauges; a pod with one of them missing or no number is left out, and the core asks why it is silent.

    Unknown only when nothing is left. A fleet without pods was not asked about: nothing is known, and nothing is wrong.
    """
    columns = [answer.numbers.get(f"pods.{name}", {}) for name in NEEDED_OF_PODS]  # in the order of Gauges' fields
    deferred = answer.numbers.get("pods.deferred", {})
    pods = [pod for names in scope.pods.values() for pod in names]
    gauges = {}
    for pod in pods:
        owner = (scope.namespace, pod)
        values = [column.get(owner) for column in columns]
        values.append(deferred.get(owner, 0.0))
        known = [value for value in values if value is not None and math.isfinite(value)]
        if len(known) == len(values):
            gauges[pod] = Gauges.told(*known)
    return gauges if gauges or not pods else _why_none(scope.namespace, pods, answer)


def _why_none(namespace: str, pods: Sequence[str], answer: Answer) -> Unknown:
    """Why no pod can be read: the first pod's reason stands for all."""
    first, of = pods[0], f"no pod of {len(pods)}"
    values = {name: answer.number(f"pods.{name}", (namespace, first)) for name in get_args(PodSignal)}
    strange = [f"{name} is {value}" for name, value in values.items() if value is not None and not math.isfinite(value)]
    if strange:
        return Unknown(Gap.NOT_A_NUMBER, f"{of} is readable; {first}: {', '.join(strange)}")
    absent = ", ".join(name for name in NEEDED_OF_PODS if values[name] is None)
    return Unknown(Gap.MISSING, f"Prometheus answers, but {of} has all gauges; {first} in {namespace} lacks {absent}")


def _oldest(gauges: Mapping[str, Gauges] | Unknown, pods: Sequence[str]) -> float:
    """The age of a sum over `pods`; infinite where none of them tells one."""
    if isinstance(gauges, Unknown):
        return math.inf
    return max((gauges[pod].age_s for pod in pods if pod in gauges), default=math.inf)


def _not_negative(reading: Reading) -> Reading:
    """An arrival rate estimated from a shrinking queue may come out a little below zero; nothing arrives at less than none."""
    return Known(max(0.0, reading.value), reading.age_s) if isinstance(reading, Known) else reading
