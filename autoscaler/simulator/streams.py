"""Which random numbers does what get?

Whatever is drawn has a stream of its own, keyed by the run's seed, its purpose and its index: the cold start of the
third decode replica, the wait of request 812 before its second try. So two policies that are compared on one seed see
the same cold starts and the same lengths, whichever asks for its third replica first; what differs between their scores
is the policies' doing (common random numbers). With one stream for all, one more draw would shift every later one.

A stream is Python's Mersenne Twister seeded with the key's text, which it hashes by SHA-512: the same on every machine.
Making one takes about 10 microseconds, so what is drawn for every request stands in the request itself.
"""

from __future__ import annotations

from random import Random


def stream(seed: int, purpose: str, *index: str | int) -> Random:
    """The numbers for one purpose and index, from their beginning."""
    return Random("/".join(map(str, (seed, purpose, *index))))  # noqa: S311 - a simulation, not a secret
