"""Do prompts wait at the replicas as queueing theory says?

    m_d_1, m_d_4      equal prompts, at one prefill replica and at four behind one queue (exact_waits.py: Crommelin's chain)
    m_g_1             lognormal prompts at one replica (Pollaczek and Khinchine's closed form)
    m_e2_4, m_h2_4    Erlang's prompts (c2 1/2: a sum of two exponential lengths) and hyperexponential ones (c2 2: short or
                      long), at four replicas behind one queue (exact_waits.py: Markov's chain of phases)
    *_path            lognormal prompts at four replicas, against Kiefer and Wolfowitz' recursion over the very same prompts:
                      each goes to whoever is free first. No average, at any c2: what may differ is the rounding of floats

One queue for four is what a gateway that holds all above one request per replica makes of them; the recursion shows that
it is one, and no joining of the shortest of four. Theory's waits are exact, none is an approximation: that of Allen and
Cunneen, the usual one for M/G/n, is 7 % above the chain for m_h2_4 at 70 % load, and 13 % at 50 %.

A wait is TTFT without the prompt's own service and the one decode step. Tolerances hold for 10^6 prompts; the standard
error of a mean wait, from 50 batches of consecutive prompts, is told beside it and grows with 1 / sqrt(prompts). A prompt
is a whole number of tokens, 1,000 on average: that changes no mean by more than 0.01 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapreplace
from math import exp, sqrt
from random import Random
from statistics import fmean, stdev
from typing import NamedTuple

from autoscaler.core.fleet import Role
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.workload import Request
from tests.bench.trials.exact_waits import ERLANG, crommelin, hyperexponential, phase_type, pollaczek
from tests.bench.trials.finding import Check, Curve, Finding, Series
from tests.bench.trials.strict import Strict

PROMPT_TOKENS, SERVICE_S, STEP_S = 1_000, 0.1, 1e-6
SIGMA, WIDE_SIGMA = 0.8, 1.2  # c2 0.90, about that of real prompts, and 3.2
BATCHES = 50
# 0.1 ms per token, so that a mean prompt takes SERVICE_S; decode takes no time worth telling
PROFILE = ReplicaProfile(
    "one queue", (0.0, SERVICE_S / PROMPT_TOKENS, 0.0), (STEP_S, 0.0, 0.0), 10**9, 256, 1, link_bytes_per_s=1e30, link_base_s=0.0
)


@dataclass(frozen=True, slots=True)
class Prompts:
    """A law of their lengths: one drawn, as a share of the mean, and how long they wait (servers, load) in mean services."""

    kind: str  # in Kendall's notation
    told: str
    draw: Callable[[Random], float]
    wait: Callable[[int, float], float]


def lognormal(sigma: float) -> Prompts:
    """ln of a length has this standard deviation. Theory knows their wait at one server only (ValueError at more)."""

    def wait(servers: int, utilisation: float) -> float:
        if servers != 1:
            raise ValueError(f"no exact wait is known of lognormal prompts at {servers} servers")
        return pollaczek(exp(sigma**2) - 1, utilisation)

    return Prompts("G", f"lognormal, sigma {sigma:g}", lambda rng: exp(rng.gauss(-(sigma**2) / 2, sigma)), wait)


HYPER = hyperexponential(2.0)
EQUAL = Prompts("D", "equal", lambda _: 1.0, crommelin)
LOGNORMAL = lognormal(SIGMA)
TWO_PHASES = Prompts("E2", "Erlang", ERLANG.draw, partial(phase_type, ERLANG))
SHORT_OR_LONG = Prompts("H2", "hyperexponential", HYPER.draw, partial(phase_type, HYPER))
GRID = [at / 20 for at in range(2, 17)]  # loads at which theory is drawn
ALONE = ((EQUAL, (0.3, 0.5, 0.7, 0.8)), (LOGNORMAL, (0.5, 0.7)))
AT_FOUR = ((EQUAL, (0.7,)), (TWO_PHASES, (0.7,)), (SHORT_OR_LONG, (0.5, 0.7)))


class Wait(NamedTuple):
    """A mean wait and its standard error, in seconds."""

    mean_s: float
    error_s: float


class Waits(Strict):
    """A `Ledger` of sums of waits by batch of `batch` finishes."""

    def __init__(self, batch: int) -> None:
        self.finishes, self._batch = 0, batch
        self._sums_s = [0.0]

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        if self.finishes and self.finishes % self._batch == 0:
            self._sums_s.append(0.0)
        self.finishes += 1
        self._sums_s[-1] += ttft_s - PROFILE.prefill_time_s(request.prompt_tokens) - STEP_S

    def wait(self) -> Wait:
        """Over all; every batch but perhaps the last is full."""
        means_s = [total / self._batch for total in self._sums_s[: self.finishes // self._batch]]
        return Wait(sum(self._sums_s) / self.finishes, stdev(means_s) / sqrt(len(means_s)))


def poisson(rps: float, count: int, prompts: Prompts = EQUAL, seed: int = 1) -> Iterator[Request]:
    """Poisson arrivals of prompts of PROMPT_TOKENS on average."""
    rng, now = Random(seed), 0.0
    for number in range(count):
        now += rng.expovariate(rps)
        yield Request(number, now, max(1, round(PROMPT_TOKENS * prompts.draw(rng))), 0, 1)


def simulated(servers: int, utilisation: float, count: int, prompts: Prompts) -> Wait:
    """What the simulator makes of it: one queue, also before several replicas."""
    pools = {Role.PREFILL: PoolSpec(servers), Role.DECODE: PoolSpec(1)}
    holds = None if servers == 1 else 1
    spec = FleetSpec("default/truth", PROFILE, pools, max_model_len=PROFILE.kv_tokens, gateway_holds_above=holds)
    waits, rps = Waits(max(1, count // BATCHES)), utilisation * servers / SERVICE_S
    Engine(spec, poisson(rps, count, prompts), waits).advance(2 * count / rps + 1_000.0)
    if waits.finishes != count:
        raise SystemExit(f"{waits.finishes} of {count} requests finished: not the work")
    return waits.wait()


def recursion_s(servers: int, utilisation: float, count: int, prompts: Prompts) -> float:
    """Mean wait of the same prompts by Kiefer and Wolfowitz."""
    free_s = [0.0] * servers

    def wait_s(request: Request) -> float:
        begin_s = max(request.arrival_s, free_s[0])
        heapreplace(free_s, begin_s + PROFILE.prefill_time_s(request.prompt_tokens))
        return begin_s - request.arrival_s

    return fmean(wait_s(request) for request in poisson(utilisation * servers / SERVICE_S, count, prompts))


def queue(servers: int, utilisation: float, count: int, tolerance: float, prompts: Prompts) -> Check:
    """One queue's mean wait beside theory's."""
    name = f"m_{prompts.kind.lower()}_{servers}_{utilisation:g}_wait_s"
    claim = f"mean wait of M/{prompts.kind}/{servers} at {utilisation:.0%} load, seconds"
    wait = simulated(servers, utilisation, count, prompts)
    reference_s = SERVICE_S * prompts.wait(servers, utilisation)
    return Check(name, claim, wait.mean_s, reference_s, tolerance, standard_error=wait.error_s)


def path(servers: int, utilisation: float, count: int, sigma: float) -> Check:
    """The same lognormal prompts, prompt by prompt."""
    name = f"m_g_{servers}_{utilisation:g}_sigma_{sigma:g}_path_s"
    claim = f"mean wait of M/G/{servers} at {utilisation:.0%} load, sigma {sigma:g}, prompt by prompt, seconds"
    prompts = lognormal(sigma)
    reference_s = recursion_s(servers, utilisation, count, prompts)
    return Check(name, claim, simulated(servers, utilisation, count, prompts).mean_s, reference_s, 1e-6)


def trial(count: int) -> Iterator[Finding]:
    """All queues, each over `count` prompts; those of the recursion, which needs no average, over a tenth."""
    yield from _queues(1, ALONE, count)
    yield from _queues(4, AT_FOUR, count)
    yield from (path(4, 0.7, count // 10, sigma) for sigma in (SIGMA, WIDE_SIGMA))


def _queues(servers: int, laws: Sequence[tuple[Prompts, Sequence[float]]], count: int) -> Iterator[Finding]:
    """At each load, and a plot of them over theory's lines."""
    lines = []
    for prompts, loads in laws:
        found = {load: queue(servers, load, count, 0.02, prompts) for load in loads}
        yield from found.values()
        theory = [(load, SERVICE_S * prompts.wait(servers, load)) for load in GRID]
        points = [(load, check.measured) for load, check in found.items()]
        lines += [Series(f"theory, {prompts.told}", theory), Series(f"simulated, {prompts.told}", points, joined=False)]
    title = f"Mean wait before {servers} prefill replica{'s' if servers > 1 else ''} behind one queue"
    yield Curve(f"waits-{servers}", title, "load", "seconds", lines, "The simulated points should lie on theory's lines.")
