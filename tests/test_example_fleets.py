"""Do the example fleets hang together: objects, engines, machines, and the policies that manage them?

Whether an API server takes them is tests/e2e/plane/test_manifests.py; that engines start with these options, nobody tests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from autoscaler.adapters.routing import complaints, stopping
from autoscaler.core.action import Mode
from autoscaler.core.fleet import Role
from autoscaler.policy import Document, warnings
from autoscaler.policy.behaviour import FlipDriver
from autoscaler.policy_file import load_policies
from tests.test_manifests import Body, of_kind, read

FLEETS = ("disaggregatedset", "glm-5", "sglang", "tensor-parallel", "vllm")
ROLE_LABEL = "llm-d.ai/role"
BOOTSTRAP = "disaggregation-bootstrap-port"
SWITCHABLE = {
    "--enable-pd-role-switch",
    "--disaggregation-transfer-backend=mooncake",
    "--disaggregation-decode-enable-radix-cache",
}


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
    assert label == {"key": ROLE_LABEL, "operator": "Exists"}, "also those that drain, whose value is no role's"
    assert leaders == {"key": "leaderworkerset.sigs.k8s.io/worker-index", "operator": "In", "values": ["0"]}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == "metrics"
    assert {policy(name).spec.metrics.scrape_interval_seconds for name in FLEETS} == {
        float(endpoint["interval"].removesuffix("s"))
    }


@pytest.mark.parametrize("name", FLEETS)
def test_the_metrics_asked_for_are_those_of_the_engine_that_runs(name: str) -> None:
    for group in pool_groups(name).values():
        assert policy(name).spec.engine == ("sglang" if "sglang" in engine(group)["image"] else "vllm")
    assert not policy(name).spec.metrics.queries


@pytest.mark.parametrize("name", FLEETS)
def test_replicas_are_drained_by_a_label_that_their_pods_bear_and_asked_where_they_answer(name: str) -> None:
    routing, port = policy(name).spec.routing, policy(name).spec.engine_port
    assert routing is not None
    assert routing.label is not None
    for role, group in pool_groups(name).items():
        template = group["workerTemplate"]
        assert template["metadata"]["labels"][routing.label] == routing.values[role]
        containers = [*template["spec"]["containers"], *template["spec"].get("initContainers", ())]
        assert port in [known["containerPort"] for container in containers for known in container.get("ports", ())]


@pytest.mark.parametrize("name", FLEETS)
def test_a_pod_that_is_deleted_while_it_works_has_the_time_that_the_policy_gives_a_drain(name: str) -> None:
    spec = policy(name).spec
    for role, group in pool_groups(name).items():
        found = stopping(group["workerTemplate"]["spec"])
        assert list(complaints(role, spec.engine, found, spec.behaviour.drain.deadline_seconds)) == []


def test_engines_that_switch_their_role_are_alike_in_all_else_and_may_become_either() -> None:
    flip = policy("sglang").spec.behaviour.flip
    assert (flip.enabled, flip.driver) == (True, FlipDriver.ENGINE_SWITCH)
    one, other = (group["workerTemplate"] for group in pool_groups("sglang").values())
    assert one["metadata"]["annotations"] == other["metadata"]["annotations"]
    assert one["metadata"]["annotations"]["sglang.ai/bootstrap-port"] == option(
        engine(pool_groups("sglang")[Role.DECODE]), BOOTSTRAP
    )
    bodies = [json.dumps(template["spec"]) for template in (one, other)]
    assert bodies[0].replace("--disaggregation-mode=prefill", "--disaggregation-mode=decode") == bodies[1]
    assert set(one["spec"]["containers"][0]["args"]) >= SWITCHABLE


def test_roles_that_take_over_each_others_gpus_are_on_the_same_machines() -> None:
    spec = policy("tensor-parallel").spec
    assert (spec.behaviour.flip.enabled, spec.behaviour.flip.driver) == (True, FlipDriver.PAIRED_RESIZE)
    assert len({pool.capacity_pool for pool in spec.pools.values()}) == 1
    shared = next(pool["spec"] for pool in read("examples", "karpenter.yaml") if pool["metadata"]["name"] == "shared")
    assert spec.gpu_budget is not None
    assert spec.gpu_budget < int(shared["limits"]["nvidia.com/gpu"]), "a machine to spare"
    places = [group["workerTemplate"]["spec"] for group in pool_groups("tensor-parallel").values()]
    assert places[0]["nodeSelector"] == places[1]["nodeSelector"]
    assert places[0]["tolerations"] == places[1]["tolerations"]


@pytest.mark.parametrize("name", ["glm-5", "tensor-parallel"])
def test_engines_on_machines_of_a_pool_tolerate_its_taints_and_stay_within_its_limit(name: str) -> None:
    pools = {pool["metadata"]["name"]: pool["spec"] for pool in read("examples", "karpenter.yaml")}
    for role, group in pool_groups(name).items():
        spec = group["workerTemplate"]["spec"]
        pool = pools[spec["nodeSelector"]["serving.example.com/role"]]
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
