"""How many tokens does a request in a batch really hold?

Not those of the mean request. Long answers are found in a batch more often than they arrive, and so are the prompts that ask
for them: of two crowds, readers who bring 14,000 tokens and want 2, and writers who bring 400 and want 500, a third of the
arrivals are readers and a hundredth of the residents. By the mean of both a replica would be full at a tenth of what it
holds. The engines tell what is held (KV in use) and by how many (running), so the quotient is measured, over all pods of the
role that report, and smoothed: it halves its distance in `HALF_S`, for a batch of ten swings by a third from look to look.

What is measured at this look counts from the next one on: more load now must not lower demand by what it teaches (law 5).
The quotient is believed between 1/64 and 64 times prompt plus answer of the mean request, for those two crowds are a factor of
10 to 20 apart; beyond that the gauge means something else.
"""

from __future__ import annotations

import math
from dataclasses import replace

from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import ROLE_FACTS, Sizing
from autoscaler.core.observation import Freshness, Observation

HALF_S = 120.0
FEWEST = 8.0  # running in all pods together; of fewer a single long prompt makes the quotient
FARTHEST = 64.0


def held_tokens(
    before: float | None, gap_s: float, observation: Observation, kv_tokens: int, freshness: Freshness
) -> float | None:
    """KV tokens per running request, smoothed; `before` is what was known, `gap_s` seconds ago. Unchanged where it cannot be
    measured now: not every pod seen, or too few running.
    """
    measured = _measured(observation, kv_tokens, freshness)
    if measured is None or before is None:
        return before if measured is None else measured
    left: float = 0.5 ** (max(0.0, gap_s) / HALF_S)
    return measured + (before - measured) * left


def with_held(shape: Shape | None, held: float | None) -> Shape | None:
    """The shape, with what its requests were seen to hold."""
    if shape is None or held is None:
        return shape
    mean = shape.prompt_tokens + shape.output_tokens
    return replace(shape, held_tokens=held if mean / FARTHEST <= held <= mean * FARTHEST else None)


def _measured(observation: Observation, kv_tokens: int, freshness: Freshness) -> float | None:
    roles = [role for role in observation.fleet.pools if ROLE_FACTS[role].sizing is Sizing.BATCH]
    seen = [observation.coverage(role, freshness) for role in roles]
    running = sum(one.running + one.deferred for one in seen)
    if running < FEWEST or any(one.unknown is not None for one in seen):
        return None
    used: float = sum(one.kv_usage * one.reporting for one in seen) * kv_tokens / running
    return used if math.isfinite(used) and used > 0 else None
