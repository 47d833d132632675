"""What becomes of a transaction when somebody else acts meanwhile, or its owner calls it off?

Nothing of ours is lost, nobody is left out of routing, and it ends; why is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY
from autoscaler.core.transaction import Kind, Step, split
from autoscaler.core.transit import called_off
from tests.core.transaction_life import PATIENCE, Life, change, life, routed, until, way
from tests.core.transaction_world import Script, World

PREFILL, DECODE = Role

Meddling = Callable[[World], None]
MEDDLING: list[tuple[str, Kind, Step, Meddling, str, str]] = [
    (
        "somebody else scales the donor before the write",
        Kind.DRAIN, Step.IDLE, lambda w: w.scale(DECODE, 5), "leave idle shrink rejoin undone", "somebody else made decode 5",
    ),
    (
        "somebody else takes the victim",
        Kind.DRAIN, Step.IDLE, lambda w: w.scale(DECODE, 2), "leave idle shrink rejoin undone", "somebody else made decode 2",
    ),
    (
        "somebody else gives the freed GPUs to the donor again",
        Kind.DRAIN_FIRST, Step.GONE, lambda w: w.scale(DECODE, 4),
        "leave idle shrink gone regrow undone", "somebody else made decode 4",
    ),
    (
        "somebody else raises a donor that has just been drained",
        Kind.DRAIN, Step.GONE, lambda w: w.scale(DECODE, 5), "leave idle shrink gone done", "",
    ),
    (
        "somebody else scales the receiver meanwhile",
        Kind.DRAIN_FIRST, Step.IDLE, lambda w: w.scale(PREFILL, 4),
        "leave idle shrink gone grow ungrow regrow undone", "somebody else made prefill 4",
    ),
    (
        "somebody else takes the newcomers",
        Kind.DRAIN_FIRST, Step.READY, lambda w: w.scale(PREFILL, 2),
        "leave idle shrink gone grow ready ungrow regrow undone", "somebody else made prefill 2",
    ),
    (
        "somebody else raises the donor of a surge that has not grown yet",
        Kind.SURGE_FIRST, Step.GROW, lambda w: w.scale(DECODE, 6), "grow ungrow undone", "somebody else made decode 6",
    ),
    (
        "the victim of a drain is made anew",
        Kind.DRAIN, Step.IDLE, lambda w: w.delete("decode-3"), "leave idle shrink gone done", "",
    ),
    (
        "the victim of a switch is made anew",
        Kind.SWITCH, Step.IDLE, lambda w: w.delete("decode-3"), "leave idle undone",
        "made anew meanwhile, in the role of its template",
    ),
    (
        "the label of a drained victim is set back",
        Kind.DRAIN, Step.IDLE, lambda w: w.relabel("decode-3", DECODE), "leave idle shrink gone done", "",
    ),
    (
        "all others die while a victim drains",
        Kind.DRAIN, Step.IDLE, lambda w: w.fail("decode-0", "decode-1", "decode-2"),
        "leave idle rejoin undone", "no other decode takes requests",
    ),
    (
        "a switched engine crashes into its old role",
        Kind.SWITCH, Step.JOIN, lambda w: w.restart("decode-3"),
        "leave idle switch join remake rejoin undone", "its engine is in its old role again",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "at", "meddle", "steps", "why"), [row[1:] for row in MEDDLING], ids=[row[0] for row in MEDDLING]
)
def test_somebody_else_may_do_anything_and_nothing_of_ours_is_lost(
    kind: Kind, at: Step, meddle: Meddling, steps: str, why: str
) -> None:
    one = life(kind, grow=1)
    one.world.budget = 99
    until(one, at)
    if at is Step.JOIN:
        one.world.pods[DECODE][3].routed = AWAY
    meddle(one.world)
    assert way(one) == steps
    assert one.last.why == why
    assert one.world.over == 0
    assert one.world.bared == []
    assert AWAY not in {pod.routed for pods in one.world.pods.values() for pod in pods.values()}


def test_a_victim_that_was_let_in_again_settles_again() -> None:
    """Or the last request that it was handed in that second is lost: it has no other work, so it looks idle at once."""
    one = life(Kind.DRAIN, script=Script(load=0))
    until(one, Step.IDLE)
    for _ in range(3):
        one.beat()
    one.world.relabel("decode-3", DECODE)
    one.beat()
    let_in_s = one.world.now
    until(one, Step.SHRINK)
    assert one.world.now - let_in_s >= PATIENCE.settle_s
    assert way(one).endswith("done")


def test_a_label_that_is_set_back_after_the_drain_and_before_the_count_calls_it_off() -> None:
    one = life(Kind.DRAIN, script=Script(counts_refused=True))
    until(one, Step.SHRINK)
    one.world.relabel("decode-3", DECODE)
    one.world.script.counts_refused = False
    assert way(one) == "leave idle shrink rejoin undone"
    assert one.last.why == "sent requests again by somebody else"


def test_a_replica_that_was_missing_and_is_back_is_not_taken_along() -> None:
    """Five to three of which only one stood: the other serves by now, and nobody has drained it."""
    world = World({PREFILL: 2, DECODE: 4}, {PREFILL: 1, DECODE: 1}, 8)
    one = Life(world)
    one.begin("one", replace(change(world, Kind.DRAIN, (2,)), after={DECODE: 2}))
    assert way(one) == "leave idle shrink rejoin undone"
    assert one.last.why == "1 more decode would go along"


def test_called_off_it_lets_its_victims_in_again_and_later_it_is_too_late() -> None:
    one = life(Kind.DRAIN)
    until(one, Step.IDLE)
    back = called_off(one.last, "wanted again", one.world.now)
    assert back is not None
    one.stored.put(one.world.now, back)
    one.reread()
    assert way(one) == "leave idle rejoin undone"
    assert one.world.counts[DECODE] == 4
    assert called_off(back, "again", 0.0) is None
    assert called_off(replace(one.last, step=Step.SHRINK, undoing=False), "again", 0.0) is None


def test_split_it_lets_the_first_victims_in_again_and_goes_on_with_those_that_a_lower_count_takes() -> None:
    one = life(Kind.DRAIN, (1, 2, 3))
    until(one, Step.IDLE)
    for _ in range(2):
        left = next(each for each in one.under_way() if each.key == "one")
        one.stored.put(one.world.now, *split(left, 1, "wanted again", one.world.now))
        one.reread()
    one.run(120)
    assert one.stored.way["one"][-3:] == [Step.SHRINK, Step.GONE, Step.DONE]
    assert (one.world.lost, one.world.counts[DECODE]) == (0, 3)
    assert [routed(one, f"decode-{number}") for number in range(4)] == [DECODE, DECODE, DECODE, None]
    assert {key: end.step for key, end in one.stored.ended.items()} == {
        "one": Step.DONE,
        "oneb2": Step.UNDONE,
        "oneb1": Step.UNDONE,
    }
