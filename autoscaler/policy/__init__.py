"""What does the operator want of a fleet?

fields.py      how a field is read, and how a refused one is told in one line
profiles.py    the replica profiles and names that ship with the product
sections.py    each part of the document: its fields, their ranges, what two of them forbid together
calendar.py    the hours at which a pool is larger on purpose
behaviour.py   the brakes, overridden field by field, and the ways of draining and flipping
actuation.py   who writes a pool's count
autoscalers.py which autoscaler makes the count what is published of it
routing.py     how requests find replicas, and how one is taken out
drivers.py     which ways of flipping a fleet can have, and what stands in the way of the others
document.py    PDAutoscaler as a whole -> the frozen policy of the core
claims.py      what a policy must have to itself
crd/           the same as a Kubernetes type, for `autoscaler crd`
surprises.py   what is valid and will still surprise its owner
marked_yaml.py YAML with the line of every field, for policy_file.py, which reads the files
"""

from autoscaler.policy.document import Document
from autoscaler.policy.profiles import replica_profile
from autoscaler.policy.surprises import warnings

__all__ = ["Document", "replica_profile", "warnings"]
