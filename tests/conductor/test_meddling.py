"""What becomes of a transaction when somebody else wants something, too: the owner, the core, the router, or a node?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.kubernetes.pods import COST
from autoscaler.adapters.kubernetes.transactions.ground import patience_of
from autoscaler.core.action import Verdict
from autoscaler.core.fleet import Role
from tests.adapters.kubernetes.fake_cluster import DEPLOYMENTS, KEY, LABEL, PDA, SETS
from tests.conductor.stage import BY_LABEL, FLIPS, TERM, Stage, engaged, staged
from tests.policy_documents import policy

P, D = Role.PREFILL, Role.DECODE
LOST = ApiFault(0, "ReadTimeoutError", "no answer")
IN_PLACE = {"flip": {"enabled": True, "dwellSeconds": 0.0}}
STOCK = {role.value: {"target": {"name": f"chat-{role}"}, "max": 4, "capacityPool": "h100"} for role in Role}
LABELLED = {"chat-decode-0": "decode", "chat-decode-1": "decode", "chat-prefill-0": "prefill", "chat-prefill-1": "prefill"}


def paired(order: str) -> dict[str, Any]:
    return {"behaviour": {"flip": {"enabled": True, "driver": "pairedResize", "order": order}}, "pools": STOCK}


def test_growth_beside_a_resize_is_not_taken_for_somebody_elses() -> None:
    with engaged(**paired("drainFirst")) as (stage, _):
        stage.cluster.slow = True
        stage.flip(P, D)
        stage.until("ready")
        assert stage.scale(D, 3, 4).verdict is Verdict.APPLIED
        stage.beat(2)
        stage.cluster.start()
        stage.until("")
        (ended,) = stage.fleet.ended
        assert (ended.done, stage.wished) == (True, {P: 2, D: 4})


def test_a_dying_writer_of_growth_beside_a_resize_costs_no_gpu() -> None:
    """Its count is written, and the resize does not know of it."""
    with engaged(**paired("drainFirst")) as (stage, _):
        stage.cluster.slow = True
        stage.flip(P, D)
        stage.until("ready")
        stage.cluster.before = lambda verb, path: (
            LOST if path.startswith(PDA) and stage.cluster.writes[-2][1].startswith(SETS) else None
        )
        assert stage.scale(D, 3, 4).verdict is Verdict.APPLIED
        stage.cluster.before = lambda verb, path: None
        successor = Stage(stage.cluster, stage.policies, stage.clock)
        successor.terms.now = TERM + 1
        successor.beat(3)
        stage.cluster.start()
        successor.until("")
        assert (successor.wished, len(stage.cluster.pods())) == ({P: 2, D: 4}, 6)
        successor.fleets.stop()


def test_a_drain_that_is_wanted_again_is_let_in_again() -> None:
    with staged() as stage:
        stage.scale(P, 3, 2)
        stage.beat(2)
        assert stage.cluster.label("chat-prefill-2") == "draining"
        assert "called off" in stage.scale(P, 2, 3).detail
        stage.until("")
        assert (stage.cluster.label("chat-prefill-2"), stage.wished[P], stage.cluster.count("chat-prefill")) == ("prefill", 3, 3)


def test_of_a_deployment_the_victim_goes_and_no_other() -> None:
    with engaged(plural=DEPLOYMENTS, pools=_deployments()) as (stage, _):
        stage.scale(P, 3, 2)
        victim = stage.ground.under_way[0].change.victims[0].name
        others = [name for name in stage.cluster.pods("chat-prefill") if name != victim]
        stage.cluster.edit(others[0], annotations={COST: "-1000000", "other": "kept"})  # of a drain that was called off
        stage.until("")
        assert stage.cluster.pods("chat-prefill") == sorted(others)


def _deployments() -> dict[str, Any]:
    kind = {"apiVersion": "apps/v1", "kind": "Deployment"}
    return {role.value: {"target": {**kind, "name": f"chat-{role}"}, "max": 4} for role in Role}


def test_the_last_that_serves_is_never_drained_away() -> None:
    """A drain and a flip, each of which leaves one, and both together none."""
    with staged(2, 2, behaviour=dict(FLIPS)) as stage:
        stage.scale(P, 2, 1)
        stage.clock.at += 1
        flip = stage.flip(P, D)
        stage.beat(8)
        assert flip.verdict is Verdict.APPLIED
        assert "prefill" in [stage.cluster.label(name) for name in stage.cluster.pods("chat-prefill")]
        assert stage.fleet.pools[P].serving >= 1


def test_a_policy_whose_routing_is_removed_midway_ends_its_drain_undone() -> None:
    with staged() as stage:
        stage.scale(P, 3, 2)
        stage.beat(3)
        assert stage.step == "idle"
        stage.policies.document = policy(mode="Auto")
        stage.beat()
        stage.clock.at += patience_of(stage.ground).idle_s
        stage.until("")
        (ended,) = stage.fleet.ended
        assert (ended.done, stage.wished[P], stage.cluster.count("chat-prefill")) == (False, 3, 3)


def test_a_policy_that_is_no_longer_auto_calls_its_victims_back() -> None:
    with staged() as stage:
        stage.scale(P, 3, 2)
        stage.beat(2)
        stage.policies.document = policy(mode="Off", routing=dict(BY_LABEL))
        stage.until("")
        (ended,) = stage.fleet.ended
        assert (ended.done, ended.why, stage.cluster.label("chat-prefill-2")) == (False, "mode is Off", "prefill")


def test_a_router_that_refuses_for_good_sends_a_drain_back_at_once() -> None:
    with staged() as stage:
        kept_by = {"manager": "argo", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {f"f:{LABEL}": {}}}}}
        stage.cluster.edit("chat-prefill-2", managedFields=[kept_by])
        stage.scale(P, 3, 2)
        stage.beat(5)
        (ended,) = stage.fleet.ended
        assert not ended.done
        assert ended.why.startswith(f"pod chat-prefill-2: label {LABEL} is kept by argo")


def test_a_record_that_cannot_be_read_holds_the_fleet_and_says_so() -> None:
    with staged() as stage:
        stage.cluster.objects[PDA]["status"] = {"state": {"format": 1, "epoch": 1, "transactions": [{"key": 3}]}}
        told = stage.fleets.read(KEY, stage.clock.now())
        assert "TransactionsUnreadable: status.state.transactions: [0]" in str(told)
        stage.conductor.beat()
        assert stage.cluster.writes == []


def test_who_is_gone_is_forgotten() -> None:
    with staged() as stage:
        stage.scale(P, 3, 2)
        stage.beat(2)
        document, stage.policies.document = stage.policies.document, None
        stage.conductor.beat()
        assert stage.book.keys == frozenset()
        stage.policies.document = document
        stage.beat(2)
        assert stage.step == "idle"


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["chat-prefill-2", "chat-prefill-0"])
@pytest.mark.parametrize("order", ["drainFirst", "surgeFirst"])
def test_a_pod_that_is_lost_at_any_beat_of_a_resize_frees_no_gpu_for_others(order: str, lost: str) -> None:
    """What targets want and what stands of them is never more than what the fleet says it holds."""
    for at in range(0, 9, 2):
        with engaged(gpuBudget=6, **paired(order)) as (stage, _):
            stage.flip(P, D)
            for beat in range(12):
                if beat == at and lost in stage.cluster.pods():
                    stage.cluster.lose(lost)
                truth = sum(max(stage.cluster.count(f"chat-{role}"), len(stage.cluster.pods(f"chat-{role}"))) for role in Role)
                assert stage.fleet.gpus_held >= truth, (at, beat)
                assert stage.fleet.gpus_held <= 6, (at, beat)
                stage.beat()


def test_a_count_that_somebody_else_changes_is_not_written_over() -> None:
    with engaged() as (stage, _):
        stage.scale(P, 3, 2)
        stage.until("idle")
        stage.cluster.scale("chat-prefill", 5)
        stage.until("")
        (ended,) = stage.fleet.ended
        assert (ended.done, ended.why, stage.cluster.count("chat-prefill")) == (False, "somebody else made prefill 5", 5)
        assert (stage.cluster.label("chat-prefill-2"), stage.wished[P]) == ("prefill", 5)
