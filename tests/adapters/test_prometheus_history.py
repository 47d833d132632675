"""Does a fleet's past come out of range queries whole, in its places, and never made up?

A scripted server answers each question by what it is about; the real one is asked in tests/e2e/test_backtest.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import pytest

from autoscaler.adapters.prometheus import Endpoint, ranges
from autoscaler.adapters.prometheus.history import History, Inquiry
from autoscaler.adapters.prometheus.ranges import RangeClient, Span
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Histogram
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.roster import managed
from tests.adapters.answering import Answering, Script, http
from tests.policy_documents import policy

PODS = {Role.PREFILL: "chat-prefill-[0-9]+", Role.DECODE: "chat-decode-[0-9]+"}
OWNER = {"namespace": "default", "model_name": "llama"}
START_S, STEP_S = 6_000, 60

Rows = list[dict[str, Any]]


def fleet(**spec: Any) -> Managed:
    return managed(policy(gateway="llm-d", **spec))


def series(values: Mapping[int, object], **labels: str) -> dict[str, Any]:
    """A row with these values at the ends of these steps."""
    points = [[START_S + (step + 1) * STEP_S, str(value)] for step, value in values.items()]
    return {"metric": {**OWNER, **labels}, "values": points}


ANSWERS: Mapping[str, Rows] = {
    "llm_d_epp_request_total": [series({0: 2.0, 1: 0.0, 3: 1.5}), series({2: 9.0}, model_name="another")],
    "request_prompt_tokens_sum": [series({0: 900.0, 1: "NaN"})],
    "request_generation_tokens_bucket": [
        series({0: 1.0}, le="100"), series({0: 3.0}, le="200.0"), series({0: 2.0}, le="200"), series({0: 6.0}, le="+Inf"),
    ],
    'pod=~"chat-prefill': [
        series({0: 5.0, 1: 5.0}, pod="chat-prefill-0"), series({0: 44.0, 1: 46.0}, pod="chat-prefill-1"),
        series({3: 5.0}, pod="chat-prefill-0", namespace="elsewhere"),
    ],
}  # fmt: skip


def answer(request: str, send: Callable[[bytes], Any]) -> None:
    """What ANSWERS says to the first of its words that is in the query."""
    asked = parse_qs(request.partition("\r\n\r\n")[2])["query"][0]
    gauge = "timestamp(" in asked
    fitting = (rows for word, rows in ANSWERS.items() if word in asked and gauge == word.startswith("pod"))
    send(http(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": next(fitting, [])}})))


def read(server: Answering, span: Span | None = None, **spec: Any) -> History:
    inquiry = Inquiry(fleet(**spec), PODS, span or Span(START_S, START_S + 4 * STEP_S, STEP_S))
    return inquiry.read(RangeClient(Endpoint(server.url)))


@pytest.fixture
def server(answering: Callable[[Script], Answering]) -> Answering:
    return answering(answer)


@pytest.fixture(scope="module")
def past() -> Iterator[History]:
    with Answering(answer) as server:
        yield read(server)
        server.shutdown()


def test_what_was_not_recorded_is_unknown_and_a_zero_is_a_zero(past: History) -> None:
    assert past.offered_rps == [2.0, 0.0, None, 1.5]


def test_a_mean_over_nobody_is_unknown(past: History) -> None:
    assert past.means["prompt_tokens"] == [900.0, None, None, None]
    assert past.means["output_tokens"] == [None] * 4


def test_buckets_are_read_by_value_whatever_their_spelling(past: History) -> None:
    spread = past.spreads["output_tokens"]
    assert spread == [Histogram((100.0, 200.0, float("inf")), (1.0, 5.0, 6.0)), None, None, None]


def test_replicas_are_the_pods_of_the_role_whose_samples_are_fresh(past: History) -> None:
    """One sample of the second step is 46 s old, and 45 s is the most that is believed."""
    assert past.replicas == {Role.PREFILL: [2, 1, None, None], Role.DECODE: [None] * 4}


def test_every_question_is_about_this_fleet_over_one_step(server: Answering) -> None:
    read(server)
    asked = [parse_qs(request.partition("\r\n\r\n")[2]) for request in server.requests]
    assert all(re.match(r"POST /api/v1/query_range ", request) for request in server.requests)
    assert {(one["start"][0], one["end"][0], one["step"][0]) for one in asked} == {("6060", "6240", "60")}
    assert not [one for one in asked if re.search(r"\$(?!1\b)", one["query"][0])]  # $1 is what label_replace found
    assert all("[60s]" in one["query"][0] for one in asked if "timestamp(" not in one["query"][0])
    uncached = next(one["query"][0] for one in asked if "kv_computed_tokens_bucket" in one["query"][0])
    assert 'namespace=~"default", pod=~"chat-prefill-[0-9]+"' in uncached


def test_a_long_past_is_asked_for_in_chunks_and_put_together(
    answering: Callable[[Script], Answering], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "CHUNK_STEPS", 10)

    def first_of_each(request: str, send: Callable[[bytes], Any]) -> None:
        asked = parse_qs(request.partition("\r\n\r\n")[2])
        row = {"metric": OWNER, "values": [[int(asked["start"][0]), asked["start"][0]]]}
        rows = [row] if "llm_d_epp_request_total" in asked["query"][0] else []
        send(http(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}})))

    steps = 25
    past = read(answering(first_of_each), Span(START_S, START_S + steps * STEP_S, STEP_S))
    known = {step: rate for step, rate in enumerate(past.offered_rps) if rate is not None}
    assert known == {first: START_S + (first + 1) * STEP_S for first in (0, 10, 20)}
    assert len(past.offered_rps) == len(past.replicas[Role.DECODE]) == steps


def test_as_many_queries_are_sent_as_were_announced(server: Answering) -> None:
    span, seen = Span(START_S, START_S + 4 * STEP_S, STEP_S), list[int]()
    inquiry = Inquiry(fleet(), PODS, span)
    inquiry.read(RangeClient(Endpoint(server.url)), lambda: seen.append(1))
    assert len(seen) == len(server.requests) == inquiry.queries()


def test_a_length_with_a_query_of_the_fleets_own_is_known_by_its_mean_alone(server: Answering) -> None:
    past = read(server, metrics={"queries": {"decode.tokens_per_request": "own_sum{pod=~$pods}"}})
    assert "output_tokens" not in past.spreads
    assert any('own_sum{pod=~"chat-decode' in parse_qs(one.partition("\r\n\r\n")[2])["query"][0] for one in server.requests)


FAULTS = [
    pytest.param(http("no", "503 Service Unavailable"), r"HTTP 503: no \(asked for traffic.offered_rps, steps from 1 of 4\)"),
    pytest.param(http("<html>"), "not JSON"),
    pytest.param(http('{"data":{"result":[{"metric":7}]}}'), "^traffic.offered_rps: a row of the answer cannot be read: Attr"),
    pytest.param(http(json.dumps({"data": {"result": [series({9: 1.0})]}})), "a value of 6600 s, beyond 6240 s"),
    pytest.param(
        http('{"data":{"result":[]}}'), r"^Prometheus has no traffic.offered_rps of llama in default from 1970-01-01T01"
    ),
]


@pytest.mark.parametrize(("bytes_", "told"), FAULTS)
def test_whatever_goes_wrong_outside_is_one_clear_line(
    answering: Callable[[Script], Answering], bytes_: bytes, told: str
) -> None:
    with pytest.raises(Refusal, match=told) as refused:
        read(answering(lambda _, send: send(bytes_)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("span", "told"),
    [((0, 30, 60), "a span of 30 s holds no step of 60 s"), ((0, 10**8, 60), "1,666,666 steps of 60 s are too many")],
)
def test_a_span_that_cannot_be_asked_for_is_refused(span: tuple[int, int, int], told: str) -> None:
    with pytest.raises(Refusal, match=told):
        Span(*span)
