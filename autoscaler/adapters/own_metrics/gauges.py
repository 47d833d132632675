"""How does a status read as gauges?

One row of `GAUGES` per metric: its name, its help, its labels after `fleet`, and where its samples are in a status. A
value that is not known, or is no finite number, gives no sample: a gap in a picture is honest, a zero is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

from prometheus_client.core import GaugeMetricFamily, Metric

from autoscaler.core.action import Mode
from autoscaler.core.explain import TrafficView
from autoscaler.core.fleet import Flipping, Lack, Phase, Role
from autoscaler.core.pool_status import Attainment, PoolStatus
from autoscaler.core.status import Status

Sample = tuple[tuple[str, ...], float | None]
PREFIX = "pd_autoscaler_"
GATEWAY = "gateway"
VERDICT = ("mode", "decision", "reason", "class")


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric: `samples` gives the values of `labels`, and the number, for each sample of one fleet."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[Status], Iterable[Sample]]


def gauges(statuses: Sequence[Status]) -> Iterator[Metric]:
    """Every gauge over these fleets."""
    for row in GAUGES:
        family = GaugeMetricFamily(PREFIX + row.name, row.help, labels=("fleet", *row.labels))
        for status in statuses:
            for labels, value in row.samples(status):
                if value is not None and math.isfinite(value):
                    family.add_metric((status.key, *labels), value)
        yield family


def _pools(value: Callable[[PoolStatus], float | None]) -> Callable[[Status], Iterable[Sample]]:
    """One sample per role."""
    return lambda status: (((role,), value(pool)) for role, pool in status.pools.items())


def _words(value: Callable[[PoolStatus], str | None]) -> Callable[[Status], Iterable[Sample]]:
    """One sample of 1 per role whose word is known; the word is a label."""
    return lambda status: (((role, word), 1.0) for role, pool in status.pools.items() if (word := value(pool)) is not None)


def _targets(mode: Mode) -> Callable[[Status], Iterable[Sample]]:
    """The targets of a fleet in this mode (law 13: outside Auto they bear another name)."""
    return lambda status: _pools(lambda pool: pool.target)(status) if status.mode == mode else ()


def _phases(status: Status) -> Iterator[Sample]:
    """Every phase, also one that no replica is in: a line that ends tells nobody that the count is 0."""
    for role, pool in status.pools.items():
        for phase in Phase:
            yield (role, phase), pool.phases.get(phase, 0)


def _missing(status: Status) -> Iterator[Sample]:
    """Every lack, also one that keeps no replica away."""
    for role, pool in status.pools.items():
        for lack in Lack:
            yield (role, lack), sum(short.replicas for short in pool.shortages if short.lack is lack)


def _traffic(value: Callable[[TrafficView], float | None]) -> Callable[[Status], Iterable[Sample]]:
    """One sample for all roles together."""
    return lambda status: [((), value(status.traffic))] if status.traffic is not None else ()


def _flips(value: Callable[[Status, list[Flipping]], float | None]) -> Callable[[Status], Iterable[Sample]]:
    """One sample per ordered pair of roles, of the flips under way between them."""
    return lambda status: ((pair, value(status, _between(status, pair))) for pair in permutations(status.pools, 2))


def _between(status: Status, pair: tuple[Role, ...]) -> list[Flipping]:
    return [flip for flip in status.flips if (flip.from_role, flip.to_role) == pair]


def _latencies(value: Callable[[Attainment], float | None]) -> Callable[[Status], Iterable[Sample]]:
    return lambda status: (((slo.kind, source), value(slo)) for source, slo in _measured(status))


def _promises(value: Callable[[Attainment], float]) -> Callable[[Status], Iterable[Sample]]:
    """One sample per SLO, whoever measures it."""
    return lambda status: {(slo.kind,): value(slo) for _, slo in _measured(status)}.items()


def _measured(status: Status) -> Iterator[tuple[str, Attainment]]:
    if status.user_ttft is not None:
        yield GATEWAY, status.user_ttft
    for role, pool in status.pools.items():
        yield role, pool.slo


def _verdicts(status: Status) -> Iterator[Sample]:
    for one in status.door.rates() if status.door else ():
        yield (one.mode, "admit" if one.admit else "reject", one.reason, one.qos), one.rps


def _hindsight(status: Status) -> Iterator[Sample]:
    for what, (least, most) in (status.door.hindsight if status.door else {}).items():
        yield from (((what, "least"), least), ((what, "most"), most))


GAUGES = (
    Gauge("mode_info", "The mode: Off, Recommend or Auto.", ("mode",), lambda s: [((s.mode,), 1.0)]),
    Gauge(
        "condition",
        "1 while the condition is True, 0 while it is False.",
        ("condition",),
        lambda s: (((one.type,), one.status) for one in s.conditions),
    ),
    Gauge(
        "condition_info",
        "Why the condition is what it is.",
        ("condition", "reason"),
        lambda s: (((one.type, one.reason), 1.0) for one in s.conditions),
    ),
    Gauge("offered_requests_per_second", "Requests that arrive, completed or not.", (), lambda s: [((), s.offered_rps)]),
    Gauge(
        "rejected_requests_per_second",
        "Requests turned away that nobody let in later: load beside what is offered.",
        (),
        lambda s: [((), s.rejected_rps)],
    ),
    Gauge("verdicts_per_second", "Verdicts of sidecars; in mode shadow all are let in.", VERDICT, _verdicts),
    Gauge(
        "hindsight_ratio",
        "What enforcing would have done, as a share of all requests, from least to most.",
        ("what", "end"),
        _hindsight,
    ),
    Gauge("budget_gpus", "GPUs the fleet may hold; no sample without a budget.", (), lambda s: [((), s.gpu_budget)]),
    Gauge("held_gpus", "GPUs held or asked for, draining replicas included.", ("role",), _pools(lambda p: p.gpus)),
    Gauge("replicas", "Replicas that stand, by phase of life.", ("role", "phase"), _phases),
    Gauge("missing_replicas", "Replicas that are wanted and do not come, by what they lack.", ("role", "lack"), _missing),
    Gauge("startup_seconds", "Median time from a replica's making to its serving.", ("role",), _pools(lambda p: p.startup_s)),
    Gauge("desired_replicas", "Replicas asked for on the cluster.", ("role",), _pools(lambda p: p.desired)),
    Gauge("target_replicas", "Replicas the controller acts towards (mode Auto).", ("role",), _targets(Mode.AUTO)),
    Gauge("recommended_replicas", "Replicas it would ask for (mode Recommend).", ("role",), _targets(Mode.RECOMMEND)),
    Gauge("min_replicas", "The policy's lower bound.", ("role",), _pools(lambda p: p.min_replicas)),
    Gauge(
        "min_in_force_replicas",
        "The same at this hour: a calendar floor may raise it.",
        ("role",),
        _pools(lambda p: p.min_in_force),
    ),
    Gauge("max_replicas", "The policy's upper bound.", ("role",), _pools(lambda p: p.max_replicas)),
    Gauge("demand_replicas", "Replicas the load needs, before damping.", ("role",), _pools(lambda p: p.demand)),
    Gauge(
        "demand_lasting_replicas",
        "The most it needs until a replica that goes now could be back; nothing shrinks below.",
        ("role",),
        _pools(lambda p: p.demand_lasting),
    ),
    Gauge("demand_soon_replicas", "What it needs when a flip has taken effect.", ("role",), _pools(lambda p: p.demand_soon)),
    Gauge("demand_bound_info", "What bound the demand.", ("role", "bound"), _words(lambda p: p.bound)),
    Gauge("load_tokens_per_second", "Offered load in the role's own tokens.", ("role",), _pools(lambda p: p.load)),
    Gauge("forecast_mean_tokens_per_second", "Load expected one horizon ahead.", ("role",), _pools(lambda p: p.forecast_mean)),
    Gauge(
        "forecast_upper_tokens_per_second",
        "Upper bound of the load one horizon ahead; what is provisioned for.",
        ("role",),
        _pools(lambda p: p.forecast_upper),
    ),
    Gauge(
        "forecast_error_tokens_per_second",
        "Mean absolute error of the model that speaks, on this series.",
        ("role",),
        _pools(lambda p: p.forecast_error),
    ),
    Gauge(
        "forecast_coverage_ratio",
        "Share of its latest promises whose upper bound held.",
        ("role",),
        _pools(lambda p: p.forecast_coverage),
    ),
    Gauge("forecast_horizon_seconds", "How far ahead the forecast looks.", ("role",), _pools(lambda p: p.forecast_horizon_s)),
    Gauge("forecast_model_info", "The model that earned to speak.", ("role", "model"), _words(lambda p: p.forecast_model)),
    Gauge(
        "forecast_mean_requests_per_second",
        "Requests expected one horizon ahead.",
        (),
        _traffic(lambda t: t.requests.mean if t.requests else None),
    ),
    Gauge(
        "forecast_upper_requests_per_second",
        "Upper bound of the requests one horizon ahead.",
        (),
        _traffic(lambda t: t.requests.upper if t.requests else None),
    ),
    Gauge("cached_share_ratio", "Share of prompt tokens taken to be cached.", (), _traffic(lambda t: t.cached_share)),
    Gauge(
        "cached_share_forecast_ratio",
        "The same as expected.",
        (),
        _traffic(lambda t: t.cached_ahead.mean if t.cached_ahead else None),
    ),
    Gauge(
        "cached_share_quarantined",
        "1 while what is measured of it is doubted, since caches are new or going.",
        (),
        _traffic(lambda t: t.quarantined),
    ),
    Gauge(
        "speed_measured_ratio",
        "Time that work takes, measured, over the profile's.",
        ("role",),
        _pools(lambda p: p.speed_measured),
    ),
    Gauge(
        "speed_applied_ratio",
        "Time that work is taken to need, over the profile's.",
        ("role",),
        _pools(lambda p: p.speed_applied),
    ),
    Gauge("speed_confidence", "How sure the measurement is, 0 to 1.", ("role",), _pools(lambda p: p.speed_confidence)),
    Gauge("flips_in_flight", "Flips under way, in units.", ("from_role", "to_role"), _flips(lambda _, flips: len(flips))),
    Gauge(
        "flip_age_seconds",
        "Since when the oldest flip under way has been so; no sample without one.",
        ("from_role", "to_role"),
        _flips(lambda status, flips: max((status.now - flip.started_s for flip in flips), default=None)),
    ),
    Gauge("asleep", "1 while every pool is asked for nothing.", (), lambda s: [((), s.asleep)] if s.pools else ()),
    Gauge("waiting_requests", "Requests that wait for capacity.", ("role",), _pools(lambda p: p.waiting)),
    Gauge("running_requests", "Requests in progress.", ("role",), _pools(lambda p: p.running)),
    Gauge("kv_usage_ratio", "KV cache in use, mean over replicas.", ("role",), _pools(lambda p: p.kv_usage)),
    Gauge("signal_age_seconds", "Age of the oldest reading that was believed.", ("role",), _pools(lambda p: p.signal_age_s)),
    Gauge(
        "latency_seconds",
        "Latency at the SLO's percentile; no sample from too few requests.",
        ("slo", "source"),
        _latencies(lambda a: a.value_s),
    ),
    Gauge("latency_samples", "Requests behind the latency.", ("slo", "source"), _latencies(lambda a: a.samples)),
    Gauge(
        "slo_attainment_ratio",
        "Share of requests within the SLO's threshold, at least: an SLO between bucket edges counts as the lower edge.",
        ("slo", "source"),
        _latencies(lambda a: a.share),
    ),
    Gauge("slo_threshold_seconds", "The latency promised.", ("slo",), _promises(lambda a: a.threshold_s)),
    Gauge("slo_objective_ratio", "Share of requests it is promised to.", ("slo",), _promises(lambda a: a.quantile)),
)
