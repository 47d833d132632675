"""Mooncake's three rules of early rejection (simulator/early_rejection.py) at the limits of its overload: whom do they turn away,
and how full are the pools meanwhile?

One thing is fitted: decode's steps take 0.65 times what the built-in profile says, so that the baseline turns away as many
as Mooncake's did (4,183 of 23,608). As it ships it turns away 41 %, and a decode pool that is so much too small hides
whatever prefill does.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import replica_profile
from autoscaler.simulator import early_rejection
from autoscaler.simulator.early_rejection import EarlyRejection, Rejects

BUILT_IN, STEPS = replica_profile("splitwise-2024-llama-2-70b-a100-tp8"), 0.65
B0, B1, B2 = BUILT_IN.decode_s
PROFILE = replace(BUILT_IN, decode_s=(STEPS * B0, STEPS * B1, STEPS * B2))
NODES, TTFT_S, TPOT_S = 8, 30.0, 0.1


class Gate(early_rejection.Gate):
    """The gate of a run. `stays_s` is t_d."""

    def __init__(self, rejects: Rejects, stays_s: float) -> None:
        super().__init__(EarlyRejection(rejects, TTFT_S, TPOT_S, stays_s))

    def load(self, role: Role) -> float:
        """Of a pool, as a share of its limit: the work ahead of a prefill replica, the time between tokens in decode."""
        return {Role.PREFILL: fmean(self.ahead_s()) / TTFT_S, Role.DECODE: self.step_s() / TPOT_S}[role]
