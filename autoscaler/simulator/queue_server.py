"""How does a replica work that takes one prompt at a time (prefill)?

First come, first served, n uncached tokens in s(n) = a0 + a1 n + a2 n^2 seconds (core/capacity.py). The whole prompt,
cached part included, takes its place in the KV cache when its turn comes and keeps it after the end, until the next
role has fetched it. A replica without room for the next prompt stands still: that is how a full decode pool pushes
back on prefill, and why its queue then tells nothing about prefill's speed.

Left out: several prompts per batch, and chunks of one prompt between others. A long prompt blocks those behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from autoscaler.core.capacity import ReplicaProfile
from autoscaler.simulator.events import Agenda, Hooks, Job
from autoscaler.simulator.metrics import Occupancy, ReplicaMetrics


class QueueServer:
    """One replica. `load` is its uncached tokens still to compute: what a router compares."""

    def __init__(self, profile: ReplicaProfile, metrics: ReplicaMetrics, agenda: Agenda, hooks: Hooks) -> None:
        self.profile, self.metrics, self.agenda, self.hooks = profile, metrics, agenda, hooks
        self.queue: deque[Job] = deque()
        self.current: Job | None = None
        self.kv_held = 0
        self.load = 0
        self.emptied: Callable[[float], None] | None = None

    def take(self, job: Job, now: float) -> None:
        """Put a request at the end of the queue."""
        job.entered_s = now
        request = job.request
        self.load += request.prompt_tokens - request.cached_tokens
        self.queue.append(job)
        if self.current is None:
            self._start(now)

    def release(self, job: Job, now: float) -> None:
        """Free the KV of a prompt that has been fetched; the next prompt may have waited for just that."""
        self.kv_held -= job.request.prompt_tokens
        if self.current is None:
            self._start(now)
            self._tell_if_empty(now)

    def drain(self, now: float, emptied: Callable[[float], None]) -> list[Job]:
        """Take no more work: give back what has not begun, and call `emptied` once the rest is done and fetched."""
        unbegun = list(self.queue)
        self.queue.clear()
        self.load -= sum(job.request.prompt_tokens - job.request.cached_tokens for job in unbegun)
        self.emptied = emptied
        self._tell_if_empty(now)
        return unbegun

    def refresh(self, now: float) -> None:
        """Bring counters up to `now`: nothing to do, they change at events only."""

    def occupancy(self) -> Occupancy:
        """Gauges. A prompt that is computed but not fetched neither runs nor waits; it only holds KV."""
        return Occupancy(int(self.current is not None), len(self.queue), 0, self.kv_held / self.profile.kv_tokens)

    def _start(self, now: float) -> None:
        if not self.queue:
            return
        request = self.queue[0].request
        if self.kv_held + request.prompt_tokens > self.profile.kv_tokens:
            return
        self.current = self.queue.popleft()
        self.kv_held += request.prompt_tokens
        uncached = request.prompt_tokens - request.cached_tokens
        self.agenda.at(now + self.profile.prefill_time_s(uncached), self._finish, uncached)

    def _finish(self, uncached: int, now: float) -> None:
        job = self.current
        if job is None:
            raise RuntimeError("a prompt ended that never began")
        self.current = None
        self.load -= uncached
        self.metrics.prefilled(uncached, job.request.cached_tokens, now - job.entered_s)
        job.holder = self
        self._start(now)
        self.hooks.done(job, now)

    def _tell_if_empty(self, now: float) -> None:
        if self.emptied is not None and self.current is None and self.kv_held == 0:
            self.emptied(now)
