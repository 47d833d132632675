"""What is seen of the replicas and targets that a transaction is about?

One look at one moment, put together by whoever can see: the router or its labels, the engines themselves, the cluster.
What is not known is `None` or absent, and never taken for anything (core/transit.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Victim


class Away:
    """Out of routing."""


AWAY = Away()


@dataclass(frozen=True, slots=True)
class Seen:
    """A victim at one look; None is unknown. `same`: the pod of that name is the one of the record (False: another, or none).

    `stands`: there is a pod of that name, on its way out or not; `going`: it is on its way out. `routed`: as what requests are
    sent to it. `role`: what its engine says it is. `idle`: it had no work at enough looks in a row. `requests`: how many it
    has, at the last look that told. `refused`: why its engine did not switch, or why it cannot be routed otherwise, however
    often that is asked for; `broken`: what an engine said that is neither the one nor the other. Empty if nothing such.
    """

    same: bool | None = None
    stands: bool | None = None
    going: bool = False
    routed: Role | Away | None = None
    role: Role | None = None
    idle: bool = False
    requests: int | None = None
    refused: str = ""
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at what a transaction is about. Of targets: their counts, how many replicas of theirs serve, and how many
    stand, those on their way out included. What is unknown is absent.

    Counts take the last replicas, so three numbers say who is hit; None is unknown. `bystanders`: replicas that stand, are no
    victims, and would go with the victims if the donor had its new count (one that was missing when it began, and is back).
    `came`: how many of those beyond the receiver's old count serve. `others`: how many but the victims take requests in the
    role that these leave.
    """

    victims: Mapping[str, Seen] = field(default_factory=dict)
    counts: Mapping[Role, int] = field(default_factory=dict)
    ready: Mapping[Role, int] = field(default_factory=dict)
    standing: Mapping[Role, int] = field(default_factory=dict)
    bystanders: int | None = None
    came: int | None = None
    others: int | None = None

    def of(self, victim: Victim) -> Seen:
        """One victim; nothing is known of one that was not looked at."""
        return self.victims.get(victim.name, Seen())
