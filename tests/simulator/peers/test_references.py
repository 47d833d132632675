"""Are the references what they say: a bound nobody can beat, and the cheapest of what was searched?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from autoscaler.core.action import Mode
from autoscaler.core.capacity import Shape, Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.ports import Managed
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.peers import Flip
from autoscaler.simulator.peers.best_static import best_static
from autoscaler.simulator.peers.clairvoyant_flipper import ClairvoyantFlipper
from autoscaler.simulator.peers.lower_bound import LowerBound, lower_bound
from autoscaler.simulator.peers.oracle import oracle
from autoscaler.simulator.peers.schedule import FLAT, Drafts, Schedule
from autoscaler.simulator.peers.static import Static
from autoscaler.simulator.peers.trial import Trial, gpu_hours
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.workload import Request
from tests.examples import examples
from tests.simulator.peers.looks import look, rows
from tests.simulator.small_fleet import KEY, PROFILE, changed

P, D = Role.PREFILL, Role.DECODE
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.99), SloKind.TPOT: Slo(SloKind.TPOT, 0.020, 0.99)}
PLAIN = changed(decode_s=(0.010, 0.001, 0.0), max_seqs=64)


def policy(most: int = 4) -> Policy:
    return Policy(Mode.AUTO, SLOS, dict.fromkeys(Role, PoolLimits(1, most)), PLAIN)


def bound_of(requests: list[Request], share: float = 1.0) -> LowerBound:
    return lower_bound(requests, policy(), {P: 4, D: 2}, interval_s=10.0, until_s=20.0, share=share)


def test_the_bound_is_the_work_by_hand() -> None:
    # 400 uncached tokens take 0.5 s, 100 outputs 0.2 s (the module's example); 30 of them in the first ten seconds
    bound = bound_of([Request(at, at / 10, 500, 100, 100) for at in range(30)])
    assert bound.work[P] == pytest.approx((1.5, 0.0))
    assert bound.work[D] == pytest.approx((0.6, 0.0))
    assert bound.replicas == {P: pytest.approx((1.5, 1.0)), D: pytest.approx((1.0, 1.0))}
    assert bound.gpu_hours == pytest.approx((2.5 * 4 + 2.0 * 2) * 10 / 3600)


def test_the_bound_leaves_out_the_costliest_that_may_be_missed() -> None:
    requests = [Request(at, at / 10, 100, 0, 10) for at in range(9)] + [Request(9, 0.9, 5000, 0, 10)]
    assert bound_of(requests, share=0.9).work[P][0] == pytest.approx(9 * 0.2 / 10)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"max_seqs": 5}, 0.1 + 100 / 5 * 0.010),  # five at most share a step
        ({"kv_tokens": 500}, 0.1 + (100 * 100 + 5000) / 500 * 0.010),  # 150 resident on average: 3.3 share a step
    ],
)
def test_sequences_and_memory_bound_a_batch_too(changes: dict[str, int], seconds: float) -> None:
    tight = replace(policy(), profile=changed(PLAIN, **changes))
    requests = [Request(0, 0.0, 100, 0, 100)]
    bound = lower_bound(requests, tight, {P: 1, D: 1}, interval_s=1.0, until_s=1.0)
    assert bound.work[D][0] == pytest.approx(seconds)


def test_a_tpot_below_one_step_is_refused() -> None:
    hasty = replace(policy(), slos={**SLOS, SloKind.TPOT: Slo(SloKind.TPOT, 0.010, 0.99)})
    with pytest.raises(ValueError, match=r"TPOT SLO 0\.01 s is not > 0\.01 s"):
        lower_bound([Request(0, 0.0, 1, 0, 1)], hasty, {P: 1, D: 1}, interval_s=1.0, until_s=1.0)


def trial(begin: int = 1) -> Trial:
    """A block of load from 60 s to 120 s: 4 requests/s of 0.5 s prefill and 40 outputs; little before and after."""
    times = [at / 1.0 for at in range(60)] + [60 + at / 4 for at in range(240)] + [120.0 + at for at in range(60)]
    requests = [Request(at, arrival_s, 400, 0, 40) for at, arrival_s in enumerate(times)]
    fleet = FleetSpec(KEY, PLAIN, {P: PoolSpec(begin), D: PoolSpec(begin)}, StartUp(15.0, 0.0))
    return Trial(Scenario(fleet, SLOS), requests, Managed(KEY, "", "", policy(), gateway="llm-d"), 180.0)


def test_the_best_fixed_fleet_holds_and_one_fewer_does_not() -> None:
    searched = trial()
    best = best_static(searched, 0.99)
    assert best.feasible
    assert best.runs == searched.runs <= 12
    for role in best.replicas:
        fewer = {**best.replicas, role: best.replicas[role] - 1}
        if fewer[role] >= 1:
            attainment = trial().of(Static(fewer), fewer).attainment
            assert attainment is not None
            assert attainment < 0.99


def test_a_fixed_fleet_that_cannot_hold_is_called_infeasible() -> None:
    narrow = trial()
    narrow.managed = replace(narrow.managed, policy=policy(most=1))
    best = best_static(narrow, 0.99)
    assert (best.feasible, best.replicas) == (False, {P: 1, D: 1})


def test_the_oracle_lies_between_the_bound_and_the_best_fixed_fleet() -> None:
    searched = trial()
    found = oracle(searched, {P: 3, D: 1}, 0.99, interval_s=15.0, most_runs=40)
    assert found.feasible
    assert found.runs == searched.runs <= 41
    assert found.bound.gpu_hours < gpu_hours(found.score) < gpu_hours(best_static(trial(), 0.99).score)
    assert found.gap == pytest.approx(gpu_hours(found.score) / found.bound.gpu_hours - 1)
    assert trial().of(found.schedule, found.schedule.begins) == found.score


@given(rates=st.lists(st.sampled_from((0.5, 1.0, 2.0, 4.0)), min_size=3, max_size=5), start_up_s=st.sampled_from((15.0, 60.0)))
@example(rates=[4.0, 4.0, 4.0], start_up_s=60.0)  # who begins with one of each has missed a third when the first others serve
@example(rates=[0.5, 0.5, 4.0, 0.5], start_up_s=60.0)
@examples(2)
def test_the_oracle_is_never_dearer_than_the_best_fixed_fleet_nor_misses_more(rates: list[float], start_up_s: float) -> None:
    times = [block * 30.0 + at / rate for block, rate in enumerate(rates) for at in range(int(30 * rate))]
    requests = [Request(at, arrival_s, 400, 0, 40) for at, arrival_s in enumerate(times)]
    loaded = replace(trial(), requests=requests, until_s=30.0 * len(rates))
    loaded.scenario = replace(loaded.scenario, fleet=replace(loaded.scenario.fleet, start_up=StartUp(start_up_s, 0.0)))
    fixed = best_static(loaded, 0.99)
    found = oracle(loaded, fixed.replicas, 0.99, interval_s=15.0, most_runs=8)
    assert found.feasible >= fixed.feasible
    if fixed.feasible:
        assert gpu_hours(found.score) <= gpu_hours(fixed.score)
    assert (found.score.attainment or 0.0) >= min(0.99, fixed.score.attainment or 0.0)


def test_an_oracle_that_cannot_hold_says_so() -> None:
    narrow = trial()
    narrow.managed = replace(narrow.managed, policy=policy(most=1))
    assert not oracle(narrow, {P: 1, D: 1}, 0.99, interval_s=15.0, most_runs=20).feasible


def test_a_run_that_is_lost_ends_early_and_one_that_holds_is_the_whole() -> None:
    one, three = {P: 1, D: 1}, {P: 3, D: 1}
    assert trial().holds(Static(one), 0.99, one) is None
    held = trial().holds(Static(three), 0.99, three)
    assert held is not None
    whole = trial().foreseen(Static(three), three)
    assert (held.score(), held.serving, held.moving) == (whole.score(), whole.serving, whole.moving)


def test_a_run_is_looked_at_once_a_step_and_at_its_end_however_it_is_played() -> None:
    """180 s in steps of 50: at 50, 100, 150 and 180 s. Two more are asked for at 60 s, and serve 15 s later."""
    grown = Schedule(60.0, {P: (1, 3, 3), D: (1, 1, 1)})
    slow = trial()
    slow.step_s = 50.0
    played = slow.foreseen(grown, grown.begins)
    assert (played.serving[P], played.moving[P]) == ([1, 3, 3, 3], [0, 0, 0, 0])
    slow.step_s = 65.0
    held = slow.holds(grown, 0.0, grown.begins)
    assert held is not None
    assert (held.serving[P], held.moving[P]) == ([1, 3, 3], [2, 0, 0])


def test_more_than_the_budget_is_never_drafted_and_whoever_is_less_busy_gives() -> None:
    bound = LowerBound(30.0, {P: (2.0,), D: (1.0,)}, {}, 0.0)
    drafts = Drafts(bound, replace(policy(most=8), gpu_budget=6), {P: 1, D: 1}, 0.0, {P: 4, D: 4})
    assert drafts.schedule({P: (0,), D: (0,)}).replicas == {P: (2,), D: (1,)}
    assert drafts.schedule({P: (FLAT,), D: (FLAT,)}).replicas == {P: (4,), D: (2,)}


def test_a_schedule_follows_its_path_and_keeps_its_end() -> None:
    path = Schedule(30.0, {P: (1, 2, 3)})
    seen = look({P: rows(1), D: rows(1)}, now=59.0)
    at = [path.step(replace(seen, now=now), None)[0].replicas[P] for now in (0.0, 30.0, 59.0, 60.0, 900.0)]
    assert at == [1, 2, 2, 3, 3]


def test_the_clairvoyant_flipper_makes_the_busier_role_least_busy() -> None:
    peer = ClairvoyantFlipper(30.0, {P: (3.0, 1.0), D: (5.0, 1.0)})
    fleet = {P: rows(7), D: rows(3)}
    assert peer.step(look(fleet, now=0.0), None)[0].flips == (Flip(P, D, 3),)  # 4 + 6: 0.83; 3 + 7: 1.0
    assert peer.step(look(fleet, now=30.0), None)[0].flips == (Flip(P, D, 2),)  # 5 + 5
    assert peer.step(look({P: rows(2), D: rows(1)}, now=30.0), None)[0].flips == ()  # as good as 1 + 2: it stays


def test_the_clairvoyant_flipper_needs_what_the_laws_leave_of_a_replica() -> None:
    bound = LowerBound(30.0, {P: (1.5,), D: (4.0,)}, {}, 0.0)
    needs = ClairvoyantFlipper.of(bound, replace(policy(), profile=PROFILE), Shape(500, 400, 100)).needs
    assert needs[P][0] > 1.5
    assert needs[D][0] > 4.0
