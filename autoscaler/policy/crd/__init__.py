"""Which Kubernetes type is a PDAutoscaler?

structural.py  the policy model's JSON schema -> a schema that an API server takes
rules.py       what two fields forbid together, in CEL, and which names are known
status.py      what the controller writes back
definition.py  all of it -> the CustomResourceDefinition that `autoscaler crd` prints

The same YAML is a file and an object. What the API server accepts, the model reads as the same policy; what only the
model can tell (an SLO below what the profile can do, a field that a profile does not have) ends as a condition of the
object, because CEL sees nothing of a field that may be text or a mapping.
"""

from autoscaler.policy.crd.definition import definition

__all__ = ["definition"]
