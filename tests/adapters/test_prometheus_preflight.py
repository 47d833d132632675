"""What does preflight find in a real Prometheus?"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoscaler.adapters.prometheus import Endpoint
from autoscaler.adapters.prometheus.client import PrometheusClient
from autoscaler.adapters.prometheus.gpus import Witness, witness
from autoscaler.adapters.prometheus.profile import NEEDED_OF_PODS
from autoscaler.commands.preflight import preflight
from autoscaler.core.observation import Unknown
from autoscaler.policy_file import load_policies
from autoscaler.ports import FleetScope
from autoscaler.roster import managed
from tests.adapters.fake_cluster import FLIP, OLDER, TRTLLM, VLLM, WINDOW_S, Cluster

pytestmark = pytest.mark.prometheus


def policy(scope: FleetScope, name: str, folder: Path, **changes: Any) -> Path:
    """policies/chat.yaml for a fleet of this cluster."""
    document = yaml.safe_load((Path(__file__).parents[2] / "policies" / "chat.yaml").read_text(encoding="utf-8"))
    document["metadata"] = {"namespace": scope.namespace, "name": name}
    spec = document["spec"]
    spec |= {"model": scope.model, "engine": scope.engine, "gateway": scope.gateway, **changes}
    for role, pool in spec["pools"].items():
        pool["target"] = {"name": f"{name}-{role[0]}"}
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


def preflown(cluster: Cluster, *policies: Path) -> int:
    return preflight(
        policies=policies, cluster=None, prometheus=cluster.url, headers=(), token_file=None, ca_file=None, query_timeout_s=5.0,
        as_json=True,
    )  # fmt: skip


def test_preflight_tells_what_there_is_and_what_is_lost_without_the_rest(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflown(cluster, policy(TRTLLM, "trtllm", tmp_path), policy(VLLM, "vllm", tmp_path)) == 0
    told = json.loads(capsys.readouterr().out)
    rows = [{row["name"]: row for row in fleet["checks"]} for fleet in told["policies"]]
    lacking = [{name: row["state"] for name, row in fleet.items() if not row["fine"]} for fleet in rows]
    assert told["ready"]
    assert lacking[0] == {
        "pods.deferred": "untold",
        "decode.service": "untold",
        "traffic.held": "untold",
        "traffic.direct_share": "untold",
    }
    assert lacking[1] == {}
    assert rows[0]["gpus"]["detail"] == "2 pods, none at work on a GPU that does nothing"  # a few seconds say nothing
    assert rows[0]["pods.waiting"]["detail"] == "1 prefill, 1 decode; trtllm-p-0 says 4"
    assert rows[1]["pods.deferred"]["detail"] == "1 prefill; vllm-p-0 says 5"
    assert all(
        0 <= row["age_s"] < 10 for fleet in rows for row in fleet.values() if row["state"] == "there" and row["name"] != "gpus"
    )
    assert all(bool(row["lost"]) != row["fine"] for fleet in rows for row in fleet.values())


def test_preflight_fails_where_something_needed_is_missing_and_says_where_it_looked(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The older SGLang has no decode pods, and no gateway tells of its model."""
    assert preflown(cluster, policy(replace(OLDER, gateway="llm-d"), "sglang-older", tmp_path)) == 1
    [fleet] = json.loads(capsys.readouterr().out)["policies"]
    missing = {row["name"]: row for row in fleet["checks"] if row["needed"] and not row["fine"]}
    assert not fleet["ready"]
    assert missing.keys() == {*(f"pods.{name}" for name in NEEDED_OF_PODS), "traffic.offered_rps", "traffic.age_s"}
    assert missing["pods.running"]["detail"] == "no pod of decode tells it (sglang-older-d-[0-9]+)"
    assert missing["traffic.offered_rps"]["detail"].startswith("Prometheus answers, but has no traffic.offered_rps of older")


def test_preflight_tells_a_query_that_does_not_work_and_goes_on(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"metrics": {"queries": {"traffic.ttft": "sum by (le) (nothing{"}}}
    assert preflown(cluster, policy(VLLM, "vllm", tmp_path, **broken)) == 0
    [fleet] = json.loads(capsys.readouterr().out)["policies"]
    [ttft] = [row for row in fleet["checks"] if not row["fine"]]
    assert (ttft["name"], ttft["state"]) == ("traffic.ttft", "failed")
    assert "HTTP 400" in ttft["detail"]
    assert ttft["lost"] == "users' time to first token is not watched"


def test_an_engine_at_work_on_a_gpu_that_does_nothing_is_found(cluster: Cluster, tmp_path: Path) -> None:
    """30 requests run on the decode pod. Of two GPUs of one pod the busier one counts, and of two names of a label both."""
    client = PrometheusClient(Endpoint(cluster.url))

    def seen(scope: FleetScope, name: str, span_s: float = WINDOW_S) -> Witness | Unknown:
        [loaded] = load_policies([policy(scope, name, tmp_path)])
        pods = {role: "|".join(pods) for role, pods in scope.pods.items()}
        return witness(client, managed(loaded.document), pods, 5.0, span_s=span_s)

    assert seen(VLLM, "vllm") == Witness(2, ("vllm-d-0",))
    assert seen(TRTLLM, "trtllm") == Witness(2)
    assert seen(VLLM, "vllm", span_s=600.0) == Witness(2)  # it has not been there for so long
    assert seen(FLIP, "flip") == Witness(0)


@pytest.mark.slow
def test_the_command_ends_with_whether_all_that_is_needed_is_there(cluster: Cluster, tmp_path: Path) -> None:
    files = [policy(TRTLLM, "trtllm", tmp_path), policy(OLDER, "sglang-older", tmp_path)]
    asked = [
        [sys.executable, "-m", "autoscaler", "preflight", "--policy", str(file), "--prometheus", cluster.url] for file in files
    ]
    done = [subprocess.run(one, capture_output=True, text=True, timeout=60, check=False) for one in asked]
    assert [(one.returncode, one.stdout.splitlines()[-1], one.stderr) for one in done] == [
        (0, "ready, without 4 of 21", ""),
        (1, "not ready: pods.waiting, pods.running, pods.kv_usage, pods.age_s", ""),
    ]
