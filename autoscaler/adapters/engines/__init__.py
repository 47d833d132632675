"""How does the controller talk to one engine?

    client.py       one request to one pod, within a bounded time and size
    exposition.py   which lines of its page of metrics count
    gauges.py       how full it is now, for those who judge requests
    queues.py       where a request may be inside an engine, and which metrics tell
    idle.py         how many are in it now, and since when none
    roles.py        which role it really has
    switch.py       telling it to do the other role, and what came of it
    capability.py   whether two pools can be flipped in place, and why not

All of it is called from threads, holds nothing between calls, and answers with values whatever an engine does.
"""

from autoscaler.adapters.engines.capability import Flippability, flippability
from autoscaler.adapters.engines.client import Engine, EngineFault, FaultKind
from autoscaler.adapters.engines.idle import Load, Looks, look
from autoscaler.adapters.engines.roles import Roles, roles
from autoscaler.adapters.engines.switch import Failed, Outcome, Refused, Switched, Unanswered, switch

__all__ = [
    "Engine",
    "EngineFault",
    "Failed",
    "FaultKind",
    "Flippability",
    "Load",
    "Looks",
    "Outcome",
    "Refused",
    "Roles",
    "Switched",
    "Unanswered",
    "flippability",
    "look",
    "roles",
    "switch",
]
