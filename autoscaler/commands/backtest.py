"""What would a policy have done with a fleet's own last days, and how much of the answer is assumed?

The past comes from Prometheus (adapters/prometheus/history.py), becomes requests again (simulator/rebuilt.py) and is played
under the counts that stood there and under the policy (simulator/backtest.py). What is told of it is in hindsight.py.

Nothing is changed anywhere: Prometheus is asked, and the policy's mode does not matter.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from autoscaler.adapters.prometheus.history import Inquiry
from autoscaler.adapters.prometheus.ranges import RangeClient, Span
from autoscaler.commands.hindsight import Grid, Hindsight, told
from autoscaler.commands.hindsight_page import page
from autoscaler.commands.page_file import refuse_unwritable, write_page
from autoscaler.commands.wiring import endpoint
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.policy.sections import SCRAPES_PER_WINDOW, Target
from autoscaler.policy_file import load_policies
from autoscaler.refusal import Refusal
from autoscaler.roster import managed
from autoscaler.simulator.backtest import Stage, replay_past, replay_policy, stood, unseen
from autoscaler.simulator.rebuilt import Arrivals, rebuild

UNITS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
USUAL_STEPS = 10_080  # a week at 60 s
USUAL_STEP_S = 60


def backtest(
    *,
    prometheus: str,
    headers: tuple[str, ...],
    token_file: Path | None,
    ca_file: Path | None,
    query_timeout_s: float,
    policy: Path,
    since: str,
    until: str | None,
    step: str | None,
    pods: tuple[str, ...],
    replicas: tuple[str, ...],
    arrivals: str,
    start_up_s: float,
    seed: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Ask, rebuild, play twice, tell. Raises Refusal on bad input and for what Prometheus does not answer."""
    document = _only(policy)
    span = _span(document, since, until, step, time.time())
    constant = {role: _count(text) for role, text in _by_role("--replicas", replicas).items()}
    patterns = {role: pattern_of(pool.target) for role, pool in document.spec.pools.items()} | _by_role("--pods", pods)
    refuse_unwritable(report)
    client = RangeClient(endpoint(prometheus, headers, token_file, ca_file, query_timeout_s))
    fleet = managed(document)
    gpus = {role: pool.gpus_per_replica for role, pool in document.spec.pools.items()}
    scrape_s = document.spec.metrics.scrape_interval_seconds
    stage = Stage(fleet, gpus, start_up_s, scrape_s, Arrivals(arrivals), seed)
    inquiry = Inquiry(fleet, patterns, span)
    with _progress() as bar:
        asking = bar.add_task("asking Prometheus", total=inquiry.queries())
        history = inquiry.read(client, lambda: bar.advance(asking))
        counts = stood(history, constant)
        rebuilt = rebuild(history, fleet.policy.shape)
        playing = bar.add_task("playing", total=2 * rebuilt.played)
        sides = [replay(stage, rebuilt.pieces, counts, lambda: bar.advance(playing)) for replay in (replay_past, replay_policy)]
    _tell(Hindsight(history, rebuilt, stage, unseen(history, rebuilt.pieces, constant), *sides), report, as_json)


def _tell(hindsight: Hindsight, report: Path | None, as_json: bool) -> None:
    try:
        if report is not None:
            write_page(report, page(hindsight))
    finally:  # what was found is told, even where a disk is full by now
        _print(hindsight, as_json)


def _print(hindsight: Hindsight, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(hindsight.document(), indent=2))
        return
    console = Console(width=None if Console().is_terminal else 140)
    for part in told(hindsight):
        console.print(_table(part) if isinstance(part, Grid) else Text(part))


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left")
    for at, heading in enumerate(grid.headings):
        table.add_column(heading, justify="right" if at else "left", no_wrap=True)
    for row in grid.rows:
        table.add_row(*row)
    return table


def seconds(name: str, text: str) -> int:
    """`7d`, `12h`, `90m`, `1d12h` as seconds. Refusal for what is none."""
    parts = re.findall(r"(\d+)([smhdw])", text)
    total_s = sum(int(number) * UNITS_S[unit] for number, unit in parts)
    if "".join(map("".join, parts)) != text or not total_s:
        raise Refusal(f'{name} "{text}" is no duration (allowed: whole numbers with s, m, h, d or w, as in 7d, 12h, 90m)')
    return total_s


def pattern_of(target: Target) -> str:
    """A regular expression for the names of a target's pods, as its kind makes them. The workers of a group export nothing of
    their own, so of a LeaderWorkerSet only the leaders count: chat-prefill-3, not chat-prefill-3-1.
    """
    name = target.name
    if target.role is not None:
        return f"{name}-([a-z0-9-]+-)?{target.role}(-[a-z0-9]+)?-[0-9]+"
    return f"{name}-[0-9]+" if target.kind in {"LeaderWorkerSet", "StatefulSet"} else f"{name}-[a-z0-9-]+"


def _only(policy: Path) -> Document:
    loaded = load_policies([policy])
    if len(loaded) > 1:
        raise Refusal(f"--policy {policy}: holds {len(loaded)} policies; a back-test is about one fleet")
    return loaded[0].document


def _span(document: Document, since: str, until: str | None, step: str | None, now_s: float) -> Span:
    """Steps begin at multiples of their length, so that two back-tests of one day ask for the same points."""
    scrape_s, since_s = document.spec.metrics.scrape_interval_seconds, seconds("--since", since)
    end_s = now_s if until is None else _moment(until, now_s)
    if step is None:
        least_s = max(SCRAPES_PER_WINDOW * scrape_s, since_s / USUAL_STEPS)
        step_s = -int(-least_s // USUAL_STEP_S) * USUAL_STEP_S
    elif (step_s := seconds("--step", step)) < SCRAPES_PER_WINDOW * scrape_s:
        reason = f"{SCRAPES_PER_WINDOW} x spec.metrics.scrapeIntervalSeconds {scrape_s:g}, else a late scrape looks like no load"
        raise Refusal(f"--step {step}: must be >= {SCRAPES_PER_WINDOW * scrape_s:g} s, {reason}")
    if since_s < step_s:
        raise Refusal(f"--since {since}: is shorter than one step of {step_s} s")
    last_s = int(end_s // step_s) * step_s
    first_s = last_s - since_s // step_s * step_s
    if first_s < 0:
        ending = "" if until is None else f' --until "{until}"'
        raise Refusal(f'--since "{since}"{ending}: begins before 1970')
    return Span(first_s, last_s, step_s)


def _moment(text: str, now_s: float) -> float:
    """A time as ISO 8601 has it (UTC where it names no zone), or a duration ago. Refusal for none, and for one yet to come."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now_s - seconds("--until", text)
        except Refusal:
            raise Refusal(f'--until "{text}" is neither a time (2026-11-20T18:00Z) nor a duration ago (12h)') from None
    at_s = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if at_s > now_s:
        now = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%MZ")
        raise Refusal(f'--until "{text}" is yet to come: a past ends at {now}, which is now, at the latest')
    return at_s


def _by_role(option: str, pairs: tuple[str, ...]) -> dict[Role, str]:
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if name not in list(Role) or not equals or not text:
            raise Refusal(f'{option} "{pair}": must be ROLE=... (roles: {", ".join(Role)})')
        found[Role(name)] = text
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise Refusal(f'--replicas "{text}" is no count of replicas (allowed: 1..1000)')
    return int(text)


@contextmanager
def _progress() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield progress
