"""How do several sidecars judge the arrivals of a simulated fleet, knowing no more than real ones would?

Each sidecar gets every n-th request, has memory of its own (`Own`) and the same picture of the fleet, taken as the simulator's
own sidecars take theirs (autoscaler/simulator/sidecars.py): 0.5 to 1.5 s old, 1 s on average. Other than there it is known from
the beginning what a mean request is, every verdict is kept, and some can be turned round. Running means follow what has ended,
t_d that of all of a request's time in decode.

`recheck` is Mooncake's: once its prompt is computed decode, which sees itself as it is, may still turn a request away. That is
all that `baseline` ever asks decode; engines of today have no such door, so the others are run with and without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from autoscaler.core.arrivals import Arrival, Burden, Own
from autoscaler.core.breaker import breakers
from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.judge import judge, look, remembered
from autoscaler.core.outlook import Standing
from autoscaler.core.rejection import Rules, Verdict
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.events import Server
from autoscaler.simulator.sidecars import DELAY_S, FORGETS, NOTHING, READ_S, crowd, paced
from autoscaler.simulator.workload import Request

__all__ = ["DELAY_S", "READ_S", "Door", "Means", "Setup"]


@dataclass(frozen=True, slots=True)
class Setup:
    """Whose rules, how many sidecars, whether decode looks once more, and which class a request is of. `t_d` scales the
    running estimate of it.
    """

    rules: Rules
    sidecars: int = 1
    recheck: bool = True
    t_d: float = 1.0
    qos: Callable[[Request], str] = lambda _: ""


@dataclass(slots=True)
class Means:
    """Running means over what has ended: the mean request, and seconds in decode."""

    shape: Shape
    stay_s: float

    def add(self, request: Request, stayed_s: float) -> None:
        """One more has ended."""
        uncached = request.prompt_tokens - request.cached_tokens
        shape = self.shape
        self.shape = replace(
            shape,
            prompt_tokens=_nearer(shape.prompt_tokens, request.prompt_tokens),
            uncached_tokens=_nearer(shape.uncached_tokens, uncached),
            output_tokens=_nearer(shape.output_tokens, request.output_tokens),
        )
        self.stay_s = _nearer(self.stay_s, stayed_s)


def _nearer(mean: float, value: float) -> float:
    return mean + FORGETS * (value - mean)


@dataclass(slots=True)
class Door:
    """`admit` and `proceed` of an engine. Set `engine` before the run, and `look` once in READ_S. Requests in `forced` are let in
    whatever the verdict.
    """

    setup: Setup
    means: Means
    engine: Engine = field(init=False)
    forced: frozenset[int] = frozenset()
    book: Mapping[int, Verdict] | None = None
    owns: list[Own] = field(init=False)
    standing: Standing | None = None
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)
    _coming: deque[Standing] = field(default_factory=deque)
    _let_in: Burden = NOTHING
    _pace: Burden | None = None

    def __post_init__(self) -> None:
        self.owns = [Own() for _ in range(self.setup.sidecars)]

    def look(self) -> None:
        """Take a picture; it is known later."""
        self.engine.refresh()
        now, let_in, self._let_in = self.engine.now, self._let_in, NOTHING
        self._pace = let_in if self._pace is None else paced(self._pace, let_in)
        shape, profile = self.means.shape, self.engine.spec.profile
        crowds = {role: crowd(role, self._servers(role), shape, profile, now) for role in self.engine.pools}
        stay_s = self.means.stay_s * self.setup.t_d
        share = 1 / self.setup.sidecars
        self._coming.append(Standing(crowds, profile, shape, stay_s, share, self._pace))

    def admit(self, request: Request, now: float) -> bool:
        """The verdict of the sidecar that this request comes by."""
        self._receive(now)
        at, name = request.id % len(self.owns), self.setup.qos(request)
        uncached = request.prompt_tokens - request.cached_tokens
        arrival = Arrival(request.prompt_tokens, uncached, None, name)
        if self.book is None:
            verdict = judge(arrival, look(self.standing, self.owns[at], self.setup.rules, now))
        else:
            verdict = self.book[request.id]
        let_in = verdict.admit or request.id in self.forced
        self.owns[at] = remembered(self.owns[at], verdict, name, now, let_in=let_in)
        self.verdicts[request.id] = verdict
        if let_in and verdict.burden is not None:
            one, other = self._let_in, verdict.burden
            self._let_in = Burden(one.work_s + other.work_s, one.tokens + other.tokens, 0.0, one.requests + 1)
        return let_in

    def proceed(self, request: Request, _: float) -> bool:
        """Decode's own look, once the prompt is computed."""
        if not self.setup.recheck or request.id in self.forced:
            return True
        profile, servers = self.engine.spec.profile, self._servers(Role.DECODE)
        count = len(servers)
        requests, held = (sum(values) / count for values in zip(*((one.requests, one.load) for one in servers), strict=True))
        step_s = profile.step_time_s(requests + 1, held + request.prompt_tokens)
        qos = self.setup.rules.class_named(self.setup.qos(request))
        fits = step_s <= qos.promises[SloKind.TPOT].seconds
        if not fits:
            self.dropped.add(request.id)
        return fits

    def _receive(self, now: float) -> None:
        """The newest picture that is known by now, with what its breakers say."""
        while self._coming and self._coming[0].seen_s + DELAY_S <= now:
            standing = self._coming.popleft()
            before = self.standing.tripped if self.standing is not None else frozenset[Role]()
            self.standing = replace(standing, tripped=breakers(before, standing, self.setup.rules, now))
            self.owns = [own.since(standing.seen_s, standing.share) for own in self.owns]

    def _servers(self, role: Role) -> Sequence[Server]:
        return [replica.server for replica in self.engine.pools[role].replicas]
