"""Can anybody crash a sidecar, make it dear, or have it turn away what it cannot read?

The laws: every sequence of bytes gets an answer of at most some kilobytes or a closed connection; a fleet with room turns
nobody away, whatever stands in a request; and after it all the next request is answered as ever.

How many inputs were tried is told at the end. By law: 50, 15 of them in `make test-unit`, 2,000 with the profile `explore`
(tests/conftest.py); three laws are units, the fourth, of raw bytes, needs a server.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.sidecar.skins import SKINS
from autoscaler.sidecar.state import Heard, Unreadable, read
from tests.sidecar import states
from tests.sidecar.asking import Sidecar
from tests.sidecar.running import exchange, running

NAMES = st.one_of(
    st.sampled_from(
        [
            b"content-length", b"x-tier", b"x-llm-d-inference-objective", b"x-llm-d-slo-ttft-ms", b"x-slo-tpot-ms",
            b"x-pda-prompt-tokens", b"x-pda-uncached-tokens", b"x-pda-output-tokens", b"x-pda-max-tokens",
            b"x-pda-content-length", b"x-stainless-retry-count", b"x-pda-predict", b"transfer-encoding",
        ]
    ),
    st.binary(min_size=1, max_size=20),
)  # fmt: skip
NUMBERS = st.one_of(st.integers(), st.floats()).map(lambda number: str(number).encode())
VALUES = st.one_of(st.binary(max_size=60), NUMBERS, st.sampled_from([b"gold", b"-1", b"1e999", b"9" * 400, b"\xff\xfe"]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=12,
)
FIELDS = st.dictionaries(
    st.sampled_from(["prompt_tokens", "uncached_tokens", "output_tokens", "max_tokens", "attempt", "class", "predict"]),
    JSON,
    max_size=7,
)
BODIES = st.one_of(
    st.binary(max_size=300), JSON.map(repr).map(str.encode), FIELDS.map(lambda it: repr(it).replace("'", '"').encode())
)
PATHS = st.sampled_from([skin.path for skin in SKINS]).flatmap(
    lambda path: st.one_of(st.just(path), st.text(max_size=20).map(lambda tail: f"{path}/{tail}"))
)
TRIED = Counter[str]()


@pytest.fixture(scope="module", autouse=True)
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tell how many inputs were tried."""
    yield
    tried = ", ".join(f"{count} {what}" for what, count in TRIED.items())
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        sys.stdout.write(f"\nfuzzed with {TRIED.total()} inputs: {tried}\n")


@given(PATHS, st.lists(st.tuples(NAMES, VALUES), max_size=12), st.lists(BODIES, max_size=3))
def test_a_fleet_with_room_turns_nobody_away_whatever_stands_in_a_request(
    path: str, headers: list[tuple[bytes, bytes]], parts: list[bytes]
) -> None:
    TRIED["requests"] += 1
    sidecar = Sidecar(states.board(crowds=states.crowds(prefill={"idle": 1}, decode={"idle": 1})), predictions=True)
    told = sidecar.ask_raw(path, [(name.lower(), value) for name, value in headers], parts)
    assert told.status in (200, 404), "404: the path is no skin's"
    assert len(told.body) < 1000
    assert sidecar.ledger.faults == 0, "nothing was only let in because something broke"


@given(st.one_of(st.binary(max_size=400), st.integers(0, 2000), JSON.map(repr).map(str.encode)))
def test_a_forged_state_is_read_whole_or_not_at_all(forged: bytes | int) -> None:
    TRIED["forged states"] += 1
    whole = states.text()
    text = whole[: forged % len(whole)] if isinstance(forged, int) else forged
    assert isinstance(read(text), Unreadable)


@given(st.data())
def test_a_state_with_any_number_replaced_never_breaks_a_verdict(data: st.DataObject) -> None:
    TRIED["states with another number"] += 1
    role = data.draw(st.sampled_from(["prefill", "decode"]))
    name = data.draw(st.sampled_from(["serving", "idle", "waiting", "running", "waiting_tokens", "age_s"]))
    value = data.draw(st.one_of(st.integers(0, 10**6), st.floats(0, 1e15)))
    found = read(states.text(crowds=states.crowds(**{role: {name: value}})))
    if isinstance(found, Heard):
        sidecar = Sidecar(states.board(crowds=states.crowds(**{role: {name: value}})))
        assert sidecar.ask("/v1/decide", body=b'{"prompt_tokens": 900}').status in (200, 429)
        assert sidecar.ledger.faults == 0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running() as (found, _):
        yield found


ASK = b"GET /v1/auth-request/x HTTP/1.1\r\nhost: x\r\n\r\n"
RAW = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=200).map(lambda body: b"POST /v1/decide HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n" + body),
    st.binary(max_size=40).map(lambda name: b"GET /v1/ext-authz/" + name + b" HTTP/1.1\r\nhost: x\r\n\r\n"),
    st.binary(max_size=60).map(lambda line: b"GET /v1/decide HTTP/1.1\r\n" + line + b"\r\n\r\n"),
    st.binary(max_size=60).map(
        lambda part: b"POST /v1/decide HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n" + part
    ),
)


@pytest.mark.slow  # a server, and its clients' patience
@given(RAW)
@settings(deadline=None)
def test_any_bytes_get_a_short_answer_or_a_closed_connection(port: int, sent: bytes) -> None:
    TRIED["connections"] += 1
    answer = exchange(port, sent)
    assert len(answer) < 4000
    assert not answer or answer.startswith(b"HTTP/1.1 ")
    assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert b" 429 " not in answer.partition(b"\r\n")[0]
    assert exchange(port, ASK).startswith(b"HTTP/1.1 200 ")
