"""May the whole fleet sleep?

Neither role serves alone, so zero is joint: all pools go to none together, and come back together (law 6). A fleet may sleep
when for `after_s` nobody has asked for anything, and that was seen: arrivals are known to be zero, nobody was turned away or is
held by the gateway, and every pool that has replicas was seen in full with nothing waiting or running. What is not known is no
idleness, and it wakes a fleet that sleeps: a metric that went missing must not keep users waiting for ever.

The wake-up signal is arrivals at the gateway, the one thing that still counts when no engine is left to; requests that it
holds meanwhile are served after a cold start. So a policy that allows sleep must name a gateway.

A fleet found asleep stays so without a new wait: after a restart nothing grows for the sake of being looked at.
"""

from __future__ import annotations

from autoscaler.core.observation import Freshness, Known, Observation, believable


def idle_since(before_s: float | None, observation: Observation, freshness: Freshness) -> float | None:
    """Since when (seconds) the fleet has been seen idle without a break, None if it is not seen to be."""
    if not _idle(observation, freshness):
        return None
    return observation.now if before_s is None or before_s > observation.now else before_s


def may_sleep(since_s: float | None, observation: Observation, after_s: float | None) -> bool:
    """Whether all pools may stand at zero now. `after_s`: how long it must have been idle, None: never."""
    if after_s is None or since_s is None:
        return False
    asleep = all(pool.desired == 0 for pool in observation.fleet.pools.values())
    return asleep or observation.now - since_s >= after_s


def _idle(observation: Observation, freshness: Freshness) -> bool:
    traffic = observation.signals.traffic
    arrivals = believable(traffic.offered_rps, freshness)
    if not isinstance(arrivals, Known) or arrivals.value > 0:
        return False
    knocking = (believable(one, freshness) for one in (traffic.rejected_rps, traffic.held))
    if any(isinstance(one, Known) and one.value > 0 for one in knocking):
        return False
    seen = [observation.coverage(role, freshness) for role, pool in observation.fleet.pools.items() if pool.desired > 0]
    return all(one.unknown is None and one.waiting + one.running == 0 for one in seen)
