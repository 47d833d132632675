"""Do two pools together do as much as the slower of them lets through?

A prefill GPU does 5.6 requests/s and a decode GPU 10 (DistServe, OSDI'24, a 13B model on an A100): of 2P1D each GPU gets
min(2 x 5.6, 10) / 3 = 3.3 done, and its neighbours less. Throughput under twice the arrivals that the pools can take; both
speeds are put in, so that what is checked is how the pools work together, not the GPU. Counted is from the 50th second on,
when decode holds as many requests as it ever will: before that more come than leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from autoscaler.core.fleet import Role
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.workload import Request
from tests.bench.trials.finding import Check, Curve, Finding, Series
from tests.bench.trials.queues import PROFILE, poisson
from tests.bench.trials.strict import Strict

PREFILL_RPS, DECODE_RPS, FULL_S, UNTIL_S = 5.6, 10.0, 50.0, 1_000.0
AT_ONCE = 16  # requests a decode replica holds: few, so that it soon has them
SPLITS = ((1, 2), (1, 1), (2, 1), (3, 1))


class Count(Strict):
    """A `Ledger` of how many are done."""

    def __init__(self) -> None:
        self.finishes = 0

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        self.finishes += 1


def per_gpu(prefill: int, decode: int, until_s: float) -> Check:
    """Requests per second and GPU, one GPU per replica; a request decodes for 0.1 s of a replica's time."""
    best_rps = min(prefill * PREFILL_RPS, decode * DECODE_RPS)
    profile = replace(PROFILE, prefill_s=(1 / PREFILL_RPS, 0.0, 0.0), decode_s=(0.0, 1 / DECODE_RPS, 0.0), max_seqs=AT_ONCE)
    pools = {Role.PREFILL: PoolSpec(prefill), Role.DECODE: PoolSpec(decode)}
    done, arrivals = Count(), poisson(2 * best_rps, round(3 * best_rps * until_s))
    engine = Engine(FleetSpec("default/truth", profile, pools), arrivals, done)
    engine.advance(FULL_S)
    before = done.finishes
    engine.advance(until_s)
    rps, gpus = (done.finishes - before) / (until_s - FULL_S), prefill + decode
    claim = f"requests per second and GPU of {prefill}P{decode}D"
    return Check(f"distserve_{prefill}p{decode}d_rps_per_gpu", claim, rps / gpus, best_rps / gpus, 0.02)


def trial(until_s: float = UNTIL_S) -> Iterator[Finding]:
    """The published split and its neighbours."""
    found = {split: per_gpu(*split, until_s) for split in SPLITS}
    yield from found.values()
    measured = Series(
        "simulated", [(prefill / decode, check.measured) for (prefill, decode), check in found.items()], joined=False
    )
    shares = [at / 20 for at in range(10, 61)]
    formula = Series(
        "min(P x 5.6, D x 10) / (P + D)", [(ratio, min(ratio * PREFILL_RPS, DECODE_RPS) / (ratio + 1)) for ratio in shares]
    )
    note = "DistServe's example: two prefill GPUs to one decode GPU get most done per GPU."
    yield Curve("per-gpu", "Throughput per GPU", "prefill GPUs per decode GPU", "requests/s/GPU", [formula, measured], note)
