"""Does a back-test of a whole day on a real Prometheus find again what happened, hour by hour?

Twenty-four hours as they are usually recorded: one scrape a minute, chats with two peaks and a midnight, documents in the
afternoon, replicas that come and go by a timetable whose prefill is too small while the documents come. Prometheus knows
nothing of the days before, as after a retention that is shorter than what is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import yaml

from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.roster import managed
from autoscaler.simulator.fleet_spec import FleetSpec, PoolSpec
from autoscaler.simulator.peers.schedule import Schedule
from autoscaler.simulator.pool_setting import StartUp
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.workload import CHAT, DOCUMENTS, Crowd, Day, Rise, synthetic_day
from tests.e2e.recorded_day import BLOCK_S, Recording, Script, find_server, remembering
from tests.e2e.test_backtest import POLICY, mean, told

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

LENGTH_S, SCRAPE_S, START_UP_S = 86_400, 60.0, 30.0
DAY = Day(
    crowds=(
        Crowd(CHAT.kind, floor_rps=0.6, rises=(Rise(10.5, 3.0, 3.0), Rise(20.0, 1.8, 2.0))),
        Crowd(DOCUMENTS.kind, floor_rps=0.05, rises=(Rise(15.0, 1.5, 5.5),)),
    )
)
# By the hour. Documents come from one to five in the afternoon, when prefill stays as small as it was.
TIMETABLE = Schedule(3_600.0, {Role.PREFILL: (1,) * 18 + (2,) * 4 + (1,) * 2, Role.DECODE: (1,) * 7 + (2,) * 15 + (1,) * 2})


@dataclass(frozen=True)
class Known:
    """What really happened on the day, and what the back-test says of it."""

    truth: Recording
    told: Mapping[str, Any]
    begin_s: int


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    folder, binary = tmp_path_factory.mktemp("day"), find_server()
    seldom = {
        "metrics": {"scrapeIntervalSeconds": SCRAPE_S, "windowSeconds": 4 * SCRAPE_S},
        "freshness": {"maxAgeSeconds": 2 * SCRAPE_S},
    }
    spec = {**POLICY["spec"], **seldom}
    (policy := folder / "policy.yaml").write_text(yaml.safe_dump({**POLICY, "spec": spec}))
    fleet = managed(Document.model_validate({**POLICY, "spec": spec}))
    begin_s = int(time.time()) // BLOCK_S * BLOCK_S - LENGTH_S - BLOCK_S
    pools = {role: PoolSpec(path[0]) for role, path in TIMETABLE.replicas.items()}
    scenario = Scenario(FleetSpec(fleet.key, fleet.policy.profile, pools, StartUp(START_UP_S)), fleet.policy.slos, SCRAPE_S)
    requests = list(synthetic_day(Random(7), DAY, LENGTH_S))
    truth = Script(scenario, fleet, requests, TIMETABLE, begin_s, LENGTH_S, (0.0, 0.0)).record(folder / "day.om")
    until = datetime.fromtimestamp(begin_s + LENGTH_S, UTC).isoformat()
    with remembering(binary, folder) as server:
        yield Known(truth, told(server.url, policy, begin_s, since="7d", until=until), begin_s)


def test_only_the_day_that_is_remembered_is_played(known: Known) -> None:
    """Six days that nobody remembers are one hole; the day's first step stands beside it."""
    assumed = known.told["assumed"]
    assert known.told["step_s"] == 240, "four scrapes"
    assert assumed["holes"] == [[known.begin_s - 6 * LENGTH_S, pytest.approx(known.begin_s, abs=240)]]
    assert assumed["not_played"] == pytest.approx(6 / 7, abs=0.002)
    assert "1 hole without data, the longest 144.0 h" in known.told["assumptions"][0]
    first = datetime.fromtimestamp(assumed["holes"][0][1], UTC).strftime("%Y-%m-%d %H:%M")
    assert known.told["assumptions"][1].startswith(f"Prometheus knows of no load before {first} UTC")


def test_the_days_requests_are_found_again(known: Known) -> None:
    sent, rebuilt = known.truth.requests, known.told["rebuilt"]
    assert rebuilt["requests"] == pytest.approx(len(sent), rel=0.01)
    assert rebuilt["prompt_tokens"] == pytest.approx(mean(sent, lambda one: one.prompt_tokens), rel=0.02)
    assert rebuilt["output_tokens"] == pytest.approx(mean(sent, lambda one: one.output_tokens), rel=0.02)


def test_the_replay_as_it_was_is_as_good_and_as_dear_as_the_day_was(known: Known) -> None:
    was, truth = known.told["sides"][0], known.truth
    assert truth.score.attainment is not None
    assert 0.9 < truth.score.attainment < 0.99, "a day on which everything went well would prove nothing"
    assert was["attainment"] == pytest.approx(truth.score.attainment, abs=0.02)
    for role, path in TIMETABLE.replicas.items():
        assert was["gpu_hours_by_role"][role] == pytest.approx(sum(path), rel=0.02)


def test_the_policy_would_have_met_more_requests(known: Known) -> None:
    """It follows the documents, which the timetable did not, on the same requests."""
    was, would = known.told["sides"]
    assert would["offered"] == was["offered"]
    assert would["attainment"] > was["attainment"]
    assert would["gpus"] == pytest.approx(would["gpu_hours"] / 24, rel=0.01)
