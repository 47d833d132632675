"""How full is this engine now, by its own word?

What Prometheus tells is 5 to 15 s old; a verdict on a request may rest on nothing older than 2 s. So where sidecars judge, the
leader reads each engine's own page of metrics once a second. The numbers are those of `pods` in the metric profiles
(autoscaler/metric_profiles), where each choice has its reason: waiting for this pod's own work or memory, running, KV in use,
and deferred for another role's sake.

    ranks    data-parallel ranks have requests of their own: summed. What several processes tell of the same: the largest counts
    KV use   that of the fullest rank, which is the one that preempts
    names    older ones after newer ones; those of the first row that is told at all count, and are added to each other

An engine that does not tell all of waiting, running and KV tells nothing: half of it is no picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from prometheus_client.samples import Sample

from autoscaler.adapters.engines.client import Engine, EngineFault, FaultKind
from autoscaler.adapters.engines.exposition import SAME, page, plain, samples
from autoscaler.adapters.engines.queues import TELLINGS
from autoscaler.core.fleet import Replica
from autoscaler.core.observation import Gauges
from autoscaler.ports import Fault, Managed


@dataclass(frozen=True, slots=True)
class Told:
    """One metric, and the labels that its samples must have; "" also where there is no such label."""

    name: str
    having: Mapping[str, str] = field(default_factory=dict)


Rows = Sequence[Sequence[Told]]  # of which the first that is told counts


@dataclass(frozen=True, slots=True)
class Telling:
    """What tells each of the numbers in `Gauges`. Nobody is deferred where none is told."""

    waiting: Rows
    running: Rows
    kv_usage: Rows
    deferred: Rows = ()


ENGINE_ITSELF = {"server": ""}  # a router that tells the same names over again adds that label
REASON = "vllm:num_requests_waiting_by_reason"

GAUGES: Mapping[str, Telling] = {
    "vllm": Telling(
        waiting=[[Told(REASON, {"reason": "capacity"})], [Told("vllm:num_requests_waiting", ENGINE_ITSELF)]],
        running=[[Told("vllm:num_requests_running", ENGINE_ITSELF)]],
        kv_usage=[[Told("vllm:kv_cache_usage_perc")], [Told("vllm:gpu_cache_usage_perc")]],
        deferred=[[Told(REASON, {"reason": "deferred"})]],
    ),
    "sglang": Telling(
        waiting=[[Told("sglang:num_queue_reqs"), Told("sglang:num_decode_prealloc_queue_reqs")]],
        running=[[Told("sglang:num_running_reqs")]],
        kv_usage=[[Told("sglang:token_usage")]],
        deferred=[[Told("sglang:num_prefill_inflight_queue_reqs"), Told("sglang:num_decode_transfer_queue_reqs")]],
    ),
    "trtllm": Telling(
        waiting=[[Told("trtllm_num_requests_waiting")]],
        running=[[Told("trtllm_num_requests_running")]],
        kv_usage=[[Told("trtllm_kv_cache_utilization")]],
    ),
}


class EngineGauges:
    """The `Engines` door: over HTTP, one request at a time and replica."""

    def gauges(self, fleet: Managed, replica: Replica, within_s: float) -> Gauges | Fault:
        """What the replica's engine tells now, within so many seconds per path that it may tell at."""
        host, port = _place(replica.address, fleet.engine_port)
        found = read(Engine(fleet.engine, host, port), within_s)
        return Fault("engine", found.detail) if isinstance(found, EngineFault) else found


def read(engine: Engine, within_s: float) -> Gauges | EngineFault:
    """An engine's gauges by its own page."""
    telling = GAUGES.get(engine.profile)
    if telling is None:
        return engine.fault(FaultKind.ABSENT, f"nobody knows which metrics of {engine.profile!r} tell how full it is")
    body = page(engine, TELLINGS[engine.profile].paths, within_s)
    if isinstance(body, EngineFault):
        return body
    try:
        found = gauges(body, telling)
    except ValueError as error:
        return engine.fault(FaultKind.MALFORMED, f"its metrics: {error}")
    return found or engine.fault(FaultKind.MALFORMED, "its metrics do not tell what waits, what runs and how full its KV is")


def gauges(exposition: bytes, telling: Telling) -> Gauges | None:
    """What a page in the text format tells, None where that is not all. ValueError for a line that cannot be read."""
    rows = (telling.waiting, telling.running, telling.kv_usage, telling.deferred)
    wanted = {plain(told.name) for row in rows for names in row for told in names}
    found: dict[str, list[Sample]] = {}
    for sample in samples(exposition, wanted):
        found.setdefault(plain(sample.name), []).append(sample)
    waiting, running, deferred = (_requests(found, row) for row in (telling.waiting, telling.running, telling.deferred))
    kv_usage = max((sample.value for sample in _first(found, telling.kv_usage)), default=None)
    if waiting is None or running is None or kv_usage is None:
        return None
    return Gauges.told(waiting, running, kv_usage, 0.0, deferred or 0.0)


def _requests(found: Mapping[str, Sequence[Sample]], rows: Rows) -> float | None:
    """The sum over metrics and ranks of the first row that is told; None where none is."""
    ranks: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for sample in _first(found, rows):
        rank = plain(sample.name), frozenset((label, text) for label, text in sample.labels.items() if label not in SAME)
        ranks[rank] = max(ranks.get(rank, 0.0), sample.value)
    return math.fsum(ranks.values()) if ranks else None


def _first(found: Mapping[str, Sequence[Sample]], rows: Rows) -> Sequence[Sample]:
    told = ([one for name in row for one in found.get(plain(name.name), ()) if _has(one, name.having)] for row in rows)
    return next(filter(None, told), [])


def _has(sample: Sample, labels: Mapping[str, str]) -> bool:
    return all(sample.labels.get(label, "") == value for label, value in labels.items())


def _place(address: str, usual_port: int) -> tuple[str, int]:
    """IP address and port of "IP" or "IP:PORT"."""
    try:
        return str(ip_address(address)), usual_port
    except ValueError:
        host, _, port = address.rpartition(":")
        return host.removeprefix("[").removesuffix("]"), int(port) if port.isdecimal() else usual_port
