"""How is a back-test told to somebody who was not there? As one HTML file without a script.

The same tables and sentences as in the terminal, and for each of the two runs a picture: the load and the replicas over time.
"""

from __future__ import annotations

from html import escape
from io import StringIO

from rich.console import Console
from rich.table import Table

from autoscaler.commands.comparison_page import ROLE_COLOURS, STYLE
from autoscaler.commands.hindsight import Hindsight, told
from autoscaler.commands.plots import timeline
from autoscaler.core.fleet import Role
from autoscaler.simulator.backtest import Side
from autoscaler.simulator.result import Timeline

POINTS = 480
WORDS = """
<p>A large language model is served by two pools of GPUs: one reads prompts (prefill), one writes answers (decode). What users
sent in the time below was rebuilt from recorded metrics and played twice in a simulator: <i>as it was</i>, with as many
replicas as really stood there, and under the policy, with this project's controller. <b>Attainment</b> is the share of the
requests whose first token came in time (TTFT) and whose others followed fast enough (TPOT). <b>GPU-hours</b> count every
replica from the moment it is asked for until it is gone. Nothing was changed on any cluster.</p>
"""


def page(hindsight: Hindsight) -> str:
    """The whole file."""
    parts = [part if isinstance(part, Table) else str(part) for part in told(hindsight)]
    legend = "".join(
        f'<span class="key" style="background:{shade}"></span>{escape(name)}' for name, shade in ROLE_COLOURS.items()
    )
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A policy in hindsight</title>',
            f"<style>{STYLE} pre {{ font-size: 13px; white-space: pre-wrap; }}</style></head><body>",
            "<h1>A policy in hindsight</h1>",
            WORDS,
            *(f"<pre>{escape(_text(part))}</pre>" for part in parts),
            f"<p>Replicas over time, {legend}; parts that could not be played are left out</p>",
            *(_picture(hindsight, side) for side in (hindsight.was, hindsight.would)),
            "</body></html>",
        )
    )


def _text(part: Table | str) -> str:
    console = Console(file=StringIO(), width=140)
    console.print(part)
    written: StringIO = console.file  # type: ignore[assignment]
    return written.getvalue().rstrip()


def _picture(hindsight: Hindsight, side: Side) -> str:
    """Every so many-th step of a long past: a picture has no more room."""
    played = [at for piece in hindsight.rebuilt.pieces for at in range(piece.first, piece.first + len(piece.steps))]
    every = -(-len(played) // POINTS)
    steps = played[::every]
    offered = tuple(hindsight.history.offered_rps[at] or 0.0 for at in steps)
    serving = {role: tuple(side.serving[role][at] for at in steps) for role in Role}
    still = dict.fromkeys(Role, (0,) * len(steps))
    drawn = timeline(Timeline(hindsight.history.step_s * every, offered, serving, still), side.name, ROLE_COLOURS)
    return f"<figure><figcaption>{escape(side.name)}</figcaption>{drawn}</figure>"
