"""What is one replica, from its making to its end?

A name, a phase, the GPUs it holds, and the servers in it. Mostly that is one server. One that changes its role without
draining has a new server for the new role, while the old one finishes what it has begun; both then run at full speed and
with their full memory, which flatters a flip a little while it lasts. Counters go on through a flip, as they would where
only a label changes, and as `increase` makes them look where the engine restarts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from autoscaler.core.fleet import Phase, Role
from autoscaler.simulator.events import Job, Server
from autoscaler.simulator.metrics import Occupancy


class SimReplica:
    """One replica: its name, its life, and the servers that do the work.

    `server` takes what is routed here. `busy` are those that only finish what they have: of a role it had before, or
    because it is leaving; then `leaving` is called when they have. `paid_s`: since when its pool pays for its GPUs.
    `came` is called once, when it first serves or is gone before that. `moved_s`: when it came from another role, None: never.
    """

    __slots__ = (
        "asked_s", "busy", "came", "dead", "leaving", "moved_s", "name", "ordinal", "paid_s", "phase", "server", "since_s",
    )  # fmt: skip

    def __init__(self, role: Role, ordinal: int, now: float, server: Server) -> None:
        self.name, self.ordinal, self.phase, self.server = f"{role}-{ordinal}", ordinal, Phase.STARTING, server
        self.asked_s = self.since_s = now
        self.paid_s: float | None = None
        self.moved_s: float | None = None
        self.busy: list[Server] = []
        self.leaving: Callable[[SimReplica, float], None] | None = None
        self.came: Callable[[float], None] | None = None
        self.dead = False

    def enter(self, phase: Phase, now: float) -> None:
        """Change the phase."""
        self.phase, self.since_s = phase, now

    def let_finish(self, now: float) -> list[Job]:
        """Have `server` take nothing more and finish what it has begun; what it has not begun is returned."""
        server = self.server
        self.busy.append(server)
        return server.drain(now, partial(self._finished, server))

    def go(self, now: float) -> None:
        """Nothing keeps it here any more."""
        self.busy.clear()
        leaving, self.leaving = self.leaving, None
        if leaving is not None:
            leaving(self, now)

    def tell_that_it_came(self, now: float) -> None:
        """It serves, or never will."""
        came, self.came = self.came, None
        if came is not None:
            came(now)

    def refresh(self, now: float) -> None:
        """Bring its counters up to now."""
        for server in dict.fromkeys((self.server, *self.busy)):  # no set: its order would change the last digit
            server.refresh(now)

    def occupancy(self) -> Occupancy:
        """Its gauges, the work of an earlier role included."""
        seen = self.server.occupancy()
        for server in self.busy:
            if server is not self.server:
                seen = seen.plus(server.occupancy())
        return seen

    def _finished(self, server: Server, now: float) -> None:
        if server in self.busy:
            self.busy.remove(server)
            if not self.busy:
                self.go(now)
