"""What becomes of everything a Prometheus, or what stands before it, can answer instead of an answer?

A small server on loopback (answering.py) sends exactly the bytes a test wants. Each fault must come back as its `Gap`,
within the time allowed, for every fleet asked about, and nothing may raise.
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSignals
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Gauges, Signals, Unknown
from autoscaler.ports import FleetScope
from autoscaler.refusal import Refusal
from tests.adapters.answering import Answering, Script, gauges_of, http, row, vector
from tests.adapters.prometheus_server import wait_until
from tests.fakes import merged

pytestmark = pytest.mark.slow  # servers that hang, drip and break

FLEET = FleetScope("prod/chat", "prod", "chat", "vllm", "llm-d", {Role.PREFILL: ("chat-p-0",), Role.DECODE: ("chat-d-0",)})
OTHER = FleetScope("prod/long", "prod", "long", "vllm", "llm-d", {Role.PREFILL: ("long-p-0",), Role.DECODE: ("long-d-0",)})
PATIENCE_S = 0.4


def source(server: Answering, **options: Any) -> PrometheusSignals:
    return PrometheusSignals(Endpoint(server.url, **options))


def gaps(signals: Signals) -> set[Gap]:
    """The gaps of everything that was to be read; a reading that is known fails the test."""
    roles = [reading for role in signals.roles.values() for reading in (role.latency, role.tokens_per_request)]
    traffic = signals.traffic
    readings = [signals.gauges, *roles, traffic.offered_rps, traffic.ttft, traffic.prompt_tokens]
    assert len(readings) == 8
    assert all(isinstance(reading, Unknown) and reading.detail and "\n" not in reading.detail for reading in readings), readings
    return {reading.gap for reading in readings if isinstance(reading, Unknown)}


REFUSED = '{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}'
WHOLE = http(vector(*gauges_of("chat-p-0"), *gauges_of("chat-d-0")))
FAULTS = [
    pytest.param(http(REFUSED, "503 Service Unavailable"), Gap.SERVER_ERROR, "HTTP 503: query timed out in", id="503"),
    pytest.param(http("slow down", "429 Too Many Requests"), Gap.SERVER_ERROR, "HTTP 429: slow down", id="429"),
    pytest.param(http("<h1>oops</h1>", "500 Internal Server Error"), Gap.SERVER_ERROR, "HTTP 500: <h1>oops", id="500"),
    pytest.param(http("", "401 Unauthorized"), Gap.SERVER_ERROR, "HTTP 401", id="401"),
    pytest.param(http("", "302 Found", "Location: /login"), Gap.SERVER_ERROR, "HTTP 302", id="login page"),
    pytest.param(http("<html>Sign in</html>"), Gap.MALFORMED, "not JSON", id="html 200"),
    pytest.param(http(vector(*gauges_of("chat-p-0"))[:-9]), Gap.MALFORMED, "not JSON", id="truncated json"),
    pytest.param(http(""), Gap.MALFORMED, "not JSON", id="empty body"),
    pytest.param(http("[" * 100_000), Gap.MALFORMED, "not an answer of Prometheus", id="nested for ever"),
    pytest.param(http('{"status":"success"}'), Gap.MALFORMED, "'data'", id="no data"),
    pytest.param(http('{"data":{}}'), Gap.MALFORMED, "'result'", id="no result"),
    pytest.param(http('["warnings"]'), Gap.MALFORMED, "not an answer of Prometheus", id="a list"),
    pytest.param(http("null"), Gap.MALFORMED, "not an answer of Prometheus", id="null"),
    pytest.param(http('{"data":{"result":null}}'), Gap.MALFORMED, "no list", id="null result"),
    pytest.param(http('{"data":{"result":[1.0,"3"]}}'), Gap.MALFORMED, "a row", id="scalar"),
    pytest.param(http('{"data":{"result":[{"metric":7,"value":[1,"1"]}]}}'), Gap.MALFORMED, "a row", id="strange labels"),
    pytest.param(http(vector({"metric": {}, "value": [1, "1"]})), Gap.MALFORMED, "no 'signal'", id="no signal"),
    pytest.param(http(vector({"metric": {"signal": "prefill.latency"}})), Gap.MALFORMED, "no 'value'", id="no value"),
    pytest.param(http(vector(row("pods.waiting", "many"))), Gap.MALFORMED, "could not convert", id="a word"),
    pytest.param(http(vector(row("prefill.latency", le="wide"))), Gap.MALFORMED, "could not convert", id="le a word"),
    pytest.param(
        http(vector({"metric": {"signal": "prefill.latency"}, "histogram": [1.0, {"count": "3"}]})),
        Gap.MALFORMED,
        "native histogram",
        id="native histogram",
    ),
    pytest.param(
        http(vector(*gauges_of("chat-p-0"), warnings=["store 10.0.0.7 timed out"])),
        Gap.INCOMPLETE,
        "store 10.0.0.7 timed out",
        id="warnings",
    ),
    pytest.param(http(vector()), Gap.MISSING, "Prometheus answers, but", id="empty"),
]


@pytest.mark.parametrize(("answer", "gap", "told"), FAULTS)
def test_a_fault_becomes_its_gap_with_one_line_for_the_operator(
    answering: Callable[[Script], Answering], answer: bytes, gap: Gap, told: str
) -> None:
    server = answering(lambda _, send: send(answer))
    signals = merged(source(server).read([FLEET], 0.0))[FLEET.key]
    assert gaps(signals) == {gap}
    assert isinstance(signals.gauges, Unknown)
    assert told in signals.gauges.detail


def test_an_answer_that_breaks_off_is_unreachable(answering: Callable[[Script], Answering]) -> None:
    def script(_: str, send: Callable[[bytes], Any]) -> None:
        send(http("{", length=500))
        raise ConnectionAbortedError

    assert gaps(merged(source(answering(script)).read([FLEET], 0.0))[FLEET.key]) == {Gap.UNREACHABLE}


def test_nobody_listening_is_unreachable(answering: Callable[[Script], Answering]) -> None:
    server = answering(lambda _, send: send(WHOLE))
    server.shutdown()
    server.server_close()
    signals = merged(source(server).read([FLEET], 0.0))[FLEET.key]
    assert gaps(signals) == {Gap.UNREACHABLE}
    assert "Connection refused" in str(signals.gauges)


def test_plain_http_where_tls_is_expected_is_unreachable(answering: Callable[[Script], Answering]) -> None:
    server = answering(lambda _, send: send(WHOLE))
    endpoint = Endpoint(server.url.replace("http:", "https:"))
    assert gaps(merged(PrometheusSignals(endpoint).read([FLEET], 0.0))[FLEET.key]) == {Gap.UNREACHABLE}


def silence(_: str, send: Callable[[bytes], Any]) -> None:
    time.sleep(5 * PATIENCE_S)


def half(_: str, send: Callable[[bytes], Any]) -> None:
    send(http("{", length=500))


def dripping_head(_: str, send: Callable[[bytes], Any]) -> None:
    """A byte at a time, each sooner than any time-out for a single read, for far longer than a query may take."""
    for byte in http("{}", "200 OK", "X-Padding: " + "x" * 20):
        send(bytes([byte]))
        time.sleep(PATIENCE_S / 10)


def dripping_body(_: str, send: Callable[[bytes], Any]) -> None:
    """The same, until the other side hangs up."""
    send(http("", length=10**9))
    while True:
        send(b" ")
        time.sleep(PATIENCE_S / 10)


@pytest.mark.parametrize("script", [silence, half, dripping_head, dripping_body])
def test_a_slow_answer_is_a_timeout_within_the_time_allowed(answering: Callable[[Script], Answering], script: Script) -> None:
    started = time.monotonic()
    assert gaps(merged(source(answering(script), timeout_s=PATIENCE_S).read([FLEET], 0.0))[FLEET.key]) == {Gap.TIMEOUT}
    assert time.monotonic() - started < 5 * PATIENCE_S  # a dripping one would take ten times as long, or for ever
    wait_until(nothing_hangs, "the query that was given up has ended")


def nothing_hangs() -> bool:
    return all(thread.name != "prometheus-query" for thread in threading.enumerate())


def test_queries_that_hang_are_few_and_end_by_themselves(answering: Callable[[Script], Answering]) -> None:
    """A header that drips holds its thread; after four of them nobody asks until one has ended."""
    release = threading.Event()

    def script(_: str, send: Callable[[bytes], Any]) -> None:
        while not release.wait(PATIENCE_S / 10):
            send(b"H")

    server = answering(script)
    prometheus = source(server, timeout_s=PATIENCE_S / 2)
    details = [str(merged(prometheus.read([FLEET], 0.0))[FLEET.key].gauges) for _ in range(5)]
    assert ["hang" in detail for detail in details] == [False] * 4 + [True]
    wait_until(lambda: len(server.requests) == 4, "four queries and not a fifth")
    server.script = lambda _, send: send(WHOLE)
    release.set()
    wait_until(nothing_hangs, "the hanging ones have ended")
    wait_until(lambda: not isinstance(merged(prometheus.read([FLEET], 0.0))[FLEET.key].gauges, Unknown), "known again")


@pytest.mark.parametrize("headers", [(), ("Content-Encoding: gzip",)], ids=["plain", "packed"])
def test_an_answer_too_large_is_not_kept(answering: Callable[[Script], Answering], headers: tuple[str, ...]) -> None:
    body = vector(*gauges_of("x" * 100_000)).encode()
    packed = http(gzip.compress(body) if headers else body, "200 OK", *headers)
    server = answering(lambda _, send: send(packed))
    signals = merged(source(server, max_answer_bytes=50_000).read([FLEET], 0.0))[FLEET.key]
    assert gaps(signals) == {Gap.MALFORMED}
    assert "larger than 50000 bytes" in str(signals.gauges)


def test_hints_of_the_server_are_not_warnings(answering: Callable[[Script], Answering]) -> None:
    body = vector(*gauges_of("chat-p-0"), infos=["metric might not be a counter"])
    server = answering(lambda _, send: send(http(body)))
    assert merged(source(server).read([FLEET], 0.0))[FLEET.key].gauges == {"chat-p-0": Gauges(1, 1, 1, 1)}


def test_a_label_called_warnings_is_not_a_warning(answering: Callable[[Script], Answering]) -> None:
    body = vector(*gauges_of("chat-p-0"), row("pods.waiting", pod="x", warnings="none"))
    server = answering(lambda _, send: send(http(body)))
    assert merged(source(server).read([FLEET], 0.0))[FLEET.key].gauges == {"chat-p-0": Gauges(1, 1, 1, 1)}


def test_a_failing_shard_holds_only_its_own_fleets(answering: Callable[[Script], Answering]) -> None:
    def script(request: str, send: Callable[[bytes], Any]) -> None:
        send(http(REFUSED, "503 Service Unavailable") if "long-p-0" in request else WHOLE)

    signals = merged(PrometheusSignals(Endpoint(answering(script).url), shard_pods=2).read([FLEET, OTHER], 0.0))
    assert gaps(signals[OTHER.key]) == {Gap.SERVER_ERROR}
    assert signals[FLEET.key].gauges == {"chat-p-0": Gauges(1, 1, 1, 1), "chat-d-0": Gauges(1, 1, 1, 1)}


def test_all_shards_together_take_no_longer_than_a_read_may(answering: Callable[[Script], Answering]) -> None:
    server = answering(lambda _, send: time.sleep(2 * PATIENCE_S))
    prometheus = PrometheusSignals(Endpoint(server.url, timeout_s=PATIENCE_S), shard_pods=2, read_s=PATIENCE_S)
    signals = merged(prometheus.read([FLEET, OTHER], 0.0))
    assert gaps(signals[FLEET.key]) == gaps(signals[OTHER.key]) == {Gap.TIMEOUT}
    assert len(server.requests) == 1
    assert "not asked" in str(signals[OTHER.key].gauges)


def test_a_fleet_that_asks_for_what_does_not_exist_holds_only_itself(answering: Callable[[Script], Answering]) -> None:
    server = answering(lambda _, send: send(WHOLE))
    signals = merged(source(server).read([replace(OTHER, engine="vlm"), FLEET], 0.0))
    assert gaps(signals[OTHER.key]) == {Gap.MALFORMED}
    assert "did you mean vllm?" in str(signals[OTHER.key].gauges)
    assert not isinstance(signals[FLEET.key].gauges, Unknown)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n" + b'{"data": {"result":     []}}' + b"\r\n0\r\n\r\n"
PACKED = http(gzip.compress(vector().encode()), "200 OK", "Content-Encoding: gzip")


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED, PACKED], ids=["plain", "chunked", "packed"])
def test_a_connection_is_used_again(answering: Callable[[Script], Answering], answer: bytes) -> None:
    server = answering(lambda _, send: send(answer))
    prometheus = source(server)
    gauges = [merged(prometheus.read([FLEET], 0.0))[FLEET.key].gauges for _ in range(3)]
    assert all(not isinstance(one, Unknown) or one.gap is Gap.MISSING for one in gauges)
    assert (server.connections, len(server.requests)) == (1, 3)


def test_queries_travel_in_the_form_and_with_the_tenant(answering: Callable[[Script], Answering]) -> None:
    """2,000 pod names make a URL that proxies refuse."""
    server = answering(lambda _, send: send(WHOLE))
    prometheus = source(server, headers={"X-Scope-OrgID": "team-a"})
    merged(prometheus.read([FLEET], 0.0))
    head, _, form = server.requests[0].partition("\r\n\r\n")
    assert head.startswith("POST /api/v1/query HTTP/1.1\r\n")
    assert "X-Scope-OrgID: team-a" in head
    assert parse_qs(form)["timeout"] == ["5000ms"]
    assert '"chat-d-0|chat-p-0"' in parse_qs(form)["query"][0]


def test_a_rotated_token_is_used_at_once_and_a_lost_one_is_told(answering: Callable[[Script], Answering], tmp_path: Path) -> None:
    server, token = answering(lambda _, send: send(WHOLE)), tmp_path / "token"
    token.write_text("first\n")
    prometheus = source(server, token_file=token)
    merged(prometheus.read([FLEET], 0.0))
    token.write_text("second\n")
    merged(prometheus.read([FLEET], 0.0))
    assert ["Bearer first" in server.requests[0], "Bearer second" in server.requests[1]] == [True, True]
    token.unlink()
    lost = merged(prometheus.read([FLEET], 0.0))[FLEET.key]
    assert gaps(lost) == {Gap.UNREACHABLE}
    assert str(token) in str(lost.gauges)


def test_basic_auth_is_sent(answering: Callable[[Script], Answering]) -> None:
    server = answering(lambda _, send: send(WHOLE))
    merged(source(server, basic_auth=("user", "secret")).read([FLEET], 0.0))
    assert "Authorization: Basic dXNlcjpzZWNyZXQ=" in server.requests[0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"url": "prometheus:9090"}, "prometheus 'prometheus:9090': must be http(s)://HOST[:PORT][/PATH]"),
        ({"url": "http://user:secret@host"}, "prometheus host: no credentials in the address; use a token file or basic auth"),
        ({"url": "http://host", "timeout_s": 0}, "prometheus http://host: time-outs 0 and 2 s must be above 0"),
        ({"url": "http://host", "ca_file": Path("/no/ca")}, "prometheus http://host: no file /no/ca"),
        (
            {"url": "http://host", "token_file": Path("/no/token"), "basic_auth": ("a", "b")},
            "prometheus http://host: a token file and basic auth exclude each other",
        ),
    ],
)
def test_an_endpoint_that_cannot_work_is_refused_in_one_line(options: dict[str, Any], told: str) -> None:
    with pytest.raises(Refusal) as refusal:
        Endpoint(**options)
    assert str(refusal.value) == told


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Endpoint("http://host", headers={"X-Key": "secret"}, basic_auth=("user", "secret")))
