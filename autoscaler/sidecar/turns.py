"""When may somebody who was turned away come again, and not all of them at once?

A verdict says how long until it would be a yes if nobody else came. While the fleet is full that is short, since the queue in
front of it is kept just at what its promise allows; so each of 300 who were turned away would be told the same second, come
back in it, and be turned away again. So each gets a turn of its own: not before its verdict says, and one slot behind who was
turned away before it. A slot is how long the fleet takes for one such request in the phase that held it up: its prefill over
the replicas that do it, or t_d over the residents of decode; a sidecar with a share of the load has that share of the slots.

Of a burst of 400 requests within 5 s on a fleet that does 100 in that time, 399 are served in the end by clients that try three
times; 176 if each is told only its verdict's wait, 164 if they are told nothing (tests/sidecar/test_retries.py). Turns are
kept for MOST_WAIT_S ahead; who comes later than that is told MOST_WAIT_S.
"""

from __future__ import annotations

from autoscaler.core.fleet import Sizing
from autoscaler.core.outlook import Standing
from autoscaler.core.rejection import LEAST_WAIT_S, MOST_WAIT_S, Verdict, Why


class Turns:
    """Gives out turns, in the thread that judges."""

    def __init__(self) -> None:
        self._free_s = 0.0

    def wait_s(self, verdict: Verdict, standing: Standing, now: float) -> float:
        """Seconds until the turn of a request that was turned away at `now`."""
        turn_s = max(now + (verdict.wait_s or LEAST_WAIT_S), self._free_s)
        self._free_s = min(turn_s + _slot_s(verdict, standing), now + MOST_WAIT_S)
        return turn_s - now


def _slot_s(verdict: Verdict, standing: Standing) -> float:
    """How long all replicas together take for one such request, as far as they work for this sidecar."""
    crowds = standing.by_law
    work_s = verdict.burden.work_s if verdict.burden is not None else 0.0
    slots_s = {
        Sizing.QUEUE: work_s / max(1, crowds[Sizing.QUEUE].serving),
        Sizing.BATCH: standing.stay_s / max(1.0, crowds[Sizing.BATCH].running),
    }
    held_up = _HELD_UP.get(verdict.why)
    return (max(slots_s.values()) if held_up is None else slots_s[held_up]) / standing.share


_HELD_UP = {Why.TTFT: Sizing.QUEUE, Why.TPOT: Sizing.BATCH}  # by which phase; other reasons do not tell
