"""Which commands are there, and what can be told to each?

The composition root: options and nothing else. Every command's work stands in `commands/` and is imported when the
command runs, which keeps `autoscaler --help` free of NumPy, FastAPI and pydantic.

Every option can also be set as PDA_<COMMAND>_<OPTION> in the environment (PDA_RUN_PROMETHEUS=http://...; those that may
be repeated have a plural name and take several words: PDA_RUN_NAMESPACES="chat search"), which is why there is no settings
file beside the policy: what the operator wants is in the policy, where things are is here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from autoscaler import __version__
from autoscaler.options import FILES, JSON, NAMESPACES, SKIP_BAD_ROWS, STRICTNESS, TRACE, judged, looked_at, past, where


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "PDA", "max_content_width": 110})
@click.version_option(__version__, prog_name="autoscaler")
def cli() -> None:
    """Keeps the prefill and decode pools of disaggregated LLM serving the right size."""


@cli.command()
@click.option("--speed", type=click.FloatRange(0.1, 10_000), default=60.0, show_default=True, help="Simulated s per s.")
@click.option("--duration", "duration_s", type=click.FloatRange(1), help="End after this many seconds of real time.")
@TRACE
@SKIP_BAD_ROWS
@click.option("--rate", type=click.FloatRange(0.001, 1000), default=1.0, show_default=True, help="Multiply the arrivals.")
@click.option("--policy", type=FILES, help="PDAutoscaler file; a built-in chat policy otherwise.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Of the live page; 0: any.")
@click.option("--headless", is_flag=True, help="No live page and no live table.")
@JSON
def demo(**options: Any) -> None:
    """Watch the controller steer a simulated fleet."""
    from autoscaler.commands.demo import demo as command

    command(**options)


@cli.command()
@where
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Of the live page; 0: any.")
@click.option(
    "--lease",
    metavar="NAMESPACE/NAME",
    help="Act only while holding this Lease; for several controllers.  [default: pd-autoscaler in our own namespace; "
    "with --policy none]",
)
@click.option("--listen", metavar="ADDRESS:PORT", help="Serve /metrics, /healthz and /readyz there.")
@click.option("--state-secret-file", type=FILES, help="Shared with sidecars: who shows it hears of fleets at --listen, too.")
@click.option("--dry-run", is_flag=True, help="Decide and report, but change nothing, whatever the policy's mode.")
def run(**options: Any) -> None:
    """Run the controller until SIGTERM.

    It manages the fleets of the --policy files or, without any, those of the PDAutoscaler objects on the cluster.
    """
    from autoscaler.commands.run import run as command

    command(**options)


@cli.command()
@where
@click.option("--act/--dry-run", default=False, show_default=True, help="--act applies the plan of a policy in mode Auto.")
@JSON
def tick(**options: Any) -> None:
    """One tick: print the plan and why."""
    from autoscaler.commands.run import tick as command

    command(**options)


@cli.command()
@click.option("--url", default="http://127.0.0.1:8080", show_default=True, help="Live page of a running controller or demo.")
@click.option("--fleet", help="NAMESPACE/NAME; may be left out if there is only one.")
@JSON
def explain(**options: Any) -> None:
    """Tell why every number is what it is."""
    from autoscaler.commands.explain import explain as command

    command(**options)


@cli.command()
@click.argument("files", nargs=-1, required=True, type=FILES)
@JSON
def check(**options: Any) -> None:
    """Validate policy files."""
    from autoscaler.commands.check import check as command

    command(**options)


@cli.command()
@looked_at
def preflight(**options: Any) -> None:
    """Tell which signals Prometheus has for these policies, how their pods end, and what is lost without the rest.

    Ends with 1 if something is missing without which a controller does nothing.
    """
    from autoscaler.commands.preflight import preflight as command

    sys.exit(command(**options))


@cli.command()
@JSON
def crd(**options: Any) -> None:
    """Print the CustomResourceDefinition of PDAutoscaler."""
    from autoscaler.commands.crd import crd as command

    command(**options)


@cli.command()
@click.option("--policy", type=FILES, required=True, help="PDAutoscaler file whose fleet is simulated.")
@TRACE
@SKIP_BAD_ROWS
@click.option("--start", "start_s", type=click.FloatRange(0), default=0.0, show_default=True, help="Skip into the trace, s.")
@click.option("--length", "length_s", type=click.FloatRange(1), help="Play this much of the trace, s.")
@click.option("--rate", type=click.FloatRange(0.001, 1000), default=1.0, show_default=True, help="Multiply the arrivals.")
@click.option("--compress", type=click.FloatRange(0.1, 1000), default=1.0, show_default=True, help="Play the trace faster.")
@click.option("--initial", multiple=True, metavar="ROLE=N", help="Replicas at the start; the policy's min otherwise.")
@click.option("--startup", "startup_s", type=click.FloatRange(0), default=60.0, show_default=True, help="Cold start, s.")
@click.option("--targets-file", type=click.Path(dir_okay=False, path_type=Path), help="Written for Prometheus' file_sd_configs.")
@click.option("--port", type=click.IntRange(0, 65535), default=9460, show_default=True, help="Control address; 0: any.")
@click.option("--seed", type=int, default=1, show_default=True)
def fleet(**options: Any) -> None:
    """Serve a simulated fleet in real time.

    One metrics exporter per replica and one for the gateway, for a Prometheus to scrape, and a control address for `run
    --cluster sim:URL`.
    """
    from autoscaler.commands.fleet import fleet as command

    command(**options)


@cli.group()
def profile() -> None:
    """How fast one replica is."""


@profile.command()
@click.argument("measurements", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The YAML file to write.")
@click.option("--name", help="Of the profile; the measurements' own otherwise.")
@click.option("--kv-tokens", type=click.IntRange(1, 10**9), help="Tokens whose KV fits into one replica.")
@click.option("--kv-bytes-per-token", type=click.IntRange(1, 10**8), help="KV of one token, for the hand-over.")
@SKIP_BAD_ROWS
@JSON
def fit(**options: Any) -> None:
    """Fit a replica profile to measured times: a csv file, or a folder of npz grids."""
    from autoscaler.commands.profile import fit as command

    command(**options)


@cli.command()
@click.option("--scenario", help="Name of a scenario, with or without its start-up time: constant, constant@60s.")
@click.option("--trace", type=FILES, help="A trace instead, in any format that `demo --trace` reads; needs --policy.")
@click.option("--policy", type=FILES, help="PDAutoscaler file; on a scenario only its tuning counts.")
@click.option("--peer", help="Another project's policy instead of our controller.")
@click.option("--headroom", type=float, help="The policy's headroom knob.  [default: as published, or the policy file's]")
@click.option("--rate", type=click.FloatRange(0.001, 1000), default=1.0, show_default=True, help="Multiply the trace's arrivals.")
@click.option("--startup", "start_up_s", type=click.FloatRange(0, 3600), default=60.0, show_default=True, help="With --trace, s.")
@judged
def simulate(**options: Any) -> None:
    """Play one policy on a scenario or a trace and print its score."""
    from autoscaler.commands.simulate import simulate as command

    command(**options)


@cli.command()
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    help="Only these, by name or pattern (azure-*, *@60s); repeatable.  [default: the open set]",
)
@click.option("--kept", is_flag=True, help="The scenarios kept for the final report instead.")
@click.option("--policy", type=FILES, help="PDAutoscaler file whose tuning our controller plays with.")
@click.option("--peer", "peers", multiple=True, help="Only these peers; repeatable.  [default: all]")
@click.option("--sweep", is_flag=True, help="Each policy at five points of its headroom knob.")
@click.option("--references", is_flag=True, help="Lower bound, best static, oracle and clairvoyant flipper too (slow: searched).")
@click.option("--jobs", type=click.IntRange(1, 1024), help="Processes at once.  [default: one per core]")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write one self-contained HTML file.")
@click.option(
    "--trial", type=click.Path(dir_okay=False, path_type=Path), help="JSON of `make bench NAME=truth`: a section of the report."
)
@judged
def compare(**options: Any) -> None:
    """Play every policy on every scenario and rank them by cost."""
    from autoscaler.commands.compare import compare as command

    command(**options)


@cli.command()
@past
def backtest(**options: Any) -> None:
    """Play a policy on a fleet's own past, read from Prometheus.

    Nothing is changed anywhere: recorded metrics become requests again, and are played under the replicas that stood there
    and under the policy. What had to be assumed is told.
    """
    from autoscaler.commands.backtest import backtest as command

    command(**options)


@cli.command()
@click.option(
    "--state",
    "states",
    multiple=True,
    required=True,
    metavar="URL",
    help="Where a controller tells of the fleet: http://HOST:PORT/v1/state/NAMESPACE/NAME; several are tried in turn.",
)
@click.option("--listen", default="127.0.0.1:8090", show_default=True, metavar="ADDRESS:PORT", help="Where gateways ask.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that share the port.")
@click.option("--secret-file", type=FILES, help="Shared with the controller: lets us in, and proves that a state is its own.")
@click.option("--ca-file", type=FILES, help="Certificate authority of the controller.")
@click.option("--predictions", is_flag=True, help="Tell expected latencies to those who ask for them.")
@click.option("--connections", type=click.IntRange(1, 65536), default=10240, show_default=True, help="At once, per worker.")
def sidecar(**options: Any) -> None:
    """Reject requests early that would miss their SLO, for Envoy, Traefik, nginx or by JSON.

    Starts without a controller and admits everybody until it hears of one.
    """
    from autoscaler.commands.sidecar import sidecar as command

    command(**options)


@cli.command()
@click.option("--policy", "policies", type=FILES, multiple=True, required=True, help="PDAutoscaler file; repeatable.")
@click.option("--cluster", metavar="WHICH", help="`kubernetes` or `kubernetes:CONTEXT`: what it can use.  [default: an HPA]")
@click.option(
    "--keda-url",
    default="http://pd-autoscaler-companion.pd-autoscaler:8080",
    show_default=True,
    metavar="URL",
    help="Our page for KEDA.",
)
@JSON
def hpa(**options: Any) -> None:
    """Print the autoscalers that write the counts of pools with actuation hpa."""
    from autoscaler.commands.hpa import hpa as command

    command(**options)


@cli.command()
@click.option("--cluster", default="kubernetes", show_default=True, metavar="WHICH", help="Or `kubernetes:CONTEXT`.")
@NAMESPACES
@click.option("--listen", default="127.0.0.1:6443", show_default=True, metavar="ADDRESS:PORT", help="For API servers, over TLS.")
@click.option("--keda-listen", metavar="ADDRESS:PORT", help="For KEDA's metrics-api trigger, in the clear.  [default: nowhere]")
@click.option("--keda-token-file", type=FILES, help="Bearer token that callers of --keda-listen must show.")
@click.option("--cert", type=FILES, help="Serving certificate in PEM, looked at every second.  [default: one of our own]")
@click.option("--key", type=FILES, help="Its key.")
@click.option(
    "--service",
    default="pd-autoscaler-companion",
    show_default=True,
    metavar="NAME",
    help="Our Service, which our own certificate is for, and the Secret that keeps it, both in our own namespace.",
)
@click.option("--direct-callers", is_flag=True, help="Also let in who shows a token and may read the metric.")
@click.option("--guard", type=STRICTNESS, default="warn", show_default=True, help="Writes by others to counts that are ours.")
@click.option("--early-reject", type=STRICTNESS, default="warn", show_default=True, help="Batch load without room for it.")
@click.option("--allow", "allowed", multiple=True, metavar="USER", help="User or group that may write counts; repeatable.")
def serve(**options: Any) -> None:
    """Answer HPA, KEDA and API servers: external metrics, KEDA's JSON and the admission webhook."""
    from autoscaler.commands.serve import serve as command

    command(**options)


def main() -> None:
    """Entry point. Bad input ends with one clear line per problem and exit code 2, never with a traceback."""
    from autoscaler.refusal import Refusal

    try:
        cli(prog_name="autoscaler")
    except Refusal as refusal:
        click.echo(f"autoscaler: {refusal}", err=True)
        sys.exit(2)
