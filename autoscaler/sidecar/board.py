"""What does a sidecar know at this moment?

`Board.picture` is one immutable value. The feed's thread puts a newer one in its place; the event loop looks at it once per
request. So nobody ever waits for a lock, and no verdict mixes two states.

When was a state true? The leader's clock may be off, so only its differences count: a document came as late as the least
delay among the last DELAYS of its epoch (that is the clocks' difference and the fastest way), plus what it needed beyond it. A
document held up for 5 s by a proxy is thus 5 s old, whatever the clocks say. The ages it tells come on top. After a clock was
set back all seem late, and nobody is rejected, until DELAYS more have come.

How much of the fleet's load comes by us? Our own arrivals per second, which forget half in SHARE_HALF_S, over the fleet's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from autoscaler.core.breaker import breakers
from autoscaler.core.fleet import Role
from autoscaler.core.outlook import Standing
from autoscaler.core.rejection import RejectionMode, Rules
from autoscaler.sidecar.headers import Reader
from autoscaler.sidecar.state import Heard, ServedText, standing

SHARE_HALF_S = 10.0
DELAYS = 60
LEAST_SHARE = 1 / 256
FORGOTTEN_S = 10.0  # a state so old gives way to any other, also to one of an older epoch


@dataclass(frozen=True, slots=True)
class Picture:
    """One state, ready to judge by. `came_s` and all times are on this process's monotonic clock."""

    namespace: str
    model_name: str
    place: tuple[int, int]
    came_s: float
    standing: Standing
    rules: Rules
    status: int
    reader: Reader
    served: ServedText | None = None

    @property
    def mode(self) -> RejectionMode:
        """What verdicts are for."""
        return self.rules.mode

    def age_s(self, now: float) -> float:
        """Seconds since the oldest part of it was seen."""
        return max(0.0, now - self.standing.seen_s)


class Board:
    """The latest picture. `arrivals` is counted by who judges, the rest is kept by who listens."""

    def __init__(self) -> None:
        self.picture: Picture | None = None
        self.arrivals = 0
        self.unreadable = 0
        self._counted = (0, 0.0)
        self._rate_rps: float | None = None
        self._delays_s: deque[float] = deque(maxlen=DELAYS)
        self._tripped: frozenset[Role] = frozenset()

    @property
    def place(self) -> str:
        """Where the latest state stands, as a poll says it; empty before there is one."""
        return "" if self.picture is None else "{}-{}".format(*self.picture.place)

    def offer(self, heard: Heard, came_s: float, age_s: float, trusted: bool) -> bool:
        """Take a state that came at `came_s`, then `age_s` old by its sender's word. False: what is known is newer."""
        before = self.picture
        if before is not None and heard.place <= before.place and before.age_s(came_s) < FORGOTTEN_S:
            return False
        text, rules = heard.text, heard.rules
        issued_s = came_s - max(age_s, self._late_s(heard, came_s))
        seen = standing(text, issued_s, self._share(text.offered_rps, came_s), trusted)
        self._tripped = breakers(self._tripped, seen, rules, came_s)
        namespace, _, _ = text.fleet.partition("/")
        self.picture = Picture(
            namespace,
            text.model_name,
            heard.place,
            came_s,
            replace(seen, tripped=self._tripped),
            rules,
            text.rules.status,
            before.reader if before is not None and before.rules.classes == rules.classes else _reader(rules),
            text.served,
        )
        return True

    def count_unreadable(self) -> None:
        """A document came that nobody can read."""
        self.unreadable += 1

    def _late_s(self, heard: Heard, came_s: float) -> float:
        """How much longer it was on its way than the fastest of the last ones of its epoch."""
        if self.picture is None or self.picture.place[0] != heard.text.epoch:
            self._delays_s.clear()
        self._delays_s.append(came_s - heard.text.issued_at)
        return self._delays_s[-1] - min(self._delays_s)

    def _share(self, offered_rps: float | None, now: float) -> float:
        """The part of the fleet's arrivals that comes by us; 1 while that is not known."""
        count, at_s = self._counted
        passed_s = now - at_s
        if passed_s > 0:
            rate_rps, kept = (self.arrivals - count) / passed_s, 0.5 ** (passed_s / SHARE_HALF_S)
            self._rate_rps = rate_rps if self._rate_rps is None else kept * self._rate_rps + (1 - kept) * rate_rps
            self._counted = (self.arrivals, now)
        if not offered_rps or not self._rate_rps:
            return 1.0
        return min(1.0, max(LEAST_SHARE, self._rate_rps / offered_rps))


def _reader(rules: Rules) -> Reader:
    return Reader(tuple(rules.classes.values()), rules.class_named(rules.default))
