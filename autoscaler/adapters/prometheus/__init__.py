"""What do the engines and the gateway say, as Prometheus recorded it?

    profile.py      which PromQL gives each signal: the metric profiles, and a fleet's own overrides
    promql.py       many fleets -> few queries
    client.py       one query -> rows, or why there are none
    answer.py       rows -> numbers and histograms by signal
    assembly.py     one fleet's part of them -> its Signals
    own_queries.py  fleets with queries of their own, asked beside the others
    ranges.py       range queries, in chunks
    history.py      one fleet's past, step by step; lengths.yaml has the histograms of request lengths
    sightings.py    which of a fleet's signals are really there, for `autoscaler preflight`
    gpus.py         which engine says it works while its GPU does nothing
    recent.py       one fleet's last hours, for its forecasts to begin with: the `PastSource`
    signals.py      all of it: the `SignalSource` of the controller

Every signal of up to 500 pods travels in one query, joined by `or` and told apart by a label `signal`. One query is
one evaluation instant for all signals, and its cost in round trips does not grow with replicas or fleets.
"""

from autoscaler.adapters.prometheus.client import Endpoint
from autoscaler.adapters.prometheus.profile import load_profiles, queries_for
from autoscaler.adapters.prometheus.recent import PrometheusPast
from autoscaler.adapters.prometheus.signals import GRACE_S, PrometheusSignals

__all__ = ["GRACE_S", "Endpoint", "PrometheusPast", "PrometheusSignals", "load_profiles", "queries_for"]
