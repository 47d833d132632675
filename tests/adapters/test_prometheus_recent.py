"""Does one question tell a fleet's last hours, in its places, and what is in the way when it does not?

A scripted server answers; the real one is asked in tests/e2e/test_restart.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs

import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusPast
from autoscaler.adapters.prometheus.recent import families
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Unknown
from autoscaler.ports import FleetScope, Past
from tests.adapters.answering import Answering, Script, http

OWNER = {"namespace": "prod", "model_name": "llama"}
PODS = {Role.PREFILL: ("chat-prefill-0", "chat-prefill-1"), Role.DECODE: ("chat-decode-7",)}
SCOPE = FleetScope("prod/chat", "prod", "llama", "vllm", "llm-d", PODS, 45.0)
ENDS_S, STEP_S = 6_060, 15


def row(signal: str, values: Mapping[int, object], **labels: str) -> dict[str, Any]:
    """A row with these values at the ends of these of four steps."""
    points = [[ENDS_S - (3 - step) * STEP_S, str(value)] for step, value in values.items()]
    return {"metric": {"signal": signal, **OWNER, **labels}, "values": points}


ROWS = [
    row("traffic.offered_rps", {0: 2.0, 1: 0.0, 3: -0.1}),
    row("traffic.offered_rps", {0: 9.0}, model_name="another"),
    row("traffic.rejected_rps", {3: 1.0}),
    row("traffic.prompt_tokens", {0: 900.0, 1: "NaN"}),
    row("prefill.tokens_per_request", {2: 600.0}),
]


class Ask:
    """Asks a server that answers with these rows, or with these bytes. `form` is what it was asked."""

    def __init__(self, answering: Callable[[Script], Answering]) -> None:
        self._answering = answering
        self.form: Mapping[str, str] = {}

    def __call__(self, rows: object = ROWS, scope: FleetScope = SCOPE, *, bytes_: bytes | None = None) -> Past | Unknown:
        body = bytes_ or http(json.dumps({"status": "success", "data": {"resultType": "matrix", "result": rows}}))
        server = self._answering(lambda _, send: send(body))
        told = PrometheusPast(Endpoint(server.url)).past(scope, ENDS_S + 0.9, 4 * STEP_S, float(STEP_S))
        assert len(server.requests) <= 1, "all of it is one question"
        for request in server.requests:
            self.form = {name: values[0] for name, values in parse_qs(request.partition("\r\n\r\n")[2]).items()}
        return told


@pytest.fixture
def ask(answering: Callable[[Script], Answering]) -> Ask:
    return Ask(answering)


def test_a_past_is_told_step_by_step_and_what_nobody_told_is_unknown(ask: Ask) -> None:
    assert ask() == Past(
        at_s=[6015.0, 6030.0, 6045.0, 6060.0],
        offered_rps=[2.0, 0.0, None, 0.0],
        rejected_rps=[None, None, None, 1.0],
        means={
            "prompt_tokens": [900.0, None, None, None],
            "uncached_tokens": [None, None, 600.0, None],
            "output_tokens": [None] * 4,
        },
    )


def test_all_of_it_is_one_question_about_this_fleet_over_its_own_window(ask: Ask) -> None:
    ask()
    assert (ask.form["start"], ask.form["end"], ask.form["step"]) == ("6015", "6060", "15")
    query = ask.form["query"]
    assert not re.search(r"\$(?!1\b)", query)  # $1 is what label_replace found
    assert query.count(', "signal", "') == 5
    assert 'llm_d_epp_request_total{namespace=~"prod", model_name=~"llama"}[45s]' in query
    assert 'kv_computed_tokens_sum", namespace=~"prod", pod=~"chat-prefill-[0-9]+"}[45s]' in query
    assert 'generation_tokens_sum", namespace=~"prod", pod=~"chat-decode-[0-9]+"}[45s]' in query


def test_a_query_of_the_fleets_own_is_asked_in_its_place(ask: Ask) -> None:
    ask(scope=replace(SCOPE, window_s=7.5, queries={"traffic.offered_rps": "own{model=~$models}[$window]"}))
    assert 'own{model=~"llama"}[7500ms]' in ask.form["query"]


HASHES = "chat-d-[bcdfghjklmnpqrstvwxz2456789]{5,10}-[bcdfghjklmnpqrstvwxz2456789]{5}"


@pytest.mark.parametrize(
    ("prefill", "decode", "told"),
    [
        pytest.param(("chat-prefill-0", "chat-prefill-12"), ("d-0",), ("chat-prefill-[0-9]+", "d-[0-9]+"), id="groups"),
        pytest.param(("p-0",), ("chat-d-6d5f8c9b7-x2v4w", "chat-d-7c4b8-zz9x2"), ("p-[0-9]+", HASHES), id="a Deployment"),
        pytest.param(("v1.0",), (), ("v1[.]0", "/"), id="a name of its own, and nobody"),
        pytest.param(("all-0", "all-1"), ("all-2",), ("all-0|all-1", "all-2"), id="pods that change their role"),
        pytest.param(("a-0", "b-0"), ("c-0",), ("a-[0-9]+|b-[0-9]+", "c-[0-9]+"), id="two families"),
    ],
)
def test_pods_that_are_gone_are_told_by_their_family(
    prefill: tuple[str, ...], decode: tuple[str, ...], told: tuple[str, str]
) -> None:
    found = families(replace(SCOPE, pods={Role.PREFILL: prefill, Role.DECODE: decode}))
    assert (found[Role.PREFILL], found[Role.DECODE]) == told


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([7], "a row of the answer cannot be read: TypeError"),
        ([row("traffic.offered_rps", {9: 1.0})], "beyond 6060 s"),
        ([row("traffic.offered_rps", {0: 1.0}), row("traffic.offered_rps", {0: 1.0}, pod="x")], "answered twice"),
    ],
)
def test_an_answer_that_nobody_can_read_is_unknown(ask: Ask, rows: object, told: str) -> None:
    found = ask(rows)
    assert isinstance(found, Unknown)
    assert (found.gap, told in found.detail) == (Gap.MALFORMED, True)


def test_what_goes_wrong_outside_is_unknown_with_its_gap(ask: Ask) -> None:
    found = ask(bytes_=http("no", "503 Service Unavailable"))
    assert isinstance(found, Unknown)
    assert found.gap is Gap.SERVER_ERROR
    strange = ask(scope=replace(SCOPE, engine="vlm"))
    assert isinstance(strange, Unknown)
    assert strange.detail.startswith("engine: vlm is unknown; did you mean vllm?")
