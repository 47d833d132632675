"""Can a real scraper follow the fleet as replicas come and go?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from urllib import request as http
from urllib.error import URLError

import pytest

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.exporters import FleetLabels, RealTimeFleet
from autoscaler.simulator.trace_lines import TraceError
from autoscaler.simulator.workload import Kind, Lengths, Request, constant
from tests.simulator.small_fleet import engine


class Watch:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time_s = 1_000.0

    def __call__(self) -> float:
        return self.time_s


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    return tmp_path / "targets.json"


def real_time(watch: Watch, targets: Path, speed: float = 1.0) -> RealTimeFleet:
    requests = constant(Random(1), Kind(Lengths(100), Lengths(10)), 2.0)
    return RealTimeFleet(engine(requests), FleetLabels("demo", "llama"), targets, speed=speed, now=watch)


def pages(targets: Path) -> dict[str, str]:
    """Address by pod name, as Prometheus reads them."""
    return {entry["labels"]["pod"]: entry["targets"][0] for entry in json.loads(targets.read_text())}


def page(address: str, accept: str = "*/*") -> str:
    with http.urlopen(http.Request(f"http://{address}/metrics", headers={"Accept": accept}), timeout=5) as answer:
        return str(answer.read().decode())


def soon(condition: Callable[[], bool]) -> bool:
    """True as soon as it holds; False after 5 s, so a broken fleet fails and a slow machine does not."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_every_replica_and_the_gateway_have_a_page_with_the_labels_of_a_cluster(watch: Watch, targets: Path) -> None:
    with real_time(watch, targets):
        entries = json.loads(targets.read_text())
        labels = [entry["labels"] for entry in entries]
        assert labels == [
            {"namespace": "demo", "pod": "decode-0", "job": "vllm"},
            {"namespace": "demo", "pod": "gateway", "job": "llm-d-epp"},
            {"namespace": "demo", "pod": "prefill-0", "job": "vllm"},
        ]
        assert all(entry["targets"][0].startswith("127.0.0.1:") for entry in entries)
        assert 'vllm:num_requests_running{engine="0",model_name="llama"}' in page(pages(targets)["prefill-0"])


def test_names_keep_their_colon_whatever_format_prometheus_prefers(watch: Watch, targets: Path) -> None:
    prometheus_2_42 = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    with real_time(watch, targets):
        assert "\nvllm:num_requests_running{" in page(pages(targets)["prefill-0"], prometheus_2_42)


def test_a_page_is_as_fresh_as_the_clock(watch: Watch, targets: Path) -> None:
    with real_time(watch, targets, speed=10.0):
        total = "llm_d_epp_request_total{"

        def arrived() -> float:
            return next(
                float(line.split()[-1]) for line in page(pages(targets)["gateway"]).splitlines() if line.startswith(total)
            )

        assert arrived() == 0
        watch.time_s += 10.0
        assert arrived() == pytest.approx(200, abs=60)


def test_pages_come_and_go_with_their_replicas(watch: Watch, targets: Path) -> None:
    with real_time(watch, targets) as fleet:
        assert fleet.scale(Role.DECODE, expected=1, replicas=2)
        assert "decode-1" not in pages(targets)
        watch.time_s += 31.0
        assert soon(lambda: "decode-1" in pages(targets))
        address = pages(targets)["decode-1"]
        assert "vllm:kv_cache_usage_perc" in page(address)
        assert fleet.scale(Role.DECODE, expected=2, replicas=1)
        watch.time_s += 30.0
        assert soon(lambda: "decode-1" not in pages(targets))
        with pytest.raises(URLError):
            page(address)


def test_scaling_from_a_size_that_is_not_changes_nothing(watch: Watch, targets: Path) -> None:
    with real_time(watch, targets) as fleet:
        assert not fleet.scale(Role.PREFILL, expected=3, replicas=5)
        seen, now = fleet.fleet()
    assert (seen.pools[Role.PREFILL].desired, now) == (1, 0.0)


def test_the_fleet_and_its_time_follow_the_clock(watch: Watch, targets: Path) -> None:
    with real_time(watch, targets, speed=2.0) as fleet:
        fleet.scale(Role.DECODE, expected=1, replicas=2)
        watch.time_s += 10.0
        seen, now = fleet.fleet()
        assert now == 20.0
        assert seen.pools[Role.DECODE].replicas[1].phase is Phase.STARTING
        watch.time_s -= 5.0  # a clock that steps back holds the fleet still
        assert fleet.fleet()[1] == 20.0


def test_a_source_that_breaks_ends_the_arrivals_but_not_the_fleet(watch: Watch, targets: Path) -> None:
    def breaking() -> Iterator[Request]:
        yield Request(0, 1.0, 100, 0, 10)
        raise TraceError("trace.csv line 3: no good")

    with RealTimeFleet(engine(breaking()), FleetLabels("demo", "llama"), targets, now=watch) as fleet:
        assert fleet.fault is None
        watch.time_s += 10.0
        seen, now = fleet.fleet()
        assert str(fleet.fault) == "trace.csv line 3: no good"
        watch.time_s += 10.0
        assert fleet.fleet() == (seen, now + 19.0)
        assert 'finished_reason="stop",model_name="llama"} 1.0' in page(pages(targets)["decode-0"])


def test_no_page_is_left_open(watch: Watch, targets: Path) -> None:
    with real_time(watch, targets):
        addresses = list(pages(targets).values())
    for address in addresses:
        with pytest.raises(URLError):
            page(address)
