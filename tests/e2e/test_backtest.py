"""Does a back-test find again what a real Prometheus was told about a day?

Two hours that go through all hours of a day are simulated: chats and documents, bursts, replicas by a timetable that is too
small at times. What the fleet exported is put into a real Prometheus, but for ten minutes that were lost. Then the command is
run on it, and held against what really happened.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from autoscaler.commands.backtest import backtest
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.refusal import Refusal
from autoscaler.roster import managed
from autoscaler.simulator.fleet_spec import FleetSpec, PoolSpec
from autoscaler.simulator.peers.schedule import Schedule
from autoscaler.simulator.pool_setting import StartUp
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.workload import Day, Request, synthetic_day
from tests.e2e.recorded_day import BLOCK_S, Recording, Script, find_server, remembering

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

LENGTH_S, STEP_S, SCRAPE_S, START_UP_S = 7_200, 60, 15.0, 30.0
HOLE_S = (4_500.0, 5_100.0)
DAY = Day(length_s=LENGTH_S, start_hour=6.5, scale=0.8)
# Replicas by ten minutes. At noon prefill is too small, in the evening decode is too large.
TIMETABLE = Schedule(
    600.0, {Role.PREFILL: (1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1), Role.DECODE: (2, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 1)}
)
POLICY: Mapping[str, Any] = {
    "apiVersion": "pdautoscaler.io/v1alpha1",
    "kind": "PDAutoscaler",
    "metadata": {"name": "chat", "namespace": "prod"},
    "spec": {
        "mode": "Recommend",
        "model": "llama-3-8b",
        "engine": "vllm",
        "gateway": "llm-d",
        "profile": "llama-3-8b-h100-tp1",
        "slo": {"ttft": {"seconds": 1.0}, "tpot": {"seconds": 0.025}},
        "pools": {
            "prefill": {"target": {"name": "prefill"}, "min": 1, "max": 6},
            "decode": {"target": {"name": "decode"}, "min": 1, "max": 6},
        },
    },
}


@dataclass(frozen=True)
class Found:
    """What really happened, and what the back-test says of it."""

    truth: Recording
    told: Mapping[str, Any]
    begin_s: int
    url: str
    policy: Path


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    folder, binary = tmp_path_factory.mktemp("history"), find_server()
    document = Document.model_validate(POLICY)
    fleet = managed(document)
    begin_s = int(time.time()) // BLOCK_S * BLOCK_S - 2 * BLOCK_S
    pools = {role: PoolSpec(path[0]) for role, path in TIMETABLE.replicas.items()}
    scenario = Scenario(FleetSpec(fleet.key, fleet.policy.profile, pools, StartUp(START_UP_S)), fleet.policy.slos, SCRAPE_S)
    requests = list(synthetic_day(Random(7), DAY, LENGTH_S))
    truth = Script(scenario, fleet, requests, TIMETABLE, begin_s, LENGTH_S, HOLE_S).record(folder / "day.om")
    (policy := folder / "policy.yaml").write_text(yaml.safe_dump(dict(POLICY)))
    with remembering(binary, folder) as server:
        yield Found(truth, told(server.url, policy, begin_s), begin_s, server.url, policy)


def run(url: str, policy: Path, **changed: Any) -> None:
    """The command as the command line calls it."""
    usual = {
        "prometheus": url, "headers": (), "token_file": None, "ca_file": None, "query_timeout_s": 30.0, "policy": policy,
        "since": "2h", "until": None, "step": None, "pods": (),
        "replicas": (), "arrivals": "poisson", "start_up_s": START_UP_S, "seed": 1, "report": None, "as_json": True,
    }  # fmt: skip
    backtest(**{**usual, **changed})


def told(url: str, policy: Path, begin_s: int, **changed: Any) -> Mapping[str, Any]:
    """What it prints for machines, of the whole day unless it is told otherwise."""
    until = datetime.fromtimestamp(begin_s + LENGTH_S, UTC).isoformat()
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("click.echo", lambda text, err=False: lines.append(text))
        run(url, policy, **{"until": until, **changed})
    said: Mapping[str, Any] = json.loads(lines[0])
    return said


def played(found: Found) -> list[Request]:
    """What really arrived in the steps that can be played: all but the hole and a step on either side."""
    truth = found.truth
    return truth.between(0, HOLE_S[0] - STEP_S) + truth.between(HOLE_S[1] + STEP_S, LENGTH_S)


def mean(requests: Sequence[Request], tokens: Callable[[Request], float]) -> float:
    return sum(map(tokens, requests)) / len(requests)


def test_the_hole_is_a_hole_and_not_a_quiet_time(found: Found) -> None:
    assumed = found.told["assumed"]
    assert assumed["holes"] == [[found.begin_s + HOLE_S[0], found.begin_s + HOLE_S[1]]]
    assert assumed["without_load"] == pytest.approx(600 / LENGTH_S)
    assert assumed["beside_holes"] == pytest.approx(2 * STEP_S / LENGTH_S)
    assert assumed["not_played"] == pytest.approx(assumed["without_load"] + assumed["beside_holes"])
    assert "1 hole without data, the longest 10 min" in found.told["assumptions"][0]


def test_requests_and_their_lengths_are_found_again(found: Found) -> None:
    sent, rebuilt = played(found), found.told["rebuilt"]
    assert rebuilt["requests"] == pytest.approx(len(sent), rel=0.01)
    assert rebuilt["prompt_tokens"] == pytest.approx(mean(sent, lambda one: one.prompt_tokens), rel=0.03)
    assert rebuilt["uncached_tokens"] == pytest.approx(mean(sent, lambda one: one.prompt_tokens - one.cached_tokens), rel=0.03)
    assert rebuilt["output_tokens"] == pytest.approx(mean(sent, lambda one: one.output_tokens), rel=0.03)
    assert set(found.told["assumed"]["lengths"]["uncached_tokens"]) == {"histogram"}
    assert found.told["assumed"]["offered_source"] == "gateway llm-d"


def test_the_replay_as_it_was_is_what_it_was(found: Found) -> None:
    was, sent = found.told["sides"][0], played(found)
    truth = found.truth.attainment(sent)
    assert 0.9 < truth < 0.995, "a day on which everything went well would prove nothing"
    assert was["attainment"] == pytest.approx(truth, abs=0.02)
    assert max(found.told["off_by_share"].values()) < 0.02
    recorded = found.told["recorded"]["traffic.ttft"]
    assert recorded["within"][0] == pytest.approx(truth, abs=0.005), "TTFT is what was missed on that day"
    assert was["latencies"]["traffic.ttft"]["p50_s"] == pytest.approx(recorded["p50_s"], rel=0.1)


def test_replicas_are_those_that_stood_there(found: Found) -> None:
    """GPU-hours of the timetable, less those of the hole and its neighbours, where one prefill and two decode replicas stood."""
    spent = found.told["sides"][0]["gpu_hours_by_role"]
    lost_h = (HOLE_S[1] - HOLE_S[0] + 2 * STEP_S) / 3600
    for role, path in TIMETABLE.replicas.items():
        at_hole = path[int(HOLE_S[0] / TIMETABLE.interval_s)]
        assert spent[role] == pytest.approx(sum(path) / 6 - at_hole * lost_h, rel=0.05)
    assert found.told["assumed"]["replicas_unseen"] == {"prefill": 0.0, "decode": 0.0}


def test_the_policy_is_played_on_the_same_requests(found: Found) -> None:
    was, would = found.told["sides"]
    assert would["offered"] == was["offered"] == found.told["rebuilt"]["requests"]
    assert would["actions"] > 0
    assert would["gpu_hours"] < was["gpu_hours"], "the timetable was too large in the evening"


def test_what_nobody_tells_can_be_said(found: Found) -> None:
    """Even arrivals, a count for one role, five-minute steps, in the half without the hole; and people read tables."""
    until = datetime.fromtimestamp(found.begin_s + 1_800, UTC).isoformat()
    said = told(
        found.url, found.policy, found.begin_s, since="30m", until=until, step="5m", arrivals="even", replicas=("decode=3",)
    )
    assert said["step_s"] == 300
    assert said["assumed"]["replicas_unseen"] == {"prefill": 0.0, "decode": 1.0}
    assert said["sides"][0]["gpu_hours_by_role"]["decode"] == pytest.approx(3 * 0.5)
    assert any("evenly" in line for line in said["assumptions"])


def test_without_a_gateway_the_engines_tell(found: Found, tmp_path: Path) -> None:
    """What arrived is then what left and what piled up, and the TTFT to compare with is prefill's own."""
    spec = {name: value for name, value in POLICY["spec"].items() if name != "gateway"}
    (alone := tmp_path / "policy.yaml").write_text(yaml.safe_dump({**POLICY, "spec": spec}))
    until = datetime.fromtimestamp(found.begin_s + 1_800, UTC).isoformat()
    said = told(found.url, alone, found.begin_s, since="30m", until=until)
    assert said["rebuilt"]["requests"] == pytest.approx(len(found.truth.between(0, 1_800)), rel=0.03)
    assert said["assumed"]["offered_source"] == "completions and change of the queues on prefill pods"
    assert set(said["recorded"]) == {"prefill.latency", "decode.latency"}


def test_a_pattern_that_no_pod_has_is_refused_with_what_to_do(found: Found) -> None:
    with pytest.raises(Refusal, match=r"^no replica of prefill was ever seen; say which pods are its own"):
        told(found.url, found.policy, found.begin_s, since="10m", pods=("prefill=other-.*",))


def test_a_time_before_all_memory_is_refused(found: Found) -> None:
    until = datetime.fromtimestamp(found.begin_s - 3_600, UTC).isoformat()
    with pytest.raises(Refusal, match=r"^Prometheus has no traffic.offered_rps of llama-3-8b in prod from .*T.* to "):
        told(found.url, found.policy, found.begin_s, since="1h", until=until)


def test_people_read_tables_and_get_a_page(found: Found, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    until = datetime.fromtimestamp(found.begin_s + 900, UTC).isoformat()
    run(found.url, found.policy, since="15m", until=until, report=page, as_json=False)
    said = capsys.readouterr()
    assert f"report: {page}" in said.err
    for words in ("as it was", "pd-autoscaler", "How far to trust it", "Assumed, since nobody recorded it", "Under the policy"):
        assert words in said.out
        assert words in page.read_text()
    assert page.read_text().count("<svg") == 2
