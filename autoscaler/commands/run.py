"""How is the controller put together for `run` and `tick`?"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from autoscaler.adapters.clock import SystemClock
from autoscaler.adapters.own_metrics import OwnMetrics
from autoscaler.adapters.prometheus import Endpoint, PrometheusSignals, load_profiles, queries_for
from autoscaler.adapters.sim_cluster import SimulatedFleetClient
from autoscaler.adapters.telemetry import Transitions, configure_logging
from autoscaler.commands.report import whole
from autoscaler.controller import Controller, Managed
from autoscaler.core.plan import Mode
from autoscaler.core.status import document
from autoscaler.policy import Document
from autoscaler.policy_file import load_policies
from autoscaler.ports import FleetGateway, Leadership, StatusSink
from autoscaler.refusal import Refusal
from autoscaler.scheduling import TickLoop

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes import Election

LEASE_PART = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

log = logging.getLogger(__name__)


def run(policies: Sequence[Path], cluster: str, lease: str | None, port: int, dry_run: bool, **prometheus: Any) -> None:
    """Tick until SIGTERM or SIGINT, with the live page beside it. Raises Refusal on bad input."""
    from autoscaler.apps.feed import Feed  # `tick` needs no web server
    from autoscaler.apps.live import create_app
    from autoscaler.apps.loopback import serve

    configure_logging()
    documents = [loaded.document for loaded in load_policies(policies)]
    interval_s = min(one.spec.behaviour.tick_seconds for one in documents)
    feed, metrics = Feed(), OwnMetrics(interval_s)
    election = candidate(cluster, lease) if lease else None
    sinks = (feed, metrics, Transitions())
    controller = build(documents, sinks, dry_run, election, prometheus=endpoint(**prometheus), cluster=cluster)
    page = serve(create_app(feed, "pd-autoscaler", metrics=metrics.page), port=port, closing=feed.let_go)
    click.echo(f"live page: {page.url}", err=True)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    loop = TickLoop(metrics.timed(controller.tick), interval_s)
    metrics.count_skipped(lambda: loop.skipped)
    with ExitStack() as closing:
        closing.callback(page.stop)
        if election is not None:
            election.start()
        loop.start()
        stop.wait()
        ended = loop.stop()
        if not ended:
            log.warning("a tick was still in flight; its writes carry their precondition, and the Lease is left to run out")
        if election is not None:
            election.stop(hand_over=ended)


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
    documents: Sequence[Document],
    sinks: Sequence[StatusSink],
    dry_run: bool,
    leadership: Leadership | None = None,
    *,
    prometheus: Endpoint,
    cluster: str,
) -> Controller:
    """The controller over real Prometheus and the named cluster. Raises Refusal for what cannot work."""
    fleets = [managed(one, dry_run) for one in documents]
    profiles = load_profiles()
    for fleet in fleets:  # a misspelt signal is told now, not at every tick
        queries_for(fleet.engine, fleet.gateway, fleet.queries, profiles)
    signals = PrometheusSignals(prometheus, profiles)
    return Controller(fleets, SystemClock(), signals, gateway(cluster, documents), sinks, leadership)


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
    """The cluster behind `--cluster`. Raises Refusal for one that is not known, and for an unusable kubeconfig."""
    kind, colon, where = cluster.partition(":")
    if kind == "kubernetes" and bool(colon) == bool(where):
        from autoscaler.adapters.kubernetes import KubernetesFleet, connect  # 0.5 s that a simulated cluster does not pay

        return KubernetesFleet(connect(where or None), documents)
    if kind != "sim" or not where.startswith(("http://", "https://")):
        allowed = "kubernetes, kubernetes:CONTEXT, sim:http://HOST:PORT"
        raise Refusal(f"--cluster {cluster!r}: not a cluster this version knows (allowed: {allowed})")
    if len(documents) > 1:
        raise Refusal(f"--policy: {len(documents)} policies, but a simulated cluster holds one fleet")
    return SimulatedFleetClient(where)


def candidate(cluster: str, lease: str) -> Election:
    """A candidate for the Lease NAMESPACE/NAME. Raises Refusal where there is none to be had."""
    kind, _, context = cluster.partition(":")
    namespace, slash, name = lease.partition("/")
    if not slash or not LEASE_PART.fullmatch(namespace) or not LEASE_PART.fullmatch(name):
        raise Refusal(f"--lease {lease!r}: must be NAMESPACE/NAME in lower-case letters, digits and '-'")
    if kind != "kubernetes":
        raise Refusal(f"--lease {lease}: only --cluster kubernetes has Leases, not {cluster!r}")
    from autoscaler.adapters.kubernetes import Election, connect

    identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}-{secrets.token_hex(4)}".lower()
    return Election(connect(context or None), namespace, name, identity)


def _headers(pairs: Sequence[str]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    for name, equals, _ in split:
        if not equals or not name.strip():
            raise Refusal(f"--header {name!r}: must be NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in split}
