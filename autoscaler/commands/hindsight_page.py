"""How is a back-test told to somebody who was not there? As one HTML file without a script.

The same tables and sentences as in the terminal, and for each of the two runs a picture: the load and the replicas over time.
"""

from __future__ import annotations

from html import escape

from autoscaler.commands.hindsight import Grid, Hindsight, told
from autoscaler.commands.page_style import document, roles_key
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
replica from the moment it is asked for until it is gone. <b>p50</b> and <b>p95</b> of a time:
half of the requests, and 95 of 100, took no longer. A <b>flip</b> is a replica that changes its pool, a <b>reversal</b> a move
that undoes an earlier one at once. Nothing was changed on any cluster.</p>
"""


def page(hindsight: Hindsight) -> str:
    """The whole file."""
    return document(
        "A policy in hindsight",
        WORDS,
        *(_grid(part) if isinstance(part, Grid) else _words(part) for part in told(hindsight)),
        f"<h2>Replicas over time</h2><p>{roles_key()} Parts that could not be played are left out.</p>",
        *(_picture(hindsight, side) for side in (hindsight.was, hindsight.would)),
    )


def _grid(grid: Grid) -> str:
    head = "".join(f"<th>{escape(heading)}" for heading in grid.headings)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}' for cell in row)}</tr>" for row in grid.rows)
    return f'<h2>{escape(grid.title)}</h2><div class="wide"><table><tr>{head}</tr>{rows}</table></div>'


def _words(text: str) -> str:
    """A sentence, which is the answer; or a heading and its list."""
    first, *lines = text.split("\n")
    if not lines:
        return f'<p class="lead answer">{escape(first)}</p>'
    listed = "".join(f"<li>{escape(line.strip(' -'))}" for line in lines)
    return f"<h2>{escape(first.rstrip(':'))}</h2><ul>{listed}</ul>"


def _picture(hindsight: Hindsight, side: Side) -> str:
    """Every so many-th step of a long past: a picture has no more room."""
    played = [at for piece in hindsight.rebuilt.pieces for at in range(piece.first, piece.first + len(piece.steps))]
    every = -(-len(played) // POINTS)
    steps = played[::every]
    offered = tuple(hindsight.history.offered_rps[at] or 0.0 for at in steps)
    serving = {role: tuple(side.serving[role][at] for at in steps) for role in Role}
    still = dict.fromkeys(Role, (0,) * len(steps))
    drawn = timeline(Timeline(hindsight.history.step_s * every, offered, serving, still), side.name)
    return f"<figure><figcaption>{escape(side.name)}</figcaption>{drawn}</figure>"
