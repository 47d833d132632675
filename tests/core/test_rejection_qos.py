"""Does each class get what is reserved for it, and nobody less than its due?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.arrivals import SLOT_S, Arrival, Burden, Own
from autoscaler.core.fleet import Role, Sizing
from autoscaler.core.outlook import Standing, Strategy
from autoscaler.core.qos import HOLDBACK, LEND_AFTER_S, Mix, Promise, class_of, most_full, within_its_own
from autoscaler.core.rejection import Why, judge
from tests.core.rejection_world import FREE, MEAN, NOW, PREMIUM, arrivals, line, own_of, rules, standing, standings, strategies

RESERVED = replace(PREMIUM, priority=0)
BOTH = rules(FREE, RESERVED, sureness=0.5)
FREE_ONE, RESERVED_ONE = MEAN, replace(MEAN, qos="premium")


def queue_of(seconds: float) -> Standing:
    """A fleet whose queue a newcomer waits for so long: 4 replicas, 0.1 s each, seen a second ago."""
    return standing(line(waiting=round((4 * seconds + 4 - 0.1) / 0.1)))


def test_reserved_capacity_is_lent_while_nobody_asks_for_it() -> None:
    seen = queue_of(1.6)  # of the 1.87 s that 2 s of promise leave
    assert judge(FREE_ONE, seen, own_of({"free": 1.0}), BOTH, NOW).why is Why.FITS


def test_reserved_capacity_is_taken_back_with_the_first_that_asks() -> None:
    seen, asked = queue_of(1.6), own_of({"free": 1.0}).asked("premium", NOW)
    assert judge(FREE_ONE, seen, asked, BOTH, NOW).why is Why.RESERVED
    assert judge(RESERVED_ONE, seen, asked, BOTH, NOW).why is Why.FITS
    assert judge(FREE_ONE, replace_seen(seen, LEND_AFTER_S), asked, BOTH, NOW + LEND_AFTER_S + 0.1).why is Why.FITS


def replace_seen(seen: Standing, later_s: float) -> Standing:
    """The same picture, taken later."""
    return replace(seen, crowds={role: replace(crowd, seen_s=crowd.seen_s + later_s) for role, crowd in seen.crowds.items()})


def test_what_the_owner_holds_itself_is_not_kept_free_for_it() -> None:
    """After the longest prompts a promise leaves 1.5 s. A queue of 1.3 s, all of it others', leaves the owner less than its 40 %;
    if half of it is the owner's it leaves enough.
    """
    seen = queue_of(1.3)
    assert judge(FREE_ONE, seen, own_of({"free": 1.0, "premium": 0.01}), BOTH, NOW).why is Why.RESERVED
    assert judge(FREE_ONE, seen, own_of({"free": 0.5, "premium": 0.5}), BOTH, NOW).why is Why.FITS


@given(arrival=arrivals, seen=standings, strategy=strategies, work=st.floats(0.0, 100.0))
def test_a_class_that_holds_less_than_it_reserved_is_refused_for_its_own_promise_alone(
    arrival: Arrival, seen: Standing, strategy: Strategy, work: float
) -> None:
    """Its part of the mix is below 0.4, so it holds less than that of anything that is not over full."""
    greedy = replace(PREMIUM, name="greedy", priority=9, reserved=dict.fromkeys(Role, 0.5))
    own = own_of({"premium": 0.39 * work, "greedy": 0.61 * work})
    together = rules(FREE, RESERVED, greedy, strategy=strategy)
    verdict = judge(replace(arrival, qos="premium"), seen, own, together, NOW)
    alone = judge(replace(arrival, qos="premium"), seen, own, rules(RESERVED, strategy=strategy), NOW)
    assert verdict.why is not Why.RESERVED
    assert verdict.admit == alone.admit


@given(arrival=arrivals, strategy=strategies, work=st.floats(0.0, 10.0))
def test_reservations_take_nothing_from_a_fleet_that_nobody_waits_for(arrival: Arrival, strategy: Strategy, work: float) -> None:
    own, brief = own_of({"premium": work, "free": 10.0 - work}), replace(arrival, prompt_tokens=1000.0, uncached_tokens=1000.0)
    assert judge(brief, standing(line(0.0)), own, rules(FREE, PREMIUM, strategy=strategy), NOW).admit


@given(seen=standings, strategy=strategies, work=st.floats(0.0, 10.0))
def test_who_is_above_is_never_refused_where_who_is_below_is_let_in(seen: Standing, strategy: Strategy, work: float) -> None:
    own, both = own_of({"premium": work, "free": 10.0 - work}), rules(FREE, PREMIUM, strategy=strategy)
    if judge(FREE_ONE, seen, own, both, NOW).admit:
        assert judge(RESERVED_ONE, seen, own, both, NOW).admit


def test_a_higher_class_finds_room_even_without_a_reservation() -> None:
    above = replace(PREMIUM, reserved={})
    mix = Mix().asked("premium", NOW)
    assert most_full(FREE, above, Role.PREFILL, mix, NOW) == 1 - HOLDBACK
    assert most_full(above, FREE, Role.PREFILL, mix.asked("free", NOW), NOW) == math.inf


def test_room_is_left_for_the_longest_prompts_that_are_promised_anything() -> None:
    """A prompt of mean length takes 0.12 s of 2 s alone; the longest of a hundred, 5.4 times as long, takes 0.56 s."""
    seen, own = queue_of(1.02), own_of({"free": 1.0, "premium": 0.01})
    careful = replace(RESERVED, promises={kind: replace(one, quantile=0.999) for kind, one in RESERVED.promises.items()})
    assert judge(FREE_ONE, seen, own, BOTH, NOW).why is Why.FITS
    assert judge(FREE_ONE, seen, own, rules(FREE, careful, sureness=0.5), NOW).why is Why.RESERVED


def test_the_mix_forgets() -> None:
    mix = Mix().admitted("a", 4.0, 0.0, 0.0).admitted("b", 1.0, 0.0, 40.0)
    assert mix.part("a", Sizing.QUEUE, 40.0) == pytest.approx(0.5)
    assert mix.part("a", Sizing.BATCH, 40.0) == 0.0
    assert not within_its_own(FREE, Role.PREFILL, 0.1, mix, 40.0)


@pytest.mark.parametrize(
    ("asked_s", "given_s"), [(1.5, 1.5), (0.1, 1.0), (99.0, 4.0), (math.nan, 2.0), (-1.0, 2.0), (math.inf, 2.0)]
)
def test_what_a_client_asks_for_stays_within_its_class(asked_s: float, given_s: float) -> None:
    assert Promise(2.0, 1.0, 4.0).clamped(asked_s) == given_s


def test_a_request_is_of_the_first_class_that_it_matches() -> None:
    gold = replace(PREMIUM, headers=(("x-tier", "gold"),), objectives=frozenset({"chat-gold"}))
    free = replace(FREE, headers=(("x-tier", "free"), ("x-batch", "1")))
    told = [
        class_of([gold, free], {"x-tier": "gold", "x-batch": "1"}),
        class_of([gold, free], {"x-batch": "1"}),
        class_of([gold, free], {"x-batch": "1"}, "chat-gold"),
        class_of([gold, free], {"x-tier": "Gold"}),
    ]
    assert told == [gold, free, gold, None]


@given(st.lists(st.tuples(st.floats(0.0, 0.3), st.floats(0.0, 5.0)), max_size=200))
def test_no_burst_makes_what_is_remembered_long_and_nothing_is_lost(steps: list[tuple[float, float]]) -> None:
    own, now = Own(), NOW
    for gap_s, work_s in steps:
        now += gap_s
        own = own.admitted(Burden(work_s, 100.0, now + 60), "free", now)
    assert len(own.slots) <= (now - NOW) / SLOT_S + 1
    unseen = own.unseen(-math.inf, now)
    assert (unseen.requests, unseen.tokens) == (len(steps), 100.0 * len(steps))
    assert unseen.work_s == pytest.approx(sum(work_s for _, work_s in steps))


def test_what_a_picture_shows_is_forgotten_and_what_is_computed_waits_no_longer() -> None:
    own = Own().admitted(Burden(1.0, 10.0, NOW + 1), "free", NOW).admitted(Burden(2.0, 20.0, NOW + 3), "free", NOW + 0.5)
    assert own.since(NOW + 0.2).unseen(NOW + 0.2, NOW + 0.6) == Burden(2.0, 20.0, NOW + 0.6, 1.0)
    assert own.unseen(NOW - 1, NOW + 2) == Burden(2.0, 30.0, NOW + 2, 2.0)
    assert own.since(NOW + 0.5).slots == ()
