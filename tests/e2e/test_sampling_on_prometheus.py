"""Does the simulated controller see what a real Prometheus would show it?

A simulated fleet is scraped for ten minutes, and what was scraped is made a real server's data. At some instants both are asked:
`SampledSignals`, and the adapter's own queries, evaluated as of then: with all replicas there, with one just come and one just
gone, over one minute and two, with a gateway and without. Between them lies only what `increase` adds for the ends of the
window: a window of 60 s holds 45 s between its first and its last scrape, so counts are a third larger, and shares and means
the same, but for a pod that has just come.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from random import Random

import pytest
import requests

from autoscaler.adapters.prometheus import load_profiles, queries_for
from autoscaler.adapters.prometheus.answer import tabulate
from autoscaler.adapters.prometheus.assembly import signals_of
from autoscaler.adapters.prometheus.promql import deal, render
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.observation import Histogram, Known, Reading, Signals, Unknown
from autoscaler.policy.profiles import replica_profile
from autoscaler.ports import FleetScope, Managed
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.workload import Kind, Lengths, constant
from tests.adapters.prometheus_server import RealPrometheus, find_prometheus
from tests.e2e.recorded_day import BLOCK_S, _lines, backfill
from tests.fakes import merged, policy

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

KEY, SCRAPE_S = "demo/chat", 15.0
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)}
FLEET = FleetSpec(
    KEY, replica_profile("llama-3-8b-a100-tp1"), {Role.PREFILL: PoolSpec(3), Role.DECODE: PoolSpec(3)}, StartUp(40.0)
)
CHAT = Kind(Lengths(4_000, 0.8, 16_000), Lengths(200, 0.8, 1_000))
Instant = tuple[float, float, str | None]  # the second, the window's length, and the gateway
ASKED: list[Instant] = [(200, 60, "llm-d"), (260, 120, None), (325, 60, "llm-d"), (365, 60, None), (421, 120, "llm-d")]


@dataclass(frozen=True)
class Both:
    """What both say at one instant."""

    simulated: Signals
    real: Signals


def scope_of(run: VirtualRun, window_s: float, gateway: str | None) -> FleetScope:
    pods = {role: tuple(one.name for one in pool.replicas) for role, pool in run.engine.fleet().pools.items()}
    return FleetScope(KEY, "demo", "chat", "vllm", gateway, pods, window_s)


def asked(url: str, scope: FleetScope, at_s: float) -> Signals:
    """The adapter's own query for this fleet, as of an instant of the past."""
    (shard,) = deal([(scope, queries_for(scope.engine, scope.gateway, {}, load_profiles()))], 1_000)
    with requests.Session() as session:
        session.trust_env = False
        found = session.post(f"{url}/api/v1/query", {"query": render(shard), "time": repr(at_s)}, timeout=30).json()
    return signals_of(scope, shard.queries, "theirs", tabulate(found["data"]["result"]), None)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[Instant, Both]]:
    folder, binary = tmp_path_factory.mktemp("sampled"), find_prometheus()
    if binary is None or shutil.which("promtool") is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no prometheus and promtool on PATH: what is sampled was not held against a real server")
    begin_s = int(time.time()) // BLOCK_S * BLOCK_S - 2 * BLOCK_S
    run = VirtualRun(Scenario(FLEET, SLOS, SCRAPE_S), constant(Random(1), CHAT, 6.0, 600.0))
    fleet = Managed(KEY, "demo", "chat", policy(), gateway="llm-d")
    simulated: dict[Instant, Signals] = {}
    scopes: dict[Instant, FleetScope] = {}
    with (folder / "day.om").open("w", encoding="utf-8") as page:
        for second in range(600):
            run.advance(float(second))
            if second == 300:
                run.engine.scale(Role.PREFILL, 4)
                run.engine.scale(Role.DECODE, 2)
            if second % int(SCRAPE_S) == 0:
                page.writelines(_lines(run, fleet, begin_s + second))
            for at in ASKED:
                if at[0] == second:
                    scopes[at] = scope_of(run, *at[1:])
                    simulated[at] = merged(run.signals.read([scopes[at]], at[0]))[KEY]
        page.write("# EOF\n")
    backfill(folder / "day.om", folder / "data")
    server = RealPrometheus(binary, folder, [])
    server.start()
    yield {at: Both(simulated[at], asked(server.url, scopes[at], begin_s + at[0])) for at in ASKED}
    server.stop()


def shares(found: Histogram | Unknown) -> list[float]:
    """Of all that was observed the share below each edge, and the mean."""
    assert isinstance(found, Histogram), found
    assert found.total is not None
    return [*(count / found.samples for count in found.counts), found.total / found.samples]


def value(reading: Reading) -> float:
    assert isinstance(reading, Known), reading
    return reading.value


@pytest.mark.parametrize("at", ASKED)
def test_gauges_and_their_ages_are_the_same(both: Mapping[Instant, Both], at: Instant) -> None:
    one, other = both[at].simulated.gauges, both[at].real.gauges
    assert isinstance(one, Mapping)
    assert isinstance(other, Mapping)
    assert one.keys() == other.keys()
    for pod, gauges in one.items():
        assert astuple(other[pod]) == pytest.approx(astuple(gauges)), pod


@pytest.mark.parametrize("at", ASKED)
@pytest.mark.parametrize("role", Role)
def test_latencies_and_work_have_the_same_shares_and_means(both: Mapping[Instant, Both], at: Instant, role: Role) -> None:
    one, other = both[at].simulated.roles[role], both[at].real.roles[role]
    assert shares(other.latency) == pytest.approx(shares(one.latency), rel=0.02, abs=0.02)
    assert shares(other.service) == pytest.approx(shares(one.service), rel=0.02)
    assert value(other.tokens_per_request) == pytest.approx(value(one.tokens_per_request), rel=0.02)


@pytest.mark.parametrize("at", ASKED)
def test_so_is_what_is_offered_and_what_users_see(both: Mapping[Instant, Both], at: Instant) -> None:
    one, other = both[at].simulated.traffic, both[at].real.traffic
    assert value(other.offered_rps) == pytest.approx(value(one.offered_rps), rel=1e-6 if at[2] else 0.05)
    assert value(other.prompt_tokens) == pytest.approx(value(one.prompt_tokens), rel=0.02)
    if at[2]:
        assert shares(other.ttft) == pytest.approx(shares(one.ttft), rel=1e-6)


@pytest.mark.parametrize("at", ASKED)
def test_increase_counts_more_by_the_ends_of_the_window(both: Mapping[Instant, Both], at: Instant) -> None:
    one, other = (each.roles[Role.DECODE].latency for each in (both[at].simulated, both[at].real))
    assert isinstance(one, Histogram)
    assert isinstance(other, Histogram)
    assert other.samples / one.samples == pytest.approx(at[1] / (at[1] - SCRAPE_S), rel=0.02)
