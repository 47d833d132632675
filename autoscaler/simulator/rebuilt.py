"""Which requests would leave these traces in a metrics database?

What was recorded is a rate, mean lengths and histograms of lengths, step by step; what a run needs is requests. In between
stand assumptions, and each is counted, so that nobody takes a rebuilt day for the day itself:

    when        as many requests in a step as its rate says, the fractions carried over to the next. Within the step each
                comes at a random moment, as users who do not know of each other do (a Poisson process, given its count),
                or evenly, which is the kindest there can be. Bursts shorter than a step are lost either way
    how long    drawn from the step's own histogram, its mean kept (spread.py). Without one all requests of the step have
                the mean; in a step in which nobody finished they have the lengths of the nearest step with any
    cached      prompt and uncached part share their rank: the longest prompt has the longest uncached part
    answers     are drawn by themselves, though in truth a document gets a shorter one than a chat
    holes       steps nobody knows the load of are not played, nor are those beside them, which may be recorded in part only.
                They cut the past into pieces, and a piece of less than five steps is left out

Lengths are recorded when a request ends and are taken for those that arrive then, which is late by what one request takes.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import count, groupby
from random import Random

from autoscaler.core.capacity import Shape
from autoscaler.core.observation import Histogram
from autoscaler.refusal import Refusal
from autoscaler.simulator.past import Past
from autoscaler.simulator.spread import Spread
from autoscaler.simulator.streams import stream
from autoscaler.simulator.workload import Request

LEAST_STEPS = 5
LENGTHS = ("prompt_tokens", "uncached_tokens", "output_tokens")  # as in Shape


class Arrivals(StrEnum):
    """How the requests of one step are spread over it."""

    POISSON = "poisson"
    EVEN = "even"


class Basis(StrEnum):
    """What a length in one step rests on."""

    HISTOGRAM = "histogram"
    MEAN = "mean"
    BORROWED = "borrowed"  # from the nearest step that knows
    POLICY = "policy"  # no step knows: what the policy says of the mean request


@dataclass(frozen=True, slots=True)
class Length:
    """How many tokens, in one step: the mean, and how they are spread around it, if that is known."""

    mean: float
    spread: Histogram | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """So many requests, and their lengths by the names of Shape's fields."""

    arrivals: int
    lengths: Mapping[str, Length]

    def drawn(self, moments: Sequence[float], numbers: Iterator[int], rng: Random, longest_tokens: int) -> Iterator[Request]:
        """The requests that arrive at these moments, cut to what a replica can hold, since whoever was answered did fit."""
        prompts, uncached, outputs = (Spread(one.mean, one.spread) for one in map(self.lengths.__getitem__, LENGTHS))
        ranks = zip(_ranks(len(moments), rng), _ranks(len(moments), rng), strict=True)
        for arrival_s, (rank, other) in zip(moments, ranks, strict=True):
            output = min(longest_tokens - 1, max(1, round(outputs.at(other))))
            prompt = min(longest_tokens - output, max(1, round(prompts.at(rank))))
            own = min(prompt, max(1, round(uncached.at(rank))))
            yield Request(next(numbers), arrival_s, prompt, prompt - own, output)


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the past without a hole; `first` is its first step's number in the whole."""

    first: int
    step_s: int
    steps: tuple[Step, ...]

    @property
    def duration_s(self) -> float:
        """From its first step's begin to its last one's end."""
        return float(len(self.steps) * self.step_s)

    def requests(self, seed: int, arrivals: Arrivals, longest_tokens: int) -> Iterator[Request]:
        """The piece's requests, its begin at time 0. The same seed, the same requests."""
        numbers = count()
        for place, step in enumerate(self.steps):
            rng = stream(seed, "rebuilt", self.first + place)
            moments = [(place + share) * self.step_s for share in _moments(step.arrivals, arrivals, rng)]
            if moments:
                yield from step.drawn(moments, numbers, rng, longest_tokens)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """The pieces of a past that can be played, and what they rest on.

    `steps` in all; `silent` of them tell no load, `beside` stand next to one, `scattered` lie in pieces that are too short.
    `basis`: for each length how many of the played steps with requests rest on what.
    """

    pieces: tuple[Piece, ...]
    steps: int
    silent: int
    beside: int
    scattered: int
    basis: Mapping[str, Counter[Basis]]

    @property
    def played(self) -> int:
        """Steps that are played."""
        return sum(len(piece.steps) for piece in self.pieces)


def rebuild(past: Past, fallback: Shape | None) -> Rebuilt:
    """The past as pieces of requests. `fallback` is the mean request of whom the metrics tell nothing at all.

    Raises Refusal where there is nothing to play, or a length is told by nobody.
    """
    rates = past.offered_rps
    known = [rate is not None for rate in rates]
    whole = [all(known[max(0, at - 1) : at + 2]) for at in range(len(known))]
    runs = [list(run) for sound, run in groupby(range(len(whole)), whole.__getitem__) if sound]
    long = [run for run in runs if len(run) >= LEAST_STEPS]
    silent = known.count(False)
    if not long:
        raise Refusal(f"of {len(known)} steps {silent} tell no load, and no {LEAST_STEPS} in a row can be played")
    lengths = {name: _Told(past, name, fallback) for name in LENGTHS}
    basis: dict[str, Counter[Basis]] = {name: Counter() for name in LENGTHS}
    pieces = tuple(Piece(run[0], past.step_s, tuple(_steps(past, run, lengths, basis))) for run in long)
    if not any(step.arrivals for piece in pieces for step in piece.steps):
        raise Refusal(f"nobody sent a request in the {sum(map(len, long))} steps that can be played")
    return Rebuilt(pieces, len(known), silent, whole.count(False) - silent, sum(map(len, runs)) - sum(map(len, long)), basis)


class Survey:
    """How many requests went by, and what they were like."""

    def __init__(self) -> None:
        self.requests = 0
        self._prompt = self._uncached = self._squares = self._output = 0

    def of(self, requests: Iterable[Request]) -> Iterator[Request]:
        """The same requests, counted as they go by."""
        for request in requests:
            own = request.prompt_tokens - request.cached_tokens
            self.requests += 1
            self._prompt += request.prompt_tokens
            self._uncached += own
            self._squares += own * own
            self._output += request.output_tokens
            yield request

    @property
    def shape(self) -> Shape:
        """The mean request. Raises ZeroDivisionError before the first."""
        number, mean = self.requests, self._uncached / self.requests
        return Shape(self._prompt / number, mean, self._output / number, self._squares / number / mean**2 - 1)


class _Told:
    """One length, step by step."""

    def __init__(self, past: Past, name: str, fallback: Shape | None) -> None:
        self._means, self._spreads = past.means.get(name, ()), past.spreads.get(name, ())
        self._known = [at for at, mean in enumerate(self._means) if mean]
        self._fallback = getattr(fallback, name) if fallback is not None else None
        if not self._known and self._fallback is None:
            raise Refusal(
                f"{name}: no step of the past tells it; write spec.requestShape into the policy, or a query of your own"
            )

    def at(self, step: int) -> tuple[Length, Basis]:
        """The length in a step, and what that rests on."""
        mean = self._means[step] if self._means else None
        if mean:
            spread = self._spreads[step] if self._spreads else None
            return Length(mean, spread), Basis.MEAN if spread is None else Basis.HISTOGRAM
        if not self._known:
            return Length(float(self._fallback or 0.0)), Basis.POLICY
        place = bisect(self._known, step)
        around = self._known[max(0, place - 1) : place + 1]
        return self.at(min(around, key=lambda other: abs(other - step)))[0], Basis.BORROWED


def _steps(past: Past, run: Sequence[int], told: Mapping[str, _Told], basis: Mapping[str, Counter[Basis]]) -> Iterator[Step]:
    due = 0.0
    for at in run:
        due += (past.offered_rps[at] or 0.0) * past.step_s
        arrivals = int(due)
        due -= arrivals
        lengths = {}
        if arrivals:
            for name, length in told.items():
                lengths[name], rests_on = length.at(at)
                basis[name][rests_on] += 1
        yield Step(arrivals, lengths)


def _moments(number: int, arrivals: Arrivals, rng: Random) -> list[float]:
    """When within the step (0..1), sorted."""
    if arrivals is Arrivals.EVEN:
        return [(place + 0.5) / number for place in range(number)]
    return sorted(rng.random() for _ in range(number))


def _ranks(number: int, rng: Random) -> list[float]:
    """One in each of so many equal parts of 0..1, in any order: the step's tokens come to what was recorded, whereas with ranks
    drawn at will a handful of long prompts more or less would move them by some per cent.
    """
    ranks = [(place + rng.random()) / number for place in range(number)]
    rng.shuffle(ranks)
    return ranks
