"""How fast is the simulator, and does its memory stay flat?

    small_rps       requests per CPU second of 2P+2D on the Azure conversation trace (budget 50,000)
    large_rps       the same of 20P+20D on ten times the trace, the real controller ticking every 15 s (budget 20,000)
    million_mb      peak resident memory of the whole process after 10^6 requests on 20P+20D (budget 200)

The profile is the 70B model on eight H100. Requests are made before the clock starts: reading a trace is the trace's
cost. The last run draws its million requests one by one, so that only what is in flight is held. Each speed is the best
of three runs of the same work, since whatever else runs on the machine can only slow one down. The trace stands in the
folder that PDA_SHARED names, by default the one beside the checkout.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

from rich.console import Console
from rich.progress import track

from autoscaler.controller import Controller
from autoscaler.core.fleet import Role
from autoscaler.core.policy import PoolLimits
from autoscaler.errands import Daemons, Pace
from autoscaler.policy.profiles import replica_profile
from autoscaler.policy_file import load_policies
from autoscaler.ports import Managed
from autoscaler.roster import FixedRoster, managed
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.replay import Slice
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.traces import read_trace
from autoscaler.simulator.workload import Kind, Lengths, Request, constant

ROOT = Path(__file__).parents[2]
TRACE = Path(os.environ.get("PDA_SHARED", ROOT / ".." / "shared")) / "traces" / "AzureLLMInferenceTrace_2023_conv.csv.gz"
POLICY = ROOT / "policies" / "chat.yaml"
PROFILE = replica_profile("llama-3-70b-h100-tp8")
ROUNDS = 3
MILLION, MILLION_RPS = 1_000_000, 60.0
CONVERSATION = Kind(Lengths(1155, 1.0), Lengths(211, 0.8))
BUDGETS = {"small_rps": 50_000.0, "large_rps": 20_000.0, "million_mb": 200.0}


def pinned(replicas: int) -> Managed:
    """The fleet of a policy, held at this many replicas per role whatever its controller would like."""
    fleet = managed(load_policies([POLICY])[0].document)
    pools = dict.fromkeys(Role, PoolLimits(replicas, replicas))
    return replace(fleet, policy=replace(fleet.policy, pools=pools, profile=PROFILE, gpu_budget=None))


def fleet_of(replicas: int) -> FleetSpec:
    """A fleet of this many replicas per role."""
    return FleetSpec("default/chat", PROFILE, dict.fromkeys(Role, PoolSpec(replicas, gpus_per_replica=8)))


def small(requests: list[Request]) -> None:
    """One run without a controller."""
    engine = Engine(fleet_of(2), requests)
    engine.advance(requests[-1].arrival_s + 3600.0)
    expect(engine, requests)


def large(requests: list[Request]) -> None:
    """One run with the real controller, which decides at every tick and may change nothing."""
    fleet = pinned(20)
    run = VirtualRun(Scenario(fleet_of(20), fleet.policy.slos), requests)
    run.tick = Controller(FixedRoster([fleet]), run.clock, run.signals, run.cluster, pace=Pace(Daemons())).tick
    run.advance(requests[-1].arrival_s + 600.0)
    expect(run.engine, requests)


def expect(engine: Engine, requests: list[Request]) -> None:
    """All of them were served, or the figure is not of the work it names."""
    if not engine.exhausted or engine.offered != len(requests) or engine.gateway.refused:
        raise SystemExit(f"{engine.offered} of {len(requests)} requests offered, {len(engine.in_flight)} in flight: not the work")


def requests_per_cpu_s(run: Callable[[list[Request]], None], scale: float, what: str) -> float:
    """The best of the rounds."""
    requests = list(read_trace(TRACE, Random(1), Slice(scale=scale)))
    costs_s = []
    for _ in track(range(ROUNDS), what, console=Console(stderr=True)):
        began = time.process_time()
        run(requests)
        costs_s.append(time.process_time() - began)
    return len(requests) / min(costs_s)


def million_mb() -> float:
    """Peak memory of the process, MB, once a million requests have gone through."""
    engine = Engine(fleet_of(20), constant(Random(1), CONVERSATION, MILLION_RPS))
    for minute in track(range(1, round(MILLION / MILLION_RPS / 60) + 1), "10^6 requests", console=Console(stderr=True)):
        engine.advance(60.0 * minute)
    if engine.offered < 0.99 * MILLION:
        raise SystemExit(f"only {engine.offered} requests were offered")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    """Measure and print one JSON object."""
    if not TRACE.exists():
        raise SystemExit(f"no trace at {TRACE}: PDA_SHARED must name the folder that holds traces/")
    figures = {"million_mb": round(million_mb(), 1)}  # first: the peak of a process never falls again
    figures["small_rps"] = round(requests_per_cpu_s(small, 1.0, "2P+2D"))
    figures["large_rps"] = round(requests_per_cpu_s(large, 10.0, "20P+20D"))
    met = figures["million_mb"] <= BUDGETS["million_mb"] and all(figures[n] >= BUDGETS[n] for n in ("small_rps", "large_rps"))
    sys.stdout.write(json.dumps({"bench": "simulator", **figures, "budgets": BUDGETS, "met": met}) + "\n")


if __name__ == "__main__":
    main()
