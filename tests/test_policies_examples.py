"""Can the examples in policies/ be used as they are, and do they keep what their comments promise?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from autoscaler.core.action import Mode
from autoscaler.core.capacity import capacity
from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import ROLE_FACTS, SloKind
from autoscaler.policy import Document, warnings
from autoscaler.policy.behaviour import FlipDriver
from autoscaler.policy.drivers import obstacles
from autoscaler.policy_file import load_policies
from autoscaler.simulator.metrics import GATEWAY_TTFT_EDGES_S, TOKEN_TIME_EDGES_S
from tests.engines.sglang import ITL_EDGES_S

FOLDER = Path(__file__).parent.parent / "policies"
NAMES = ("bursty", "chat", "dynamo", "hpa", "long-document", "sglang")
# What users wait for is measured at the gateway, what a token takes on the engine. Other gateways' edges are set by their owner.
EDGES: Mapping[SloKind, Mapping[str | None, Sequence[float]]] = {
    SloKind.TTFT: {"llm-d": GATEWAY_TTFT_EDGES_S},
    SloKind.TPOT: {"vllm": TOKEN_TIME_EDGES_S, "sglang": ITL_EDGES_S},
}


def example(name: str) -> Document:
    """One example; it is the only document of its file."""
    (loaded,) = load_policies([FOLDER / f"{name}.yaml"])
    return loaded.document


def test_each_example_is_known_and_they_can_be_loaded_together() -> None:
    files = sorted(FOLDER.glob("*.yaml"))
    assert tuple(file.stem for file in files) == NAMES
    assert tuple(loaded.document.metadata.name for loaded in load_policies(files)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_example_opens_with_when_to_use_it_and_what_it_trades(name: str) -> None:
    opening = (FOLDER / f"{name}.yaml").read_text().partition("apiVersion")[0]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert "# When to use it: " in opening
    assert "# What it trades: " in opening


@pytest.mark.parametrize("name", NAMES)
def test_an_example_recommends_and_holds_no_surprise(name: str) -> None:
    document = example(name)
    assert document.core().mode is Mode.RECOMMEND
    assert warnings(document) == []


@pytest.mark.parametrize("name", NAMES)
def test_an_example_that_is_let_act_drains_what_it_removes(name: str) -> None:
    document = example(name)
    acting = document.model_copy(update={"spec": document.spec.model_copy(update={"mode": Mode.AUTO})})
    assert warnings(acting) == []
    assert acting.spec.routing is not None


@pytest.mark.parametrize("name", NAMES)
def test_the_promises_of_an_example_can_be_kept_and_sit_on_bucket_edges_that_are_known(name: str) -> None:
    document = example(name)
    policy, teller = document.core(), {SloKind.TTFT: document.spec.gateway, SloKind.TPOT: document.spec.engine}
    assert policy.shape is not None
    for facts in ROLE_FACTS.values():
        slo = policy.slos[facts.binding_slo]
        assert capacity(facts.sizing, policy.profile, slo, policy.shape).feasible
        edges_s = EDGES[slo.kind].get(teller[slo.kind])
        assert edges_s is None or slo.threshold_s in edges_s


@pytest.mark.parametrize("name", NAMES)
def test_the_budget_of_an_example_lets_each_pool_reach_its_max_but_not_all_at_once(name: str) -> None:
    spec = example(name).spec
    assert spec.gpu_budget is not None
    least = {role: pool.min * pool.gpus_per_replica for role, pool in spec.pools.items()}
    most = {role: pool.max * pool.gpus_per_replica for role, pool in spec.pools.items()}
    for role in spec.pools:
        assert most[role] + sum(least.values()) - least[role] <= spec.gpu_budget
    assert sum(most.values()) > spec.gpu_budget


OFFERED = {
    "bursty": [],
    "chat": ["speed: profile", "floors:", "flip: {enabled: true"],
    "dynamo": ["flip: {enabled: true"],
    "hpa": [],
    "long-document": ["zeroAfterSeconds: 7200"],
    "sglang": [],
}


@pytest.mark.parametrize("name", NAMES)
def test_what_an_example_offers_in_a_comment_may_be_written_as_it_stands(name: str, tmp_path: Path) -> None:
    text = (FOLDER / f"{name}.yaml").read_text()
    written, count = re.subn(r"^( +)# (?=[a-zA-Z]+: \S)", r"\1", text, flags=re.MULTILINE)
    assert count == len(OFFERED[name])
    assert all(f"\n{offer}" in re.sub(r"\n +", "\n", written) for offer in OFFERED[name])
    (tmp_path / "all.yaml").write_text(written)
    (loaded,) = load_policies([tmp_path / "all.yaml"])
    assert (loaded.document.spec != example(name).spec) == bool(count)
    assert warnings(loaded.document) == []


def test_the_examples_differ_in_the_way_they_say() -> None:
    chat, bursty, document = (example(name).core() for name in ("chat", "bursty", "long-document"))
    for role in chat.pools:
        assert bursty.damping[role].down.stabilization_s > document.damping[role].down.stabilization_s
        assert document.damping[role].down.stabilization_s > chat.damping[role].down.stabilization_s
        assert bursty.damping[role].up.step.replicas > chat.damping[role].up.step.replicas
    assert bursty.demand.headroom > chat.demand.headroom == DemandLimits().headroom
    assert bursty.demand.spare_up_to > chat.demand.spare_up_to
    assert document.forecast.horizon_s > chat.forecast.horizon_s
    assert document.slos[SloKind.TTFT].threshold_s > chat.slos[SloKind.TTFT].threshold_s


def test_replicas_of_the_sglang_example_change_their_role_themselves_and_those_of_the_others_cannot() -> None:
    found = {name: obstacles(FlipDriver.ENGINE_SWITCH, example(name).spec.ground) for name in NAMES}
    assert [name for name, lacking in found.items() if not lacking] == ["sglang"]
    assert example("sglang").spec.behaviour.flip.enabled


def test_the_fleet_of_the_dynamo_example_could_not_be_let_asleep() -> None:
    written = example("dynamo").model_dump(mode="json", by_alias=True, exclude_none=True)
    assert Document.model_validate(written).core() == example("dynamo").core()
    written["spec"]["behaviour"]["zeroAfterSeconds"] = 7200
    with pytest.raises(ValidationError, match="dynamo forgets a model with its last worker"):
        Document.model_validate(written)
