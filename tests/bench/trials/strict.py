"""Who keeps count in a trial in which every request has to be served?

A trial that loses a request measures something else than it says, so the run ends there.
"""

from __future__ import annotations

from autoscaler.core.fleet import Role
from autoscaler.simulator.events import Cause
from autoscaler.simulator.workload import Request


class Strict:
    """What a `Ledger` does with all that is not a finish; `finished` is the trial's own."""

    def refused(self, request: Request) -> None:
        raise SystemExit(f"request {request.id} was refused: not the work")

    def given_up(self, request: Request, cause: Cause) -> None:
        raise SystemExit(f"request {request.id} was given up: not the work")

    def flipped(self, from_role: Role, to_role: Role, count: int, now: float) -> None:
        """Roles may change; nothing is counted."""
