"""Which policy keeps the promises for the fewest GPU-hours, scenario by scenario?

Every policy in every case is a job of its own (simulator/comparison.py), and the jobs go to a pool of processes. They are
dealt in the order of the cases, so that a case's requests are read while the page cache still has its trace. What comes back
is put into one table per scenario, and, if wanted, into one HTML file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from autoscaler.commands.simulate import folder_of, known_peers, tuning_of
from autoscaler.commands.standings import by_scenario, document, table
from autoscaler.refusal import Refusal
from autoscaler.simulator.comparison import Job, Result, cut, field_of, play, settled
from autoscaler.simulator.scenarios import BUILT_IN, Case, Cases, load_cases


def compare(
    *,
    scenarios: tuple[str, ...],
    scenarios_file: Path | None,
    traces: Path | None,
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
) -> None:
    """Play all, then tell. Raises Refusal on bad input."""
    _refuse_unwritable(report)
    cases = load_cases(folder_of(traces), scenarios_file or BUILT_IN, kept=kept)
    field = field_of(tuning_of(policy), known_peers(peers), sweep=sweep, references=references)
    chosen = [cut(case, length_s) for case in _chosen(cases, scenarios)]
    for line in () if scenarios else cases.left_out:
        click.echo(line, err=True)
    if not chosen:
        raise Refusal("compare: no scenario is left to be played")
    played = _played([Job(case, one, seed, attainment) for case in chosen for one in field], jobs or _cores())
    results = settled(played)
    if report is not None:
        _write(report, results, chosen, attainment, () if scenarios else cases.left_out)
    if as_json:
        click.echo(json.dumps(document(results, attainment), indent=2))
        return
    console = Console(width=None if Console().is_terminal else 140)
    for name, ranking in by_scenario(results, attainment).items():
        console.print(table(name, ranking, attainment))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _chosen(cases: Cases, names: Sequence[str]) -> Iterator[Case]:
    """Those named, or all. Refusal for a name that cannot be played, with the reason where one is known."""
    seen = set[str]()
    for name in names:
        for line in cases.left_out:
            if line.partition(":")[0] == name.partition("@")[0]:
                raise Refusal(line)
    for case in [case for name in names for case in cases.named(name)] if names else cases.ready:
        if case.name not in seen:
            seen.add(case.name)
            yield case


def _played(jobs: Sequence[Job], processes: int) -> list[Result]:
    """The results in the order of the jobs, whoever was done first."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("playing", total=len(jobs))

        def ended(job: Job) -> None:
            progress.update(bar, advance=1, description=f"{job.case.name} {job.contender.name}")

        return _here(jobs, ended) if processes == 1 else _in_processes(jobs, processes, ended)


def _here(jobs: Sequence[Job], ended: Callable[[Job], None]) -> list[Result]:
    results = []
    for job in jobs:
        results.append(play(job))
        ended(job)
    return results


def _in_processes(jobs: Sequence[Job], processes: int, ended: Callable[[Job], None]) -> list[Result]:
    """Spawned, not forked: the progress bar has a thread. A job that is refused, or Ctrl-C, lets those in line go."""
    pool = ProcessPoolExecutor(min(processes, len(jobs)), mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(play, job): at for at, job in enumerate(jobs)}
        results: dict[int, Result] = {}
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            ended(jobs[futures[future]])
        return [results[at] for at in range(len(jobs))]
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_unwritable(report: Path | None) -> None:
    """Minutes of simulation must not end at a folder that is not there."""
    if report is not None and not report.parent.is_dir():
        raise Refusal(f"--report {report}: there is no folder {report.parent}")


def _write(path: Path, results: Sequence[Result], cases: Sequence[Case], attainment: float, left_out: Sequence[str]) -> None:
    from autoscaler.commands.comparison_page import page  # only where a report is asked for

    try:
        path.write_text(page(results, cases, attainment, left_out), encoding="utf-8")
    except OSError as error:
        raise Refusal(f"--report {path}: cannot be written: {error.strerror or error}") from None
    click.echo(f"report: {path}", err=True)
