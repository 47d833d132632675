"""Do the manifests agree with the program, with each other, and with what they are made of?

Whether an API server takes them is tests/e2e/plane/test_manifests.py; whether every verb is needed, test_permissions.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.routing import Route

import autoscaler
from autoscaler.apps.probes import Pulse, create_app
from autoscaler.cli import cli
from autoscaler.core.action import Mode
from autoscaler.core.fleet import Role
from autoscaler.policy import Document, warnings
from autoscaler.policy_file import load_policies
from manifests import build

FOLDER = Path(build.__file__).parent
EXAMPLES = FOLDER / "examples"
FLEETS = ("disaggregatedset", "glm-5", "sglang", "tensor-parallel", "vllm")
ROLE_LABEL = "llm-d.ai/role"

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
    (base,) = read("base", "kustomization.yaml")
    assert base["images"] == [{"name": "pd-autoscaler", "newTag": autoscaler.__version__}]
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


def images(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "image" and isinstance(value, str))
        for value in node.values():
            yield from images(value)
    elif isinstance(node, list):
        for value in node:
            yield from images(value)


@pytest.mark.parametrize("name", FLEETS)
def test_an_image_names_a_version_and_no_host(name: str) -> None:
    found = list(images(read("examples", f"{name}.yaml")))
    assert found
    for image in found:
        assert re.fullmatch(r"[a-z0-9-]+/[a-z0-9-]+:v\d[\w.]*", image), image


@cache
def policy(name: str) -> Document:
    (written,) = of_kind(read("examples", f"{name}.yaml"), "PDAutoscaler")
    return Document.model_validate(written)


def groups(name: str) -> dict[tuple[str, str | None], Body]:
    """The group templates of an example by (object, role inside it)."""
    documents = read("examples", f"{name}.yaml")
    found: dict[tuple[str, str | None], Body] = {
        (one["metadata"]["name"], None): one["spec"] for one in of_kind(documents, "LeaderWorkerSet")
    }
    for one in of_kind(documents, "DisaggregatedSet"):
        found |= {(one["metadata"]["name"], role["name"]): role["spec"] for role in one["spec"]["roles"]}
    return found


def pool_groups(name: str) -> dict[Role, Body]:
    """The group template behind each pool of an example's policy."""
    templates = groups(name)
    pools = policy(name).spec.pools
    assert len(templates) == len(pools)
    return {role: templates[pool.target.name, pool.target.role]["leaderWorkerTemplate"] for role, pool in pools.items()}


def engine(group: Body) -> Body:
    (container,) = group["workerTemplate"]["spec"]["containers"]
    return dict(container)


def option(container: Body, name: str) -> str:
    (value,) = [arg.partition("=")[2] for arg in container["args"] if arg.startswith(f"--{name}=")]
    return str(value)


@pytest.mark.parametrize("name", FLEETS)
def test_the_policy_of_an_example_only_recommends_and_holds_no_surprise(name: str) -> None:
    assert policy(name).core().mode is Mode.RECOMMEND
    assert warnings(policy(name)) == []


@pytest.mark.parametrize("name", FLEETS)
def test_each_pool_of_an_example_is_an_object_beside_it_with_as_many_gpus_as_it_reckons_with(name: str) -> None:
    for role, group in pool_groups(name).items():
        gpus = int(engine(group)["resources"]["limits"]["nvidia.com/gpu"])
        assert gpus * group["size"] == policy(name).spec.pools[role].gpus_per_replica


@pytest.mark.parametrize("name", FLEETS)
def test_every_engine_bears_the_role_that_it_was_started_in(name: str) -> None:
    for role, group in pool_groups(name).items():
        container = engine(group)
        assert group["workerTemplate"]["metadata"]["labels"][ROLE_LABEL] == role
        if "sglang" in container["image"]:
            assert option(container, "disaggregation-mode") == role
            assert "--enable-metrics" in container["args"]
        else:
            transfer = json.loads(option(container, "kv-transfer-config"))
            assert transfer == {
                "kv_connector": "NixlConnector",
                "kv_role": {"prefill": "kv_producer", "decode": "kv_consumer"}[role],
            }


@pytest.mark.parametrize("name", FLEETS)
def test_both_roles_serve_the_model_that_the_policy_looks_for(name: str) -> None:
    for group in pool_groups(name).values():
        served = [
            arg.partition("=")[2] for arg in engine(group)["args"] if re.match(r"--(model|model-path|served-model-name)=", arg)
        ]
        assert served[-1] == policy(name).spec.model


@pytest.mark.parametrize("name", FLEETS)
def test_an_engine_has_the_time_to_finish_and_is_ready_only_when_it_answers(name: str) -> None:
    for group in pool_groups(name).values():
        spec, container = group["workerTemplate"]["spec"], engine(group)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "metrics"}
        assert ports["metrics"] == int(option(container, "port"))
        finishing_s = 0 if "sglang" in container["image"] else int(option(container, "shutdown-timeout"))
        assert spec["terminationGracePeriodSeconds"] >= max(600, finishing_s + 30)


@pytest.mark.parametrize("name", FLEETS)
def test_parallel_ranks_fill_a_group_exactly(name: str) -> None:
    for role, group in pool_groups(name).items():
        given = dict(arg.removeprefix("--").split("=", 1) for arg in engine(group)["args"] if "=" in arg)
        tensor = int(given.get("tensor-parallel-size") or given.get("tp-size") or 1)
        assert tensor * int(given.get("pp-size", 1)) == policy(name).spec.pools[role].gpus_per_replica
        assert group["restartPolicy"] == "RecreateGroupOnPodRestart"


def test_the_monitor_finds_the_leaders_of_every_example() -> None:
    (monitor,) = read("examples", "podmonitor.yaml")
    label, leaders = monitor["spec"]["selector"]["matchExpressions"]
    assert (label["key"], set(label["values"])) == (ROLE_LABEL, {role.value for role in Role})
    assert leaders == {"key": "leaderworkerset.sigs.k8s.io/worker-index", "operator": "In", "values": ["0"]}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert {policy(name).spec.metrics.scrape_interval_seconds for name in FLEETS} == {
        float(endpoint["interval"].removesuffix("s"))
    }


def test_the_queries_for_sglang_are_the_same_wherever_they_are_written() -> None:
    queries = policy("sglang").spec.metrics.queries
    assert policy("glm-5").spec.metrics.queries == queries
    assert all("vllm:" not in promql and "sglang:" in promql for promql in queries.values())


@pytest.mark.parametrize("name", ["glm-5", "tensor-parallel"])
def test_engines_on_machines_of_their_role_tolerate_its_taints_and_stay_within_its_limit(name: str) -> None:
    pools = {pool["metadata"]["name"]: pool["spec"] for pool in read("examples", "karpenter.yaml")}
    for role, group in pool_groups(name).items():
        pool, spec = pools[role], group["workerTemplate"]["spec"]
        assert spec["nodeSelector"].items() <= pool["template"]["metadata"]["labels"].items()
        tolerated = {(one["key"], one["effect"]) for one in spec["tolerations"]}
        assert tolerated == {(taint["key"], taint["effect"]) for taint in pool["template"]["spec"]["taints"]}
        most = policy(name).spec.pools[role].max * policy(name).spec.pools[role].gpus_per_replica
        assert most <= int(pool["limits"]["nvidia.com/gpu"])


def test_the_examples_can_be_managed_together(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    documents = [of_kind(read("examples", f"{name}.yaml"), "PDAutoscaler")[0] for name in FLEETS]
    file.write_text(yaml.safe_dump_all(documents))
    assert len(load_policies([file])) == len(FLEETS)
