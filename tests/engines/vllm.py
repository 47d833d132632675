"""How does an engine speak as vLLM with NIXL? (reference/engines.md B.1, B.3, C.1)

The decode leg comes after the prefill leg's answer and brings its `kv_transfer_params` back: where the KV lies. The prefill
engine shows it in `kv_cache_usage_perc` until it is fetched or its lease is over (`nixl_num_kv_expired_reqs_total`), while
`num_requests_running` is 0 already. There is no role switch: /v1/pd_role is 404. With kv_role kv_both (`Launch.any_leg`)
either kind of leg is served, whatever the pod's label says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from autoscaler.core.fleet import Role
from autoscaler.simulator.exposition import replica_families
from autoscaler.simulator.metrics import Occupancy, ReplicaMetrics
from tests.engines.contract import Body, Load
from tests.engines.engine import StubEngine
from tests.engines.ledger import Leg, Stage
from tests.engines.loopback import NOT_FOUND, Answer, Request, told

MAX_MODEL_LEN = 16384
BLOCK_TOKENS = 16


class Vllm:
    """One engine's vLLM side."""

    GENERATE: tuple[str, ...] = ("/v1/completions", "/v1/chat/completions")
    TOGETHER = False
    PATIENCE_S = 0.0  # --shutdown-timeout: by default what runs is aborted at SIGTERM
    HELD_IS_WORK = False

    def __init__(self, engine: StubEngine) -> None:
        self._engine = engine
        self._metrics = [ReplicaMetrics(MAX_MODEL_LEN) for _ in range(engine.launch.dp_ranks)]

    @staticmethod
    def prefill_body(request: str, prefill: StubEngine, prompt_tokens: int, output_tokens: int) -> Body:
        """One token, and the KV is to be kept."""
        body = {"model": prefill.launch.model, "prompt": [1] * prompt_tokens, "max_tokens": 1}
        return body | {"kv_transfer_params": {"do_remote_decode": True, "remote_request_id": request}}

    @staticmethod
    def decode_body(body: Body, answer: Body, output_tokens: int) -> Body:
        """The same with the place of the KV, as the prefill leg's answer has it."""
        return body | {"max_tokens": output_tokens, "kv_transfer_params": answer["kv_transfer_params"]}

    def leg(self, body: Body) -> Leg | Answer:
        """By kv_transfer_params; without them the whole request."""
        prompt, transfer = body.get("prompt"), body.get("kv_transfer_params") or {}
        sizes = len(prompt) if isinstance(prompt, list) else 1, body.get("max_tokens") or 1
        request = transfer.get("remote_request_id") or f"{self._engine.name}/{self._engine.taken}"
        if transfer.get("do_remote_decode"):
            return Leg(request, Role.PREFILL, *sizes, keeps_kv=True)
        if transfer.get("do_remote_prefill"):
            return Leg(request, Role.DECODE, *sizes, source=(transfer["remote_host"], transfer["remote_port"]))
        return Leg(request, None, *sizes)

    def done(self, leg: Leg) -> None:
        """Into the counters that the simulated fleet has, too."""
        metrics, takes_s = self._metrics[leg.rank], self._engine.takes_s
        if leg.keeps_kv or leg.source is None:
            metrics.prefilled(leg.prompt_tokens, 0, takes_s, takes_s)
        else:
            metrics.joined(leg.prompt_tokens, takes_s)
        if not leg.keeps_kv:
            metrics.generated_tokens += leg.output_tokens
            metrics.itl_s.observe(takes_s / leg.output_tokens, leg.output_tokens)
            metrics.finished(leg.prompt_tokens, leg.output_tokens, takes_s / leg.output_tokens)

    def reply(self, leg: Leg) -> Answer:
        """What /v1/completions says at the end."""
        usage = {"prompt_tokens": leg.prompt_tokens, "completion_tokens": leg.output_tokens}
        place: Body = {"remote_engine_id": self._engine.name, "remote_block_ids": [[0]], "remote_host": self._engine.address[0]}
        place |= {"remote_port": self._engine.port, "remote_request_id": leg.request, "do_remote_prefill": True}
        choice = {"index": 0, "text": "x", "finish_reason": "length"}
        answer = {"id": leg.request, "object": "text_completion", "choices": [choice], "usage": usage}
        return told(answer | {"kv_transfer_params": place if leg.keeps_kv else None})

    def answer(self, request: Request) -> Answer | None:
        """Nothing else is asked of it."""
        return NOT_FOUND

    def families(self, loads: list[Load]) -> Iterator[Metric]:
        """The simulated fleet's names and edges, once per DP rank, and what only NIXL and the configuration tell."""
        launch = self._engine.launch
        ranks = [
            replica_families(metrics, _occupancy(load, launch.kv_tokens), launch.model)
            for metrics, load in zip(self._metrics, loads, strict=True)
        ]
        for families in zip(*ranks, strict=True):
            yield _of_all_ranks(families)
        labels = {"model_name": launch.model, "engine": "0"}
        expired = CounterMetricFamily("vllm:nixl_num_kv_expired_reqs", "Requests whose KV nobody fetched.", labels=[*labels])
        expired.add_metric([*labels.values()], self._engine.expired)
        yield expired
        labels |= {"block_size": str(BLOCK_TOKENS), "num_gpu_blocks": str(launch.kv_tokens // BLOCK_TOKENS)}
        cache = GaugeMetricFamily("vllm:cache_config_info", "The KV cache as configured.", labels=[*labels])
        cache.add_metric([*labels.values()], 1)
        yield cache


def _occupancy(load: Load, kv_tokens: int) -> Occupancy:
    """As vLLM counts: a request whose KV is on its way waits, deferred; KV that is held is in use, and no request."""
    stages = load.stages
    waiting = stages[Stage.WAITING] + stages[Stage.PREALLOCATING]
    return Occupancy(stages[Stage.RUNNING], waiting, stages[Stage.FETCHING], load.kv_tokens / kv_tokens)


def _of_all_ranks(families: Iterable[Metric]) -> Metric:
    """One family with the samples of every DP rank, told apart by the label `engine`."""
    first, *others = families
    for rank, family in enumerate(others, 1):
        first.samples += [sample._replace(labels={**sample.labels, "engine": str(rank)}) for sample in family.samples]
    return first
