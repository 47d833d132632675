"""How does one policy do in one case, told so that many can be compared?

A `Job` is a case, a contender and a seed; `play` gives its `Result`. Jobs share nothing and can be sent to other processes;
the same job gives the same result, and all jobs of one case and seed see the same requests and cold starts.

Contenders are
    pd-autoscaler   this product's controller, whole, through its own doors
    a peer          by its name in peers/catalogue.py, through the same guard and delays
    a reference     searched or computed with all requests known beforehand: lower-bound, best-static, oracle, clairvoyant-flipper

All are judged by the case: its promises, bounds, GPU budget and profile hold for everybody. Of a policy file only the tuning
counts (forecast, sizing, behaviour, freshness). What a request looks like on average is told to everybody beforehand: peers
are calibrated on it, our controller falls back on it until it has measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from autoscaler.controller import Controller
from autoscaler.core.capacity import Shape
from autoscaler.core.decide import Policy
from autoscaler.core.fleet import Role
from autoscaler.core.plan import Mode, PoolLimits
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.roster import FixedRoster
from autoscaler.simulator.moves import Move, reversals
from autoscaler.simulator.peers import Peer
from autoscaler.simulator.peers.best_static import best_static
from autoscaler.simulator.peers.catalogue import PEERS, Setting
from autoscaler.simulator.peers.clairvoyant_flipper import ClairvoyantFlipper
from autoscaler.simulator.peers.lower_bound import LowerBound, lower_bound
from autoscaler.simulator.peers.oracle import oracle
from autoscaler.simulator.peers.seat import PeerController
from autoscaler.simulator.peers.static import Static
from autoscaler.simulator.peers.trial import Trial, gpu_hours
from autoscaler.simulator.run import VirtualRun
from autoscaler.simulator.scenarios import Case
from autoscaler.simulator.score import Score
from autoscaler.simulator.shifts import Recovery, recovery
from autoscaler.simulator.workload import Request

OURS = "pd-autoscaler"
HEADROOMS = (0.0, 0.05, 0.1, 0.3, 0.6)
INTERVAL_S = 30.0  # of the references
FLIPPING = frozenset({"arrow", "clairvoyant-flipper"})  # they change roles in place, so both roles' replicas must be alike
PICTURES = 240  # points of a timeline at most, and never closer than a scrape

Tick = Callable[[], object]
Seat = Callable[[VirtualRun], Tick]


@dataclass(frozen=True, slots=True)
class Contender:
    """Who plays. `point` is the headroom knob's value, None for a reference; `tuning` is for our own controller only."""

    name: str
    point: float | None = None
    published: bool = True
    tuning: Managed | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One contender in one case. `attainment` is what the references are searched for."""

    case: Case
    contender: Contender
    seed: int = 1
    attainment: float = 0.99


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was asked and what stood there, by the end of each step, `step_s` apart: requests per second since the step before,
    serving replicas, and the other replicas held (they start or drain).
    """

    step_s: float
    offered_rps: tuple[float, ...]
    serving: Mapping[Role, tuple[int, ...]]
    moving: Mapping[Role, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Result:
    """How it went. `score` is None where nothing was played: of the lower bound, and of what could not be found, which has no
    `gpu_hours` either. `note` is for people.
    """

    scenario: str
    contender: Contender
    gpu_hours: float | None
    score: Score | None = None
    recovery: Recovery | None = None
    timeline: Timeline | None = None
    moves: tuple[Move, ...] = ()
    hasty_s: tuple[float, float] = (0.0, 0.0)  # within what time a scaling, a flip back is a reversal
    note: str = ""

    def reaches(self, attainment: float) -> bool:
        """Whether this share of the offered requests was met; the lower bound stands with those that do."""
        return self.gpu_hours is not None and (self.score is None or (self.score.attainment or 0.0) >= attainment)


@dataclass(slots=True)
class _Ground:
    """A case with its seed, what is known of its requests as a whole, and the policy that everybody is bound by."""

    job: Job
    shape: Shape
    step_s: float
    offered_rps: tuple[float, ...]
    managed: Managed = field(init=False)

    def __post_init__(self) -> None:
        case = self.job.case
        limits = {role: PoolLimits(bounds.min, bounds.max) for role, bounds in case.bounds.items()}
        fleet, slos = case.scenario.fleet, case.scenario.slos
        plain = Managed(fleet.key, "simulated", "simulated", Policy(Mode.AUTO, slos, limits, fleet.profile))
        own = self.job.contender.tuning or plain
        policy = replace(
            own.policy,
            mode=Mode.AUTO,
            slos=slos,
            pools=limits,
            profile=fleet.profile,
            gpu_budget=case.budget_gpus,
            shape=self.shape,
        )
        self.managed = replace(own, key=fleet.key, policy=policy, gateway="llm-d")

    @property
    def counts(self) -> Mapping[Role, int]:
        """The replicas that the case begins with."""
        return {role: pool.replicas for role, pool in self.job.case.scenario.fleet.pools.items()}

    @property
    def gpus(self) -> Mapping[Role, int]:
        """GPUs of one replica."""
        return {role: pool.gpus_per_replica for role, pool in self.job.case.scenario.fleet.pools.items()}

    def trial(self) -> Trial:
        """For the references, which search."""
        case, seed = self.job.case, self.job.seed
        scenario = replace(case.scenario, fleet=replace(case.scenario.fleet, seed=seed))
        return Trial(scenario, tuple(requests_of(case, seed)), self.managed, case.duration_s)

    def bound(self, requests: Sequence[Request]) -> LowerBound:
        """The lower bound for the attainment asked for."""
        until_s = self.job.case.duration_s
        policy, share = self.managed.policy, self.job.attainment
        return lower_bound(requests, policy, self.gpus, interval_s=INTERVAL_S, until_s=until_s, share=share)


def cut(case: Case, length_s: float | None) -> Case:
    """The case, no longer than this."""
    return case if length_s is None else replace(case, duration_s=min(case.duration_s, length_s))


def requests_of(case: Case, seed: int) -> Iterator[Request]:
    """The case's requests until its end, also where it was cut."""
    return takewhile(lambda request: request.arrival_s < case.duration_s, case.requests(seed))


def field_of(tuning: Managed | None, peers: Sequence[str], *, sweep: bool, references: bool) -> tuple[Contender, ...]:
    """Everybody who plays: ours and the peers at their published points, or at all five; then the references."""
    own = tuning.policy.demand.headroom if tuning else HEADROOMS[2]
    field_ = [Contender(OURS, point, point == own, tuning) for point in (sorted({*HEADROOMS, own}) if sweep else [own])]
    for name in peers:
        entry = PEERS[name]
        points = entry.points if sweep else (entry.published,)
        field_ += [Contender(name, point, point == entry.published) for point in points]
    return (*field_, *(Contender(name) for name in (REFERENCES if references else ())))


def play(job: Job) -> Result:
    """How this contender does in this case. Raises Refusal for a case without requests, TraceError for a bad trace."""
    ground, contender = _survey(job), job.contender
    if contender.name in FLIPPING and len(set(ground.gpus.values())) > 1:
        note = "cannot be played: replicas of unequal GPUs cannot change their role in place"
        return Result(job.case.name, contender, None, note=note)
    if contender.name in REFERENCES:
        try:
            return REFERENCES[contender.name](ground)
        except Refusal:
            raise
        except ValueError as error:  # an SLO below what one step takes: no bound, and nothing to search for
            return Result(job.case.name, contender, None, note=f"cannot be found: {error}")
    if contender.name == OURS:
        return _ours(ground)
    point = contender.point if contender.point is not None else PEERS[contender.name].published
    return _peer(ground, PEERS[contender.name].make(Setting(ground.managed.policy, ground.shape, ground.counts), point))


def settled(results: Sequence[Result]) -> list[Result]:
    """The same, without the reversals that the oracle of the same case makes too, where it played."""
    paths = {result.scenario: result.moves for result in results if result.contender.name == "oracle"}
    return [_excused(result, paths[result.scenario]) if result.scenario in paths else result for result in results]


def _excused(result: Result, path: Sequence[Move]) -> Result:
    if result.score is None:
        return result
    return replace(result, score=replace(result.score, reversals=len(reversals(result.moves, *result.hasty_s, path))))


def _survey(job: Job) -> _Ground:
    """Read the requests once: their mean, and how many come when."""
    until_s = job.case.duration_s
    step_s = max(job.case.scenario.scrape_s, until_s / PICTURES)
    bins = [0] * math.ceil(until_s / step_s)
    count = prompt = uncached = squares = output = 0
    for request in requests_of(job.case, job.seed):
        own = request.prompt_tokens - request.cached_tokens
        count, prompt, uncached = count + 1, prompt + request.prompt_tokens, uncached + own
        squares, output = squares + own * own, output + request.output_tokens
        bins[min(int(request.arrival_s / step_s), len(bins) - 1)] += 1
    if not count:
        raise Refusal(f"{job.case.name}: nobody sends a request within {until_s:g} s")
    mean = uncached / count
    shape = Shape(prompt / count, mean, output / count, squares / count / mean**2 - 1 if mean else 1.0)
    return _Ground(job, shape, step_s, tuple(number / step_s for number in bins))


def _ours(ground: _Ground) -> Result:
    point, managed = ground.job.contender.point, ground.managed
    if point is not None:
        policy = managed.policy
        managed = replace(managed, policy=replace(policy, demand=replace(policy.demand, headroom=point)))
    return _run(
        ground,
        lambda run: Controller(FixedRoster([managed]), run.clock, run.signals, run.cluster).tick,
        managed.tick_s,
        ground.counts,
    )


def _peer(ground: _Ground, peer: Peer[Any], begin: Mapping[Role, int] | None = None, note: str = "") -> Result:
    interval_s = max(peer.interval_s, ground.job.case.scenario.scrape_s)
    return _run(ground, lambda run: PeerController(run, peer, ground.managed).tick, interval_s, begin or ground.counts, note)


def _run(ground: _Ground, seat: Seat, interval_s: float, begin: Mapping[Role, int], note: str = "") -> Result:
    """Play, looking at the fleet once a step."""
    job, case = ground.job, ground.job.case
    fleet = case.scenario.fleet
    pools = {role: replace(pool, replicas=begin[role]) for role, pool in fleet.pools.items()}
    scenario = replace(case.scenario, interval_s=interval_s, fleet=replace(fleet, pools=pools, seed=job.seed))
    run = VirtualRun(scenario, requests_of(case, job.seed))
    run.tick = seat(run)
    serving: dict[Role, list[int]] = {role: [] for role in pools}
    moving: dict[Role, list[int]] = {role: [] for role in pools}
    for step in range(1, len(ground.offered_rps) + 1):
        run.advance(min(step * ground.step_s, case.duration_s))
        for role, pool in run.engine.fleet().pools.items():
            serving[role].append(pool.serving)
            moving[role].append(pool.held - pool.serving)
    score = run.score()
    timeline = Timeline(ground.step_s, ground.offered_rps, _frozen(serving), _frozen(moving))
    hasty_s = 2 * fleet.start_up.median_s, scenario.dwell_s
    moves = tuple(run.keeper.moves)
    return Result(case.name, job.contender, gpu_hours(score), score, recovery(run, case), timeline, moves, hasty_s, note)


def _frozen(rows: Mapping[Role, list[int]]) -> Mapping[Role, tuple[int, ...]]:
    return {role: tuple(row) for role, row in rows.items()}


def _lower_bound(ground: _Ground) -> Result:
    bound = ground.bound(tuple(requests_of(ground.job.case, ground.job.seed)))
    return Result(ground.job.case.name, ground.job.contender, bound.gpu_hours, note="work alone, without delays or waiting")


def _best_static(ground: _Ground) -> Result:
    found = best_static(ground.trial(), ground.job.attainment)
    counts = ", ".join(f"{count} {role}" for role, count in found.replicas.items())
    reached = "" if found.feasible else f"; none tried reaches {ground.job.attainment:.1%}"
    return _peer(ground, Static(found.replicas), found.replicas, f"{counts}; {found.runs} runs{reached}")


def _oracle(ground: _Ground) -> Result:
    found = oracle(ground.trial(), ground.job.attainment, INTERVAL_S)
    reached = "" if found.feasible else f"; none tried reaches {ground.job.attainment:.1%}"
    return _peer(ground, found.schedule, note=f"{found.gap:.0%} above the lower bound; {found.runs} runs{reached}")


def _flipper(ground: _Ground) -> Result:
    bound = ground.bound(tuple(requests_of(ground.job.case, ground.job.seed)))
    flipper = ClairvoyantFlipper.of(bound, ground.managed.policy, ground.shape)
    return _peer(ground, flipper, note=f"a fleet of {sum(ground.counts.values())}, always split the best way")


REFERENCES: Mapping[str, Callable[[_Ground], Result]] = {
    "lower-bound": _lower_bound,
    "best-static": _best_static,
    "oracle": _oracle,
    "clairvoyant-flipper": _flipper,
}
