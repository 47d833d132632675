"""What do retries make of a burst, with our Retry-After and without?

The fleet prefills 20 prompts a second and promises 2 s, so some 40 may wait; a state comes each second. 400 requests come within
5 s, and then nobody. What is offered are those 400; the effective load is what the sidecar is asked, tries and all.

Clients are a model of the SDK of OpenAI: three tries, after the time that the answer names, or after 0.5 s and 1 s less up to a
quarter where it names none. test_retries_sdk.py asks the SDK itself.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from random import Random

from autoscaler.sidecar.headers import Headers
from autoscaler.sidecar.skins import SKINS
from tests.sidecar import states
from tests.sidecar.asking import Sidecar

SKIN = SKINS[1]
PER_S, BURST, BURST_S, TRIES = 20.0, 400, 5.0, 3
PROMPT = b"800"  # tokens: 0.02 s + 800 * 0.0001 s, on each of two replicas


@dataclass
class Outcome:
    """Requests that were served in the end, asks, and the most asks in one second."""

    served: int
    asks: int
    peak: int


class Fleet:
    """A queue that drains, and tells the board each second how long it is."""

    def __init__(self) -> None:
        self.sidecar = Sidecar(states.board(0.0, offered_rps=None))
        self.waiting, self.told_s, self.drained_s = 0.0, -1.0, 0.0

    def at(self, now: float) -> Sidecar:
        """The sidecar at this time."""
        while self.told_s + 1 <= now:
            self.told_s += 1
            self._drain(self.told_s)
            queue = {"waiting": self.waiting, "running": 2, "waiting_tokens": self.waiting * 800, "age_s": 0}
            crowds = states.crowds(prefill=queue, decode={"age_s": 0, "serving": 50})
            sequence = int(self.told_s) + 100
            heard = states.heard(
                crowds=crowds, sequence=sequence, issued_at=states.STATE["issued_at"] + self.told_s, offered_rps=None
            )
            assert self.sidecar.board.offer(heard, self.told_s, 0.0, trusted=True)
        self._drain(now)
        self.sidecar.now = now
        return self.sidecar

    def _drain(self, now: float) -> None:
        self.waiting = max(0.0, self.waiting - PER_S * (now - self.drained_s))
        self.drained_s = now


def played(*, heeded: bool) -> Outcome:
    """The burst, by clients that heed Retry-After or never heard of it."""
    rng, fleet, per_second = Random(7), Fleet(), Counter[int]()
    tries = [(BURST_S * n / BURST, n, 0) for n in range(BURST)]
    served = 0
    while tries:
        now, request, tried = heapq.heappop(tries)
        per_second[int(now)] += 1
        headers: Headers = {
            b"x-pda-prompt-tokens": PROMPT,
            b"x-pda-uncached-tokens": PROMPT,
            b"x-stainless-retry-count": b"%d" % tried,
        }
        answer = fleet.at(now).desk.answer(SKIN, headers, b"")
        if answer.start["status"] == 200:
            served += 1
            fleet.waiting += 1
        elif tried + 1 < TRIES:
            told = dict(answer.start["headers"])
            own_s = 0.5 * 2**tried * (1 - 0.25 * rng.random())
            wait_s = int(told[b"retry-after-ms"]) / 1000 if heeded else own_s
            heapq.heappush(tries, (now + wait_s, request, tried + 1))
    return Outcome(served, per_second.total(), max(per_second.values()))


def test_retry_after_serves_a_whole_burst_and_without_it_retries_only_make_more_of_it() -> None:
    told, untold = played(heeded=True), played(heeded=False)
    assert told.served > 0.95 * BURST
    assert untold.served < 0.5 * BURST
    assert told.peak < 1.5 * BURST / BURST_S, "few come back into the burst"
    assert untold.peak > 2 * BURST / BURST_S
    assert told.asks < 0.8 * untold.asks
