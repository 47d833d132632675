"""How does a status read in a terminal? Tables from the status document, the same one machines get as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

BAD_NEWS = ("ScalingLimited", "Degraded")  # conditions that are fine while they are False
STAGE_STYLE = {
    "observe": "cyan",
    "forecast": "blue",
    "capacity": "blue",
    "demand": "magenta",
    "target": "yellow",
    "plan": "green",
}


def pools(document: Mapping[str, Any]) -> Table:
    """One column per pool: what stands, what is asked for, how loaded it is, how it meets its SLO. Fits 80 columns."""
    table = Table(title=f"{document['fleet']}, mode {document['mode']}", title_justify="left")
    table.add_column("")
    for role in document["pools"]:
        table.add_column(role, justify="right", no_wrap=True, min_width=24)
    for heading, cell in CELLS.items():
        table.add_row(heading, *(cell(pool) for pool in document["pools"].values()))
    table.caption = _users(document)
    table.caption_justify = "left"
    return table


def _users(document: Mapping[str, Any]) -> Text:
    """What users send and see, where the gateway tells."""
    text = Text(f"{number(document['offered_rps'], 1)} requests/s offered", style="not italic")
    return text.append_text(Text("; users see ").append_text(latency(document["user_ttft"]))) if document["user_ttft"] else text


def _replicas(pool: Mapping[str, Any]) -> Text:
    """`3 serving, 1 starting of 4`, in yellow while the target is another."""
    phases = ", ".join(f"{count} {phase}" for phase, count in pool["phases"].items()) or "none"
    moved = pool["target"] != pool["desired"]
    text = f"{phases} of {pool['desired']}" + (f" -> {pool['target']}" if moved else "")
    return Text(text, style="bold yellow" if moved else "")


def _demand(pool: Mapping[str, Any]) -> Text:
    return Text(f"{number(pool['demand'], 2)} replicas" + (f" ({pool['bound']})" if pool["bound"] else ""))


def reasons(document: Mapping[str, Any]) -> Table:
    """The reason chain: every stage of every role, in order."""
    table = Table(title="why", title_justify="left")
    for heading in ("role", "stage", "reason"):
        table.add_column(heading, no_wrap=True)
    table.add_column("in words", overflow="fold")
    for finding in document["findings"]:
        stage = Text(finding["stage"], style=STAGE_STYLE.get(finding["stage"], ""))
        table.add_row(finding["role"] or "", stage, finding["reason"], Text(finding["text"]))
    return table


def conditions(document: Mapping[str, Any]) -> Text:
    """The conditions on one line; what is wrong is red and says why."""
    text = Text()
    for condition in document["conditions"]:
        bad = condition["status"] is (condition["type"] in BAD_NEWS)
        word = f"{condition['type']}={condition['status']}"
        text.append(
            f"{word} ({condition['reason']}: {condition['message']})  " if bad else f"{word}  ", "red" if bad else "green"
        )
    return text


def whole(document: Mapping[str, Any]) -> RenderableType:
    """Pools, conditions and the reason chain of one tick; of a fleet that could not be read only the last two."""
    seen = pools(document) if document["pools"] else Text(f"{document['fleet']}, mode {document['mode']}", style="bold")
    return Group(seen, *notes(document), conditions(document), reasons(document))


def notes(document: Mapping[str, Any]) -> list[Text]:
    """What the cluster says about its pools, a line each; nothing where all is well."""
    return [Text(f"{role}: {line}", style="yellow") for role, pool in document["pools"].items() for line in _said(pool)]


def _said(pool: Mapping[str, Any]) -> Iterator[str]:
    for shortage in pool["shortages"]:
        yield f"{shortage['replicas']} missing, {shortage['lack']}: {shortage['text']}"
    if pool["note"]:
        yield pool["note"]


def number(value: float | None, digits: int) -> str:
    """A number, or a dash for what is not known."""
    return "-" if value is None else f"{value:,.{digits}f}"


def latency(slo: Mapping[str, Any]) -> Text:
    """`TTFT p95 0.41 of 2 s` in green within the SLO, red beyond; a dash with the sample count when too few to say."""
    name = f"{slo['kind'].upper()} p{slo['quantile'] * 100:g}"
    if slo["value_s"] is None:
        return Text(f"{name} - of {slo['threshold_s']:g} s (n={slo['samples']:.0f})", style="dim")
    style = "green" if slo["value_s"] <= slo["threshold_s"] else "red"
    return Text(f"{name} {slo['value_s']:.3g} of {slo['threshold_s']:g} s", style=style)


CELLS: Mapping[str, Callable[[Mapping[str, Any]], Text]] = {
    "replicas": _replicas,
    "requests": lambda pool: Text(f"{number(pool['waiting'], 0)} waiting, {number(pool['running'], 0)} running"),
    "load": lambda pool: Text(f"{number(pool['load'], 0)} tokens/s"),
    "demand": _demand,
    "latency": lambda pool: latency(pool["slo"]),
}
