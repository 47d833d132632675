"""Does a controller that begins anew forecast by what a real Prometheus remembers?

Two hours of a fleet's pages are put into a real Prometheus, up to two minutes from now. A controller that has seen nothing
ticks over the last of them.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.core import Metric

from autoscaler.adapters.clock import SystemClock
from autoscaler.adapters.prometheus import Endpoint, PrometheusPast, PrometheusSignals
from autoscaler.controller import Controller
from autoscaler.core.decide import HITS, REQUESTS
from autoscaler.core.fleet import Phase, Pool, Replica, Role
from autoscaler.core.forecast import Forecast, forecast
from autoscaler.core.reason import Reason
from autoscaler.errands import Daemons, Pace
from autoscaler.ports import Managed
from autoscaler.roster import FixedRoster, managed
from tests.adapters.fake_engines import Engine, Gateway, Queues, Step
from tests.adapters.prometheus_server import RealPrometheus, find_prometheus, wait_until
from tests.e2e.recorded_day import backfill
from tests.fakes import FakeFleet, fleet
from tests.policy_documents import policy

pytestmark = [pytest.mark.prometheus, pytest.mark.slow, pytest.mark.alone]

SCRAPE_S, PAST_S, TO_COME_S = 15, 7_200, 120
PREFILL = Step(completed=30, prompt_tokens=1000, computed_tokens=800, generated_tokens=1)
DECODE = Step(completed=30, prompt_tokens=1000, computed_tokens=1, generated_tokens=200)
USED = ("llm_d_epp_request", "vllm:request_", "vllm:num_requests_", "vllm:kv_cache")


def pages(now_s: int) -> Iterator[str]:
    """What was scraped: 6 to 10 requests/s in waves of 40 minutes, by a gateway and engines: one has taken another's
    place ten minutes ago, whose answers were twice as long.
    """
    gateway = Gateway("llama", 0, [], [])
    prefill, decode = Engine("llama", PREFILL, [Queues(running=1)]), Engine("llama", DECODE, [Queues(running=9)])
    gone = Engine("llama", replace(DECODE, generated_tokens=400), [Queues(running=9)])
    for at_s in range(now_s - PAST_S, now_s + TO_COME_S, SCRAPE_S):
        gateway._arrivals = round(SCRAPE_S * (8 + 2 * math.sin(at_s / 382)))
        sources: dict[str, Gateway | Engine] = {"gateway": gateway, "p-0": prefill}
        sources |= {"d-0": gone} if at_s < now_s - 600 else {"d-1": decode}
        for pod, source in sources.items():
            source.step()
            yield from page(source.registry.collect(), at_s, pod)
    yield "# EOF\n"


def page(families: Iterable[Metric], at_s: int, pod: str) -> Iterator[str]:
    for family in families:
        for sample in family.samples if family.name.startswith(USED) else ():
            labels = {**sample.labels, "namespace": "default", "pod": pod}
            told = ",".join(f'{name}="{value}"' for name, value in labels.items())
            yield f"{sample.name}{{{told}}} {float(sample.value)!r} {at_s}\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RealPrometheus]:
    binary = find_prometheus()
    if binary is None or shutil.which("promtool") is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no prometheus and promtool on PATH: no restart was tested (Debian: apt-get install prometheus)")
    with (tmp_path / "past.om").open("w", encoding="utf-8") as file:
        file.writelines(pages(int(time.time())))
    backfill(tmp_path / "past.om", tmp_path / "data")
    server = RealPrometheus(binary, tmp_path, [])
    server.start()
    yield server
    server.stop()


class Begun:
    """A controller that has just begun, with its errands in threads."""

    def __init__(self, url: str) -> None:
        self.managed: Managed = replace(managed(policy(gateway="llm-d")), key="default/chat")
        pools = [
            Pool(role, 1, (Replica(pod, Phase.SERVING, 0.0),)) for role, pod in ((Role.PREFILL, "p-0"), (Role.DECODE, "d-1"))
        ]
        doors = SystemClock(), PrometheusSignals(Endpoint(url)), FakeFleet(fleet(*pools, key=self.managed.key))
        pace = Pace(Daemons(), spare=Daemons(1))
        self.controller = Controller(FixedRoster([self.managed]), *doors, pace=pace, past=PrometheusPast(Endpoint(url)))

    def forecasts(self) -> dict[str, Forecast]:
        """What is said of every series at the last tick."""
        _, memory = self.controller._memory[self.managed.key]
        told = {name: forecast(one, one.at_s, self.managed.policy.forecast) for name, one in memory.series.items()}
        return {name: one for name, one in told.items() if one is not None}


def test_a_controller_that_begins_anew_has_earned_its_forecasts_at_the_second_tick(server: RealPrometheus) -> None:
    begun = Begun(server.url)
    begun.controller.tick()
    assert {one.reason for one in begun.forecasts().values()} == {Reason.MODEL_UNPROVEN}
    errand = begun.controller._rebuilding._under_way[begun.managed.key]
    wait_until(errand.done, "the past is read")
    begun.controller.tick()
    told = begun.forecasts()
    assert {name: one.reason for name, one in told.items()} == dict.fromkeys((REQUESTS, HITS, *Role), Reason.MODEL_EARNED)
    assert 5.5 <= told[REQUESTS].mean <= 10.5
    assert told[HITS].mean == pytest.approx(0.2, abs=0.01)
    assert told[Role.DECODE].mean == pytest.approx(200 * told[REQUESTS].mean, rel=0.1)
    _, memory = begun.controller._memory[begun.managed.key]
    for lens in memory.series[Role.DECODE].lenses:
        assert lens.bins.closed.max() > 10 * 200, "what the pod did that is gone"
