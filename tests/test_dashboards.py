"""Do the dashboard and the alerts speak of metrics that exist, and do the alerts do what they say?"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from autoscaler.core.rejection import RejectionMode
from dashboards.build import FILE, build
from tests.adapters.fake_pages import door
from tests.adapters.test_own_metrics import full

pytestmark = pytest.mark.slow  # promtool, many times

FOLDER = Path(__file__).parents[1] / "dashboards"
ALERTS, STORIES = FOLDER / "alerts.yaml", FOLDER / "alerts_test.yaml"
BOARD = json.loads(FILE.read_text(encoding="utf-8"))
RULES = [rule for group in yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
WORDS = frozenset(["and", "bool", "by", "group_left", "group_right", "ignoring", "offset", "on", "or", "unless", "without"])


def expressions() -> Iterator[tuple[str, str]]:
    """(where it stands, PromQL) of every panel, variable and alert."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']} {target['refId']}", target["expr"]
    for variable in BOARD["templating"]["list"]:
        if found := re.fullmatch(r"label_values\((.+), \w+\)", variable["query"]):
            yield f"variable {variable['name']}", found.group(1)
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]


EXPRESSIONS = dict(expressions())


def names(expr: str) -> set[str]:
    """The metrics of an expression: what is left without strings, matchers, windows, label lists, functions and words."""
    bare = re.sub(r'"[^"]*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring|group_left|group_right) *\([^)]*\)", " ", bare)
    return {word for word in re.findall(r"\b[A-Za-z_:][\w:]*(?! *\()\b", bare) if word not in WORDS}


def exported() -> Mapping[str, set[str]]:
    """Labels by name of every sample of our own page, and of our sidecar's."""
    found: dict[str, set[str]] = {}
    for family in full().collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found | of_sidecars()


def of_sidecars() -> dict[str, set[str]]:
    """The same of a sidecar's page."""
    _, page = door("chat", RejectionMode.ENFORCE, rejected=1, readmitted=1)("")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def queried_of_engines() -> str:
    """The text of every metric profile: what engines and gateways export, as far as we ask for it."""
    folder = resources.files("autoscaler") / "metric_profiles"
    return "\n".join(file.read_text(encoding="utf-8") for file in folder.iterdir())


OURS, THEIRS = exported(), queried_of_engines()


def test_the_committed_dashboard_is_what_its_code_gives() -> None:
    assert FILE.read_text(encoding="utf-8") == build(), "run `make dashboards`"


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ('sum by (le) (rate(a_bucket{x="b"}[$__rate_interval]))', {"a_bucket"}),
        ("time() - max(a) > on (job) 4 * max by (job) (b:c)", {"a", "b:c"}),
        ('a * on (x, y) group_left (z) b unless c{d=~"e|f"} offset 5m', {"a", "b", "c"}),
    ],
)
def test_the_names_in_an_expression_are_found(expr: str, found: set[str]) -> None:
    assert names(expr) == found


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_metric_that_is_asked_for_exists(where: str) -> None:
    asked = names(EXPRESSIONS[where])
    assert asked, "no metric found in it"
    assert {name for name in asked if name not in OURS and not re.search(rf"\b{name}\b", THEIRS)} == set()


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_every_label_that_is_matched_is_one_that_the_metric_has(where: str) -> None:
    for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", EXPRESSIONS[where]):
        assert set(re.findall(r"(\w+) *=", matchers)) <= OURS[name], name


def test_every_metric_of_a_fleet_is_shown_or_watched() -> None:
    """What nobody looks at need not be exported, but for what stands behind a figure and is asked by hand."""
    by_hand = {"min_replicas", "demand_bound_info", "forecast_model_info", "forecast_horizon_seconds"}
    by_hand |= {"forecast_error_tokens_per_second", "latency_samples", "startup_seconds", "flip_age_seconds"}
    used = {name for expr in EXPRESSIONS.values() for name in names(expr)}
    unused = {name for name, labels in OURS.items() if "fleet" in labels} - used
    assert unused == {f"pd_autoscaler_{name}" for name in by_hand}


def test_every_panel_says_what_it_shows_and_asks_the_chosen_prometheus() -> None:
    panels = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
    assert len(panels) > 10
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["expr"] and target["legendFormat"] for target in panel["targets"])


def test_a_model_is_chosen_by_two_variables_and_roles_come_by_themselves() -> None:
    shown = [one["name"] for one in BOARD["templating"]["list"] if one["hide"] == 0]
    repeated = [panel["repeat"] for panel in BOARD["panels"] if panel.get("repeat")]
    assert (shown, repeated) == (["datasource", "fleet"], ["role"])
    assert not re.search(r"prefill|decode", json.dumps(BOARD["panels"])), "role is data"


def test_no_two_panels_overlap_and_none_leaves_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_every_alert_waits_has_a_severity_and_tells_what_to_do(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"[1-9]\d*m", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"].startswith("1. ")


def test_every_alert_has_its_story() -> None:
    told = re.findall(r'ALERTS\{alertname="(\w+)", alertstate="firing", ', STORIES.read_text(encoding="utf-8"))
    assert sorted(set(told)) == sorted(rule["alert"] for rule in RULES)


@pytest.fixture(scope="module")
def promtool() -> str:
    """The checker that comes with Prometheus. Without it: a skip that says so, and a failure where CI promised it."""
    found = shutil.which("promtool")
    if found is None:
        refuse = pytest.fail if os.environ.get("CI") else pytest.skip
        refuse("no promtool on PATH: the alert rules were not checked (Debian: apt-get install prometheus)")
    return str(found)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_promtool_accepts_the_rules(promtool: str) -> None:
    done = run(promtool, "check", "rules", str(ALERTS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout


def test_every_alert_fires_when_it_should_and_is_silent_when_it_should_be(promtool: str) -> None:
    done = run(promtool, "test", "rules", str(STORIES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_the_stories_notice_an_alert_that_never_fires(promtool: str, tmp_path: Path, rule: dict[str, Any]) -> None:
    dumb = [one if one is not rule else {**one, "expr": f"({one['expr']}) unless on () vector(1)"} for one in RULES]
    (tmp_path / ALERTS.name).write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": dumb}]}))
    shutil.copy(STORIES, tmp_path)
    done = run(promtool, "test", "rules", str(tmp_path / STORIES.name))
    assert done.returncode == 1
    assert rule["alert"] in done.stdout + done.stderr
