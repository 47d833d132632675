"""Who moves transactions on, once they are begun?

A tick decides and begins (adapters/kubernetes/transactions); what follows takes minutes, in steps of seconds, and asks the
engines themselves. So it has beats of its own, faster than ticks:

    looking.py    what is seen of a transaction's replicas: routing, the engines, the targets
    doing.py      what is done at a step: routes, counts, switches
    conductor.py  the beats: look, advance, store, do

Beside the adapters it stands above them, since a look at one replica needs three of them: the cluster for its pod, the router
for whether it is sent requests, the engine for whether it has any.
"""

from autoscaler.conductor.conductor import Conductor
from autoscaler.conductor.doing import Hands, routing_of

__all__ = ["Conductor", "Hands", "routing_of"]
