"""What do all fleets' signals say now? The controller's `SignalSource`, read from one Prometheus.

One query per shard (promql.py), one answer in memory at a time, and told before the next is asked for: a change in the
load of one fleet waits for 500 pods to be decoded, 0.1 s, and not for all 10,000 (`make bench NAME=kube`). Whatever fails
holds only the fleets of that shard. Fleets with queries of their own are asked about beside all others, who do not wait
for them (own_queries.py).

Ages come from Prometheus' clock (`time() - timestamp(...)`), never from ours, so a skew between the two does not matter.
A sample that an exporter timed itself stays in every answer for five minutes after the exporter died; its age shows it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from autoscaler.adapters.prometheus.answer import Answer, tabulate
from autoscaler.adapters.prometheus.assembly import signals_of
from autoscaler.adapters.prometheus.client import Endpoint, PrometheusClient
from autoscaler.adapters.prometheus.own_queries import AT_ONCE, Askable, OwnQueries
from autoscaler.adapters.prometheus.profile import MetricProfile, load_profiles, offered_source, queries_for
from autoscaler.adapters.prometheus.promql import Shard, deal, render
from autoscaler.core.observation import Gap, Signals, Unknown
from autoscaler.ports import FleetScope
from autoscaler.refusal import Refusal

SHARD_PODS = 500
GRACE_S = 0.2


class PrometheusSignals:
    """Reads all fleets' signals from one Prometheus.

    `read_s` bounds what one `read` takes for the profiles' queries, however many shards it needs; by default two queries'
    time. `grace_s` is how much longer it waits for fleets' own queries: 0.2 s, since between a metric's change and the write
    it causes nobody else's query may cost more than 300 ms.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        profiles: Mapping[str, MetricProfile] | None = None,
        *,
        shard_pods: int = SHARD_PODS,
        read_s: float | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self.client, self.own_client = PrometheusClient(endpoint), PrometheusClient(endpoint, AT_ONCE)
        self._profiles = load_profiles() if profiles is None else profiles
        self._shard_pods = shard_pods
        self._read_s = 2 * endpoint.timeout_s if read_s is None else read_s
        self._own, self._own_s = OwnQueries(shard_pods, grace_s), endpoint.timeout_s

    def read(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
        """One `Signals` per scope, by key, a shard at a time. A scope that asks for what does not exist is unknown as a whole
        and holds no other.
        """
        ends = time.monotonic() + self._read_s
        unaskable: dict[str, Signals] = {}
        own: list[Askable] = []
        alike: list[Askable] = []
        for scope in scopes:
            try:
                queries = queries_for(scope.engine, scope.gateway, scope.queries, self._profiles)
            except Refusal as refusal:
                unaskable[scope.key] = Signals.unknown(Gap.MALFORMED, "; ".join(str(refusal).splitlines()))
            else:
                (own if scope.queries else alike).append((scope, queries))
        shared = _shared(scopes)
        begun = self._own.begin(own, lambda shard: self._read_shard(self.own_client, shard, shared, self._own_s))
        yield unaskable
        for shard in deal(alike, self._shard_pods):
            yield self._read_shard(self.client, shard, shared, ends - time.monotonic())
        yield self._own.collect(own, begun)

    def _read_shard(
        self, client: PrometheusClient, shard: Shard, shared: Mapping[str, Unknown], within_s: float
    ) -> dict[str, Signals]:
        answer = _ask(client, shard, within_s)
        if isinstance(answer, Unknown):
            return {scope.key: Signals.unknown(answer.gap, answer.detail) for scope in shard.scopes}
        return {
            scope.key: signals_of(scope, shard.queries, offered_source(scope, self._profiles), answer, shared.get(scope.key))
            for scope in shard.scopes
        }


def _ask(client: PrometheusClient, shard: Shard, within_s: float) -> Answer | Unknown:
    rows = client.query(render(shard), within_s)
    if isinstance(rows, Unknown):
        return rows
    try:
        return tabulate(rows)
    except KeyError as error:
        return Unknown(Gap.MALFORMED, f"a row of the answer has no {error}")
    except (AttributeError, TypeError, ValueError) as error:
        return Unknown(Gap.MALFORMED, f"a row of the answer cannot be read: {error}")


def _shared(scopes: Sequence[FleetScope]) -> Mapping[str, Unknown]:
    """Fleets that another of the same namespace and model makes unreadable: what is summed by model is of both."""
    keys = defaultdict(list)
    for scope in scopes:
        keys[scope.namespace, scope.model].append(scope.key)
    return {
        key: Unknown(Gap.AMBIGUOUS, f"{', '.join(other for other in group if other != key)} has the same namespace and model")
        for group in keys.values()
        if len(group) > 1
        for key in group
    }
