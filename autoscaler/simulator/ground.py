"""What does everybody who plays in a case find there?

Its requests, read once and packed (tape.py), what they are on average, how many come when, and the one policy by which all are
bound. All are judged by the case: its promises, bounds, GPU budget and profile hold for everybody. Of a policy file only the
tuning counts (forecast, sizing, behaviour, freshness). What a request looks like on average is told to everybody beforehand:
peers are calibrated on it, our controller falls back on it until it has measured.

A process keeps the last two surveys, so that a case's contenders share one reading of its trace.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile

from autoscaler.core.action import Mode
from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing
from autoscaler.core.flip import FlipLimits
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.simulator.contenders import Job
from autoscaler.simulator.peers.best_static import BestStatic, best_static
from autoscaler.simulator.peers.lower_bound import LowerBound, lower_bound
from autoscaler.simulator.peers.trial import Trial
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.reach import Reach, reach
from autoscaler.simulator.scenarios import Case
from autoscaler.simulator.tape import Requests, Tape
from autoscaler.simulator.workload import Request

INTERVAL_S = 30.0  # of the references
PICTURES = 240  # points of a timeline at most, and never closer than a scrape
KEPT = 2  # surveys a process remembers: 20 MB for a million requests each


@dataclass(frozen=True, slots=True)
class Survey:
    """A case's requests, their mean, and how many come when: per second, in steps of `step_s`. `fixed`: the best fixed fleets
    that were searched for, since the oracle begins with them too, at every start-up time. `reaches`: what could be kept at most.
    """

    requests: Requests
    shape: Shape
    step_s: float
    offered_rps: tuple[float, ...]
    fixed: dict[bytes, BestStatic] = field(default_factory=dict)
    reaches: dict[bytes, Reach] = field(default_factory=dict)


@dataclass(frozen=True)
class Ground:
    """A job's case as it is surveyed."""

    job: Job
    survey: Survey

    @property
    def counts(self) -> Mapping[Role, int]:
        """The replicas that the case begins with."""
        return {role: pool.replicas for role, pool in self.job.case.scenario.fleet.pools.items()}

    @property
    def gpus(self) -> Mapping[Role, int]:
        """GPUs of one replica."""
        return {role: pool.gpus_per_replica for role, pool in self.job.case.scenario.fleet.pools.items()}

    @cached_property
    def managed(self) -> Managed:
        """The policy that everybody is bound by, with this job's tuning."""
        case = self.job.case
        limits = {role: PoolLimits(bounds.min, bounds.max) for role, bounds in case.bounds.items()}
        fleet, slos = case.scenario.fleet, case.scenario.slos
        plain = Managed(
            fleet.key, "simulated", "simulated", Policy(Mode.AUTO, slos, limits, fleet.profile, flip=FlipLimits(enabled=True))
        )
        own = self.job.contender.tuning or plain
        policy = replace(
            own.policy,
            mode=Mode.AUTO,
            slos=slos,
            pools=limits,
            profile=fleet.profile,
            gpu_budget=case.budget_gpus,
            shape=self.survey.shape,
        )
        return replace(own, key=fleet.key, policy=policy, gateway="llm-d")

    @cached_property
    def reach(self) -> Reach:
        """What a fleet of any size could keep at most, counted once for all who play here."""
        fleet, slos = self.job.case.scenario.fleet, self.job.case.scenario.slos
        name = pickle.dumps((fleet.profile, fleet.profiles, fleet.network_bytes_per_s, fleet.longest, slos))
        found = self.survey.reaches.get(name) or reach(self.survey.requests, fleet, slos)
        self.survey.reaches[name] = found
        return found

    def trial(self) -> Trial:
        """For the references, which search."""
        case, seed = self.job.case, self.job.seed
        scenario = replace(case.scenario, fleet=replace(case.scenario.fleet, seed=seed))
        return Trial(scenario, self.survey.requests, self.managed, case.duration_s, step_s=self.survey.step_s)

    def best_static(self) -> BestStatic:
        """The cheapest fixed fleet for the attainment asked for, searched for once."""
        case = self.job.case
        start_up = case.scenario.fleet.start_up if case.scenario.fleet.losses else StartUp()  # what is lost starts again
        fleet = replace(case.scenario.fleet, start_up=start_up, seed=self.job.seed)
        told = replace(case.scenario, fleet=fleet)
        name = pickle.dumps((told, case.bounds, case.budget_gpus, case.duration_s, self.job.attainment))
        found = self.survey.fixed.get(name) or best_static(self.trial(), self.job.attainment)
        self.survey.fixed[name] = found
        return found

    def bound(self) -> LowerBound:
        """The lower bound for the attainment asked for."""
        until_s = self.job.case.duration_s
        policy, share = self.managed.policy, self.job.attainment
        return lower_bound(self.survey.requests, policy, self.gpus, interval_s=INTERVAL_S, until_s=until_s, share=share)


_surveys: dict[bytes, Survey] = {}


def ground_of(job: Job) -> Ground:
    """The ground of a job. Raises Refusal for a case without requests, or whose requests no replica has room for, TraceError
    for a bad trace.
    """
    case = job.case
    name = pickle.dumps((case.traffic, case.duration_s, case.scenario.scrape_s, case.scenario.fleet.cache_tokens, job.seed))
    survey = _surveys.pop(name, None) or _survey(case, job.seed)
    while len(_surveys) >= KEPT:
        del _surveys[next(iter(_surveys))]
    _surveys[name] = survey
    _refuse_small_memory(case, survey.shape)
    return Ground(job, survey)


def _refuse_small_memory(case: Case, shape: Shape) -> None:
    """A request too many for a replica is turned away as engines do, but not the mean one: then the profile is wrong."""
    fleet = case.scenario.fleet
    for role in fleet.pools:
        profile = fleet.profile_of(role)
        answer = shape.output_tokens if ROLE_FACTS[role].sizing is Sizing.BATCH else 0.0
        tokens = math.ceil(shape.prompt_tokens + answer)
        if profile.kv_tokens < tokens:
            text = f"kvTokens {profile.kv_tokens} of profile {profile.name} is below the {tokens} tokens of a mean request"
            raise Refusal(f"{case.name}: {role}: {text} (allowed: {tokens}..1000000000)")


def cut(case: Case, length_s: float | None) -> Case:
    """The case, no longer than this."""
    return case if length_s is None else replace(case, duration_s=min(case.duration_s, length_s))


def requests_of(case: Case, seed: int) -> Iterator[Request]:
    """The case's requests until its end, also where it was cut."""
    return takewhile(lambda request: request.arrival_s < case.duration_s, case.requests(seed))


def _survey(case: Case, seed: int) -> Survey:
    """Read the requests once: their mean, and how many come when."""
    until_s = case.duration_s
    step_s = max(case.scenario.scrape_s, until_s / PICTURES)
    bins = [0] * math.ceil(until_s / step_s)
    tape = Tape(requests_of(case, seed), blocks=case.scenario.fleet.cache_tokens > 0)
    prompt = uncached = squares = output = 0
    for request in tape:
        own = request.prompt_tokens - request.cached_tokens
        prompt, uncached = prompt + request.prompt_tokens, uncached + own
        squares, output = squares + own * own, output + request.output_tokens
        bins[min(int(request.arrival_s / step_s), len(bins) - 1)] += 1
    count = len(tape)
    if not count:
        raise Refusal(f"{case.name}: nobody sends a request within {until_s:g} s")
    mean = uncached / count
    shape = Shape(prompt / count, mean, output / count, squares / count / mean**2 - 1 if mean else 1.0)
    return Survey(tape, shape, step_s, tuple(number / step_s for number in bins))
