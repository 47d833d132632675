"""Does each decision become one transaction, once, and is nothing lost of those under way?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.transactions.beginning import Beginnings, Write
from autoscaler.adapters.kubernetes.transactions.book import Book
from autoscaler.adapters.kubernetes.transactions.choosing import ways
from autoscaler.adapters.kubernetes.transactions.ground import Ground
from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import FlipWay, Role
from autoscaler.core.reason import Reason
from autoscaler.core.transaction import Kind, Step, Transaction
from autoscaler.core.transaction_record import record
from autoscaler.policy.behaviour import FlipDriver
from tests.adapters.kubernetes.transactions.standing_fleet import (
    NOW,
    D,
    P,
    fleet,
    ground,
    moving,
    pod,
    pods,
    standing,
    undone,
)
from tests.adapters.kubernetes.transactions.test_book import KEY, LOST, TERM, StoreOf, kept

UNPLACED = pod("prefill-2", "prefill", ready_s=None, ip="")
DWELL: dict[str, Any] = {"behaviour": {"flip": {"enabled": True, "dwellSeconds": 60.0}}}


class Desk:
    """Beginnings over a store; what is stored at first is what the ground has under way."""

    def __init__(self, of: Ground) -> None:
        self.ground, self.store = of, StoreOf(*record(of.under_way))
        self.book = Book(self.store, lambda key: kept())
        self._beginnings = Beginnings(self.book)

    @property
    def stored(self) -> tuple[Transaction, ...]:
        found = self.book.under_way(KEY, TERM, NOW)
        assert isinstance(found, tuple)
        return found

    def scale(self, role: Role, seen: int, wanted: int) -> Outcome | Write:
        reason = Reason.SCALE_UP if wanted > seen else Reason.SCALE_DOWN
        return self._beginnings.scale(KEY, self.ground, Action(role, seen, wanted, reason), NOW, TERM)

    def over(self, step: Step, why: str, rest_s: float = 600.0, ago_s: float = 0.0) -> None:
        """What is under way has ended."""
        for one in self.stored:
            ended = replace(one, step=step, why=why)
            assert self.book.put(KEY, TERM, NOW, ended) is None
            self._beginnings.over(KEY, ended, NOW - ago_s, rest_s)

    def told(self, role: Role, seen: int, wanted: int) -> tuple[Verdict, str]:
        found = self.scale(role, seen, wanted)
        assert isinstance(found, Outcome), found
        return found.verdict, found.detail

    def flip(self, take: int = 1, by: FlipDriver = FlipDriver.RELABEL, give: int = 1, **way: Any) -> tuple[Verdict, str]:
        seen = {role: pool.desired for role, pool in self.ground.pools.items()}
        found = self._beginnings.flip(
            KEY, self.ground, Flip(P, D, take, give, Reason.FLIP, seen), flip_way(self.ground, by, **way), NOW, TERM
        )
        return found.verdict, found.detail


def flip_way(of: Ground, by: FlipDriver, *, first: bool = False) -> FlipWay:
    way = ways(of.spec, by, fleet(of))[P, D]
    return FlipWay(way.driver, way.takes_s, 1, 1, way.in_place, way.loses_cache, grows_first=first)


def test_a_shrink_of_those_that_serve_is_a_drain_of_the_last() -> None:
    desk = Desk(ground(4))
    assert desk.told(P, 4, 2) == (Verdict.APPLIED, "begun: drain-prefill-2-10000")
    (one,) = desk.stored
    assert (one.change.kind, one.step, one.epoch) == (Kind.DRAIN, Step.LEAVE, TERM)
    assert [victim.name for victim in one.change.victims] == ["prefill-2", "prefill-3"]
    assert (one.change.before, one.change.after) == ({P: 4}, {P: 2})


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(ground(3, routed=False), id="nothing takes it out of routing"),
        pytest.param(ground(standing(3, *pods(P, 0, 1))), id="nobody stands who would go"),
        pytest.param(ground(standing(3, *pods(P, 0, 1), UNPLACED)), id="it has no address"),
    ],
)
def test_what_takes_nobody_who_works_is_written_at_once(of: Ground) -> None:
    desk = Desk(of)
    assert desk.scale(P, 3, 2) == Write(3, 2)
    assert desk.stored == ()


def test_one_that_is_not_ready_but_has_an_address_may_be_busy_and_is_drained() -> None:
    desk = Desk(ground(standing(3, *pods(P, 0, 1), pod("prefill-2", "prefill", ready_s=None))))
    assert desk.told(P, 3, 2)[0] is Verdict.APPLIED
    assert len(desk.stored) == 1


def test_two_ticks_never_begin_the_same_twice() -> None:
    desk = Desk(ground(3))
    assert desk.told(P, 3, 2)[0] is Verdict.APPLIED
    desk.ground = ground(3, 2, *desk.stored)
    assert desk.told(P, 3, 2) == (Verdict.CONFLICT, "2 are wanted by now, not 3")
    assert desk.told(P, 2, 1) == (Verdict.PENDING, "drain-prefill-2-10000 comes first")
    assert len(desk.stored) == 1


def test_a_count_that_includes_a_lent_replica_is_the_targets() -> None:
    desk = Desk(ground(standing(3, *pods(P, 0, 1, 2, at_0="decode"))))
    assert desk.scale(D, 3, 4) == Write(2, 3)
    assert desk.told(P, 2, 1)[0] is Verdict.APPLIED
    assert (desk.stored[0].change.after, desk.stored[0].change.victims[0].name) == ({P: 2}, "prefill-2")


def test_a_lent_replica_is_not_scaled_away_from_whom_it_was_lent_to() -> None:
    desk = Desk(ground(standing(3, *pods(P, 0, 1, 2, at_0="decode"))))
    why = "3 fewer are wanted and 2 are its own: those it has borrowed have to flip back first"
    assert desk.told(D, 3, 0) == (Verdict.REFUSED, why)
    end = Desk(ground(standing(3, *pods(P, 0, 1, 2, at_2="decode"))))
    assert end.told(P, 2, 1) == (Verdict.REFUSED, "prefill-2 would go, and does decode now: it has to flip back first")


def test_a_drain_that_is_wanted_again_in_part_lets_the_first_come_back() -> None:
    one = moving(Kind.DRAIN, Step.IDLE, ["prefill-2", "prefill-3"], {P: 4})
    desk = Desk(ground(4, 2, one))
    assert desk.told(P, 2, 3) == (Verdict.APPLIED, "drain-x is called off: its replicas are let in again")
    left, back = desk.stored
    assert ([victim.name for victim in left.change.victims], left.change.after, left.step) == (["prefill-3"], {P: 3}, Step.IDLE)
    assert ([victim.name for victim in back.change.victims], back.step) == (["prefill-2"], Step.REJOIN)
    assert {role: pool.desired for role, pool in ground(4, 2, left, back).pools.items()} == {P: 3, D: 2}


def test_a_drain_that_is_wanted_again_as_a_whole_goes_back_as_a_whole() -> None:
    one = moving(Kind.DRAIN, Step.LEAVE, ["prefill-2"])
    desk = Desk(ground(3, 2, one))
    assert desk.told(P, 2, 4)[0] is Verdict.APPLIED
    (back,) = desk.stored
    assert (back.step, back.undoing, back.why) == (Step.REJOIN, True, "wanted again")
    assert ground(3, 2, back).pools[P].desired == 3


@pytest.mark.parametrize("step", [Step.SHRINK, Step.GONE])
def test_a_drain_that_cannot_be_called_back_comes_first(step: Step) -> None:
    desk = Desk(ground(3, 2, moving(Kind.DRAIN, step, ["prefill-2"])))
    wished = desk.ground.pools[P].desired
    assert desk.told(P, wished, wished + 1) == (Verdict.PENDING, "drain-x comes first")


def test_the_counts_of_a_resize_move_along_with_growth_beside_it() -> None:
    one = moving(Kind.DRAIN_FIRST, Step.IDLE, ["prefill-2"])
    write = Desk(ground(3, 2, one)).scale(D, 3, 5)
    assert isinstance(write, Write)
    assert (write.seen, write.wanted, [(of.change.before, of.change.after) for of in write.moved]) == (
        2,
        4,
        [({P: 3, D: 4}, {P: 2, D: 5})],
    )
    assert ground(3, 4, *write.moved).pools[D].desired == 5


@pytest.mark.parametrize("step", [Step.GROW, Step.READY])
def test_the_donors_of_a_surge_do_not_grow_before_they_have_gone(step: Step) -> None:
    """Another pod would be the last then, and go in the victim's place."""
    desk = Desk(ground(3, 2, moving(Kind.SURGE_FIRST, step, ["prefill-2"])))
    assert desk.told(P, 2, 3) == (Verdict.PENDING, "surgeFirst-x comes first")


def test_the_donors_of_a_resize_may_grow_once_they_have_gone() -> None:
    desk = Desk(ground(2, 3, moving(Kind.DRAIN_FIRST, Step.READY, ["prefill-2"])))
    write = desk.scale(P, 2, 3)
    assert isinstance(write, Write)
    assert [(one.change.before[P], one.change.after[P]) for one in write.moved] == [(4, 3)]


def test_growth_beside_a_way_back_moves_it_along() -> None:
    write = Desk(ground(2, 3, undone(Kind.DRAIN_FIRST, Step.READY, Step.UNGROW, ["prefill-2"]))).scale(D, 2, 3)
    assert isinstance(write, Write)
    assert (write.seen, write.wanted, write.moved[0].change.before[D], write.moved[0].change.after[D]) == (3, 4, 3, 4)


def test_a_flip_in_place_is_one_transaction_for_each_replica() -> None:
    desk = Desk(ground(4, **DWELL))
    assert desk.flip(2, give=2) == (Verdict.APPLIED, "begun: relabel-prefill-0-10000, relabel-prefill-1-10000")
    assert [one.step for one in desk.stored] == [Step.JOIN, Step.JOIN]
    desk.ground = ground(4, 2, *desk.stored, **DWELL)
    assert {role: pool.desired for role, pool in desk.ground.pools.items()} == {P: 2, D: 4}
    assert desk.flip(3, give=3) == (Verdict.PENDING, "2 of 3 prefill replicas are free to change their role")


def test_a_flip_that_was_decided_on_what_is_past_is_a_conflict() -> None:
    desk = Desk(ground(3, **DWELL))
    flip = Flip(P, D, 1, 1, Reason.FLIP, {P: 4, D: 2})
    found = desk._beginnings.flip(KEY, desk.ground, flip, flip_way(desk.ground, FlipDriver.RELABEL), NOW, TERM)
    assert (found.verdict, found.detail) == (Verdict.CONFLICT, "the fleet is no longer what the flip was decided on")


@pytest.mark.parametrize(("first", "kind"), [(False, Kind.DRAIN_FIRST), (True, Kind.SURGE_FIRST)])
def test_a_paired_resize_is_one_transaction_with_both_counts(first: bool, kind: Kind) -> None:
    desk = Desk(ground(4))
    assert desk.flip(2, FlipDriver.PAIRED_RESIZE, first=first)[0] is Verdict.APPLIED
    (one,) = desk.stored
    assert (one.change.kind, one.change.before, one.change.after) == (kind, {P: 4, D: 2}, {P: 2, D: 3})
    assert [victim.name for victim in one.change.victims] == ["prefill-2", "prefill-3"]
    desk.ground = ground(4, 2, one)
    assert desk.flip(1, FlipDriver.PAIRED_RESIZE, first=first) == (Verdict.PENDING, f"{one.key} comes first")


def test_a_resize_takes_no_more_than_a_target_has_of_its_own() -> None:
    desk = Desk(ground(standing(1, *pods(P, 0)), standing(3, *pods(D, 0, 1, 2, at_0="prefill"))))
    why = "prefill has 1 of its own: those it has borrowed have to flip back first"
    assert desk.flip(2, FlipDriver.PAIRED_RESIZE) == (Verdict.REFUSED, why)
    empty = Desk(ground(standing(2, *pods(P, 0))))
    assert empty.flip(1, FlipDriver.PAIRED_RESIZE) == (Verdict.REFUSED, "no prefill replica stands that could go")


def test_what_could_not_be_stored_is_not_begun() -> None:
    desk = Desk(ground(3))
    desk.store.fault = LOST
    assert desk.told(P, 3, 2) == (Verdict.FAILED, f"not written: {LOST}")
    desk.store.fault = None
    assert desk.stored == ()


@pytest.mark.parametrize(
    ("step", "why", "ago_s", "rests"),
    [
        pytest.param(Step.UNDONE, "not idle within 600 s", 0.0, True, id="it came to nothing"),
        pytest.param(Step.UNDONE, "not idle within 600 s", 600.0, False, id="long ago"),
        pytest.param(Step.UNDONE, "wanted again", 0.0, False, id="it was called off"),
        pytest.param(Step.DONE, "", 0.0, False, id="it was done"),
    ],
)
def test_what_came_to_nothing_is_not_tried_again_at_once(step: Step, why: str, ago_s: float, rests: bool) -> None:
    desk = Desk(ground(4))
    desk.told(P, 4, 3)
    desk.over(step, why, ago_s=ago_s)
    verdict, detail = desk.told(P, 4, 3)
    if rests:
        assert (verdict, detail) == (Verdict.PENDING, "undone before (not idle within 600 s); tried again in 600 s")
        assert not desk.stored
    else:
        assert verdict is Verdict.APPLIED
    assert isinstance(desk.scale(P, 4, 5), Write)  # growth does not wait


def test_one_roles_rest_is_not_the_others() -> None:
    desk = Desk(ground(4))
    desk.told(P, 4, 3)
    desk.over(Step.UNDONE, "not idle within 600 s")
    assert desk.told(D, 2, 1)[0] is Verdict.APPLIED
