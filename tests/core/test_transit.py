"""Which way does each kind of transaction go, and what comes of it when something goes wrong?

Timelines in a world of a few replicas, second by second. What is written is all that is asserted: the steps in their order,
what the world is like then, and why.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.transaction import OVER, Change, Heading, Kind, Step, Victim, begun, heading, split
from autoscaler.core.transit import HELP, Patience, stuck
from tests.core.transaction_life import PATIENCE, Life, change, life, routed, until, way
from tests.core.transaction_world import NEVER, Answer, Script, World

PREFILL, DECODE = Role


@pytest.mark.parametrize(
    ("kind", "grow", "steps", "counts"),
    [
        (Kind.DRAIN, 0, "leave idle shrink gone done", (2, 3)),
        (Kind.SWITCH, 0, "leave idle switch join done", (2, 4)),
        (Kind.DRAIN_FIRST, 1, "leave idle shrink gone grow ready done", (3, 3)),
        (Kind.SURGE_FIRST, 1, "grow ready leave idle shrink gone done", (3, 3)),
    ],
)
def test_undisturbed_every_kind_goes_its_path(kind: Kind, grow: int, steps: str, counts: tuple[int, int]) -> None:
    one = life(kind, grow=grow)
    assert way(one) == steps
    assert tuple(one.world.counts[role] for role in Role) == counts


def test_a_relabel_is_one_step_and_the_engine_goes_on_as_it_is() -> None:
    one = life(Kind.RELABEL, (0,), script=Script(engines_do_both=True))
    assert way(one) == "join done"
    assert (routed(one, "decode-0"), one.fault.writes) == (PREFILL, 2)


def test_a_drain_second_by_second() -> None:
    """Two requests take two seconds; one that was handed over comes after four, takes another, and three quiet looks follow."""
    one = life(Kind.DRAIN)
    seen = []
    for _ in range(11):
        one.beat()
        pod = one.world.pod("decode-3")
        seen.append((str(one.last.step), one.world.counts[DECODE], pod and pod.work))
    assert seen == [
        ("leave", 4, 2),
        ("idle", 4, 1),
        ("idle", 4, 0),
        ("idle", 4, 0),
        ("idle", 4, 1),
        ("idle", 4, 0),
        ("idle", 4, 0),
        ("shrink", 3, 0),
        ("gone", 3, 0),
        ("done", 3, None),
        ("done", 3, None),
    ]


def test_whoever_has_no_work_still_settles_for_what_was_handed_over() -> None:
    one = life(Kind.DRAIN, script=Script(load=0))
    until(one, Step.SHRINK)
    assert one.world.now - one.last.started_s >= PATIENCE.settle_s + 1
    assert way(one).endswith("done")


BACK = [
    pytest.param(Kind.DRAIN, Script(works_for_ever=True), "leave idle rejoin undone", "not idle within 24 s", id="busy"),
    pytest.param(Kind.DRAIN, Script(counts_refused=True), "leave idle shrink rejoin undone", "not shrink within 16 s", id="API"),
    pytest.param(Kind.DRAIN, Script(router_is_deaf=True), "leave rejoin undone", "not leave within 16 s", id="deaf"),
    pytest.param(
        Kind.SWITCH,
        Script(answer=Answer.REFUSES),
        "leave idle switch remake rejoin undone",
        "refused: no memory",
        id="refuses",
    ),
    pytest.param(Kind.SWITCH, Script(answer=Answer.BREAKS), "leave idle switch remake undone", "broken: half way", id="breaks"),
    pytest.param(
        Kind.SWITCH, Script(answer=Answer.LIES), "leave idle switch remake rejoin undone", "not switch within 20 s", id="lies"
    ),
    pytest.param(
        Kind.SWITCH, Script(answer=Answer.FALLS_SILENT), "leave idle switch remake undone", "not switch within 20 s", id="silent"
    ),
    pytest.param(
        Kind.DRAIN_FIRST,
        Script(newcomers_ready=0),
        "leave idle shrink gone grow ready ungrow regrow undone",
        "not ready within 20 s",
        id="drain first",
    ),
    pytest.param(
        Kind.SURGE_FIRST, Script(newcomers_ready=0), "grow ready ungrow undone", "not ready within 20 s", id="surge first"
    ),
]


@pytest.mark.parametrize(("kind", "script", "steps", "why"), BACK)
def test_what_does_not_come_true_in_time_is_undone(kind: Kind, script: Script, steps: str, why: str) -> None:
    one = life(kind, grow=1, script=replace(script))
    assert way(one) == steps
    assert one.last.why == why
    assert one.world.counts == {PREFILL: 2, DECODE: 4}
    assert routed(one, "decode-3") is DECODE


def test_a_surge_whose_victims_stay_busy_keeps_what_it_has_grown() -> None:
    one = life(Kind.SURGE_FIRST, grow=1, script=Script(works_for_ever=True))
    assert way(one) == "grow ready leave idle rejoin undone"
    assert one.world.counts == {PREFILL: 3, DECODE: 4}


def test_where_some_of_the_receiver_serve_and_some_never_do_it_is_told_stuck_and_none_is_taken() -> None:
    one = life(Kind.DRAIN_FIRST, grow=2, script=Script(newcomers_ready=1))
    assert way(one) == "leave idle shrink gone grow ready"
    assert one.stuck() == [f"ready for {one.world.now - one.last.since_s:.0f} s: {HELP[Step.READY]}"]
    assert one.world.counts == {PREFILL: 4, DECODE: 3}


def test_pods_that_never_go_are_told_and_nobody_starts_on_their_gpus() -> None:
    one = life(Kind.DRAIN_FIRST, grow=1, script=Script(going_s=NEVER))
    assert way(one) == "leave idle shrink gone"
    assert "their GPUs are not free" in one.stuck()[0]
    assert one.world.counts[PREFILL] == 2


def test_newcomers_that_serve_before_they_were_taken_back_stay() -> None:
    one = life(Kind.SURGE_FIRST, grow=1, script=Script(newcomers_ready=0))
    until(one, Step.READY)
    one.beat()
    one.world.script.counts_refused = True
    until(one, Step.UNGROW)
    one.world.pods[PREFILL][2].ready_s = one.world.now
    assert way(one).endswith("ready ungrow ready leave idle shrink rejoin undone")
    assert one.world.counts[PREFILL] == 3


def test_one_of_the_old_receivers_that_dies_does_not_have_a_serving_newcomer_taken_back() -> None:
    """As many serve as before, and the one that a lower count takes is one of them."""
    one = life(Kind.SURGE_FIRST, grow=1)
    until(one, Step.READY)
    one.world.pods[PREFILL][0].ready_s = NEVER
    assert way(one) == "grow ready"
    assert one.stuck()
    assert one.world.counts[PREFILL] == 3


def test_by_the_owner_s_word_requests_are_given_up_and_counted() -> None:
    one = life(Kind.DRAIN, script=Script(works_for_ever=True), patience=replace(PATIENCE, forces=True))
    assert way(one) == "leave idle shrink gone done"
    assert (one.last.forced, one.last.why) == (3, "3 requests given up after 24 s")


def test_nobody_is_forced_who_is_still_sent_requests() -> None:
    """What is given up could not be counted."""
    one = life(Kind.DRAIN, script=Script(works_for_ever=True), patience=replace(PATIENCE, forces=True))
    until(one, Step.IDLE)
    one.world.script.router_is_deaf = True
    one.world.relabel("decode-3", DECODE)
    assert way(one) == "leave idle rejoin undone"


def test_an_engine_that_refuses_after_the_deadline_has_lost_nobody() -> None:
    one = life(Kind.SWITCH, script=Script(works_for_ever=True), patience=replace(PATIENCE, forces=True))
    assert way(one) == "leave idle switch remake rejoin undone"
    assert one.last.forced == 0


def test_the_last_replicas_of_a_role_may_go_together_when_none_is_to_be_left() -> None:
    one = life(Kind.DRAIN, (0, 1, 2, 3))
    assert way(one) == "leave idle shrink gone done"
    assert one.world.counts[DECODE] == 0


def test_the_last_replica_of_a_role_is_not_flipped() -> None:
    world = World({PREFILL: 2, DECODE: 1}, {PREFILL: 1, DECODE: 1}, 8, Script(engines_do_both=True))
    one = Life(world)
    one.begin("one", change(world, Kind.RELABEL, (0,)))
    assert way(one) == "join rejoin undone"
    assert one.last.why == "no other decode takes requests"
    assert one.fault.writes == 2, "what was never done needs no undoing"


def test_split_where_a_victim_was_missing_lets_all_in_since_nobody_knows_which_is_spared() -> None:
    world = World({PREFILL: 2, DECODE: 4}, {PREFILL: 1, DECODE: 1}, 8)
    drain = replace(change(world, Kind.DRAIN, (2, 3)), after={DECODE: 1})
    left, back = split(begun("one", 1, drain, 0.0), 1, "wanted again", 0.0)
    assert (left.change.victims, left.change.after) == ((), {DECODE: 4})
    assert back.change.victims == drain.victims


def test_what_leads_where_is_told_ahead() -> None:
    world = World({PREFILL: 2, DECODE: 4}, {PREFILL: 1, DECODE: 1}, 8)
    switch = begun("one", 1, change(world, Kind.SWITCH, (0,)), 0.0)
    surge = begun("two", 1, change(world, Kind.SURGE_FIRST, (3,), 1), 0.0)
    assert heading((switch, surge)) == Heading({PREFILL: 3, DECODE: 3}, {"decode-0": PREFILL})
    kept = replace(surge, step=Step.IDLE).returning("wanted again", 0.0)
    taken = replace(surge, step=Step.READY).returning("late", 0.0)
    assert heading((switch.returning("wanted again", 0.0), kept)) == Heading({PREFILL: 3, DECODE: 4}, {"decode-0": DECODE})
    assert heading((taken,)).counts == {PREFILL: 2, DECODE: 4}


def test_a_count_that_somebody_who_may_has_changed_moves_both_of_ours_along() -> None:
    surge = change(World({PREFILL: 2, DECODE: 4}, {PREFILL: 1, DECODE: 1}, 8), Kind.SURGE_FIRST, (3,), 1)
    moved = surge.rebased(PREFILL, 2)
    assert (moved.before, moved.after, moved.takes) == ({PREFILL: 4, DECODE: 4}, {PREFILL: 5, DECODE: 3}, 1)


def test_what_waits_is_told_only_after_its_time_and_never_once_it_is_over() -> None:
    one = begun("one", 1, Change(Kind.RELABEL, DECODE, PREFILL, (Victim("d", "u"),)), 0.0)
    assert stuck(one, 60.0, Patience()) == ""
    assert stuck(one, 61.0, Patience()) == f"join for 61 s: {HELP[Step.JOIN]}"
    assert [stuck(replace(one, step=step), 1e6, Patience()) for step in OVER] == ["", ""]
    assert set(HELP) == set(Step) - OVER
