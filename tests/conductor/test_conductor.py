"""Does every transaction come to its end, whatever dies, with the store ahead of every deed?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.core.action import Verdict
from autoscaler.core.fleet import Phase, Role
from autoscaler.errands import Daemons
from tests.adapters.kubernetes.fake_cluster import PDA, PODS, SETS, FakeCluster
from tests.adapters.prometheus_server import wait_until
from tests.conductor.stage import FLIPS, TERM, Stage, engaged, staged
from tests.engines.contract import Switching
from tests.engines.loopback import HANGS
from tests.engines.sglang import Sglang

P, D = Role.PREFILL, Role.DECODE
LOST = ApiFault(0, "ReadTimeoutError", "no answer")
IN_PLACE = {"flip": {"enabled": True, "dwellSeconds": 0.0}}
STOCK = {role.value: {"target": {"name": f"chat-{role}"}, "max": 4, "capacityPool": "h100"} for role in Role}
LABELLED = {"chat-decode-0": "decode", "chat-decode-1": "decode", "chat-prefill-0": "prefill", "chat-prefill-1": "prefill"}


def paired(order: str) -> dict[str, Any]:
    return {"behaviour": {"flip": {"enabled": True, "driver": "pairedResize", "order": order}}, "pools": STOCK}


def deeds(stage: Stage) -> list[str]:
    """What was written, in order: "store", "count", "label"."""
    names = {PDA: "store", SETS: "count", PODS: "label"}
    return [next(name for path, name in names.items() if at.startswith(path)) for _, at in stage.cluster.writes]


def test_a_drain_takes_out_waits_removes_and_tells_of_it() -> None:
    with engaged() as (stage, _):
        assert stage.scale(P, 3, 2).verdict is Verdict.APPLIED
        seen = []
        while stage.cluster.stored:
            seen.append((stage.wished, stage.fleet.gpus_held, stage.cluster.count("chat-prefill")))
            stage.beat()
        assert {(wished[P], wished[D]) for wished, _, _ in seen} == {(2, 2)}
        assert [gpus for _, gpus, _ in seen] == [5 if count == 3 else 4 for _, _, count in seen]
        assert stage.cluster.labels() == LABELLED
        (ended,) = stage.fleet.ended
        assert (ended.done, ended.kind, ended.forced_requests) == (True, "drain", 0)
        assert stage.fleet.ended == ()


def test_nothing_is_done_before_the_step_it_belongs_to_is_stored() -> None:
    with engaged() as (stage, _):
        stage.scale(P, 3, 2)
        stage.until("")
        # begun, label; leave -> idle, away; idle -> shrink, count; shrink -> gone -> done
        assert deeds(stage) == ["store", "label", *["store"] * 2, "count", *["store"] * 2]
        assert "chat-prefill-2" not in stage.cluster.pods()


def test_a_fault_of_the_store_stops_before_the_deed_and_is_tried_again() -> None:
    with engaged() as (stage, _):
        stage.scale(P, 3, 2)
        stage.until("idle")
        stage.cluster.before = lambda verb, path: LOST if path.startswith(PDA) else None
        stage.beat(6)
        assert stage.cluster.count("chat-prefill") == 3
        stage.cluster.before = lambda verb, path: None
        stage.until("", most=12)
        assert stage.cluster.count("chat-prefill") == 2


@pytest.mark.slow
def test_a_successor_goes_on_from_every_gap_between_two_writes() -> None:
    """The leader dies right after its n-th write, for every n; another process, with a later term, brings it to its end."""
    for writes in range(1, 8):
        with engaged() as (stage, engines):

            def die(verb: str, path: str, stage: Stage = stage, last: int = writes) -> ApiFault | None:
                if len(stage.cluster.writes) > last:
                    stage.terms.now = None
                    return LOST
                return None

            stage.cluster.before = die
            stage.scale(P, 3, 2)
            stage.beat(8)
            stage.cluster.before = lambda verb, path: None
            successor = Stage(stage.cluster, stage.policies, stage.clock)
            successor.terms.now = TERM + 1
            successor.beat()
            successor.until("")
            assert (successor.wished[P], stage.cluster.count("chat-prefill")) == (2, 2), writes
            assert stage.cluster.labels() == LABELLED
            successor.fleets.stop()
            assert engines.port


def test_a_term_that_ends_between_two_duties_does_nothing_more() -> None:
    with staged(4) as stage:
        stage.scale(P, 4, 2)

        def ends(verb: str, path: str) -> ApiFault | None:
            stage.terms.now = None
            return None

        stage.cluster.before = ends
        stage.beat(3)
        labels = stage.cluster.labels()
        assert sorted(labels[f"chat-prefill-{number}"] for number in (2, 3)) == ["draining", "prefill"]


def test_a_leader_whose_term_is_over_is_refused_at_the_store_and_does_nothing() -> None:
    with staged() as stage:
        stage.scale(P, 3, 2)
        later = Stage(stage.cluster, stage.policies, stage.clock)
        later.terms.now = TERM + 1
        assert later.scale(D, 2, 3).verdict is Verdict.APPLIED
        before = dict(stage.cluster.labels())
        assert stage.scale(D, 3, 2).verdict is not Verdict.APPLIED
        assert (stage.cluster.labels(), stage.cluster.count("chat-decode")) == (before, 3)
        later.fleets.stop()


def test_a_relabel_is_one_label_and_counts_at_once() -> None:
    with staged(behaviour=dict(FLIPS)) as stage:
        assert stage.flip(P, D).verdict is Verdict.APPLIED
        assert stage.wished == {P: 2, D: 3}
        stage.until("")
        assert stage.cluster.label("chat-prefill-0") == "decode"
        assert (stage.wished, stage.fleet.gpus_held) == ({P: 2, D: 3}, 5)


def test_a_switch_asks_the_engine_and_believes_its_live_role() -> None:
    with engaged(Sglang, engine="sglang", behaviour=IN_PLACE) as (stage, engines):
        stage.beat()  # asks whether they can
        assert stage.flip(P, D).verdict is Verdict.APPLIED
        held, began_s = set(), stage.clock.now()
        while stage.cluster.stored:
            held.add((stage.fleet.gpus_held, *stage.wished.values()))
            stage.beat()
        assert held == {(5, 2, 3)}
        assert (engines["chat-prefill-0"].role, stage.cluster.label("chat-prefill-0")) == (D, "decode")
        assert engines["chat-prefill-0"].http.asked["POST /pd_role_switch"] == 1
        assert stage.clock.now() - began_s <= 1 + 2 + 3  # leaving, settling, and three seconds for the flip itself


@pytest.mark.parametrize(
    ("switching", "why"),
    [
        (Switching.REFUSES, "not idle"),
        (Switching.PRETENDS, "it says that it has switched to decode, and is prefill all the same"),
    ],
)
def test_an_engine_that_refuses_or_lies_is_asked_once_and_let_in_again_in_its_old_role(switching: Switching, why: str) -> None:
    with engaged(Sglang, engine="sglang", behaviour=IN_PLACE) as (stage, engines):
        stage.beat()
        engine = engines["chat-prefill-0"]
        engine.switching = switching
        stage.flip(P, D)
        stage.until("")
        assert (stage.cluster.label("chat-prefill-0"), engine.role, stage.wished) == ("prefill", P, {P: 3, D: 2})
        (ended,) = stage.fleet.ended
        assert not ended.done
        assert why in ended.why
        assert engine.http.asked["POST /pd_role_switch"] == 1


def test_an_engine_that_breaks_in_the_switch_is_made_anew() -> None:
    with engaged(Sglang, engine="sglang", behaviour=IN_PLACE) as (stage, engines):
        stage.beat()
        broken, uid = engines["chat-prefill-0"], stage.cluster.pod("chat-prefill-0")["metadata"]["uid"]
        broken.switching = Switching.BREAKS  # and goes on to tell its old role
        stage.flip(P, D)
        stage.until("remake")
        stage.until("")
        assert stage.cluster.pod("chat-prefill-0")["metadata"]["uid"] != uid
        assert (stage.cluster.label("chat-prefill-0"), stage.wished) == ("prefill", {P: 3, D: 2})


@pytest.mark.parametrize("order", ["drainFirst", "surgeFirst"])
def test_a_paired_resize_never_holds_more_than_its_budget_and_never_jumps(order: str) -> None:
    most = {"drainFirst": 5, "surgeFirst": 6}[order]
    with engaged(gpuBudget=6, **paired(order)) as (stage, _):
        stage.cluster.slow = stage.cluster.lingering = True
        assert stage.flip(P, D).verdict is Verdict.APPLIED
        seen = set()
        for beat in range(40):
            seen.add((stage.wished[P], stage.wished[D], stage.fleet.gpus_held))
            assert len(stage.cluster.pods()) <= most
            if beat % 6 == 5:
                stage.cluster.start()
                stage.cluster.bury()
            stage.beat()
        assert stage.cluster.stored == []
        assert {(prefill, decode) for prefill, decode, _ in seen} == {(2, 3)}
        assert max(gpus for _, _, gpus in seen) == most
        assert (stage.cluster.count("chat-prefill"), stage.cluster.count("chat-decode")) == (2, 3)


def test_new_pods_behind_a_gate_of_ours_are_let_in_and_victims_are_not() -> None:
    gated = FakeCluster()
    gated.gated = True
    with staged(cluster=gated, routing={"kind": "readinessGate"}) as stage:
        assert stage.fleet.pools[P].serving == 0
        stage.beat()
        assert stage.fleet.pools[P].serving == 3
        stage.scale(P, 3, 2)
        stage.beat(3)
        assert [one.phase for one in stage.fleet.pools[P].replicas] == [Phase.SERVING, Phase.SERVING, Phase.DRAINING]
        gated.lose("chat-prefill-2")
        stage.beat()
        conditions = gated.pod("chat-prefill-2")["status"]["conditions"]
        assert "True" not in [one["status"] for one in conditions if one["type"] == "pdautoscaler.io/routed"]


def test_whether_engines_can_switch_is_asked_of_them_and_told() -> None:
    with engaged(Sglang, engine="sglang", behaviour=IN_PLACE) as (stage, engines):
        assert stage.fleet.flip_ways == {}
        assert "its engines have not been asked yet" in stage.flip(P, D).detail
        engines["chat-decode-1"].launch = type(engines["chat-decode-1"].launch)(D, arguments={"ep_size": 8})
        stage.beat()
        assert "decode: ep_size is 8" in stage.flip(P, D).detail
        engines["chat-decode-1"].launch = type(engines["chat-decode-1"].launch)(D)
        stage.clock.at += 600
        stage.beat()
        assert {way.driver for way in stage.fleet.flip_ways.values()} == {"engineSwitch"}


@pytest.mark.slow
def test_an_engine_that_hangs_in_its_switch_is_asked_once_and_delays_nobody() -> None:
    with engaged(Sglang, engine="sglang", behaviour=IN_PLACE, prefill=4) as (stage, engines):
        stage.beat()
        engines["chat-prefill-0"].http.faults["/pd_role_switch"] = HANGS
        stage.flip(P, D, 2, 2)
        stage.conductor._executor = Daemons()
        hanging = engines["chat-prefill-0"].http.asked

        def flipped() -> bool:
            stage.beat()
            return stage.cluster.label("chat-prefill-1") == "decode" and hanging["POST /pd_role_switch"] > 0

        wait_until(flipped, "the other one flips")
        for _ in range(5):
            stage.beat()
        assert hanging["POST /pd_role_switch"] == 1
        assert stage.cluster.label("chat-prefill-0") == "draining"


def test_nobody_who_does_not_lead_conducts() -> None:
    with staged() as stage:
        stage.scale(P, 3, 2)
        stage.terms.now = None
        stage.beat(5)
        assert (stage.cluster.label("chat-prefill-2"), stage.step) == ("prefill", "leave")


def test_stopping_begins_nothing_more() -> None:
    with staged() as stage:
        stage.scale(P, 3, 2)
        stage.conductor.start()
        stage.conductor.stop()
        assert stage.step == "leave"


def test_two_for_one_takes_two_and_gives_one() -> None:
    sizes = {role: {**STOCK[role.value], "gpusPerReplica": gpus} for role, gpus in ((P, 1), (D, 2))}
    spec = {**paired("drainFirst"), "pools": {role.value: pool for role, pool in sizes.items()}}
    with engaged(gpuBudget=7, **spec) as (stage, _):
        way = stage.fleet.flip_ways[P, D]
        assert (way.from_replicas, way.to_replicas) == (2, 1)
        stage.flip(P, D, 2, 1)
        held = set()
        while stage.cluster.stored:
            held.add(stage.fleet.gpus_held)
            stage.beat()
        assert held == {7}
        assert (stage.cluster.count("chat-prefill"), stage.cluster.count("chat-decode")) == (1, 3)
