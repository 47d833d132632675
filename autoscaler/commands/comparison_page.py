"""How is a comparison told to somebody who has never seen the project? As one HTML file without a script.

The first screen says what was played, what the figures mean and who won where; then how to read the pictures, each scenario
(what it is, the table, the line plot, a small timeline per policy as published), the simulator's own trial where there is one,
what all this does not tell, a glossary, and how to make it again. The words are in comparison_words.py, the drawings in plots.py.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from autoscaler import __version__
from autoscaler.commands import comparison_words as words
from autoscaler.commands.comparison_overview import matrix, winners
from autoscaler.commands.plots import colours, frontier, timeline
from autoscaler.commands.setting import Setting
from autoscaler.commands.standings import HEADINGS, by_scenario, cells, cost_cells, out_of_reach, swept
from autoscaler.core.fleet import Role
from autoscaler.simulator.contenders import OURS, REFERENCES
from autoscaler.simulator.frontiers import costs
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Result
from autoscaler.simulator.scenarios import Case

ROLE_COLOURS = dict(zip((role.value for role in Role), ("#0072b2", "#d55e00"), strict=True))
STYLE = """
:root { color-scheme: light dark; --ink: #1d1d1f; --paper: #fff; --dim: #8a8a8e; --area: #e6e6e9; --win: #d8f0df; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ea; --paper: #161618; --dim: #85858b; --area: #333338; --win: #1f4a30; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 2em auto; padding: 0 1em; color: var(--ink);
  background: var(--paper); } .lead { font-size: 17px; } a { color: inherit; } h2 { margin-top: 2em; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; } td, th { padding: 3px 8px; text-align: right; }
td:first-child, th:first-child { text-align: left; white-space: nowrap; } th { border-bottom: 1px solid var(--dim);
  vertical-align: bottom; font-weight: 600; } .below, tr.below { color: var(--dim); } td.win { background: var(--win);
  font-weight: 700; } td.words { text-align: left; } svg { max-width: 100%; height: auto; }
svg text { font-size: 11px; fill: var(--ink); } svg [stroke="#333"] { stroke: var(--ink); }
figure { display: inline-block; margin: 6px; vertical-align: top; } figcaption { font-size: 12px; }
.key { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 12px; } .note { font-size: 13px; color: var(--dim); }
.alarm { border-left: 4px solid #d55e00; padding-left: 10px; } code { font-size: 13px; } dt { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content auto; gap: 2px 16px; } dd { margin: 0; }
"""


def page(results: Sequence[Result], cases: Sequence[Case], setting: Setting) -> str:
    """The whole file."""
    shades, facts = colours(results), {case.name: case for case in cases}
    rankings = by_scenario(results, setting.attainment)
    return "\n".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width"><title>Autoscalers compared</title>',
            f"<style>{STYLE}</style></head><body><h1>Autoscalers compared</h1>",
            _opening(results, rankings, setting),
            words.HOW.format(roles=_legend(ROLE_COLOURS)),
            *(_section(facts[name], ranking, setting.attainment, shades) for name, ranking in rankings.items()),
            setting.trial_section,
            words.LIMITS,
            _glossary(),
            _again(setting),
            "</body></html>",
        )
    )


def _opening(results: Sequence[Result], rankings: Mapping[str, Sequence[Result]], setting: Setting) -> str:
    """The first screen."""
    names = dict.fromkeys(one.contender.name for one in results)
    attainment = f"{setting.attainment:.1%}"
    told = words.REFERENCES if any(name in REFERENCES for name in names) else ""
    runs = any(swept(ranking) for ranking in rankings.values())
    lost = [f"{one.scenario}, {one.contender.name}: {one.note}" for one in results if one.lost]
    return "\n".join(
        (
            words.PLAYED.format(
                policies=sum(name not in REFERENCES for name in names),
                scenarios=len(rankings),
                situations="situation" if len(rankings) == 1 else "situations",
                attainment=attainment,
                told=told,
            ),
            f'<div class="alarm"><b>Lost runs</b>{_list(lost)}</div>' if lost else "",
            f"<h2>Who won</h2>{winners(rankings, setting.attainment)}",
            words.MATRIX.format(attainment=attainment, point=", at the setting it was published with" if runs else ""),
            f'<div class="wide">{matrix(rankings, setting.attainment)}</div>',
        )
    )


def _section(case: Case, ranking: Sequence[Result], attainment: float, shades: Mapping[str, str]) -> str:
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    alarm = "".join(f'<p class="alarm">{escape(line)}</p>' for line in out_of_reach(ranking, attainment))
    shown = {name: shade for name, shade in shades.items() if any(one.contender.name == name for one in ranking)}
    return "\n".join(
        (
            f'<h2 id="{escape(case.name)}">{escape(case.name)}</h2><p>{escape(_told(case))}</p>{alarm}',
            f'<div class="wide"><table><tr>{head}</tr>{"".join(_rows(ranking, attainment))}</table></div>',
            "".join(f'<p class="note">{escape(f"{one.contender.name}: {one.note}")}</p>' for one in ranking if one.note),
            f"<p>{_legend(shown)}</p>{frontier(ranking, attainment, shades)}",
            _lines(ranking, attainment) if swept(ranking) else "",
            f"<p>Replicas over time: {_legend(ROLE_COLOURS)}</p>",
            "".join(_picture(result) for result in ranking if result.contender.published),
        )
    )


def _told(case: Case) -> str:
    """What the case is, in words."""
    promises = " and ".join(f"{kind.value.upper()} of at most {slo.threshold_s:g} s" for kind, slo in case.scenario.slos.items())
    pools = "; ".join(
        f"{role}: {limits.min} to {limits.max} replicas of {_gpus(case.scenario.fleet.pools[role].gpus_per_replica)} each, "
        f"{case.scenario.fleet.pools[role].replicas} to begin with"
        for role, limits in case.bounds.items()
    )
    return (
        f"A {case.mark.value} load of {case.duration_s / 60:.0f} minutes. Promised: {promises}. {pools}; never more than "
        f"{_gpus(case.budget_gpus)} in all. A replica takes {case.scenario.fleet.start_up.median_s:g} s to start. Model and GPU: "
        f"{case.scenario.fleet.profile.name}."
    )


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def _rows(ranking: Sequence[Result], attainment: float) -> Iterator[str]:
    for result in ranking:
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells(result))
        yield f"<tr{'' if result.reaches(attainment) else ' class=below'}>{row}</tr>"


def _lines(ranking: Sequence[Result], attainment: float) -> str:
    rows = []
    for cost in costs(ranking, attainment):
        name, hours, how = (escape(cell) for cell in cost_cells(cost))
        rows.append(f"<tr{' class=below' if cost.gpu_hours is None else ''}><td>{name}<td>{hours}<td class=words>{how}</tr>")
    head = f"<tr><th>policy<th>GPU-hours at {attainment:.1%}, along its line<th>how it is known</tr>"
    return f"<table>{head}{''.join(rows)}</table>"


def _picture(result: Result) -> str:
    if result.timeline is None:
        return ""
    name, share = escape(result.contender.name), "-" if result.attainment is None else f"{result.attainment:.1%}"
    told = f"<b>{name}</b>: {share} for {result.gpu_hours or 0.0:.2f} GPU-hours"
    return f"<figure><figcaption>{told}</figcaption>{timeline(result.timeline, name, ROLE_COLOURS)}</figure>"


def _glossary() -> str:
    knobs = {OURS: "share added to what is needed", **{name: entry.knob for name, entry in PEERS.items()}}
    return (
        f'<h2 id="glossary">Glossary</h2>{_defined(words.GLOSSARY)}<h2 id="knobs">Knobs</h2>'
        f"<p>What the headroom column is, for each autoscaler.</p>{_defined(knobs)}"
    )


def _again(setting: Setting) -> str:
    missing = f"<h2>Not played</h2>{_list(setting.left_out)}" if setting.left_out else ""
    return (
        f"{missing}<h2>To make it again</h2><p><code>{escape(setting.command)}</code></p><p>pd-autoscaler {__version__}, Python "
        f"{platform.python_version()}, random seed {setting.seed}. The same version, seed and traces give the same figures, to "
        "the last digit, on however many cores.</p>"
    )


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _defined(told: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in told.items())}</dl>"


def _legend(shades: Mapping[str, str]) -> str:
    return "".join(f'<span class="key" style="background:{shade}"></span>{escape(name)}' for name, shade in shades.items())
