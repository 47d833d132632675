"""How does a recording become the traffic of a run?

A recording is an iterator of `Recorded` requests, sorted, with the first at 0 s. A `Slice` cuts a part out of it and
changes how many users there are:

    scale 2.5   each request is sent twice, every second one thrice (a coin decides); the copies come within a second
                of the original
    scale 0.4   two of five are sent

Time goes at its own pace, so bursts keep their shape and length; only their height changes. A copy finds as much of
its prompt in cache as the original did: other users with other prompts, not the same prompt again. So the prompt blocks
of second copies get names of their own, those of third ones others, and second copies share prefixes with each other as
the originals do. Where a coin decides, a conversation can lose a turn, and the next one's own hit with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import NamedTuple

from autoscaler.refusal import Refusal
from autoscaler.simulator.workload import Request

COPY_SPREAD_S = 1.0
COPY_BLOCKS = 1 << 40  # what separates the names of the blocks of one copy from those of the next


class Recorded(NamedTuple):
    """One request of a recording; `cached_tokens` is the part of the prompt that was in cache, `blocks` its names."""

    arrival_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a recording, in its own seconds, and how many users in place of one. Raises Refusal if absurd."""

    start_s: float = 0.0
    duration_s: float = math.inf
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < math.inf:
            raise Refusal(f"start_s {self.start_s:g} is not >= 0")
        if not self.duration_s > 0:
            raise Refusal(f"duration_s {self.duration_s:g} is not > 0")
        if not 0 < self.scale < math.inf:
            raise Refusal(f"scale {self.scale:g} is not > 0")

    @property
    def end_s(self) -> float:
        """Where the part ends, in the recording's seconds."""
        return self.start_s + self.duration_s


def replayed(recording: Iterator[Recorded], part: Slice, rng: Random) -> Iterator[Request]:
    """The part's requests, sorted and numbered, its begin at time 0. `rng` is asked about copies only."""
    ids = count()
    for recorded in _scaled(cut(recording, part), part.scale, rng):
        yield Request(next(ids), *recorded)


def cut(recording: Iterator[Recorded], part: Slice) -> Iterator[Recorded]:
    """The part, unscaled, its begin at time 0. What comes before it is read too: it fills the prefix cache."""
    for recorded in recording:
        if recorded.arrival_s >= part.end_s:
            return
        if recorded.arrival_s >= part.start_s:
            yield recorded._replace(arrival_s=recorded.arrival_s - part.start_s)


def _scaled(recording: Iterator[Recorded], scale: float, rng: Random) -> Iterator[Recorded]:
    """Originals in their order, copies between them; `later` holds the copies of the last second."""
    always, sometimes = divmod(scale, 1.0)
    later: list[Recorded] = []
    for original in recording:
        while later and later[0].arrival_s <= original.arrival_s:
            yield heappop(later)
        copies = int(always) + (rng.random() < sometimes)
        if copies:
            yield original
        for number in range(1, copies):
            heappush(later, _copy(original, number, original.arrival_s + rng.uniform(0, COPY_SPREAD_S)))
    while later:
        yield heappop(later)


def _copy(original: Recorded, number: int, arrival_s: float) -> Recorded:
    """What another user sends in place of the original's."""
    return original._replace(arrival_s=arrival_s, blocks=tuple(block + number * COPY_BLOCKS for block in original.blocks))
