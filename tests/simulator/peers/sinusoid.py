"""How do the peers compare on one wave? A quick look, not the comparison: one scenario, one seed, the published knobs.

2 to 30 requests/s with a period of 450 s for 30 minutes, 4,000 prompt tokens (3,000 of them not cached) and 300 output tokens
on average, llama-3-8b-h100-tp1, TTFT 0.5 s and TPOT 15 ms, cold start 60 s (sigma 0.25). All begin with 4 + 4 replicas.

    python -m tests.simulator.peers.sinusoid
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from random import Random

from autoscaler.core.action import Mode
from autoscaler.core.capacity import Shape, Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.policy.profiles import replica_profile
from autoscaler.ports import Managed
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.peers.best_static import best_static
from autoscaler.simulator.peers.catalogue import PEERS, Setting
from autoscaler.simulator.peers.clairvoyant_flipper import ClairvoyantFlipper
from autoscaler.simulator.peers.oracle import oracle
from autoscaler.simulator.peers.trial import Trial, gpu_hours
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.score import Score
from autoscaler.simulator.shapes import Wave, shaped
from autoscaler.simulator.workload import Kind, Lengths

SHAPE = Shape(4000, 3000, 300, cv2=0.25)
KIND = Kind(Lengths(4000, 0.5, 32_768), Lengths(300, 0.5, 4_096), cached_share=0.25)
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 0.5, 0.99), SloKind.TPOT: Slo(SloKind.TPOT, 0.015, 0.99)}
WAVE = Wave(2.0, 30.0, 450.0)
TODAY = {Role.PREFILL: 4, Role.DECODE: 4}
LIMITS = PoolLimits(1, 16)


def policy() -> Policy:
    """Bounds of 1..16 per role and no budget."""
    return Policy(Mode.AUTO, SLOS, dict.fromkeys(Role, LIMITS), replica_profile("llama-3-8b-h100-tp1"), shape=SHAPE)


def sinusoid(duration_s: float, replicas: Mapping[Role, int] = TODAY, seed: int = 1) -> Trial:
    """The scenario for so long."""
    fleet = FleetSpec(
        "demo/wave", policy().profile, {r: PoolSpec(n) for r, n in replicas.items()}, StartUp(60.0, 0.25), seed=seed
    )
    requests = tuple(shaped(Random(seed), WAVE, KIND, duration_s))
    return Trial(Scenario(fleet, SLOS), requests, Managed("demo/wave", "demo", "8b", policy(), gateway="llm-d"), duration_s)


def main() -> None:
    """Every peer as published and at its other points, then the references."""
    trial, begun_s = sinusoid(1800.0), time.process_time()
    _say(f"{len(trial.requests)} requests")
    for name, entry in PEERS.items():
        for point in entry.points:
            setting = Setting(policy(), SHAPE, TODAY)
            score = trial.of(entry.make(setting, point), entry.begins(setting, point))
            _say(_row(f"{name} {point:g}{' *' if point == entry.published else ''}", score))
    fixed = best_static(trial)
    _say(_row(f"best static {tuple(fixed.replicas.values())}", fixed.score) + f"  {fixed.runs} runs, holds: {fixed.feasible}")
    best = oracle(trial, fixed.replicas)
    _say(_row("oracle", best.score) + f"  {best.runs} runs, holds: {best.feasible}, {best.gap:.1%} above the bound")
    _say(f"{'lower bound':28}          {best.bound.gpu_hours:6.2f} GPU-h")
    for share in (0.75, 1.0, 1.25, 1.5):
        fleet = Setting(policy(), SHAPE, TODAY).fleet_of(share)
        flipper = ClairvoyantFlipper.of(best.bound, policy(), SHAPE)
        _say(_row(f"clairvoyant flipper of {sum(fleet.values())}", trial.of(flipper, fleet)))
    _say(f"{trial.runs} runs in {time.process_time() - begun_s:.1f} CPU s")


def _row(name: str, score: Score) -> str:
    figures = f"{score.attainment or 0:8.2%} {gpu_hours(score):7.2f} GPU-h {score.actions:4d} actions {score.flips:4d} flips"
    return f"{name:28}{figures}"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
