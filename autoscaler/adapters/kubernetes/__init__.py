"""How does the controller reach the replicas of a real cluster?

    api.py            one request: a dict or an `ApiFault`, always within a time-out
    snapshot.py       list + watch of one kind in one thread; readers take an immutable picture and never wait
    targets.py        the object that is scaled: what it wants, who owns it, whether it is being rolled out
    pods.py           its pods, folded into replicas: whole groups, not pods
    complaints.py     why replicas are missing, in the cluster's own words
    objections.py     who else writes the object: an owner, another autoscaler
    views.py          which lists are followed, and what they say now
    fleet_gateway.py  `FleetGateway` over all of these
    lease.py          which of several controllers may act

Everything is read as raw dicts and cut down to the few fields used here at once: 2,000 typed pods cost 2.1 s of CPU and
155 MiB, the same as trimmed dicts 0.8 s and 22 MiB (reference/python.md 1.5).
"""

from autoscaler.adapters.kubernetes.api import connect
from autoscaler.adapters.kubernetes.fleet_gateway import KubernetesFleet
from autoscaler.adapters.kubernetes.lease import Election

__all__ = ["Election", "KubernetesFleet", "connect"]
