"""What can be said of a fleet in four sentences?

The conditions of its PDAutoscaler, in the words of the Horizontal Pod Autoscaler where it has them:

    AbleToScale     the fleet can be read, what is written to it is accepted, and what others are to write they write
    ScalingActive   every signal is present and fresh, or the fleet sleeps and needs none but arrivals
    ScalingLimited  a bound, the budget, or a cluster that refuses replicas holds the targets back
    Degraded        somebody should look: a drain or a flip does not get on, replicas that are wanted do not come, or nobody
                    can tell what stands

Each is told at every tick, also of a fleet that is held: one left out would go on standing there as it last was. Degraded
is told as soon as the cluster tells it; whoever is woken by it should wait for as long as a node takes to come.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autoscaler.core.action import Outcome, Plan, Verdict
from autoscaler.core.decide import Decision
from autoscaler.core.explain import reason_of
from autoscaler.core.fleet import Fleet, Lack
from autoscaler.core.observation import Unknown
from autoscaler.core.reason import Finding, Reason

LIMITS = frozenset(
    {
        Reason.TOO_FEW_REPLICAS,
        Reason.TOO_MANY_REPLICAS,
        Reason.LAST_SERVING,
        Reason.GPU_BUDGET,
        Reason.NOT_CREATED,
        Reason.NODES_REFUSED,
    }
)
# Which lack names the condition when there are several: first what never mends itself, last what often does.
GRAVITY = (Lack.FAILING, Lack.NOT_CREATED, Lack.NODES_REFUSED, Lack.UNSCHEDULABLE)


@dataclass(frozen=True, slots=True)
class Condition:
    """A Kubernetes condition: type, True or False, a CamelCase reason and a sentence."""

    type: str
    status: bool
    reason: str
    message: str


def conditions(fleet: Fleet, decision: Decision, outcomes: Iterable[Outcome]) -> tuple[Condition, ...]:
    """Those of a fleet that was decided on."""
    return (_able(fleet, outcomes), _active(decision), _limited(decision.plan), _degraded(fleet))


def held(finding: Finding) -> tuple[Condition, ...]:
    """Those of a fleet for which nothing could be decided, whatever the reason."""
    reason, text = finding.reason, finding.text
    return (
        Condition("AbleToScale", False, reason, text),
        Condition("ScalingActive", False, reason, text),
        Condition("ScalingLimited", False, reason, "no target was set, so nothing holds one back"),
        Condition("Degraded", True, reason, text),
    )


def _able(fleet: Fleet, outcomes: Iterable[Outcome]) -> Condition:
    """A write that is still under way has not failed, so it is told only where none did. One that others are to make is under
    way until their patience is over.
    """
    pending = None
    for role, pool in fleet.pools.items():
        handed = pool.handed
        if handed is not None and not handed.followed:
            who = f"{handed.reader} does not follow; see its bounds, its behavior and its conditions"
            who = who if handed.reader else "nothing that reads the published count scales it; `autoscaler hpa` prints what would"
            text = f"{role}: stays at {handed.count} for {handed.waits_s:.0f} s while another count is published: {who}"
            return Condition("AbleToScale", False, Reason.NOT_FOLLOWED, text)
    for outcome in outcomes:
        told = f"{outcome.action.subject}: {outcome.detail}"
        if outcome.verdict is Verdict.PENDING:
            pending = pending or Condition("AbleToScale", True, Reason.WRITE_PENDING, told)
        elif outcome.verdict is not Verdict.APPLIED:
            return Condition("AbleToScale", False, outcome.verdict, told)
    return pending or Condition("AbleToScale", True, "Ready", "every write so far was accepted")


def _active(decision: Decision) -> Condition:
    """Of a fleet that sleeps no replica reports, and none is missed: it was put to sleep on what was seen."""
    for finding in decision.plan.findings:
        if finding.reason is Reason.IDLE:
            return Condition("ScalingActive", True, Reason.IDLE, finding.text)
    for role, view in decision.views.items():
        blind = view.load if isinstance(view.load, Unknown) else view.load.partial
        if blind is not None:
            return Condition("ScalingActive", False, reason_of(blind), f"{role}: {blind.detail or blind.gap}")
    return Condition("ScalingActive", True, "ValidMetricFound", "every signal is present and fresh")


def _limited(plan: Plan) -> Condition:
    for finding in plan.findings:
        if finding.reason in LIMITS:
            return Condition("ScalingLimited", True, finding.reason, f"{finding.role}: {finding.text}")
    return Condition("ScalingLimited", False, "DesiredWithinRange", "no bound holds the targets back")


def _degraded(fleet: Fleet) -> Condition:
    if fleet.stuck:
        return Condition("Degraded", True, Reason.STUCK, "; ".join(fleet.stuck))
    found = [(role, shortage) for role, pool in fleet.pools.items() for shortage in pool.shortages]
    if not found:
        return Condition("Degraded", False, "AsDesired", "every replica that is wanted serves or starts")
    found.sort(key=lambda one: (GRAVITY.index(one[1].lack), one[0]))
    told = "; ".join(f"{role}: {shortage.replicas} {shortage.lack}: {shortage.text}" for role, shortage in found)
    return Condition("Degraded", True, found[0][1].lack, told)
