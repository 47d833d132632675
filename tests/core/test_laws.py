"""The laws of DESIGN.md section 3 that every single look must keep, over random runs of a whole fleet (laws_world.py).

    1   targets stay within min and max, floors included; what is held and asked for never exceeds the GPU budget, not even
        while a flip or a resize is half done
    2   a role that is not seen in full gives nothing up: it neither shrinks nor flips away
    3   after a restart nothing shrinks or flips until a whole window was seen
    6   no role loses its last serving replica to a flip or a scale-down; zero is joint; few flips are under way at once
    11  every number shown has a reason
    12  the same observation, memory and policy give the same plan
    13  outside Auto nothing is applied

All are asked at every look of the same runs, since a run costs more than asking. Laws 4 and 5 are in test_laws_of_rest.py, law
8 in test_laws_of_restart.py, flips over time in test_flip_machine.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.action import Mode, Verdict
from autoscaler.core.decide import decide
from autoscaler.core.fleet import Role
from autoscaler.core.plan import BACKOFF_S
from autoscaler.core.reason import Reason
from autoscaler.core.status import document, status_of
from tests.core.flipping_fleet import FlippingFleet
from tests.core.laws_world import BUDGET, FLIPS, HIGH, WINDOW_S, Look, Turn, follow, hasty, runs, worlds
from tests.examples import examples

VERDICTS = ("ScaleUp", "ScaleDown", "Hold")
WANTED = hasty()
CUT_SHORT = (Reason.GPU_BUDGET, Reason.NOT_CREATED, Reason.NODES_REFUSED)


def targets_stay_within_max_and_reach_min_unless_told_why_not(turn: Turn) -> bool:
    """Min as raised by a floor. What is below it may be for want of GPUs or for a refusal, and then does not shrink."""
    plan, bounds = turn.decision.plan, WANTED.bounds(turn.observation.now)
    cut = {finding.role for finding in plan.findings if finding.reason in CUT_SHORT}
    low = {role for role, count in plan.targets.items() if count < bounds[role].min_replicas}
    kept = all(role in cut and plan.targets[role] >= turn.fleet.pools[role].desired for role in low)
    return all(count <= HIGH for count in plan.targets.values()) and (turn.sleeps() or kept)


def gpus_held_promised_and_in_use_stay_within_the_budget(turn: Turn) -> bool:
    in_use = sum(len(pool.replicas) * pool.gpus_per_replica for pool in turn.after.pools.values())
    return in_use <= turn.after.gpus_held <= BUDGET


def what_is_not_seen_in_full_gives_nothing_up(turn: Turn) -> bool:
    return not turn.shrinks() & turn.dim


def after_a_restart_nothing_shrinks_or_flips_for_a_window(turn: Turn) -> bool:
    return turn.running_s >= WINDOW_S or not turn.shrinks()


def each_role_that_served_still_does_unless_all_sleep(turn: Turn) -> bool:
    """Whether the newest or the oldest go first, and not counting those who only serve until others have come."""
    left = {role: pool.serving - pool.leaving for role, pool in turn.after.pools.items()}
    return turn.sleeps() or all(left[role] >= 1 for role, pool in turn.fleet.pools.items() if pool.serving - pool.leaving >= 1)


def no_role_is_taken_to_zero_alone(turn: Turn) -> bool:
    targets = turn.decision.plan.targets
    return turn.sleeps() or all(targets[role] > 0 for role, pool in turn.fleet.pools.items() if pool.desired > 0)


def few_flips_are_under_way(turn: Turn) -> bool:
    most = min([FLIPS.max_in_flight, *(way.max_in_flight for way in turn.fleet.flip_ways.values())])
    return len(turn.after.flips) <= most


def every_write_is_one_that_the_cluster_can_carry_out(turn: Turn) -> bool:
    """In its order: an action starts from the counts that the flip before it leaves, and the last leads to the targets."""
    reached = {role: pool.desired for role, pool in turn.after.pools.items()}
    return all(one.verdict is Verdict.APPLIED for one in turn.outcomes) and reached == turn.decision.plan.targets


def the_status_is_plain_json_with_a_verdict_for_each_role(turn: Turn) -> bool:
    said = json.loads(json.dumps(document(status_of(turn.observation, turn.decision, (), WANTED)), allow_nan=False))
    if turn.sleeps():
        return bool([finding for finding in said["findings"] if finding["reason"] == Reason.IDLE])
    verdicts = [finding["role"] for finding in said["findings"] if finding["reason"] in VERDICTS]
    moved = [finding["role"] for finding in said["findings"] if finding["reason"] in ("ScaleUp", "ScaleDown")]
    flips = [finding for finding in said["findings"] if finding["reason"] in ("Flip", "FlipForRelief")]
    told = len(flips) >= len(said["flips"])
    return verdicts == list(Role) and sorted(moved) == sorted(action["role"] for action in said["actions"]) and told


def the_same_inputs_give_the_same_decision(turn: Turn) -> bool:
    return decide(turn.observation, turn.memory, WANTED) == turn.decision


LAWS: tuple[Callable[[Turn], bool], ...] = (
    targets_stay_within_max_and_reach_min_unless_told_why_not,
    gpus_held_promised_and_in_use_stay_within_the_budget,
    what_is_not_seen_in_full_gives_nothing_up,
    after_a_restart_nothing_shrinks_or_flips_for_a_window,
    each_role_that_served_still_does_unless_all_sleep,
    no_role_is_taken_to_zero_alone,
    few_flips_are_under_way,
    every_write_is_one_that_the_cluster_can_carry_out,
    the_status_is_plain_json_with_a_verdict_for_each_role,
    the_same_inputs_give_the_same_decision,
)


def test_every_look_keeps_every_law() -> None:
    """And the runs shrink, flip and sleep often enough: a law about flips holds by itself where nothing flips."""
    tried: Counter[str] = Counter(shrinks=0, flips=0, under_way=0, sleeps=0)

    @given(worlds(), runs)
    def keep_every_law(world: FlippingFleet, run: list[Look]) -> None:
        for turn in follow(world, run, WANTED):
            assert [law.__name__ for law in LAWS if not law(turn)] == []
            shrinks, flips = len(turn.shrinks()), len(turn.decision.plan.flips)
            tried.update(shrinks=shrinks, flips=flips, under_way=len(turn.fleet.flips), sleeps=turn.sleeps())

    keep_every_law()
    assert min(tried.values()) >= 5, tried


@examples(10)
@given(worlds(), runs, st.sampled_from((Mode.OFF, Mode.RECOMMEND)))
def test_outside_auto_nothing_is_applied(world: FlippingFleet, run: list[Look], mode: Mode) -> None:
    """And a flip that was only recommended leaves no trace in the memory, or it would brake the next one for nothing."""
    for turn in follow(world, run, hasty(mode)):
        assert turn.decision.plan.to_apply == ()
        assert turn.decision.memory.flips.begun == ()


@examples(10)
@given(worlds(), runs)
def test_a_pool_that_the_cluster_refuses_is_not_grown_for_a_while_and_nothing_else_changes(
    world: FlippingFleet, run: list[Look]
) -> None:
    """Against the same tick without the refusal: the pool keeps its count instead of growing and never shrinks for it; the
    other one gets what it would have got, or more where the budget was short.
    """
    for turn, look in zip(follow(world, run, WANTED), run, strict=True):
        if look.refused is None:
            continue
        role, lack, ago_s = look.refused
        unrefused = replace(turn.fleet, pools={one: replace(pool, shortages=()) for one, pool in turn.fleet.pools.items()})
        free = decide(replace(turn.observation, fleet=unrefused), turn.memory, WANTED).plan
        waits = max(0.0, ago_s) < BACKOFF_S.get(lack, 0.0)
        stands = {one: pool.desired for one, pool in turn.fleet.pools.items()}
        for flip in turn.decision.plan.flips:
            stands[flip.from_role] -= flip.from_replicas
            stands[flip.to_role] += flip.to_replicas
        for one, count in turn.decision.plan.targets.items():
            if one is role:
                assert count == (min(free.targets[one], stands[one]) if waits else free.targets[one])
            else:
                assert count >= free.targets[one]
