"""Does a flip happen when it pays, and only then?"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Fleet, Flipping, FlipWay, Phase, Replica, Role
from autoscaler.core.flip import FlipLimits, FlipTrack, Outlook, Room, choose, follow
from autoscaler.core.reason import Reason
from tests.fakes import fleet, pool

LABEL = FlipWay("label", 5.0, 1, 1, in_place=True, loses_cache=True, max_in_flight=8)
RESIZE = FlipWay("pairedResize", 120.0, 1, 2, in_place=False, loses_cache=True)
TO_DECODE, TO_PREFILL = (Role.PREFILL, Role.DECODE), (Role.DECODE, Role.PREFILL)
FULL = Room(0, dict.fromkeys(Role, 120.0))
ROOMY = Room(64, dict.fromkeys(Role, 120.0))
LIMITS = FlipLimits(enabled=True, max_in_flight=4)
NOW = 10_000.0


def flippable(prefill: int, decode: int, way: FlipWay = LABEL, back: FlipWay = LABEL) -> Fleet:
    return replace(fleet(pool(Role.PREFILL, prefill), pool(Role.DECODE, decode)), flip_ways={TO_DECODE: way, TO_PREFILL: back})


def looks(prefill: float, decode: float, *, price: float = 0.0, seen_since_s: float | None = 0.0) -> dict[Role, Outlook]:
    """What each role needs, soon and lasting."""
    needs = {Role.PREFILL: prefill, Role.DECODE: decode}
    return {role: Outlook(need, need, price, seen_since_s) for role, need in needs.items()}


def decided(
    seen: Fleet,
    outlooks: dict[Role, Outlook],
    *,
    room: Room = FULL,
    limits: FlipLimits = LIMITS,
    track: FlipTrack | None = None,
    now: float = NOW,
) -> tuple[tuple[Role, Role, int, int] | None, list[Reason]]:
    after = follow(track or FlipTrack(), seen, outlooks, limits, now)
    flip, findings = choose(now, seen, outlooks, room, limits, after)
    told = None if flip is None else (flip.from_role, flip.to_role, flip.from_replicas, flip.to_replicas)
    return told, [finding.reason for finding in findings]


def test_a_role_that_lacks_is_given_what_the_other_has_to_spare() -> None:
    flip, reasons = decided(flippable(6, 4), looks(3.2, 5.5))
    assert flip == (*TO_DECODE, 2, 2)
    assert reasons == [Reason.FLIP]


def test_no_more_than_the_donor_has_to_spare_is_flipped() -> None:
    """6 - 4.2 x 1.05 = 1.59: one, although two are wanted."""
    assert decided(flippable(6, 4), looks(4.2, 5.5))[0] == (*TO_DECODE, 1, 1)


def test_nothing_happens_while_nobody_lacks() -> None:
    assert decided(flippable(6, 4), looks(1.0, 4.0)) == (None, [])


def test_lost_caches_are_charged_to_the_donor() -> None:
    """40 % cached: 0.4 / 0.6 / 4 replicas = 17 % more work, 2.7 -> 3.15 of 4; 15 % of it to spare is no replica."""
    assert decided(flippable(4, 4), looks(2.7, 5.0))[0] == (*TO_DECODE, 1, 1)
    assert decided(flippable(4, 4), looks(2.7, 5.0, price=0.4 / 0.6), room=ROOMY)[0] is None
    kept = replace(LABEL, loses_cache=False)
    assert decided(flippable(4, 4, kept, kept), looks(2.7, 5.0, price=0.4 / 0.6))[0] == (*TO_DECODE, 1, 1)


def test_a_slow_flip_is_not_made_where_a_new_replica_is_there_as_soon() -> None:
    seen = flippable(6, 4, RESIZE)
    assert decided(seen, looks(3.2, 5.5), room=ROOMY) == (None, [Reason.FLIP_NO_FASTER])
    assert decided(seen, looks(3.2, 5.5), room=FULL)[0] == (*TO_DECODE, 1, 2)


def test_a_full_fleet_that_lacks_everywhere_is_split_to_hurt_least_and_not_back() -> None:
    """8 and 5 of 4 and 4: 2.0 is the larger load; of 3 and 5 it is 1.67."""
    flip, reasons = decided(flippable(4, 4), looks(5.0, 8.0))
    assert flip == (*TO_DECODE, 1, 1)
    assert reasons == [Reason.FLIP_RELIEF]
    assert decided(flippable(3, 5), looks(5.0, 8.0))[0] is None
    assert decided(flippable(4, 4), looks(5.0, 8.0), room=ROOMY)[0] is None


def test_the_last_replica_of_a_role_is_never_given_away() -> None:
    assert decided(flippable(1, 7), looks(0.1, 70.0))[0] is None


@pytest.mark.parametrize("seen_since_s", [None, NOW - 299.0])
def test_a_donor_not_yet_seen_for_a_window_gives_nothing(seen_since_s: float | None) -> None:
    assert decided(flippable(6, 4), looks(1.0, 8.0, seen_since_s=seen_since_s)) == (None, [Reason.FIRST_WINDOW])


def test_a_donor_that_needed_its_replicas_a_moment_ago_gives_nothing() -> None:
    busy = follow(FlipTrack(), flippable(6, 4), looks(6.0, 4.0), LIMITS, NOW - 20.0)
    assert decided(flippable(6, 4), looks(1.0, 8.0), room=ROOMY, track=busy)[0] is None
    assert decided(flippable(6, 4), looks(1.0, 8.0), room=ROOMY, track=busy, now=NOW + 11.0)[0] == (*TO_DECODE, 4, 4)


def test_a_replica_keeps_its_role_for_the_dwell_time() -> None:
    seen = flippable(6, 4)
    young = tuple(replace(one, since_s=NOW - 299.0) for one in seen.pools[Role.PREFILL].replicas[:5])
    mixed = replace(seen.pools[Role.PREFILL], replicas=(*young, *seen.pools[Role.PREFILL].replicas[5:]))
    assert decided(replace(seen, pools={**seen.pools, Role.PREFILL: mixed}), looks(1.0, 8.0))[0] == (*TO_DECODE, 1, 1)


def test_flips_under_way_count_and_are_followed_by_a_rest() -> None:
    flipping = Flipping("one", *TO_DECODE, 1, 1, Phase.DRAINING, NOW - 10.0, NOW - 10.0)
    busy = replace(flippable(6, 4), flips=(flipping,) * 4)
    assert decided(busy, looks(1.0, 8.0)) == (None, [Reason.FLIP_IN_FLIGHT])
    one = replace(flippable(6, 4), flips=(flipping,))
    assert decided(one, looks(1.0, 8.0)) == (None, [Reason.COOLDOWN])
    begun = follow(FlipTrack(), one, looks(1.0, 8.0), LIMITS, NOW)
    assert decided(flippable(6, 4), looks(1.0, 8.0), track=begun, now=NOW + 20.0)[0] == (*TO_DECODE, 4, 4)


def test_every_flip_back_doubles_the_rest_and_quiet_forgives_it() -> None:
    track, sides = FlipTrack(), (TO_DECODE, TO_PREFILL, TO_DECODE, TO_PREFILL, TO_DECODE)
    doubled = []
    for number, pair in enumerate(sides):
        at = NOW + 40.0 * number
        seen = replace(flippable(6, 4), flips=(Flipping(str(number), *pair, 1, 1, Phase.DRAINING, at, at),))
        track = follow(track, seen, looks(1.0, 1.0), LIMITS, at)
        doubled.append(track.doubled)
    assert doubled == [0, 1, 2, 3, 3]
    assert follow(track, flippable(6, 4), looks(1.0, 1.0), LIMITS, NOW + 160.0 + 8 * 300.0 + 1.0).doubled == 0


@given(
    counts=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    needs=st.tuples(st.floats(0, 40), st.floats(0, 40)),
    serving=st.integers(0, 9),
    under_way=st.integers(0, 5),
    ways=st.sampled_from((LABEL, RESIZE, replace(RESIZE, from_replicas=2, to_replicas=1))),
    free_gpus=st.sampled_from((None, 0, 8)),
)
def test_no_flip_takes_the_last_serving_replica_or_more_than_may_be_under_way(
    counts: tuple[int, int],
    needs: tuple[float, float],
    serving: int,
    under_way: int,
    ways: FlipWay,
    free_gpus: int | None,
) -> None:
    seen = flippable(*counts, ways, ways)
    some = tuple(Replica(one.name, Phase.STARTING, one.since_s) for one in seen.pools[Role.PREFILL].replicas[serving:])
    prefill = replace(seen.pools[Role.PREFILL], replicas=(*seen.pools[Role.PREFILL].replicas[:serving], *some))
    flipping = Flipping("one", *TO_DECODE, 1, 1, Phase.DRAINING, 0.0, 0.0)
    seen = replace(seen, pools={**seen.pools, Role.PREFILL: prefill}, flips=(flipping,) * under_way)
    outlooks = looks(*needs)
    track = follow(FlipTrack(), seen, outlooks, LIMITS, NOW)
    flip, findings = choose(NOW, seen, outlooks, Room(free_gpus, dict.fromkeys(Role, 60.0)), LIMITS, track)
    if flip is None:
        return
    assert seen.pools[flip.from_role].serving - flip.from_replicas >= 1
    assert under_way + flip.from_replicas // ways.from_replicas <= min(LIMITS.max_in_flight, ways.max_in_flight)
    assert flip.from_replicas * ways.to_replicas == flip.to_replicas * ways.from_replicas
    assert needs[list(Role).index(flip.to_role)] > seen.pools[flip.to_role].desired
    assert findings[-1].reason in (Reason.FLIP, Reason.FLIP_RELIEF)
