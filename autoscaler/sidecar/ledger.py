"""What was let in and turned away, and was that right?

Counts by (mode, admitted, reason, class, try). A request that was turned away at its first try is load that the fleet did not
see, so it is told to the scaler once (`rejected_requests_total`); its later tries are not counted again, and where one of them
is let in the gateway counts it, so the scaler can take it off (`readmitted_requests_total`).

Shadow mode asks what enforcing would have done. No gateway says of one request how it fared, but the state says which share m
of those served missed its SLO; with r, the share that would have been turned away, over the same window

    rejected but could have been served    max(0, r - m) .. min(r, 1 - m)
    admitted but missed                    max(0, m - r) .. min(m, 1 - r)      of all requests

since of the r that were rejected at most m can be among those that missed. m itself lies between the larger of both misses and
their sum. Both are nought for a perfect judge; of the first, the lower end is what enforcing would certainly have lost.
One decision in SAMPLE is kept whole, the last KEPT of them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from autoscaler.core.rejection import RejectionMode, Verdict, Why
from autoscaler.sidecar.state import ServedText

SAMPLE = 64
KEPT = 256
MARKS = 900  # of counts at a state: 15 minutes at one per second

Key = tuple[RejectionMode, bool, Why, str, bool]
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sampled:
    """One decision as it was taken, `at_s` on the process's monotonic clock."""

    at_s: float
    mode: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Hindsight:
    """What shadow mode tells, as shares of all requests of the last window: turned away by verdict, and (least, most) of those
    wrongly turned away and wrongly let in.
    """

    window_s: float
    requests: int
    rejected: float
    could_be_served: Range
    missed: Range


@dataclass(frozen=True, slots=True)
class _Mark:
    at_s: float
    requests: int
    rejected: int


class Ledger:
    """Counts, kept by the thread that judges; whoever reads sees numbers of a moment."""

    def __init__(self) -> None:
        self.verdicts: dict[Key, int] = {}
        self.rejected_tokens: dict[str, float] = {}
        self.unreadable = self.faults = 0
        self.sampled: deque[Sampled] = deque(maxlen=KEPT)
        self.hindsight: Hindsight | None = None
        self._requests = self._rejected = 0
        self._marks: deque[_Mark] = deque(maxlen=MARKS)

    def count(self, mode: RejectionMode, verdict: Verdict, again: bool, tokens: float, now: float) -> None:
        """One verdict. `again`: not the first try of its request; `tokens`: of its prompt."""
        key = (mode, verdict.admit, verdict.why, verdict.qos, again)
        self.verdicts[key] = self.verdicts.get(key, 0) + 1
        self._requests += 1
        if not verdict.admit:
            self._rejected += 1
            if mode is RejectionMode.ENFORCE and not again:
                self.rejected_tokens[verdict.qos] = self.rejected_tokens.get(verdict.qos, 0.0) + tokens
        if self._requests % SAMPLE == 1:
            self.sampled.append(Sampled(now, mode.value, verdict))

    def look_back(self, mode: RejectionMode, served: ServedText | None, now: float) -> None:
        """Compare with how requests fared, at a state that tells it."""
        self._marks.append(_Mark(now, self._requests, self._rejected))
        if served is None or mode is not RejectionMode.SHADOW or served.samples <= 0:
            self.hindsight = None
            return
        since = next((mark for mark in self._marks if mark.at_s >= now - served.window_s), self._marks[-1])
        requests = self._requests - since.requests
        rejected = (self._rejected - since.rejected) / requests if requests else 0.0
        self.hindsight = _hindsight(served, requests, rejected) if requests else None

    def total(self, *, admitted: bool, again: bool) -> dict[str, int]:
        """Requests by class on which a verdict was enforced."""
        found: dict[str, int] = {}
        for (mode, admit, _, qos, later), count in tuple(self.verdicts.items()):
            if mode is RejectionMode.ENFORCE and admit is admitted and later is again:
                found[qos] = found.get(qos, 0) + count
        return found


def _hindsight(served: ServedText, requests: int, rejected: float) -> Hindsight:
    least, most = max(served.misses.values(), default=0.0), min(1.0, sum(served.misses.values()))
    return Hindsight(
        served.window_s,
        requests,
        rejected,
        could_be_served=(max(0.0, rejected - most), min(rejected, 1 - least)),
        missed=(max(0.0, least - rejected), min(most, 1 - rejected)),
    )
