"""Is what was not seen told from what was seen to be zero?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Fleet, Phase, Replica, Role
from autoscaler.core.observation import (
    Freshness,
    Gap,
    Gauges,
    Histogram,
    Known,
    Observation,
    Reading,
    Signals,
    Unknown,
    believable,
)
from tests.fakes import GONE, fleet, pool, signals

NOW = 1000.0
FRESH = Freshness()


def look(seen: Fleet, said: Signals) -> Observation:
    return Observation(NOW, seen, said)


def prefill(gauges: dict[str, Gauges], *replicas: Replica) -> Observation:
    members = replace(pool(Role.PREFILL, len(replicas)), replicas=replicas)
    return look(fleet(members), Signals(gauges))


def old(name: str) -> Replica:
    return Replica(name, Phase.SERVING, 0.0)


@pytest.mark.parametrize(
    ("waiting", "running", "kv_usage", "told"),
    [
        (3, 0, 0.9, (0, 5)),
        (3, 1, 0.9, (3, 2)),  # it works: what waits, waits for it
        (3, 0, 0.1, (3, 2)),  # it hangs, and nobody's memory is in the way
        (0, 0, 0.9, (0, 2)),
    ],
)
def test_a_pod_that_runs_nothing_with_its_memory_full_defers_its_whole_queue(
    waiting: float, running: float, kv_usage: float, told: tuple[float, float]
) -> None:
    seen = Gauges.told(waiting, running, kv_usage, 1.0, deferred=2)
    assert (seen.waiting, seen.deferred) == told
    assert (seen.running, seen.kv_usage, seen.age_s) == (running, kv_usage, 1.0)


def test_a_mean_needs_the_sum_and_a_sample() -> None:
    edges = (1.0, math.inf)
    assert Histogram(edges, (3, 4), 6.0).mean == 1.5
    assert Histogram(edges, (3, 4)).mean is None
    assert Histogram(edges, (0, 0), 0.0).mean is None


def test_the_gauges_of_serving_pods_add_up() -> None:
    seen = fleet(pool(Role.PREFILL, 4, serving=3, starting=1))
    part = look(seen, signals(seen, waiting={Role.PREFILL: 6.0}, running={Role.PREFILL: 3.0})).coverage(Role.PREFILL, FRESH)
    assert (part.expected, part.reporting, part.waiting, part.running, part.unknown) == (3, 3, 6.0, 3.0, None)
    assert part.kv_usage == 0.5
    assert part.age_s == 5.0


@pytest.mark.parametrize(
    ("gauge", "gap"),
    [
        pytest.param(None, Gap.MISSING, id="silent"),
        pytest.param(Gauges(9, 9, 0.5, 45.1), Gap.STALE, id="too old"),
        pytest.param(Gauges(9, 9, 0.5, math.nan), Gap.STALE, id="of unknown age"),
        pytest.param(Gauges(math.nan, 9, 0.5, 1), Gap.NOT_A_NUMBER, id="NaN in the queue"),
        pytest.param(Gauges(9, math.inf, 0.5, 1), Gap.NOT_A_NUMBER, id="infinitely many running"),
    ],
)
def test_a_pod_that_cannot_be_believed_makes_the_pool_partly_known_and_adds_nothing(gauge: Gauges | None, gap: Gap) -> None:
    gauges = {"a": Gauges(1, 2, 0.5, 1)} | ({"b": gauge} if gauge else {})
    part = prefill(gauges, old("a"), old("b")).coverage(Role.PREFILL, FRESH)
    assert part.unknown is not None
    assert part.unknown.gap is gap
    assert "1 of 2 pods" in part.unknown.detail
    assert "first b" in part.unknown.detail
    assert (part.expected, part.reporting, part.waiting, part.running) == (2, 1, 1.0, 2.0)


def test_an_age_of_exactly_the_limit_is_believed() -> None:
    part = prefill({"a": Gauges(1, 2, 0.5, FRESH.max_age_s)}, old("a")).coverage(Role.PREFILL, FRESH)
    assert part.unknown is None


@pytest.mark.parametrize(("age_s", "blamed"), [(0.0, False), (45.0, False), (45.1, True)])
def test_a_new_pod_may_be_silent_within_its_grace(age_s: float, blamed: bool) -> None:
    new = Replica("new", Phase.SERVING, NOW - age_s)
    part = prefill({"a": Gauges(1, 2, 0.5, 1)}, old("a"), new).coverage(Role.PREFILL, FRESH)
    assert (part.unknown is not None) is blamed
    assert part.expected == (2 if blamed else 1)


def test_a_pool_of_only_new_silent_pods_is_not_known_to_be_idle() -> None:
    part = prefill({}, Replica("new", Phase.SERVING, NOW)).coverage(Role.PREFILL, FRESH)
    assert part.unknown == Unknown(Gap.MISSING, "none of 1 new pods has reported yet")


def test_a_pool_without_a_serving_replica_is_not_known_to_be_idle() -> None:
    """All pods of a role crash: nobody reports a queue, and that is no sign that there is none."""
    seen = fleet(pool(Role.PREFILL, 3, serving=0, starting=3))
    assert look(seen, signals(seen)).coverage(Role.PREFILL, FRESH).unknown == Unknown(Gap.MISSING, "no replica serves")


def test_pods_that_start_drain_or_belong_to_nobody_are_not_counted() -> None:
    seen = fleet(pool(Role.PREFILL, 2, serving=1, starting=1, draining=1))
    gauges = {name: Gauges(1, 1, 0.5, 1) for name in ("prefill-0", "prefill-1", "prefill-2", "stranger")}
    assert look(seen, Signals(gauges)).coverage(Role.PREFILL, FRESH).waiting == 1.0


def test_a_pod_counts_for_the_role_it_has_now() -> None:
    flipped = replace(pool(Role.DECODE, 1), replicas=(old("prefill-1"),))
    seen = look(
        fleet(pool(Role.PREFILL, 1), flipped), Signals({"prefill-0": Gauges(1, 0, 0, 1), "prefill-1": Gauges(7, 0, 0, 1)})
    )
    assert [seen.coverage(role, FRESH).waiting for role in Role] == [1.0, 7.0]


def test_without_any_gauges_the_reason_is_the_sources() -> None:
    seen = fleet()
    part = look(seen, replace(signals(seen), gauges=GONE)).coverage(Role.PREFILL, FRESH)
    assert (part.expected, part.reporting, part.unknown) == (2, 0, GONE)
    assert math.isinf(part.age_s)


@pytest.mark.parametrize("gap", Gap)
def test_a_reading_that_failed_as_a_whole_is_unknown_in_every_part(gap: Gap) -> None:
    said = Signals.unknown(gap, "why")
    parts = [said.gauges, said.traffic.offered_rps, said.traffic.ttft, said.traffic.prompt_tokens]
    parts += [part for role in Role for part in (said.roles[role].latency, said.roles[role].tokens_per_request)]
    assert parts == [Unknown(gap, "why")] * 8


@pytest.mark.parametrize(
    ("reading", "gap"),
    [
        pytest.param(Known(3.0, 45.0), None, id="old, but not too old"),
        pytest.param(Known(0.0), None, id="a zero that was seen is a zero"),
        pytest.param(Known(3.0, -2.0), None, id="a clock ahead of ours is no fault"),
        pytest.param(Known(3.0, 45.1), Gap.STALE, id="too old"),
        pytest.param(Known(3.0, math.nan), Gap.STALE, id="of unknown age"),
        pytest.param(Known(math.nan), Gap.NOT_A_NUMBER, id="NaN"),
        pytest.param(Known(-math.inf), Gap.NOT_A_NUMBER, id="infinite"),
        pytest.param(Known(-0.5), Gap.MALFORMED, id="a count below zero"),
        pytest.param(GONE, Gap.UNREACHABLE, id="what is unknown stays so"),
    ],
)
def test_only_finite_fresh_counts_are_believed(reading: Reading, gap: Gap | None) -> None:
    judged = believable(reading, FRESH)
    assert (judged.gap if isinstance(judged, Unknown) else None) is gap


TTFT = Histogram((0.1, 0.5, 1.0, math.inf), (10.0, 60.0, 90.0, 100.0))


@pytest.mark.parametrize(("q", "value"), [(0.05, 0.05), (0.1, 0.1), (0.35, 0.3), (0.9, 1.0), (0.95, 1.0), (1.0, 1.0)])
def test_a_quantile_is_linear_within_its_bucket_and_a_lower_bound_beyond_the_last_edge(q: float, value: float) -> None:
    assert TTFT.quantile(q) == pytest.approx(value)


@pytest.mark.parametrize(
    ("threshold", "share"), [(0.5, (0.6, 0.6)), (0.7, (0.6, 0.9)), (0.05, (0.0, 0.1)), (5.0, (0.9, 1.0)), (0.1 + 0.4, (0.6, 0.6))]
)
def test_a_share_between_two_edges_is_told_as_at_least_and_at_most(threshold: float, share: tuple[float, float]) -> None:
    assert TTFT.share_within(threshold) == pytest.approx(share)


@pytest.mark.parametrize("empty", [Histogram((), ()), Histogram((0.5, math.inf), (0.0, 0.0))], ids=["no buckets", "no samples"])
def test_nothing_is_said_of_no_samples(empty: Histogram) -> None:
    assert empty.quantile(0.95) is None
    assert empty.share_within(0.5) is None


@given(st.lists(st.floats(0, 50), min_size=1, max_size=8), st.floats(0.01, 2.0))
def test_the_true_share_lies_between_at_least_and_at_most(values: list[float], threshold: float) -> None:
    edges = (0.1, 0.5, 1.0, 10.0, math.inf)
    counts = tuple(float(sum(value <= edge for value in values)) for edge in edges)
    share = Histogram(edges, counts).share_within(threshold)
    assert share is not None
    true = sum(value <= threshold for value in values) / len(values)
    assert share[0] - 1e-9 <= true <= share[1] + 1e-9
