"""Does a comparison tell under which conditions it was played, and what no size can reach?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from autoscaler.cli import cli

POOL = "{profile: llama-3-8b-h100-tp1, gpus: 1, min: 1, max: 4, start: 2}"
SCENARIO = """
scenarios:
  hard:
    mark: stationary
    load: {steady: {rps: 4}}
    requests: {promptTokens: 999, promptCv: 0, longestPromptTokens: 999, outputTokens: 50, outputCv: 0, longestOutputTokens: 50}
    durationSeconds: 60
    slo: {ttftSeconds: TTFT, tpotSeconds: TPOT, percentile: 95}
    budgetGpus: 8
    startUpSeconds: [30]
    pools: {prefill: POOL, decode: POOL}
    rejection: {rule: baseline}
    conditions: {handover: push, replicaLosses: [{atSeconds: 20, role: prefill}]}
"""


def told(folder: Path, command: str, *more: str, ttft_s: float = 2.0, tpot_s: float = 0.05) -> str:
    file = folder / "s.yaml"
    file.write_text(SCENARIO.replace("POOL", POOL).replace("TTFT", str(ttft_s)).replace("TPOT", str(tpot_s)))
    named = ["--peer", "static", *(["--jobs", "1"] if command == "compare" else ["--scenario", "hard"])]
    run = CliRunner().invoke(cli, [command, "--scenarios-file", str(file), *named, *more], catch_exceptions=False)
    assert run.exit_code == 0
    return run.stdout


def test_conditions_are_told_to_machines_and_in_the_report(tmp_path: Path) -> None:
    report = tmp_path / "r.html"
    found: dict[str, Any] = json.loads(told(tmp_path, "compare", "--json", "--report", str(report)))
    assert found["scenarios"]["hard@30s"]["conditions"] == {
        "handover": "push",
        "replicaLosses": [{"atSeconds": 20.0, "role": "prefill"}],
        "rejection": {"rule": "baseline"},
    }
    words = "Conditions: handover: push, replicaLosses: [{atSeconds: 20.0, role: prefill}], rejection: {rule: baseline}."
    assert words in report.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["simulate", "compare"])
@pytest.mark.parametrize(
    ("promise", "why"),
    [
        ({"ttft_s": 0.01}, "no number of replicas keeps TTFT 0.01 s for 95% of the requests"),
        ({"tpot_s": 0.005}, "no number of replicas keeps TPOT 0.005 s for 95% of the requests"),
    ],
)
def test_a_promise_that_no_size_keeps_is_infeasible_in_words_and_in_json(
    tmp_path: Path, command: str, promise: dict[str, float], why: str
) -> None:
    """Every prompt takes 18 ms, and an empty step 9."""
    why = f"{why}; the best reachable percentile is 0%"
    assert f"infeasible: {why}" in told(tmp_path, command, **promise)
    found = json.loads(told(tmp_path, command, "--json", **promise))
    rows = found if command == "simulate" else [found["scenarios"]["hard@30s"], *found["runs"]]
    assert {(row["infeasible"], row["reachable"]) for row in rows} == {(why, 0.0)}


def test_a_promise_that_can_be_kept_is_not_called_infeasible(tmp_path: Path) -> None:
    (row,) = json.loads(told(tmp_path, "simulate", "--json"))
    assert (row["infeasible"], row["reachable"]) == ("", 1.0)
