"""Whom does a fleet's own query hold up when it is slow or broken? Itself, and fleets that ask in the same words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSignals
from autoscaler.adapters.prometheus.own_queries import AT_ONCE, OwnQueries
from autoscaler.adapters.prometheus.profile import Query
from autoscaler.adapters.prometheus.promql import Shard
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Gauges, Signals, Unknown
from autoscaler.ports import FleetScope
from tests.adapters.answering import Answering, Script, gauges_of, http, vector
from tests.adapters.prometheus_server import wait_until
from tests.fakes import merged

GRACE_S = 0.05
TIMEOUT_S = 20.0  # of one query: far more than any test takes, so that whoever waited for one would be found out
FLEETS = [
    FleetScope(f"prod/{name}", "prod", name, "vllm", None, {Role.PREFILL: (f"{name}-p",), Role.DECODE: (f"{name}-d",)})
    for name in ("plain", "slow", "other")
]
PLAIN = FLEETS[0]
SLOW, OTHER = (replace(scope, queries={"pods.waiting": f"queue_of_{scope.model}"}) for scope in FLEETS[1:])
WHOLE = http(vector(*(row for scope in FLEETS for role in ("p", "d") for row in gauges_of(f"{scope.model}-{role}"))))


class Gate:
    """Lets every question that has `words` in it wait until it is opened; answers all others at once."""

    def __init__(self, words: str) -> None:
        self.opened, self._words = threading.Event(), words

    def __call__(self, request: str, send: Callable[[bytes], Any]) -> None:
        if self._words in request:
            self.opened.wait(TIMEOUT_S)
        send(WHOLE)

    def asked(self, server: Answering) -> int:
        """How many such questions have come."""
        return sum(self._words in request for request in server.requests)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate("queue_of_slow")
    yield gate
    gate.opened.set()


def source(server: Answering, grace_s: float = GRACE_S) -> PrometheusSignals:
    return PrometheusSignals(Endpoint(server.url, TIMEOUT_S), grace_s=grace_s)


def known(signals: Mapping[str, Signals]) -> set[str]:
    return {key for key, one in signals.items() if not isinstance(one.gauges, Unknown)}


def age_s(signals: Mapping[str, Signals], scope: FleetScope) -> float:
    gauges = signals[scope.key].gauges
    assert not isinstance(gauges, Unknown), gauges
    return max(gauge.age_s for gauge in gauges.values())


@pytest.mark.slow
def test_a_query_that_hangs_delays_nobody_else_and_is_not_asked_again_before_it_has_ended(
    answering: Callable[[Script], Answering], gate: Gate
) -> None:
    server = answering(gate)
    prometheus = source(server)
    began = time.monotonic()
    for _ in range(3):
        signals = merged(prometheus.read([SLOW, OTHER, PLAIN], 0.0))
        hanging = signals[SLOW.key].gauges
        assert isinstance(hanging, Unknown)
        assert (hanging.gap, "own queries: no answer within 0.05 s, still being asked" in hanging.detail) == (Gap.TIMEOUT, True)
        assert PLAIN.key in known(signals)
    wait_until(lambda: OTHER.key in known(merged(prometheus.read([SLOW, OTHER], 0.0))), "the other one's own query is answered")
    assert time.monotonic() - began < TIMEOUT_S
    assert gate.asked(server) == 1
    gate.opened.set()
    wait_until(lambda: SLOW.key in known(merged(prometheus.read([SLOW], 0.0))), "it is answered at last")
    merged(prometheus.read([SLOW], 0.0))
    wait_until(lambda: gate.asked(server) > 1, "and asked again")


@pytest.mark.slow
def test_an_answer_that_comes_late_counts_and_is_as_old_as_it_is(answering: Callable[[Script], Answering], gate: Gate) -> None:
    server = answering(gate)
    prometheus = source(server)
    assert known(merged(prometheus.read([SLOW], 0.0))) == set()
    gate.opened.set()
    wait_until(lambda: age_s_or_none(prometheus) is not None, "the late answer")
    gate.opened.clear()
    wait_until(lambda: (age_s_or_none(prometheus) or 0) > 1.5, "half a second older than the second that Prometheus told")
    gate.opened.set()
    wait_until(lambda: (age_s_or_none(prometheus) or 9) < 1.5, "a younger answer takes its place")


def age_s_or_none(prometheus: PrometheusSignals) -> float | None:
    signals = merged(prometheus.read([SLOW], 0.0))
    return age_s(signals, SLOW) if known(signals) else None


@pytest.mark.slow
def test_fleets_that_ask_in_the_same_words_share_one_question(answering: Callable[[Script], Answering], gate: Gate) -> None:
    server = answering(gate)
    twin = replace(OTHER, queries=SLOW.queries)
    prometheus = source(server)
    assert known(merged(prometheus.read([SLOW, twin], 0.0))) == set()
    gate.opened.set()
    wait_until(lambda: known(merged(prometheus.read([SLOW, twin], 0.0))) == {SLOW.key, twin.key}, "both are answered")
    [query] = parse_qs(server.requests[0].partition("\r\n\r\n")[2])["query"]
    assert 'pod=~"other-d|other-p|slow-d|slow-p"' in query


@pytest.mark.slow
def test_an_answer_in_old_words_is_not_taken_for_one_in_new(answering: Callable[[Script], Answering], gate: Gate) -> None:
    server = answering(gate)
    prometheus = source(server)
    merged(prometheus.read([SLOW], 0.0))
    mended = replace(SLOW, queries={"pods.waiting": "queue_now"})
    gate.opened.set()
    wait_until(lambda: known(merged(prometheus.read([SLOW], 0.0))) == {SLOW.key}, "the old words are answered")
    gate.opened.clear()
    server.script = lambda request, send: gate(request.replace("queue_now", "queue_of_slow"), send)
    assert known(merged(prometheus.read([mended], 0.0))) == set()
    gate.opened.set()
    wait_until(lambda: known(merged(prometheus.read([mended], 0.0))) == {SLOW.key}, "the new words are answered")


@pytest.mark.slow
def test_many_queries_that_hang_are_asked_a_few_at_a_time(answering: Callable[[Script], Answering]) -> None:
    gate = Gate("queue_")
    server = answering(gate)
    many = [replace(SLOW, key=f"prod/{number}", queries={"pods.waiting": f"queue_{number}"}) for number in range(3 * AT_ONCE)]
    prometheus = source(server)
    assert known(merged(prometheus.read([*many, PLAIN], 0.0))) == {PLAIN.key}
    wait_until(lambda: gate.asked(server) == AT_ONCE, "as many as may be asked at once")
    assert known(merged(prometheus.read([*many, PLAIN], 0.0))) == {PLAIN.key}
    assert gate.asked(server) == AT_ONCE
    gate.opened.set()
    wait_until(lambda: gate.asked(server) >= len(many), "all have had their turn")


@pytest.mark.slow
def test_with_patience_own_queries_are_waited_for(answering: Callable[[Script], Answering]) -> None:
    def takes_a_while(_: str, send: Callable[[bytes], Any]) -> None:
        time.sleep(4 * GRACE_S)
        send(WHOLE)

    assert known(merged(source(answering(takes_a_while), grace_s=TIMEOUT_S).read([SLOW], 0.0))) == {SLOW.key}


def test_a_bug_that_one_answer_meets_holds_only_those_it_is_about() -> None:
    def ask(shard: Shard) -> Mapping[str, Signals]:
        if shard.scopes == [SLOW]:
            raise ZeroDivisionError("met a bug")
        return {scope.key: Signals({"pod": Gauges(0, 0, 0, 0)}) for scope in shard.scopes}

    own = OwnQueries(shard_pods=10, grace_s=10.0)
    askable = [(scope, {"pods.waiting": Query(scope.queries["pods.waiting"], "engine")}) for scope in (SLOW, OTHER)]
    signals = own.collect(askable, own.begin(askable, ask))
    assert known(signals) == {OTHER.key}
    assert signals[SLOW.key].gauges == Unknown(Gap.MALFORMED, "own queries: ZeroDivisionError: met a bug")
