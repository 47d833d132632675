"""Does the stub keep SGLang's contract? One test per point of reference/engines.md B.1, B.3 and C.2."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from autoscaler.core.fleet import Role
from tests.adapters.prometheus_server import wait_until
from tests.engines.conftest import Ask
from tests.engines.contract import Flag, Launch, Switching
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.ledger import End
from tests.engines.metrics_page import scraped, total
from tests.engines.sglang import Sglang

NAMES = """
    num_running_reqs num_queue_reqs num_grammar_queue_reqs num_retracted_reqs num_paused_reqs token_usage full_token_usage
    num_used_tokens kv_used_tokens kv_available_tokens kv_evictable_tokens max_total_num_tokens gen_throughput cache_hit_rate
    utilization fwd_occupancy max_running_requests_under_SLO pending_prealloc_token_usage num_prefill_bootstrap_queue_reqs
    num_prefill_inflight_queue_reqs num_decode_prealloc_queue_reqs num_decode_transfer_queue_reqs prompt_tokens
    generation_tokens num_requests num_aborted_requests num_bootstrap_failed_reqs num_transfer_failed_reqs
    num_prefill_retries num_retracted_requests time_to_first_token_seconds inter_token_latency_seconds
"""
BUSY = (
    "sglang:num_running_reqs", "sglang:num_queue_reqs", "sglang:num_prefill_inflight_queue_reqs",
    "sglang:num_decode_prealloc_queue_reqs", "sglang:num_decode_transfer_queue_reqs",
)  # fmt: skip
REFUSED = 400

Pair = tuple[StubEngine, StubEngine]
Send = Callable[..., tuple[int, Any]]


@pytest.fixture
def pair(fleet: StubFleet) -> Pair:
    return fleet.start("p-0", Launch(Role.PREFILL), Sglang), fleet.start("d-0", Launch(Role.DECODE), Sglang)


@pytest.fixture
def legs(ask: Ask) -> Send:
    """Sends one leg of a request to an engine, the prefill being at another."""

    def send(to: StubEngine, prefill: StubEngine, room: int = 7) -> tuple[int, Any]:
        return ask(to.port, "POST", "/generate", Sglang.prefill_body(str(room), prefill, 50, 4))

    return send


def switch(ask: Ask, engine: StubEngine, to: str) -> tuple[int, Any]:
    answer: tuple[int, Any] = ask(engine.port, "POST", "/pd_role_switch", {"new_role": to})
    return answer


def live(ask: Ask, engine: StubEngine) -> Any:
    return ask(engine.port, "GET", "/server_info")[1]["internal_states"][0]["disaggregation_mode"]


def test_the_page_has_exactly_the_names_of_the_reference(pair: Pair) -> None:
    families = scraped(pair[0])
    assert set(families) == {f"sglang:{name}" for name in NAMES.split()}
    assert families["sglang:num_running_reqs"].samples[0].labels == {
        "model_name": "llama-3-8b",
        "engine_type": "prefill",
        "tp_rank": "0",
        "pp_rank": "0",
        "moe_ep_rank": "0",
        "dp_rank": "0",
    }
    assert {sample.name for sample in families["sglang:num_requests"].samples} == {"sglang:num_requests_total"}


def test_every_rank_has_its_own_series(fleet: StubFleet) -> None:
    engine = fleet.start("p-0", Launch(Role.PREFILL, dp_ranks=2, tp_ranks=2), Sglang)
    samples = scraped(engine)["sglang:num_running_reqs"].samples
    ranks = [(sample.labels["dp_rank"], sample.labels["tp_rank"]) for sample in samples]
    assert ranks == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]


def test_prefill_holds_the_kv_until_decode_has_fetched_it(pair: Pair, legs: Send, fleet: StubFleet) -> None:
    prefill, decode = pair
    assert legs(prefill, prefill)[0] == 200
    assert total(prefill, "sglang:num_running_reqs") == 0
    assert total(prefill, "sglang:num_prefill_inflight_queue_reqs") == 1
    assert total(prefill, "sglang:num_used_tokens") == 50
    assert legs(decode, prefill)[0] == 200
    assert total(prefill, *BUSY) == 0
    assert total(decode, "sglang:generation_tokens") == 4
    assert fleet.ledger.counts()[End.FINISHED] == 2


def test_a_decode_leg_waits_in_the_transfer_queue_for_its_prefill(pair: Pair, legs: Send) -> None:
    prefill, decode = pair
    waiting = threading.Thread(target=legs, args=(decode, prefill), daemon=True)
    waiting.start()
    wait_until(lambda: total(decode, "sglang:num_decode_transfer_queue_reqs") == 1, "the decode leg waits for its KV")
    legs(prefill, prefill)
    waiting.join()
    assert total(decode, *BUSY) == 0


def test_an_idle_engine_switches_and_keeps_its_launch_role_in_the_arguments(pair: Pair, ask: Ask) -> None:
    engine = pair[0]
    status, said = switch(ask, engine, "decode")
    assert (status, said["success"], said["old_role"], said["new_role"]) == (200, True, "prefill", "decode")
    assert ask(engine.port, "GET", "/server_info")[1]["disaggregation_mode"] == "prefill"
    assert live(ask, engine) == "decode"
    assert scraped(engine)["sglang:num_queue_reqs"].samples[0].labels["engine_type"] == "prefill"
    assert ask(engine.port, "GET", "/v1/loads")[1]["loads"][0]["disaggregation"]["mode"] == "decode"


def test_an_engine_that_holds_kv_refuses_and_stays_what_it_was(pair: Pair, legs: Send, ask: Ask) -> None:
    engine = pair[0]
    legs(engine, engine)
    status, said = switch(ask, engine, "decode")
    assert (status, said["success"], said["safe_to_restore"]) == (REFUSED, False, True)
    assert "not idle" in said["message"]
    assert (live(ask, engine), ask(engine.port, "GET", "/health")[0]) == ("prefill", 200)


@pytest.mark.parametrize(
    ("flag", "to", "status", "words"),
    [
        pytest.param(Flag.ON, "prefill", 200, "already in target role", id="the-role-it-has"),
        pytest.param(Flag.ON, "both", REFUSED, "invalid new_role", id="no-role"),
        pytest.param(Flag.OFF, "decode", REFUSED, "--enable-pd-role-switch", id="flag-off"),
    ],
)
def test_a_switch_that_changes_nothing(fleet: StubFleet, ask: Ask, flag: Flag, to: str, status: int, words: str) -> None:
    engine = fleet.start("p-0", Launch(Role.PREFILL, role_switch=flag), Sglang)
    answered, said = switch(ask, engine, to)
    assert (answered, said["success"], said["safe_to_restore"]) == (status, status == 200, True)
    assert words in said["message"]
    assert live(ask, engine) == "prefill"


def test_a_version_without_the_switch_does_not_know_its_path(fleet: StubFleet, ask: Ask) -> None:
    engine = fleet.start("p-0", Launch(Role.PREFILL, role_switch=Flag.UNKNOWN), Sglang)
    assert switch(ask, engine, "decode")[0] == 404


def test_a_switch_that_breaks_leaves_the_engine_unhealthy_until_it_is_restarted(pair: Pair, legs: Send, ask: Ask) -> None:
    engine = pair[0]
    engine.switching = Switching.BREAKS
    assert switch(ask, engine, "decode")[1]["safe_to_restore"] is False
    assert ask(engine.port, "GET", "/health")[0] == 503
    assert legs(engine, engine)[0] == 503
    engine.switching = Switching.WORKS
    assert "restart required" in switch(ask, engine, "decode")[1]["message"]
    engine.restart()
    assert switch(ask, engine, "decode")[0] == 200


def test_a_switch_that_pretends_shows_only_in_the_live_role(pair: Pair, ask: Ask) -> None:
    engine = pair[0]
    engine.switching = Switching.PRETENDS
    assert switch(ask, engine, "decode")[1]["success"] is True
    assert live(ask, engine) == "prefill"


def test_server_info_can_lie(pair: Pair, ask: Ask) -> None:
    engine = pair[0]
    engine.told_role = Role.DECODE
    assert live(ask, engine) == "decode"
    assert engine.role is Role.PREFILL


def test_older_versions_do_not_say_whether_the_old_role_is_safe(pair: Pair, ask: Ask) -> None:
    engine = pair[0]
    engine.tells_restore, engine.switching = False, Switching.REFUSES
    assert "safe_to_restore" not in switch(ask, engine, "decode")[1]


def test_a_request_of_the_old_role_is_lost_by_the_one_who_switched(pair: Pair, legs: Send, ask: Ask, fleet: StubFleet) -> None:
    engine = pair[0]
    switch(ask, engine, "decode")
    assert legs(engine, engine)[0] == REFUSED
    assert len(fleet.ledger.ended(End.LOST_BY_ACT)) == 1
    assert "misrouted" in fleet.ledger.ended(End.LOST_BY_ACT)[0]


def test_a_switch_takes_its_time_and_a_second_one_meanwhile_is_refused(pair: Pair, ask: Ask) -> None:
    engine, ends = pair[0], list[str]()
    engine.switch_s = 60.0

    def first() -> None:
        try:
            switch(ask, engine, "decode")
        except OSError as error:
            ends.append(type(error).__name__)

    caller = threading.Thread(target=first, daemon=True)
    caller.start()
    wait_until(lambda: engine.turning, "the switch is under way")
    assert "in progress" in switch(ask, engine, "decode")[1]["message"]
    engine.kill(End.LOST_BY_FAULT)
    caller.join()
    assert ends == ["RemoteDisconnected"]
