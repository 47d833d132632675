"""Do `autoscaler simulate` and `autoscaler compare` say what was played, to people, to machines and in a file?"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from autoscaler.commands.compare import compare
from autoscaler.commands.simulate import simulate
from autoscaler.refusal import Refusal

POOL = {"profile": "llama-3-8b-h100-tp1", "gpus": 1, "min": 1, "max": 6, "start": 1}
COMMON: dict[str, Any] = {
    "requests": {
        "promptTokens": 4000, "promptCv": 0.5, "longestPromptTokens": 16000,
        "outputTokens": 200, "outputCv": 0.5, "longestOutputTokens": 1000,
    },
    "durationSeconds": 600,
    "slo": {"ttftSeconds": 2, "tpotSeconds": 0.05, "percentile": 95},
    "budgetGpus": 12,
    "startUpSeconds": [30],
    "pools": {"prefill": POOL, "decode": POOL},
}  # fmt: skip
LOADS = {
    "waves": {"mark": "forecastable", "load": {"wave": {"lowRps": 1, "highRps": 16, "periodSeconds": 300}}},
    "jump": {"mark": "unforecastable", "load": {"ramp": {"fromRps": 2, "toRps": 20, "startSeconds": 120, "lengthSeconds": 1}}},
}
ABSENT = {**COMMON, "mark": "forecastable", "load": {"trace": {"file": "absent.csv"}}}

Play = Callable[..., None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path, scenarios = tmp_path / "scenarios.yaml", {name: {**COMMON, **load} for name, load in LOADS.items()}
    del (absent := dict(ABSENT))["requests"]
    path.write_text(json.dumps({"scenarios": {**scenarios, "absent": absent}}))
    return path


@pytest.fixture(autouse=True)
def no_shared_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PDA_SHARED", raising=False)


@pytest.fixture
def comparing(file: Path) -> Play:
    def play(**changed: Any) -> None:
        usual = {
            "scenarios": (), "scenarios_file": file, "traces": None, "skip_bad_rows": False, "kept": False, "policy": None,
            "peers": (), "sweep": False, "references": False, "attainment": 0.9, "length_s": 300.0, "seed": 1, "jobs": 1,
            "report": None, "as_json": True,
        }  # fmt: skip
        compare(**{**usual, **changed})

    return play


@pytest.fixture
def simulating(file: Path) -> Play:
    def play(**changed: Any) -> None:
        usual = {
            "scenario": "waves", "trace": None, "policy": None, "peer": None, "headroom": None, "rate": 1.0, "start_up_s": 60.0,
            "length_s": 300.0, "attainment": 0.9, "seed": 1, "scenarios_file": file, "traces": None, "skip_bad_rows": False,
            "as_json": True,
        }  # fmt: skip
        simulate(**{**usual, **changed})

    return play


@pytest.mark.slow
def test_the_cheapest_that_keeps_the_promises_comes_first(comparing: Play, capsys: pytest.CaptureFixture[str]) -> None:
    comparing()
    told = capsys.readouterr()
    document = json.loads(told.out)
    rows = document["runs"]
    assert (document["seed"], list(document["scenarios"])) == (1, ["waves@30s", "jump@30s"])
    assert document["left_out"] == [told.err.strip()]
    assert document["scenarios"]["jump@30s"]["slo"]["ttft"] == {"seconds": 2.0, "percentile": 95.0}
    assert all(len(row["timeline"]["serving"]["decode"]) == len(row["timeline"]["offered_rps"]) for row in rows)
    assert told.err.startswith("absent: left out, its trace is absent.csv")
    for scenario in ("waves@30s", "jump@30s"):
        mine = [row for row in rows if row["scenario"] == scenario]
        assert len(mine) == 8
        reached = [row["gpu_hours"] for row in mine if row["reaches"]]
        assert reached == sorted(reached)
        assert [row["reaches"] for row in mine] == sorted((row["reaches"] for row in mine), reverse=True)
        missed = [row["score"]["attainment"] for row in mine if not row["reaches"]]
        assert missed == sorted(missed, reverse=True)
        assert len({row["score"]["offered"] for row in mine}) == 1


@pytest.mark.slow
def test_processes_give_what_one_gives(comparing: Play, capsys: pytest.CaptureFixture[str]) -> None:
    comparing(peers=("static",))
    one = json.loads(capsys.readouterr().out)
    comparing(peers=("static",), jobs=2)
    assert json.loads(capsys.readouterr().out) == one


@pytest.mark.slow
def test_the_report_stands_alone_and_holds_every_run(comparing: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.html"
    comparing(scenarios=("jump",), peers=("static", "hpa-queue"), sweep=True, references=True, attainment=0.45, report=path)
    told = json.loads(capsys.readouterr().out)
    rows, costs, text = told["runs"], told["costs"]["jump@30s"], path.read_text()
    assert not re.search(r"<script|<link|<img|https?:|url\(", text)
    drawings = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]
    marks = [mark for drawing in drawings for mark in drawing.iter("path") if mark.get("class") == "mark"]
    assert len(marks) == sum(row["score"] is not None for row in rows) == 3 * 5 + 3
    assert len(drawings) == 1 + 3 + 3  # the frontier, a timeline for each policy as published and each reference that plays
    bound = next(row for row in rows if row["policy"] == "lower-bound")
    assert all(bound["gpu_hours"] <= row["gpu_hours"] for row in rows if row["reaches"])
    for words in ("What this does not tell", "Glossary", "How to read the tables and pictures", "Who won", "To make it again"):
        assert words in text
    assert ">recovery</abbr></th>" in text
    hours, cheapest = min((costs[name]["gpu_hours"], name) for name in ("static", "hpa-queue", "pd-autoscaler"))
    assert f"The cheapest to reach 45.0%, at the best point of its line: {cheapest} with {hours:.2f} GPU-hours; next" in text
    reached = [row["gpu_hours"] for row in rows if row["reaches"] and row["published_point"] and row["headroom"] is not None]
    assert set(re.findall(r"<td class=win>(.*?)</td>", text)) == {f"{min(reached):.2f}"}
    assert set(re.findall(r'href="#([^"]+)"', text)) == {"jump@30s", "glossary"} <= set(re.findall(r'id="([^"]+)"', text))


def test_a_pattern_means_every_scenario_it_fits(comparing: Play, capsys: pytest.CaptureFixture[str]) -> None:
    comparing(scenarios=("w*", "*@30s", "waves"), peers=("static",), length_s=60.0)
    assert list(json.loads(capsys.readouterr().out)["scenarios"]) == ["waves@30s", "jump@30s"]


def test_a_disk_that_is_full_in_the_end_costs_the_report_and_not_the_results(
    comparing: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, page: str) -> None:
        raise Refusal(f"--report {path}: cannot be written: No space left on device")

    monkeypatch.setattr("autoscaler.commands.compare.write_page", full)
    with pytest.raises(Refusal, match="No space left on device"):
        comparing(scenarios=("waves",), peers=("static",), length_s=60.0, report=tmp_path / "r.html")
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2


@pytest.mark.parametrize(("patterns", "told"), [(("*",), 1), (("waves",), 0)])
def test_what_a_pattern_means_and_cannot_be_played_is_told(
    comparing: Play, capsys: pytest.CaptureFixture[str], patterns: tuple[str, ...], told: int
) -> None:
    comparing(scenarios=patterns, peers=("static",), length_s=60.0)
    said = capsys.readouterr()
    assert said.err.count("absent: left out") == len(json.loads(said.out)["left_out"]) == told


def test_the_trial_of_the_simulator_goes_into_the_report(comparing: Play, tmp_path: Path) -> None:
    trial, path = tmp_path / "trial.json", tmp_path / "r.html"
    check = {
        "name": "md1", "claim": "M/D/1 waits as the formula says", "measured": 0.5, "reference": 0.5, "tolerance": 0.02,
        "rule": "near", "published": None, "standard_error": None, "met": True,
    }  # fmt: skip
    trial.write_text(json.dumps({"bench": "truth", "requests": 10, "checks": [check], "missed": [], "curves": []}))
    comparing(scenarios=("jump",), peers=("static",), length_s=60.0, report=path, trial=trial)
    assert "M/D/1 waits as the formula says" in path.read_text()


@pytest.mark.slow
def test_people_get_a_table(simulating: Play, capsys: pytest.CaptureFixture[str]) -> None:
    simulating(scenario="jump", as_json=False)
    out = capsys.readouterr().out
    assert "jump@30s (required: 90.0%)" in out
    assert re.search(r"pd-autoscaler +│ +0 +│ +\d+\.\d\d% +│ +\d+\.\d\d", out)


@pytest.mark.slow
def test_a_recorded_trace_is_played_under_the_policy_file(
    simulating: Play, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text("timestamp,prompt_tokens,output_tokens\n" + "".join(f"{at / 2},600,50\n" for at in range(240)))
    policy = Path(__file__).parents[1] / "autoscaler" / "commands" / "demo.yaml"
    for peer in (None, "static"):
        simulating(scenario=None, trace=trace, policy=policy, peer=peer, length_s=None)
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["scenario"], row["score"]["offered"], row["reaches"]) == ("mine.csv", 240, True)
        assert row["policy"] == (peer or "pd-autoscaler")


def test_traces_are_looked_for_where_the_environment_says(
    simulating: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "absent.csv").write_text("timestamp,prompt_tokens,output_tokens\n0,10,5\n30,10,5\n")
    monkeypatch.setenv("PDA_SHARED", str(tmp_path))
    simulating(scenario="absent")
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["scenario"], row["score"]["offered"]) == ("absent@30s", 2)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"scenarios": ("wavy",)}, r'"wavy" is no scenario that can be run \(allowed: '),
        ({"scenarios": ("absent",)}, r"absent: left out, its trace is absent.csv"),
        ({"peers": ("keda",)}, r'--peer "keda" is no peer \(allowed: static, hpa-queue'),
        ({"kept": True}, r"compare: no scenario is left to be played"),
        ({"trial": Path("trial.json")}, r"--trial goes into a report: give --report too"),
        ({"scenarios": ("abs*",)}, r"absent: left out, its trace is absent.csv"),
        ({"report": Path("/nowhere/at/all.html")}, r"--report /nowhere/at/all.html: there is no folder /nowhere/at"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(comparing: Play, changed: dict[str, Any], line: str) -> None:
    with pytest.raises(Refusal, match=line):
        comparing(**changed)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"trace": Path("x.csv")}, r"simulate: give either --scenario or --trace"),
        ({"scenario": None}, r"simulate: give either --scenario or --trace"),
        ({"scenario": None, "trace": Path("x.csv")}, r"simulate: --trace needs --policy"),
        ({"scenario": "absent"}, r"absent: left out"),
        ({"headroom": -1.0}, r"--headroom -1 is out of range \(allowed: 0..100\)"),
        ({"peer": "static", "headroom": 0.0}, r"--headroom 0 is no point of static \(its own: 0.5, 0.75, 1, 1.5, 2\)"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(simulating: Play, changed: dict[str, Any], line: str) -> None:
    with pytest.raises(Refusal, match=line):
        simulating(**changed)
