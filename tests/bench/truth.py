"""Does the simulator say what theory and measurements say?

    md1_*        mean wait of equal prompts at one prefill replica: rho S / (2 (1 - rho)) (Pollaczek-Khinchine)
    mg1_*        the same of lognormal prompts: rho S (1 + c2) / (2 (1 - rho)), c2 = exp(sigma^2) - 1
    mdn_*        four replicas behind one queue, which is what a gateway that holds all above one request per replica
                 makes of them. Cosmetatos (1976): half of Erlang's M/M/n wait times
                 1 + (1 - rho) (n - 1) (sqrt(4 + 5 n) - 2) / (16 rho n)
    distserve_*  a prefill GPU does 5.6 requests/s and a decode GPU 10 (DistServe, OSDI'24, a 13B model on an A100): of
                 2P1D each GPU gets min(2 x 5.6, 10) / 3 = 3.3 done, and its neighbours less. Throughput under overload;
                 both speeds are put in, so that what is checked is how the pools work together, not the GPU
    silicon_*    median |predicted / measured - 1| of TPOT over rows not fitted to, per system (simulator/silicon.py);
                 the reference is 0. The data lies in the folder that PDA_SHARED names, and is left out where there is none

A check is met where |measured - reference| <= tolerance, relative to the reference where that is not 0. A check that is
not met is printed like any other.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import exp, factorial, log, sqrt
from pathlib import Path
from random import Random

from autoscaler.core.fleet import Role
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.events import Cause
from autoscaler.simulator.silicon import form_errors
from autoscaler.simulator.workload import Request

SHARED = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "profiles" / "silicon_sample.csv.gz"
REQUESTS = 1_000_000
PROMPT_TOKENS, SERVICE_S, STEP_S = 1_000, 0.1, 1e-6
PREFILL_RPS, DECODE_RPS = 5.6, 10.0
# 0.1 ms per token, so that a mean prompt takes SERVICE_S; decode takes no time worth telling
PROFILE = ReplicaProfile(
    "one queue", (0.0, SERVICE_S / PROMPT_TOKENS, 0.0), (STEP_S, 0.0, 0.0), 10**9, 256, 1, link_bytes_per_s=1e30, link_base_s=0.0
)


@dataclass(frozen=True, slots=True)
class Check:
    """One figure beside what it should be."""

    name: str
    measured: float
    reference: float
    tolerance: float

    @property
    def met(self) -> bool:
        """Within tolerance."""
        return abs(self.measured - self.reference) <= self.tolerance * (abs(self.reference) or 1.0)


class Mean:
    """A `Ledger` that keeps the sum of TTFTs; any request that is not served ends the run."""

    def __init__(self) -> None:
        self.finishes, self.ttft_s = 0, 0.0

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        self.finishes += 1
        self.ttft_s += ttft_s

    def refused(self, request: Request) -> None:
        raise SystemExit(f"request {request.id} was refused: not the work")

    def given_up(self, request: Request, cause: Cause) -> None:
        raise SystemExit(f"request {request.id} was given up: not the work")

    def flipped(self, from_role: Role, to_role: Role, count: int, now: float) -> None:
        raise SystemExit("a role was changed: not the work")


def poisson(rps: float, count: int, sigma: float = 0.0, seed: int = 1) -> Iterator[Request]:
    """Poisson arrivals; prompts lognormal of mean PROMPT_TOKENS, all equal where sigma is 0."""
    rng, now, mu = Random(seed), 0.0, log(PROMPT_TOKENS) - sigma**2 / 2
    for number in range(count):
        now += rng.expovariate(rps)
        yield Request(number, now, max(1, round(exp(rng.gauss(mu, sigma)))), 0, 1)


def fleet(prefill: int, decode: int, profile: ReplicaProfile = PROFILE, holds_above: int | None = None) -> FleetSpec:
    """One GPU per replica."""
    pools = {Role.PREFILL: PoolSpec(prefill), Role.DECODE: PoolSpec(decode)}
    return FleetSpec("default/truth", profile, pools, gateway_holds_above=holds_above)


def mean_wait_s(spec: FleetSpec, utilisation: float, count: int, sigma: float = 0.0) -> float:
    """TTFT without the prompt's own service and the one step."""
    mean = Mean()
    rps = utilisation * spec.pools[Role.PREFILL].replicas / SERVICE_S
    engine = Engine(spec, poisson(rps, count, sigma), mean)
    engine.advance(2 * count / rps + 1_000.0)
    if mean.finishes != count:
        raise SystemExit(f"{mean.finishes} of {count} requests finished: not the work")
    return mean.ttft_s / count - SERVICE_S - STEP_S


def one_queue(utilisation: float, count: int, tolerance: float, sigma: float = 0.0) -> Check:
    """M/D/1, or M/G/1 where sigma is not 0."""
    name = f"{'mg1' if sigma else 'md1'}_{utilisation:g}_wait_s"
    wait_s = utilisation * SERVICE_S * exp(sigma**2) / (2 * (1 - utilisation))
    return Check(name, mean_wait_s(fleet(1, 1), utilisation, count, sigma), wait_s, tolerance)


def shared_queue(servers: int, utilisation: float, count: int, tolerance: float) -> Check:
    """M/D/n."""
    measured = mean_wait_s(fleet(servers, 1, holds_above=1), utilisation, count)
    return Check(f"md{servers}_{utilisation:g}_wait_s", measured, cosmetatos_s(servers, utilisation), tolerance)


def cosmetatos_s(servers: int, utilisation: float) -> float:
    """Mean wait of M/D/n, approximately; exact at n = 1."""
    erlangs = servers * utilisation
    top = erlangs**servers / factorial(servers) / (1 - utilisation)
    waits = top / (sum(erlangs**k / factorial(k) for k in range(servers)) + top)
    exponential_s = waits * SERVICE_S / (servers * (1 - utilisation))
    return (
        exponential_s / 2 * (1 + (1 - utilisation) * (servers - 1) * (sqrt(4 + 5 * servers) - 2) / (16 * utilisation * servers))
    )


def per_gpu(prefill: int, decode: int) -> Check:
    """Requests per second and GPU, with twice the arrivals that the pools can take; decode steps take 0.1 s a request."""
    best_rps = min(prefill * PREFILL_RPS, decode * DECODE_RPS)
    profile = replace(PROFILE, prefill_s=(1 / PREFILL_RPS, 0.0, 0.0), decode_s=(0.0, 1 / DECODE_RPS, 0.0))
    mean, until_s = Mean(), 1_000.0
    Engine(fleet(prefill, decode, profile), poisson(2 * best_rps, round(3 * best_rps * until_s)), mean).advance(until_s)
    gpus = prefill + decode
    return Check(f"distserve_{prefill}p{decode}d_rps_per_gpu", mean.finishes / until_s / gpus, best_rps / gpus, 0.02)


def silicon() -> list[Check]:
    """Each system's error. The bound of 10 % is chosen here, not published."""
    return [Check(f"silicon_{found.what}_tpot", found.tpot_median, 0.0, 0.10) for found in form_errors(SHARED)]


def checks(count: int) -> Iterator[Check]:
    """All of them, the long ones over `count` requests."""
    yield from (one_queue(load, count, 0.02) for load in (0.3, 0.5, 0.7, 0.8))
    yield from (one_queue(load, count, 0.02, sigma=0.8) for load in (0.5, 0.7))
    yield shared_queue(4, 0.7, count, 0.02)
    yield from (per_gpu(*split) for split in ((1, 1), (2, 1), (3, 1), (1, 2)))
    if SHARED.is_file():
        yield from silicon()
    else:
        sys.stderr.write(f"no {SHARED}: the timing model is not checked\n")


def main() -> None:
    """Print one line per check as it comes, and then all of them as one JSON object."""
    found = []
    for check in checks(REQUESTS):
        verdict = "met" if check.met else "MISSED"
        sys.stderr.write(f"{check.name} {check.measured:.6g} of {check.reference:.6g} {verdict}\n")
        found.append({**asdict(check), "met": check.met})
    missed = [each["name"] for each in found if not each["met"]]
    sys.stdout.write(json.dumps({"bench": "truth", "requests": REQUESTS, "checks": found, "missed": missed}) + "\n")


if __name__ == "__main__":
    main()
