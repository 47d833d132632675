"""Who writes a pool's count, and under which name is it published for those who are to write it?

    direct  this controller writes it
    hpa     a HorizontalPodAutoscaler does (KEDA makes one, too): the controller decides as ever, drains as ever, and then
            publishes the count in the policy's status, where the external metric below takes it from

A HorizontalPodAutoscaler with target AverageValue 1 makes ceil(metric / 1) replicas of it, whatever stands: the metric is the
count (reference/interfaces.md B4). What is published is therefore never a wish that has yet to be drained for: it is the
count that a direct write would write at that moment, and else the one that the target has.

Flips are made of counts, too. Two autoscalers look every 15 s, each at its own time, so a flip where one of them writes goes
step by step: the donor's count is published once it is drained, and the receiver's once the donor's replicas are gone. What
changes replicas in place (relabel, engineSwitch) is refused: a borrowed replica counts in one role and stands in the other's
target, so the role's count and the one its autoscaler must write would be two numbers under one name.

A HorizontalPodAutoscaler whose target has 0 replicas is asleep itself, unless HPAScaleToZero is on (the default only from
Kubernetes 1.37 on): a fleet that sleeps would never be woken.
"""

from __future__ import annotations

from enum import StrEnum


class Actuation(StrEnum):
    """Who writes a pool's count."""

    DIRECT = "direct"
    HPA = "hpa"


DESIRED_METRIC = "pdautoscaler_desired_replicas"
POLICY_LABEL, ROLE_LABEL = "policy", "role"
NO_SCALE = "is not possible for a role inside an object, which has no /scale: target its DisaggregatedSetRoleScaler instead"
NEVER_WOKEN = (
    "is not possible with actuation hpa: at 0 replicas a HorizontalPodAutoscaler looks no more, and nobody would wake it"
)
