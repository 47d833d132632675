"""How is a fleet simulated in real time, for a real Prometheus to scrape and a controller in another process to steer?"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import click

from autoscaler.apps.fleet_control import create_app
from autoscaler.apps.loopback import serve
from autoscaler.commands.ending import Ending
from autoscaler.commands.recorded import checked
from autoscaler.commands.simulated import simulated
from autoscaler.core.fleet import Role
from autoscaler.policy_file import load_policies
from autoscaler.refusal import Refusal
from autoscaler.roster import managed
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.exporters import FleetLabels, RealTimeFleet
from autoscaler.simulator.pool_setting import StartUp
from autoscaler.simulator.replay import Slice
from autoscaler.simulator.traces import Recording
from autoscaler.simulator.workload import DEMO_DAY, Request, synthetic_day

STEP_S = 0.2


def fleet(
    *,
    policy: Path,
    trace: Path | None,
    skip_bad_rows: bool,
    start_s: float,
    length_s: float | None,
    rate: float,
    compress: float,
    initial: Sequence[str],
    startup_s: float,
    targets_file: Path | None,
    port: int,
    seed: int,
) -> None:
    """Serve the fleet until SIGTERM or SIGINT. Raises Refusal on bad input."""
    written = load_policies([policy])[0].document
    fleet = managed(written)
    spec = simulated(written, StartUp(startup_s), seed, _initial(initial))
    rng = Random(seed)  # noqa: S311 - traffic, not a secret
    part = Slice(start_s, float("inf") if length_s is None else length_s, rate)
    day = replace(DEMO_DAY, scale=rate)
    requests = synthetic_day(rng, day) if trace is None else checked(Recording(trace, part, skip_bad_rows))(rng)
    targets = _writable(targets_file or Path(tempfile.mkdtemp(prefix="pd-autoscaler-")) / "targets.json")
    ending = Ending()
    engine = Engine(spec, _compressed(requests, compress))
    with RealTimeFleet(engine, FleetLabels(fleet.namespace, fleet.model), targets) as running:
        control = serve(create_app(running), port=port)
        click.echo(f"control: {control.url}\ntargets for file_sd_configs: {targets}", err=True)
        while running.fault is None and not ending.wait(STEP_S):
            pass
        control.stop()
    if running.fault is not None:
        raise Refusal(str(running.fault))


def _initial(pairs: Sequence[str]) -> dict[Role, int]:
    """`prefill=2` -> 2 replicas of that role serve from the start."""
    counts = {}
    for pair in pairs:
        name, _, count = pair.partition("=")
        if name not in list(Role) or not count.isascii() or not count.isdigit():
            raise Refusal(f"--initial {pair!r}: must be ROLE=N with ROLE one of {', '.join(Role)} and N a whole number")
        counts[Role(name)] = int(count)
    return counts


def _writable(targets: Path) -> Path:
    """The targets file, empty for now; refused before anything runs if it cannot be written."""
    try:
        targets.write_text("[]", encoding="utf-8")
    except OSError as error:
        raise Refusal(f"--targets-file {targets}: cannot be written: {(error.strerror or str(error)).lower()}") from error
    return targets


def _compressed(requests: Iterator[Request], factor: float) -> Iterator[Request]:
    """Time runs `factor` times as fast: what took an hour takes 60 / factor minutes, at `factor` times the rate."""
    return (replace(request, arrival_s=request.arrival_s / factor) for request in requests)
