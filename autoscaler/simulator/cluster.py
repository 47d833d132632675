"""How does the controller change a simulated fleet?

`SimulatedCluster` is the `FleetGateway` over an engine: it shows the fleet as it stands now, and carries out an action
only if the pool still is what the action was decided on, as a write with a precondition would on a real cluster.
"""

from __future__ import annotations

from collections.abc import Callable

from autoscaler.core.fleet import Fleet
from autoscaler.core.plan import Action, Outcome, Verdict
from autoscaler.ports import Fault
from autoscaler.simulator.engine import Engine


class SimulatedCluster:
    """The one fleet of an engine. `applied` is told every action that was carried out, and when."""

    def __init__(self, engine: Engine, applied: Callable[[Action, float], None] | None = None) -> None:
        self._engine, self._applied = engine, applied

    def read(self, key: str, now: float) -> Fleet | Fault:
        """The fleet as it stands."""
        if key != self._engine.spec.key:
            return Fault("simulated cluster", f"no fleet {key!r}, only {self._engine.spec.key!r}")
        return self._engine.fleet()

    def apply(self, key: str, action: Action, now: float, term: int) -> Outcome:
        """Scale one pool, if it still has the size the action started from."""
        fleet = self.read(key, now)
        if isinstance(fleet, Fault):
            return Outcome(action, Verdict.FAILED, fleet.detail)
        desired = fleet.pools[action.role].desired
        if desired != action.from_replicas:
            return Outcome(action, Verdict.CONFLICT, f"{action.role} is at {desired}, not at {action.from_replicas}")
        self._engine.scale(action.role, action.to_replicas)
        if self._applied is not None:
            self._applied(action, now)
        return Outcome(action, Verdict.APPLIED)
