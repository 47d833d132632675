"""Kill the process between any two writes: does the next leader reach the same end? (Law 8 of DESIGN.md.)

A run is cut at a look that writes. Once all its writes are made and the process lives; once only the first few are made, or
none, and another goes on from what was on record before. From there on the load is steady and nobody interferes. Both must
come to rest with as many replicas of each role, but for one: 3.2 replicas' worth of load is within the tolerance of 3, and
of two splits of a full budget that carry as much each is a fixed point.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Fleet, Role
from tests.core.flipping_fleet import FlippingFleet
from tests.core.laws_world import BUDGET, HIGH, LOW, Look, follow, hasty, runs, worlds
from tests.examples import examples

WANTED = hasty()
SETTLED_LOOKS = 80  # start, drain, window, a flip and every step down, one after the other


def end_of(world: FlippingFleet, run: Sequence[Look]) -> Fleet:
    """The fleet after this run, within its budget throughout."""
    turns = list(follow(world, run, WANTED))
    assert all(turn.after.gpus_held <= BUDGET for turn in turns)
    return turns[-1].after


def check(world: FlippingFleet, run: list[Look], which: int, writes: int, rps: float) -> None:
    """Cut at one of the looks that write, with so many of its writes made."""
    writing = [number for number, turn in enumerate(follow(deepcopy(world), run, WANTED)) if turn.outcomes]
    if not writing:
        return
    at = writing[which % len(writing)]
    tail = [Look(rps)] * SETTLED_LOOKS
    whole = end_of(deepcopy(world), [*run[: at + 1], *tail])
    resumed = [replace(tail[0], restarted="resumed"), *tail[1:]]
    cut = end_of(world, [*run[:at], replace(run[at], writes=writes), *resumed])
    assert whole.flips == cut.flips == ()
    for role in Role:
        counts = [fleet.pools[role].desired for fleet in (whole, cut)]
        assert all(LOW <= count <= HIGH for count in counts)
        assert max(counts) - min(counts) <= 1


CUTS = (worlds(), runs, st.integers(0, 9), st.integers(0, 2), st.sampled_from((2.0, 9.0, 16.0, 30.0)))


@examples(4)
@given(*CUTS)
def test_a_leader_killed_between_two_writes_is_followed_to_the_same_end(
    world: FlippingFleet, run: list[Look], which: int, writes: int, rps: float
) -> None:
    check(world, run, which, writes, rps)


@pytest.mark.slow  # half a minute of CPU
@examples(20)
@given(*CUTS)
def test_wherever_it_is_killed_it_is_followed_to_the_same_end(
    world: FlippingFleet, run: list[Look], which: int, writes: int, rps: float
) -> None:
    check(world, run, which, writes, rps)
