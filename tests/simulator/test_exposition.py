"""Would a dashboard or a PromQL query made for the real engines find what it looks for here?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from autoscaler.core.fleet import Role
from autoscaler.simulator.clients import Retries
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.exposition import gateway_families, replica_families
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import changed, engine, spec

TTFT = "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 160.0 640.0 2560.0 +Inf"
PER_TOKEN = "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1.0 2.5 5.0 7.5 10.0 20.0 40.0 80.0 +Inf"
TOKENS = (
    "1.0 2.0 5.0 10.0 20.0 50.0 100.0 200.0 500.0 1000.0 2000.0 5000.0 10000.0 20000.0 50000.0 100000.0 +Inf"  # context 131,072
)
REQUEST_TIME = "0.3 0.5 0.8 1.0 1.5 2.0 2.5 5.0 10.0 15.0 20.0 30.0 40.0 50.0 60.0 120.0 240.0 480.0 960.0 1920.0 7680.0 +Inf"
GATEWAY_TTFT = "0.005 0.025 0.05 0.1 0.2 0.4 0.6 0.8 1 1.25 1.5 2 3 4 5 6 8 10 15 20 30 45 60 120 +Inf"
GATEWAY_TPOT = "0.0005 0.00205 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.125 0.15 0.2 0.3 0.4 0.5 0.6 0.8 1 2 +Inf"
GATEWAY_OUTPUT = "1 8 16 32 64 128 256 512 1024 2048 4096 8192"
GATEWAY_INPUT = f"{GATEWAY_OUTPUT} 16384 32778 65536 131072 262144 524288 1.048576e+06 +Inf"

ENGINE_LABELS = {"model_name", "engine"}
GATEWAY_LABELS = {"model_name", "target_model_name", "fairness_id", "priority"}
ENGINE_SERIES = {
    "vllm:num_requests_running": ENGINE_LABELS,
    "vllm:num_requests_waiting": ENGINE_LABELS,
    "vllm:num_requests_waiting_by_reason": ENGINE_LABELS | {"reason"},
    "vllm:kv_cache_usage_perc": ENGINE_LABELS,
    "vllm:prompt_tokens_total": ENGINE_LABELS,
    "vllm:prompt_tokens_by_source_total": ENGINE_LABELS | {"source"},
    "vllm:generation_tokens_total": ENGINE_LABELS,
    "vllm:request_success_total": ENGINE_LABELS | {"finished_reason"},
}
ENGINE_HISTOGRAMS = {
    "vllm:time_to_first_token_seconds": TTFT,
    "vllm:request_prefill_time_seconds": REQUEST_TIME,
    "vllm:inter_token_latency_seconds": PER_TOKEN,
    "vllm:request_time_per_output_token_seconds": PER_TOKEN,
    "vllm:request_prompt_tokens": TOKENS,
    "vllm:request_generation_tokens": TOKENS,
    "vllm:request_prefill_kv_computed_tokens": TOKENS,
}
GATEWAY_SERIES = {"llm_d_epp_request_total": GATEWAY_LABELS, "llm_d_epp_request_running": GATEWAY_LABELS}
SIDECAR_SERIES = {f"pdautoscaler_sidecar_{what}_requests_total": {"model_name"} for what in ("rejected", "readmitted")}
GATEWAY_HISTOGRAMS = {
    "llm_d_epp_request_ttft_seconds": GATEWAY_TTFT,
    "llm_d_epp_request_streaming_tpot_seconds": GATEWAY_TPOT,
    "llm_d_epp_request_input_tokens": GATEWAY_INPUT,
    "llm_d_epp_request_output_tokens": f"{GATEWAY_OUTPUT} +Inf",
}


class Page(Collector):
    """Families as text and back, through the library's own writer and reader."""

    def __init__(self, families: list[Metric]) -> None:
        self.families = families
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        parsed = text_string_to_metric_families(generate_latest(registry).decode())
        self.samples = [sample for family in parsed for sample in family.samples]

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        return self.families

    def value(self, name: str, **labels: str) -> float:
        (found,) = (s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items())
        return float(found)

    def series(self) -> dict[str, set[str]]:
        return {sample.name: set(sample.labels) for sample in self.samples}

    def edges(self, histogram: str) -> str:
        return " ".join(sample.labels["le"] for sample in self.samples if sample.name == histogram + "_bucket")


def page(fleet: Engine, role: Role) -> Page:
    fleet.refresh()
    server = fleet.pools[role].replicas[0].server
    return Page(list(replica_families(server.metrics, server.occupancy(), "llama")))


def gateway(fleet: Engine) -> Page:
    return Page(list(gateway_families(fleet.gateway, "llama")))


@pytest.fixture
def fleet() -> Engine:
    """Three requests at 0, 1 and 2 s: prompts 100 (40 cached), 200 and 300; outputs 5, 10 and 1."""
    fleet = engine([Request(0, 0.0, 100, 40, 5), Request(1, 1.0, 200, 0, 10), Request(2, 2.0, 300, 0, 1)])
    fleet.advance(10.0)
    return fleet


def histogram_series(histograms: dict[str, str], labels: set[str]) -> dict[str, set[str]]:
    parts = {"_bucket": {"le"}, "_sum": set[str](), "_count": set[str]()}
    return {name + part: labels | more for name in histograms for part, more in parts.items()}


@pytest.mark.parametrize("role", list(Role))
def test_engines_have_vllm_names_labels_and_edges(fleet: Engine, role: Role) -> None:
    shown = page(fleet, role)
    assert shown.series() == ENGINE_SERIES | histogram_series(ENGINE_HISTOGRAMS, ENGINE_LABELS)
    assert {name: shown.edges(name) for name in ENGINE_HISTOGRAMS} == ENGINE_HISTOGRAMS
    assert {s.labels["model_name"] for s in shown.samples} == {"llama"}
    assert {s.labels["engine"] for s in shown.samples} == {"0"}


def test_the_gateway_has_llm_d_names_labels_and_edges(fleet: Engine) -> None:
    shown = gateway(fleet)
    histograms = histogram_series(GATEWAY_HISTOGRAMS, GATEWAY_LABELS)
    histograms |= histogram_series({"llm_d_epp_request_ttft_seconds": ""}, GATEWAY_LABELS | {"streaming"})
    assert shown.series() == GATEWAY_SERIES | SIDECAR_SERIES | histograms
    assert {name: shown.edges(name) for name in GATEWAY_HISTOGRAMS} == GATEWAY_HISTOGRAMS


def test_a_prefill_replica_counts_one_token_per_request_and_ends_it_for_length(fleet: Engine) -> None:
    shown = page(fleet, Role.PREFILL)
    assert shown.value("vllm:request_success_total", finished_reason="length") == 3
    assert shown.value("vllm:request_success_total", finished_reason="stop") == 0
    assert shown.value("vllm:generation_tokens_total") == 3
    assert shown.value("vllm:prompt_tokens_total") == 600
    assert shown.value("vllm:prompt_tokens_by_source_total", source="local_compute") == 560
    assert shown.value("vllm:prompt_tokens_by_source_total", source="local_cache_hit") == 40
    assert shown.value("vllm:request_prefill_kv_computed_tokens_sum") == 560
    assert shown.value("vllm:time_to_first_token_seconds_sum") == pytest.approx(0.16 + 0.3 + 0.4)
    assert shown.value("vllm:time_to_first_token_seconds_bucket", le="0.25") == 1
    assert shown.value("vllm:request_prefill_time_seconds_sum") == pytest.approx(3 * 0.1 + 560 * 0.001)
    assert shown.value("vllm:request_prefill_time_seconds_count") == 3
    assert shown.value("vllm:request_time_per_output_token_seconds_bucket", le="0.01") == 3


def test_a_decode_replica_counts_fetched_prompts_and_every_token(fleet: Engine) -> None:
    shown = page(fleet, Role.DECODE)
    assert shown.value("vllm:request_success_total", finished_reason="stop") == 3
    assert shown.value("vllm:generation_tokens_total") == pytest.approx(16)
    assert shown.value("vllm:prompt_tokens_by_source_total", source="external_kv_transfer") == 597
    assert shown.value("vllm:request_generation_tokens_sum") == 16
    assert shown.value("vllm:request_generation_tokens_bucket", le="5.0") == 2  # 1 and 5: an edge belongs to its bucket
    assert shown.value("vllm:inter_token_latency_seconds_count") == pytest.approx(13)
    assert shown.value("vllm:request_time_per_output_token_seconds_bucket", le="0.025") == 3


def test_the_gateway_counts_users_latency_from_arrival(fleet: Engine) -> None:
    """First tokens after 0.16 + 0.012, 0.3 + 0.013 and 0.4 + 0.014 s."""
    shown = gateway(fleet)
    assert shown.value("llm_d_epp_request_total") == 3
    assert shown.value("llm_d_epp_request_running") == 0
    assert shown.value("llm_d_epp_request_ttft_seconds_sum", streaming="true") == pytest.approx(0.172 + 0.313 + 0.414)
    assert shown.value("llm_d_epp_request_ttft_seconds_bucket", streaming="true", le="0.4") == 2
    assert shown.value("llm_d_epp_request_input_tokens_sum") == 600
    assert shown.value("llm_d_epp_request_streaming_tpot_seconds_count") == 2  # one token alone has none


def test_who_is_turned_away_is_counted_by_the_sidecar_and_not_by_the_gateway() -> None:
    requests = [Request(number, float(number), 100, 0, 5) for number in range(3)]
    fleet = engine(requests, admit=lambda request, now: request.id > 0)
    fleet.advance(10.0)
    shown = gateway(fleet)
    assert shown.value("llm_d_epp_request_total") == 2
    assert shown.value("pdautoscaler_sidecar_rejected_requests_total", model_name="llama") == 1


def test_who_is_let_in_at_a_later_try_is_counted_by_both() -> None:
    """Turned away at 0 s and again about half a second later, let in about a second after that."""
    fleet = engine([Request(0, 0.0, 100, 0, 5)], replace(spec(), retries=Retries()), admit=lambda _, now: now > 1.0)
    fleet.advance(10.0)
    shown = gateway(fleet)
    assert shown.value("llm_d_epp_request_total") == 1
    assert shown.value("pdautoscaler_sidecar_rejected_requests_total", model_name="llama") == 1
    assert shown.value("pdautoscaler_sidecar_readmitted_requests_total", model_name="llama") == 1


def test_waiting_is_split_into_room_and_transfer() -> None:
    """One sequence per replica and a transfer of 100 s: one request is on its way, two wait for room."""
    profile = changed(max_seqs=1, link_base_s=100.0, prefill_s=(0.0, 0.0, 0.0))
    fleet = engine([Request(number, 0.0, 100, 0, 5) for number in range(3)], spec(profile=profile))
    fleet.advance(10.0)
    shown = page(fleet, Role.DECODE)
    assert shown.value("vllm:num_requests_waiting_by_reason", reason="capacity") == 2
    assert shown.value("vllm:num_requests_waiting_by_reason", reason="deferred") == 1
    assert shown.value("vllm:num_requests_waiting") == 3
    assert shown.value("vllm:num_requests_running") == 0
    assert shown.value("vllm:kv_cache_usage_perc") == pytest.approx(100 / 100_000)
    assert page(fleet, Role.PREFILL).value("vllm:kv_cache_usage_perc") == pytest.approx(300 / 100_000)


def test_buckets_are_cumulative_and_end_at_the_count(fleet: Engine) -> None:
    shown = page(fleet, Role.DECODE)
    for name in ENGINE_HISTOGRAMS:
        counts = [sample.value for sample in shown.samples if sample.name == name + "_bucket"]
        assert counts == sorted(counts)
        assert counts[-1] == shown.value(name + "_count")
