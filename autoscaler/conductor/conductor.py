"""When does each transaction take its next step?

Once a second, each in an errand of its own: an engine that takes three minutes to switch, or never answers, holds up nobody
but itself. One beat of one transaction:

    look      at its replicas and targets, as far as its step needs (looking.py)
    advance   as the core says (core/transit.py), each new step stored before anything is done for it
    do        the duties of the step that is stored now (doing.py), asking before each whether the term still lasts

So the store is always at or ahead of what was done, and a successor that reads it does nothing twice that hurts. A leader
whose term is over is refused at the store, and does nothing from then on (law 9). Where a policy is not in mode Auto any more,
victims that can be called back are; what has gone further is brought to its end.

Beside that, what else asks engines and pods and has time: whether the engines of a fleet can switch their role, every
`CAPABLE_S`; and pods that wait for a readiness gate of ours are let in as soon as they stand.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from math import inf
from typing import Any, Protocol

from autoscaler.adapters.engines import flippability
from autoscaler.adapters.kubernetes import Book, KubernetesFleet
from autoscaler.adapters.kubernetes.transactions.choosing import may_switch
from autoscaler.adapters.kubernetes.transactions.ground import Ground, patience_of
from autoscaler.adapters.kubernetes.transactions.living import ON_ITS_WAY, about
from autoscaler.adapters.routing import ReadinessRouting, Routing
from autoscaler.conductor.doing import Hands, RoutingOf
from autoscaler.conductor.looking import Looking, endpoint_of, engine_of
from autoscaler.core.action import Mode
from autoscaler.core.duties import Switch, duties
from autoscaler.core.fleet import Phase
from autoscaler.core.sight import Sight
from autoscaler.core.transaction import Transaction
from autoscaler.core.transit import advance, called_off
from autoscaler.errands import WORKERS, Daemons, attempt, settle
from autoscaler.policy.document import Spec
from autoscaler.policy.routing import Routing as RoutingSpec
from autoscaler.policy.routing import RoutingKind
from autoscaler.ports import Fault, Leadership

BEAT_S = 1.0
CAPABLE_S = 600.0
GATED_S = 2.0
SOON_S = 10.0  # asked again where nobody could be asked
LAST_S = 1.0
MOST_STEPS = 4  # in one beat: what is true already is not waited for

log = logging.getLogger(__name__)


class Policies(Protocol):
    """Which policies there are."""

    def specs(self) -> Mapping[str, Spec]:
        """What every fleet's owner wants, by key."""
        ...


class Conductor:
    """Moves the transactions of many fleets on. `now` is the clock of their records, `monotonic` that of looks in a row;
    `executor` does the errands, each in a thread of its own unless told otherwise.
    """

    def __init__(  # noqa: PLR0913 - one argument for each door
        self,
        fleets: KubernetesFleet,
        book: Book,
        policies: Policies,
        routing_of: RoutingOf,
        leadership: Leadership,
        now: Callable[[], float],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        executor: Executor | None = None,
    ) -> None:
        self._fleets, self._book, self._policies, self._routing_of = fleets, book, policies, routing_of
        self._leadership, self._now, self._monotonic = leadership, now, monotonic
        self._executor = executor or Daemons()
        self._routings: dict[str, tuple[RoutingSpec | None, Routing | None]] = {}
        self._asked_s: dict[str, float] = {}
        self._looking: dict[str, Looking] = {}
        self._errands: dict[str, Future[Any]] = {}
        self._stop = threading.Event()

    def start(self) -> None:
        """Beat in a thread of its own until `stop`."""
        threading.Thread(target=self._run, name="conductor", daemon=True).start()

    def stop(self) -> None:
        """Begin nothing more, and wait a moment for what is being written. What hangs ends by itself, or with the process."""
        self._stop.set()
        settle(tuple(self._errands.values()), LAST_S, LAST_S)

    def _run(self) -> None:
        while not self._stop.wait(BEAT_S):
            attempt("conducting", "", self.beat, lambda _: None)

    def beat(self) -> None:
        """Send every transaction on its way that is not there yet, and look after what else is due."""
        term = self._leadership.term()
        if term is None:
            return
        hanging = sum(not errand.done() for errand in self._errands.values())
        if hanging > WORKERS and isinstance(self._executor, Daemons):
            self._executor.relieve()  # engines that hang take up all hands, and the others stand in line behind them
        now, specs, names, unsure = self._now(), self._policies.specs(), set(), set()
        for key, spec in specs.items():
            under_way = self._book.known(key, term)
            if under_way is None:
                unsure.add(key)
                self._send(f"{key} ?", key, partial(self._book.under_way, key, term, now))
            for one in under_way or ():
                names.add(f"{key} {one.key}")
                self._send(f"{key} {one.key}", key, partial(self._conduct, key, one.key))
            if now - self._asked_s.get(key, -inf) >= _every_s(spec):
                self._asked_s[key] = now
                self._send(key, key, partial(self._look_after, key))
        self._tidy(specs, names, unsure)

    def _tidy(self, specs: Mapping[str, Spec], names: Collection[str], unsure: Collection[str]) -> None:
        """Forget what is over, but not what a hanging errand still holds, nor what may not be over."""
        self._errands = {name: errand for name, errand in self._errands.items() if not errand.done()}
        for gone in set(self._looking) - set(names) - set(self._errands):
            if gone.partition(" ")[0] not in unsure:
                self._looking.pop(gone)
        self._book.forget(self._book.keys - specs.keys())
        for known in (self._routings, self._asked_s):
            for gone in set(known) - specs.keys():
                known.pop(gone)

    def _send(self, name: str, key: str, errand: Callable[[], Any]) -> None:
        """Unless the one before is still under way."""
        before = self._errands.get(name)
        if before is None or before.done():
            self._errands[name] = self._executor.submit(attempt, "conducting", key, errand, lambda _: None)

    def _conduct(self, key: str, name: str) -> None:
        """One beat of one transaction."""
        looking = self._looking.setdefault(f"{key} {name}", Looking(self._monotonic))
        switched = False
        for _ in range(MOST_STEPS):
            term = self._leadership.term()
            with self._book.alone(key):  # no count is half written
                ground = self._fleets.ground(key, self._now())
            if isinstance(ground, Fault) or term is None:
                return
            one = next((one for one in ground.under_way if one.key == name), None)
            if one is None:
                return
            routing = self._routing(key, ground.spec)
            sight = looking.look(one, ground, routing)
            following = self._advanced(key, term, one, sight, ground)
            if following is None or following.over:
                return
            if following.step is one.step:
                hands = Hands(key, self._fleets, looking, term)
                if switched or not self._do(hands, following, sight, ground, routing):
                    return
                switched = True

    def _do(self, hands: Hands, one: Transaction, sight: Sight, ground: Ground, routing: Routing | None) -> bool:
        """Whether it is worth looking again at once: an engine tells its new role when it has it, lists a moment later."""
        switched = False
        for duty in duties(one, sight):
            if self._leadership.term() != hands.term:
                return False
            why = hands.do(duty, one, ground, routing, self._now())
            if why:
                told = {"fleet": ground.document.key}
                log.warning("%s: %s not done: %s", one.key, type(duty).__name__.lower(), why, extra=told)
            switched = isinstance(duty, Switch) and not why
        return switched

    def _advanced(self, key: str, term: int, seen: Transaction, sight: Sight, ground: Ground) -> Transaction | None:
        """The record after this look, as it is stored; None where it could not be, or is another than was looked at."""
        now = self._now()
        with self._book.alone(key):
            under_way = self._book.under_way(key, term, now)
            if not isinstance(under_way, tuple) or seen not in under_way:
                return None
            following = _following(seen, sight, now, ground)
            if following != seen and self._book.put(key, term, now, following) is not None:
                return None
        if following.forced > seen.forced:
            log.warning("%s: %s", seen.key, following.why, extra={"fleet": key})
        if following.over:
            log.info("%s: %s %s", seen.key, following.step, following.why, extra={"fleet": key})
            self._fleets.over(key, following, now)
        return following

    def _look_after(self, key: str) -> None:
        """Let in pods that wait for it, and ask engines whether they can switch."""
        with self._book.alone(key):
            ground = self._fleets.ground(key, self._now())
        if isinstance(ground, Fault):
            return
        routing = self._routing(key, ground.spec)
        if isinstance(routing, ReadinessRouting):
            self._let_in(ground, routing)
        if may_switch(ground.spec):
            asked = {one.role: engine_of(one.leader, ground) for one in ground.replicas if one.replica.phase is Phase.SERVING}
            silent = [f"no {role} replica serves yet" for role in ground.standings if role not in asked]
            able = flippability({} if silent else asked)
            self._fleets.engines_say(key, silent or able.why_not)
            if silent or not able.sure:
                self._asked_s[key] = self._now() - CAPABLE_S + SOON_S

    def _let_in(self, ground: Ground, routing: ReadinessRouting) -> None:
        """New pods; but for one that came in place of a victim, and has to go."""
        for one in ground.replicas:
            victim_of, pod = about(one, ground.under_way), endpoint_of(one.leader, ground)
            goes = victim_of is not None and ON_ITS_WAY.get(victim_of.step) is Phase.DRAINING
            if routing.waits(pod) and not goes and self._leadership.term() is not None:
                fault = routing.route(pod, pod.role)
                if fault is not None:
                    log.warning("%s is not let in: %s", pod.name, fault.detail, extra={"fleet": ground.document.key})

    def _routing(self, key: str, spec: Spec) -> Routing | None:
        """The way that the policy says now; kept as long as it says so, for it remembers who sets labels back."""
        said, routing = self._routings.get(key, (None, None))
        if key not in self._routings or said != spec.routing:
            routing = self._routing_of(spec)
            self._routings[key] = spec.routing, routing
        return routing


def _following(one: Transaction, sight: Sight, now: float, ground: Ground) -> Transaction:
    """The next step, unless the owner wants nothing done any more."""
    mode = ground.spec.mode
    back = None if mode is Mode.AUTO else called_off(one, f"mode is {mode}", now)
    return back or advance(one, sight, now, patience_of(ground))


def _every_s(spec: Spec) -> float:
    """How often there is something to look after."""
    if spec.routing is not None and spec.routing.kind is RoutingKind.READINESS_GATE:
        return GATED_S
    return CAPABLE_S if may_switch(spec) else inf
