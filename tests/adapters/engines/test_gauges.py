"""Does an engine's own page tell the leader what Prometheus would tell it, only younger?"""

from __future__ import annotations

import math

import pytest

from autoscaler.adapters.engines import Engine, EngineFault, FaultKind
from autoscaler.adapters.engines.gauges import GAUGES, EngineGauges, gauges, read
from autoscaler.core.fleet import Phase, Replica, Role
from autoscaler.core.observation import Gauges
from autoscaler.policy.profiles import metric_profiles
from autoscaler.ports import Fault, Managed
from tests.engines.contract import Launch
from tests.engines.engine import StubEngine
from tests.engines.fleet import StubFleet
from tests.engines.loopback import Answer
from tests.engines.loopback import Fault as HttpFault
from tests.engines.sglang import Sglang
from tests.engines.vllm import Vllm
from tests.fakes import policy

WITHIN_S = 2.0
VLLM = """
vllm:num_requests_running{engine="0"} 3
vllm:num_requests_running{engine="1"} 2
vllm:num_requests_running{server="http://elsewhere"} 90
vllm:num_requests_waiting{engine="0"} 9
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
"""
BY_REASON = """
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 4
vllm:num_requests_waiting_by_reason{engine="0",reason="deferred"} 5
"""
SGLANG = """
sglang:num_running_reqs{dp_rank="0",tp_rank="0"} 3
sglang:num_running_reqs{dp_rank="0",tp_rank="1"} 3
sglang:num_running_reqs{dp_rank="1",tp_rank="2"} 4
sglang:num_running_reqs{dp_rank="1",tp_rank="2",priority="1"} 1
sglang:num_queue_reqs{dp_rank="0",tp_rank="0"} 2
sglang:num_decode_prealloc_queue_reqs{dp_rank="0",tp_rank="0"} 6
sglang:num_decode_transfer_queue_reqs{dp_rank="0",tp_rank="0"} 1
sglang:num_prefill_bootstrap_queue_reqs{dp_rank="0",tp_rank="0"} 70
sglang:token_usage{dp_rank="0",tp_rank="0"} 0.5
sglang:token_usage{dp_rank="1",tp_rank="2"} 0.9
"""
TRTLLM = "trtllm_num_requests_running 3\ntrtllm_num_requests_waiting 2\ntrtllm_kv_cache_utilization 0.5\n"


@pytest.mark.parametrize(
    ("engine", "page", "told"),
    [
        ("vllm", VLLM, Gauges(9.0, 5.0, 0.75, 0.0)),
        ("vllm", VLLM + BY_REASON, Gauges(4.0, 5.0, 0.75, 0.0, 5.0)),
        ("vllm", (VLLM + BY_REASON).replace("vllm:", "vllm_"), Gauges(4.0, 5.0, 0.75, 0.0, 5.0)),
        ("vllm", VLLM.replace("kv_cache_usage", "gpu_cache_usage"), Gauges(9.0, 5.0, 0.75, 0.0)),
        ("sglang", SGLANG, Gauges(8.0, 7.0, 0.9, 0.0, 1.0)),
        ("trtllm", TRTLLM, Gauges(2.0, 3.0, 0.5, 0.0)),
    ],
)
def test_each_engines_words_are_those_of_its_metric_profile(engine: str, page: str, told: Gauges) -> None:
    assert gauges(page.encode(), GAUGES[engine]) == told


def test_a_pod_that_stands_still_with_its_memory_full_waits_for_another_role() -> None:
    page = VLLM.replace("} 3", "} 0").replace("} 2", "} 0")
    assert gauges(page.encode(), GAUGES["vllm"]) == Gauges(0.0, 0.0, 0.75, 0.0, 9.0)


@pytest.mark.parametrize("missing", ["num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"])
def test_an_engine_that_does_not_tell_all_tells_nothing(missing: str) -> None:
    assert gauges(VLLM.replace(missing, "other").encode(), GAUGES["vllm"]) is None


@pytest.mark.parametrize("number", ["NaN", "-1", "+Inf", "many"])
def test_a_number_that_is_none_spoils_the_page(number: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        gauges(VLLM.replace("} 3", f"}} {number}").encode(), GAUGES["vllm"])


def test_every_engine_that_a_policy_may_name_can_be_asked() -> None:
    assert set(GAUGES) == set(metric_profiles("engine"))


@pytest.fixture
def stub(fleet: StubFleet) -> StubEngine:
    made = fleet.start("prefill-0", Launch(Role.PREFILL), Vllm)
    made.lies = {"vllm:num_requests_running": 3.0, "vllm:num_requests_waiting": 4.0, "vllm:kv_cache_usage_perc": 0.5}
    made.hidden = {"vllm:num_requests_waiting_by_reason"}
    return made


@pytest.mark.parametrize("contract", [Vllm, Sglang])
def test_an_engine_at_rest_has_nobody(fleet: StubFleet, contract: type[Vllm] | type[Sglang]) -> None:
    stub = fleet.start("decode-0", Launch(Role.DECODE), contract)
    told = read(Engine(contract.__name__.lower(), *stub.address), WITHIN_S)
    assert isinstance(told, Gauges), told
    assert (told.waiting, told.running, told.deferred) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("address", ["{ip}:{port}", "{ip}"])
def test_a_replica_is_asked_at_its_address_and_at_the_policys_port_where_that_names_none(stub: StubEngine, address: str) -> None:
    ip, port = stub.address
    managed = Managed("a/b", "a", "b", policy(), engine_port=port if ":" not in address else 9)
    replica = Replica("prefill-0", Phase.SERVING, 0.0, address=address.format(ip=ip, port=port))
    assert EngineGauges().gauges(managed, replica, WITHIN_S) == Gauges(4.0, 3.0, 0.5, 0.0)


@pytest.mark.parametrize("address", ["", "::1", "[::1]:9", "nowhere", "nowhere:9", "127.0.0.1:x"])
def test_an_address_at_which_nobody_answers_is_a_fault(address: str) -> None:
    told = EngineGauges().gauges(
        Managed("a/b", "a", "b", policy(), engine_port=9), Replica("x", Phase.SERVING, 0.0, address=address), 0.5
    )
    assert isinstance(told, Fault)
    assert told.door == "engine"


def test_an_answer_that_is_no_page_of_metrics_is_a_fault(stub: StubEngine) -> None:
    stub.http.faults["/metrics"] = HttpFault(answer=Answer(200, b"<html>"))
    told = read(Engine("vllm", *stub.address), WITHIN_S)
    assert isinstance(told, EngineFault)
    assert told.kind is FaultKind.MALFORMED
    assert "do not tell" in told.detail


def test_an_engine_that_nobody_knows_is_a_fault() -> None:
    told = read(Engine("other", "127.0.0.1", 9), math.inf)
    assert isinstance(told, EngineFault)
    assert "nobody knows" in told.detail
