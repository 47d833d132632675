"""Are those chosen who would go anyway, and is the best way taken that policy and engines allow?"""

from __future__ import annotations

from typing import Any

import pytest

from autoscaler.adapters.kubernetes.transactions.choosing import Refused, donors, driver, kind, last, may_switch, room, ways
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind
from autoscaler.policy.behaviour import FlipDriver
from autoscaler.policy.document import Spec
from tests.adapters.kubernetes.transactions.standing_fleet import NOW, ROUTING, D, P, fleet, ground, pod, pods, standing
from tests.policy_documents import policy

ONE_STOCK = {
    role.value: {"target": {"name": f"chat-{role}"}, "max": 4, "capacityPool": "h100", "gpusPerReplica": gpus}
    for role, gpus in ((P, 2), (D, 4))
}


def named(found: object) -> list[str] | str:
    return found.why if isinstance(found, Refused) else [victim.name for victim in found]  # type: ignore[attr-defined]


def going(of: Ground, before: int, after: int, *busy: str, role: Role = P) -> list[str] | str:
    return named(last(of.replicas, role, before, after, frozenset(busy)))


def test_of_an_ordinal_set_the_last_go_and_the_first_of_them_comes_back_first() -> None:
    assert going(ground(4), 4, 2) == ["prefill-2", "prefill-3"]


def test_only_those_that_stand_are_victims() -> None:
    assert going(ground(standing(5, *pods(P, 0, 1, 2))), 5, 2) == ["prefill-2"]
    assert going(ground(standing(3, *pods(P, 0))), 3, 2) == []


def test_one_at_the_end_that_is_lent_has_to_flip_back_first() -> None:
    lent = ground(standing(3, *pods(P, 0, 1, 2, at_2="decode")))
    assert going(lent, 3, 2) == "prefill-2 would go, and does decode now: it has to flip back first"


def test_one_that_is_on_its_way_already_is_waited_for() -> None:
    found = last(ground(3).replicas, P, 3, 2, frozenset({"prefill-2"}))
    assert found == Refused("prefill-2 would go, and is on its way already", waits=True)


def deployment(*made: tuple[str, str, float | None, float]) -> Ground:
    """(name, label, ready since, created)."""
    stands = [
        pod(name, label, numbered=False, ready_s=ready_s, created_s=born_s, uid=f"uid-{name}")
        for name, label, ready_s, born_s in made
    ]
    return ground(standing(len(stands), *stands))


def test_of_a_deployment_those_go_that_do_not_serve_and_then_the_youngest() -> None:
    made = deployment(
        ("old", "prefill", 50.0, 10.0),
        ("young", "prefill", 60.0, 40.0),
        ("starts", "prefill", None, 5.0),
        ("out", "draining", 50.0, 9.0),
    )
    assert going(made, 4, 3) == ["out"]
    assert going(made, 4, 2) == ["starts", "out"]
    assert going(made, 4, 1) == ["young", "starts", "out"]


def test_of_a_deployment_one_that_is_lent_or_on_its_way_is_spared_as_long_as_others_are_there() -> None:
    made = deployment(("a", "prefill", 50.0, 10.0), ("b", "prefill", 60.0, 40.0), ("lent", "decode", 50.0, 90.0))
    assert going(made, 3, 2) == ["b"]
    assert going(made, 3, 2, "b") == ["a"]
    assert going(made, 3, 0) == "3 of 3 would go, and 2 are free to: the others flip or drain"
    assert last(made.replicas, P, 3, 1, frozenset({"b"})) == Refused(
        "2 of 3 would go, and 1 are free to: the others flip or drain", waits=True
    )


def test_who_comes_home_flips_first_and_then_the_lowest_ordinals() -> None:
    both = ground(standing(3, *pods(P, 0, 1, 2, at_2="decode")), 2)
    assert named(donors(both.replicas, D, P, 3, frozenset(), NOW)) == ["prefill-2", "decode-0", "decode-1"]
    assert named(donors(both.replicas, P, D, 1, frozenset({"prefill-0"}), NOW)) == ["prefill-1"]


def test_nobody_flips_who_does_not_serve_or_has_flipped_lately_or_was_taken_out() -> None:
    stands = [
        pod("prefill-0", "prefill", ready_s=None),
        pod("prefill-1", "prefill", written_s=NOW - 100.0),
        pod("prefill-2", "draining"),
        pod("prefill-3", "prefill"),
    ]
    seen = ground(standing(4, *stands))
    assert named(donors(seen.replicas, P, D, 4, frozenset(), NOW - 300.0)) == ["prefill-3"]
    assert named(donors(seen.replicas, P, D, 4, frozenset(), NOW - 50.0)) == ["prefill-1", "prefill-3"]


def spec(flip: dict[str, Any] | None = None, **fields: Any) -> Spec:
    return policy(routing=dict(ROUTING), behaviour={"flip": {"enabled": True, **(flip or {})}}, **fields).spec


def test_the_best_way_that_engines_allow_is_taken_and_told_why_not_a_better_one() -> None:
    sglang = spec(engine="sglang")
    assert driver(sglang, ()) == (FlipDriver.ENGINE_SWITCH, ())
    assert driver(sglang, ("decode: pp_size is 2",))[0] is None
    paired = spec(pools=ONE_STOCK)
    assert driver(paired, ()) == (
        FlipDriver.PAIRED_RESIZE,
        (
            "engineSwitch needs engine sglang: vllm keeps the role it was started in",
            "engineSwitch needs one gpusPerReplica in all pools: prefill has 2, decode has 4",
        ),
    )
    assert driver(policy().spec, ()) == (None, ())


@pytest.mark.parametrize(
    ("asked", "worth"),
    [
        (spec(engine="sglang"), True),
        (spec({"driver": "relabel"}, engine="sglang"), False),
        (spec(), False),
        (policy(engine="sglang", routing=dict(ROUTING)).spec, False),
        (policy(engine="sglang", routing={"kind": "readinessGate"}, behaviour={"flip": {"enabled": True}}).spec, False),
    ],
)
def test_engines_are_asked_only_where_their_answer_would_decide(asked: Spec, worth: bool) -> None:
    assert may_switch(asked) is worth


@pytest.mark.parametrize(
    ("order", "budget", "first"),
    [("auto", None, False), ("auto", 18, True), ("auto", 17, False), ("surgeFirst", 14, True), ("drainFirst", 40, False)],
)
def test_a_paired_resize_grows_first_where_the_budget_has_room(order: str, budget: int | None, first: bool) -> None:
    """6 GPUs of prefill and 8 of decode; a unit is two TP2 for one TP4."""
    more = {} if budget is None else {"gpuBudget": budget}
    wanted = spec({"order": order}, pools=ONE_STOCK, **more)
    way = ways(wanted, FlipDriver.PAIRED_RESIZE, fleet(ground(3, 2, pools=ONE_STOCK)))[P, D]
    assert (way.from_replicas, way.to_replicas, way.in_place, way.grows_first) == (2, 1, False, first)
    assert kind(way) is (Kind.SURGE_FIRST if first else Kind.DRAIN_FIRST)


def test_without_a_budget_nobody_knows_of_any_room() -> None:
    assert not room(policy().spec, fleet(ground()), 0)
