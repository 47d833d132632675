"""What do headers, bodies and the leader's document tell, and what do they not?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.outlook import Strategy
from autoscaler.core.rejection import RejectionMode
from autoscaler.sidecar.bodies import longest_answer, question
from autoscaler.sidecar.headers import NOTHING_TOLD, Reader
from autoscaler.sidecar.state import Heard, Unreadable, read, standing
from tests.sidecar import states

RULES = states.heard().rules
READER = Reader(tuple(RULES.classes.values()), RULES.class_named(""))


@pytest.mark.parametrize(
    ("headers", "qos"),
    [
        ({b"x-llm-d-inference-objective": b"premium-objective"}, "premium"),
        ({b"x-gateway-inference-objective": b"premium-objective"}, "premium"),
        ({b"x-tier": b"batch"}, "batch"),
        ({b"x-tier": b"batch", b"x-llm-d-inference-objective": b"premium-objective"}, "premium"),
        ({b"x-tier": b"Batch"}, ""),
        ({b"x-llm-d-inference-objective": b"\xff\xfe"}, ""),
    ],
)
def test_a_class_is_the_first_of_the_policy_that_a_header_names(headers: dict[bytes, bytes], qos: str) -> None:
    assert READER.read(headers).qos == qos


@pytest.mark.parametrize(
    ("qos", "asked_ms", "seconds"),
    [
        (b"gold", b"1500", 1.5),
        (b"gold", b"1", 0.5),
        (b"gold", b"99999999", 5.0),
        (b"gold", b"-5", 1.0),
        (b"gold", b"nan", 1.0),
        (b"gold", b"inf", 1.0),
        (b"other", b"99999999", 10.0),
    ],
)
def test_an_slo_that_a_client_asks_for_is_held_to_its_class(qos: bytes, asked_ms: bytes, seconds: float) -> None:
    assert READER.read({b"x-tier": qos, b"x-llm-d-slo-ttft-ms": asked_ms}).asked_s == {SloKind.TTFT: seconds}


def test_the_newer_name_of_a_header_wins_and_the_older_is_understood() -> None:
    old, new = {b"x-slo-tpot-ms": b"30"}, {b"x-llm-d-slo-tpot-ms": b"40"}
    assert READER.read(old).asked_s == {SloKind.TPOT: 0.03}
    assert READER.read({**old, **new}).asked_s == {SloKind.TPOT: 0.04}


def test_headers_that_say_nothing_cost_one_look() -> None:
    assert READER.read({b"host": b"x", b"content-length": b"7"}) is NOTHING_TOLD


@pytest.mark.parametrize("value", [b"", b"-3", b"1e5", b"0x10", b"9" * 40, b"12 ", "\u0663".encode(), b"\xff", b"100000001"])
def test_a_length_that_is_none_is_not_known(value: bytes) -> None:
    assert READER.read({b"x-pda-prompt-tokens": value}).prompt_tokens is None


@pytest.mark.parametrize(
    ("headers", "again"),
    [
        ({b"x-stainless-retry-count": b"0"}, False),
        ({b"x-stainless-retry-count": b"1"}, True),
        ({b"x-envoy-attempt-count": b"1"}, False),
        ({b"x-envoy-attempt-count": b"2"}, True),
        ({b"x-stainless-retry-count": b"nonsense"}, False),
    ],
)
def test_a_retry_is_told_by_the_counters_of_sdks_and_gateways(headers: dict[bytes, bytes], again: bool) -> None:
    assert READER.read(headers).again is again


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"max_tokens": 50, "messages": []}', 50),
        (b'{"max_tokens": 50, "max_completion_tokens": 70}', 70),
        (b'{"max_tokens": null}', None),
        (b'{"messages": [{"content": "long and cut in the mid', None),
        (b'{"max_tokens" : 64, "messages": [{"content": "cut', 64),
        (b'{"max_tokens": -4}', None),
        (b'{"max_tokens": 1e3}', None),
        (b"\xff\xfe\x00", None),
        (b"[" * 100_000, None),
        (b'{"max_tokens": 99999999999999999999', None),
    ],
)
def test_the_longest_answer_is_read_from_a_body_even_if_it_was_cut(body: bytes, tokens: int | None) -> None:
    assert longest_answer(body) == tokens


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b'{"prompt_tokens": "many"}', b"\xff", b'{"attempt": 1.5}', b"[" * 9999]
)
def test_a_question_that_cannot_be_read_asks_about_a_request_of_which_nothing_is_known(body: bytes) -> None:
    asked, readable = question(body)
    assert (asked.prompt_tokens, asked.qos, readable) == (None, None, False)


def test_the_golden_document_is_read_into_the_values_of_the_core() -> None:
    heard = states.heard()
    seen = standing(heard.text, 100.0, 0.5, trusted=True)
    assert heard.place == (1_763_755_000_123, 42)
    assert seen.seen_s == 99.5
    assert seen.crowds[Role.PREFILL].waiting_tokens == 4000
    assert seen.profile is not None
    assert seen.profile.decode_s == (0.01, 0.0001, 5e-08)
    assert seen.shape.uncached_tokens == 1500
    assert (heard.rules.mode, heard.rules.strategy) == (RejectionMode.ENFORCE, Strategy.PREDICTIVE)
    premium = heard.rules.classes["premium"]
    assert (premium.priority, premium.reserved[Role.DECODE], premium.headers) == (10, 0.2, (("x-tier", "gold"),))
    assert not heard.rules.classes["batch"].may_retry


def test_a_newer_document_with_fields_that_nobody_knows_is_read_too() -> None:
    assert isinstance(read(states.text(weather="fine")), Heard)


def _without(name: str) -> bytes:
    return json.dumps({key: value for key, value in states.STATE.items() if key != name}).encode()


def _promises(**promise: float) -> dict[str, Any]:
    premium = states.STATE["rules"]["classes"][0]
    made = {"ttft": {"seconds": 1.0, "least_s": 0.5, "most_s": 2.0, **promise}, "tpot": premium["promises"]["tpot"]}
    return {"classes": [{**premium, "promises": made}], "default": "premium"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "truncated"),
        (b"\xff\x00", "malformed"),
        (b"[" * 100_000, ""),
        (states.text()[:-40], "truncated"),
        (_without("epoch"), "epoch"),
        (_without("crowds"), "crowds"),
        (states.text(format=2), "format 2: this sidecar reads 1"),
        (states.text(stay_s=-1), "stay_s"),
        (states.text(issued_at="now"), "issued_at"),
        (states.text().replace(b"80000", b"NaN"), "malformed"),
        (states.text().replace(b"80000", b"-1"), "resident_tokens"),
        (states.text().replace(b"80000", b"1e999"), "out of range"),
        (states.text(fleet="llama"), "fleet"),
        (states.text(crowds={"prefill": states.STATE["crowds"]["prefill"]}), "crowds: must have prefill, decode"),
        (states.text(rules={"default": "gold"}), "rules.default 'gold': must be one of the classes"),
        (states.text(rules={"status": 200}), "rules.status 200: must be one of 429, 503, 529"),
        (states.text(rules={"classes": []}), "classes"),
        (states.text().replace(b'"premium"', b'"a\\r\\nset-cookie: b"'), "name"),
        (states.text(rules=_promises(least_s=3.0)), "rules.classes[premium].promises: must be least_s <= seconds <= most_s"),
    ],
)
def test_a_document_that_cannot_be_judged_by_is_refused_whole(text: bytes, why: str) -> None:
    found = read(text)
    assert isinstance(found, Unreadable)
    assert why in found.why
