"""What is left of wished counts within bounds and GPU budget?

Where they would not fit the budget, whoever has most beyond its need gives, one replica at a time, and never its last: of
4 + 4 at needs of 2 and 1 with a budget of 6 single GPUs, the second role (1 / 4 busy, then 1 / 3) gives two: 4 + 2.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.core.fleet import Role
from autoscaler.core.policy import Policy


def affordable(
    wanted: Mapping[Role, int], policy: Policy, gpus: Mapping[Role, int], needs: Mapping[Role, float]
) -> dict[Role, int]:
    """The counts within the policy's bounds and budget. `gpus`: of one replica, one where nothing is said; `needs`: replicas
    that each role has work for.
    """
    limits = policy.pools
    counts = {role: min(limits[role].max_replicas, max(limits[role].min_replicas, count)) for role, count in wanted.items()}
    while policy.gpu_budget is not None and sum(count * gpus.get(role, 1) for role, count in counts.items()) > policy.gpu_budget:
        spare = {role: count for role, count in counts.items() if count > max(1, limits[role].min_replicas)}
        if not spare:
            break
        counts[min(spare, key=lambda role: needs[role] / spare[role])] -= 1
    return counts
