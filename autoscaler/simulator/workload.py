"""What do users send, and when?

A `Request` is its arrival and three lengths; whoever serves it knows no more in advance. Synthetic traffic comes as
generators, sorted by arrival, the same for the same `random.Random`:

    constant        Poisson arrivals at one rate
    synthetic_day   arrivals whose rate follows the hour, for several crowds with their own request lengths

shapes.py has more: waves, spikes, ramps, a walk through different kinds of requests.

Lengths are lognormal with a given mean and coefficient of variation, clipped to 1..cap; the traces we have are about
that shape (Azure conversation prompts: mean 1155, p99 4142). The day's rate is constant within one step of 1/288 day
(5 minutes of a real day). Inside a step gaps are exponential, and since those have no memory, drawing anew at each
step's end is exact, without rejected draws.

The default day has three movements that a fixed prefill:decode split cannot serve: people chat from the morning on
(short prompts, long answers), documents come in the afternoon (long prompts, short answers), and twice a day, at hours
the seed chooses, everything arrives 1.8 times as fast for 45 minutes. At 10:30 prefill gets about 1.5 uncached prompt
tokens per output token, at 15:00 about 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Protocol

STEPS_PER_DAY = 288
HOURS_PER_DAY = 24.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request: when it arrives at the gateway, its whole prompt, the part of it already in cache, its output.

    `id` is unique among the requests of a run. `blocks` name the prompt's 512-token blocks, each by all that stands before
    its end, where a trace tells them. A replica with a prefix cache of its own looks these up and leaves `cached_tokens`
    aside; without one `cached_tokens` is what counts: a prefix is never taken off twice.
    """

    id: int
    arrival_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()


class Drawn(Protocol):
    """A distribution of token counts."""

    def draw(self, rng: Random) -> int:
        """One length, at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class Lengths:
    """A lognormal token count: its mean, its coefficient of variation (0: always the mean), and the longest allowed."""

    mean: float
    cv: float = 0.0
    cap: int = 32_768

    def draw(self, rng: Random) -> int:
        """One length, 1..cap."""
        if self.cv == 0:
            return min(self.cap, max(1, round(self.mean)))
        variance = math.log1p(self.cv * self.cv)
        drawn = rng.lognormvariate(math.log(self.mean) - variance / 2, math.sqrt(variance))
        return min(self.cap, max(1, round(drawn)))


@dataclass(frozen=True, slots=True)
class Between:
    """A token count anywhere from `least` to `most`, all alike likely."""

    least: int
    most: int

    def draw(self, rng: Random) -> int:
        """One length, both ends included."""
        return rng.randint(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Kind:
    """What one kind of request looks like; `cached_share` of its prompt is found in the prefix cache (0..1)."""

    prompt: Drawn
    output: Drawn
    cached_share: float = 0.0

    def draw(self, request_id: int, arrival_s: float, rng: Random) -> Request:
        """One request of this kind. At least one prompt token is always computed, as engines do."""
        prompt = self.prompt.draw(rng)
        cached = min(int(prompt * self.cached_share), prompt - 1)
        return Request(request_id, arrival_s, prompt, cached, self.output.draw(rng))


@dataclass(frozen=True, slots=True)
class Rise:
    """A bell over the day: `rps` more at `hour`, fading with standard deviation `width_h`."""

    hour: float
    width_h: float
    rps: float


@dataclass(frozen=True, slots=True)
class Crowd:
    """People who send one kind of request: `floor_rps` at all hours, plus their rises."""

    kind: Kind
    floor_rps: float
    rises: tuple[Rise, ...] = ()

    def rps(self, hour: float) -> float:
        """Requests per second at this hour (0..24); midnight has no seam."""
        bells = (rise.rps * math.exp(-0.5 * (_apart(hour, rise.hour) / rise.width_h) ** 2) for rise in self.rises)
        return self.floor_rps + sum(bells)


CHAT = Crowd(
    Kind(Lengths(600, 1.0, 8_192), Lengths(350, 0.8, 2_048), cached_share=0.25),
    floor_rps=3.0,
    rises=(Rise(10.5, 3.0, 26.0), Rise(20.0, 1.8, 14.0)),
)
DOCUMENTS = Crowd(
    Kind(Lengths(6_000, 0.7, 32_768), Lengths(150, 0.8, 1_024)),
    floor_rps=0.2,
    rises=(Rise(15.0, 1.5, 8.0),),
)


@dataclass(frozen=True, slots=True)
class Day:
    """How a day goes. `length_s`: seconds a day takes (86,400, or less to see it sooner); `scale` multiplies every rate.

    Everything is told in hours of the day, bursts too, so a shorter day keeps its shape and its rates.
    """

    crowds: tuple[Crowd, ...] = (CHAT, DOCUMENTS)
    length_s: float = 86_400.0
    start_hour: float = 0.0
    scale: float = 1.0
    bursts: int = 2
    burst_factor: float = 1.8
    burst_h: float = 0.75
    burst_hours: tuple[float, float] = (8.0, 21.0)


# Two hours instead of 24. At 60 times real time five seconds of viewing are an hour of the day: the morning's peak comes
# after 20 s, the documents' after 42 s, the evening's after 67 s, midnight after 87 s, and 6:30 again after two minutes.
DEMO_DAY = Day(length_s=7_200.0, start_hour=6.5)


def constant(rng: Random, kind: Kind, rate_rps: float, duration_s: float = math.inf) -> Iterator[Request]:
    """Poisson arrivals at `rate_rps` from 0 to `duration_s`."""
    arrival_s = rng.expovariate(rate_rps)
    for request_id in count():
        if arrival_s >= duration_s:
            return
        yield kind.draw(request_id, arrival_s, rng)
        arrival_s += rng.expovariate(rate_rps)


def synthetic_day(rng: Random, day: Day = DEMO_DAY, duration_s: float = math.inf) -> Iterator[Request]:
    """The day's requests from `start_hour` on, at time 0, day after day until `duration_s`."""
    step_s = day.length_s / STEPS_PER_DAY
    first_step = round(day.start_hour / HOURS_PER_DAY * STEPS_PER_DAY)
    ids, bursts = count(), _bursts(rng, day)
    for step in count(first_step):
        begin_s = (step - first_step) * step_s
        if begin_s >= duration_s:
            return
        if step % STEPS_PER_DAY == 0:
            bursts = _bursts(rng, day)
        hour = step % STEPS_PER_DAY * HOURS_PER_DAY / STEPS_PER_DAY
        rates = _rates(day, hour, bursts)
        yield from _step(rng, day, rates, ids, (begin_s, min(begin_s + step_s, duration_s)))


def _bursts(rng: Random, day: Day) -> tuple[float, ...]:
    return tuple(rng.uniform(*day.burst_hours) for _ in range(day.bursts))


def _rates(day: Day, hour: float, bursts: tuple[float, ...]) -> list[float]:
    factor = day.scale * (day.burst_factor if any(0 <= hour - start < day.burst_h for start in bursts) else 1.0)
    return [crowd.rps(hour) * factor for crowd in day.crowds]


def _step(rng: Random, day: Day, rates: list[float], ids: Iterator[int], span_s: tuple[float, float]) -> Iterator[Request]:
    """The arrivals of one step: one Poisson stream of the summed rate, each arrival given to a crowd by its share."""
    total = sum(rates)
    if total <= 0:
        return
    arrival_s = span_s[0] + rng.expovariate(total)
    while arrival_s < span_s[1]:
        crowd = rng.choices(day.crowds, rates)[0]
        yield crowd.kind.draw(next(ids), arrival_s, rng)
        arrival_s += rng.expovariate(total)


def _apart(hour: float, other: float) -> float:
    """Hours between two times of day, the shorter way round."""
    gap = abs(hour - other) % HOURS_PER_DAY
    return min(gap, HOURS_PER_DAY - gap)
