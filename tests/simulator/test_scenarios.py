"""Are the situations we judge in the ones we said, and are wrong ones refused?"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import replica_profile
from autoscaler.refusal import Refusal
from autoscaler.simulator.scenario_file import Mark
from autoscaler.simulator.scenarios import BUILT_IN, Case, load_cases, peak_replicas

TRACES = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no traces in {TRACES} (PDA_SHARED names the folder above it)")
Document = dict[str, Any]
Change = Callable[[Document], object]


def document(**changed: object) -> Document:
    pool = {"profile": "llama-3-8b-h100-tp1", "gpus": 1, "min": 1, "max": 9, "start": 2}
    scenario: Document = {
        "mark": "forecastable",
        "load": {"wave": {"lowRps": 2, "highRps": 30, "periodSeconds": 450}},
        "requests": {
            "promptTokens": 1000, "promptCv": 0.5, "longestPromptTokens": 8000,
            "outputTokens": 200, "outputCv": 0.5, "longestOutputTokens": 1000,
        },
        "durationSeconds": 900,
        "slo": {"ttftSeconds": 2, "tpotSeconds": 0.05, "percentile": 95},
        "budgetGpus": 18,
        "startUpSeconds": [60, 180],
        "pools": {"prefill": pool, "decode": {**pool, "gpus": 2}},
    }  # fmt: skip
    return {**scenario, **changed}


def written(folder: Path, waves: Document, **others: Document) -> Path:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({"scenarios": {"waves": waves, **others}}, sort_keys=False))
    return path


def every(kept: bool) -> list[Case]:
    return list(load_cases(TRACES, kept=kept).ready)


def test_a_scenario_becomes_a_case_for_each_start_up_time(tmp_path: Path) -> None:
    cases = load_cases(None, written(tmp_path, document()))
    assert cases.left_out == ()
    assert [case.name for case in cases.ready] == ["waves@60s", "waves@180s"]
    quick, slow = cases.ready
    assert (quick.scenario.fleet.start_up.median_s, slow.scenario.fleet.start_up.median_s) == (60, 180)
    assert {role: (pool.replicas, pool.gpus_per_replica) for role, pool in quick.scenario.fleet.pools.items()} == {
        Role.PREFILL: (2, 1),
        Role.DECODE: (2, 2),
    }
    assert (quick.bounds[Role.PREFILL].min, quick.bounds[Role.PREFILL].max, quick.budget_gpus) == (1, 9, 18)
    assert {kind.value: (slo.threshold_s, slo.quantile) for kind, slo in quick.scenario.slos.items()} == {
        "ttft": (2, 0.95),
        "tpot": (0.05, 0.95),
    }


def test_requests_depend_on_the_seed_alone_and_end_with_the_run(tmp_path: Path) -> None:
    quick, slow = load_cases(None, written(tmp_path, document(durationSeconds=450))).ready
    first = list(quick.requests(1))
    assert first == list(slow.requests(1))
    assert first != list(quick.requests(2))
    assert all(early.arrival_s <= late.arrival_s for early, late in pairwise(first))
    assert 445 < first[-1].arrival_s < 450
    assert len(first) == pytest.approx(16 * 450, rel=0.03)


def test_a_case_can_be_sent_to_another_process(tmp_path: Path) -> None:
    for case in load_cases(None, written(tmp_path, document())).ready:
        again: Case = pickle.loads(pickle.dumps(case))
        assert list(islice(again.requests(1), 20)) == list(islice(case.requests(1), 20))


def test_roles_of_different_sizes_take_their_times_from_their_own_profiles(tmp_path: Path) -> None:
    pools = document()["pools"]
    pools["prefill"] = {**pools["prefill"], "profile": "llama-3.1-70b-fp8-h200-tp4"}
    pools["decode"] = {**pools["decode"], "profile": "llama-3.1-70b-fp8-h200-tp2"}
    fleet = load_cases(None, written(tmp_path, document(pools=pools))).ready[0].scenario.fleet
    profile = fleet.profile
    four, two = replica_profile("llama-3.1-70b-fp8-h200-tp4"), replica_profile("llama-3.1-70b-fp8-h200-tp2")
    assert (profile.prefill_s, profile.decode_s, profile.kv_tokens) == (four.prefill_s, two.decode_s, two.kv_tokens)
    assert profile.name == "llama-3.1-70b-fp8-h200-tp4+llama-3.1-70b-fp8-h200-tp2"
    assert {role: fleet.profile_of(role) for role in Role} == {Role.PREFILL: four, Role.DECODE: two}


def test_a_scenario_without_its_trace_is_left_out_with_a_line(tmp_path: Path) -> None:
    traced = document(load={"trace": {"file": "x.csv"}})
    del traced["requests"]
    path = written(tmp_path, document(), recorded=traced)
    for folder, why in [(None, "no folder of traces is given"), (tmp_path, f"it is not in {tmp_path}")]:
        cases = load_cases(folder, path)
        assert {case.name.partition("@")[0] for case in cases.ready} == {"waves"}
        assert cases.left_out == (f"recorded: left out, its trace is x.csv and {why} (PDA_SHARED names the folder above traces)",)
    (tmp_path / "x.csv").write_text("timestamp,prompt_tokens,output_tokens\n0,10,5\n899,10,5\n901,10,5\n")
    cases = load_cases(tmp_path, path)
    assert cases.left_out == ()
    assert [request.arrival_s for request in cases.named("recorded@60s")[0].requests(1)] == [0, 899]


def test_cases_are_found_by_scenario_or_in_full(tmp_path: Path) -> None:
    cases = load_cases(None, written(tmp_path, document(), other=document()))
    assert len(cases.named("waves")) == 2
    assert [case.name for case in cases.named("other@180s")] == ["other@180s"]
    with pytest.raises(Refusal, match=r'"wave" is no scenario that can be run \(allowed: waves, other\)'):
        cases.named("wave")


def test_the_peak_is_sized_by_the_busiest_minute(tmp_path: Path) -> None:
    """A spike of 20 times the rate, one minute long and on a minute: about 20 times the replicas of the base."""
    spike = {"baseRps": 1, "peakRps": 20, "startSeconds": 300, "lengthSeconds": 60}
    (one,) = load_cases(None, written(tmp_path, document(load={"spike": spike}, startUpSeconds=[60]))).ready
    (base,) = load_cases(None, written(tmp_path, document(load={"steady": {"rps": 20}}, startUpSeconds=[60]))).ready
    assert peak_replicas(one) == pytest.approx(peak_replicas(base), rel=0.15)


BAD: dict[str, tuple[Change, str]] = {
    "unknown field": (lambda d: d.update(lenght=1), "scenarios.waves.lenght: unknown field"),
    "range": (
        lambda d: d["slo"].update(percentile=100.0),
        "scenarios.waves.slo.percentile: 100 is out of range (allowed: 50..99.9)",
    ),
    "mark": (lambda d: d.update(mark="lucky"), 'scenarios.waves.mark: "lucky" is unknown (allowed: stationary, forecastable'),
    "two loads": (
        lambda d: d["load"].update(steady={"rps": 1}),
        "scenarios.waves.load: 2 loads are given (allowed: one of steady",
    ),
    "no load": (lambda d: d.update(load={}), "scenarios.waves.load: 0 loads are given"),
    "no requests": (lambda d: d.pop("requests"), "scenarios.waves.requests: missing: a shape says when requests come"),
    "walk with requests": (
        lambda d: d.update(load={"walk": {"phaseSeconds": 60}}),
        "scenarios.waves.requests: a trace and the walk have requests of their own",
    ),
    "falls": (
        lambda d: d["load"]["wave"].update(highRps=1),
        "scenarios.waves.load.wave.highRps: 1 is below lowRps 2 (allowed: 2..10000)",
    ),
    "a role": (lambda d: d["pools"].pop("decode"), "scenarios.waves.pools: decode is missing"),
    "bounds": (lambda d: d["pools"]["decode"].update(max=1, min=2), "scenarios.waves.pools.decode.max: 1 is below min 2"),
    "start": (lambda d: d["pools"]["decode"].update(start=10), "scenarios.waves.pools.decode.start: 10 is above max 9"),
    "profile": (
        lambda d: d["pools"]["decode"].update(profile="x"),
        'scenarios.waves.pools.decode.profile: "x" is not a built-in',
    ),
    "budget": (lambda d: d.update(budgetGpus=3), "scenarios.waves.budgetGpus: 3 is below the 6 GPUs that the pools start with"),
    "memory": (
        lambda d: d["requests"].update(longestPromptTokens=600_000),
        "scenarios.waves.requests: the longest has 601000 tokens and one decode replica holds 426788 (kvTokens)",
    ),
    "start-up": (
        lambda d: d.update(startUpSeconds=[60, 4000]),
        "scenarios.waves.startUpSeconds: 4000 is above 3600 (allowed: 0..3600)",
    ),
    "start-ups": (lambda d: d.update(startUpSeconds=[]), "scenarios.waves.startUpSeconds: 0 times are given (allowed: 1..5)"),
    "path": (lambda d: d.update(load={"trace": {"file": "../x"}}), 'scenarios.waves.load.trace.file: "../x" is not allowed'),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_a_wrong_scenario_is_refused_with_file_line_field_and_range(tmp_path: Path, change: Change, message: str) -> None:
    scenario = document()
    change(scenario)
    with pytest.raises(Refusal) as caught:
        load_cases(None, written(tmp_path, scenario))
    (line,) = [line for line in str(caught.value).splitlines() if message in line]
    assert line.startswith(f"{tmp_path / 's.yaml'}:")


def test_a_name_stands_once_and_a_file_must_be_one(tmp_path: Path) -> None:
    twice = written(tmp_path, document())
    twice.write_text(twice.read_text() + twice.read_text().removeprefix("scenarios:\n"))
    with pytest.raises(Refusal, match=r"s\.yaml:\d+: scenarios\.waves: written on line 2 already"):
        load_cases(None, twice)
    with pytest.raises(Refusal, match=r's\.yaml:\d+: scenarios\."No!": '):
        load_cases(None, written(tmp_path, document(), **{"No!": document()}))
    with pytest.raises(Refusal, match="cannot be read: No such file"):
        load_cases(None, tmp_path / "none.yaml")
    (tmp_path / "s.yaml").write_text("a: [\n")
    with pytest.raises(Refusal, match=r"s\.yaml:2: column 1: "):
        load_cases(None, tmp_path / "s.yaml")
    (tmp_path / "s.yaml").write_text("")
    with pytest.raises(Refusal, match="holds 0 documents, not 1"):
        load_cases(None, tmp_path / "s.yaml")


def test_the_shipped_scenarios_hold_every_kind_twice_start_ups_and_sizes() -> None:
    rows = yaml.safe_load(BUILT_IN.read_text())["scenarios"].values()
    for kept in (False, True):
        assert {row["mark"] for row in rows if row.get("kept", False) is kept} == set(Mark)
        loads = {kind for row in rows if row.get("kept", False) is kept for kind in row["load"]}
        assert loads >= {"steady", "wave", "onOff", "trace"}
    assert {seconds for row in rows if "flips" not in row for seconds in row["startUpSeconds"]} == {60, 180}
    assert {row["flips"]["driver"] for row in rows if "flips" in row} == {"label", "pairedResize"}
    gpus = {(row["pools"]["prefill"]["gpus"], row["pools"]["decode"]["gpus"]) for row in rows}
    assert gpus >= {(1, 1), (4, 2)}


def test_the_harsh_sinusoid_is_the_one_that_was_asked_for() -> None:
    (harsh,) = load_cases(None).named("sinusoid-harsh")
    row = yaml.safe_load(BUILT_IN.read_text())["scenarios"]["sinusoid-harsh"]
    assert row["load"] == {"wave": {"lowRps": 2, "highRps": 30, "periodSeconds": 450}}
    assert harsh.scenario.fleet.start_up.median_s == 60


def test_what_is_kept_is_only_told_on_purpose() -> None:
    names, kept = ({case.name for case in load_cases(None, kept=kept).ready} for kept in (False, True))
    assert kept
    assert not names & kept
    assert all("-kept@" in name for name in kept)


@needs_traces
@pytest.mark.slow
@pytest.mark.parametrize("kept", [False, True])
def test_every_shipped_scenario_needs_six_to_twenty_replicas_of_each_role_at_its_peak(kept: bool) -> None:
    for case in {case.name.partition("@")[0]: case for case in every(kept)}.values():
        for role, replicas in peak_replicas(case).items():
            assert 6 <= replicas <= 20, (case.name, role)
            assert replicas < case.bounds[role].max, (case.name, role)
