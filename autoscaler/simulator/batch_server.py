"""How does a replica work whose requests share each step (decode)?

A step gives every resident request one token and takes tau = b0 + b1 B + b2 K seconds for B residents holding K KV
tokens (core/capacity.py). Stepping would cost an event per token; instead each replica counts V, the steps done so
far. A request that joins at V leaves at V + output. Between two joins or leaves B is fixed and K grows by B per step,
so n steps take the sum b0 + b1 B + b2 (K + i B) over i = 0 .. n-1, which is

    t(n) = c n + q n^2 / 2    with  c = b0 + b1 B + b2 (K - B/2)  and  q = b2 B

exact for whole steps, and solved for n when an event comes in between: n = 2 t / (c + sqrt(c^2 + 2 q t)). A request
that comes in the middle of a step shares the rest of it at once, where an engine would let it wait for the end: at
most one step (20 ms) early. The next leave is the top of a heap; a join or leave outdates the event that was set for
it, which a version number tells.

A request is admitted first come, first served when a sequence is free and its whole prompt and output fit into KV.
Engines admit on the prompt alone and preempt when outputs outgrow the cache; reserving the output avoids having to
simulate that, and admits a little later. Then its KV is fetched, over a link of its own or a shared one (link.py), then
it joins the batch. Its first token comes one step later, at the step time just after joining. Where decode preallocates
(push), room is promised first and the prompt computed then, so nothing computed ever waits for room.

Where steps of large batches cost more than the line says, the profile's second piece holds from so many residents on
(`decode_beyond`; DistServe's OPT-13B on A100 bends at 95); the batch's size is fixed between two events, so the piece is too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import ceil, inf, sqrt

from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.events import Job, Site
from autoscaler.simulator.metrics import Occupancy, ReplicaMetrics
from autoscaler.simulator.workload import Request

SAME_STEP = 1e-9  # steps; two requests due within this leave together


class BatchServer:
    """One replica. `load` is the KV tokens spoken for, waiting requests included: what a router compares."""

    def __init__(self, profile: ReplicaProfile, metrics: ReplicaMetrics, site: Site) -> None:
        self.profile, self.metrics, self.agenda, self.hooks = profile, metrics, site.agenda, site.hooks
        self.link = site.link
        self.admit = site.hooks.granted if site.preallocates else self.deliver
        self.b0, self.b1, self.b2 = profile.decode_at(0)
        self.bend = ceil(profile.decode_beyond[0]) if profile.decode_beyond else 0
        self.waiting: deque[Job] = deque()
        self.load = self.reserved = self.admitted = self.incoming_tokens = 0
        self.batch: list[tuple[float, int, Job]] = []  # by the step at which each leaves
        self.residents = self.joined = self.version = 0
        self.resident_tokens = self.steps = self.since_s = 0.0
        self.owed = 0.0  # first tokens not yet made: they end no interval between tokens
        self.emptied: Callable[[float], None] | None = None

    @property
    def requests(self) -> int:
        """Waiting, on their way in, and resident."""
        return len(self.waiting) + self.admitted

    def cost(self, request: Request) -> int:
        """The KV it will hold in the end."""
        return request.prompt_tokens + request.output_tokens

    def take(self, job: Job, now: float) -> None:
        """Queue a request for room; admit it at once if there is some."""
        job.entered_s, job.target = now, self
        self.load += job.request.prompt_tokens + job.request.output_tokens
        self.waiting.append(job)
        self._admit(now)

    def deliver(self, job: Job, now: float) -> None:
        """Fetch the KV of a request that has been admitted and whose prompt is computed."""
        if self.link is None:
            self.agenda.at(now + self.profile.transfer_time_s(job.request.prompt_tokens), self._join, job)
        else:
            self.link.send(job, self._join, now)

    def release(self, job: Job, now: float) -> None:
        """No other role fetches from here."""
        raise RuntimeError(f"request {job.request.id} was to be fetched from a replica that decodes, at {now:g} s")

    def drain(self, now: float, emptied: Callable[[float], None]) -> list[Job]:
        """Take no more work: give back what is not admitted, and call `emptied` once the rest has its last token."""
        unbegun = list(self.waiting)
        self.waiting.clear()
        for job in unbegun:
            self.load -= job.request.prompt_tokens + job.request.output_tokens
            job.target = None
        self.emptied = emptied
        self._tell_if_empty(now)
        return unbegun

    def forget(self, job: Job, now: float) -> None:
        """Drop a request that has failed: waiting for room, promised some, or resident."""
        request = job.request
        size = request.prompt_tokens + request.output_tokens
        self.load -= size
        job.target = None
        if job in self.waiting:
            self.waiting.remove(job)
        else:
            self.reserved -= size
            self.admitted -= 1
            if job.first_token_s == inf:
                self.incoming_tokens -= request.prompt_tokens
            else:
                self._take_out(job, now)
        self._admit(now)
        self._tell_if_empty(now)

    def occupancy(self) -> Occupancy:
        """Gauges, as of the last `refresh`. KV in use counts what is written or on its way, not what is reserved."""
        deferred = self.admitted - self.residents
        kv_usage = (self.resident_tokens + self.incoming_tokens) / self.profile.kv_tokens
        return Occupancy(self.residents, len(self.waiting), deferred, kv_usage)

    def refresh(self, now: float) -> None:
        """Let the batch run on to `now`: count its steps and tokens."""
        elapsed_s = now - self.since_s
        self.since_s = now
        residents = self.residents
        if not residents or elapsed_s <= 0:
            return
        begin_s = self.b0 + self.b1 * residents + self.b2 * (self.resident_tokens - residents / 2)
        steps = 2 * elapsed_s / (begin_s + sqrt(begin_s * begin_s + 2 * self.b2 * residents * elapsed_s))
        self.steps += steps
        tokens = steps * residents
        self.resident_tokens += tokens
        metrics = self.metrics
        metrics.generated_tokens += tokens
        first_tokens = min(self.owed, tokens)
        self.owed -= first_tokens
        metrics.itl_s.observe(elapsed_s / steps, tokens - first_tokens)

    def _admit(self, now: float) -> None:
        waiting, profile = self.waiting, self.profile
        while waiting and self.admitted < profile.max_seqs:
            request = waiting[0].request
            size = request.prompt_tokens + request.output_tokens
            if self.reserved + size > profile.kv_tokens:
                return
            self.reserved += size
            self.admitted += 1
            self.incoming_tokens += request.prompt_tokens
            self.admit(waiting.popleft(), now)

    def _join(self, job: Job, now: float) -> None:
        if job.target is not self:  # it failed on its way
            return
        self.refresh(now)
        request = job.request
        if job.holder is not None:
            job.holder.release(job, now)
            job.holder = None
        self.residents += 1
        if self.residents == self.bend:
            self._use_piece()
        self.joined += 1
        self.owed += 1
        self.incoming_tokens -= request.prompt_tokens
        self.resident_tokens += request.prompt_tokens
        heappush(self.batch, (self.steps + request.output_tokens, self.joined, job))
        job.first_token_s = now + self.b0 + self.b1 * self.residents + self.b2 * self.resident_tokens
        self.metrics.joined(request.prompt_tokens, job.first_token_s - job.entered_s)
        self.hooks.first_token(job)
        self._plan_next_leave(now)

    def _plan_next_leave(self, now: float) -> None:
        self.version += 1
        steps = max(0.0, self.batch[0][0] - self.steps)
        residents = self.residents
        begin_s = self.b0 + self.b1 * residents + self.b2 * (self.resident_tokens - residents / 2)
        self.agenda.at(now + steps * (begin_s + self.b2 * residents * steps / 2), self._leave, self.version)

    def _leave(self, version: int, now: float) -> None:
        if version != self.version:
            return
        self.refresh(now)
        batch = self.batch
        self.steps = max(self.steps, batch[0][0])  # the event was set for exactly this step; only rounding differs
        while batch and batch[0][0] <= self.steps + SAME_STEP:
            self._finish(heappop(batch)[2], now)
        self._go_on(now)
        self._admit(now)
        self._tell_if_empty(now)

    def _go_on(self, now: float) -> None:
        if self.batch:
            self._plan_next_leave(now)
        else:
            self.steps = self.resident_tokens = self.owed = 0.0  # a fresh start: rounding does not add up over a long run

    def _take_out(self, job: Job, now: float) -> None:
        """Remove a resident before its end, with the tokens it has made."""
        self.refresh(now)
        leaves_at = next(steps for steps, _, other in self.batch if other is job)
        self.batch = [entry for entry in self.batch if entry[2] is not job]
        heapify(self.batch)
        self.version += 1
        self._leave_piece()
        self.resident_tokens -= job.request.prompt_tokens + job.request.output_tokens - (leaves_at - self.steps)
        self._go_on(now)

    def _leave_piece(self) -> None:
        self.residents -= 1
        if self.residents == self.bend - 1:
            self._use_piece()

    def _use_piece(self) -> None:
        self.b0, self.b1, self.b2 = self.profile.decode_at(self.residents)

    def _finish(self, job: Job, now: float) -> None:
        request = job.request
        self._leave_piece()
        self.admitted -= 1
        size = request.prompt_tokens + request.output_tokens
        self.resident_tokens -= size
        self.reserved -= size
        self.load -= size
        job.first_token_s = min(job.first_token_s, now)  # others left meanwhile, and the steps went faster
        self.metrics.finished(request.prompt_tokens, request.output_tokens, job.tpot_s(now))
        self.hooks.done(job, now)

    def _tell_if_empty(self, now: float) -> None:
        if self.emptied is not None and not self.admitted:
            self.emptied(now)
