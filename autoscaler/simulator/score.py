"""How well was the fleet run, and what did it cost?

The figures stand together, always: attainment alone is bought with idle GPUs, GPU-hours alone with broken promises.

Attainment is over *offered* requests, not over finished ones, so that a request nobody served counts. A request is
    met     it finished with TTFT and TPOT within their SLOs
    missed  it was refused, it finished late in either, or it is in flight and can no longer be met: its first token
            came or comes too late, or so much time has passed since that (now - first token) / (output - 1) > SLO
    open    it is in flight and may still be met
and attainment = met / (met + missed); the open ones, seconds of traffic at most on a healthy fleet, are told beside it.

A reversal is an action that undoes the one before it on the same role within twice the start-up time: what was asked
for had hardly arrived when it was given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.plan import Action
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.events import Job
from autoscaler.simulator.workload import Request


@dataclass(frozen=True, slots=True)
class Score:
    """One run so far. `attainment` is None until a request is decided; `goodput_rps` is met requests per second."""

    duration_s: float
    offered: int
    served: int
    refused: int
    open: int
    lost: int
    met: int
    attainment: float | None
    goodput_rps: float
    gpu_hours: Mapping[Role, float]
    actions: int
    reversals: int


class ScoreKeeper:
    """Is told what became of each request (a `Ledger`) and of each action, and keeps counts only."""

    def __init__(self, slos: Mapping[SloKind, Slo], start_up_s: float) -> None:
        self._ttft_s, self._tpot_s = slos[SloKind.TTFT].threshold_s, slos[SloKind.TPOT].threshold_s
        self._reversal_within_s = 2 * start_up_s
        self._served = self._met = self._refused = self._actions = self._reversals = 0
        self._last_move: dict[Role, tuple[bool, float]] = {}

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        """A request was answered in full."""
        self._served += 1
        self._met += ttft_s <= self._ttft_s and tpot_s <= self._tpot_s

    def refused(self, request: Request) -> None:
        """A request was longer than any replica can hold."""
        self._refused += 1

    def acted(self, action: Action, now: float) -> None:
        """An action was carried out."""
        upward = action.to_replicas > action.from_replicas
        was_upward, at_s = self._last_move.get(action.role, (upward, now))
        self._actions += 1
        self._reversals += upward != was_upward and now - at_s <= self._reversal_within_s
        self._last_move[action.role] = (upward, now)

    def score(self, engine: Engine) -> Score:
        """The figures at the engine's now."""
        now, in_flight = engine.now, engine.in_flight.values()
        open_ = sum(not self._hopeless(job, now) for job in in_flight)
        decided = engine.offered - open_
        return Score(
            duration_s=now,
            offered=engine.offered,
            served=self._served,
            refused=self._refused,
            open=open_,
            lost=engine.offered - self._served - self._refused - len(in_flight),
            met=self._met,
            attainment=self._met / decided if decided else None,
            goodput_rps=self._met / now if now else 0.0,
            gpu_hours={role: pool.gpu_s(now) / 3600 for role, pool in engine.pools.items()},
            actions=self._actions,
            reversals=self._reversals,
        )

    def _hopeless(self, job: Job, now: float) -> bool:
        """Can this request no longer be met? What has not come yet is taken to come now."""
        ttft_s = min(job.first_token_s, max(now, job.request.arrival_s)) - job.request.arrival_s
        return ttft_s > self._ttft_s or job.tpot_s(now) > self._tpot_s
