"""What became of every request of one run, and how did the pools swing?

A request is MET if it ended within the promises of its class, LATE if it ended outside them, DROPPED if decode turned it away
once its prompt was computed, REJECTED at the door. A wasted prefill is a prompt that was computed for somebody who was then
dropped or late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import correlation, covariance, fmean, pstdev

from autoscaler.core.fleet import Role, SloKind
from autoscaler.simulator.engine import Engine, FleetSpec
from autoscaler.simulator.events import Cause
from autoscaler.simulator.workload import Request
from tests.bench.doors.sidecars import READ_S, Door, Means, Setup
from tests.bench.trials.strict import Strict

SAMPLE_LOOKS = 5  # loads are sampled at every fifth look


class Fate(StrEnum):
    """How a request ended."""

    MET = "met"
    LATE = "late"
    DROPPED = "dropped"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Play:
    """What is played: the fleet, its requests, and what a request is on average."""

    spec: FleetSpec
    requests: Sequence[Request]
    means: Callable[[], Means]
    full_s: Mapping[SloKind, float]


class Tally(Strict):
    """A `Ledger` that knows what became of each."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.fates: dict[int, Fate] = {}

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        self.door.means.add(request, tpot_s * (request.output_tokens - 1))
        rules = self.door.setup.rules
        promises = rules.class_named(self.door.setup.qos(request)).promises
        met = ttft_s <= promises[SloKind.TTFT].seconds and tpot_s <= promises[SloKind.TPOT].seconds
        self.fates[request.id] = Fate.MET if met else Fate.LATE

    def given_up(self, request: Request, cause: Cause) -> None:
        self.fates[request.id] = Fate.DROPPED if request.id in self.door.dropped else Fate.REJECTED


@dataclass(slots=True)
class Run:
    """A run, as far as it has come."""

    play: Play
    setup: Setup
    door: Door = field(init=False)
    tally: Tally = field(init=False)
    loads: dict[Role, list[float]] = field(default_factory=lambda: {role: [] for role in Role})
    looks: int = 0

    def __post_init__(self) -> None:
        self.door = Door(self.setup, self.play.means())
        self.tally = Tally(self.door)
        engine = Engine(self.play.spec, self.play.requests, self.tally, admit=self.door.admit, proceed=self.door.proceed)
        self.door.engine = engine

    def advance(self, until_s: float) -> None:
        """On to there, with a look once in READ_S."""
        engine = self.door.engine
        while self.looks * READ_S <= until_s:
            engine.advance(self.looks * READ_S)
            self.door.look()
            if self.looks % SAMPLE_LOOKS == 0:
                self._sample()
            self.looks += 1
        engine.advance(until_s)

    def finish(self) -> None:
        """To the end of the last request."""
        while not self.door.engine.exhausted:
            self.advance(self.door.engine.now + 60.0)

    def _sample(self) -> None:
        pools, profile, full_s = self.door.engine.pools, self.play.spec.profile, self.play.full_s
        a0, a1, _ = profile.prefill_s
        line = [replica.server for replica in pools[Role.PREFILL].replicas]
        batch = [replica.server for replica in pools[Role.DECODE].replicas]
        self.loads[Role.PREFILL].append(fmean(a0 * one.requests + a1 * one.load for one in line) / full_s[SloKind.TTFT])
        each = sum(one.requests for one in batch) / len(batch), sum(one.load for one in batch) / len(batch)
        self.loads[Role.DECODE].append(profile.step_time_s(*each) / full_s[SloKind.TPOT])

    def figures(self) -> dict[str, object]:
        """Counts, goodput in met requests per second of arrivals, wasted prefills, and the swing from the fifth minute on."""
        fates = Counter(self.tally.fates.values())
        last_s = self.play.requests[-1].arrival_s
        paths = [path[60 : int(last_s / READ_S / SAMPLE_LOOKS)] for path in self.loads.values()]
        return {
            "offered": len(self.play.requests),
            **{fate.value: fates[fate] for fate in Fate},
            "goodput_rps": round(fates[Fate.MET] / last_s, 4),
            "wasted_prefills": fates[Fate.DROPPED] + fates[Fate.LATE],
            "anti_phase": round(correlation(*paths), 3),
            "swing": round(max(0.0, -covariance(*paths)), 6),
            "prefill_spread": round(pstdev(paths[0]), 3),
            "decode_spread": round(pstdev(paths[1]), 3),
            "why": dict(Counter(verdict.why.value for verdict in self.door.verdicts.values())),
        }
