"""Which flips are under way, and whose GPUs do they hold?

A *flight* is one unit of a flip from its beginning until its new replicas serve or are wanted no longer. Both pools count it
from the first moment: `desired` of the new role has grown, and the old ones are still there. While they drain, what they
hold is what the new ones are promised, so those GPUs are counted once:

    shared = min(GPUs of the old ones that are left, GPUs of the new ones that are promised and still wanted)

Two TP2 replicas that drain for one TP4: 4 held, 4 promised, 4 shared, so 4 in all; when one of the two has gone 2 are held,
4 promised, 2 shared. Where the new ones grow first nothing is shared: both hold theirs until the old ones are gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

from autoscaler.core.fleet import Flipping, Phase
from autoscaler.simulator.pools import SimPool
from autoscaler.simulator.replicas import SimReplica


@dataclass(slots=True, eq=False)
class Flight:
    """One unit under way: the `old` ones that shall go, and the `new` ones that `take` promises, once they are there."""

    source: SimPool
    target: SimPool
    take: int
    began_s: float
    old: list[SimReplica]
    new: list[SimReplica] = field(default_factory=list)
    name: str = ""

    @property
    def left(self) -> list[SimReplica]:
        """The old ones that have not gone."""
        return [replica for replica in self.old if replica in self.source.replicas]

    @property
    def moving(self) -> SimReplica | None:
        """Who tells how far it is: one that drains, or else one that comes; None when it is over."""
        left = self.left
        coming = (one for one in self.new if one.phase is not Phase.SERVING and one in self.target.replicas)
        return next((one for one in left if one.phase is Phase.DRAINING), None) or next(coming, None)

    def seen(self, moving: SimReplica, shared_gpus: int) -> Flipping:
        """As the controller sees it."""
        roles = self.source.role, self.target.role
        since_s = max(moving.since_s, self.began_s)
        return Flipping(self.name, *roles, len(self.old), self.take, moving.phase, since_s, self.began_s, shared_gpus)


class Flights:
    """Those of one fleet, the oldest first."""

    def __init__(self) -> None:
        self._under_way: list[Flight] = []
        self._numbers = count()

    def add(self, flights: list[Flight]) -> None:
        """They have begun."""
        for flight in flights:
            flight.name = f"flip-{next(self._numbers)}"
        self._under_way += flights

    def seen(self) -> tuple[Flipping, ...]:
        """Those that are not over."""
        moving = {flight: one for flight in self._under_way if (one := flight.moving) is not None}
        self._under_way = list(moving)
        wanted = {id(flight.target): flight.target.promised for flight in moving}
        found = []
        for flight, one in moving.items():
            promised = 0 if flight.new else min(flight.take, wanted[id(flight.target)])
            wanted[id(flight.target)] -= promised
            shared = min(len(flight.left) * flight.source.gpus_per_replica, promised * flight.target.gpus_per_replica)
            found.append(flight.seen(one, shared))
        return tuple(found)
