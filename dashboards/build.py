"""What does an operator see of one model in Grafana? Writes pd-autoscaler.json beside this file (`make dashboards`).

Pictures in the order of the questions: is the promise kept, what stands and what is wanted, what is coming, what was
done and why not, who is turned away, is the controller itself well. One row per role, repeated by Grafana over the roles
the fleet has.

The JSON is committed so that nobody needs Python to import it; a test holds it against this file, and another asks a
real Prometheus every expression in it. Any Grafana from 10.1 on reads the format.
"""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, statetimeline
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueTextMode, VisibilityMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DynamicConfigValue,
    ValueMap,
    ValueMappingResult,
    VariableHide,
    VariableOption,
    VariableRefresh,
)

from dashboards.drawing import FLEET, ROLE, SOURCE, Query, asked, chart, figures, gpus_held, of_fleet, of_role, steps

FILE = Path(__file__).with_name("pd-autoscaler.json")


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
    for add in (_well, _promises, _pools, _decisions, _door, _controller):
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
        figures(
            "Latency, share of what is promised",
            "At the SLO's percentile. Over 100 % the promise is broken.",
            Query(f"{latency} / {promised}", "{{slo}}"),
            6,
        )
        .unit("percentunit")
        .thresholds(steps("green", (0.8, "yellow"), (1.0, "red")))
    )
    text = "Share of requests within the SLO's threshold, at least."
    board.with_panel(figures("Requests within their SLO", text, attained, 6).unit("percentunit").decimals(1))
    board.with_panel(figures("Offered", "Requests that arrive, completed or not.", offered, 4).unit("reqps"))
    board.with_panel(
        figures("GPUs held", "Draining replicas included.", Query(f"sum({gpus_held()})", "held"), 4).with_target(
            asked(Query(f"max(pd_autoscaler_budget_gpus{{{FLEET}}})", "budget"), "B").instant()
        )
    )
    board.with_panel(figures("Mode", "Only Auto acts.", mode, 4).text_mode(BigValueTextMode.NAME))
    board.with_panel(_conditions())


def _conditions() -> statetimeline.Panel:
    conditions = Query(f"max by (condition) (pd_autoscaler_condition{{{FLEET}}})", "{{condition}}")
    asleep = Query(f"max(pd_autoscaler_asleep{{{FLEET}}})", "Asleep")
    words = {"0": ValueMappingResult(text="False", color="orange"), "1": ValueMappingResult(text="True", color="green")}
    upside_down = {"0": ValueMappingResult(text="False", color="green"), "1": ValueMappingResult(text="True", color="orange")}
    calm = {"0": ValueMappingResult(text="False", color="green"), "1": ValueMappingResult(text="True", color="blue")}
    return (
        statetimeline.Panel()
        .title("Conditions")
        .description(
            "ScalingActive False: blind, so it holds. ScalingLimited True: a bound, the budget or the cluster holds it back. "
            "Degraded True: replicas that are wanted do not come, or a drain or a flip does not get on. "
            "Asleep True: nobody asks, so every pool is at zero."
        )
        .datasource(SOURCE)
        .with_target(asked(conditions, "A"))
        .with_target(asked(asleep, "B"))
        .mappings([ValueMap(words)])
        .override_by_name("ScalingLimited", [DynamicConfigValue("mappings", [ValueMap(upside_down)])])
        .override_by_name("Degraded", [DynamicConfigValue("mappings", [ValueMap(upside_down)])])
        .override_by_name("Asleep", [DynamicConfigValue("mappings", [ValueMap(calm)])])
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
        board.with_panel(chart(name, text, [latency, promised], 8).unit("s").min(0))
    within = Query(f"min by (slo) (pd_autoscaler_slo_attainment_ratio{{{FLEET}}})", "{{slo}}")
    wanted = Query(f"max by (slo) (pd_autoscaler_slo_objective_ratio{{{FLEET}}})", "{{slo}} wanted", "dashed")
    text = "Share of requests, at least: a threshold between two bucket edges counts as the lower one."
    board.with_panel(chart("Requests within their SLO", text, [within, wanted], 8).unit("percentunit").max(1))


def _pools(board: dashboard.Dashboard) -> None:
    """One row per role; whatever differs between roles comes from the labels."""
    board.with_row(dashboard.Row("$role").repeat("role"))
    replicas = [
        Query(f"max by (phase) (pd_autoscaler_replicas{{{ROLE}}})", "{{phase}}", "area"),
        of_role("target_replicas", "target"),
        of_role("recommended_replicas", "recommended"),
        of_role("demand_replicas", "demand", "dashed"),
        of_role("max_replicas", "max", "dashed"),
    ]
    text = "Areas stand; the target is what is acted on, a recommendation is not; demand is before damping."
    board.with_panel(chart("Replicas by phase, target, demand", text, replicas, 9).min(0).decimals(1))
    load = [
        of_role("load_tokens_per_second", "load"),
        of_role("forecast_mean_tokens_per_second", "forecast"),
        of_role("forecast_upper_tokens_per_second", "forecast, upper bound", "dashed"),
    ]
    text = "The role's own tokens. A forecast is drawn when it is made and speaks of one horizon later."
    board.with_panel(chart("Load and forecast", text, load, 7).unit("short").min(0))
    queues = [of_role("waiting_requests", "waiting"), of_role("running_requests", "running", "dashed")]
    board.with_panel(chart("Requests", "Waiting for capacity, and in progress.", queues, 4).min(0))
    kv = [of_role("kv_usage_ratio", "in use")]
    board.with_panel(chart("KV cache", "Mean over replicas.", kv, 4).unit("percentunit").min(0).max(1))
    _reasoning(board)


def _reasoning(board: dashboard.Dashboard) -> None:
    """What a role's count goes by, beneath the count."""
    needs = [
        of_role("demand_soon_replicas", "soon"),
        of_role("demand_replicas", "demand"),
        of_role("demand_lasting_replicas", "lasting"),
        of_role("min_in_force_replicas", "min at this hour", "dashed"),
    ]
    text = "When a flip has taken effect; when a new replica serves; the most until one that goes now could be back."
    board.with_panel(chart("Replicas needed, near and far", text, needs, 8).min(0).decimals(1))
    kept = [of_role("forecast_coverage_ratio", "upper bound held")]
    text = "Share of the forecast's latest promises. What is aimed for is the policy's spec.forecast.aim."
    board.with_panel(chart("Promises of the forecast", text, kept, 8).unit("percentunit").min(0).max(1))
    speed = [
        of_role("speed_measured_ratio", "measured"),
        of_role("speed_applied_ratio", "sized with"),
        of_role("speed_confidence", "confidence", "dashed"),
    ]
    text = "Time that work takes over that of the policy's profile: 1.2 is a fifth slower. Confidence: 0 to 1."
    board.with_panel(chart("Speed against the profile", text, speed, 8).min(0).decimals(2))


def _decisions(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("What was done, and what held?"))
    gpus = [
        Query(gpus_held(), "{{role}}", "area"),
        Query(f"max(pd_autoscaler_budget_gpus{{{FLEET}}})", "budget", "dashed"),
    ]
    board.with_panel(chart("GPUs against the budget", "Held or asked for, draining replicas included.", gpus, 6).min(0))
    missing = Query(f"max by (role, lack) (pd_autoscaler_missing_replicas{{{FLEET}}})", "{{role}} {{lack}}", "area")
    text = "Wanted, and not on their way: refused by a quota, without a node, or failing."
    board.with_panel(chart("Replicas missing", text, [missing], 6).min(0))
    tries = f"increase(pd_autoscaler_actions_total{{{FLEET}%s}}[$__rate_interval])"
    actions = [
        Query("sum by (role, direction) (" + tries % ', verdict="Applied"' + ")", "{{role}} {{direction}}", "bars"),
        Query("sum by (role, verdict) (" + tries % ', verdict!="Applied"' + ")", "{{role}} {{verdict}}", "bars"),
    ]
    board.with_panel(chart("Changes", "Applied by direction; the others by what became of them.", actions, 6).min(0))
    held = f"sum by (role, reason) (increase(pd_autoscaler_holds_total{{{FLEET}}}[$__rate_interval]))"
    text = "Ticks without a change, by the reason that held. DesiredWithinRange: all is as it should be."
    board.with_panel(chart("Holds by reason", text, [Query(held, "{{role}} {{reason}}", "bars")], 6).min(0))
    _drains_and_flips(board)
    _traffic(board)


def _drains_and_flips(board: dashboard.Dashboard) -> None:
    tried = f"sum by (from_role, to_role, verdict) (increase(pd_autoscaler_flips_total{{{FLEET}}}[$__rate_interval]))"
    flips = [Query(tried, "{{from_role}} to {{to_role}} {{verdict}}", "bars")]
    text = "Replicas that are to change their role, by what was said to it. Applied: begun, and the next picture tells the rest."
    board.with_panel(chart("Flips tried", text, flips, 6).min(0))
    ended = f"sum by (kind, result) (increase(pd_autoscaler_transactions_total{{{FLEET}}}[$__rate_interval]))"
    draining = f'max by (role) (pd_autoscaler_replicas{{{FLEET}, phase="draining"}})'
    flipping = f"max by (from_role, to_role) (pd_autoscaler_flips_in_flight{{{FLEET}}})"
    forced = f"sum by (role) (increase(pd_autoscaler_forced_requests_total{{{FLEET}}}[$__rate_interval]))"
    moves = [
        Query(ended, "{{kind}} {{result}}", "bars"),
        Query(draining, "{{role}} draining"),
        Query(flipping, "{{from_role}} to {{to_role}} under way"),
        Query(forced, "{{role}} requests given up", "dashed"),
    ]
    text = "Bars: ended, done or undone. Lines: under way. Requests are given up only where the policy says force."
    board.with_panel(chart("Drains and flips", text, moves, 6).min(0))


def _traffic(board: dashboard.Dashboard) -> None:
    requests = [
        of_fleet("offered_requests_per_second", "offered"),
        of_fleet("forecast_mean_requests_per_second", "forecast"),
        of_fleet("forecast_upper_requests_per_second", "forecast, upper bound", "dashed"),
    ]
    text = "A forecast is drawn when it is made and speaks of one horizon later."
    board.with_panel(chart("Requests and forecast", text, requests, 6).unit("reqps").min(0))
    cached = [
        of_fleet("cached_share_ratio", "sized with"),
        of_fleet("cached_share_forecast_ratio", "forecast", "dashed"),
        of_fleet("cached_share_quarantined", "measurement doubted", "bars"),
    ]
    text = "Share of the prompt tokens that caches hold. Doubted while caches are new or going: then it is taken as forecast."
    board.with_panel(chart("Prompt tokens cached", text, cached, 6).unit("percentunit").min(0).max(1))


def _door(board: dashboard.Dashboard) -> None:
    """Empty where no sidecar stands before the fleet."""
    board.with_row(dashboard.Row("Who is turned away, and rightly?"))
    load = [
        of_fleet("offered_requests_per_second", "let in", "area"),
        of_fleet("rejected_requests_per_second", "turned away", "area"),
    ]
    text = "Both are load that pools are sized for. Who was let in at a later try counts once."
    board.with_panel(chart("Requests let in and turned away", text, load, 8).unit("reqps").min(0))
    against = f'max by (mode, reason, class) (pd_autoscaler_verdicts_per_second{{{FLEET}, decision="reject"}})'
    text = "Per second, later tries included. In mode shadow these were let in all the same."
    verdicts = [Query(against, "{{class}}: {{reason}} ({{mode}})", "area")]
    board.with_panel(chart("Verdicts against a request", text, verdicts, 8).unit("reqps").min(0))
    shares = f"max by (what, end) (pd_autoscaler_hindsight_ratio{{{FLEET}}})"
    text = "What enforcing would have turned away, what of that could have been served, and what it would have let in in vain."
    hindsight = [Query(shares, "{{what}}, at {{end}}")]
    board.with_panel(chart("Shadow mode in hindsight", text, hindsight, 8).unit("percentunit").min(0).max(1))


def _controller(board: dashboard.Dashboard) -> None:
    board.with_row(dashboard.Row("Is the controller well?"))
    buckets = "sum by (le) (rate(pd_autoscaler_tick_duration_seconds_bucket[$__rate_interval]))"
    duration = [Query(f"histogram_quantile({q}, {buckets})", name) for q, name in ((0.5, "median"), (0.99, "99th percentile"))]
    board.with_panel(chart("Tick duration", "Over all fleets.", duration, 6).unit("s").min(0))
    lost = [
        Query("sum(increase(pd_autoscaler_ticks_skipped_total[$__rate_interval]))", "skipped", "bars"),
        Query("sum(increase(pd_autoscaler_internal_errors_total[$__rate_interval]))", "internal errors", "bars"),
        Query('sum(increase(pd_autoscaler_status_writes_total{result="failed"}[$__rate_interval]))', "writes not taken", "bars"),
    ]
    board.with_panel(chart("Ticks skipped, internal errors, writes not taken", "All should be none.", lost, 6).min(0))
    ages = [
        Query("time() - max(pd_autoscaler_last_tick_timestamp_seconds)", "last tick"),
        Query("max(pd_autoscaler_tick_interval_seconds)", "interval wanted", "dashed"),
        Query(f"max by (role) (pd_autoscaler_signal_age_seconds{{{FLEET}}})", "signals of {{role}}"),
    ]
    board.with_panel(chart("Age of the last tick and of the signals", "Seconds.", ages, 6).unit("s").min(0))
    memory = "process_resident_memory_bytes * on (job, instance) group_left (version) pd_autoscaler_build_info"
    board.with_panel(chart("Memory", "Resident.", [Query(memory, "{{instance}} {{version}}")], 6).unit("bytes").min(0))


if __name__ == "__main__":
    FILE.write_text(build(), encoding="utf-8")
