"""When does the traffic of a case turn into other traffic, and how long did a run need to get over it?

Only made-up traffic says so itself: a spike's beginning, the beginning of each "on", the beginning of a ramp, the seam
between two phases of a walk. Falling rates are no shift, for nobody has to recover from them; a wave moves always and shifts
never; a recorded trace does not say. A run is over a shift when its windows of 30 s meet the promised percentile again
(recovery.py), before the next shift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, count, cycle, takewhile

from autoscaler.core.fleet import SloKind
from autoscaler.simulator.run import VirtualRun
from autoscaler.simulator.scenarios import Case
from autoscaler.simulator.shapes import OnOff, Ramp, Shape, Spike


@dataclass(frozen=True, slots=True)
class Recovery:
    """How many shifts there were, how many were got over before the next, and the longest that took, s."""

    shifts: int
    recovered: int
    worst_s: float | None


def shifts_s(case: Case) -> tuple[float, ...]:
    """Seconds from the begin at which the case's traffic shifts; none for waves and traces."""
    told = case.traffic.keywords if isinstance(case.traffic, partial) else {}
    if "phases" in told:
        lengths_s = [phase.length_s for phase in told["phases"] if phase.length_s > 0]
        seams: Iterator[float] = accumulate(cycle(lengths_s))
    else:
        seams = _rises(told.get("shape"))
    return tuple(takewhile(lambda at_s: at_s < case.duration_s, seams))


def recovery(run: VirtualRun, case: Case) -> Recovery | None:
    """How the run got over each shift; None if there was none."""
    at = shifts_s(case)
    if not at:
        return None
    aim = case.scenario.slos[SloKind.TTFT].quantile
    took = [run.keeper.recovery_s(shift_s, aim, until_s) for shift_s, until_s in _stretches(at, case.duration_s)]
    recovered = [seconds for seconds in took if seconds is not None]
    return Recovery(len(at), len(recovered), max(recovered, default=None))


def _stretches(at: Sequence[float], end_s: float) -> Iterator[tuple[float, float]]:
    return zip(at, (*at[1:], end_s), strict=True)


def _rises(shape: Shape | None) -> Iterator[float]:
    match shape:
        case Spike(start_s=start_s, every_s=every_s):
            return (start_s + lap * every_s for lap in count()) if every_s else iter((start_s,))
        case OnOff(on_s=on_s, off_s=off_s):
            return (lap * (on_s + off_s) for lap in count(1))
        case Ramp(start_s=start_s):
            return iter((start_s,))
    return iter(())
