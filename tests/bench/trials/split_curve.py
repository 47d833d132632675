"""Is there one best split of 16 nodes, near 8P8D, as in Mooncake FAST'25, Fig. 15?

The paper replays its synthetic trace on 16 nodes split from 5P11D to 11P5D and plots the share of requests within 10 s of
TTFT and 100 ms between tokens: one peak near 1:1, between 80 and 100 %. TTFT falls with more prefill nodes (axis 4 to 2 s),
the time between tokens rises (axis 40 to 50 ms). The trace is theirs; the nodes (a 70B model on eight A800) are played by the
built-in profile of their time and GPU, `splitwise-2024-llama-2-70b-a100-tp8`, as it ships: nothing is fitted to the figure.
What is in cache is what the trace's blocks say of an unbounded cache shared by all, which is what Mooncake's store is for.

Ours is TPOT, the mean of a request; theirs is the mean of its longest tenth of gaps, which is larger. So levels are told
beside the paper's axes and not held against them; the shape is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from statistics import fmean
from typing import NamedTuple

from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import replica_profile
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.traces import read_trace
from autoscaler.simulator.workload import Request
from tests.bench.trials.finding import Check, Curve, Finding, Rule, Series
from tests.bench.trials.strict import Strict

TRACE = "mooncake_fast25_synthetic_trace.jsonl.gz"
PROFILE = replica_profile("splitwise-2024-llama-2-70b-a100-tp8")
NODES, SPLITS = 16, range(5, 12)
TTFT_S, TPOT_S = 10.0, 0.1
LONGEST_TOKENS = 200_000  # the trace's longest request; the cache of a node holds 1.3 million


class Served(NamedTuple):
    """One split: the share of all requests within both limits, and means over those served."""

    effective: float
    ttft_s: float
    tpot_s: float


class Times(Strict):
    """A `Ledger` of (TTFT, TPOT) in seconds."""

    def __init__(self) -> None:
        self.served: list[tuple[float, float]] = []

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        self.served.append((ttft_s, tpot_s))


def served(requests: list[Request], prefill: int) -> Served:
    """All of them, by so many prefill nodes and the rest for decode."""
    pools = {Role.PREFILL: PoolSpec(prefill, 8), Role.DECODE: PoolSpec(NODES - prefill, 8)}
    times = Times()
    engine = Engine(FleetSpec("default/truth", PROFILE, pools, max_model_len=LONGEST_TOKENS), requests, times)
    engine.advance(requests[-1].arrival_s + 3_600.0)
    if not engine.exhausted:
        raise SystemExit(f"{len(times.served)} of {len(requests)} requests finished within an hour: not the work")
    met = sum(ttft_s <= TTFT_S and tpot_s <= TPOT_S for ttft_s, tpot_s in times.served)
    ttfts_s, tpots_s = zip(*times.served, strict=True)
    return Served(met / len(requests), fmean(ttfts_s), fmean(tpots_s))


def peaks(values: list[float]) -> int:
    """How often they rise and then fall, equal neighbours counting as one; an end can be a peak."""
    heights = [-1.0, *(value for value, _ in groupby(values)), -1.0]  # -1 is below every share
    return sum(left < middle > right for left, middle, right in zip(heights, heights[1:], heights[2:], strict=False))


def trial(folder: Path) -> Iterator[Finding]:
    """Seven splits. Raises TraceError for a trace that cannot be read."""
    requests = list(read_trace(folder / TRACE, Random(1)))
    found = {prefill: served(requests, prefill) for prefill in SPLITS}
    yield from _checks(found)
    note = f"Share of {len(requests)} requests with TTFT <= 10 s and TPOT <= 100 ms. The paper's peak is near 8P8D."
    shares = Series("simulated", [(prefill, one.effective) for prefill, one in found.items()])
    yield Curve("split-effective", "Effective capacity of 16 nodes", "prefill nodes", "share", [shares], note)
    ttfts = Series("simulated", [(prefill, one.ttft_s) for prefill, one in found.items()])
    yield Curve("split-ttft", "Mean TTFT of 16 nodes", "prefill nodes", "seconds", [ttfts], "It falls; the paper: 4 to 2 s.")
    tpots = Series("simulated", [(prefill, 1000 * one.tpot_s) for prefill, one in found.items()])
    note = "It rises; the paper, of a request's longest tenth of gaps: 40 to 50 ms."
    yield Curve("split-tpot", "Mean TPOT of 16 nodes", "prefill nodes", "milliseconds", [tpots], note)


def _checks(found: dict[int, Served]) -> Iterator[Check]:
    shares = [one.effective for one in found.values()]
    best = max(found, key=lambda prefill: found[prefill].effective)
    yield Check("split_peaks", "peaks of effective capacity over 5P11D to 11P5D", peaks(shares), 1)
    yield Check("split_best_prefill_nodes", "prefill nodes of 16 at the peak", best, 8, 1 / 8, published=8)
    claim = "effective capacity at the peak"
    yield Check("split_best_effective", claim, max(shares), 0.8, rule=Rule.AT_LEAST)
    pairs = list(pairwise(found.values()))
    falls = sum(after.ttft_s <= before.ttft_s for before, after in pairs)
    yield Check("split_ttft_falls", "steps towards more prefill nodes at which mean TTFT falls", falls, len(pairs))
    rises = sum(after.tpot_s >= before.tpot_s for before, after in pairs)
    yield Check("split_tpot_rises", "steps towards more prefill nodes at which mean TPOT rises", rises, len(pairs))
