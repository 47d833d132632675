"""Which of a fleet's signals does a Prometheus really have?

Every signal's query is asked by itself, so that one that does not work hides no other, over the pods of a policy's targets:
those that a cluster has, or all whose names its targets would give them. What is found is told as it would be read at a tick,
with its age; a signal that nobody is asked about is told, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from autoscaler.adapters.prometheus.answer import Answer, tabulate
from autoscaler.adapters.prometheus.client import PrometheusClient
from autoscaler.adapters.prometheus.history import filled
from autoscaler.adapters.prometheus.profile import SHAPES, Query, load_profiles, queries_for
from autoscaler.adapters.prometheus.promql import named, spellings
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Histogram, Known, Reading, Unknown
from autoscaler.ports import Managed

POD_AGE, GATEWAY_AGE = "pods.age_s", "traffic.age_s"
ONLY_IF_ANY = frozenset({"pods.deferred"})  # its query answers only for pods that have some
DOOR = frozenset({"traffic.rejected_rps", "door.verdicts", "door.hindsight"})  # without a door before the fleet nobody tells them


class Sight(StrEnum):
    """How a signal stands."""

    THERE = "there"
    QUIET = "quiet"  # it would be there if there were anything to tell
    STALE = "stale"
    MISSING = "missing"
    FAILED = "failed"  # Prometheus refuses the query, or answers what cannot be read
    UNTOLD = "untold"  # no profile and no query of the fleet's own asks for it


@dataclass(frozen=True, slots=True)
class Sighting:
    """One signal: how it stands, what it says or why it says nothing (one line), and how old that is, None where unknown."""

    signal: str
    sight: Sight
    detail: str
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whose signals are looked for: `pods` has a regular expression (RE2) of each role's pods."""

    fleet: Managed
    pods: Mapping[Role, str]

    def sightings(self, client: PrometheusClient, within_s: float) -> Iterator[Sighting]:
        """Every signal there could be, in the order of the profiles' form; each query may take `within_s` seconds. Refusal for
        a fleet that asks for what does not exist.
        """
        fleet = self.fleet
        queries = queries_for(fleet.engine, fleet.gateway, fleet.queries, load_profiles())
        answers = {name: self._ask(client, name, query, within_s) for name, query in queries.items()}
        ages = {name: self._ages(answers.get(name)) for name in (POD_AGE, GATEWAY_AGE)}
        for name in SHAPES:
            query = queries.get(name)
            if query is None:
                if name != GATEWAY_AGE:  # what pods tell is as old as they are
                    yield Sighting(name, Sight.UNTOLD, _nobody(fleet))
            elif isinstance(answer := answers[name], Unknown):
                yield Sighting(name, Sight.FAILED, answer.detail)
            elif SHAPES[name].owner == "pod":
                yield self._of_pods(name, answer, ages[POD_AGE])
            else:
                yield self._of_model(name, answer, ages[GATEWAY_AGE if query.scope == "gateway" else POD_AGE])

    def _ask(self, client: PrometheusClient, name: str, query: Query, within_s: float) -> Answer | Unknown:
        owner = (self.fleet.namespace, self.fleet.model)
        rows = client.query(named(name, filled(query.promql, name, owner, self.pods, self.fleet.window_s)), within_s)
        if isinstance(rows, Unknown):
            return rows
        try:
            return tabulate(rows)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            return Unknown(Gap.MALFORMED, f"a row of the answer cannot be read: {error}")

    def _ages(self, answer: Answer | Unknown | None) -> Mapping[str, float]:
        """By pod or model."""
        if not isinstance(answer, Answer):
            return {}
        told = [(owner, age_s) for of_signal in answer.numbers.values() for owner, age_s in of_signal.items()]
        return {owner: age_s for (namespace, owner), age_s in told if namespace == self.fleet.namespace}

    def _of_pods(self, name: str, answer: Answer, ages: Mapping[str, float]) -> Sighting:
        told = {pod: value for (space, pod), value in answer.numbers[name].items() if space == self.fleet.namespace}
        of = {role: sorted(pod for pod in told if re.fullmatch(pattern, pod)) for role, pattern in self.pods.items()}
        seen = [pod for pods in of.values() for pod in pods]
        if not seen and name in ONLY_IF_ANY:
            return Sighting(name, Sight.QUIET, "no pod has any, or the engine does not tell it")
        silent = [role for role, pods in of.items() if not pods and name not in ONLY_IF_ANY]
        if silent:
            return Sighting(name, Sight.MISSING, f"no pod of {' and '.join(silent)} tells it ({_patterns(silent, self.pods)})")
        counted = ", ".join(f"{len(pods)} {role}" for role, pods in of.items() if pods)
        strange = [pod for pod in seen if not math.isfinite(told[pod])]
        if strange:
            return Sighting(name, Sight.FAILED, f"{strange[0]} says {told[strange[0]]}; of {counted} pods")
        return self._dated(name, f"{counted}; {seen[0]} says {told[seen[0]]:.4g}", [ages.get(pod, math.inf) for pod in seen])

    def _of_model(self, name: str, answer: Answer, ages: Mapping[str, float]) -> Sighting:
        owners = [(self.fleet.namespace, model) for model in spellings(self.fleet.model)]
        owner = next((one for one in owners if answer.tells(name, one)), owners[0])
        if SHAPES[name].parts and answer.tells(name, owner):
            return self._dated(name, f"{len(answer.table(name, owner))} figures", list(ages.values()))
        if name in DOOR and not answer.tells(name, owner):
            return Sighting(name, Sight.QUIET, "nobody tells it: no sidecar, or one that has nothing of this to tell")
        read: Histogram | Reading = answer.histogram(name, owner) if SHAPES[name].buckets else answer.reading(name, owner, 0.0)
        if isinstance(read, Unknown):
            sight = {Gap.NOT_A_NUMBER: Sight.QUIET, Gap.MISSING: Sight.MISSING}.get(read.gap, Sight.FAILED)
            return Sighting(name, sight, read.detail)
        return self._dated(name, _said(read), list(ages.values()))

    def _dated(self, name: str, detail: str, ages_s: Sequence[float]) -> Sighting:
        """As old as its oldest part; what is older than the policy believes is stale."""
        age_s, most_s = max(ages_s, default=math.inf), self.fleet.policy.freshness.max_age_s
        if age_s <= most_s:
            return Sighting(name, Sight.THERE, detail, age_s)
        if math.isinf(age_s):
            return Sighting(name, Sight.STALE, f"{detail}, of unknown age")
        return Sighting(name, Sight.STALE, f"{detail}, older than {most_s:g} s", age_s)


def _said(read: Histogram | Known) -> str:
    if isinstance(read, Known):
        return f"{read.value:.4g}"
    mean = "" if read.mean is None else f", mean {read.mean:.4g}"
    return f"{read.samples:.0f} samples{mean}"


def _nobody(fleet: Managed) -> str:
    gateway = f"nor gateway {fleet.gateway}" if fleet.gateway else "nor a gateway, for there is none,"
    return f"neither engine {fleet.engine} {gateway} tells it"


def _patterns(roles: Sequence[Role], pods: Mapping[Role, str]) -> str:
    return "; ".join(pods[role] if len(pods[role]) <= 60 else f"{pods[role][:57]}..." for role in roles)
