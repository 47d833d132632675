"""Is only what a step needs asked, and nothing taken for idle, away or harmless that may not be?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.adapters.routing import Endpoint
from autoscaler.conductor.looking import Looking, endpoint_of
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Away, Seen, Sight
from autoscaler.core.transaction import Kind, Step, Transaction
from autoscaler.ports import Fault
from tests.adapters.kubernetes.transactions.standing_fleet import NOW, ROUTING, D, P, ground, moving, pod, pods, standing
from tests.fakes import FakeClock

NOBODY = "127.7.255.254"  # where nothing listens
SILENT: dict[str, Any] = {"ip": NOBODY, "ready_s": None}


class LabelsTell:
    """A router that goes by labels; `asked` are the pods it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def routed(self, pod: Endpoint) -> Role | Away | None:
        self.asked.append(pod.name)
        value = pod.labels["llm-d.ai/role"]
        return AWAY if value == "draining" else Role(value)

    def route(self, pod: Endpoint, role: Role | None) -> Fault | None:
        raise AssertionError("a look changes nothing")


def looked(
    one: Transaction, of: Ground, routing: LabelsTell | None = None, times: int = 1, looking: Looking | None = None
) -> Sight:
    clock = FakeClock()
    looking = looking or Looking(clock.now)
    for _ in range(times):
        sight = looking.look(one, of, routing or LabelsTell())
        clock.at += 1.0
    return sight


def one_of(sight: Sight) -> Seen:
    (seen,) = sight.victims.values()
    return seen


def drained(step: Step, **victim: Any) -> tuple[Transaction, Ground]:
    """A drain of prefill-2 of three, whose pod is so."""
    made = pod("prefill-2", "draining", **{**SILENT, **victim})
    return moving(Kind.DRAIN, step, ["prefill-2"]), ground(standing(3, *pods(P, 0, 1), made))


def test_one_that_is_not_ready_and_answers_nobody_has_no_work() -> None:
    one, of = drained(Step.IDLE)
    assert not one_of(looked(one, of, times=2)).idle
    assert one_of(looked(one, of, times=3)).idle


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param({"ready_s": 1000.0}, id="Ready, so it may be busy"),
        pytest.param({"gates": {"pdautoscaler.io/routed": "False"}}, id="not Ready through our own gate"),
    ],
)
def test_any_other_that_answers_nobody_may_be_busy(victim: dict[str, Any]) -> None:
    one, of = drained(Step.IDLE, **victim)
    assert not one_of(looked(one, of, times=5)).idle


def test_a_router_is_asked_about_victims_only_and_only_where_it_matters() -> None:
    router = LabelsTell()
    for step in (Step.LEAVE, Step.IDLE, Step.SHRINK):
        one, of = drained(step)
        assert one_of(looked(one, of, router)).routed is AWAY
    assert router.asked == ["prefill-2"] * 3
    assert one_of(looked(*drained(Step.GONE), router)).routed is None
    assert router.asked == ["prefill-2"] * 3


def test_without_routing_whoever_stands_is_routed_to() -> None:
    one, of = drained(Step.IDLE)
    assert one_of(Looking().look(one, of, None)).routed is P


def test_a_victim_that_is_gone_going_or_another_is_seen_to_be() -> None:
    one = moving(Kind.DRAIN, Step.GONE, ["prefill-2"])
    gone = one_of(looked(one, ground(standing(2, *pods(P, 0, 1)))))
    assert (gone.same, gone.stands) == (False, False)
    going = one_of(looked(*drained(Step.GONE, leaving_s=NOW)))
    assert (going.same, going.stands, going.going) == (True, True, True)
    assert one_of(looked(*drained(Step.GONE, uid="another"))).same is False
    worker = pod("prefill-2-1", "prefill", leader="prefill-2")
    left = one_of(looked(one, ground(standing(2, *pods(P, 0, 1), worker))))
    assert (left.same, left.stands) == (False, True)


def counted(one: Transaction, of: Ground) -> tuple[int | None, int | None, int | None]:
    sight = looked(one, of)
    return sight.bystanders, sight.came, sight.others


def test_who_would_go_along_is_told_by_ordinals() -> None:
    """Number 3 was missing when 4 of 5 were to go, and is back."""
    one = moving(Kind.DRAIN, Step.SHRINK, ["prefill-4"], {P: 5})
    back = ground(standing(5, *pods(P, 0, 1, 2, 3, 4)))
    assert counted(one, back)[0] == 0
    two = moving(Kind.DRAIN, Step.SHRINK, ["prefill-3", "prefill-4"], {P: 5})
    without = replace(two, change=replace(two.change, victims=two.change.victims[1:]))
    assert counted(without, back)[0] == 1
    going = ground(standing(5, *pods(P, 0, 1, 2), pod("prefill-3", "prefill", leaving_s=NOW), *pods(P, 4)))
    assert counted(without, going)[0] == 0


def test_without_ordinals_those_too_many_may_be_anyone() -> None:
    made = [pod(name, "prefill", numbered=False) for name in "abc"]
    one = moving(Kind.DRAIN, Step.SHRINK, ["c"])
    assert counted(one, ground(standing(3, *made)))[0] == 0
    replaced = [*made[:2], pod("d", "prefill", numbered=False)]
    assert counted(one, ground(standing(3, *replaced)))[0] == 1


def test_newcomers_that_serve_are_counted_beyond_the_old_count() -> None:
    one = moving(Kind.SURGE_FIRST, Step.READY, ["prefill-2"])
    assert counted(one, ground(3, standing(3, *pods(D, 0, 1), pod("decode-2", "decode", ready_s=None))))[1] == 0
    assert counted(one, ground(3, standing(3, *pods(D, 0, 2))))[1] == 1
    made = [pod(name, "decode", numbered=False) for name in "abc"]
    assert counted(one, ground(3, standing(3, *made)))[1] == 1
    assert counted(moving(Kind.SWITCH, Step.IDLE, ["prefill-0"]), ground())[:2] == (None, None)


def test_others_are_those_that_no_transaction_takes_away() -> None:
    """Two drains at once, each of which would leave one, see that together they leave none."""
    drain, flip = moving(Kind.DRAIN, Step.LEAVE, ["prefill-1"], {P: 2}), moving(Kind.SWITCH, Step.LEAVE, ["prefill-0"])
    alone = ground(2, 2, drain)
    assert counted(drain, alone)[2] == 1
    both = ground(2, 2, drain, flip)
    assert (counted(drain, both)[2], counted(flip, both)[2]) == (0, 0)
    lent = ground(2, standing(2, *pods(D, 0, 1, at_0="prefill")), drain, flip)
    assert counted(drain, lent)[2] == 1


def test_what_an_engine_or_a_router_refused_is_of_that_pod_only() -> None:
    one, of = drained(Step.LEAVE)
    looking = Looking()
    looking.answers["uid-prefill-2"] = ("no", "")
    assert one_of(looking.look(one, of, LabelsTell())).refused == "no"
    assert one_of(looking.look(*drained(Step.LEAVE, uid="another"), LabelsTell())).refused == ""


def test_an_endpoint_is_of_the_target_that_made_it() -> None:
    of = ground(standing(2, *pods(P, 0, 1, at_0="decode")), routing=dict(ROUTING), routed=False)
    found = endpoint_of(of.standings[P].pods[0], of)
    assert (found.role, found.uid, found.selector, found.labels["llm-d.ai/role"]) == (P, "uid-prefill-0", "app=t", "decode")
