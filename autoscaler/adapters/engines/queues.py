"""Where may a request be inside an engine, and which of its metrics tell?

A table, by the engine's metric profile and the role it is about to give up (reference/engines.md B.3, C.1, C.2, C.5). Of each
number all names that it has had are listed, the newest first; `:` and `_` after the prefix are the same, since exporters that
heed the rules of OpenMetrics change the one into the other.

    owed   every version that can serve the role tells these. One that is missing may have requests in it: busy
    more   counted where they are told. Some versions have no such queue; the other role's are 0 or missing
    held   the share of KV memory in use, where requests leave KV behind that another engine is still to fetch, and no
           queue counts those

vLLM's prefill answers when the prompt is computed, and keeps its KV until decode has pulled it or its lease is over: then
nothing runs, nothing waits, and yet a request would be lost. Blocks that are only cached count as free, so the share is 0
when all is handed over. TensorRT-LLM is treated alike, for nothing of it tells who has fetched what. SGLang counts what it
computed and nobody has fetched as its inflight queue.

vLLM's waiting requests include those that wait for KV to arrive. Old versions know one number for all reasons; that is used
where there are both. Versions before V1 also swapped requests out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.core.fleet import Role

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Queues:
    """What tells of the requests in an engine of one role."""

    owed: tuple[Names, ...]
    more: tuple[Names, ...] = ()
    held: Names = ()


@dataclass(frozen=True, slots=True)
class Telling:
    """Where an engine tells, the usual path first (the next one is for where that is 404), and what, by role."""

    paths: tuple[str, ...]
    queues: Mapping[Role, Queues]


# A worker of Dynamo tells its engine's metrics and what it carries itself, requests that its engine has not got yet.
CARRIED: Names = ("dynamo_component_inflight_requests",)

VLLM = (("vllm:num_requests_running",), ("vllm:num_requests_waiting", "vllm:num_requests_waiting_by_reason"))
VLLM_MORE = (("vllm:num_requests_swapped",), CARRIED)

SGLANG = (("sglang:num_running_reqs",), ("sglang:num_queue_reqs",))
SGLANG_ROLES: Mapping[Role, tuple[Names, ...]] = {
    Role.PREFILL: (
        ("sglang:num_prefill_bootstrap_queue_reqs", "sglang:num_prefill_prealloc_queue_reqs"),
        ("sglang:num_prefill_inflight_queue_reqs",),
    ),
    Role.DECODE: (("sglang:num_decode_prealloc_queue_reqs",), ("sglang:num_decode_transfer_queue_reqs",)),
}
SGLANG_MORE = (
    *(("sglang:num_retracted_reqs",), ("sglang:num_paused_reqs",), ("sglang:num_grammar_queue_reqs",), CARRIED),
    *(names for queues in SGLANG_ROLES.values() for names in queues),
)

TRTLLM = (("trtllm_num_requests_running",), ("trtllm_num_requests_waiting",))
TRTLLM_MORE = (("trtllm_num_paused_requests",), CARRIED)

TELLINGS: Mapping[str, Telling] = {
    "vllm": Telling(
        ("/metrics",),
        {
            Role.PREFILL: Queues(VLLM, VLLM_MORE, held=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")),
            Role.DECODE: Queues(VLLM, VLLM_MORE),
        },
    ),
    "sglang": Telling(
        ("/metrics",),
        {
            role: Queues((*SGLANG, *owed), tuple(names for names in SGLANG_MORE if names not in owed))
            for role, owed in SGLANG_ROLES.items()
        },
    ),
    # trtllm-serve tells of iterations, in JSON, at /metrics; a worker of Dynamo has its metrics there.
    "trtllm": Telling(
        ("/prometheus/metrics", "/metrics"),
        {
            Role.PREFILL: Queues(TRTLLM, TRTLLM_MORE, held=("trtllm_kv_cache_utilization",)),
            Role.DECODE: Queues(TRTLLM, TRTLLM_MORE),
        },
    ),
}
