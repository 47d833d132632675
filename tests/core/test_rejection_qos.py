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
from autoscaler.core.qos import HOLDBACK, LEND_AFTER_S, REMEMBER_MOST, Mix, Promise, favoured, most_full, own_up_to
from autoscaler.core.rejection import Why
from tests.core.rejection_world import (
    FREE,
    MEAN,
    NOW,
    PREMIUM,
    arrivals,
    judged,
    line,
    own_of,
    rules,
    standing,
    standings,
    strategies,
)

RESERVED = replace(PREMIUM, priority=0)
BOTH = rules(FREE, RESERVED, sureness=0.5)
FREE_ONE, RESERVED_ONE = MEAN, MEAN._replace(qos="premium")


def queue_of(seconds: float) -> Standing:
    """A fleet whose queue a newcomer waits for so long: 4 replicas, 0.1 s each, seen a second ago."""
    return standing(line(waiting=round((4 * seconds + 4 - 0.1) / 0.1)))


def test_reserved_capacity_is_lent_while_nobody_asks_for_it() -> None:
    seen = queue_of(1.6)  # of the 1.87 s that 2 s of promise leave
    assert judged(FREE_ONE, seen, own_of({"free": 1.0}), BOTH, NOW).why is Why.FITS


def test_reserved_capacity_is_taken_back_with_the_first_that_asks() -> None:
    seen, asked = queue_of(1.6), own_of({"free": 1.0}).asked("premium", NOW)
    assert judged(FREE_ONE, seen, asked, BOTH, NOW).why is Why.RESERVED
    assert judged(RESERVED_ONE, seen, asked, BOTH, NOW).why is Why.FITS
    assert judged(FREE_ONE, replace_seen(seen, LEND_AFTER_S), asked, BOTH, NOW + LEND_AFTER_S + 0.1).why is Why.FITS


def replace_seen(seen: Standing, later_s: float) -> Standing:
    """The same picture, taken later."""
    return replace(seen, crowds={role: replace(crowd, seen_s=crowd.seen_s + later_s) for role, crowd in seen.crowds.items()})


def test_what_the_owner_holds_itself_is_not_kept_free_for_it() -> None:
    """After the longest prompts a promise leaves 1.5 s. A queue of 1.3 s, all of it others', leaves the owner less than its 40 %;
    if half of it is the owner's it leaves enough.
    """
    seen = queue_of(1.3)
    assert judged(FREE_ONE, seen, own_of({"free": 1.0, "premium": 0.01}), BOTH, NOW).why is Why.RESERVED
    assert judged(FREE_ONE, seen, own_of({"free": 0.5, "premium": 0.5}), BOTH, NOW).why is Why.FITS


@given(arrival=arrivals, seen=standings, strategy=strategies, work=st.floats(0.0, 100.0))
def test_a_class_that_holds_less_than_it_reserved_is_refused_for_its_own_promise_alone(
    arrival: Arrival, seen: Standing, strategy: Strategy, work: float
) -> None:
    """Its part of the mix is below 0.4, so it holds less than that of anything that is not over full."""
    greedy = replace(PREMIUM, name="greedy", priority=9, reserved=dict.fromkeys(Role, 0.5))
    own = own_of({"premium": 0.39 * work, "greedy": 0.61 * work})
    together = rules(FREE, RESERVED, greedy, strategy=strategy)
    verdict = judged(arrival._replace(qos="premium"), seen, own, together, NOW)
    alone = judged(arrival._replace(qos="premium"), seen, own, rules(RESERVED, strategy=strategy), NOW)
    assert verdict.why is not Why.RESERVED
    assert verdict.admit == alone.admit


@given(arrival=arrivals, strategy=strategies, work=st.floats(0.0, 10.0))
def test_reservations_take_nothing_from_a_fleet_that_nobody_waits_for(arrival: Arrival, strategy: Strategy, work: float) -> None:
    own, brief = own_of({"premium": work, "free": 10.0 - work}), arrival._replace(prompt_tokens=1000.0, uncached_tokens=1000.0)
    assert judged(brief, standing(line(0.0)), own, rules(FREE, PREMIUM, strategy=strategy), NOW).admit


@given(seen=standings, strategy=strategies, work=st.floats(0.0, 10.0))
def test_who_is_above_is_never_refused_where_who_is_below_is_let_in(seen: Standing, strategy: Strategy, work: float) -> None:
    own, both = own_of({"premium": work, "free": 10.0 - work}), rules(FREE, PREMIUM, strategy=strategy)
    if judged(FREE_ONE, seen, own, both, NOW).admit:
        assert judged(RESERVED_ONE, seen, own, both, NOW).admit


def test_a_higher_class_finds_room_even_without_a_reservation() -> None:
    above = replace(PREMIUM, reserved={})
    mix = Mix().asked("premium", NOW)
    assert most_full(FREE, above, Role.PREFILL, mix, NOW) == 1 - HOLDBACK
    assert most_full(above, FREE, Role.PREFILL, mix.asked("free", NOW), NOW) == math.inf


def test_room_is_left_for_the_longest_prompts_that_are_promised_anything() -> None:
    """A prompt of mean length takes 0.12 s of 2 s alone; the longest of a hundred, 5.4 times as long, takes 0.56 s."""
    seen, own = queue_of(1.02), own_of({"free": 1.0, "premium": 0.01})
    careful = replace(RESERVED, promises={kind: replace(one, quantile=0.999) for kind, one in RESERVED.promises.items()})
    assert judged(FREE_ONE, seen, own, BOTH, NOW).why is Why.FITS
    assert judged(FREE_ONE, seen, own, rules(FREE, careful, sureness=0.5), NOW).why is Why.RESERVED


def test_the_mix_forgets() -> None:
    mix = Mix().admitted("a", 4.0, 0.0, 0.0).admitted("b", 1.0, 0.0, 40.0)
    assert mix.part("a", Sizing.QUEUE) == pytest.approx(0.5)
    assert mix.part("a", Sizing.BATCH) == 0.0
    assert own_up_to(FREE, Role.PREFILL, mix) == -math.inf


@pytest.mark.parametrize(("share", "longer"), [(1.0, 1.0), (0.25, 4.0), (0.001, REMEMBER_MOST)])
def test_who_sees_a_share_of_the_load_waits_so_much_longer_until_a_class_counts_as_gone(share: float, longer: float) -> None:
    mix = Own().since(NOW - 2, share).asked("premium", NOW).mix
    assert mix.active("premium", NOW + longer * LEND_AFTER_S - 0.1)
    assert not mix.active("premium", NOW + longer * LEND_AFTER_S + 0.1)


DOUBTFUL = standing(line(waiting=110))  # expected after 1.85 s of 2, but with nine chances of ten after 2.2


def test_who_has_others_below_it_is_not_refused_in_doubt() -> None:
    both, asks = rules(FREE, replace(PREMIUM, reserved={})), own_of({"free": 5.0, "premium": 5.0})
    assert judged(FREE_ONE, DOUBTFUL, Own(), both, NOW).why is Why.TTFT
    assert judged(RESERVED_ONE, DOUBTFUL, asks, both, NOW).admit
    assert not judged(RESERVED_ONE, standing(line(waiting=200)), asks, both, NOW).admit


def test_where_nobody_is_left_to_give_way_everybody_is_judged_alike() -> None:
    both, asks = rules(FREE, replace(PREMIUM, reserved={})), own_of({"free": 0.5, "premium": 9.5})
    assert not favoured(("free",), asks.mix)
    assert judged(RESERVED_ONE, DOUBTFUL, asks, both, NOW).why is Why.TTFT


@pytest.mark.parametrize(
    ("asked_s", "given_s"), [(1.5, 1.5), (0.1, 1.0), (99.0, 4.0), (math.nan, 2.0), (-1.0, 2.0), (math.inf, 2.0)]
)
def test_what_a_client_asks_for_stays_within_its_class(asked_s: float, given_s: float) -> None:
    assert Promise(2.0, 1.0, 4.0).clamped(asked_s) == given_s


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
