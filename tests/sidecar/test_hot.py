"""What is each gateway told, for the requests it really sends?"""

from __future__ import annotations

import json

import pytest

from autoscaler.core.rejection import Why
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.skins import SKINS
from tests.sidecar import states
from tests.sidecar.asking import Sidecar

CHAT = json.dumps({"model": "llama", "messages": [{"role": "user", "content": "x" * 4000}], "max_tokens": 50}).encode()

# As these gateways send them. Envoy: method and path of the request behind `path_prefix`, only allowed headers, an empty body
# or its beginning. Traefik: GET, the request's line in x-forwarded-*. nginx: GET without a body, whatever the request was.
ENVOY = (
    "/v1/ext-authz/v1/chat/completions?x=1",
    {"host": "llm", "content-length": "0", "authorization": "Bearer x"},
    b"",
    "POST",
)
ENVOY_BODY = ("/v1/ext-authz/v1/chat/completions", {"host": "llm", "x-envoy-auth-partial-body": "false"}, CHAT, "POST")
ENVOY_CUT = ("/v1/ext-authz/v1/chat/completions", {"host": "llm", "x-envoy-auth-partial-body": "true"}, CHAT[:900], "POST")
TRAEFIK = (
    "/v1/forward-auth",
    {"host": "sidecar", "x-forwarded-method": "POST", "x-forwarded-uri": "/v1/chat/completions", "x-forwarded-for": "10.0.0.9"},
    b"",
    "GET",
)
NGINX = ("/v1/auth-request/v1/chat/completions", {"host": "sidecar", "x-pda-content-length": "4096"}, b"", "GET")
DECIDE = ("/v1/decide", {"content-type": "application/json"}, b'{"prompt_tokens": 1000, "output_tokens": 50}', "POST")
GOLDEN = [
    pytest.param(*ENVOY, 429, id="envoy-headers-only"),
    pytest.param(*ENVOY_BODY, 429, id="envoy-with-body"),
    pytest.param(*ENVOY_CUT, 429, id="envoy-with-a-cut-body"),
    pytest.param(*TRAEFIK, 429, id="traefik"),
    pytest.param(*NGINX, 403, id="nginx"),
    pytest.param(*DECIDE, 429, id="json"),
]


@pytest.mark.parametrize(("path", "headers", "body", "method", "refused"), GOLDEN)
def test_every_gateway_is_told_yes_while_there_is_room_and_no_in_its_own_words_when_not(
    path: str, headers: dict[str, str], body: bytes, method: str, refused: int
) -> None:
    path = path.partition("?")[0]
    yes = Sidecar(states.board()).ask(path, headers, body, method)
    no = Sidecar(states.board(full=True)).ask(path, headers, body, method)
    assert (yes.status, no.status) == (200, refused)
    assert yes.headers["x-pda-class"] == "standard"
    assert no.headers["x-pda-reject-reason"] == "ttft"
    assert no.headers["content-type"] == "application/json"
    assert int(no.headers["content-length"]) == len(no.body)
    assert no.json["error"].keys() == {"message", "type", "param", "code"}
    assert no.json["error"]["code"] == "ttft"


def test_a_path_that_only_begins_like_a_skin_is_passed_on() -> None:
    sidecar = Sidecar(states.board(full=True))
    assert {sidecar.ask(path).body for path in ("/", "/v1/decide/x", "/v1/ext-authzz", "/metrics")} == {b"behind"}
    assert not sidecar.ledger.verdicts


def test_retry_after_is_whole_seconds_from_the_predicted_drain_and_finer_beside() -> None:
    told = Sidecar(states.board(full=True)).ask(DECIDE[0], body=DECIDE[2]).headers
    assert 5 <= int(told["retry-after"]) <= 8
    assert 5_000 <= int(told["retry-after-ms"]) <= 1000 * int(told["retry-after"])
    assert "x-should-retry" not in told


def test_a_class_that_must_not_retry_is_told_so() -> None:
    told = Sidecar(states.board(full=True)).ask("/v1/ext-authz/x", {"x-tier": "batch"})
    assert (told.headers["x-pda-class"], told.headers["x-should-retry"]) == ("batch", "false")


def test_the_policy_says_with_which_status_but_nginx_knows_only_403() -> None:
    sidecar = Sidecar(states.board(full=True, rules={"status": 529}))
    assert [sidecar.ask(skin.path).status for skin in SKINS] == [529, 529, 529, 403]


def test_predictions_are_told_to_who_asks_and_only_where_the_operator_allows_it() -> None:
    asks, name = {"x-pda-predict": "1"}, "x-pda-predicted-ttft-ms"
    open_, closed = Sidecar(states.board(full=True), predictions=True), Sidecar(states.board(full=True))
    assert 7_000 < int(open_.ask("/v1/ext-authz/x", asks).headers[name]) < 9_000
    assert name not in open_.ask("/v1/ext-authz/x").headers
    assert name not in closed.ask("/v1/ext-authz/x", asks).headers


def test_shadow_mode_lets_everybody_in_and_keeps_what_it_would_have_done() -> None:
    sidecar = Sidecar(states.board(full=True, mode="shadow"))
    told = sidecar.ask(DECIDE[0], body=DECIDE[2])
    assert (told.status, told.json) == (200, {"admit": True, "reason": "ttft", "class": "standard"})
    assert sidecar.ledger.verdicts == {("shadow", False, "ttft", "standard", False): 1}
    assert sidecar.ledger.total(admitted=False, again=False) == {}


def test_off_judges_nobody() -> None:
    sidecar = Sidecar(states.board(full=True, mode="off"))
    assert sidecar.ask("/v1/ext-authz/x").status == 200
    assert list(sidecar.ledger.verdicts) == [("off", True, "off", "standard", False)]


@pytest.mark.parametrize(
    ("board", "now", "why"),
    [
        pytest.param(Board(), 100.0, Why.NO_STATE, id="no-state-yet"),
        pytest.param(states.board(full=True), 102.0, Why.STALE, id="a-state-older-than-two-seconds"),
        pytest.param(states.board(full=True, profile=None), 100.0, Why.UNCALIBRATED, id="nobody-knows-how-fast-it-is"),
    ],
)
def test_what_is_not_known_lets_everybody_in(board: Board, now: float, why: Why) -> None:
    told = Sidecar(board, now=now).ask(DECIDE[0], body=DECIDE[2])
    assert (told.status, told.json["reason"]) == (200, why)


def test_a_state_of_an_unknown_sender_rejects_nobody() -> None:
    board = Board()
    board.offer(states.heard(full=True), 100.0, 0.0, trusted=False)
    assert Sidecar(board).ask(DECIDE[0], body=DECIDE[2]).json["reason"] == "unauthenticated"


def test_own_admissions_fill_the_fleet_before_the_next_state_does() -> None:
    sidecar = Sidecar(states.board(offered_rps=None))
    answers = [sidecar.ask(DECIDE[0], body=DECIDE[2]).status for _ in range(100)]
    assert answers[0] == 200
    assert answers[-1] == 429
    sidecar.board.offer(states.heard(sequence=43, issued_at=states.STATE["issued_at"] + 1), 101.0, 0.0, trusted=True)
    sidecar.now = 101.0
    assert sidecar.ask(DECIDE[0], body=DECIDE[2]).status == 200, "a newer state shows them, or shows that they are gone"


def test_only_the_first_try_of_a_request_counts_as_load_that_was_turned_away() -> None:
    full, free = states.heard(full=True), states.heard(sequence=43, issued_at=states.STATE["issued_at"] + 1)
    board = Board()
    board.offer(full, 100.0, 0.0, trusted=True)
    sidecar = Sidecar(board)
    for tries in ("0", "1", "2"):
        assert sidecar.ask("/v1/ext-authz/x", {"x-stainless-retry-count": tries, "x-pda-prompt-tokens": "1000"}).status == 429
    board.offer(free, 101.0, 0.0, trusted=True)
    sidecar.now = 101.0
    assert sidecar.ask("/v1/ext-authz/x", {"x-stainless-retry-count": "3"}).status == 200
    assert sidecar.ledger.total(admitted=False, again=False) == {"standard": 1}
    assert sidecar.ledger.total(admitted=True, again=True) == {"standard": 1}
    assert sidecar.ledger.rejected_tokens == {"standard": 1000}


def test_a_bug_of_ours_lets_requests_in_and_is_counted_and_told_ever_more_seldom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sidecar = Sidecar(states.board(full=True))
    monkeypatch.setattr("autoscaler.sidecar.desk.judge", lambda *_: 1 / 0)
    assert {sidecar.ask(DECIDE[0], body=DECIDE[2]).status for _ in range(10)} == {200}
    assert sidecar.ledger.faults == 10
    assert [record.getMessage().partition(" while")[0] for record in caplog.records] == [f"fault {n}" for n in (1, 2, 4, 8)]


def test_a_body_that_is_announced_as_huge_is_judged_by_its_size_alone() -> None:
    told = Sidecar(states.board()).ask_raw("/v1/ext-authz/x", [(b"content-length", b"104857600")], [])
    assert told.status == 200, "26 million tokens miss any SLO by themselves: no rejection helps"


def test_a_client_that_goes_away_in_the_middle_costs_one_verdict() -> None:
    sidecar = Sidecar(states.board(full=True))
    assert sidecar.ask_raw("/v1/decide", [(b"content-length", b"500")], []).status == 429
    assert sidecar.ledger.unreadable == 1
