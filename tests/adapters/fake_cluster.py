"""Which pods does the Prometheus of the metric profiles' tests see?

The pages of tests/contracts/expositions and engines of prometheus_client. A pod moves on by one step per scrape, so means, shares
and quotients of rates are exact, and rates are known up to the scrapes in the window.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoscaler.adapters.prometheus import Endpoint, PrometheusSignals
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Reading, Signals, Unknown
from autoscaler.ports import FleetScope
from tests.adapters.fake_engines import Engine, Queues, Step
from tests.adapters.fake_pages import negotiated, page
from tests.adapters.prometheus_server import Exporters, RealPrometheus
from tests.fakes import merged

WINDOW_S = 5.0  # five scrapes: the shortest that gives a rate at every moment
QWEN, LLAMA = "Qwen/Qwen3-235B-A22B", "meta-llama/Llama-3.1-70B-Instruct"


def scope(key: str, model: str, engine: str, prefill: tuple[str, ...], decode: tuple[str, ...], **changes: Any) -> FleetScope:
    plain = FleetScope(f"prod/{key}", "prod", model, engine, None, {Role.PREFILL: prefill, Role.DECODE: decode}, WINDOW_S)
    return replace(plain, **changes)


SGLANG = scope("sglang", QWEN, "sglang", ("sglang-p-0",), ("sglang-d-0",), gateway="smg")
OLDER = scope("older", "older", "sglang", ("sglang-older-p-0",), ())
TRTLLM = scope("trtllm", "Qwen/Qwen3-32B", "trtllm", ("trtllm-p-0",), ("trtllm-d-0",), gateway="dynamo")
VLLM = scope("vllm", LLAMA, "vllm", ("vllm-p-0",), ("vllm-d-0",), gateway="llm-d")
FLIP = scope("flip", "flip", "vllm", ("flip-p-0",), ("flip-d-0", "flip-x-0"))
FLIPPED = replace(FLIP, pods={Role.PREFILL: ("flip-p-0", "flip-x-0"), Role.DECODE: ("flip-d-0",)})
RESPELT = scope("respelt", "respelt", "vllm", ("respelt-p-0",), ())

PREFILL = Step(completed=10, ttft_s=[0.2] * 10, prefill_s=0.125, prompt_tokens=1500, computed_tokens=1200, generated_tokens=1)
DECODE = Step(completed=20, tpot_s=[0.02] * 20, prompt_tokens=1500, computed_tokens=1, generated_tokens=210)


@dataclass(frozen=True)
class Cluster:
    """Pods, and the Prometheus that scrapes them. `flipping` changes its role and `respelling` its names when told to."""

    exporters: Exporters
    url: str
    signals: PrometheusSignals
    flipping: Engine
    respelling: Engine

    def read(self, scope: FleetScope) -> Signals:
        return merged(self.signals.read([scope], time.time()))[scope.key]

    def scrapes(self, more: int) -> None:
        """Wait for so many more scrapes of all pods."""
        self.exporters.wait_for_scrapes(max(self.exporters.scrapes.values()) + more)


def open_cluster(binary: str, folder: Path) -> Iterator[Cluster]:
    """The pods and their Prometheus, scraped for as long as a rate needs; ends both when it is asked to go on."""
    exporters = Exporters()
    for name in ("sglang-p-0", "sglang-d-0", "sglang-older-p-0", "trtllm-p-0", "trtllm-d-0"):
        file = name.removesuffix("-0").replace("-p", "-prefill").replace("-d", "-decode")
        exporters.add_page(name, page(file), namespace="prod", pod=name)
    for name in ("smg", "dynamo-frontend-0", "dynamo-frontend-1", "llm-d"):
        exporters.add_page(name, page(name), namespace="prod", pod=f"{name}-pod")
    exporters.add_page("production-stack", page("production-stack"), namespace="prod", pod="vllm-p-0")
    prefill = Engine(LLAMA, PREFILL, [Queues(waiting=2, deferred=5, running=3, kv_usage=0.4), Queues(running=4, kv_usage=0.7)])
    exporters.add_page("vllm-p-0", negotiated(prefill), namespace="prod", pod="vllm-p-0")
    flipping, respelling = Engine("flip", DECODE, [Queues(running=30)]), Engine("respelt", PREFILL, [Queues(running=7)])
    plain = {
        "vllm-d-0": Engine(LLAMA, DECODE, [Queues(running=30, kv_usage=0.5)]),
        "flip-p-0": Engine("flip", PREFILL, [Queues(running=1)]),
        "flip-d-0": Engine("flip", replace(DECODE, generated_tokens=100), [Queues(running=20)]),
        "flip-x-0": flipping,
        "respelt-p-0": respelling,
    }
    for name, engine in plain.items():
        exporters.add(name, engine.registry, engine.step, namespace="prod", pod=name)
    exporters.add_page("dcgm", page("dcgm"))
    server = RealPrometheus(binary, folder, exporters.targets)
    server.start()
    exporters.wait_for_scrapes(int(WINDOW_S) + 2)
    yield Cluster(exporters, server.url, PrometheusSignals(Endpoint(server.url)), flipping, respelling)
    server.stop()
    exporters.close()


def pod(signals: Signals, name: str) -> Gauges:
    assert not isinstance(signals.gauges, Unknown), signals.gauges
    assert 0 <= signals.gauges[name].age_s < 10
    return replace(signals.gauges[name], age_s=0.0)


def seen(told: Histogram | Unknown) -> Histogram:
    assert isinstance(told, Histogram), told
    return told


def known(reading: Reading) -> float:
    assert isinstance(reading, Known), reading
    assert reading.age_s < 10
    return reading.value


def gap(reading: object) -> Gap:
    assert isinstance(reading, Unknown), reading
    return reading.gap
