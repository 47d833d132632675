"""What is a replica to those who send requests, and what can be asked of them?

Requests reach a replica at its leader pod; the workers of its group serve no HTTP, so no router looks at them and they are
left as they are (reference/engines.md A.2, B.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from autoscaler.core.fleet import Role
from autoscaler.core.sight import Away
from autoscaler.ports import Fault

DOOR = "routing"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A replica's leader pod, as it was last seen.

    `role` is that of the pool it was made for. `gates` are the readiness gates of its spec with the status of each one's
    condition, "" where nobody has set it yet. `selector` is that by which its owner finds its pods, as /scale tells it.
    """

    name: str
    namespace: str
    uid: str
    ip: str
    role: Role
    labels: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, str] = field(default_factory=dict)
    selector: str = ""


@dataclass(frozen=True, slots=True)
class Refused(Fault):
    """It will not be done however often it is asked for; a human has to change something. Nothing was changed."""


class Routing(Protocol):
    """One way to take replicas out of routing and to let them in. Neither method raises for what the outside did."""

    def routed(self, pod: Endpoint) -> Role | Away | None:
        """As what the router takes it: in a role, or out; None is unknown."""
        ...

    def route(self, pod: Endpoint, role: Role | None) -> Fault | None:
        """Have it taken in this role, or out (None). None: asked for, or so already. A Fault: ask again; Refused: do not."""
        ...
