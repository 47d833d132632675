"""Do a scenario's conditions reach its fleet, each of them, and is what no fleet can be told in words?"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.policy.fields import objections
from autoscaler.refusal import Refusal
from autoscaler.simulator.clients import Retries
from autoscaler.simulator.early_rejection import EarlyRejection, Rejects
from autoscaler.simulator.engine import FleetSpec, Handover
from autoscaler.simulator.losses import NodeLoss, ReplicaLoss
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.provisioning import NodeSpec
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.scenario_conditions import ConditionsSpec, SidecarsSpec
from autoscaler.simulator.scenarios import load_cases
from autoscaler.simulator.score import Score
from autoscaler.simulator.workload import Kind, Lengths, constant
from tests.simulator.small_fleet import changed, even
from tests.simulator.test_scenarios import document, written

Document = dict[str, Any]
KV_1E5 = changed(kv_bytes_per_token=100_000)  # a prompt of 2,560 tokens is 256 MB


SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 4.0, 0.9), SloKind.TPOT: Slo(SloKind.TPOT, 1.0, 0.9)}


def scenario(**fleet: object) -> Scenario:
    return Scenario(even(profile=KV_1E5, **fleet), SLOS)


def under(conditions: Document, **fleet: object) -> FleetSpec:
    return ConditionsSpec.model_validate(conditions).applied(scenario(**fleet)).fleet


@pytest.mark.parametrize(
    ("conditions", "fleet"),
    [
        ({"routing": "prefix-affinity"}, {"routing": Routing.PREFIX_AFFINITY}),
        ({"handover": "push"}, {"handover": Handover.PUSH}),
        ({"networkBytesPerSecond": 5e9}, {"network_bytes_per_s": 5e9}),
        ({"cacheTokens": 100_000}, {"cache_tokens": 100_000}),
        ({"gatewayHoldsAbove": 4}, {"gateway_holds_above": 4}),
        ({"drainDeadlineSeconds": 600}, {"drain_deadline_s": 600.0}),
        ({"startUpSigma": 0.5}, {"start_up": StartUp(30.0, 0.5)}),
        ({"retries": {}}, {"retries": Retries()}),
        (
            {"retries": {"most": 5, "firstWaitSeconds": 1, "longestWaitSeconds": 20, "jitter": 0}},
            {"retries": Retries(5, 1, 20, 0)},
        ),
        ({"nodes": {"ready": 1, "most": 4}}, {"nodes": NodeSpec(1, 4)}),
        (
            {"nodes": {"ready": 0, "most": 4, "gpus": 2, "delaySeconds": 60, "delaySigma": 0, "idleSeconds": 9, "quotaGpus": 6}},
            {"nodes": NodeSpec(0, 4, 2, StartUp(60.0, 0.0), 9.0, 6)},
        ),
        (
            {
                "nodes": {"ready": 1, "most": 4},
                "replicaLosses": [{"atSeconds": 9, "role": "decode"}],
                "nodeLosses": [{"atSeconds": 5}],
            },
            {"nodes": NodeSpec(1, 4), "losses": (ReplicaLoss(9.0, Role.DECODE), NodeLoss(5.0))},
        ),
    ],
)
def test_each_condition_reaches_the_fleet_and_nothing_else_changes(conditions: Document, fleet: dict[str, object]) -> None:
    plain = even(profile=KV_1E5, start_up=StartUp(30.0, 0.25))
    assert under(conditions, start_up=plain.start_up) == replace(plain, **fleet)  # type: ignore[arg-type]


def test_without_conditions_a_fleet_is_as_it_was_and_with_them_it_can_be_sent_to_another_process() -> None:
    plain = scenario(start_up=StartUp(30.0))
    assert ConditionsSpec().applied(plain) == plain
    harsh = ConditionsSpec.model_validate({"nodes": {"ready": 1, "most": 4}, "nodeLosses": [{"atSeconds": 5}]}).applied(plain)
    assert pickle.loads(pickle.dumps(harsh)) == harsh


def test_how_prometheus_looks_is_a_condition_too() -> None:
    late = ConditionsSpec.model_validate({"scrapeSeconds": 30, "scrapeDelaySeconds": 12}).applied(scenario())
    assert (late.scrape_s, late.scrape_delay_s) == (30.0, 12.0)


@pytest.mark.parametrize(
    ("conditions", "line"),
    [
        ({"routing": "best"}, 'routing: "best" is unknown (allowed: round-robin, least-loaded, pending-tokens, prefix-affinity)'),
        ({"handover": "Push"}, 'handover: "Push" is unknown; did you mean "push"? (allowed: pull, push)'),
        ({"networkBytesPerSecond": 0}, "networkBytesPerSecond: 0 is out of range (allowed: 1000000..1e+15)"),
        ({"gatewayHoldsAbove": 0}, "gatewayHoldsAbove: 0 is out of range (allowed: 1..100000)"),
        ({"retries": {"most": -1}}, "retries.most: -1 is out of range (allowed: 0..20)"),
        ({"nodes": {"ready": 5, "most": 4}}, "nodes.most: 4 is below ready 5 (allowed: 5..10000)"),
        ({"nodeLosses": [{"atSeconds": 5}]}, "nodeLosses: no node can die where none are told (allowed: only with nodes)"),
        ({"replicaLosses": [{"atSeconds": 5}]}, "replicaLosses[0].role: missing (allowed: prefill, decode)"),
        ({"quotaGpus": 5}, "quotaGpus: unknown field"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line(conditions: Document, line: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ConditionsSpec.model_validate(conditions)
    (told,) = objections(refused.value, ConditionsSpec)
    assert str(told).startswith(line)


def test_a_scenario_file_names_them_and_each_start_up_time_keeps_its_median(tmp_path: Path) -> None:
    words = {"startUpSigma": 0.0, "sidecars": {"count": 2}, "scrapeDelaySeconds": 5, "nodes": {"ready": 1, "most": 3}}
    quick, slow = (case.scenario for case in load_cases(None, written(tmp_path, document(conditions=words))).ready)
    assert (quick.fleet.start_up, slow.fleet.start_up) == (StartUp(60.0, 0.0), StartUp(180.0, 0.0))
    assert (quick.scrape_delay_s, quick.fleet.nodes) == (5.0, NodeSpec(1, 3))
    assert quick.fleet.sidecars == SidecarsSpec(count=2).core(quick.slos)


def test_nodes_that_cannot_carry_a_scenario_are_refused_with_their_line(tmp_path: Path) -> None:
    path = written(tmp_path, document(conditions={"nodes": {"ready": 1, "most": 3, "gpus": 1}}))
    with pytest.raises(Refusal) as refused:
        load_cases(None, path)
    (told,) = str(refused.value).splitlines()
    assert told.startswith(f"{path}:")
    assert told.endswith("scenarios.waves.conditions.nodes.gpus: 1 is below the 2 GPUs of one replica (allowed: 2..64)")


def test_conditions_leave_a_scenario_its_own_rejection() -> None:
    gated = replace(scenario(), rejection=EarlyRejection(Rejects.EARLY, 2.0, 0.05))
    assert ConditionsSpec().applied(gated).rejection == gated.rejection


@pytest.mark.parametrize(
    ("nodes", "fits"),
    [
        ({"ready": 0, "most": 2, "gpus": 8}, True),
        ({"ready": 0, "most": 2, "gpus": 8, "quotaGpus": 12}, True),
        ({"ready": 0, "most": 2, "gpus": 8, "quotaGpus": 11}, False),
        ({"ready": 0, "most": 1, "gpus": 8}, False),
        ({"ready": 9, "most": 9, "gpus": 2}, False),
    ],
)
def test_nodes_must_carry_one_replica_and_the_fleet_as_it_begins(nodes: Document, fits: bool) -> None:
    """Two of four GPUs and two of two."""
    conditions = ConditionsSpec.model_validate({"nodes": nodes})
    gpus, start = {Role.PREFILL: 4, Role.DECODE: 2}, dict.fromkeys(Role, 2)
    if fits:
        conditions.refuse_unfit(gpus, start)
    else:
        with pytest.raises(ValueError, match=r"is below the 4 GPUs of one replica|start with 12 GPUs, more than"):
            conditions.refuse_unfit(gpus, start)


def played(conditions: Document) -> Score:
    """A fleet that stays as it is, 120 s of prompts of 2,560 tokens, of which the first 2,048 are always the same."""
    kind = Kind(Lengths(2_560, 0.0), Lengths(40, 0.5, 200))
    requests = [replace(one, blocks=(*range(4), 1_000 + one.id)) for one in constant(Random(3), kind, 0.5, 120.0)]
    run = VirtualRun(ConditionsSpec.model_validate(conditions).applied(scenario()), requests)
    run.advance(600.0)
    return run.score()


def met(conditions: Document) -> int:
    return played(conditions).met


def test_a_prefix_cache_keeps_more_promises_and_a_narrow_network_fewer() -> None:
    assert met({"networkBytesPerSecond": 1e8}) < met({}) < met({"cacheTokens": 1_000_000})


def test_who_tries_again_after_the_loss_of_a_node_is_served_in_the_end() -> None:
    """Both nodes die with all that stands on them; others come 120 s later, and replicas start there."""
    harsh = {"nodes": {"ready": 2, "most": 2, "gpus": 2}, "nodeLosses": [{"atSeconds": 60}, {"atSeconds": 60}]}
    easy, died, again = played({}), played(harsh), played({**harsh, "retries": {}})
    assert (easy.failed, again.failed) == (0, 0)
    assert died.failed > 0
    assert died.served + died.failed == again.served == easy.served
    assert sum(died.gpu_hours.values()) < sum(easy.gpu_hours.values()), "what waits for a node is not paid for"
