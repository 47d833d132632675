"""How does a status read in a terminal? Tables from the status document, the same one machines get as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

BAD_NEWS = ("ScalingLimited", "Degraded")  # conditions that are fine while they are False
UNKNOWN = "-"
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
    """What users send and see, where the gateway tells, and which part of their prompts a cache holds."""
    text = Text(f"{number(document['offered_rps'], 1)} requests/s offered", style="not italic")
    traffic = document["traffic"] or {}
    if traffic.get("requests"):
        text.append(f", {number(traffic['requests']['mean'], 1)} expected")
    if traffic.get("cached_share"):
        doubted = ", as expected before" if traffic["quarantined"] and traffic["cached_ahead"] else ""
        text.append(f"; {traffic['cached_share']:.0%} of the prompt tokens cached{doubted}")
    return text.append_text(Text("; users see ").append_text(latency(document["user_ttft"]))) if document["user_ttft"] else text


def _replicas(pool: Mapping[str, Any]) -> Text:
    """`3 serving, 1 starting of 4`, in yellow while the target is another."""
    phases = ", ".join(f"{count} {phase}" for phase, count in pool["phases"].items()) or "none"
    moved = pool["target"] != pool["desired"]
    text = f"{phases} of {pool['desired']}" + (f" -> {pool['target']}" if moved else "")
    return Text(text, style="bold yellow" if moved else "")


def _demand(pool: Mapping[str, Any]) -> Text:
    return Text(f"{number(pool['demand'], 2)} replicas" + (f" ({pool['bound']})" if pool["bound"] else ""))


def _over_time(pool: Mapping[str, Any]) -> Text:
    """What is needed when a flip has taken effect, and for as long as a replica would be away."""
    return Text(f"{number(pool['demand_soon'], 2)} soon, {number(pool['demand_lasting'], 2)} lasting")


def _forecast(pool: Mapping[str, Any]) -> Text:
    """`9,100 to 20,111 in 94 s`, dim as long as the model has not earned to speak."""
    if pool["forecast_mean"] is None:
        return Text(UNKNOWN)
    text = f"{number(pool['forecast_mean'], 0)}-{number(pool['forecast_upper'], 0)} in {number(pool['forecast_horizon_s'], 0)} s"
    return Text(text, style="" if pool["forecast_error"] is not None else "dim")


def _model(pool: Mapping[str, Any]) -> Text:
    if pool["forecast_model"] is None:
        return Text(UNKNOWN)
    kept = pool["forecast_coverage"]
    return Text(f"{pool['forecast_model']}, " + ("unproven" if kept is None else f"bound held {kept:.0%}"))


def _speed(pool: Mapping[str, Any]) -> Text:
    """Times that work takes over the profile's: as sized by, and in how far that was measured."""
    if pool["speed_applied"] is None:
        return Text(UNKNOWN)
    measured = "not measured" if pool["speed_measured"] is None else f"{pool['speed_confidence']:.0%} sure"
    return Text(f"{pool['speed_applied']:.2f} x profile, {measured}")


def reasons(document: Mapping[str, Any]) -> Table:
    """The reason chain: every stage of every role, in order."""
    table = Table(title="why", title_justify="left")
    for heading in ("role", "stage", "reason"):
        table.add_column(heading, no_wrap=True)
    table.add_column("in words", overflow="fold")
    for finding in document["findings"]:
        stage = Text(finding["stage"], style=STAGE_STYLE.get(finding["stage"], ""))
        text = Text(finding["text"]).append(_inputs(finding["inputs"]), "dim")
        table.add_row(finding["role"] or "", stage, finding["reason"], text)
    return table


def _inputs(inputs: Mapping[str, Any]) -> str:
    """The numbers that a stage went by, on a line of their own; to six figures, as many as anybody measures."""
    told = (value if isinstance(value, str) else UNKNOWN if value is None else f"{value:.6g}" for value in inputs.values())
    return "\n" + " ".join(map("=".join, zip(inputs, told, strict=True))) if inputs else ""


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
    """What there is to say beside the figures, a line each; nothing where all is well and nothing moves."""
    lines = ["asleep: nobody has asked for anything for long"] if document["asleep"] else []
    lines += [_under_way(flip) for flip in document["flips_in_flight"]]
    lines += [f"{role}: {line}" for role, pool in document["pools"].items() for line in _said(pool)]
    return [Text(line, style="yellow") for line in lines]


def _under_way(flip: Mapping[str, Any]) -> str:
    roles = f"{flip['from_replicas']} {flip['from_role']} for {flip['to_replicas']} {flip['to_role']}"
    return f"flip of {roles}: {flip['phase']}, begun {flip['age_s']:.0f} s ago"


def _said(pool: Mapping[str, Any]) -> Iterator[str]:
    for shortage in pool["shortages"]:
        yield f"{shortage['replicas']} missing, {shortage['lack']}: {shortage['text']}"
    if pool["min_in_force"] > pool["min_replicas"]:
        yield f"the calendar asks for at least {pool['min_in_force']} now, min is {pool['min_replicas']}"
    if pool["note"]:
        yield pool["note"]


def number(value: float | None, digits: int) -> str:
    """A number, or a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,.{digits}f}"


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
    "expected": _forecast,
    "model": _model,
    "speed": _speed,
    "demand": _demand,
    "over time": _over_time,
    "latency": lambda pool: latency(pool["slo"]),
}
