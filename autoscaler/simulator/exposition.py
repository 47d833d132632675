"""How do simulated counters look on a /metrics page?

As `prometheus_client` metric families with the names, labels and bucket spelling of the real thing: vLLM, written in
Python, spells an edge of one second `le="1.0"`; the gateway, written in Go, spells it `le="1"`. Prometheus 2 keeps
such spellings, so a reader that compares text finds nothing on one of the two (reference/python.md 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from autoscaler.simulator.metrics import Buckets, GatewayMetrics, Occupancy, ReplicaMetrics

Labels = Mapping[str, str]

_REPLICA_HISTOGRAMS: tuple[tuple[str, str, Callable[[ReplicaMetrics], Buckets]], ...] = (
    ("vllm:time_to_first_token_seconds", "Seconds to the first token.", lambda m: m.ttft_s),
    ("vllm:request_prefill_time_seconds", "Seconds a prompt was computed.", lambda m: m.prefill_s),
    ("vllm:inter_token_latency_seconds", "Seconds between two tokens of a request.", lambda m: m.itl_s),
    ("vllm:request_time_per_output_token_seconds", "Mean seconds per output token of a request.", lambda m: m.tpot_s),
    ("vllm:request_prompt_tokens", "Prompt tokens of a request.", lambda m: m.prompt),
    ("vllm:request_generation_tokens", "Tokens generated for a request.", lambda m: m.generation),
    ("vllm:request_prefill_kv_computed_tokens", "Prompt tokens computed here, not from cache.", lambda m: m.kv_computed),
)
_GATEWAY_HISTOGRAMS: tuple[tuple[str, str, Labels, Callable[[GatewayMetrics], Buckets]], ...] = (
    ("llm_d_epp_request_ttft_seconds", "Seconds to the first token.", {"streaming": "true"}, lambda m: m.ttft_s),
    ("llm_d_epp_request_streaming_tpot_seconds", "Mean seconds per output token.", {}, lambda m: m.tpot_s),
    ("llm_d_epp_request_input_tokens", "Prompt tokens of a request.", {}, lambda m: m.input_tokens),
    ("llm_d_epp_request_output_tokens", "Output tokens of a request.", {}, lambda m: m.output_tokens),
)


def replica_families(metrics: ReplicaMetrics, seen: Occupancy, model: str) -> Iterator[Metric]:
    """What one engine tells about itself."""
    labels = {"model_name": model, "engine": "0"}
    computed, cached, fetched = metrics.computed_tokens, metrics.cached_tokens, metrics.fetched_tokens
    waiting: dict[str, float] = {"capacity": seen.waiting, "deferred": seen.deferred}
    sources: dict[str, float] = {"local_compute": computed, "local_cache_hit": cached, "external_kv_transfer": fetched}
    endings: dict[str, float] = {"stop": metrics.stopped, "length": metrics.cut, "abort": 0, "error": 0}
    yield _gauge("vllm:num_requests_running", "Requests running.", labels, seen.running)
    yield _gauge("vllm:num_requests_waiting", "Requests waiting.", labels, seen.waiting + seen.deferred)
    yield _gauges("vllm:num_requests_waiting_by_reason", "Requests waiting, and for what.", labels, "reason", waiting)
    yield _gauge("vllm:kv_cache_usage_perc", "KV cache in use; 1 is all of it.", labels, seen.kv_usage)
    yield _counter("vllm:prompt_tokens", "Prompt tokens taken in.", labels, computed + cached + fetched)
    yield _counters("vllm:prompt_tokens_by_source", "Prompt tokens taken in, from where.", labels, "source", sources)
    yield _counter("vllm:generation_tokens", "Tokens generated.", labels, metrics.generated_tokens)
    yield _counters("vllm:request_success", "Requests finished, and how.", labels, "finished_reason", endings)
    for name, text, buckets in _REPLICA_HISTOGRAMS:
        yield _histogram(name, text, labels, buckets(metrics), _python_spelling)


def gateway_families(metrics: GatewayMetrics, model: str) -> Iterator[Metric]:
    """What the gateway tells about users' requests, and the sidecar beside it."""
    labels = {"model_name": model, "target_model_name": model, "fairness_id": "default-flow", "priority": "0"}
    yield _counter("llm_d_epp_request", "Requests that came in.", labels, metrics.let_in)
    yield _gauge("llm_d_epp_request_running", "Requests in flight.", labels, metrics.running)
    for name, text, more, buckets in _GATEWAY_HISTOGRAMS:
        yield _histogram(name, text, {**labels, **more}, buckets(metrics), _go_spelling)
    for name, text, count in (
        ("rejected", "Requests turned away at their first try.", metrics.turned_away_first),
        ("readmitted", "Requests let in at a later try.", metrics.readmitted),
    ):
        yield _counter(f"pdautoscaler_sidecar_{name}_requests", text, {"model_name": model}, count)


def _gauge(name: str, text: str, labels: Labels, value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[*labels])
    family.add_metric([*labels.values()], value)
    return family


def _gauges(name: str, text: str, labels: Labels, split: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[*labels, split])
    for part, value in values.items():
        family.add_metric([*labels.values(), part], value)
    return family


def _counter(name: str, text: str, labels: Labels, value: float) -> Metric:
    """The family adds `_total` to the name of each sample."""
    family = CounterMetricFamily(name, text, labels=[*labels])
    family.add_metric([*labels.values()], value)
    return family


def _counters(name: str, text: str, labels: Labels, split: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[*labels, split])
    for part, value in values.items():
        family.add_metric([*labels.values(), part], value)
    return family


def _histogram(name: str, text: str, labels: Labels, buckets: Buckets, spell: Callable[[float], str]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[*labels])
    edges = [*map(spell, buckets.edges), "+Inf"]
    family.add_metric([*labels.values()], list(zip(edges, accumulate(buckets.counts), strict=True)), buckets.total)
    return family


def _python_spelling(edge: float) -> str:
    return str(floatToGoString(edge))  # type: ignore[no-untyped-call]


def _go_spelling(edge: float) -> str:
    return _python_spelling(edge).removesuffix(".0")
