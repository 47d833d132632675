"""Would these policies have what they need, before a controller runs by them?

Checks, each a function of one policy's `Subject` that yields rows: which signals Prometheus has, how old they are and what they
say, what is lost without the rest; whether GPUs contradict their engines; and on Kubernetes, whether pods can be taken out of
routing, and have the time to finish when they are deleted at work, and whether autoscalers that write counts can be exact.
Without `--cluster` a role's pods are known by the names that its target gives them; with it they are those that stand.

Exit code 0 when all that is needed is there, 1 when something needed is missing, 2 (a Refusal) for what cannot be checked.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from autoscaler.adapters.prometheus.client import PrometheusClient
from autoscaler.adapters.prometheus.gpus import witness
from autoscaler.adapters.prometheus.promql import any_of
from autoscaler.adapters.prometheus.sightings import Outlook, Sight
from autoscaler.adapters.routing import GATE, complaints, stopping
from autoscaler.commands.backtest import pattern_of
from autoscaler.commands.findings import Row
from autoscaler.commands.hpa import KUBERNETES, asked, handed, needed
from autoscaler.commands.losses import LOST, NEEDED, STAYS, UNFINISHED, UNWITNESSED
from autoscaler.commands.wiring import endpoint, from_files
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Unknown
from autoscaler.policy import Document
from autoscaler.policy.document import Spec
from autoscaler.policy.routing import Routing, RoutingKind
from autoscaler.policy.sections import Target
from autoscaler.policy_file import load_policies
from autoscaler.ports import Fault, FleetGateway, Managed
from autoscaler.refusal import Refusal
from autoscaler.roster import managed

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes.api import ApiFault
    from autoscaler.adapters.kubernetes.metrics_api import AutoscalersApi

FINE = frozenset({Sight.THERE, Sight.QUIET})
STYLE: Mapping[str, str] = {Sight.THERE: "green", Sight.QUIET: "cyan", Sight.UNTOLD: "dim"}
NARROW = 140  # columns where nobody looks at a terminal


class Templates(Protocol):
    """Where the pod templates of targets are known."""

    def of(self, namespace: str, target: Target, /) -> Mapping[str, Any] | ApiFault | None:
        """A template; None where the target has none."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """What a policy's checks look at: the policy and the fleet that it describes, each role's pods as a pattern, Prometheus, and
    the pod templates and the API server where there is a Kubernetes cluster.
    """

    document: Document
    fleet: Managed
    pods: Mapping[Role, str]
    client: PrometheusClient
    within_s: float
    templates: Templates | None = None
    api: AutoscalersApi | None = None


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


def pods(subject: Subject) -> Iterable[Row]:
    """Of each role, whether its pods can be taken out of routing, and whether they may finish when they are deleted at work."""
    if subject.templates is None:
        return
    for role, pool in subject.document.spec.pools.items():
        template = subject.templates.of(subject.fleet.namespace, pool.target)
        if template is None:
            yield Row(f"{role}.pods", Sight.UNTOLD, False, False, f"a {pool.target.kind} has no pod template", UNFINISHED)
        elif not isinstance(template, Mapping):
            yield Row(f"{role}.pods", Sight.FAILED, False, False, f"{pool.target.called()}: {template}", UNFINISHED)
        else:
            yield from (*_leaving(role, template, subject.document.spec.routing), *_ending(role, template, subject.document.spec))


def _leaving(role: Role, template: Mapping[str, Any], routing: Routing | None) -> Iterable[Row]:
    """By a label or a gate that only a pod template can give."""
    if routing is None:
        return
    labels = (template.get("metadata") or {}).get("labels") or {}
    gates = [gate.get("conditionType") for gate in (template.get("spec") or {}).get("readinessGates") or ()]
    by, borne = f"label {routing.label}: {routing.values[role]}", labels.get(routing.label) == routing.values[role]
    if routing.kind is RoutingKind.READINESS_GATE:
        by, borne = f"readiness gate {GATE}", GATE in gates
    detail = f"{by} is on the pod template" if borne else f"no {by} on the pod template"
    yield Row(f"{role}.leaving", Sight.THERE if borne else Sight.MISSING, borne, False, detail, "" if borne else STAYS)


def _ending(role: Role, template: Mapping[str, Any], spec: Spec) -> Iterable[Row]:
    """A line for each complaint."""
    found = stopping(template.get("spec") or {})
    told = [*complaints(role, spec.engine, found, spec.behaviour.drain.deadline_seconds)]
    yield from (Row(f"{role}.ending", "short", False, False, one, UNFINISHED) for one in told)
    if not told:
        yield Row(f"{role}.ending", Sight.THERE, True, False, f"{found.left_s:g} s from SIGTERM to SIGKILL")


def autoscalers(subject: Subject) -> Iterable[Row]:
    """Of pools whose count others write: who answers for external metrics, whether that is exact, and who reads it."""
    return handed(subject.document, subject.api)


CHECKS: Sequence[Callable[[Subject], Iterable[Row]]] = (signals, gpus, pods, autoscalers)


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
    found, yaml, templates, api = {}, {}, _templates(cluster), asked(cluster)
    for document in documents:
        fleet = managed(document)
        subject = Subject(document, fleet, _pods(document, fleet, gateway), client, query_timeout_s, templates, api)
        found[document.key] = [row for check in CHECKS for row in check(subject)]
        yaml[document.key] = needed(document, api)
    _tell(found, as_json, yaml)
    return int(any(row.bars for rows in found.values() for row in rows))


def _templates(cluster: str | None) -> Templates | None:
    """Those of a Kubernetes cluster, which `from_files` has found to be one by now."""
    kind, _, context = (cluster or "").partition(":")
    if kind != KUBERNETES:
        return None
    from autoscaler.adapters.kubernetes import connect  # 0.5 s that others do not pay
    from autoscaler.adapters.kubernetes.templates import Templates as OfCluster

    return OfCluster(connect(context or None))


def _pods(document: Document, fleet: Managed, gateway: FleetGateway | None) -> Mapping[Role, str]:
    """Each role's pods as a regular expression: those that stand, or those that its target would make."""
    if gateway is None:
        return {role: pattern_of(pool.target) for role, pool in document.spec.pools.items()}
    seen = gateway.read(document.key, time.time())
    if isinstance(seen, Fault):
        raise Refusal(f"--cluster: {document.key}: {seen.detail}")
    return {role: json.loads(any_of(names)) for role, names in fleet.scope(seen, 0.0).pods.items()}


def _tell(found: Mapping[str, Sequence[Row]], as_json: bool, yaml: Mapping[str, str] | None = None) -> None:
    """`yaml`: by policy, the autoscalers that write its counts; told where there are any."""
    yaml = {key: text for key, text in (yaml or {}).items() if text}
    if as_json:
        fleets = [
            {"policy": key, "ready": not any(row.bars for row in rows), "checks": [asdict(row) for row in rows]}
            | ({"autoscalers": yaml[key]} if key in yaml else {})
            for key, rows in found.items()
        ]
        click.echo(json.dumps({"ready": all(fleet["ready"] for fleet in fleets), "policies": fleets}, indent=2))
        return
    console = Console(width=None if Console().is_terminal else NARROW)
    for key, rows in found.items():
        console.print(_table(key, rows))
        console.print(_verdict(rows))
        if key in yaml:
            console.print(Text(f"What writes the counts that are published for {key}:", "bold"))
            click.echo(yaml[key], nl=False)


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
