"""Does the guard make every wish lawful, and say what it cut?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.action import Action, Flip, Mode, Plan
from autoscaler.core.fleet import Fleet, Lack, Pool, Role, Shortage
from autoscaler.core.hysteresis import Target
from autoscaler.core.plan import Wish, plan
from autoscaler.core.policy import PoolLimits
from autoscaler.core.reason import Reason
from tests.fakes import fleet, pool

PREFILL, DECODE = Role
BLIND = Wish(None, 0.0, sighted=False)


def wish(count: int, demand: float | None = None, *, sighted: bool = True) -> Wish:
    return Wish(Target(count, Reason.DEMAND_ROSE, count), float(count) if demand is None else demand, sighted)


def made(
    seen: Fleet, wishes: dict[Role, Wish], low: int = 1, high: int = 100, gpu_budget: int | None = None, mode: Mode = Mode.AUTO
) -> Plan:
    """The plan; a role that is not wished for is wished to stay."""
    whole = {role: wishes.get(role) or wish(members.desired) for role, members in seen.pools.items()}
    return plan(0.0, mode, seen, whole, {role: PoolLimits(low, high) for role in Role}, gpu_budget)


def cuts(lawful: Plan) -> list[tuple[Role | None, Reason]]:
    """What the guard cut, without the verdicts."""
    return [
        (f.role, f.reason)
        for f in lawful.findings
        if f.reason not in (Reason.SCALE_UP, Reason.SCALE_DOWN, Reason.HOLD, Reason.MODE)
    ]


@pytest.mark.parametrize(
    ("desired", "asked", "low", "high", "given", "cut"),
    [
        pytest.param(2, wish(4), 1, 8, 4, None, id="within bounds"),
        pytest.param(2, wish(9), 1, 8, 8, Reason.TOO_MANY_REPLICAS, id="above max"),
        pytest.param(2, wish(0), 1, 8, 1, Reason.TOO_FEW_REPLICAS, id="below min"),
        pytest.param(2, wish(2), 4, 8, 4, Reason.TOO_FEW_REPLICAS, id="min was raised"),
        pytest.param(2, BLIND, 4, 8, 4, Reason.TOO_FEW_REPLICAS, id="min was raised, without sight"),
        pytest.param(9, wish(9), 1, 4, 4, Reason.TOO_MANY_REPLICAS, id="max was lowered"),
        pytest.param(9, BLIND, 1, 4, 9, None, id="max was lowered, without sight"),
        pytest.param(9, wish(9, sighted=False), 1, 4, 9, None, id="max was lowered, with partial sight"),
        pytest.param(
            9, wish(12, sighted=False), 1, 4, 9, Reason.TOO_MANY_REPLICAS, id="partial sight wants to grow beyond a lowered max"
        ),
        pytest.param(3, BLIND, 1, 8, 3, None, id="no sight, nothing to do"),
        pytest.param(4, wish(2, sighted=False), 1, 8, 4, Reason.LAST_SERVING, id="a shrink without full sight"),
        pytest.param(5, wish(9), 2, 2, 2, Reason.TOO_MANY_REPLICAS, id="pinned from above"),
        pytest.param(1, wish(1), 2, 2, 2, Reason.TOO_FEW_REPLICAS, id="pinned from below"),
    ],
)
def test_bounds(desired: int, asked: Wish, low: int, high: int, given: int, cut: Reason | None) -> None:
    lawful = made(fleet(pool(PREFILL, desired), pool(DECODE, low)), {PREFILL: asked}, low, high)
    assert lawful.targets[PREFILL] == given
    assert cuts(lawful) == ([(PREFILL, cut)] if cut else [])


@pytest.mark.parametrize(
    ("serving", "starting", "stuck", "wanted", "given"),
    [
        pytest.param(5, 0, 0, 1, 1, id="all serve"),
        pytest.param(3, 2, 0, 1, 3, id="the two that start may be the two that stay"),
        pytest.param(1, 2, 0, 1, 3, id="one serves and two start"),
        pytest.param(2, 0, 3, 4, 4, id="three are stuck, and one of five may go"),
        pytest.param(2, 0, 3, 1, 4, id="three are stuck, and four may not go"),
    ],
)
def test_a_scale_down_spares_the_last_serving_replica_whoever_goes_first(
    serving: int, starting: int, stuck: int, wanted: int, given: int
) -> None:
    members = pool(DECODE, serving + starting + stuck, serving=serving, starting=starting, stuck=stuck)
    lawful = made(fleet(members), {DECODE: wish(wanted)})
    assert lawful.targets[DECODE] == given
    assert cuts(lawful) == ([] if given == wanted else [(DECODE, Reason.LAST_SERVING)])


def test_a_min_of_zero_still_leaves_each_role_one() -> None:
    lawful = made(fleet(), {PREFILL: wish(0), DECODE: wish(0)}, low=0)
    assert lawful.targets == {PREFILL: 1, DECODE: 1}


# The GPU budget


def test_without_a_budget_only_max_limits_growth() -> None:
    assert made(fleet(), {PREFILL: wish(50), DECODE: wish(60)}).targets == {PREFILL: 50, DECODE: 60}


@pytest.mark.parametrize(
    ("pools", "asked", "budget", "given"),
    [
        pytest.param((2, 1, 2, 1), (6.0, 6.0), 8, (4, 4), id="1:1, both short alike share"),
        pytest.param((2, 1, 2, 1), (6.0, 3.0), 8, (5, 3), id="1:1, the one that is shorter gets more"),
        pytest.param((1, 1, 6, 1), (4.0, 12.0), 9, (3, 6), id="1:1, measured against what each has"),
        pytest.param((1, 4, 1, 2), (6.0, 6.0), 24, (4, 4), id="4:2, both short alike share"),
        pytest.param((1, 4, 1, 2), (2.0, 9.0), 16, (1, 6), id="4:2, the one that is shorter gets more"),
        pytest.param((2, 4, 3, 2), (4.0, 4.0), 16, (2, 4), id="4:2, what is too small for one goes to the other"),
        pytest.param((2, 4, 3, 2), (4.0, 4.0), 15, (2, 3), id="4:2, too little for either"),
        pytest.param((2, 1, 2, 1), (6.0, 6.0), 3, (2, 2), id="a budget below what is held grows nothing and takes nothing"),
    ],
)
def test_growth_shares_what_the_budget_leaves(
    pools: tuple[int, int, int, int], asked: tuple[float, float], budget: int, given: tuple[int, int]
) -> None:
    seen = fleet(pool(PREFILL, pools[0], gpus=pools[1]), pool(DECODE, pools[2], gpus=pools[3]))
    lawful = made(seen, {PREFILL: wish(round(asked[0])), DECODE: wish(round(asked[1]))}, gpu_budget=budget)
    assert tuple(lawful.targets.values()) == given
    assert cuts(lawful) == [
        (role, Reason.GPU_BUDGET) for role, want in zip(Role, asked, strict=True) if want > lawful.targets[role]
    ]


def test_a_replica_that_drains_still_holds_its_gpus() -> None:
    seen = fleet(pool(PREFILL, 2, draining=2), pool(DECODE, 2))
    assert made(seen, {DECODE: wish(4)}, gpu_budget=6).targets[DECODE] == 2
    assert made(seen, {DECODE: wish(4)}, gpu_budget=7).targets[DECODE] == 3


def test_what_one_role_gives_back_is_not_granted_to_the_other_in_the_same_plan() -> None:
    lawful = made(fleet(pool(PREFILL, 4), pool(DECODE, 4)), {PREFILL: wish(2), DECODE: wish(6)}, gpu_budget=8)
    assert lawful.actions == (Action(PREFILL, 4, 2, Reason.DEMAND_ROSE),)
    assert cuts(lawful) == [(DECODE, Reason.GPU_BUDGET)]


@pytest.mark.parametrize("reading", [wish(0, 0.0), BLIND], ids=["idle", "unseen"])
def test_a_role_below_its_min_is_served_before_the_others_hunger(reading: Wish) -> None:
    """A new pool stands at 0 and nobody can see it; the other wants everything that is left."""
    lawful = made(fleet(pool(PREFILL, 2), pool(DECODE, 0)), {PREFILL: wish(40), DECODE: reading}, gpu_budget=4)
    assert lawful.targets == {PREFILL: 3, DECODE: 1}


def test_a_shrink_comes_before_a_growth() -> None:
    seen = fleet(pool(PREFILL, 2), pool(DECODE, 4))
    assert [a.role for a in made(seen, {PREFILL: wish(3), DECODE: wish(2)}).actions] == [DECODE, PREFILL]
    assert [a.role for a in made(seen, {PREFILL: wish(1), DECODE: wish(6)}).actions] == [PREFILL, DECODE]


# Modes, reasons, order


@pytest.mark.parametrize(("mode", "actions", "applied"), [(Mode.AUTO, 1, 1), (Mode.RECOMMEND, 1, 0), (Mode.OFF, 0, 0)])
def test_only_auto_applies_and_off_does_not_even_plan(mode: Mode, actions: int, applied: int) -> None:
    lawful = made(fleet(), {PREFILL: wish(4)}, mode=mode)
    assert (len(lawful.actions), len(lawful.to_apply)) == (actions, applied)


@pytest.mark.parametrize(
    ("mode", "reason", "text"),
    [
        (Mode.AUTO, Reason.SCALE_UP, "scale prefill 2 -> 4 (DemandRose)"),
        (Mode.RECOMMEND, Reason.SCALE_UP, "would scale prefill 2 -> 4 (DemandRose)"),
        (Mode.OFF, Reason.MODE, "prefill stays at 2"),
    ],
)
def test_every_role_gets_its_verdict(mode: Mode, reason: Reason, text: str) -> None:
    verdicts = [(f.role, f.reason, f.text) for f in made(fleet(), {PREFILL: wish(4)}, mode=mode).findings]
    other = Reason.MODE if mode is Mode.OFF else Reason.HOLD
    assert verdicts == [(PREFILL, reason, text), (DECODE, other, "decode stays at 2")]


@pytest.mark.parametrize(
    ("asked", "high", "to", "reason"),
    [
        pytest.param(wish(4), 8, 4, Reason.DEMAND_ROSE, id="the damper's reason where its number stands"),
        pytest.param(wish(9), 8, 8, Reason.SCALE_UP, id="a plain one where the guard cut it"),
        pytest.param(BLIND, 8, 3, Reason.SCALE_UP, id="a plain one where there was no number"),
    ],
)
def test_an_action_names_who_made_its_number(asked: Wish, high: int, to: int, reason: Reason) -> None:
    low = 3 if asked is BLIND else 1
    lawful = made(fleet(pool(PREFILL, 2), pool(DECODE, 4)), {PREFILL: asked}, low, high)
    assert lawful.actions == (Action(PREFILL, 2, to, reason),)


# A cluster that refuses


def refused(members: Pool, *shortages: tuple[Lack, float]) -> Pool:
    """The pool with what the cluster said, each so many seconds ago."""
    return replace(members, shortages=tuple(Shortage(lack, 1, -ago_s, "exceeded quota") for lack, ago_s in shortages))


@pytest.mark.parametrize(
    ("shortages", "wait_s", "cut"),
    [
        pytest.param([(Lack.NOT_CREATED, 0.0)], 60.0, Reason.NOT_CREATED, id="just refused"),
        pytest.param([(Lack.NOT_CREATED, 59.0)], 1.0, Reason.NOT_CREATED, id="a minute, nearly"),
        pytest.param([(Lack.NOT_CREATED, 60.0)], None, None, id="a minute ago"),
        pytest.param([(Lack.NOT_CREATED, -3600.0)], 60.0, Reason.NOT_CREATED, id="told by a clock ahead of ours"),
        pytest.param([(Lack.NODES_REFUSED, 299.0)], 1.0, Reason.NODES_REFUSED, id="no node will be added"),
        pytest.param([(Lack.NODES_REFUSED, 300.0)], None, None, id="no node was to be added five minutes ago"),
        pytest.param([(Lack.NOT_CREATED, 0.0), (Lack.NODES_REFUSED, 200.0)], 100.0, Reason.NODES_REFUSED, id="the longer wait"),
        pytest.param([(Lack.UNSCHEDULABLE, 0.0)], None, None, id="no room yet: its pods make a node come"),
        pytest.param([(Lack.FAILING, 0.0)], None, None, id="one that crashes keeps nobody else from starting"),
    ],
)
def test_a_pool_that_the_cluster_refuses_is_asked_for_again_after_a_while(
    shortages: list[tuple[Lack, float]], wait_s: float | None, cut: Reason | None
) -> None:
    lawful = made(fleet(refused(pool(DECODE, 2), *shortages)), {DECODE: wish(4), PREFILL: wish(5)})
    assert lawful.targets == {PREFILL: 5, DECODE: 4 if cut is None else 2}
    assert cuts(lawful) == ([] if cut is None else [(DECODE, cut)])
    told = [finding.inputs for finding in lawful.findings if finding.reason is cut]
    assert told == ([] if cut is None else [{"wanted": 4, "missing": 1, "wait_s": wait_s}])


@pytest.mark.parametrize(
    ("desired", "asked", "low", "given"),
    [
        pytest.param(2, wish(1), 1, 1, id="a shrink goes on"),
        pytest.param(2, wish(2), 1, 2, id="nothing shrinks for it"),
        pytest.param(2, wish(2), 4, 2, id="min waits too"),
        pytest.param(2, BLIND, 4, 2, id="min waits too, without sight"),
    ],
)
def test_a_refusal_only_holds_growth(desired: int, asked: Wish, low: int, given: int) -> None:
    members = refused(pool(DECODE, desired), (Lack.NOT_CREATED, 0.0))
    assert made(fleet(members, pool(PREFILL, 4)), {DECODE: asked}, low).targets[DECODE] == given


def test_what_a_refused_pool_does_not_ask_for_is_free_for_the_other() -> None:
    """Ten GPUs, two each held: without the refusal both would get three more."""
    seen = fleet(refused(pool(DECODE, 2), (Lack.NODES_REFUSED, 0.0)), pool(PREFILL, 2))
    assert made(seen, {DECODE: wish(8), PREFILL: wish(8)}, gpu_budget=10).targets == {PREFILL: 8, DECODE: 2}


@pytest.mark.parametrize(("mode", "applied"), [(Mode.AUTO, 2), (Mode.RECOMMEND, 0), (Mode.OFF, 0)])
def test_flips_come_before_what_starts_from_the_counts_they_leave_and_only_in_auto(mode: Mode, applied: int) -> None:
    flip = Flip(DECODE, PREFILL, 1, 1, Reason.SCALE_UP, {PREFILL: 2, DECODE: 3})
    action = Action(PREFILL, 3, 4, Reason.SCALE_UP)
    assert Plan(0.0, mode, (action,), {PREFILL: 4, DECODE: 2}, (), (flip,)).to_apply == (flip, action)[:applied]
