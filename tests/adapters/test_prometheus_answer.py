"""What is read from the rows of an answer, and what is not believed?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.prometheus.answer import Answer, tabulate
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Signals, Unknown
from autoscaler.ports import FleetScope
from tests.bench.prometheus_answers import canned, fleets
from tests.fakes import merged

OWNER = ("prod", "chat")
FINITE = st.floats(0, 1e9)


def rows(signal: str, values: Mapping[str, str]) -> list[dict[str, Any]]:
    labels = {"signal": signal, "namespace": "prod", "model_name": "chat"}
    return [{"metric": labels | {"le": edge}, "value": [0, value]} for edge, value in values.items()]


def latency(values: Mapping[str, str]) -> Histogram | Unknown:
    return tabulate(rows("prefill.latency", values)).histogram("prefill.latency", OWNER)


def test_edges_are_numbers_however_they_are_spelled() -> None:
    assert latency({"1e-03": "1", "0.01": "2", "1": "3", "+Inf": "4"}) == Histogram((0.001, 0.01, 1.0, math.inf), (1, 2, 3, 4))


@pytest.mark.parametrize(("told", "total"), [("2.5", 2.5), ("0", 0.0), ("NaN", None), ("+Inf", None)])
def test_a_row_without_an_edge_is_the_sum_and_no_number_is_no_sum(told: str, total: float | None) -> None:
    sum_row = {"metric": {"signal": "prefill.latency", "namespace": "prod", "model_name": "chat"}, "value": [0, told]}
    answer = tabulate([*rows("prefill.latency", {"1": "3", "+Inf": "4"}), sum_row])
    assert answer.histogram("prefill.latency", OWNER) == Histogram((1.0, math.inf), (3, 4), total)


def test_a_query_that_forgets_the_edges_is_told_so() -> None:
    sum_row = {"metric": {"signal": "prefill.latency", "namespace": "prod", "model_name": "chat"}, "value": [0, "7"]}
    unknown = tabulate([sum_row]).histogram("prefill.latency", OWNER)
    assert unknown == Unknown(Gap.MALFORMED, "prefill.latency is answered without le; its query must aggregate by le too")


def test_two_spellings_of_an_edge_are_parts_of_one_count() -> None:
    """While servers are upgraded, half the pods' buckets say le="1" and the other half le="1.0"."""
    assert latency({"1": "3", "1.0": "4", "+Inf": "10"}) == Histogram((1.0, math.inf), (7, 10))


def test_an_edge_that_only_some_pods_have_never_counts_fewer_than_the_edge_below() -> None:
    assert latency({"1": "30", "1.5": "4", "2": "31", "+Inf": "40"}) == Histogram((1.0, 1.5, 2.0, math.inf), (30, 30, 31, 40))


@pytest.mark.parametrize(
    ("values", "gap"),
    [
        ({"1": "3", "2": "4"}, Gap.MALFORMED),
        ({"NaN": "3", "+Inf": "4"}, Gap.MALFORMED),
        ({"1": "NaN", "+Inf": "4"}, Gap.NOT_A_NUMBER),
        ({"1": "1", "+Inf": "+Inf"}, Gap.NOT_A_NUMBER),
        ({}, Gap.MISSING),
    ],
    ids=["no total", "an edge that is no number", "a count that is no number", "an infinite count", "nothing"],
)
def test_a_histogram_that_cannot_be_believed_is_unknown(values: Mapping[str, str], gap: Gap) -> None:
    unknown = latency(values)
    assert isinstance(unknown, Unknown)
    assert (unknown.gap, "prefill.latency" in unknown.detail) == (gap, True)


@given(st.dictionaries(FINITE, FINITE, max_size=30), FINITE, st.randoms(use_true_random=False))
def test_a_histogram_rises_with_its_edges_in_whatever_order_they_come(
    counts: dict[float, float], total: float, chance: Any
) -> None:
    spelled = [(repr(edge), repr(count)) for edge, count in counts.items()] + [("+Inf", repr(total))]
    chance.shuffle(spelled)
    histogram = latency(dict(spelled))
    assert isinstance(histogram, Histogram)
    assert histogram.edges == (*sorted(counts), math.inf)
    assert list(histogram.counts) == sorted(histogram.counts)
    assert histogram.samples == max([total, *counts.values()])


def test_no_requests_in_the_window_is_a_histogram_of_none_and_not_a_gap() -> None:
    assert latency({"1": "0", "+Inf": "0"}) == Histogram((1.0, math.inf), (0, 0))


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf"])
def test_a_number_that_is_none_is_told_apart_from_none_at_all(value: str) -> None:
    labels = {"signal": "traffic.offered_rps", "namespace": "prod", "model_name": "chat"}
    answer = tabulate([{"metric": labels, "value": [0, value]}])
    reading = answer.reading("traffic.offered_rps", OWNER, 1.0)
    assert isinstance(reading, Unknown)
    assert reading.gap is Gap.NOT_A_NUMBER
    nothing = Answer().reading("traffic.offered_rps", OWNER, 1.0)
    assert isinstance(nothing, Unknown)
    assert nothing.gap is Gap.MISSING


def test_a_number_answered_twice_is_refused_instead_of_choosing_one() -> None:
    """A query that forgets to aggregate answers once per data-parallel rank; the last one alone would look like a drop."""
    labels = {"signal": "pods.waiting", "namespace": "prod", "pod": "chat-p-0"}
    ranks = [{"metric": labels | {"engine": rank}, "value": [0, "7"]} for rank in ("0", "1")]
    with pytest.raises(ValueError, match=r"pods\.waiting is answered twice for chat-p-0 in prod; .* aggregate by pod"):
        tabulate(ranks)


class Altered:
    """A fleet of four replicas with one whole answer, which a test changes before it is read."""

    def __init__(self, **changes: Any) -> None:
        self.scope = replace(fleets(1, 4)[0], **changes)
        self._signals, _ = canned([self.scope])
        self._drop: set[tuple[str, str]] = set()
        self._put: dict[tuple[str, str], str] = {}

    def without(self, signal: str, owner: str) -> Altered:
        self._drop.add((signal, owner))
        return self

    def having(self, signal: str, owner: str, value: str) -> Altered:
        self._put[signal, owner] = value
        return self

    def read(self) -> Signals:
        query = self._signals.client.query

        def altered(promql: str, within_s: float) -> list[Mapping[str, Any]] | Unknown:
            answer = query(promql, within_s)
            assert isinstance(answer, list)
            named = [
                ((row["metric"]["signal"], row["metric"].get("pod", row["metric"].get("model_name"))), row) for row in answer
            ]
            return [{**row, "value": [0, self._put.get(name, row["value"][1])]} for name, row in named if name not in self._drop]

        self._signals.client.query = altered  # type: ignore[method-assign]
        return merged(self._signals.read([self.scope], 0.0))[self.scope.key]


def gauges(signals: Signals) -> Mapping[str, Gauges]:
    assert not isinstance(signals.gauges, Unknown), signals.gauges
    return signals.gauges


PODS = ("chat-0-prefill-0", "chat-0-prefill-1", "chat-0-decode-0", "chat-0-decode-1")
MODEL = fleets(1, 4)[0].model


@pytest.mark.parametrize("signal", ["waiting", "running", "kv_usage", "age_s"])
def test_a_pod_that_lacks_one_gauge_is_left_out_and_never_read_as_zero(signal: str) -> None:
    assert set(gauges(Altered().without(f"pods.{signal}", PODS[0]).read())) == set(PODS[1:])
    assert set(gauges(Altered().having(f"pods.{signal}", PODS[0], "NaN").read())) == set(PODS[1:])


def test_a_pod_that_no_row_says_defers_anybody_defers_nobody() -> None:
    told = {pod: gauge.deferred for pod, gauge in gauges(Altered().having("pods.deferred", PODS[2], "4").read()).items()}
    assert told == dict.fromkeys(PODS, 0) | {PODS[2]: 4}
    assert set(gauges(Altered().having("pods.deferred", PODS[2], "NaN").read())) == set(PODS) - {PODS[2]}


def test_when_every_pod_lacks_the_same_gauge_it_is_named() -> None:
    altered = Altered()
    for pod in PODS:
        altered.without("pods.kv_usage", pod)
    unknown = altered.read().gauges
    assert isinstance(unknown, Unknown)
    assert unknown.gap is Gap.MISSING
    assert unknown.detail.endswith("chat-0-prefill-0 in team-0 lacks kv_usage")


def test_a_sum_over_pods_is_as_old_as_the_oldest_of_them() -> None:
    altered = Altered().having("traffic.age_s", MODEL, "3")
    for age, pod in zip(("1", "70", "2", "90"), PODS, strict=True):
        altered.having("pods.age_s", pod, age)
    signals = altered.read()
    ages = [signals.roles[Role.PREFILL].tokens_per_request, signals.roles[Role.DECODE].tokens_per_request]
    ages += [signals.traffic.prompt_tokens, signals.traffic.offered_rps]
    assert [reading.age_s for reading in ages if isinstance(reading, Known)] == [70, 90, 90, 3]


def test_a_gateway_that_tells_no_age_is_of_unknown_age() -> None:
    offered = Altered().without("traffic.age_s", MODEL).read().traffic.offered_rps
    assert isinstance(offered, Known)
    assert offered.age_s == math.inf


def test_an_arrival_rate_is_never_negative() -> None:
    """A queue that drains faster than requests complete, as after an abort, makes the balance negative."""
    offered = Altered(gateway=None).having("traffic.offered_rps", MODEL, "-2.5").read().traffic.offered_rps
    assert isinstance(offered, Known)
    assert offered.value == 0


def test_two_fleets_of_one_model_in_one_namespace_are_ambiguous_and_keep_their_gauges() -> None:
    first, second = (replace(scope, model="chat") for scope in fleets(2, 4))
    signals, _ = canned([first, second])
    read = merged(signals.read([first, second], 0.0))
    for scope, other in ((first, second), (second, first)):
        one = read[scope.key]
        assert len(gauges(one)) == 4
        roles = [reading for role in one.roles.values() for reading in (role.latency, role.tokens_per_request, role.service)]
        traffic = one.traffic
        for reading in (*roles, traffic.offered_rps, traffic.ttft, traffic.prompt_tokens, traffic.rejected_rps):
            assert reading == Unknown(Gap.AMBIGUOUS, f"{other.key} has the same namespace and model")


@pytest.mark.parametrize("change", [{"namespace": "elsewhere"}, {"model": "another"}])
def test_another_namespace_or_another_model_is_told_apart(change: dict[str, str]) -> None:
    first = fleets(1, 4)[0]
    second = replace(first, key="other/chat", pods={Role.PREFILL: ("other-p-0",), Role.DECODE: ("other-d-0",)}, **change)  # type: ignore[arg-type]
    signals, _ = canned([first, second])
    read = merged(signals.read([first, second], 0.0))
    assert all(isinstance(read[scope.key].traffic.offered_rps, Known) for scope in (first, second))


def test_a_signal_nobody_tells_is_missing_with_who_was_asked() -> None:
    ttft = Altered(gateway=None).read().traffic.ttft
    assert ttft == Unknown(Gap.MISSING, "neither engine vllm nor a gateway, for there is none, tells traffic.ttft")


def test_the_fleets_own_query_is_named_as_the_source() -> None:
    scope = FleetScope("a/b", "a", "b", "vllm", None, {}, queries={"traffic.offered_rps": "x"})
    signals, _ = canned([scope])
    assert merged(signals.read([scope], 0.0))["a/b"].traffic.source == "the fleet's own query"
