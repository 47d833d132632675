"""How well was the fleet run, and what did it cost?

The figures stand together, always: attainment alone is bought with idle GPUs, GPU-hours alone with broken promises.

Attainment is over *offered* requests, not over finished ones, so that a request nobody served counts. A request is
    met     it finished with TTFT and TPOT within their SLOs, TTFT from its first arrival, however often it was sent
    missed  it was refused, rejected or failed for good, it finished late in either, or it has not ended and can no longer
            be met: its first token came or comes too late, or so much time has passed since that
            (now - first token) / (output - 1) > SLO
    open    it has not ended and may still be met
and attainment = met / (met + missed); the open ones, seconds of traffic at most on a healthy fleet, are told beside it. A run
that is compared is played on until none is open (peers/played.py): there attainment = met / offered.

A wasted prefill is a prompt that was computed and whose request then failed or was rejected: GPU time that nobody got
anything for. Moves and what undoes them are in moves.py, how long a shift hurt in recovery.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import inf

from autoscaler.core.action import Action
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.events import Cause
from autoscaler.simulator.moves import Flipped, Move, Scaled, reversals
from autoscaler.simulator.recovery import Windows
from autoscaler.simulator.workload import Request


@dataclass(frozen=True, slots=True)
class Score:
    """One run so far. `attainment` is None until a request is decided; `goodput_rps` is met requests per second.

    `rejected` and `failed` are requests whose client gave up, `cut_short` those of the failed that a drain's deadline ended;
    `wasted_prefills` counts tries. `actions` are scalings,
    `flips` the replicas that were told to change their role.
    """

    duration_s: float
    offered: int
    served: int
    refused: int
    rejected: int
    failed: int
    cut_short: int
    open: int
    lost: int
    met: int
    attainment: float | None
    goodput_rps: float
    gpu_hours: Mapping[Role, float]
    wasted_prefills: int
    wasted_prefill_tokens: int
    actions: int
    flips: int
    reversals: int


class ScoreKeeper:
    """Is told what became of each request (a `Ledger`) and of each action, and keeps counts only, and the moves.

    `dwell_s`: how long a flipped replica ought to keep its new role.
    """

    def __init__(self, slos: Mapping[SloKind, Slo], start_up_s: float, dwell_s: float = 300.0) -> None:
        self._ttft_s, self._tpot_s = slos[SloKind.TTFT].threshold_s, slos[SloKind.TPOT].threshold_s
        self._start_up_s, self._dwell_s = start_up_s, dwell_s
        self._served = self._met = self._refused = 0
        self._given_up: Counter[Cause] = Counter()
        self.moves: list[Move] = []
        self.windows = Windows()

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        """A request was answered in full."""
        met = ttft_s <= self._ttft_s and tpot_s <= self._tpot_s
        self._served += 1
        self._met += met
        self.windows.decided(request.arrival_s, met)

    def refused(self, request: Request) -> None:
        """A request was longer than any replica can hold."""
        self._refused += 1
        self.windows.decided(request.arrival_s, False)

    def given_up(self, request: Request, cause: Cause) -> None:
        """A request's last try was rejected or failed."""
        self._given_up[cause] += 1
        self.windows.decided(request.arrival_s, False)

    def acted(self, action: Action, now: float) -> None:
        """An action was carried out."""
        self.moves.append(Scaled(now, action.role, action.to_replicas > action.from_replicas))

    def flipped(self, from_role: Role, to_role: Role, count: int, now: float) -> None:
        """So many replicas were told to change their role."""
        self.moves.append(Flipped(now, from_role, to_role, count))

    def reversals(self, oracle: Collection[Move] = ()) -> int:
        """Moves that undo an earlier one, but for those that the oracle's path makes too."""
        return len(reversals(self.moves, 2 * self._start_up_s, self._dwell_s, oracle))

    def recovery_s(self, shift_s: float, aim: float, until_s: float = inf) -> float | None:
        """How long after a shift of the traffic the aimed share of requests is met again (recovery.py)."""
        return self.windows.recovery_s(shift_s, aim, until_s)

    def score(self, engine: Engine) -> Score:
        """The figures at the engine's now."""
        now, front = engine.now, engine.front
        unended = len(front.in_flight) + len(front.waiting_clients)
        open_ = sum(not self._hopeless(job.request, job.first_token_s, now) for job in front.in_flight.values())
        open_ += sum(not self._hopeless(request, inf, now) for request in front.waiting_clients.values())
        decided = engine.offered - open_
        given_up = self._given_up.total()
        return Score(
            duration_s=now,
            offered=engine.offered,
            served=self._served,
            refused=self._refused,
            rejected=self._given_up[Cause.REJECTED],
            failed=given_up - self._given_up[Cause.REJECTED],
            cut_short=self._given_up[Cause.DRAIN_DEADLINE],
            open=open_,
            lost=engine.offered - self._served - self._refused - given_up - unended,
            met=self._met,
            attainment=self._met / decided if decided else None,
            goodput_rps=self._met / now if now else 0.0,
            gpu_hours={role: pool.gpu_s(now) / 3600 for role, pool in engine.pools.items()},
            wasted_prefills=front.wasted_prefills,
            wasted_prefill_tokens=front.wasted_tokens,
            actions=sum(isinstance(move, Scaled) for move in self.moves),
            flips=sum(move.count for move in self.moves if isinstance(move, Flipped)),
            reversals=self.reversals(),
        )

    def _hopeless(self, request: Request, first_token_s: float, now: float) -> bool:
        """Can this request no longer be met? What has not come yet is taken to come now."""
        ttft_s = min(first_token_s, max(now, request.arrival_s)) - request.arrival_s
        after_first = request.output_tokens - 1
        tpot_s = (now - first_token_s) / after_first if after_first > 0 else 0.0
        return ttft_s > self._ttft_s or tpot_s > self._tpot_s
