"""How is one picture of the dashboard drawn? What it asks, how a line looks, and what every panel has in common.

`max` everywhere: of several controller replicas only the leader tells of fleets, and for five minutes after a hand-over the
old one still may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import BigValueGraphMode, BigValueTextMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, DynamicConfigValue, Threshold, ThresholdsMode

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
FLEET = 'fleet="$fleet"'
ROLE = f'{FLEET}, role="$role"'
CHART_HEIGHT = 8
LOOKS = {
    "line": (DynamicConfigValue("custom.lineWidth", 2),),
    "dashed": (DynamicConfigValue("custom.lineWidth", 1), DynamicConfigValue("custom.lineStyle", {"fill": "dash"})),
    "area": (
        DynamicConfigValue("custom.stacking", {"mode": "normal", "group": "A"}),
        DynamicConfigValue("custom.fillOpacity", 30),
        DynamicConfigValue("custom.lineWidth", 0),
    ),
    "bars": (
        DynamicConfigValue("custom.stacking", {"mode": "normal", "group": "A"}),
        DynamicConfigValue("custom.drawStyle", "bars"),
        DynamicConfigValue("custom.fillOpacity", 60),
    ),
}


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression, what its series are called, and how they are drawn."""

    expr: str
    legend: str
    look: str = "line"


def gpus_held() -> str:
    """GPUs by role."""
    return f"max by (role) (pd_autoscaler_held_gpus{{{FLEET}}})"


def of_role(metric: str, legend: str, look: str = "line") -> Query:
    """One of our gauges, of the role whose row it is."""
    return Query(f"max(pd_autoscaler_{metric}{{{ROLE}}})", legend, look)


def of_fleet(metric: str, legend: str, look: str = "line") -> Query:
    """One of our gauges, of the whole fleet."""
    return Query(f"max(pd_autoscaler_{metric}{{{FLEET}}})", legend, look)


def asked(query: Query, ref: str) -> Dataquery:
    """The query as a panel has it; `ref` is its letter there."""
    return Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).range()


def figures(title: str, text: str, query: Query, span: int) -> stat.Panel:
    """What is true now: over a range, a mode or a model that was left an hour ago would still stand there."""
    panel = stat.Panel().title(title).description(text).datasource(SOURCE).height(4).span(span)
    panel.with_target(asked(query, "A").instant()).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.text_mode(BigValueTextMode.VALUE_AND_NAME).graph_mode(BigValueGraphMode.NONE)


def chart(title: str, text: str, queries: Sequence[Query], span: int) -> timeseries.Panel:
    """Curves over time, `span` of 24 columns wide."""
    panel = timeseries.Panel().title(title).description(text).datasource(SOURCE).height(CHART_HEIGHT).span(span)
    for number, query in enumerate(queries):
        ref = chr(ord("A") + number)
        panel.with_target(asked(query, ref)).override_by_query(ref, list(LOOKS[query.look]))
    return panel.show_points(VisibilityMode.NEVER)


def steps(below: str, *steps: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """A colour up to the first step, then each step's own."""
    colours = [Threshold(color=below), *(Threshold(value=value, color=color) for value, color in steps)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)
