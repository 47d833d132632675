"""How is a comparison told to somebody who has never seen the project? As one HTML file without a script.

First what is shown, what a point is, what the references mean and what the simulator leaves out; then each scenario: what
it is, the table, the frontier, and a small timeline per policy at the point it was published with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from autoscaler.commands.plots import colours, frontier, timeline
from autoscaler.commands.standings import HEADINGS, by_scenario, cells
from autoscaler.core.fleet import Role
from autoscaler.simulator.comparison import Result
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.scenarios import Case

ROLE_COLOURS = dict(zip((role.value for role in Role), ("#0072b2", "#d55e00"), strict=True))
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; } td, th { padding: 2px 8px; text-align: right; }
td:first-child, th:first-child { text-align: left; } tr.below { color: #999; } th { border-bottom: 1px solid #888; }
svg text { font-size: 11px; fill: #444; } figure { display: inline-block; margin: 6px; } figcaption { font-size: 12px; }
.key { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 12px; } .note { font-size: 13px; color: #555; }
"""
WORDS = """
<p><b>What is shown.</b> A large language model can be served by two pools of GPUs: one reads prompts (prefill), one writes
answers (decode). How many replicas of each should run when the traffic moves? Each policy below was asked that question by a
simulated fleet, with the same requests, the same cold starts and the same permissions. A request is met if its first token
came in time (TTFT) and the others followed fast enough (TPOT). <b>Attainment</b> is the share met of all requests that were
offered: one that was rejected, failed or not finished in time is a miss. <b>GPU-hours</b> count every replica from the moment
it is asked for until it is gone, starting and draining included. Each table begins with whoever met at least {attainment},
the cheapest first; those below, in grey, follow by attainment.</p>
<p><b>The other columns.</b> goodput: met requests per second. rejected, failed: requests whose client gave up. wasted: prompts
that were computed for nothing. actions: how often a role was told to grow or shrink. flips: replicas that changed their role.
reversals: moves that undid an earlier one at once (within twice a start-up), and that the oracle, if it played, did not make
too. recovery: the longest time after a sudden rise until the promised percentile was met again, and how many of the rises were
got over before the next; a dash where the load has no such rise.</p>
<p><b>A point</b> in a plot is one whole run: a policy at one setting of its one headroom knob (how generous it is; what the
knob means is listed below). Up is better, left is cheaper. Points of one policy are joined: a policy is better than another
where its line runs above and to the left. A point that stands alone was run only as published.</p>
<p><b>References</b> are no policies that one could run: they are told all requests beforehand. <i>lower-bound</i> is the GPU
time of the work itself, without delay or waiting: nobody can be cheaper. <i>best-static</i> is the cheapest fleet of fixed
size; it starts complete and pays no cold start. <i>oracle</i> is the cheapest schedule found that reaches the attainment with
the same delays as everybody; it is searched for, so a cheaper one may exist. <i>clairvoyant-flipper</i> keeps the size of the
fleet and always splits it between the roles in the best way.</p>
<p><b>What the simulator leaves out.</b> Prompts are not cut into chunks, prefill takes one prompt at a time, and times come
from formulas fitted to published measurements, not from a GPU. In these scenarios replicas do not crash, no node is missing,
clients do not send again, and each replica has its link to itself. The time of a decision is taken to be nil. One random seed
was played, so small differences mean little.
A policy that was written for another project is rebuilt here from what was published about it; its authors may run it
otherwise.</p>
"""


def page(results: Sequence[Result], cases: Sequence[Case], attainment: float, left_out: Sequence[str]) -> str:
    """The whole file."""
    shades, facts = colours(results), {case.name: case for case in cases}
    rankings = by_scenario(results, attainment)
    sections = "\n".join(_section(facts[name], ranking, attainment, shades) for name, ranking in rankings.items())
    missing = "".join(f"<li>{escape(line)}</li>" for line in left_out)
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Autoscalers compared</title>',
            f"<style>{STYLE}</style></head><body><h1>Autoscalers compared</h1>",
            WORDS.format(attainment=f"{attainment:.1%}"),
            f"<h2>Knobs</h2><ul>{_knobs()}</ul>",
            f"<h2>Not played</h2><ul>{missing}</ul>" if missing else "",
            sections,
            "</body></html>",
        )
    )


def _knobs() -> str:
    told = {"pd-autoscaler": "share added to what is needed", **{name: entry.knob for name, entry in PEERS.items()}}
    return "".join(f"<li>{escape(name)}: {escape(knob)}</li>" for name, knob in told.items())


def _section(case: Case, ranking: Sequence[Result], attainment: float, shades: Mapping[str, str]) -> str:
    pictures = "".join(_picture(result) for result in ranking if result.contender.published)
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    return "\n".join(
        (
            f"<h2>{escape(case.name)}</h2><p>{escape(_told(case))}</p>",
            f"<table><tr>{head}</tr>{''.join(_rows(ranking, attainment))}</table>",
            "".join(f'<p class="note">{escape(f"{one.contender.name}: {one.note}")}</p>' for one in ranking if one.note),
            frontier(ranking, attainment, shades),
            f"<p>{_legend(shades)}</p><p>Replicas over time, {_legend(ROLE_COLOURS)} (pale: starting or draining too)</p>",
            pictures,
        )
    )


def _told(case: Case) -> str:
    promises = ", ".join(
        f"{kind.value.upper()} {slo.threshold_s:g} s for {slo.quantile:.0%} of requests"
        for kind, slo in case.scenario.slos.items()
    )
    pools = "; ".join(
        f"{role} {limits.min} to {limits.max} replicas of {case.scenario.fleet.pools[role].gpus_per_replica} GPUs, "
        f"{case.scenario.fleet.pools[role].replicas} at first"
        for role, limits in case.bounds.items()
    )
    start_s = case.scenario.fleet.start_up.median_s
    return (
        f"A {case.mark.value} load of {case.duration_s / 60:.0f} minutes. Promised: {promises}. {pools}; at most "
        f"{case.budget_gpus} GPUs. A replica takes {start_s:g} s to start. Profile {case.scenario.fleet.profile.name}."
    )


def _rows(ranking: Sequence[Result], attainment: float) -> Iterator[str]:
    for result in ranking:
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells(result))
        yield f"<tr{'' if result.reaches(attainment) else ' class=below'}>{row}</tr>"


def _picture(result: Result) -> str:
    if result.timeline is None:
        return ""
    name = escape(result.contender.name)
    return f"<figure><figcaption>{name}</figcaption>{timeline(result.timeline, name, ROLE_COLOURS)}</figure>"


def _legend(shades: Mapping[str, str]) -> str:
    return "".join(f'<span class="key" style="background:{shade}"></span>{escape(name)}' for name, shade in shades.items())
