"""What does a user's client do when a request is rejected or fails? It sends it again, and that is load too.

`Retries` is the retry model of OpenAI's Python SDK (2 retries by default): before retry n (0, 1, ...) it waits
min(0.5 s x 2^n, 8 s), shortened by up to a quarter at random, so that clients that failed together do not come back
together. Measured on openai-python 3.52 without a Retry-After header: waits of 0.50 and 0.82 s (reference/interfaces.md
A2). A request that was too long is never sent again, nor is one whose answer had begun to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a client tries again (0: never), and how long it waits before: seconds, and the random share of it."""

    most: int = 2
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    jitter: float = 0.25

    def wait_s(self, retry: int, rng: Random) -> float:
        """Seconds before this retry, the first being 0."""
        return min(self.first_wait_s * 2.0**retry, self.longest_wait_s) * (1 - self.jitter * rng.random())


NEVER = Retries(most=0)
