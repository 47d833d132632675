"""Who won where, on one screen? The answer in a sentence, a line for each policy, and a matrix of scenarios and policies.

Compared are the runs as published; a sweep's other settings are in the scenarios' own sections. A tie, to the hundredth of a
GPU-hour that is shown, is won by all that are in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from autoscaler.commands.standings import swept
from autoscaler.simulator.contenders import ORACLE, OURS, REFERENCES
from autoscaler.simulator.frontiers import costs
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Result

Rankings = Mapping[str, Sequence[Result]]


def answer(rankings: Rankings, attainment: float) -> str:
    """Who keeps the promise most often, and who does so at the least cost most often."""
    if len(rankings) == 1:
        return verdict(next(iter(rankings.values())), attainment)
    reached = Counter(one.contender.name for row in rankings.values() for one in _able(row, attainment))
    if not reached:
        return f"No autoscaler reached {attainment:.1%} in any of {len(rankings)} situations; who came nearest is told below."
    won = Counter(name for row in rankings.values() for name in _cheapest(row, attainment))
    nobody = sum(not _able(row, attainment) for row in rankings.values())
    number = len(rankings)
    return (
        f"{_most(reached, number)} answered {attainment:.1%} of the requests as promised most often; {_most(won, number)} most "
        f"often did so for the fewest GPU-hours." + (f" In {nobody} of the {number} situations nobody did." if nobody else "")
    )


def verdict(ranking: Sequence[Result], attainment: float) -> str:
    """Who keeps the promise of one scenario at the least cost, along its line where more than one setting was played, by how
    much, and what somebody pays who knows the future.
    """
    found = costs(ranking, attainment)
    rivals = [one for one in found if one.contender not in REFERENCES]
    able = [(one.contender, one.gpu_hours) for one in rivals if one.gpu_hours is not None]
    known = next((one.gpu_hours for one in found if one.contender == ORACLE and one.gpu_hours is not None), None)
    possible = "" if known is None else f" Somebody who knows the traffic beforehand (oracle) needs {known:.2f}."
    setting = ", at the best point of its line" if swept(ranking) else ""
    if not rivals:
        return "No autoscaler was played."
    if not able:
        nearest = max(rivals, key=lambda one: one.nearest or 0.0)
        came = f"{nearest.contender} came nearest{setting}: {nearest.nearest or 0.0:.1%}"
        return f"No autoscaler reached {attainment:.1%}; {came}.{possible}"
    (name, hours), *others = able
    behind = ", and nobody else did" if not others else f"; next is {others[0][0]} with {_beside(others[0][1], hours)}"
    return f"The cheapest to reach {attainment:.1%}{setting}: {name} with {hours:.2f} GPU-hours{behind}.{possible}"


def _beside(hours: float, least: float) -> str:
    """`12.00, 20% more`."""
    return f"{hours:.2f}" + (f", {hours / least - 1:.0%} more" if least else "")


def _most(counts: Counter[str], situations: int) -> str:
    """`a (7 of 9)`, or `a and b (each 7 of 9)`."""
    most = max(counts.values())
    names = [name for name, count in counts.items() if count == most]
    return f"{' and '.join(names)} ({'each ' if len(names) > 1 else ''}{most} of {situations})"


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
    runs = _able(ranking, attainment)
    least = min((round(one.gpu_hours or 0.0, 2) for one in runs), default=0.0)
    return [one.contender.name for one in runs if round(one.gpu_hours or 0.0, 2) == least]


def _nearest(ranking: Sequence[Result]) -> str | None:
    """The policy, references aside, with the highest attainment; None if none was played."""
    runs = [one for one in _published(ranking) if one.attainment is not None and one.contender.name not in REFERENCES]
    return max(runs, key=lambda one: one.attainment or 0.0).contender.name if runs else None


def _able(ranking: Sequence[Result], attainment: float) -> list[Result]:
    """Those who reach it, references aside."""
    return [one for one in _published(ranking) if one.reaches(attainment) and one.contender.name not in REFERENCES]


def _published(ranking: Sequence[Result]) -> list[Result]:
    return [one for one in ranking if one.contender.published]


def _names(rankings: Rankings, *, references: bool) -> list[str]:
    """Those who were to play, ours first, in an order that is the same in every report."""
    met = {one.contender.name for ranking in rankings.values() for one in ranking}
    return [name for name in (REFERENCES if references else (OURS, *PEERS)) if name in met]


def _told(name: str) -> str:
    return f"<i>{escape(name)}</i>" if name in REFERENCES else escape(name)
