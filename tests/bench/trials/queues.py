"""Do prompts wait at the replicas as queueing theory says?

    md1_*   equal prompts at one prefill replica: rho S / (2 (1 - rho)) (Pollaczek-Khinchine)
    mg1_*   lognormal prompts: rho S (1 + c2) / (2 (1 - rho)), c2 = exp(sigma^2) - 1
    md4_*   equal prompts, four replicas behind one queue, which is what a gateway that holds all above one request per
            replica makes of them. Cosmetatos (1976): half of Erlang's M/M/n wait times
            1 + (1 - rho) (n - 1) (sqrt(4 + 5 n) - 2) / (16 rho n)
    mg4_*   lognormal prompts there. Allen and Cunneen (for Poisson arrivals Lee and Longton, 1959): Erlang's wait times
            (1 + c2) / 2. Exact for n = 1 and for exponential service; 6 % too little for equal prompts at n = 4 and
            rho = 0.7, by Cosmetatos; and no formula of two moments can be right for wide distributions, since the wait
            depends on the third too (Gupta, Harchol-Balter, Dai and Zwart, 2010): here it is 4 % below at c2 = 0.9, 20 % at 3.2
    *_path  the same four replicas against Kiefer and Wolfowitz' recursion over the very same prompts: each goes to whoever
            is free first. No approximation, at any c2: what may differ is the rounding of floats

A wait is TTFT without the prompt's own service and the one decode step. Tolerances hold for 10^6 prompts; the standard
error of a mean wait, from 50 batches of consecutive prompts, is told beside it and grows with 1 / sqrt(prompts).
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapreplace
from math import exp, factorial, log, sqrt
from random import Random
from statistics import fmean, stdev
from typing import NamedTuple

from autoscaler.core.fleet import Role
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.workload import Request
from tests.bench.trials.finding import Check, Curve, Finding, Series
from tests.bench.trials.strict import Strict

PROMPT_TOKENS, SERVICE_S, STEP_S = 1_000, 0.1, 1e-6
SIGMA, WIDE_SIGMA = 0.8, 1.2  # c2 0.90, about that of real prompts, and 3.2
BATCHES = 50
# 0.1 ms per token, so that a mean prompt takes SERVICE_S; decode takes no time worth telling
PROFILE = ReplicaProfile(
    "one queue", (0.0, SERVICE_S / PROMPT_TOKENS, 0.0), (STEP_S, 0.0, 0.0), 10**9, 256, 1, link_bytes_per_s=1e30, link_base_s=0.0
)


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


def poisson(rps: float, count: int, sigma: float = 0.0, seed: int = 1) -> Iterator[Request]:
    """Poisson arrivals; prompts lognormal of mean PROMPT_TOKENS, all equal where sigma is 0."""
    rng, now, mu = Random(seed), 0.0, log(PROMPT_TOKENS) - sigma**2 / 2
    for number in range(count):
        now += rng.expovariate(rps)
        yield Request(number, now, max(1, round(exp(rng.gauss(mu, sigma)))), 0, 1)


def simulated(servers: int, utilisation: float, count: int, sigma: float) -> Wait:
    """What the simulator makes of it: one queue, also before several replicas."""
    pools = {Role.PREFILL: PoolSpec(servers), Role.DECODE: PoolSpec(1)}
    holds = None if servers == 1 else 1
    spec = FleetSpec("default/truth", PROFILE, pools, max_model_len=PROFILE.kv_tokens, gateway_holds_above=holds)
    waits, rps = Waits(max(1, count // BATCHES)), utilisation * servers / SERVICE_S
    Engine(spec, poisson(rps, count, sigma), waits).advance(2 * count / rps + 1_000.0)
    if waits.finishes != count:
        raise SystemExit(f"{waits.finishes} of {count} requests finished: not the work")
    return waits.wait()


def recursion_s(servers: int, utilisation: float, count: int, sigma: float) -> float:
    """Mean wait of the same prompts by Kiefer and Wolfowitz."""
    free_s = [0.0] * servers

    def wait_s(request: Request) -> float:
        begin_s = max(request.arrival_s, free_s[0])
        heapreplace(free_s, begin_s + PROFILE.prefill_time_s(request.prompt_tokens))
        return begin_s - request.arrival_s

    return fmean(wait_s(request) for request in poisson(utilisation * servers / SERVICE_S, count, sigma))


def erlang_s(servers: int, utilisation: float) -> float:
    """Mean wait of M/M/n, by Erlang's C."""
    erlangs = servers * utilisation
    top = erlangs**servers / factorial(servers) / (1 - utilisation)
    waits = top / (sum(erlangs**k / factorial(k) for k in range(servers)) + top)
    return waits * SERVICE_S / (servers * (1 - utilisation))


def cosmetatos_s(servers: int, utilisation: float) -> float:
    """Mean wait of M/D/n, approximately; exact at n = 1."""
    more = (1 - utilisation) * (servers - 1) * (sqrt(4 + 5 * servers) - 2) / (16 * utilisation * servers)
    return erlang_s(servers, utilisation) / 2 * (1 + more)


def allen_cunneen_s(servers: int, utilisation: float, sigma: float) -> float:
    """Mean wait of M/G/n with lognormal service, approximately; exact at n = 1."""
    return erlang_s(servers, utilisation) * exp(sigma**2) / 2


def expected_s(servers: int, utilisation: float, sigma: float) -> float:
    """The best of the formulas for this queue."""
    return allen_cunneen_s(servers, utilisation, sigma) if sigma or servers == 1 else cosmetatos_s(servers, utilisation)


def queue(servers: int, utilisation: float, count: int, tolerance: float, sigma: float = 0.0) -> Check:
    """One queue's mean wait beside its formula."""
    kind = f"M/{'G' if sigma else 'D'}/{servers}"
    name = f"m{'g' if sigma else 'd'}{servers}_{utilisation:g}_wait_s"
    wait = simulated(servers, utilisation, count, sigma)
    claim = f"mean wait of {kind} at {utilisation:.0%} load, seconds"
    return Check(name, claim, wait.mean_s, expected_s(servers, utilisation, sigma), tolerance, standard_error=wait.error_s)


def path(servers: int, utilisation: float, count: int, sigma: float) -> Check:
    """The same prompts, prompt by prompt."""
    name = f"mg{servers}_{utilisation:g}_sigma_{sigma:g}_path_s"
    claim = f"mean wait of M/G/{servers} at {utilisation:.0%} load, sigma {sigma:g}, prompt by prompt, seconds"
    reference_s = recursion_s(servers, utilisation, count, sigma)
    return Check(name, claim, simulated(servers, utilisation, count, sigma).mean_s, reference_s, 1e-6)


def trial(count: int) -> Iterator[Finding]:
    """All queues, each over `count` prompts; those of the recursion, which needs no average, over a tenth."""
    lines = []
    for sigma, loads in ((0.0, (0.3, 0.5, 0.7, 0.8)), (SIGMA, (0.5, 0.7))):
        points = []
        for load in loads:
            check = queue(1, load, count, 0.02, sigma)
            points.append((load, check.measured))
            yield check
        grid = [at / 20 for at in range(2, 17)]
        lines.append(Series(f"formula, sigma {sigma:g}", [(load, expected_s(1, load, sigma)) for load in grid]))
        lines.append(Series(f"simulated, sigma {sigma:g}", points, joined=False))
    yield queue(4, 0.7, count, 0.02)
    yield queue(4, 0.7, count, 0.05, SIGMA)
    yield from (path(4, 0.7, count // 10, sigma) for sigma in (SIGMA, WIDE_SIGMA))
    note = "One replica, equal prompts (sigma 0) and lognormal ones. The simulated points should lie on the formulas."
    yield Curve("waits", "Mean wait at one prefill replica", "load", "seconds", lines, note)
