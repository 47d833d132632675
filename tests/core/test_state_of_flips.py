"""Does a fleet that has just flipped rest as long after a restart as without one?"""

from __future__ import annotations

from dataclasses import replace

from autoscaler.core.decide import Memory
from autoscaler.core.fleet import FlipWay
from autoscaler.core.flip import FlipLimits, FlipTrack, Outlook, Room, choose
from autoscaler.core.state import MOST_FLIPS, record
from tests.core.test_state import DECODE, FULL, NOW, PREFILL, changed, resumed
from tests.fakes import fleet, pool


def rests(memory: Memory, now: float) -> float | None:
    """For how many seconds more no flip may begin; None: one may."""
    way = FlipWay("label", 1.0, 1, 1, in_place=True, loses_cache=True)
    seen = replace(fleet(pool(PREFILL, 9), pool(DECODE, 2)), flip_ways={(PREFILL, DECODE): way})
    outlooks = {PREFILL: Outlook(2.0, 2.0, seen_since_s=0.0), DECODE: Outlook(4.0, 4.0, seen_since_s=0.0)}
    flip, (told,) = choose(now, seen, outlooks, Room(0, {}), FlipLimits(enabled=True, cooldown_s=30.0), memory.flips)
    return None if flip else float(told.text.rpartition("; ")[2].partition(" s of")[0])


def test_the_rest_between_flips_and_its_doubling_outlive_the_process() -> None:
    """A flip back 10 s ago doubled the 30 s, so 50 s are left; who forgot would flip at once."""
    assert rests(resumed(record(FULL)), NOW) == 50.0
    assert rests(resumed(record(replace(FULL, flips=FlipTrack()))), NOW) is None


def test_a_flip_of_roles_that_are_not_known_here_is_not_read_and_one_to_come_counts_as_now() -> None:
    raw = changed("memory.flips.begun", [[NOW + 60.0, "prefill", "decode"], [NOW, "prefill", "encode"]])
    assert resumed(raw).flips.begun == ((NOW, PREFILL, DECODE),)


def test_of_too_many_flips_the_newest_are_kept() -> None:
    begun = tuple((NOW - 100.0 + i, PREFILL, DECODE) for i in range(MOST_FLIPS + 5))
    assert resumed(record(Memory(flips=FlipTrack(begun=begun)))).flips.begun == begun[5:]
