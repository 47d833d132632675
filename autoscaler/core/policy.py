"""What does the operator want of one fleet? The sum of every room's limits, as the core decides by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.core.action import Mode
from autoscaler.core.calendar import Floor, floor
from autoscaler.core.calibration import CalibrationLimits
from autoscaler.core.capacity import Shape, Slo
from autoscaler.core.demand import DemandLimits
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.flip import FlipLimits
from autoscaler.core.foreseen import ForecastLimits
from autoscaler.core.hysteresis import Damping
from autoscaler.core.observation import Freshness
from autoscaler.core.profile import ReplicaProfile


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of one pool, in replicas."""

    min_replicas: int
    max_replicas: int


@dataclass(frozen=True, slots=True)
class Policy:
    """One fleet's policy. `shape` stands in until requests can be measured; `floors` raise a pool's min for a part of the
    week; `zero_after_s`: how long nobody must have asked for anything before all pools go to zero, None: never.
    """

    mode: Mode
    slos: Mapping[SloKind, Slo]
    pools: Mapping[Role, PoolLimits]
    profile: ReplicaProfile
    gpu_budget: int | None = None
    shape: Shape | None = None
    freshness: Freshness = Freshness()
    forecast: ForecastLimits = ForecastLimits()
    demand: DemandLimits = DemandLimits()
    calibration: CalibrationLimits = CalibrationLimits()
    damping: Mapping[Role, Damping] = field(default_factory=dict)
    flip: FlipLimits = FlipLimits()
    floors: Mapping[Role, tuple[Floor, ...]] = field(default_factory=dict)
    zero_after_s: float | None = None

    def bounds(self, now: float) -> Mapping[Role, PoolLimits]:
        """Every pool's bounds at this hour; a floor beyond the max is the max."""
        return {role: _raised(limits, floor(self.floors.get(role, ()), now)) for role, limits in self.pools.items()}


def _raised(limits: PoolLimits, least: int) -> PoolLimits:
    if least <= limits.min_replicas:
        return limits
    return PoolLimits(min(least, limits.max_replicas), limits.max_replicas)
