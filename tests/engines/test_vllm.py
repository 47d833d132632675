"""Does the stub keep vLLM's contract? One test per point of reference/engines.md B.3 and C.1."""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.core.fleet import Role
from tests.engines.conftest import Ask
from tests.engines.contract import Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.ledger import End
from tests.engines.metrics_page import scraped, total
from tests.engines.vllm import Vllm

NAMES = """
    num_requests_running num_requests_waiting num_requests_waiting_by_reason kv_cache_usage_perc prompt_tokens
    prompt_tokens_by_source generation_tokens request_success time_to_first_token_seconds request_prefill_time_seconds
    inter_token_latency_seconds request_time_per_output_token_seconds request_prompt_tokens request_generation_tokens
    request_prefill_kv_computed_tokens nixl_num_kv_expired_reqs cache_config_info
"""
PATH = "/v1/completions"

Pair = tuple[StubEngine, StubEngine]


@pytest.fixture
def pair(fleet: StubFleet) -> Pair:
    return fleet.start("p-0", Launch(Role.PREFILL), Vllm), fleet.start("d-0", Launch(Role.DECODE), Vllm)


def test_the_page_has_exactly_the_names_of_the_reference(pair: Pair) -> None:
    families = scraped(pair[0])
    assert set(families) == {f"vllm:{name}" for name in NAMES.split()}
    assert families["vllm:num_requests_running"].samples[0].labels == {"model_name": "llama-3-8b", "engine": "0"}


def test_every_dp_rank_has_its_own_series(fleet: StubFleet) -> None:
    engine = fleet.start("d-0", Launch(Role.DECODE, dp_ranks=2), Vllm)
    assert [sample.labels["engine"] for sample in scraped(engine)["vllm:num_requests_running"].samples] == ["0", "1"]


def test_kv_stays_in_use_after_the_last_request_until_it_was_fetched(pair: Pair, ask: Ask) -> None:
    prefill, decode = pair
    body = Vllm.prefill_body("r1", prefill, 50, 4)
    status, said = ask(prefill.port, "POST", PATH, body)
    assert (status, said["kv_transfer_params"]["remote_port"]) == (200, prefill.port)
    assert total(prefill, "vllm:num_requests_running", "vllm:num_requests_waiting") == 0
    assert total(prefill, "vllm:kv_cache_usage_perc") == pytest.approx(50 / 100_000)
    assert ask(decode.port, "POST", PATH, Vllm.decode_body(body, said, 4))[0] == 200
    assert total(prefill, "vllm:kv_cache_usage_perc") == 0
    assert total(decode, "vllm:generation_tokens") == 4


def test_kv_that_nobody_fetches_is_given_up_when_its_lease_is_over(fleet: StubFleet, ask: Ask) -> None:
    prefill = fleet.start("p-0", Launch(Role.PREFILL, kv_lease_s=0.0), Vllm)
    ask(prefill.port, "POST", PATH, Vllm.prefill_body("r1", prefill, 50, 4))
    assert total(prefill, "vllm:kv_cache_usage_perc") == 0
    assert total(prefill, "vllm:nixl_num_kv_expired_reqs") == 1
    assert fleet.ledger.counts()[End.EXPIRED] == 1


def test_a_request_without_transfer_is_served_whole(pair: Pair, ask: Ask) -> None:
    body: dict[str, Any] = {"prompt": [1, 2, 3], "max_tokens": 5}
    assert ask(pair[1].port, "POST", PATH, body)[1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 5}
    assert total(pair[1], "vllm:kv_cache_usage_perc") == 0


def test_with_kv_both_either_leg_is_served_and_without_it_only_the_own(fleet: StubFleet, ask: Ask) -> None:
    for name, any_leg, status in (("both", True, 200), ("consumer", False, 400)):
        engine = fleet.start(name, Launch(Role.DECODE, any_leg=any_leg), Vllm)
        assert ask(engine.port, "POST", PATH, Vllm.prefill_body(name, engine, 10, 1))[0] == status


def test_there_is_no_role_switch(pair: Pair, ask: Ask) -> None:
    assert {ask(pair[0].port, method, "/v1/pd_role", {})[0] for method in ("GET", "POST")} == {404}


def test_the_model_and_the_health_are_told(pair: Pair, ask: Ask) -> None:
    assert ask(pair[0].port, "GET", "/v1/models")[1]["data"][0]["id"] == "llama-3-8b"
    assert ask(pair[0].port, "GET", "/health") == (200, "")
