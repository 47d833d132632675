"""What does a user's client do when a request is rejected or fails? It sends it again, and that is load too.

`Retries` is the retry model of OpenAI's Python SDK (2 retries by default): before retry n (0, 1, ...) it waits
min(0.5 s x 2^n, 8 s), shortened by up to a quarter at random, so that clients that failed together do not come back
together. Whoever was told a time with its rejection (`TurnedAway`, the Retry-After header) waits just that, and gives up if it
is longer than 120 s. Measured on openai-python 3.52: waits of 0.50 and 0.82 s without a Retry-After, 1.01 and 1.01 s with one of
1 s, none after one of 300 s, for then it asks no second time (reference/interfaces.md A2). A request that was too long is never
sent again, nor is one whose answer had begun to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """A no that tells its client more than no: in how many seconds to come again, None if nothing is said (`Retry-After`), and
    whether to come at all (`x-should-retry`).
    """

    wait_s: float | None = None
    may_retry: bool = True

    def __bool__(self) -> bool:
        """It is a no."""
        return False


NO = TurnedAway()


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a client tries again (0: never), and how long it waits before: seconds, and the random share of it. A time that
    it was told counts for it up to `longest_told_s`.
    """

    most: int = 2
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    jitter: float = 0.25
    longest_told_s: float = 120.0

    def wait_s(self, retry: int, rng: Random, no: TurnedAway = NO) -> float | None:
        """Seconds before this retry, the first being 0; None if there is none."""
        if retry >= self.most or not no.may_retry:
            return None
        if no.wait_s is not None and no.wait_s > 0:
            return no.wait_s if no.wait_s <= self.longest_told_s else None
        return min(self.first_wait_s * 2.0**retry, self.longest_wait_s) * (1 - self.jitter * rng.random())


NEVER = Retries(most=0)
