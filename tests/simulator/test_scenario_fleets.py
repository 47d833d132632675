"""Can a user's own scenario say all that a fleet can be: conditions, rejection, and replicas that were measured?"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import replica_profile
from autoscaler.refusal import Refusal
from autoscaler.simulator.clients import Retries
from autoscaler.simulator.comparison import play
from autoscaler.simulator.contenders import Contender, Job
from autoscaler.simulator.early_rejection import EarlyRejection, Rejects
from autoscaler.simulator.fleet_spec import Handover
from autoscaler.simulator.losses import NodeLoss, ReplicaLoss
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.scenario_file import ScenarioFile
from autoscaler.simulator.scenarios import BUILT_IN, Case, load_cases
from tests.simulator.test_scenarios import Document, document, written

MEASURED = (
    "mine: {prefillSeconds: [0.01, 2.0e-5, 0], decodeSeconds: [0.006, 1.0e-5, 4.0e-8], kvTokens: 300000,"
    " linkBytesPerSecond: 5.0e+9, maxSeqs: 64}\n"
)


def case(folder: Path, **changed: object) -> Case:
    return load_cases(None, written(folder, document(**changed))).ready[0]


def alike(**pool: object) -> Document:
    """Two pools of this kind."""
    return {role.value: {**document()["pools"]["prefill"], **pool} for role in Role}


def refusal(folder: Path, **changed: object) -> str:
    with pytest.raises(Refusal) as refused:
        load_cases(None, written(folder, document(**changed)))
    return str(refused.value)


def test_conditions_reach_every_case_of_a_scenario_and_its_start_up_times_stay(tmp_path: Path) -> None:
    conditions = {
        "routing": "least-loaded", "handover": "push", "startUpSigma": 0.5, "scrapeDelaySeconds": 20, "retries": {"most": 3},
        "nodes": {"ready": 1, "most": 3}, "nodeLosses": [{"atSeconds": 5}], "replicaLosses": [{"atSeconds": 9, "role": "decode"}],
    }  # fmt: skip
    path = written(tmp_path, document(conditions=conditions))
    for found in load_cases(None, path).ready:
        fleet = found.scenario.fleet
        assert (fleet.routing, fleet.handover, fleet.retries) == (Routing.LEAST_LOADED, Handover.PUSH, Retries(3))
        assert fleet.losses == (ReplicaLoss(9.0, Role.DECODE), NodeLoss(5.0))
        assert (f"waves@{fleet.start_up.median_s:g}s", fleet.start_up.sigma) == (found.name, 0.5)
        assert found.scenario.scrape_delay_s == 20.0
        assert pickle.loads(pickle.dumps(found)).scenario == found.scenario


def test_what_is_not_said_is_as_it_always_was(tmp_path: Path) -> None:
    plain, said = case(tmp_path), case(tmp_path, conditions={})
    assert (plain.scenario, plain.scenario.rejection) == (said.scenario, None)


def test_who_is_turned_away_is_judged_by_the_promises_where_no_limits_are_written(tmp_path: Path) -> None:
    usual = case(tmp_path, rejection={"rule": "early"}).scenario.rejection
    assert usual == EarlyRejection(Rejects.EARLY, 2.0, 0.05)
    own = case(tmp_path, rejection={"rule": "predicted", "ttftSeconds": 5, "tpotSeconds": 0.1, "decodeSeconds": 30})
    assert own.scenario.rejection == EarlyRejection(Rejects.PREDICTED, 5.0, 0.1, 30.0)


def test_an_overloaded_fleet_that_rejects_early_is_played_so(tmp_path: Path) -> None:
    """A pool of one replica under 20 requests of 1,000 tokens per second, for which it would need two."""
    pools = alike(profile="llama-3-8b-a100-tp1", max=1, start=1)
    hard = {
        "load": {"steady": {"rps": 30}}, "durationSeconds": 120, "pools": pools, "rejection": {"rule": "early"},
        "conditions": {"retries": {}},
    }  # fmt: skip
    score = play(Job(case(tmp_path, **hard), Contender("static", 1.0))).score
    assert score is not None
    assert score.rejected > 0.1 * score.offered
    assert score.attainment is not None
    assert score.attainment > 0.2


def test_a_measured_profile_is_found_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MEASURED)
    pools = {role: {**pool, "profile": "mine.yaml"} for role, pool in document()["pools"].items()}
    profile = case(tmp_path, pools=pools).scenario.fleet.profile
    assert (profile.name, profile.prefill_s[0], profile.kv_tokens) == ("mine", 0.01, 300_000)
    assert (profile.link_bytes_per_s, profile.max_seqs) == (5e9, 64)
    mixed = {**pools, "decode": document()["pools"]["decode"]}
    both = case(tmp_path, pools=mixed).scenario.fleet.profile
    assert (both.prefill_s, both.decode_s) == (profile.prefill_s, replica_profile("llama-3-8b-h100-tp1").decode_s)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"conditions": {"nodes": {"ready": 9, "most": 9, "gpus": 1}}}, "conditions.nodes.gpus: 1 is below the 2 GPUs of one"),
        ({"conditions": {"nodes": {"ready": 1, "most": 1, "gpus": 4}}}, "conditions.nodes: the pools start with 6 GPUs, more"),
        ({"conditions": {"routing": "best"}}, 'conditions.routing: "best" is unknown (allowed: round-robin, least-loaded'),
        ({"conditions": {"retry": {}}}, 'conditions.retry: unknown field; did you mean "retries"?'),
        ({"rejection": {"rule": "late"}}, 'rejection.rule: "late" is unknown (allowed: baseline, early, predicted)'),
        ({"rejection": {"rule": "early", "decodeSeconds": 3}}, "rejection.decodeSeconds: is no word for rule early"),
        (
            {"rejection": {"rule": "early"}, "conditions": {"sidecars": {}}},
            "rejection: conditions.sidecars turn requests away already (allowed: one of them)",
        ),
        ({"rejection": {"rule": "predicted"}}, "rejection.decodeSeconds: missing: how long a request is taken to decode"),
    ],
)
def test_what_no_fleet_can_be_is_refused_in_one_line(tmp_path: Path, changed: Document, line: str) -> None:
    (told,) = refusal(tmp_path, **changed).splitlines()
    assert told.startswith(f"{tmp_path / 's.yaml'}:")
    assert f" scenarios.waves.{line}" in told


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (MEASURED.replace("2.0e-5", "-2.0e-5"), "mine.prefillSeconds[1]: -2e-05 is out of range (allowed: 0..1)"),
        (MEASURED.replace("0.006", "-0.006"), "mine.decodeSeconds[0]: -0.006 is out of range (allowed: 1e-06..60)"),
        (MEASURED.replace("kvTokens: 300000", "kvTokens: 0"), "mine.kvTokens: 0 is out of range (allowed: 1..1000000000)"),
    ],
)
def test_an_impossible_profile_is_refused_at_its_own_file_line_and_field(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    told = refusal(tmp_path, pools=alike(profile="mine.yaml")).splitlines()
    assert len(told) == 2
    assert all(f"profile: {tmp_path / 'mine.yaml'}:1: {line}" in one for one in told)


def test_a_memory_smaller_than_the_longest_request_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MEASURED.replace("300000", "8999"))
    told = refusal(tmp_path, pools=alike(profile="mine.yaml"))
    assert told.endswith("scenarios.waves.requests: the longest has 9000 tokens and one decode replica holds 8999 (kvTokens)")
    (tmp_path / "mine.yaml").write_text(MEASURED.replace("300000", "7999"))
    pools = {**alike(), "prefill": alike(profile="mine.yaml")["prefill"]}
    told = refusal(tmp_path, pools=pools)
    assert told.endswith("scenarios.waves.requests: the longest has 8000 tokens and one prefill replica holds 7999 (kvTokens)")


HEAD = BUILT_IN.read_text(encoding="utf-8").split("\nscenarios:\n", 1)[0]


def test_the_head_of_the_built_in_file_is_a_scenario_that_can_be_played(tmp_path: Path) -> None:
    lines = [line.removeprefix("#   ") for line in HEAD.splitlines() if line.startswith("#   ")]
    (tmp_path / "s.yaml").write_text("\n".join(["scenarios:", *(f"  {line}" for line in lines)]))
    (tmp_path / "mine.yaml").write_text(MEASURED)
    quick, slow = load_cases(None, tmp_path / "s.yaml").named("everything")
    assert (quick.name, slow.name) == ("everything@60s", "everything@180s")
    assert quick.scenario.rejection == EarlyRejection(Rejects.PREDICTED, 2.0, 0.05, 10.0)
    assert len(quick.scenario.fleet.losses) == 2


def test_the_head_of_the_built_in_file_names_every_field_there_is() -> None:
    schema = ScenarioFile.model_json_schema()["$defs"].values()
    fields = {name for section in schema for name in section.get("properties", {})}
    assert len(fields) > 60
    assert {name for name in fields if not re.search(rf"\b{name}:|\b{name}\b", HEAD)} == set()
