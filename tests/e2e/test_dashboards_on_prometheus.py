"""Does every expression of the dashboard and of the alerts get an answer from a real Prometheus?

    simulated fleet, an exporter per replica -> real Prometheus <- /metrics of two controllers and a sidecar, one scrape a second

The first controller acts (Auto), the second only recommends (`--dry-run`), so that both names of a target are told, and
every expression must bear two pods that speak of one fleet.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from autoscaler.core.rejection import RejectionMode
from tests.adapters.fake_pages import door
from tests.adapters.prometheus_server import Exporters, RealPrometheus, find_prometheus
from tests.e2e.processes import Process, wait_for

pytestmark = [pytest.mark.prometheus, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / "dashboards"
BOARD = json.loads((FOLDER / "pd-autoscaler.json").read_text(encoding="utf-8"))
GROUPS = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
PANELS = {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])
}
ALERTS = {rule["alert"]: rule["expr"] for group in GROUPS for rule in group["rules"]}
# What a healthy young fleet does not have: the reason of a limit. What a simulated one has not: transactions that end.
ONLY_WHEN_LIMITED = {"pd_autoscaler_condition_info"}
# What a sidecar with a state does not count: those that it did not judge.
ONLY_WHEN_AMISS = {"pdautoscaler_sidecar_decisions_total"}
ONLY_ON_KUBERNETES = "pd_autoscaler_transactions_total"
ROLES = ("prefill", "decode")
POLICY = {
    "apiVersion": "pdautoscaler.io/v1alpha1",
    "kind": "PDAutoscaler",
    "metadata": {"name": "board", "namespace": "e2e"},
    "spec": {
        "mode": "Auto",
        "model": "llama-3-8b",
        "engine": "vllm",
        "gateway": "llm-d",
        "profile": "llama-3-8b-a100-tp1",
        "gpuBudget": 12,
        "slo": {"ttft": {"seconds": 2.0, "percentile": 95}, "tpot": {"seconds": 0.05, "percentile": 95}},
        "pools": {
            "prefill": {"target": {"name": "board-prefill"}, "min": 1, "max": 6},
            "decode": {"target": {"name": "board-decode"}, "min": 1, "max": 6},
        },
        "metrics": {"windowSeconds": 8, "scrapeIntervalSeconds": 1},
        "freshness": {"maxAgeSeconds": 5, "graceSeconds": 10, "minSamples": 5},
        "forecast": {"horizonSeconds": 8, "gapSeconds": 10},
        "behaviour": {"tickSeconds": 2, "gapSeconds": 6},
    },
}


@dataclass
class Stack:
    """A Prometheus that scrapes the fleet and both controllers."""

    prometheus: RealPrometheus
    processes: list[Process]

    def ask(self, expr: str) -> dict[str, Any]:
        """The answer to one query, whatever it is."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{self.prometheus.url}/api/v1/query", params={"query": expr}, timeout=10)
        said: dict[str, Any] = answer.json()
        return said

    def numbers(self, expr: str) -> list[float]:
        """The finite values of an answer; fails on an expression that is not understood."""
        said = self.ask(expr)
        assert said["status"] == "success", f"{expr}: {said['error']}"
        return [value for row in said["data"]["result"] if math.isfinite(value := float(row["value"][1]))]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    binary = find_prometheus()
    if binary is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no prometheus on PATH: no expression was asked of a real one (Debian: apt-get install prometheus)")
    folder = tmp_path_factory.mktemp("board")
    policy = folder / "board.yaml"
    policy.write_text(yaml.safe_dump(POLICY))
    running = Stack(RealPrometheus(str(binary), folder, []), [])
    sidecar = Exporters()
    page = door("llama-3-8b", RejectionMode.ENFORCE, rejected=6, readmitted=2, namespace="e2e")
    sidecar.add_page("sidecar", page, namespace="gateways")
    (folder / "targets-sidecar.json").write_text(json.dumps(sidecar.targets))
    try:
        running.prometheus.start()
        _start(running, policy, folder)
        yield running
    finally:
        for one in running.processes:
            one.process.kill()
            one.process.wait()
        running.prometheus.stop()
        sidecar.close()


def _start(stack: Stack, policy: Path, folder: Path) -> None:
    """The fleet, two controllers over it, and their pages among the targets."""
    played = ["--rate", "2", "--startup", "3", "--targets-file", str(folder / "targets.json")]
    stack.processes.append(Process(["fleet", "--policy", str(policy), "--port", "0", *played], folder / "fleet.log"))
    where = ["--prometheus", stack.prometheus.url, "--cluster", f"sim:{stack.processes[0].address('control')}"]
    pages = []
    for name, more in (("acts", []), ("recommends", ["--dry-run"])):
        controller = Process(["run", "--policy", str(policy), "--port", "0", *where, *more], folder / f"{name}.log")
        stack.processes.append(controller)
        pages.append(controller.address("live page").removeprefix("http://"))
    job = [{"targets": pages, "labels": {"job": "pd-autoscaler"}}]
    (folder / "targets-controllers.json").write_text(json.dumps(job))


def written_out(expr: str) -> list[str]:
    """What Grafana asks: once per role where the role is named."""
    expr = expr.replace("$fleet", "e2e/board").replace("$__rate_interval", "15s")
    return [expr.replace("$role", role) for role in ROLES] if "$role" in expr else [expr]


@pytest.mark.parametrize("where", PANELS)
def test_every_expression_of_the_dashboard_returns_data(stack: Stack, where: str) -> None:
    for expr in written_out(PANELS[where]):
        assert "$" not in expr
        if ONLY_ON_KUBERNETES in expr:
            assert stack.ask(expr)["status"] == "success"
        else:
            wait_for(partial(stack.numbers, expr), f"data for {expr}")


def test_both_variables_find_their_values(stack: Stack) -> None:
    for variable in BOARD["templating"]["list"][1:]:
        metric, label = re.findall(r"label_values\((.+), (\w+)\)", variable["query"])[0]
        (expr,) = written_out(f"count by ({label}) ({metric})")
        wait_for(partial(stack.numbers, expr), expr)
        found = {row["metric"][label] for row in stack.ask(expr)["data"]["result"]}
        assert found == {"fleet": {"e2e/board"}, "role": set(ROLES)}[label]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_understood_and_what_it_watches_is_there(stack: Stack, alert: str) -> None:
    said = stack.ask(ALERTS[alert])
    assert said["status"] == "success", said
    watched = re.findall(r"pd_?autoscaler_\w+(?:\{[^}]*\})?", ALERTS[alert])
    assert watched
    for selector in watched:
        name = selector.partition("{")[0]
        wait_for(partial(stack.numbers, name if name in ONLY_WHEN_LIMITED | ONLY_WHEN_AMISS else selector), selector)


def test_a_controller_that_is_well_raises_no_alert_about_itself(stack: Stack) -> None:
    wait_for(partial(stack.numbers, "min(pd_autoscaler_ticks_total) >= 5"), "five ticks of both")
    for alert in ("PDAutoscalerNotTicking", "PDAutoscalerAbsent", "PDAutoscalerInternalErrors"):
        assert stack.numbers(ALERTS[alert]) == [], alert


def test_a_sidecar_that_turns_a_quarter_away_is_seen_and_what_it_turns_away_is_load(stack: Stack) -> None:
    """Of 44 verdicts a second 12 are against 6 requests, each asked for twice; 2 of these are let in at last."""
    (share,) = wait_for(partial(stack.numbers, ALERTS["PDAutoscalerRejectsMany"]), "a quarter turned away")
    assert share == pytest.approx(12 / 44)
    assert stack.numbers(ALERTS["PDAutoscalerSidecarJudgesNothing"]) == []
    wait_for(partial(stack.numbers, "abs(pd_autoscaler_rejected_requests_per_second - 4) < 1"), "6 less 2 a second as load")


def test_who_acts_tells_targets_and_who_only_recommends_tells_recommendations(stack: Stack) -> None:
    """Law 13, as Prometheus sees it."""
    for metric, mode in (("target", "Auto"), ("recommended", "Recommend")):
        expr = f'pd_autoscaler_{metric}_replicas and on (instance) pd_autoscaler_mode_info{{mode="{mode}"}}'
        assert len(wait_for(partial(stack.numbers, expr), expr)) == len(ROLES)
        assert len(stack.numbers(f"pd_autoscaler_{metric}_replicas")) == len(ROLES)
