"""What becomes of a request, from its arrival to its answer?

    arrives -> refused            longer than some role can hold: no engine would take it, and in a queue it would block
                                  all behind it for ever
            -> rejected           `admit` said no, at arrival; or `proceed`, once its prompt is computed
            -> taken -> finished
                     -> failed    its replica died, or was to be drained by now (losses.py)

A rejected or failed request may be sent again by its client (clients.py): a new try of the same request, whose TTFT
still counts from the first arrival, since the user has waited since then. Each request ends exactly once, as finished,
refused or given up, and the `Ledger` is told; until then it is in flight, or its client waits to try again. Memory holds
those only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from autoscaler.core.fleet import Role
from autoscaler.simulator.clients import NO, Retries, TurnedAway
from autoscaler.simulator.events import Agenda, Cause, Job
from autoscaler.simulator.metrics import GatewayMetrics
from autoscaler.simulator.streams import stream
from autoscaler.simulator.workload import Request

Admit = Callable[[Request, float], bool | TurnedAway]


class Ledger(Protocol):
    """Is told what became of each request."""

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        """The last token was given."""
        ...

    def refused(self, request: Request) -> None:
        """No replica could ever hold it."""
        ...

    def given_up(self, request: Request, cause: Cause) -> None:
        """Its last try was rejected or failed, and its client does not try again."""
        ...

    def flipped(self, from_role: Role, to_role: Role, count: int, now: float) -> None:
        """So many replicas were told to change their role."""
        ...


class Front:
    """The gateway and the clients before it. `longest_tokens`: of a prompt, and of one with its answer (fleet_spec.py).

    `enter` takes a job to where its way begins; set it before anything arrives.
    """

    enter: Callable[[Job, float], None]

    def __init__(
        self,
        longest_tokens: tuple[int, int],
        retries: Retries,
        seed: int,
        agenda: Agenda,
        ledger: Ledger | None,
        admit: Admit | None,
    ) -> None:
        self.metrics = GatewayMetrics()
        self.in_flight: dict[int, Job] = {}
        self.waiting_clients: dict[int, Request] = {}
        self.offered = self.wasted_prefills = self.wasted_tokens = 0
        (self._longest_prompt, self._longest), self._retries, self._seed = longest_tokens, retries, seed
        self._agenda, self._ledger, self._admit = agenda, ledger, admit

    def arrive(self, request: Request, now: float) -> None:
        """A user's request comes for the first time."""
        self.offered += 1
        prompt_tokens = request.prompt_tokens
        if prompt_tokens + request.output_tokens > self._longest or prompt_tokens > self._longest_prompt:
            self.metrics.arrived += 1
            self.metrics.refused += 1
            if self._ledger is not None:
                self._ledger.refused(request)
            return
        self._send(Job(request, now), now)

    def first_token(self, job: Job) -> None:
        """The first token reached the user."""
        self.metrics.ttft_s.observe(job.first_token_s - job.sent_s)

    def finish(self, job: Job, now: float) -> None:
        """The last token reached the user."""
        request, tpot_s = job.request, job.tpot_s(now)
        del self.in_flight[request.id]
        self.metrics.finished(request.prompt_tokens, request.output_tokens, tpot_s)
        if self._ledger is not None:
            self._ledger.finished(request, job.first_token_s - request.arrival_s, tpot_s)

    def fail(self, job: Job, cause: Cause, now: float, no: TurnedAway = NO) -> None:
        """A try ended early, having left every server: its client tries again, or gives up."""
        del self.in_flight[job.request.id]
        self.metrics.dropped(cause is Cause.REJECTED)
        if job.computed:
            self.wasted_prefills += 1
            self.wasted_tokens += job.uncached_tokens
        self._ended(job, cause, now, no)

    def _send(self, job: Job, now: float) -> None:
        metrics, request = self.metrics, job.request
        metrics.arrived += 1
        answer = True if self._admit is None else self._admit(request, now)
        if not answer:
            metrics.reject(first=job.attempt == 0)
            self._ended(job, Cause.REJECTED, now, no_of(answer))
            return
        metrics.readmitted += self._admit is not None and job.attempt > 0
        metrics.running += 1
        self.in_flight[request.id] = job
        self.enter(job, now)

    def _ended(self, job: Job, cause: Cause, now: float, no: TurnedAway) -> None:
        request, wait_s = job.request, None
        if job.attempt < self._retries.most and job.first_token_s > now:
            wait_s = self._retries.wait_s(job.attempt, stream(self._seed, "retry", request.id, job.attempt), no)
        if wait_s is not None:
            self.waiting_clients[request.id] = request
            self._agenda.at(now + wait_s, self._again, job)
        elif self._ledger is not None:
            self._ledger.given_up(request, cause)

    def _again(self, job: Job, now: float) -> None:
        del self.waiting_clients[job.request.id]
        self._send(Job(job.request, now, job.attempt + 1), now)


def no_of(answer: bool | TurnedAway) -> TurnedAway:
    """What a client is told with a no."""
    return answer if isinstance(answer, TurnedAway) else NO
