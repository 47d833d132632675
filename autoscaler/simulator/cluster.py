"""How does the controller change a simulated fleet?

`SimulatedCluster` is the `FleetGateway` over an engine: it shows the fleet as it stands now, and carries out an action
only if the pool still is what the action was decided on, as a write with a precondition would on a real cluster.
"""

from __future__ import annotations

from collections.abc import Callable

from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, FlipWay
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

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        """Scale one pool or flip between two, if they still have the sizes it started from."""
        fleet = self.read(key, now)
        if isinstance(fleet, Fault):
            return Outcome(action, Verdict.FAILED, fleet.detail)
        seen = action.seen if isinstance(action, Flip) else {action.role: action.from_replicas}
        for role, count in seen.items():
            if fleet.pools[role].desired != count:
                return Outcome(action, Verdict.CONFLICT, f"{role} is at {fleet.pools[role].desired}, not at {count}")
        if isinstance(action, Flip):
            return self._flip(action, fleet)
        self._engine.scale(action.role, action.to_replicas)
        if self._applied is not None:
            self._applied(action, now)
        return Outcome(action, Verdict.APPLIED)

    def _flip(self, flip: Flip, fleet: Fleet) -> Outcome:
        roles = flip.from_role, flip.to_role
        way, driver = fleet.flip_ways.get(roles), self._engine.spec.driver(*roles)
        if way is None or driver is None:
            return Outcome(flip, Verdict.REFUSED, f"{flip.from_role} cannot be flipped to {flip.to_role} here")
        units = flip.from_replicas // way.from_replicas
        against = _objection(flip, way, units, len(fleet.flips))
        if against is None:
            try:
                self._engine.flip(*roles, units, driver)
            except ValueError as error:
                against = str(error)
        return Outcome(flip, Verdict.APPLIED) if against is None else Outcome(flip, Verdict.REFUSED, against)


def _objection(flip: Flip, way: FlipWay, units: int, under_way: int) -> str | None:
    """What speaks against a flip, whatever serves now."""
    if units < 1 or (flip.from_replicas, flip.to_replicas) != (units * way.from_replicas, units * way.to_replicas):
        per_unit = f"{way.from_replicas} {flip.from_role} for {way.to_replicas} {flip.to_role}"
        return f"{flip.from_replicas} for {flip.to_replicas} is no multiple of {per_unit}"
    if under_way + units > way.max_in_flight:
        return f"{units} more beside {under_way} under way (allowed at once: {way.max_in_flight})"
    return None
