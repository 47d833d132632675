"""How does a newcomer see the controller work, within seconds and without a cluster?

The real controller steers a simulated fleet on a virtual clock that runs `speed` times as fast as the wall clock:
every pause between two pictures advances the run by as much as real time has passed. A terminal shows a live table, a
browser the live page, a machine the JSON summary at the end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from autoscaler.adapters.own_metrics import OwnMetrics
from autoscaler.apps.feed import Feed
from autoscaler.commands.ending import Ending
from autoscaler.commands.recorded import checked
from autoscaler.commands.report import conditions, pools
from autoscaler.commands.simulated import simulated
from autoscaler.controller import Controller
from autoscaler.core.status import Status, document
from autoscaler.policy_file import load_policies
from autoscaler.roster import FixedRoster, managed
from autoscaler.simulator.pool_setting import StartUp
from autoscaler.simulator.replay import Slice
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.traces import Recording
from autoscaler.simulator.workload import DEMO_DAY, Request, synthetic_day

if TYPE_CHECKING:
    from autoscaler.apps.loopback import LoopbackServer

BUILT_IN_POLICY = Path(__file__).with_name("demo.yaml")
START_UP = StartUp(median_s=90.0)
PICTURE_S = 0.1  # wall seconds between two pictures
SLICE_S = 60.0  # virtual seconds between two looks at the wall clock, so that any speed ends on time


def demo(
    *,
    speed: float,
    duration_s: float | None,
    trace: Path | None,
    skip_bad_rows: bool,
    rate: float,
    policy: Path | None,
    seed: int,
    port: int,
    headless: bool,
    as_json: bool,
) -> None:
    """Run until the trace or the duration ends, or until interrupted, then print the summary. Raises Refusal."""
    run, feed, latest, metrics = _wire(policy or BUILT_IN_POLICY, _requests(trace, rate, seed, skip_bad_rows), seed, speed)
    ending = Ending()
    with ExitStack() as closing:
        show: Callable[[Score], None] = _nothing
        if not headless:
            page = _serve(feed, metrics, port)
            closing.callback(page.stop)
            click.echo(f"live page: {page.url}  (Ctrl-C ends the demo)", err=True)
            show = _table(closing, latest)
        wall_s = _play(run, feed, speed, duration_s, ending, show)
        feed.end()
    summary = _summary(run.score(), wall_s, speed, seed)
    click.echo(json.dumps(summary) if as_json else _sentences(summary))


def _wire(policy: Path, requests: Iterator[Request], seed: int, speed: float) -> tuple[VirtualRun, Feed, _Latest, OwnMetrics]:
    """The real controller over a simulated fleet that begins at the policy's minimum."""
    written = load_policies([policy])[0].document
    fleet = managed(written)
    spec = simulated(written, START_UP, seed)
    run = VirtualRun(Scenario(spec, fleet.policy.slos, interval_s=written.spec.behaviour.tick_seconds), requests)
    feed, latest, metrics = Feed(), _Latest(), OwnMetrics(run.scenario.interval_s / speed)
    controller = Controller(FixedRoster([fleet]), run.clock, run.signals, run.cluster, [feed, latest, metrics])
    run.tick = metrics.timed(controller.tick)
    return run, feed, latest, metrics


class _Latest:
    """StatusSink that keeps the newest document for the terminal."""

    def __init__(self) -> None:
        self.document: Mapping[str, Any] | None = None

    def report(self, status: Status) -> None:
        """Keep it."""
        self.document = document(status)

    def forget(self, key: str) -> None:
        """The fleet of a demo never goes."""


def _requests(trace: Path | None, rate: float, seed: int, skip_bad_rows: bool) -> Iterator[Request]:
    rng = Random(seed)  # noqa: S311 - traffic, not a secret
    if trace is None:
        return synthetic_day(rng, replace(DEMO_DAY, scale=rate))
    return checked(Recording(trace, Slice(scale=rate), skip_bad_rows))(rng)


def _serve(feed: Feed, metrics: OwnMetrics, port: int) -> LoopbackServer:
    from autoscaler.apps.live import create_app  # a headless run needs no web server
    from autoscaler.apps.loopback import serve

    return serve(create_app(feed, "pd-autoscaler demo", metrics=metrics.page), port=port, closing=feed.let_go)


def _play(
    run: VirtualRun, feed: Feed, speed: float, duration_s: float | None, ending: Ending, show: Callable[[Score], None]
) -> float:
    """Advance the run with the wall clock until it is over; the wall seconds it took."""
    began = time.monotonic()
    limit_s = float("inf") if duration_s is None else duration_s
    wall_s = 0.0
    while wall_s < limit_s and not ending.wished and not run.engine.exhausted:
        wall_s = min(limit_s, time.monotonic() - began)
        while run.engine.now < wall_s * speed and time.monotonic() - began <= wall_s + PICTURE_S:
            run.advance(min(wall_s * speed, run.engine.now + SLICE_S))
        score = run.score()
        feed.annotate(score=_figures(score), speed=speed)
        show(score)
        ending.wait(max(0.0, began + wall_s + PICTURE_S - time.monotonic()))
    return time.monotonic() - began


def _figures(score: Score) -> dict[str, float | int | None]:
    """The figures that stand together, always: what was promised, and what it cost."""
    return {
        "offered": score.offered,
        "served": score.served,
        "slo_attainment": score.attainment,
        "gpu_hours": sum(score.gpu_hours.values()),
        "actions": score.actions,
        "reversals": score.reversals,
    }


def _summary(score: Score, wall_s: float, speed: float, seed: int) -> dict[str, Any]:
    return {
        "requests_offered": score.offered,
        "requests_served": score.served,
        "requests_refused": score.refused,
        "requests_open": score.open,
        "requests_lost": score.lost,
        "slo_attainment": score.attainment,
        "goodput_rps": score.goodput_rps,
        "gpu_hours": sum(score.gpu_hours.values()),
        "gpu_hours_by_role": {role.value: hours for role, hours in score.gpu_hours.items()},
        "actions": score.actions,
        "reversals": score.reversals,
        "simulated_s": score.duration_s,
        "wall_s": round(wall_s, 3),
        "speed": speed,
        "seed": seed,
    }


def _sentences(summary: Mapping[str, Any]) -> str:
    share = summary["slo_attainment"]
    attained = "no request was decided" if share is None else f"{share:.2%} within both SLOs"
    return (
        f"{summary['simulated_s'] / 3600:.2f} simulated hours: {summary['requests_offered']:,} requests offered, "
        f"{summary['requests_served']:,} served, {attained}; "
        f"{summary['gpu_hours']:.1f} GPU-hours, {summary['actions']} actions, {summary['reversals']} reversals"
    )


def _nothing(_: Score) -> None:
    """Show nothing."""


def _table(closing: ExitStack, latest: _Latest) -> Callable[[Score], None]:
    """A live table on a terminal; on anything else nothing, since the summary comes at the end."""
    console = Console(stderr=True)
    if not console.is_terminal:
        return _nothing
    live = closing.enter_context(Live(console=console, refresh_per_second=4))

    def show(score: Score) -> None:
        if latest.document is not None:
            now = f"simulated {score.duration_s / 3600:.2f} h   " + _sentences(_summary(score, 0, 0, 0)).partition(": ")[2]
            live.update(Group(pools(latest.document), conditions(latest.document), Text(now)))

    return show
