"""Is a row that nobody can read named by file and line wherever a trace is read, and skipped with a count only when asked?"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from autoscaler.cli import cli
from autoscaler.refusal import Refusal

POLICY = Path(__file__).parents[1] / "autoscaler" / "commands" / "demo.yaml"
SAID = r"bad\.csv line 4: output_tokens 'many' is not a whole number 0\.\.10000000"
SCENARIO = """
scenarios:
  mine:
    mark: unforecastable
    load: {trace: {file: bad.csv}}
    durationSeconds: 60
    slo: {ttftSeconds: 2, tpotSeconds: 0.05, percentile: 95}
    budgetGpus: 8
    startUpSeconds: [30, 60]
    pools:
      prefill: {profile: llama-3-8b-h100-tp1, gpus: 1, min: 1, max: 4, start: 1}
      decode: {profile: llama-3-8b-h100-tp1, gpus: 1, min: 1, max: 4, start: 1}
"""


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[str]]:
    """Every command that reads a trace."""
    rows = ["timestamp,prompt_tokens,output_tokens", *(f"{at},600,50" for at in range(30))]
    rows[3] = "2,600,many"
    bad, file = tmp_path / "bad.csv", tmp_path / "s.yaml"
    bad.write_bytes(gzip.compress("\n".join(rows).encode()))
    file.write_text(SCENARIO)
    scenarios = ["--scenarios-file", str(file), "--traces", str(tmp_path)]
    return {
        "simulate a trace": ["simulate", "--trace", str(bad), "--policy", str(POLICY), "--json"],
        "simulate": ["simulate", "--scenario", "mine@30s", "--json", *scenarios],
        "compare": ["compare", "--peer", "static", "--jobs", "1", "--json", *scenarios],
        "demo": ["demo", "--trace", str(bad), "--headless", "--speed", "10000", "--duration", "1", "--json"],
        "fleet": ["fleet", "--trace", str(bad), "--policy", str(POLICY)],
    }


@pytest.mark.parametrize("name", ["simulate a trace", "simulate", "compare", "demo", "fleet"])
def test_a_bad_row_is_refused_with_file_line_field_value_and_range(commands: dict[str, list[str]], name: str) -> None:
    with pytest.raises(Refusal, match=SAID):
        CliRunner().invoke(cli, commands[name], catch_exceptions=False)


@pytest.mark.parametrize("name", ["simulate a trace", "simulate", "compare", "demo"])
def test_where_it_is_asked_for_bad_rows_are_left_out_and_counted(commands: dict[str, list[str]], name: str) -> None:
    run = CliRunner().invoke(cli, [*commands[name], "--skip-bad-rows"], catch_exceptions=False)
    assert run.exit_code == 0
    told = [line for line in run.stderr.splitlines() if "skipped" in line]
    assert len(told) == 1
    assert "1 row skipped; the first: " in told[0]
    assert "bad.csv line 4: output_tokens 'many'" in told[0]
    found = json.loads(run.stdout)
    if name == "compare":
        assert found["skipped"] == told
        found = found["runs"]
    offered = [found["requests_offered"]] if name == "demo" else [row["score"]["offered"] for row in found]
    assert set(offered) == {29}
