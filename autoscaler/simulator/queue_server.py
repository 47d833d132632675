"""How does a replica work that takes one prompt at a time (prefill)?

First come, first served, n uncached tokens in s(n) = a0 + a1 n + a2 n^2 seconds (core/capacity.py). The whole prompt,
cached part included, takes its place in the KV cache when its turn comes and keeps it after the end, until the next
role has fetched it. A replica without room for the next prompt stands still: that is how a full decode pool pushes
back on prefill, and why its queue then tells nothing about prefill's speed.

What of a prompt is cached the request says itself, unless the replica keeps a cache of its own (prefix_cache.py) and the
prompt's blocks are known. That cache takes no room from the prompts in work: it is memory beside them, a host's for one.

Left out: several prompts per batch, and chunks of one prompt between others. A long prompt blocks those behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.events import Job, Site
from autoscaler.simulator.metrics import Occupancy, ReplicaMetrics
from autoscaler.simulator.prefix_cache import PrefixCache
from autoscaler.simulator.workload import Request


class QueueServer:
    """One replica. `load` is its uncached tokens still to compute: what a router compares."""

    def __init__(self, profile: ReplicaProfile, metrics: ReplicaMetrics, site: Site) -> None:
        self.profile, self.metrics, self.agenda, self.hooks = profile, metrics, site.agenda, site.hooks
        self.cache = PrefixCache(site.cache_tokens) if site.cache_tokens else None
        self.queue: deque[Job] = deque()
        self.current: Job | None = None
        self.kv_held = 0
        self.load = 0
        self.emptied: Callable[[float], None] | None = None

    @property
    def requests(self) -> int:
        """Prompts not yet computed."""
        return len(self.queue) + (self.current is not None)

    def cost(self, request: Request) -> int:
        """Its uncached tokens, if it came here."""
        if self.cache is not None and request.blocks:
            return self.cache.uncached_tokens(request)
        return request.prompt_tokens - request.cached_tokens

    def take(self, job: Job, now: float) -> None:
        """Put a request at the end of the queue."""
        job.entered_s, job.holder = now, self
        request = job.request
        if self.cache is not None and request.blocks:
            uncached = self.cache.use(request)
        else:
            uncached = request.prompt_tokens - request.cached_tokens
        job.uncached_tokens = uncached
        self.load += uncached
        self.queue.append(job)
        if self.current is None:
            self._start(now)

    def deliver(self, job: Job, now: float) -> None:
        """Nothing is fetched to here."""
        raise RuntimeError(f"request {job.request.id} was to be fetched by a replica that prefills, at {now:g} s")

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
        for job in unbegun:
            self.load -= job.uncached_tokens
            job.holder = None
        self.emptied = emptied
        self._tell_if_empty(now)
        return unbegun

    def forget(self, job: Job, now: float) -> None:
        """Drop a request that has failed: waiting, in work, or computed and not fetched."""
        if job.computed:
            self.kv_held -= job.request.prompt_tokens
        elif job is self.current:
            self.current = None
            self.kv_held -= job.request.prompt_tokens
            self.load -= job.uncached_tokens
        else:
            self.queue.remove(job)
            self.load -= job.uncached_tokens
        job.holder = None
        if self.current is None:
            self._start(now)
        self._tell_if_empty(now)

    def refresh(self, now: float) -> None:
        """Bring counters up to `now`: nothing to do, they change at events only."""

    def occupancy(self) -> Occupancy:
        """Gauges. A prompt that is computed but not fetched neither runs nor waits; it only holds KV."""
        return Occupancy(int(self.current is not None), len(self.queue), 0, self.kv_held / self.profile.kv_tokens)

    def _start(self, now: float) -> None:
        if not self.queue:
            return
        prompt_tokens = self.queue[0].request.prompt_tokens
        if self.kv_held + prompt_tokens > self.profile.kv_tokens:
            return
        job = self.current = self.queue.popleft()
        self.kv_held += prompt_tokens
        self.agenda.at(now + self.profile.prefill_time_s(job.uncached_tokens), self._finish, job)

    def _finish(self, job: Job, now: float) -> None:
        if job is not self.current:  # it failed meanwhile
            return
        self.current = None
        uncached = job.uncached_tokens
        self.load -= uncached
        prefill_s = self.profile.prefill_time_s(uncached)
        self.metrics.prefilled(uncached, job.request.prompt_tokens - uncached, now - job.entered_s, prefill_s)
        job.computed = True
        self._start(now)
        self.hooks.done(job, now)

    def _tell_if_empty(self, now: float) -> None:
        if self.emptied is not None and self.current is None and self.kv_held == 0:
            self.emptied(now)
