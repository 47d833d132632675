"""What do a vLLM engine and an llm-d gateway look like to a scraper? Their exact metric names, with loads a test can name.

Every scrape is one step, and every step adds the same: so many requests, so long, with so many tokens. Means and shares
over any window are then exact, and counts are a step's times the scrapes in the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from autoscaler.simulator.metrics import GATEWAY_TTFT_EDGES_S, REQUEST_TIME_EDGES_S, TOKEN_TIME_EDGES_S, TTFT_EDGES_S

TOKEN_EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclass(frozen=True)
class Step:
    """What one scrape interval brings to one engine."""

    completed: int = 0
    ttft_s: Sequence[float] = ()
    tpot_s: Sequence[float] = ()
    prefill_s: float = 0.0
    prompt_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0
    more_waiting: int = 0


@dataclass(frozen=True)
class Names:
    """What one version of vLLM calls things; None for what it does not have."""

    waiting_by_reason: str | None = "vllm:num_requests_waiting_by_reason"
    kv_usage: str = "vllm:kv_cache_usage_perc"
    tpot: str = "vllm:request_time_per_output_token_seconds"
    second_tpot: str | None = "vllm:inter_token_latency_seconds"


SECOND_TPOT_S = 79.0  # what the second choice of TPOT shows where there is a first: told apart at a glance
OLDER = Names(None, "vllm:gpu_cache_usage_perc", "vllm:time_per_output_token_seconds", None)


@dataclass(frozen=True)
class Queues:
    """One data-parallel rank at rest: requests waiting for capacity, deferred for another reason, running; KV in use."""

    waiting: int = 0
    deferred: int = 0
    running: int = 0
    kv_usage: float = 0.0


class Engine:
    """The metrics of one pod of one or more ranks; what a step brings goes to the first."""

    def __init__(self, model: str, step: Step, ranks: Sequence[Queues], names: Names = Names()) -> None:
        self.registry, self._step, self._model = CollectorRegistry(), step, model
        self._waiting = self._gauge("vllm:num_requests_waiting", [rank.waiting + rank.deferred for rank in ranks])
        self._gauge("vllm:num_requests_running", [rank.running for rank in ranks])
        self._gauge(names.kv_usage, [rank.kv_usage for rank in ranks])
        if names.waiting_by_reason:
            by_reason = Gauge(names.waiting_by_reason, "-", ["model_name", "engine", "reason"], registry=self.registry)
            for number, rank in enumerate(ranks):
                by_reason.labels(model, number, "capacity").set(rank.waiting)
                by_reason.labels(model, number, "deferred").set(rank.deferred)
        success = Counter("vllm:request_success", "-", ["model_name", "engine", "finished_reason"], registry=self.registry)
        self._stopped, self._cut = success.labels(model, 0, "stop"), success.labels(model, 0, "length")
        self._ttft = self._histogram("vllm:time_to_first_token_seconds", TTFT_EDGES_S)
        self._prefill = self._histogram("vllm:request_prefill_time_seconds", REQUEST_TIME_EDGES_S)
        self._tpot = self._histogram(names.tpot, TOKEN_TIME_EDGES_S)
        self._second = self._histogram(names.second_tpot, TOKEN_TIME_EDGES_S) if names.second_tpot else None
        self._prompt = self._histogram("vllm:request_prompt_tokens", TOKEN_EDGES)
        self._computed = self._histogram("vllm:request_prefill_kv_computed_tokens", TOKEN_EDGES)
        self._generated = self._histogram("vllm:request_generation_tokens", TOKEN_EDGES)

    def works_as(self, step: Step) -> None:
        """From now on a scrape interval brings this: the pod has changed its role."""
        self._step = step

    def step(self) -> None:
        """One scrape interval later."""
        step = self._step
        self._waiting.inc(step.more_waiting)
        self._stopped.inc(step.completed // 2)
        self._cut.inc(step.completed - step.completed // 2)
        for value in step.ttft_s:
            self._ttft.observe(value)
        for value in step.tpot_s:
            self._tpot.observe(value)
            if self._second:
                self._second.observe(SECOND_TPOT_S)
        for _ in range(step.completed):
            self._prefill.observe(step.prefill_s)
            self._prompt.observe(step.prompt_tokens)
            self._computed.observe(step.computed_tokens)
            self._generated.observe(step.generated_tokens)

    def _gauge(self, name: str, values: Sequence[float]) -> Gauge:
        """A gauge with one value per rank; answers the first rank's."""
        gauge = Gauge(name, "-", ["model_name", "engine"], registry=self.registry)
        for number, value in enumerate(values):
            gauge.labels(self._model, number).set(value)
        return gauge.labels(self._model, 0)

    def _histogram(self, name: str, edges: Sequence[float]) -> Histogram:
        return Histogram(name, "-", ["model_name", "engine"], buckets=edges, registry=self.registry).labels(self._model, 0)


class Gateway:
    """The metrics of one endpoint picker for one model: per scrape, `arrivals` requests with these times to first token, none
    of them held or sent past prefill.
    """

    def __init__(self, model: str, arrivals: int, ttft_s: Sequence[float], unstreamed_s: Sequence[float]) -> None:
        self.registry = CollectorRegistry()
        self._arrivals, self._ttft_s, self._unstreamed_s = arrivals, ttft_s, unstreamed_s
        labels = {"model_name": model, "target_model_name": model, "fairness_id": "default", "priority": "0"}
        self._requests = Counter("llm_d_epp_request", "-", list(labels), registry=self.registry).labels(**labels)
        names = [*labels, "streaming"]
        ttft = Histogram("llm_d_epp_request_ttft_seconds", "-", names, buckets=GATEWAY_TTFT_EDGES_S, registry=self.registry)
        self._streamed = ttft.labels(**labels, streaming="true")
        self._unstreamed = ttft.labels(**labels, streaming="false")
        held = Gauge("llm_d_epp_flow_control_queue_size", "-", [*labels, "inference_pool"], registry=self.registry)
        held.labels(**labels, inference_pool="pool").set(0)
        decided = Counter("llm_d_epp_disagg_decision", "-", ["model_name", "decision_type"], registry=self.registry)
        self._through_both = decided.labels(model, "prefill-decode")

    def step(self) -> None:
        """One scrape interval later."""
        self._requests.inc(self._arrivals)
        self._through_both.inc(self._arrivals)
        for value in self._ttft_s:
            self._streamed.observe(value)
        for value in self._unstreamed_s:
            self._unstreamed.observe(value)


class Frozen:
    """An exporter that times its samples itself, long ago: what a pushed or federated engine looks like after its death."""

    def __init__(self, model: str, at_s: float) -> None:
        self.registry = CollectorRegistry()
        self._model, self._at_s = model, at_s
        self.registry.register(self)

    def step(self) -> None:
        """Nothing happens any more."""

    def collect(self) -> list[Metric]:
        """The gauges that were true once."""
        families: list[Metric] = []
        for name, value in (("num_requests_waiting", 4), ("num_requests_running", 9), ("kv_cache_usage_perc", 0.5)):
            family = GaugeMetricFamily(f"vllm:{name}", "-", labels=["model_name", "engine"])
            family.add_metric([self._model, "0"], value, timestamp=self._at_s)
            families.append(family)
        return families
