"""What does an operator see of one model in Grafana? Writes pd-autoscaler.json beside this file (`make dashboards`).

Pictures in the order of the questions: is the promise kept, what stands and what is wanted, what is coming, what was
done and why not, is the controller itself well. One row per role, repeated by Grafana over the roles the fleet has.

The JSON is committed so that nobody needs Python to import it; a test holds it against this file, and another asks a
real Prometheus every expression in it. `max by (...)` everywhere: of several controller replicas only the leader tells
of fleets, and for five minutes after a hand-over the old one still may. Any Grafana from 10.1 on reads the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode, BigValueTextMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableHide,
    VariableOption,
    VariableRefresh,
)

FILE = Path(__file__).with_name("pd-autoscaler.json")
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


def build() -> str:
    """The dashboard as Grafana imports it, the same text every time."""
    board = (
        dashboard.Dashboard("pd-autoscaler: one model")
        .uid("pd-autoscaler")
        .description("Prefill and decode pools of one model: promises, replicas, load, decisions, and the controller.")
        .tags(["llm", "autoscaling"])
        .time("now-3h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
    )
    _variables(board)
    for add in (_well, _promises, _pools, _decisions, _controller):
        add(board)
    model = board.build()
    for number, panel in enumerate(model.panels or [], 1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2).encode(model) + "\n"


def _variables(board: dashboard.Dashboard) -> None:
    board.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    board.with_variable(_labels("fleet", "pd_autoscaler_mode_info").label("Model"))
    roles = _labels("role", f"pd_autoscaler_desired_replicas{{{FLEET}}}").hide(VariableHide.HIDE_VARIABLE)
    board.with_variable(roles.multi(True).include_all(True).current(VariableOption(text="All", value="$__all")))


def _labels(name: str, metric: str) -> dashboard.QueryVariable:
    query = f"label_values({metric}, {name})"
    return dashboard.QueryVariable(name).datasource(SOURCE).query(query).refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)


def _well(board: dashboard.Dashboard) -> None:
    """Five seconds: figures, then the four conditions over time."""
    attained = Query(f"min by (slo) (pd_autoscaler_slo_attainment_ratio{{{FLEET}}})", "{{slo}}")
    latency, promised = (
        f"max by (slo) (pd_autoscaler_{name}{{{FLEET}}})" for name in ("latency_seconds", "slo_threshold_seconds")
    )
    offered = Query(f"max(pd_autoscaler_offered_requests_per_second{{{FLEET}}})", "offered")
    mode = Query(f"max by (mode) (pd_autoscaler_mode_info{{{FLEET}}})", "{{mode}}")
    board.with_panel(
        _figures(
            "Latency, share of what is promised",
            "At the SLO's percentile. Over 100 % the promise is broken.",
            Query(f"{latency} / {promised}", "{{slo}}"),
            6,
        )
        .unit("percentunit")
        .thresholds(_steps("green", (0.8, "yellow"), (1.0, "red")))
    )
    text = "Share of requests within the SLO's threshold, at least."
    board.with_panel(_figures("Requests within their SLO", text, attained, 6).unit("percentunit").decimals(1))
    board.with_panel(_figures("Offered", "Requests that arrive, completed or not.", offered, 4).unit("reqps"))
    board.with_panel(
        _figures("GPUs held", "Draining replicas included.", Query(f"sum({_held()})", "held"), 4).with_target(
            _target(Query(f"max(pd_autoscaler_budget_gpus{{{FLEET}}})", "budget"), "B").instant()
        )
    )
    board.with_panel(_figures("Mode", "Only Auto acts.", mode, 4).text_mode(BigValueTextMode.NAME))
    board.with_panel(_conditions())


def _conditions() -> statetimeline.Panel:
    conditions = Query(f"max by (condition) (pd_autoscaler_condition{{{FLEET}}})", "{{condition}}")
    words = {"0": ValueMappingResult(text="False", color="orange"), "1": ValueMappingResult(text="True", color="green")}
    upside_down = {"0": ValueMappingResult(text="False", color="green"), "1": ValueMappingResult(text="True", color="orange")}
    return (
        statetimeline.Panel()
        .title("Conditions")
        .description(
            "ScalingActive False: blind, so it holds. ScalingLimited True: a bound, the budget or the cluster holds it back. "
            "Degraded True: replicas that are wanted do not come."
        )
        .datasource(SOURCE)
        .with_target(_target(conditions, "A"))
        .mappings([ValueMap(words)])
        .override_by_name("ScalingLimited", [DynamicConfigValue("mappings", [ValueMap(upside_down)])])
        .override_by_name("Degraded", [DynamicConfigValue("mappings", [ValueMap(upside_down)])])
        .show_value(VisibilityMode.NEVER)
        .height(5)
        .span(24)
    )


def _promises(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Is the promise kept?"))
    for slo, name in (("ttft", "Time to first token"), ("tpot", "Time per output token")):
        where = f'{FLEET}, slo="{slo}"'
        latency = Query(f"max by (source) (pd_autoscaler_latency_seconds{{{where}}})", "measured by {{source}}")
        promised = Query(f"max(pd_autoscaler_slo_threshold_seconds{{{where}}})", "SLO", "dashed")
        text = "At the SLO's percentile. A gap: too few requests to tell."
        board.with_panel(_chart(name, text, [latency, promised], 8).unit("s").min(0))
    within = Query(f"min by (slo) (pd_autoscaler_slo_attainment_ratio{{{FLEET}}})", "{{slo}}")
    wanted = Query(f"max by (slo) (pd_autoscaler_slo_objective_ratio{{{FLEET}}})", "{{slo}} wanted", "dashed")
    text = "Share of requests, at least: a threshold between two bucket edges counts as the lower one."
    board.with_panel(_chart("Requests within their SLO", text, [within, wanted], 8).unit("percentunit").max(1))


def _pools(board: dashboard.Dashboard) -> None:
    """One row per role; whatever differs between roles comes from the labels."""
    board.with_row(dashboard.Row("$role").repeat("role"))
    replicas = [
        Query(f"max by (phase) (pd_autoscaler_replicas{{{ROLE}}})", "{{phase}}", "area"),
        _pool("target_replicas", "target"),
        _pool("recommended_replicas", "recommended"),
        _pool("demand_replicas", "demand", "dashed"),
        _pool("max_replicas", "max", "dashed"),
    ]
    text = "Areas stand; the target is what is acted on, a recommendation is not; demand is before damping."
    board.with_panel(_chart("Replicas by phase, target, demand", text, replicas, 9).min(0).decimals(1))
    load = [
        _pool("load_tokens_per_second", "load"),
        _pool("forecast_mean_tokens_per_second", "forecast"),
        _pool("forecast_upper_tokens_per_second", "forecast, upper bound", "dashed"),
    ]
    text = "The role's own tokens. A forecast is drawn when it is made and speaks of one horizon later."
    board.with_panel(_chart("Load and forecast", text, load, 7).unit("short").min(0))
    queues = [_pool("waiting_requests", "waiting"), _pool("running_requests", "running", "dashed")]
    board.with_panel(_chart("Requests", "Waiting for capacity, and in progress.", queues, 4).min(0))
    kv = [_pool("kv_usage_ratio", "in use")]
    board.with_panel(_chart("KV cache", "Mean over replicas.", kv, 4).unit("percentunit").min(0).max(1))


def _decisions(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("What was done, and what held?"))
    gpus = [
        Query(_held(), "{{role}}", "area"),
        Query(f"max(pd_autoscaler_budget_gpus{{{FLEET}}})", "budget", "dashed"),
    ]
    board.with_panel(_chart("GPUs against the budget", "Held or asked for, draining replicas included.", gpus, 6).min(0))
    missing = Query(f"max by (role, lack) (pd_autoscaler_missing_replicas{{{FLEET}}})", "{{role}} {{lack}}", "area")
    text = "Wanted, and not on their way: refused by a quota, without a node, or failing."
    board.with_panel(_chart("Replicas missing", text, [missing], 6).min(0))
    tries = f"increase(pd_autoscaler_actions_total{{{FLEET}%s}}[$__rate_interval])"
    actions = [
        Query("sum by (role, direction) (" + tries % ', verdict="Applied"' + ")", "{{role}} {{direction}}", "bars"),
        Query("sum by (role, verdict) (" + tries % ', verdict!="Applied"' + ")", "{{role}} {{verdict}}", "bars"),
    ]
    board.with_panel(_chart("Changes", "Applied by direction; the others by what became of them.", actions, 6).min(0))
    held = f"sum by (role, reason) (increase(pd_autoscaler_holds_total{{{FLEET}}}[$__rate_interval]))"
    text = "Ticks without a change, by the reason that held. DesiredWithinRange: all is as it should be."
    board.with_panel(_chart("Holds by reason", text, [Query(held, "{{role}} {{reason}}", "bars")], 6).min(0))


def _controller(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Is the controller well?"))
    buckets = "sum by (le) (rate(pd_autoscaler_tick_duration_seconds_bucket[$__rate_interval]))"
    duration = [Query(f"histogram_quantile({q}, {buckets})", name) for q, name in ((0.5, "median"), (0.99, "99th percentile"))]
    board.with_panel(_chart("Tick duration", "Over all fleets.", duration, 6).unit("s").min(0))
    lost = [
        Query("sum(increase(pd_autoscaler_ticks_skipped_total[$__rate_interval]))", "skipped", "bars"),
        Query("sum(increase(pd_autoscaler_internal_errors_total[$__rate_interval]))", "internal errors", "bars"),
        Query('sum(increase(pd_autoscaler_status_writes_total{result="failed"}[$__rate_interval]))', "writes not taken", "bars"),
    ]
    board.with_panel(_chart("Ticks skipped, internal errors, writes not taken", "All should be none.", lost, 6).min(0))
    ages = [
        Query("time() - max(pd_autoscaler_last_tick_timestamp_seconds)", "last tick"),
        Query("max(pd_autoscaler_tick_interval_seconds)", "interval wanted", "dashed"),
        Query(f"max by (role) (pd_autoscaler_signal_age_seconds{{{FLEET}}})", "signals of {{role}}"),
    ]
    board.with_panel(_chart("Age of the last tick and of the signals", "Seconds.", ages, 6).unit("s").min(0))
    memory = "process_resident_memory_bytes * on (job, instance) group_left (version) pd_autoscaler_build_info"
    board.with_panel(_chart("Memory", "Resident.", [Query(memory, "{{instance}} {{version}}")], 6).unit("bytes").min(0))


def _held() -> str:
    return f"max by (role) (pd_autoscaler_held_gpus{{{FLEET}}})"


def _pool(metric: str, legend: str, look: str = "line") -> Query:
    return Query(f"max(pd_autoscaler_{metric}{{{ROLE}}})", legend, look)


def _target(query: Query, ref: str) -> Dataquery:
    return Dataquery().expr(query.expr).legend_format(query.legend).ref_id(ref).range()


def _figures(title: str, text: str, query: Query, span: int) -> stat.Panel:
    """What is true now: over a range, a mode or a model that was left an hour ago would still stand there."""
    panel = stat.Panel().title(title).description(text).datasource(SOURCE).height(4).span(span)
    panel.with_target(_target(query, "A").instant()).reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
    return panel.text_mode(BigValueTextMode.VALUE_AND_NAME).graph_mode(BigValueGraphMode.NONE)


def _chart(title: str, text: str, queries: Sequence[Query], span: int) -> timeseries.Panel:
    panel = timeseries.Panel().title(title).description(text).datasource(SOURCE).height(CHART_HEIGHT).span(span)
    for number, query in enumerate(queries):
        ref = chr(ord("A") + number)
        panel.with_target(_target(query, ref)).override_by_query(ref, list(LOOKS[query.look]))
    return panel.show_points(VisibilityMode.NEVER)


def _steps(below: str, *steps: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """A colour up to the first step, then each step's own."""
    colours = [Threshold(color=below), *(Threshold(value=value, color=color) for value, color in steps)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)


if __name__ == "__main__":
    FILE.write_text(build(), encoding="utf-8")
