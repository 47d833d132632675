"""What share of the prompt tokens does a cache hold, and may that be believed just now?

A replica that has just begun to serve has an empty cache, and one that goes takes its own along: for a while more tokens are
computed than the traffic is worth. Taken for load, that would ask for yet another replica with an empty cache. So while a
replica of a role that computes prompts has served for less than `settle_s`, the share is quarantined: what a request brings
is told from its whole prompt and the share as it was forecast before.

A quarantine that lasts, because replicas come and come, ends by itself: a share not measured for longer than a forecast's
gap is not forecast, and what is measured counts again. What really has to be computed meanwhile shows in the queue.
"""

from __future__ import annotations

from dataclasses import replace

from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import ROLE_FACTS, Fleet, Phase, Work
from autoscaler.core.foreseen import Forecast

Share = float


def quarantined(fleet: Fleet, now: float, settle_s: float) -> bool:
    """Whether a replica that computes prompts has begun to serve less than `settle_s` ago, or is on its way out."""
    pools = [pool for role, pool in fleet.pools.items() if ROLE_FACTS[role].work is Work.UNCACHED_PROMPT]
    young = any(now - one.since_s < settle_s for pool in pools for one in pool.in_phase(Phase.SERVING))
    return young or any(pool.in_phase(Phase.DRAINING, Phase.SWITCHING, Phase.WARMING) for pool in pools)


def share_of(shape: Shape) -> Share:
    """The share of the mean prompt that a cache holds, 0..1."""
    return min(1.0, max(0.0, 1 - shape.uncached_tokens / shape.prompt_tokens)) if shape.prompt_tokens > 0 else 0.0


def as_forecast(shape: Shape, ahead: Forecast | None) -> Shape:
    """The shape with the forecast share of its prompt cached; as measured where nothing is forecast."""
    if ahead is None:
        return shape
    return replace(shape, uncached_tokens=max(1.0, shape.prompt_tokens * (1 - min(1.0, ahead.mean))))
