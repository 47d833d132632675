"""What did one fleet's users send in the last hours? The controller's `PastSource`: one range query for a fleet.

The metric profile's own queries for what arrived and how long requests were, over the fleet's own window, evaluated at even
steps: what ticks at those moments would have read, but for the pods. Those that served an hour ago may be gone, and nobody
can say any more which ones they were. A role's pods are told by the family of those that it has now, which is their name
without what makes each of them another:

    chat-prefill-0                  chat-prefill-[0-9]+            a group, a StatefulSet
    chat-prefill-6d5f8c9b7-x2v4w    chat-prefill-HASH-HASH         a Deployment, whose rollouts make other hashes
    anything else                   itself

Where two roles are of one family, since pods change their role in place, it is the pods themselves. A family may reach
further than the fleet: rows of another namespace or model are not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from autoscaler.adapters.prometheus.client import Endpoint
from autoscaler.adapters.prometheus.history import MEANS, OFFERED, REJECTED, filled, numbers
from autoscaler.adapters.prometheus.profile import MetricProfile, load_profiles, queries_for
from autoscaler.adapters.prometheus.promql import named
from autoscaler.adapters.prometheus.ranges import RangeClient, Span
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Unknown
from autoscaler.ports import FleetScope, Past
from autoscaler.refusal import Refusal

SIGNALS = (OFFERED, REJECTED, *MEANS.values())
NOBODY = "/"  # a name that no pod has
# The letters of names that Kubernetes makes up: without vowels, so that they spell no word ("prefill" is none of them).
HASH = "[bcdfghjklmnpqrstvwxz2456789]"
MADE_UP = re.compile(f"-{HASH}{{5,10}}-{HASH}{{5}}$|-[0-9]+$")


class PrometheusPast:
    """Reads fleets' pasts from one Prometheus, one after the other."""

    def __init__(self, endpoint: Endpoint, profiles: Mapping[str, MetricProfile] | None = None) -> None:
        self.client = RangeClient(endpoint)
        self._profiles = load_profiles() if profiles is None else profiles

    def past(self, scope: FleetScope, until_s: float, span_s: float, step_s: float) -> Past | Unknown:
        """The traffic of `span_s` seconds up to `until_s`, in steps of `step_s`, both to the whole second."""
        step, ends = max(1, round(step_s)), math.floor(until_s)
        try:
            span = Span(ends - max(1, round(span_s / step)) * step, ends, step)
            question = _question(scope, self._profiles)
        except Refusal as refusal:
            return Unknown(Gap.MALFORMED, "; ".join(str(refusal).splitlines()))
        rows = self.client.query_range(question, span)
        if isinstance(rows, Unknown):
            return rows
        try:
            by_signal = {name: [row for row in rows if row["metric"].get("signal") == name] for name in SIGNALS}
            told = {name: numbers((scope.namespace, scope.model), found, span) for name, found in by_signal.items()}
        except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            return Unknown(Gap.MALFORMED, f"a row of the answer cannot be read: {type(error).__name__} {error}")
        at_s = [float(span.start_s + (number + 1) * step) for number in range(span.steps)]
        return Past(at_s, told[OFFERED], told[REJECTED], {length: told[name] for length, name in MEANS.items()})


def families(scope: FleetScope) -> Mapping[Role, str]:
    """For each role a regular expression (RE2) of the pods that it has, and of those that it had."""
    kin = {role: {_family(pod) for pod in pods} for role, pods in scope.pods.items()}
    mixed = sum(map(len, kin.values())) > len(set().union(*kin.values()))
    told = {role: map(_literal, pods) for role, pods in scope.pods.items()} if mixed else kin
    return {role: "|".join(sorted(told.get(role, ()))) or NOBODY for role in Role}


def _family(pod: str) -> str:
    made_up = MADE_UP.search(pod)
    if made_up is None:
        return _literal(pod)
    rest = _literal(pod[: made_up.start()])
    return f"{rest}-[0-9]+" if made_up.group().count("-") == 1 else f"{rest}-{HASH}{{5,10}}-{HASH}{{5}}"


def _literal(name: str) -> str:
    """A dot is the only character of a pod's name that a regular expression takes for another."""
    return name.replace(".", "[.]")


def _question(scope: FleetScope, profiles: Mapping[str, MetricProfile]) -> str:
    """All signals in one query, told apart by a label, as those of now are (promql.py). Refusal for what nobody tells."""
    queries = queries_for(scope.engine, scope.gateway, scope.queries, profiles)
    pods, owner = families(scope), (scope.namespace, scope.model)
    asked = {name: filled(queries[name].promql, name, owner, pods, scope.window_s) for name in SIGNALS if name in queries}
    return "\nor\n".join(named(name, promql) for name, promql in asked.items())
