"""What happens inside one engine, seen from outside? A stub that takes real HTTP requests and computes nothing.

A leg (ledger.py) waits for one of `slots`, fetches its KV from the prefill engine if it has one, runs for `takes_s`, and
is over; a prefill leg holds its KV after that until the decode engine has fetched it, or for `kv_lease_s`. What differs
between engines (paths, bodies, metric names, who may switch) is a `Contract` (contract.py).

What a test may set at any time:
    takes_s, transfer_s   how long legs run and KV travels; math.inf: until `release()`
    http.faults           slow, hanging, absent, garbage, dropped, per path (loopback.py)
    hidden, lies          metrics that are missing; metrics with another value
    stale_s               how long the gauges still show the last work after it is over
    loses                 legs are dropped after they were taken
    switching, switch_s   what becomes of a role switch, and how long it takes; tells_restore: whether a refusal says
                          that the old role is safe
    told_role             the live role that is told, whatever it is
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import generate_latest
from prometheus_client.core import Metric

from autoscaler.core.fleet import Role
from tests.engines.contract import Contract, Launch, Load, Peers, Switching
from tests.engines.ledger import Address, End, Ledger, Leg, Stage
from tests.engines.loopback import Answer, Loopback, Request, told

ANYWHERE: Address = ("127.0.0.1", 0)
FETCH_PATIENCE_S = 10.0  # a request whose other leg never came
POLL_S = 0.05
ANSWERS_S = 1.0  # to write what the last legs came to; more only where a fault holds an answer back


class StubEngine:
    """One engine. `url` is its base URL, `http` its server, `gone` set once it has ended.

    It listens at `place`; port 0: at any that is free. Raises OSError where somebody does already.
    """

    def __init__(
        self, name: str, launch: Launch, contract: type[Contract], ledger: Ledger, peers: Peers, place: Address = ANYWHERE
    ) -> None:
        self.name, self.launch, self.role = name, launch, launch.role
        self.takes_s, self.transfer_s, self.stale_s = 0.01, 0.0, 0.0
        self.hidden: set[str] = set()
        self.lies: dict[str, float] = {}
        self.switching, self.switch_s, self.tells_restore, self.turning = Switching.WORKS, 0.0, True, False
        self.loses = False
        self.told_role: Role | None = None
        self.expired = 0
        self.gone, self.accepting, self.healthy, self.deceived = threading.Event(), True, True, False
        self.ended_by = End.LOST_BY_FAULT  # through whom it takes nothing any more, once that is so
        self._ledger, self._peers, self.taken = ledger, peers, 0
        self._legs: list[Leg] = []
        self._past: dict[str, End] = {}
        self._busy_s, self._last = float("-inf"), [Load()] * launch.dp_ranks
        self.changed = threading.Condition()
        self.contract = contract(self)
        self.http = Loopback(self._answer, *place)
        self.url, self.port, self.address = self.http.url, self.http.port, (self.http.host, self.http.port)

    @property
    def open(self) -> int:
        """Legs taken and not ended, KV that is held included."""
        with self.changed:
            self._expire()
            return len(self._legs)

    def release(self) -> None:
        """Let every leg that runs now, or whose KV travels, be done with that."""
        with self.changed:
            for leg in self._legs:
                leg.released = leg.stage in (Stage.RUNNING, Stage.FETCHING)
            self.changed.notify_all()

    def kill(self, by: End = End.LOST_BY_ACT) -> None:
        """SIGKILL: the port is closed, and what was open is lost through `by`. Whoever killed it first did it."""
        if self.gone.is_set():
            return
        self._lose_all(by)
        with self.changed:
            self.gone.set()
            self.changed.notify_all()
        self.http.close()

    def terminate(self, grace_s: float, by: End = End.LOST_BY_ACT) -> threading.Event:
        """SIGTERM: takes nothing new, waits for what runs as long as it was launched to, at most `grace_s`, and ends.

        Returns at once, with `gone`.
        """
        with self.changed:
            self.accepting, self.ended_by = False, by
            self.changed.notify_all()
        patience_s = self.contract.PATIENCE_S if self.launch.patience_s is None else self.launch.patience_s
        arguments = (min(grace_s, patience_s), by)
        threading.Thread(target=self._end_after, args=arguments, name=f"end of {self.name}", daemon=True).start()
        return self.gone

    def restart(self, by: End = End.LOST_BY_FAULT) -> None:
        """The container starts anew in the same pod: what was open is lost, the role is that of the launch again."""
        with self.changed:
            for leg in self._legs.copy():
                self.leave(leg, by)
            self.role, self.healthy, self.deceived, self.expired = self.launch.role, True, False, 0
            self.contract = type(self.contract)(self)
            self.changed.notify_all()

    def hand_over(self, request: str, wanted: Callable[[], bool]) -> End:
        """Give the KV of a request as soon as it is there; how its leg ended, FINISHED if it was given.

        EXPIRED if that leg never came: a router that found this engine gone tries both legs elsewhere.
        """
        patience_s = time.monotonic() + FETCH_PATIENCE_S
        with self.changed:
            while wanted() and time.monotonic() < patience_s:
                self._expire()
                held = next((leg for leg in self._legs if leg.request == request and leg.stage is Stage.HELD), None)
                if held is not None:
                    self.leave(held, End.FINISHED)
                    self.changed.notify_all()
                    return End.FINISHED
                if request in self._past:
                    return self._past[request]
                if self.gone.is_set():
                    break
                self.changed.wait(POLL_S)
        return End.EXPIRED

    def shown(self) -> list[Load]:
        """The loads, or the last ones before it fell idle, while the gauges are stale."""
        with self.changed:
            self._expire()
            stale = not self._legs and time.monotonic() - self._busy_s < self.stale_s
            return self._last if stale else self._loads()

    def leave(self, leg: Leg, end: End) -> None:
        """A leg ends, unless it has. Called with the lock held, by this class and contracts only."""
        if leg.end is None:
            self._busy_s, self._last = time.monotonic(), self._loads()
            leg.end = end
            self._legs.remove(leg)
            if leg.keeps_kv:
                self._past[leg.request] = end

    def _answer(self, request: Request) -> Answer | None:
        match request.method, request.path:
            case "GET", "/metrics":
                return Answer(200, generate_latest(_Page(self)), "text/plain; version=0.0.4; charset=utf-8")
            case "GET", "/health":
                return Answer(200 if self.accepting and self.healthy else 503, b"", "text/plain")
            case "GET", "/v1/models":
                return told({"object": "list", "data": [{"id": self.launch.model, "object": "model"}]})
            case "POST", path if path in self.contract.GENERATE:
                return self._generate(request)
        return self.contract.answer(request)

    def _generate(self, request: Request) -> Answer | None:
        if not isinstance(request.body, dict):
            return told({"error": "the body is no JSON object"}, 400)
        leg = self.contract.leg(request.body)
        if isinstance(leg, Answer):
            return leg
        if not self._take(leg):
            return told({"error": "shutting down"}, 503)
        self._live(leg)
        if leg.misrouted:
            return told({"error": f"cannot serve this as {self.role}"}, 400)
        return self.contract.reply(leg) if leg.end in (None, End.FINISHED) else None

    def _take(self, leg: Leg) -> bool:
        with self.changed:
            if not (self.accepting and self.healthy):
                return False
            leg.engine, leg.rank = self.name, self.taken % self.launch.dp_ranks
            leg.stage = Stage.WAITING if leg.source is None else Stage.PREALLOCATING
            self.taken += 1
            self._legs.append(leg)
            self._ledger.enter(leg)
            self.changed.notify_all()
            return True

    def _live(self, leg: Leg) -> None:
        """Until it is over, or only its KV remains."""
        with self.changed:
            self.changed.wait_for(lambda: leg.end or self._has_room())
            if not self.launch.any_leg and leg.role not in (None, self.role) and leg.end is None:
                leg.misrouted = True
                self.leave(leg, End.LOST_BY_FAULT if self.deceived or self.told_role else End.LOST_BY_ACT)
            if leg.end is None and leg.source is not None:
                leg.stage = Stage.FETCHING
        if leg.stage is Stage.FETCHING and leg.end is None:
            self._fetch(leg)
        with self.changed:
            self._spend(leg, self.takes_s, Stage.RUNNING)
            if leg.end is None:
                self._finish(leg)
            self.changed.notify_all()

    def _fetch(self, leg: Leg) -> None:
        peer = self._peers.at(leg.source) if leg.source else None
        end = peer.hand_over(leg.request, lambda: leg.end is None) if peer else End.LOST_BY_FAULT
        with self.changed:
            if end is not End.FINISHED:
                self.leave(leg, end)
            self._spend(leg, self.transfer_s, Stage.FETCHING)

    def _finish(self, leg: Leg) -> None:
        self.contract.done(leg)
        if self.loses:
            self.leave(leg, End.LOST_BY_FAULT)
        elif leg.keeps_kv:
            leg.stage, leg.held_until_s = Stage.HELD, time.monotonic() + self.launch.kv_lease_s
        else:
            self.leave(leg, End.FINISHED)

    def _spend(self, leg: Leg, seconds: float, stage: Stage) -> None:
        if leg.end is None:
            leg.stage, leg.released = stage, False
            self.changed.notify_all()
            self.changed.wait_for(lambda: leg.end or leg.released, None if seconds == float("inf") else seconds)

    def _has_room(self) -> bool:
        return not self.turning and sum(leg.stage in (Stage.RUNNING, Stage.FETCHING) for leg in self._legs) < self.launch.slots

    def _expire(self) -> None:
        now = time.monotonic()
        for leg in [leg for leg in self._legs if leg.held_until_s <= now]:
            self.expired += 1
            self.leave(leg, End.EXPIRED)

    def _end_after(self, patience_s: float, by: End) -> None:
        work = set(Stage) if self.contract.HELD_IS_WORK else set(Stage) - {Stage.HELD}
        with self.changed:
            self.changed.wait_for(lambda: self.gone.is_set() or not any(leg.stage in work for leg in self._legs), patience_s)
        self._lose_all(by)
        self.http.wait_for_answers(ANSWERS_S)
        self.kill(by)

    def _lose_all(self, by: End) -> None:
        with self.changed:
            self.accepting, self.ended_by = False, by
            for leg in self._legs.copy():
                self.leave(leg, by)
            self.changed.notify_all()

    def _loads(self) -> list[Load]:
        loads = []
        for rank in range(self.launch.dp_ranks):
            legs = [leg for leg in self._legs if leg.rank == rank]
            inside = [leg for leg in legs if leg.stage not in (Stage.WAITING, Stage.PREALLOCATING)]
            loads.append(Load(Counter(leg.stage for leg in legs), sum(leg.prompt_tokens for leg in inside)))
        return loads


class _Page:
    """What one scrape finds."""

    def __init__(self, engine: StubEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """The families, without those that are hidden, with the lies that are told."""
        engine = self._engine
        for family in engine.contract.families(engine.shown()):
            if family.name in engine.lies:
                family.samples = [sample._replace(value=engine.lies[family.name]) for sample in family.samples]
            if family.name not in engine.hidden:
                yield family
