"""Which fixed fleet is the cheapest that keeps a required attainment?

What a careful operator would find who could replay the traffic beforehand; a scaler that does not beat it has earned
nothing. Searched by simulation over N_p x N_d: first each role's least count while the others have their most (bisection,
since more replicas of a role never hurt), which bounds the box from below, then its fleets in the order of their cost, the
first that holds. For bounds of 1..16 that is 2 x 4 runs and then mostly one to ten; never more than `most_runs`.

The fleet stands from the first second on, so it pays no cold start: kind to this reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from autoscaler.core.fleet import Role
from autoscaler.simulator.peers.static import Static
from autoscaler.simulator.peers.trial import Trial, keeps
from autoscaler.simulator.score import Score


@dataclass(frozen=True, slots=True)
class BestStatic:
    """The fleet, its score, whether it keeps the attainment (if not, it is the last one tried), and the runs it took."""

    replicas: Mapping[Role, int]
    score: Score
    feasible: bool
    runs: int


def best_static(trial: Trial, attainment: float = 0.99, most_runs: int = 40) -> BestStatic:
    """The cheapest fixed fleet within the policy's bounds and GPU budget. Deterministic."""
    begun = trial.runs
    most = {role: limits.max_replicas for role, limits in trial.managed.policy.pools.items()}
    least = {role: _least(trial, role, most, attainment) for role in most}
    fleets = _by_cost(trial, least, most) or [least]
    for counts in fleets[: max(1, most_runs - (trial.runs - begun))]:
        score = trial.of(Static(counts), counts)
        if feasible := keeps(score, attainment):
            break
    return BestStatic(counts, score, feasible, trial.runs - begun)


def _least(trial: Trial, role: Role, most: Mapping[Role, int], attainment: float) -> int:
    """The fewest of this role that hold with the others at their most; the most if none does."""
    low, high = trial.managed.policy.pools[role].min_replicas, most[role]
    while low < high:
        middle = (low + high) // 2
        counts = {**most, role: middle}
        low, high = (low, middle) if keeps(trial.of(Static(counts), counts), attainment) else (middle + 1, high)
    return high


def _by_cost(trial: Trial, least: Mapping[Role, int], most: Mapping[Role, int]) -> list[dict[Role, int]]:
    """Every fleet of the box that the budget allows, cheapest first, then by counts."""
    gpus = {role: pool.gpus_per_replica for role, pool in trial.scenario.fleet.pools.items()}
    budget = trial.managed.policy.gpu_budget
    boxes = [dict(zip(most, counts, strict=True)) for counts in product(*(range(least[r], most[r] + 1) for r in most))]
    priced = [(sum(count * gpus[role] for role, count in box.items()), tuple(box.values()), box) for box in boxes]
    return [box for cost, _, box in sorted(priced, key=lambda row: row[:2]) if budget is None or cost <= budget]
