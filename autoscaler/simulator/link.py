"""How long does KV travel when others travel too?

Without this room every transfer has the profile's link for itself. A `SharedLink` is the one network of a fleet: it
carries `bytes_per_s` in all, no transfer gets more than its replica's own link, and all under way get the same:

    rate of each = min(profile.link_bytes_per_s, bytes_per_s / transfers under way)

which is processor sharing, and counted as batch_server.py counts steps: V is the bytes that each has carried so far, a
transfer that sets off at V is through at V + its own bytes, and only the next to be through has an event. The time to
set one up (`link_base_s`) is no bytes and comes on top, unshared. Left out: ports of single replicas filling up, and
layers sent while the next one is still computed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.events import Agenda, Job

Arrived = Callable[[Job, float], None]
SAME_BYTE = 1e-3  # bytes; two transfers due within this are through together


class SharedLink:
    """A network of `bytes_per_s` for all transfers together. Raises ValueError if that is not above 0."""

    def __init__(self, bytes_per_s: float, profile: ReplicaProfile, agenda: Agenda) -> None:
        if not bytes_per_s > 0:
            raise ValueError(f"network_bytes_per_s {bytes_per_s:g} is not > 0")
        self.bytes_per_s, self._profile, self._agenda = bytes_per_s, profile, agenda
        self._under_way: list[tuple[float, int, Job, Arrived]] = []  # by the V at which each is through
        self._carried = self._since_s = 0.0
        self._sent = self._version = 0

    def __len__(self) -> int:
        return len(self._under_way)

    def send(self, job: Job, arrived: Arrived, now: float) -> None:
        """Carry a prompt's KV and call `arrived` when its last byte is there, and the setting up is done."""
        self._carry_on(now)
        self._sent += 1
        size = job.request.prompt_tokens * self._profile.kv_bytes_per_token
        heappush(self._under_way, (self._carried + size, self._sent, job, arrived))
        self._plan_next(now)

    @property
    def _each_bytes_per_s(self) -> float:
        return min(self._profile.link_bytes_per_s, self.bytes_per_s / len(self._under_way))

    def _carry_on(self, now: float) -> None:
        if self._under_way:
            self._carried += (now - self._since_s) * self._each_bytes_per_s
        else:
            self._carried = 0.0  # a fresh start: rounding does not add up over a long run
        self._since_s = now

    def _plan_next(self, now: float) -> None:
        self._version += 1
        left = max(0.0, self._under_way[0][0] - self._carried)
        self._agenda.at(now + left / self._each_bytes_per_s, self._through, self._version)

    def _through(self, version: int, now: float) -> None:
        if version != self._version:
            return
        self._carry_on(now)
        self._carried = max(self._carried, self._under_way[0][0])  # the event was set for exactly this; rounding aside
        while self._under_way and self._under_way[0][0] <= self._carried + SAME_BYTE:
            _, _, job, arrived = heappop(self._under_way)
            self._agenda.at(now + self._profile.link_base_s, arrived, job)
        if self._under_way:
            self._plan_next(now)
