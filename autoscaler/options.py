"""What can be told to several commands?

The options that commands have in common, so that `--prometheus` means one thing everywhere. What only one command knows stands
at that command, in cli.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

FILES = click.Path(dir_okay=False, allow_dash=True, path_type=Path)
TRACE = click.option(
    "--trace", type=FILES, help="Mooncake jsonl, Azure or plain csv, ServeGen table, .gz too, instead of the built-in day."
)
SKIP_BAD_ROWS = click.option(
    "--skip-bad-rows", is_flag=True, help="Count rows that cannot be read, and tell of them, instead of refusing them."
)
STRICTNESS = click.Choice(["off", "warn", "deny"])
NAMESPACES = click.option(
    "--namespace", "namespaces", multiple=True, help="Where the PDAutoscaler objects are; repeatable.  [default: our own]"
)
POLICIES = (
    click.option("--policy", "policies", type=FILES, multiple=True, help="PDAutoscaler file; repeatable."),
    click.option(
        "--namespace",
        "namespaces",
        multiple=True,
        help="Without --policy: where the PDAutoscaler objects are; repeatable.  [default: our own]",
    ),
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines instead of tables for people.")
PROMETHEUS = (
    click.option("--prometheus", required=True, metavar="URL", help="Where Prometheus answers queries."),
    click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Sent with every query, e.g. a tenant."),
    click.option("--token-file", type=FILES, help="Bearer token for Prometheus, read anew when it changes."),
    click.option("--ca-file", type=FILES, help="Certificate authority of Prometheus."),
)
WHERE = (
    PROMETHEUS[0],
    click.option(
        "--cluster",
        required=True,
        metavar="WHICH",
        help="`kubernetes` of $KUBECONFIG, ~/.kube/config or around us; `kubernetes:CONTEXT`; `sim:URL` of `autoscaler fleet`.",
    ),
    *PROMETHEUS[1:],
    click.option("--query-timeout", "query_timeout_s", type=click.FloatRange(0.1, 60), default=5.0, show_default=True),
)


def where(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say where the policies, Prometheus and the cluster are."""
    return _with((*POLICIES, *WHERE), command)


def _with(options: Iterable[Callable[..., Any]], command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(tuple(options)):
        command = option(command)
    return command


TRACES = click.option(
    "--traces",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the traces that scenarios name; those without their trace are left out.  [default: $PDA_SHARED/traces]",
)
SCENARIOS_FILE = click.option(
    "--scenarios-file",
    type=FILES,
    help="Scenarios of one's own instead of the built-in ones; autoscaler/simulator/scenarios.yaml begins with all that may "
    "stand in one.",
)
JUDGED = (
    click.option("--attainment", type=click.FloatRange(0.01, 1.0), default=0.99, show_default=True, help="Required share met."),
    click.option("--length", "length_s", type=click.FloatRange(60), help="Cut each run to this many simulated seconds."),
    click.option("--seed", type=int, default=1, show_default=True),
    SCENARIOS_FILE,
    TRACES,
    SKIP_BAD_ROWS,
    JSON,
)


def judged(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how simulated runs are judged, and on what."""
    return _with(JUDGED, command)


def past(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which past is played again."""
    return _with((*PROMETHEUS, *PAST), command)


def looked_at(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is looked at before a controller runs."""
    return _with(LOOKED_AT, command)


LOOKED_AT = (
    click.option("--policy", "policies", type=FILES, multiple=True, required=True, help="PDAutoscaler file; repeatable."),
    *PROMETHEUS,
    click.option("--cluster", metavar="WHICH", help="Ask about the pods that stand there.  [default: all of the targets' names]"),
    click.option("--query-timeout", "query_timeout_s", type=click.FloatRange(0.1, 60), default=5.0, show_default=True),
    JSON,
)
PAST = (
    click.option("--query-timeout", "query_timeout_s", type=click.FloatRange(0.1, 600), default=60.0, show_default=True),
    click.option("--policy", type=FILES, required=True, help="PDAutoscaler file: which fleet, and what would have steered it."),
    click.option("--since", default="7d", show_default=True, metavar="LENGTH", help="How much of the past: 7d, 12h, 90m."),
    click.option("--until", metavar="WHEN", help="Its end: a time (2026-11-20T18:00Z), or a length ago.  [default: now]"),
    click.option("--step", metavar="LENGTH", help="How finely it is read.  [default: 60s, more for more than a week]"),
    click.option(
        "--pods", multiple=True, metavar="ROLE=PATTERN", help="Names of a role's pods.  [default: by the policy's target]"
    ),
    click.option("--replicas", multiple=True, metavar="ROLE=N", help="How many there were, where the metrics do not tell."),
    click.option(
        "--arrivals", type=click.Choice(["poisson", "even"]), default="poisson", show_default=True, help="Within a step."
    ),
    click.option(
        "--startup", "start_up_s", type=click.FloatRange(0, 3600), default=60.0, show_default=True, help="Cold start, s."
    ),
    click.option("--seed", type=int, default=1, show_default=True),
    click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write one self-contained HTML file."),
    JSON,
)
