"""Whom do the sidecars before a simulated fleet turn away, knowing no more than real ones would?

They judge as the product's do (core/judge.py), each the requests that come by it, with a memory of its own and the same picture
of the fleet. A picture holds what engines publish: requests waiting and running, KV in use, how many replicas are busy; the
tokens of those that wait are their number times the mean. It is taken once in READ_S and known DELAY_S later. The mean request
and t_d are running means of what has ended; before anything has, nobody is turned away. Of a fleet with nothing to do no more
pictures are taken until somebody comes, for they would all be the same.

A client that is turned away is told its turn (sidecar/turns.py) in Retry-After, spread by a fifth. Which sidecar a request
comes by is its number modulo theirs, at every try. Left out: classes, shadow mode, and sidecars that come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from autoscaler.core.arrivals import Arrival, Burden, Own
from autoscaler.core.breaker import breakers
from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import ROLE_FACTS, Phase, Role, Sizing
from autoscaler.core.judge import judge, look, remembered
from autoscaler.core.outlook import Crowd, Standing
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.rejection import LEAST_WAIT_S, MOST_WAIT_S, Rules
from autoscaler.sidecar.turns import Turns
from autoscaler.simulator.clients import TurnedAway
from autoscaler.simulator.events import Agenda, Job, Server
from autoscaler.simulator.pools import SimPool
from autoscaler.simulator.streams import stream
from autoscaler.simulator.workload import Request

READ_S, DELAY_S = 1.0, 0.5
FORGETS = 1 / 200  # weight of the newest request in a running mean
PACE_FORGETS = 1 / 20  # weight of the newest second
SPREAD = 0.2
NOTHING = Burden(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class SidecarSpec:
    """By whose rules, and by how many sidecars, requests are judged. Raises ValueError without any."""

    rules: Rules
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"sidecars {self.count} is not >= 1")


def paced(before: Burden, let_in: Burden) -> Burden:
    """What is let in per second, with one more READ_S of it."""
    old, new = 1 - PACE_FORGETS, PACE_FORGETS / READ_S
    return Burden(
        before.work_s * old + let_in.work_s * new,
        before.tokens * old + let_in.tokens * new,
        0.0,
        before.requests * old + let_in.requests * new,
    )


def crowd(role: Role, servers: Sequence[Server], shape: Shape, profile: ReplicaProfile, seen_s: float) -> Crowd:
    """What the engines of a role publish, those that wait taken for mean ones."""
    seen = [server.occupancy() for server in servers]
    waiting, running = sum(one.waiting + one.deferred for one in seen), sum(one.running for one in seen)
    held = sum(one.kv_usage for one in seen) * profile.kv_tokens
    held -= sum(one.deferred for one in seen) * shape.prompt_tokens  # promised, not yet there: it is among the waiting
    idle = sum(not server.requests for server in servers)
    waits = 0.0 if ROLE_FACTS[role].sizing is Sizing.BATCH else waiting * shape.uncached_tokens
    return Crowd(len(servers), idle, waiting, running, seen_s, waits, max(0.0, held))


class Means:
    """Running means over what has ended: the mean request, and seconds in decode."""

    def __init__(self) -> None:
        self._ended = 0
        self._prompt = self._uncached = self._squares = self._output = self.stay_s = 0.0

    @property
    def shape(self) -> Shape | None:
        """The mean request; None while none has ended."""
        if not self._ended:
            return None
        cv2 = max(0.0, self._squares / self._uncached**2 - 1)
        return Shape(self._prompt, self._uncached, self._output, cv2)

    def add(self, job: Job, now: float) -> None:
        """One more has ended."""
        self._ended += 1
        weight, request = max(FORGETS, 1 / self._ended), job.request
        uncached = max(1, request.prompt_tokens - request.cached_tokens)
        self._prompt += weight * (request.prompt_tokens - self._prompt)
        self._uncached += weight * (uncached - self._uncached)
        self._squares += weight * (uncached * uncached - self._squares)
        self._output += weight * (request.output_tokens - self._output)
        self.stay_s += weight * (now - job.first_token_s - self.stay_s)


class Sidecars:
    """All sidecars of one fleet. `admit` is the engine's door. Set `pools` before anything arrives."""

    pools: Mapping[Role, SimPool]

    def __init__(self, spec: SidecarSpec, profile: ReplicaProfile, seed: int, agenda: Agenda) -> None:
        self._rules, self._profile, self._seed, self._agenda = spec.rules, profile, seed, agenda
        self._owns = [Own() for _ in range(spec.count)]
        self._turns = [Turns() for _ in range(spec.count)]
        self._means = Means()
        self._standing: Standing | None = None
        self._let_in, self._pace, self._asleep = NOTHING, NOTHING, False
        agenda.at(0.0, self._look, None)

    def admit(self, request: Request, now: float) -> bool | TurnedAway:
        """The verdict of the sidecar that this request comes by."""
        if self._asleep:
            self._wake(now)
        at = request.id % len(self._owns)
        arrival = Arrival(request.prompt_tokens, request.prompt_tokens - request.cached_tokens, None, self._rules.default)
        verdict = judge(arrival, look(self._standing, self._owns[at], self._rules, now))
        self._owns[at] = remembered(self._owns[at], verdict, verdict.qos, now)
        if not verdict.admit and self._standing is not None:
            turn_s = self._turns[at].wait_s(verdict, self._standing, now)
            chance = stream(self._seed, "told", request.id, repr(now)).random()
            spread_s = turn_s * (1 + SPREAD * (2 * chance - 1))
            return TurnedAway(min(MOST_WAIT_S, max(LEAST_WAIT_S, spread_s)), self._rules.class_named(verdict.qos).may_retry)
        if verdict.burden is not None:
            one, other = self._let_in, verdict.burden
            self._let_in = Burden(one.work_s + other.work_s, one.tokens + other.tokens, 0.0, one.requests + 1)
        return True

    def watching(self, go_on: Callable[[Job, float], None]) -> Callable[[Job, float], None]:
        """`go_on` with a request that has ended, of which the means are told."""

        def told(job: Job, now: float) -> None:
            self._means.add(job, now)
            go_on(job, now)

        return told

    def _look(self, _: None, now: float) -> None:
        """Take a picture, and the next one later."""
        let_in, self._let_in = self._let_in, NOTHING
        self._pace = paced(self._pace, let_in)
        picture = self._picture(now)
        if picture is not None:
            self._agenda.at(now + DELAY_S, self._know, picture)
            self._asleep = not let_in.requests and not any(one.waiting + one.running for one in picture.crowds.values())
        if not self._asleep:
            self._agenda.at(now + READ_S, self._look, None)

    def _wake(self, now: float) -> None:
        """Somebody comes to a fleet that has had nothing to do: the picture of it that is known is as old as any."""
        self._asleep, self._pace = False, NOTHING
        picture = self._picture(now, DELAY_S)
        if picture is not None:
            self._know(picture, now)
        self._agenda.at(now + READ_S, self._look, None)

    def _picture(self, now: float, age_s: float = 0.0) -> Standing | None:
        """What engines publish; None while no request has ended."""
        shape = self._means.shape
        if shape is None:
            return None
        seen_s = now - age_s
        crowds = {role: crowd(role, self._serving(role, now), shape, self._profile, seen_s) for role in self.pools}
        return Standing(crowds, self._profile, shape, self._means.stay_s, 1 / len(self._owns), self._pace)

    def _know(self, picture: Standing, now: float) -> None:
        """The picture has come, and every sidecar forgets what it shows."""
        before = self._standing.tripped if self._standing is not None else frozenset[Role]()
        self._standing = replace(picture, tripped=breakers(before, picture, self._rules, now))
        self._owns = [own.since(picture.seen_s, picture.share) for own in self._owns]

    def _serving(self, role: Role, now: float) -> Sequence[Server]:
        serving = [replica for replica in self.pools[role].replicas if replica.phase is Phase.SERVING]
        for replica in serving:
            replica.refresh(now)
        return [replica.server for replica in serving]
