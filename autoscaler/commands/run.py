"""How do `run` and `tick` go, from the first list to the last write?"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from autoscaler.adapters.arima import ArimaFitter
from autoscaler.adapters.own_metrics import Fits, OwnMetrics
from autoscaler.adapters.telemetry import Transitions, configure_logging
from autoscaler.commands.ending import Ending
from autoscaler.commands.report import whole
from autoscaler.commands.wiring import Doors, controller, endpoint, from_files, from_objects, one_tick, publishing
from autoscaler.core.status import Status, document
from autoscaler.refusal import Refusal
from autoscaler.scheduling import TickLoop

if TYPE_CHECKING:
    from autoscaler.adapters.kubernetes import Election
    from autoscaler.apps.feed import Feed
    from autoscaler.apps.probes import Pulse
    from autoscaler.apps.states import States
    from autoscaler.controller import Controller
    from autoscaler.publishing import Publishing

log = logging.getLogger(__name__)

Tick = Callable[[], Sequence[Status]]

MADE_BEFORE_A_LOOK = 300_000  # objects that may hold others; some 30 MB if all of them were garbage


def run(
    *,
    policies: Sequence[Path],
    namespaces: Sequence[str],
    cluster: str,
    lease: str | None,
    listen: str | None,
    port: int,
    state_secret_file: Path | None,
    dry_run: bool,
    **prometheus: Any,
) -> None:
    """Tick until SIGTERM or SIGINT, with the live page beside it. Raises Refusal on bad input."""
    from autoscaler.apps.feed import Feed  # `tick` needs no web server
    from autoscaler.apps.probes import Pulse
    from autoscaler.commands.telling import secret_of, states_of

    configure_logging()
    look_seldom_for_cycles()
    prometheus_at, secret = endpoint(**prometheus), secret_of(state_secret_file)
    doors = _doors(policies, namespaces, cluster, lease=lease, dry_run=dry_run)
    states = states_of(doors.election, secret)
    telling = publishing(doors, states)
    feed, metrics = Feed(), OwnMetrics(doors.beat_s)
    pulse = Pulse(max(doors.beat_s, prometheus_at.timeout_s))  # a tick may wait twice for a Prometheus that hangs
    fitter = ArimaFitter()
    work = controller(doors, prometheus_at, (feed, metrics, Transitions()), fitter, telling)
    loop = TickLoop(metrics.timed(pulse.felt(_telling(doors.trouble, work.tick))), doors.beat_s)
    metrics.count_skipped(lambda: loop.skipped)
    metrics.count_fits(lambda: Fits(*astuple(fitter.counts)))
    if doors.scribe is not None:
        metrics.count_written(doors.scribe.written)
    with ExitStack() as closing:
        closing.callback(fitter.close)
        _serve(closing, feed, metrics, states, port)
        if listen is not None:
            _serve_cluster(closing, listen, metrics, pulse, states if secret else None, doors.election)
        _go_on(doors, work, loop, telling)


def _go_on(doors: Doors, work: Controller, loop: TickLoop, telling: Publishing) -> None:
    """From the first list until SIGTERM or SIGINT."""
    ending = Ending()
    doors.start()
    work.warm()
    loop.start()
    telling.start()
    ending.wait()
    telling.stop()
    ended = loop.stop() and work.finish()
    if not ended:
        log.warning("a write was still in flight; it carries its precondition, and the Lease is left to run out")
    doors.stop(hand_over=ended)


def look_seldom_for_cycles() -> None:
    """Let Python look for values that hold each other once in `MADE_BEFORE_A_LOOK`, not in 700.

    A tick renews what is remembered of every fleet, so to Python all is always new and worth a look: of the 3.6 s that a tick
    of 1,000 fleets took, 1.05 s. It finds nothing to speak of, for values of the core hold no one that holds them: a tick of
    300 fleets leaves 80 objects in cycles.
    """
    gc.set_threshold(MADE_BEFORE_A_LOOK)


def _serve(closing: ExitStack, feed: Feed, metrics: OwnMetrics, states: States, port: int) -> None:
    """The live page for this machine, until `closing`."""
    from autoscaler.apps.live import create_app
    from autoscaler.apps.loopback import serve

    def let_go() -> None:
        feed.let_go()
        states.let_go()

    page = serve(create_app(feed, "pd-autoscaler", metrics=metrics.page, states=states), port=port, closing=let_go)
    closing.callback(page.stop)
    click.echo(f"live page: {page.url}", err=True)


def _serve_cluster(
    closing: ExitStack, listen: str, metrics: OwnMetrics, pulse: Pulse, states: States | None, election: Election | None
) -> None:
    """Metrics and probes for the cluster, and the states of fleets for its sidecars if they are given; until `closing`."""
    from autoscaler.apps.probes import serve_probes
    from autoscaler.commands.telling import announce, elsewhere

    probes = serve_probes(listen, pulse, metrics.page, states, elsewhere(election))
    closing.callback(probes.stop)
    click.echo(f"metrics and probes: {probes.url}", err=True)
    if states is not None:
        announce(election, probes.url)


def tick(policies: Sequence[Path], namespaces: Sequence[str], cluster: str, act: bool, as_json: bool, **prometheus: Any) -> None:
    """One tick of every policy, printed. Raises Refusal on bad input."""
    prometheus_at = endpoint(**prometheus)
    if act and not policies:
        raise Refusal("--act: PDAutoscaler objects are acted on by the controller that leads; a tick of them only tells")
    doors = _doors(policies, namespaces, cluster, dry_run=not act)
    statuses = [document(status) for status in one_tick(doors, prometheus_at).tick()]
    if as_json:
        click.echo(json.dumps(statuses, indent=2))
        return
    for status in statuses:
        Console().print(whole(status))


def _doors(policies: Sequence[Path], namespaces: Sequence[str], cluster: str, **options: Any) -> Doors:
    if policies and namespaces:
        raise Refusal("--namespace: says where PDAutoscaler objects are; with --policy the policies are files")
    return from_files(policies, cluster, **options) if policies else from_objects(cluster, namespaces, **options)


def _telling(trouble: Callable[[], str], tick: Tick) -> Tick:
    """The same tick, with a line in the log whenever what fleets there are becomes unknown, or known again."""
    told = ""

    def run() -> Sequence[Status]:
        nonlocal told
        now = trouble()
        if now != told:
            log.warning(now or "the PDAutoscalers can be read again")
            told = now
        return tick()

    return run
