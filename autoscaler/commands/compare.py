"""Which policy keeps the promises for the fewest GPU-hours, scenario by scenario?

Every policy plays in every case (playing.py). What comes back is put into one table per scenario (standings.py), for machines
into one object (comparison_json.py), and, if wanted, into one HTML file (comparison_page.py).
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import click
from rich.console import Console

from autoscaler.commands.comparison_json import document
from autoscaler.commands.comparison_page import page
from autoscaler.commands.page_file import refuse_unwritable, write_page
from autoscaler.commands.playing import played, tell_lost
from autoscaler.commands.recorded import skipped_of
from autoscaler.commands.setting import Setting
from autoscaler.commands.simulate import folder_of, known_peers, tuning_of
from autoscaler.commands.standings import by_scenario, cost_table, swept, table
from autoscaler.refusal import Refusal
from autoscaler.simulator.contenders import Job, field_of
from autoscaler.simulator.ground import cut
from autoscaler.simulator.result import Result, settled
from autoscaler.simulator.scenarios import BUILT_IN, Case, Cases, load_cases


def compare(
    *,
    scenarios: tuple[str, ...],
    scenarios_file: Path | None,
    traces: Path | None,
    skip_bad_rows: bool,
    kept: bool,
    policy: Path | None,
    peers: tuple[str, ...],
    sweep: bool,
    references: bool,
    attainment: float,
    length_s: float | None,
    seed: int,
    jobs: int | None,
    report: Path | None,
    as_json: bool,
    trial: Path | None = None,
) -> None:
    """Play all, then tell. Raises Refusal on bad input; ends with exit code 1 if a run was lost by a fault of ours."""
    refuse_unwritable(report)
    section = _section(trial, report)
    cases = load_cases(folder_of(traces), scenarios_file or BUILT_IN, kept=kept, lenient=skip_bad_rows)
    field = field_of(tuning_of(policy), known_peers(peers), sweep=sweep, references=references)
    chosen = [cut(case, length_s) for case in _chosen(cases, scenarios)]
    left_out = tuple(line for line in cases.left_out if not scenarios or any(_left_out(line, pattern) for pattern in scenarios))
    skipped = skipped_of(chosen)
    for line in (*left_out, *skipped):
        click.echo(line, err=True)
    if not chosen:
        raise Refusal("compare: no scenario is left to be played")
    runs = played([Job(case, one, seed, attainment) for case in chosen for one in field], jobs or _cores())
    results, setting = settled(runs), Setting(attainment, seed, _typed(), left_out, section, skipped)
    _tell(results, chosen, setting, report, as_json=as_json)
    tell_lost(results)


def _tell(results: Sequence[Result], cases: Sequence[Case], setting: Setting, report: Path | None, *, as_json: bool) -> None:
    try:
        if report is not None:
            write_page(report, page(results, cases, setting))
    finally:  # what minutes of simulation found is told, even where a disk is full by now
        if as_json:
            click.echo(json.dumps(document(results, cases, setting), indent=2))
        else:
            _print(results, setting.attainment)


def _print(results: Sequence[Result], attainment: float) -> None:
    console = Console(width=None if Console().is_terminal else 150)
    for name, ranking in by_scenario(results, attainment).items():
        console.print(table(name, ranking, attainment))
        if swept(ranking):
            console.print(cost_table(ranking, attainment))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _typed() -> str:
    """The command as it was typed, but for the program's path."""
    return shlex.join(["autoscaler", *sys.argv[1:]])


def _chosen(cases: Cases, patterns: Sequence[str]) -> Iterator[Case]:
    """Those that a name or a pattern (`azure-*`, `*@60s`) means, or all. Refusal for one that means none that can be played,
    with the reason where one is known.
    """
    seen = set[str]()
    for case in [case for pattern in patterns for case in _meant(cases, pattern)] if patterns else cases.ready:
        if case.name not in seen:
            seen.add(case.name)
            yield case


def _meant(cases: Cases, pattern: str) -> Sequence[Case]:
    found = [case for case in cases.ready if any(fnmatchcase(name, pattern) for name in _names(case))]
    if not found:
        for line in cases.left_out:
            if _left_out(line, pattern):
                raise Refusal(line)
    return found or cases.named(pattern)


def _left_out(line: str, pattern: str) -> bool:
    """Whether this line is about a scenario that the pattern means."""
    return fnmatchcase(line.partition(":")[0], pattern.partition("@")[0])


def _names(case: Case) -> tuple[str, str]:
    return case.name, case.name.partition("@")[0]


def _section(trial: Path | None, report: Path | None) -> str:
    """The simulator's own trial as HTML, made before anything is played, so that a bad file is refused at once."""
    if trial is None:
        return ""
    if report is None:
        raise Refusal("--trial goes into a report: give --report too")
    from autoscaler.commands.trial_page import section  # only where a trial is told

    try:
        told = json.loads(trial.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(f"--trial {trial}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise Refusal(f"--trial {trial}: not JSON: {error}") from None
    if not isinstance(told, Mapping):
        raise Refusal(f"--trial {trial}: not a JSON object")
    try:
        return section(told)
    except Refusal as refusal:
        raise Refusal(f"--trial {trial}: {refusal}") from None
