"""How is the controller put together for `run` and `tick`?"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from autoscaler.adapters.clock import SystemClock
from autoscaler.adapters.prometheus import Endpoint, PrometheusSignals, load_profiles, queries_for
from autoscaler.adapters.sim_cluster import SimulatedFleetClient
from autoscaler.adapters.telemetry import Transitions, configure_logging
from autoscaler.commands.report import whole
from autoscaler.controller import Controller, Managed
from autoscaler.core.plan import Mode
from autoscaler.core.status import document
from autoscaler.policy import Document
from autoscaler.policy_file import load_policies
from autoscaler.ports import FleetGateway, StatusSink
from autoscaler.refusal import Refusal
from autoscaler.scheduling import TickLoop

log = logging.getLogger(__name__)


def run(policies: Sequence[Path], cluster: str, port: int, dry_run: bool, **prometheus: Any) -> None:
    """Tick until SIGTERM or SIGINT, with the live page beside it. Raises Refusal on bad input."""
    from autoscaler.apps.feed import Feed  # `tick` needs no web server
    from autoscaler.apps.live import create_app
    from autoscaler.apps.loopback import serve

    configure_logging()
    documents = [loaded.document for loaded in load_policies(policies)]
    feed = Feed()
    controller = build(documents, [feed, Transitions()], dry_run, prometheus=endpoint(**prometheus), cluster=cluster)
    page = serve(create_app(feed, "pd-autoscaler"), port=port, closing=feed.let_go)
    click.echo(f"live page: {page.url}", err=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    loop = TickLoop(controller.tick, min(one.spec.behaviour.tick_seconds for one in documents))
    loop.start()
    stop.wait()
    if not loop.stop():
        log.warning("a tick was still in flight; its writes carry their precondition and are safe to leave")
    page.stop()


def tick(policies: Sequence[Path], cluster: str, act: bool, as_json: bool, **prometheus: Any) -> None:
    """One tick of every policy, printed. Raises Refusal on bad input."""
    documents = [loaded.document for loaded in load_policies(policies)]
    controller = build(documents, [], not act, prometheus=endpoint(**prometheus), cluster=cluster)
    statuses = [document(status) for status in controller.tick()]
    if as_json:
        click.echo(json.dumps(statuses, indent=2))
        return
    for status in statuses:
        Console().print(whole(status))


def build(
    documents: Sequence[Document], sinks: Sequence[StatusSink], dry_run: bool, *, prometheus: Endpoint, cluster: str
) -> Controller:
    """The controller over real Prometheus and the named cluster. Raises Refusal for what cannot work."""
    fleets = [managed(one, dry_run) for one in documents]
    profiles = load_profiles()
    for fleet in fleets:  # a misspelt signal is told now, not at every tick
        queries_for(fleet.engine, fleet.gateway, fleet.queries, profiles)
    return Controller(fleets, SystemClock(), PrometheusSignals(prometheus, profiles), gateway(cluster, documents), sinks)


def endpoint(
    prometheus: str, headers: Sequence[str], token_file: Path | None, ca_file: Path | None, query_timeout_s: float
) -> Endpoint:
    """Where Prometheus is, from the options that say so. Raises Refusal for what cannot work."""
    return Endpoint(prometheus, query_timeout_s, headers=_headers(headers), token_file=token_file, ca_file=ca_file)


def managed(policy: Document, dry_run: bool = False) -> Managed:
    """One policy document as the controller manages it; a dry run recommends and changes nothing."""
    core, spec = policy.core(), policy.spec
    if dry_run and core.mode is Mode.AUTO:
        core = replace(core, mode=Mode.RECOMMEND)
    metrics = spec.metrics
    return Managed(
        key=policy.key,
        namespace=policy.metadata.namespace,
        model=spec.model,
        policy=core,
        engine=spec.engine,
        gateway=spec.gateway,
        window_s=metrics.window_seconds,
        queries=metrics.queries,
    )


def gateway(cluster: str, documents: Sequence[Document]) -> FleetGateway:
    """The cluster behind `--cluster`."""
    kind, _, url = cluster.partition(":")
    if kind != "sim" or not url.startswith(("http://", "https://")):
        raise Refusal(f"--cluster {cluster!r}: not a cluster this version knows (allowed: sim:http://HOST:PORT)")
    if len(documents) > 1:
        raise Refusal(f"--policy: {len(documents)} policies, but a simulated cluster holds one fleet")
    return SimulatedFleetClient(url)


def _headers(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for name, equals, _ in split:
        if not equals or not name.strip():
            raise Refusal(f"--header {name!r}: must be NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in split}
