"""Do the manifests agree with the program, with each other, and with what they are made of?

The example fleets are in test_example_fleets.py. Whether an API server takes them is tests/e2e/plane/test_manifests.py; whether
every verb is needed, test_permissions.py.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from starlette.routing import Route

import autoscaler
from autoscaler.apps.probes import Pulse, create_app
from autoscaler.cli import cli
from manifests import build

FOLDER = Path(build.__file__).parent

Body = dict[str, Any]


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # five times as fast


@cache
def read(*path: str) -> list[Body]:
    return list(yaml.load_all(FOLDER.joinpath(*path).read_text(encoding="utf-8"), LOADER))


def controller() -> Body:
    (deployment,) = read("base", "deployment.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return dict(container)


def of_kind(documents: list[Body], kind: str) -> list[Body]:
    return [document for document in documents if document["kind"] == kind]


def test_the_alerts_of_the_operator_are_those_of_prometheus() -> None:
    assert build.RULE.read_text(encoding="utf-8") == build.prometheus_rule(), "make manifests"
    (rule,) = read("components", "prometheus-rule", "prometheusrule.yaml")
    assert rule["spec"] == yaml.safe_load(build.ALERTS.read_text(encoding="utf-8"))


def test_the_image_is_of_this_version() -> None:
    for folder in ("base", "components/early-rejection/sidecar"):
        (made,) = read(folder, "kustomization.yaml")
        assert made["images"] == [{"name": "pd-autoscaler", "newTag": autoscaler.__version__}]
    assert controller()["image"] == "pd-autoscaler"


def test_every_setting_is_an_option_of_the_command_that_is_run() -> None:
    container = controller()
    (command,) = container["args"]
    options = {f"PDA_{command}_{option.name}".upper() for option in cli.commands[command].params}
    settings = {entry["name"] for entry in container["env"] if entry["name"].startswith("PDA_")}
    assert settings == {"PDA_RUN_CLUSTER", "PDA_RUN_LEASE", "PDA_RUN_LISTEN", "PDA_RUN_PROMETHEUS"}
    (overlay,) = read("examples", "other-namespaces", "kustomization.yaml")
    settings |= set(re.findall(r"PDA_\w+", overlay["patches"][0]["patch"]))
    assert "PDA_RUN_NAMESPACES" in settings
    assert settings <= options


def test_probes_and_scrapes_ask_for_pages_that_are_served_where_they_are_served() -> None:
    pages = {route.path for route in create_app(Pulse(15.0), lambda: (b"", "")).routes if isinstance(route, Route)}
    container = controller()
    (port,) = container["ports"]
    (listen,) = [entry["value"] for entry in container["env"] if entry["name"] == "PDA_RUN_LISTEN"]
    assert listen.endswith(f":{port['containerPort']}")
    asked = [container[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
    (monitor,) = read("components", "pod-monitor", "podmonitor.yaml")
    asked += monitor["spec"]["podMetricsEndpoints"]
    assert {(one["path"], one["port"]) for one in asked} == {(path, port["name"]) for path in pages}
    (policy,) = read("base", "networkpolicy.yaml")
    assert [rule["ports"][0]["port"] for rule in policy["spec"]["ingress"]] == [port["name"]]


def test_the_pods_of_the_controller_are_meant_by_every_selector() -> None:
    (deployment,), (budget,), (network,) = (
        read("base", name) for name in ("deployment.yaml", "poddisruptionbudget.yaml", "networkpolicy.yaml")
    )
    (monitor,) = read("components", "pod-monitor", "podmonitor.yaml")
    template = deployment["spec"]["template"]
    apart = template["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    spread = [one["podAffinityTerm"]["labelSelector"] for one in apart]
    selectors = [
        deployment["spec"]["selector"],
        budget["spec"]["selector"],
        network["spec"]["podSelector"],
        monitor["spec"]["selector"],
    ]
    assert all(selector == {"matchLabels": template["metadata"]["labels"]} for selector in (*selectors, *spread))


def test_the_lease_that_is_granted_is_the_one_that_is_asked_for() -> None:
    (lease,) = [entry["value"] for entry in controller()["env"] if entry["name"] == "PDA_RUN_LEASE"]
    named = [
        name
        for role in of_kind(read("base", "leader-role.yaml"), "Role")
        for rule in role["rules"]
        for name in rule.get("resourceNames", ())
    ]
    assert named == [lease.rpartition("/")[2]]


def test_no_role_grants_a_wildcard_a_deletion_or_a_secret() -> None:
    roles = of_kind([*read("fleets", "role.yaml"), *read("base", "leader-role.yaml")], "Role")
    granted = [
        (resource, verb) for role in roles for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]
    ]
    assert len(granted) > 20
    for resource, verb in granted:
        assert verb in ("get", "list", "watch", "create", "update", "patch"), (resource, verb)
        assert "*" not in resource
        assert resource not in ("secrets", "configmaps", "pods/exec")
