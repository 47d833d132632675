"""Would these policies have what they need, before a controller runs by them?

Checks, each a function of one policy's `Subject` that yields rows. Today they are about signals: which of them Prometheus has,
how old they are and what they say, what is lost without the rest, and whether GPUs contradict their engines. Without
`--cluster` a role's pods are known by the names that its target gives them; with it they are those that stand.

Exit code 0 when all that is needed is there, 1 when something needed is missing, 2 (a Refusal) for what cannot be checked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoscaler.adapters.prometheus.client import PrometheusClient
from autoscaler.adapters.prometheus.gpus import witness
from autoscaler.adapters.prometheus.promql import any_of
from autoscaler.adapters.prometheus.sightings import Outlook, Sight
from autoscaler.commands.backtest import pattern_of
from autoscaler.commands.losses import LOST, NEEDED
from autoscaler.commands.wiring import endpoint, from_files
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Unknown
from autoscaler.policy import Document
from autoscaler.policy_file import load_policies
from autoscaler.ports import Fault, FleetGateway, Managed
from autoscaler.refusal import Refusal
from autoscaler.roster import managed

FINE = frozenset({Sight.THERE, Sight.QUIET})
STYLE: Mapping[str, str] = {Sight.THERE: "green", Sight.QUIET: "cyan", Sight.UNTOLD: "dim"}
UNWITNESSED = "an engine that hangs and says it works is found by nobody"
NARROW = 140  # columns where nobody looks at a terminal


@dataclass(frozen=True, slots=True)
class Row:
    """What one check found: `fine`, or what is `lost`; `needed`: without it nothing goes. `age_s` where it has an age."""

    name: str
    state: str
    fine: bool
    needed: bool
    detail: str
    lost: str = ""
    age_s: float | None = None

    @property
    def bars(self) -> bool:
        """Whether a controller would have to do without something it needs."""
        return self.needed and not self.fine


@dataclass(frozen=True, slots=True)
class Subject:
    """What a policy's checks look at: the fleet that it describes, each role's pods as a pattern, and Prometheus."""

    fleet: Managed
    pods: Mapping[Role, str]
    client: PrometheusClient
    within_s: float


def signals(subject: Subject) -> Iterable[Row]:
    """One row for every signal that any fleet could have."""
    for seen in Outlook(subject.fleet, subject.pods).sightings(subject.client, subject.within_s):
        fine = seen.sight in FINE
        lost = "" if fine else LOST[seen.signal]
        yield Row(seen.signal, seen.sight, fine, seen.signal in NEEDED, seen.detail, lost, seen.age_s)


def gpus(subject: Subject) -> Iterable[Row]:
    """One row: whether there is a witness beside the engines, and whether it contradicts one of them."""
    seen = witness(subject.client, subject.fleet, subject.pods, subject.within_s)
    if isinstance(seen, Unknown):
        yield Row("gpus", Sight.FAILED, False, False, seen.detail, UNWITNESSED)
    elif not seen.pods:
        yield Row("gpus", Sight.MISSING, False, False, "no DCGM_FI_PROF_GR_ENGINE_ACTIVE of these pods", UNWITNESSED)
    elif seen.hanging:
        told = f"{', '.join(seen.hanging)}: requests run for 10 min on a GPU that does nothing"
        yield Row("gpus", "contradicted", False, False, told, "such a pod serves nobody and counts as capacity: restart it")
    else:
        yield Row("gpus", Sight.THERE, True, False, f"{seen.pods} pods, none at work on a GPU that does nothing")


CHECKS: Sequence[Callable[[Subject], Iterable[Row]]] = (signals, gpus)


def preflight(
    *,
    policies: Sequence[Path],
    cluster: str | None,
    prometheus: str,
    headers: tuple[str, ...],
    token_file: Path | None,
    ca_file: Path | None,
    query_timeout_s: float,
    as_json: bool,
) -> int:
    """Print what was found of every policy; the exit code. Raises Refusal on bad input and where Prometheus does not answer."""
    documents = [loaded.document for loaded in load_policies(policies)]
    client = PrometheusClient(endpoint(prometheus, headers, token_file, ca_file, query_timeout_s))
    gateway = from_files(policies, cluster, dry_run=True).gateway if cluster is not None else None
    answers = client.query("vector(1)", query_timeout_s)
    if isinstance(answers, Unknown):
        raise Refusal(f"--prometheus {answers.detail}")
    found = {}
    for document in documents:
        fleet = managed(document)
        subject = Subject(fleet, _pods(document, fleet, gateway), client, query_timeout_s)
        found[document.key] = [row for check in CHECKS for row in check(subject)]
    _tell(found, as_json)
    return int(any(row.bars for rows in found.values() for row in rows))


def _pods(document: Document, fleet: Managed, gateway: FleetGateway | None) -> Mapping[Role, str]:
    """Each role's pods as a regular expression: those that stand, or those that its target would make."""
    if gateway is None:
        return {role: pattern_of(pool.target) for role, pool in document.spec.pools.items()}
    seen = gateway.read(document.key, time.time())
    if isinstance(seen, Fault):
        raise Refusal(f"--cluster: {document.key}: {seen.detail}")
    return {role: json.loads(any_of(names)) for role, names in fleet.scope(seen).pods.items()}


def _tell(found: Mapping[str, Sequence[Row]], as_json: bool) -> None:
    if as_json:
        fleets = [
            {"policy": key, "ready": not any(row.bars for row in rows), "checks": [asdict(row) for row in rows]}
            for key, rows in found.items()
        ]
        click.echo(json.dumps({"ready": all(fleet["ready"] for fleet in fleets), "policies": fleets}, indent=2))
        return
    console = Console(width=None if Console().is_terminal else NARROW)
    for key, rows in found.items():
        console.print(_table(key, rows))
        console.print(_verdict(rows))


def _table(key: str, rows: Sequence[Row]) -> Table:
    table = Table(title=key, title_justify="left")
    for heading, options in HEADINGS.items():
        table.add_column(heading, **options)
    for row in rows:
        style = STYLE.get(row.state, "bold red" if row.bars else "yellow")
        age = "" if row.age_s is None else f"{row.age_s:.0f} s"
        table.add_row(row.name, Text(row.state, style), age, row.detail, Text(row.lost, "" if row.bars else "dim"))
    return table


HEADINGS: Mapping[str, Mapping[str, Any]] = {
    "signal": {"no_wrap": True},
    "": {"no_wrap": True},
    "age": {"no_wrap": True, "justify": "right"},
    "what it says": {"overflow": "fold"},
    "lost without it": {"overflow": "fold"},
}


def _verdict(rows: Sequence[Row]) -> Text:
    barred = [row.name for row in rows if row.bars]
    if barred:
        return Text(f"not ready: {', '.join(barred)}", "bold red")
    less = sum(not row.fine for row in rows)
    return Text("ready" + (f", without {less} of {len(rows)}" if less else ""), "bold green")
