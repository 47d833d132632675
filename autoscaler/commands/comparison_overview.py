"""Who won where, on one screen? A sentence on each policy, and a matrix of scenarios and policies.

Compared are the runs as published; a sweep's other settings are in the scenarios' own sections. A tie, to the hundredth of a
GPU-hour that is shown, is won by all that are in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from autoscaler.simulator.contenders import OURS, REFERENCES
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Result

Rankings = Mapping[str, Sequence[Result]]


def winners(rankings: Rankings, attainment: float) -> str:
    """How often each policy reached the attainment, how often it was the cheapest to do so, and where nobody did, how often it
    came nearest: the most wins first.
    """
    names = _names(rankings, references=False)
    reached = Counter(one.contender.name for row in rankings.values() for one in _published(row) if one.reaches(attainment))
    won = Counter(name for row in rankings.values() for name in _cheapest(row, attainment))
    hard = [row for row in rankings.values() if not _cheapest(row, attainment)]
    nearest = Counter(_nearest(row) for row in hard)
    rows = "".join(
        f"<tr><td>{escape(name)}<td>{reached[name]}<td>{won[name]}{f'<td>{nearest[name]}' if hard else ''}</tr>"
        for name in sorted(names, key=lambda name: (-won[name], -reached[name], -nearest[name]))
    )
    last = f"<th>came nearest where nobody did, of {len(hard)}" if hard else ""
    head = f"<tr><th>autoscaler<th>reached {attainment:.1%}, of {len(rankings)}<th>was the cheapest that did{last}</tr>"
    return f"<table>{head}{rows}</table>"


def matrix(rankings: Rankings, attainment: float) -> str:
    """A row for each scenario: GPU-hours of those that reach the attainment, the share of those that do not."""
    names = [*_names(rankings, references=False), *_names(rankings, references=True)]
    head = "".join(f"<th>{_told(name)}</th>" for name in names)
    rows = []
    for scenario, ranking in rankings.items():
        runs, best = {one.contender.name: one for one in _published(ranking)}, _cheapest(ranking, attainment)
        row = "".join(_cell(runs.get(name), attainment, wins=name in best) for name in names)
        rows.append(f'<tr><td><a href="#{escape(scenario)}">{escape(scenario)}</a></td>{row}</tr>')
    return f"<table><tr><th>situation</th>{head}</tr>{''.join(rows)}</table>"


def _cell(result: Result | None, attainment: float, *, wins: bool) -> str:
    if result is None or result.gpu_hours is None:
        return "<td>-</td>"
    if result.reaches(attainment):
        return f"<td{' class=win' if wins else ''}>{result.gpu_hours:.2f}</td>"
    return f"<td class=below>{result.attainment or 0.0:.1%}</td>"


def _cheapest(ranking: Sequence[Result], attainment: float) -> list[str]:
    """The policies, references aside, that reach it for the fewest GPU-hours."""
    runs = [one for one in _published(ranking) if one.reaches(attainment) and one.contender.name not in REFERENCES]
    least = min((round(one.gpu_hours or 0.0, 2) for one in runs), default=0.0)
    return [one.contender.name for one in runs if round(one.gpu_hours or 0.0, 2) == least]


def _nearest(ranking: Sequence[Result]) -> str | None:
    """The policy, references aside, with the highest attainment; None if none was played."""
    runs = [one for one in _published(ranking) if one.attainment is not None and one.contender.name not in REFERENCES]
    return max(runs, key=lambda one: one.attainment or 0.0).contender.name if runs else None


def _published(ranking: Sequence[Result]) -> list[Result]:
    return [one for one in ranking if one.contender.published]


def _names(rankings: Rankings, *, references: bool) -> list[str]:
    """Those who were to play, ours first, in an order that is the same in every report."""
    met = {one.contender.name for ranking in rankings.values() for one in ranking}
    return [name for name in (REFERENCES if references else (OURS, *PEERS)) if name in met]


def _told(name: str) -> str:
    return f"<i>{escape(name)}</i>" if name in REFERENCES else escape(name)
