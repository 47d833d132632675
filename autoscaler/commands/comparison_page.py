"""How is a comparison told to somebody who has never seen the project? As one HTML file without a script.

The first screen says what was played, what the figures mean and who won where; then how to read the pictures, each scenario
(what it is, the table, the line plot, a small timeline per policy as published), the simulator's own trial where there is one,
what all this does not tell, a glossary, and how to make it again. The words are in comparison_words.py, the drawings in plots.py.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

import yaml

from autoscaler import __version__
from autoscaler.commands import comparison_words as words
from autoscaler.commands.comparison_overview import answer, matrix, verdict, winners
from autoscaler.commands.page_style import document, key, roles_key
from autoscaler.commands.plots import frontier, places, timeline
from autoscaler.commands.setting import Setting
from autoscaler.commands.standings import HEADINGS, by_scenario, cells, cost_cells, out_of_reach, swept
from autoscaler.simulator.contenders import OURS, REFERENCES
from autoscaler.simulator.frontiers import costs
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Result
from autoscaler.simulator.scenarios import Case

MARKED = {name: f'<abbr title="{escape(words.GLOSSARY[word])}">{name}</abbr>' for name, word in words.COLUMNS.items()}


def page(results: Sequence[Result], cases: Sequence[Case], setting: Setting) -> str:
    """The whole file."""
    placed, facts = places(results), {case.name: case for case in cases}
    rankings = by_scenario(results, setting.attainment)
    return document(
        "Autoscalers compared",
        _opening(results, rankings, setting),
        words.HOW.format(roles=roles_key()),
        *(_section(facts[name], ranking, setting.attainment, placed) for name, ranking in rankings.items()),
        setting.trial_section,
        words.LIMITS,
        _glossary(),
        _again(setting),
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
                situations="one situation" if len(rankings) == 1 else f"the same {len(rankings)} situations",
                attainment=attainment,
                told=told,
            ),
            f'<div class="alarm"><b>Lost runs</b>{_list(lost)}</div>' if lost else "",
            f'<h2>Who won</h2><p class="lead answer">{escape(answer(rankings, setting.attainment))}</p>',
            f'<div class="wide">{winners(rankings, setting.attainment)}</div>',
            words.MATRIX.format(attainment=attainment, point=", at the setting it was published with" if runs else ""),
            f'<div class="wide">{matrix(rankings, setting.attainment)}</div>',
        )
    )


def _section(case: Case, ranking: Sequence[Result], attainment: float, placed: Mapping[str, int]) -> str:
    head = "".join(f"<th>{MARKED.get(heading, heading)}</th>" for heading in HEADINGS)
    alarm = "".join(f'<p class="alarm">{escape(line)}</p>' for line in out_of_reach(ranking, attainment))
    played = {one.contender.name for one in ranking if one.score is not None}
    shown = {name: place for name, place in placed.items() if name in played}
    return "\n".join(
        (
            f'<h2 id="{escape(case.name)}">{escape(case.name)}</h2><p>{escape(_told(case))}</p>{alarm}',
            f'<p class="answer">{escape(verdict(ranking, attainment))}</p>',
            f'<div class="wide"><table><tr>{head}</tr>{"".join(_rows(ranking, attainment))}</table></div>',
            "".join(f'<p class="note">{escape(f"{one.contender.name}: {one.note}")}</p>' for one in ranking if one.note),
            f"<p>{key(shown)}</p>{frontier(ranking, attainment, placed)}",
            _lines(ranking, attainment) if swept(ranking) else "",
            f"<p>Replicas over time: {roles_key()}</p>",
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
        f"The load is {case.mark.value}, {case.duration_s / 60:.0f} minutes long. Promised: {promises}. {pools}; never more than "
        f"{_gpus(case.budget_gpus)} in all. A replica takes {case.scenario.fleet.start_up.median_s:g} s to start. Model and GPU: "
        f"{case.scenario.fleet.profile.name}.{_hardships(case)}"
    )


def _hardships(case: Case) -> str:
    """Its conditions, as they are written in its file."""
    if not case.hardships:
        return ""
    written = yaml.safe_dump(dict(case.hardships), default_flow_style=True, sort_keys=False, width=10_000)
    return f" Conditions: {written.strip()[1:-1]}."


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"


def _rows(ranking: Sequence[Result], attainment: float) -> Iterator[str]:
    for result in ranking:
        name, knob, *figures = (escape(cell) for cell in cells(result))
        name = f"<i>{name}</i>" if result.contender.name in REFERENCES else name
        knob = f"<b>{knob}</b>" if result.contender.published and result.contender.point is not None else knob
        row = "".join(f"<td>{cell}</td>" for cell in (name, knob, *figures))
        yield f"<tr{'' if result.reaches(attainment) else ' class=below'}>{row}</tr>"


def _lines(ranking: Sequence[Result], attainment: float) -> str:
    rows = []
    for cost in costs(ranking, attainment):
        name, hours, how = (escape(cell) for cell in cost_cells(cost))
        rows.append(f"<tr{' class=below' if cost.gpu_hours is None else ''}><td>{name}<td>{hours}<td class=words>{how}</tr>")
    head = f"<tr><th>policy<th>GPU-hours at {attainment:.1%}, along its line<th>how it is known</tr>"
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _picture(result: Result) -> str:
    if result.timeline is None:
        return ""
    name, share = escape(result.contender.name), "-" if result.attainment is None else f"{result.attainment:.1%}"
    told = f"<b>{name}</b>: {share} for {result.gpu_hours or 0.0:.2f} GPU-hours"
    return f"<figure><figcaption>{told}</figcaption>{timeline(result.timeline, name)}</figure>"


def _glossary() -> str:
    knobs = {OURS: "share added to what is needed", **{name: entry.knob for name, entry in PEERS.items()}}
    return (
        f'<h2 id="glossary">Glossary</h2>{_defined(words.GLOSSARY)}<h2 id="knobs">Knobs</h2>'
        f"<p>What the headroom column is, for each autoscaler.</p>{_defined(knobs)}"
    )


def _again(setting: Setting) -> str:
    missing = f"<h2>Not played</h2>{_list(setting.left_out)}" if setting.left_out else ""
    missing += f"<h2>Rows left out of traces</h2>{_list(setting.skipped)}" if setting.skipped else ""
    return (
        f"{missing}<h2>To make it again</h2><p><code>{escape(setting.command)}</code></p><p>pd-autoscaler {__version__}, Python "
        f"{platform.python_version()}, random seed {setting.seed}. The same version, seed and traces give the same figures, to "
        "the last digit, on however many cores.</p>"
    )


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _defined(told: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in told.items())}</dl>"
