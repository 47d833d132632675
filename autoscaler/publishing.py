"""What do sidecars judge by, and how young is it?

A tick leaves what it saw of a fleet here. A thread of its own makes documents of that (core/published.py), once a second and only
for fleets that somebody asked for of late: a sidecar that polls. Ticks are not held up, and nothing is computed for nobody.

What Prometheus tells is 5 to 15 s old, and a verdict rests on nothing older than 2 s. So every serving replica of such a fleet is
asked itself how full it is, all of them at once and for WITHIN_S at most, and the answers take the place of the gauges that the
tick saw. Who does not answer is not in the picture; the core takes it to be as its peers are. With fewer than LEAST_TOLD of a
role's replicas there is no picture: nothing is published, and what is known at the sidecars grows old, which rejects nobody.
A hanging engine costs its own answer and delays its own fleet's document by WITHIN_S: 0.7 s, and a second until the next one,
are still under 2 s. While its request is under way it is asked nothing more.

    mode off        no engine is asked; sidecars are told, once per tick, that they are not to judge
    no tick         a fleet that was not seen for as long as a signal is believed, or two ticks, is not told of either
    not leading     nothing is read or published, and what was published is taken back
    too many        an answer costs 1 ms of CPU: MOST in a second, and fleets that go beyond are not told of. Ticks come first

Why a fleet is not told of is logged when that begins, and that it has ended.
Prometheus may be dark: queues come from the engines, the mean request and the speed are remembered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

from autoscaler.core.decide import Memory
from autoscaler.core.fleet import Phase, Replica
from autoscaler.core.observation import Gauges, Known, Observation, Signals, Unknown
from autoscaler.core.published import Judged, document, sure_profile
from autoscaler.core.rejection import RejectionMode
from autoscaler.errands import Daemons, attempt
from autoscaler.ports import Engines, Fault, Leadership, Managed, States

PERIOD_S = 1.0
WITHIN_S = 0.7  # for an engine's answer
ASKED_S = 30.0  # so long after the last poll a sidecar may still be there
LEAST_TOLD = 0.5  # of a role's replicas
TICKS = 2.0  # without which a fleet is told of: one may come late
MOST = 300  # replicas that are asked in a round, of all fleets together
READERS = 64

log = logging.getLogger(__name__)

Reading = tuple[Gauges, float] | Fault  # what an engine told, and when on the monotonic clock


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the last tick left of a fleet."""

    fleet: Managed
    judged: Judged
    observation: Observation
    memory: Memory

    @property
    def serving(self) -> Sequence[Replica]:
        """Its replicas that serve."""
        return [replica for pool in self.observation.fleet.pools.values() for replica in pool.in_phase(Phase.SERVING)]

    @property
    def asks(self) -> bool:
        """Are its engines to be asked?"""
        return self.judged.rules.mode is not RejectionMode.OFF and any(replica.address for replica in self.serving)


@dataclass(slots=True)
class _Look:
    """A round's look at one fleet: how many answers it waits for, and those that came, by replica."""

    seen: _Seen
    waits_for: int = 0
    told: dict[str, tuple[Gauges, float]] = field(default_factory=dict)
    fault: str = ""

    def take(self, name: str, reading: Reading) -> None:
        """An answer came."""
        self.waits_for -= 1
        if isinstance(reading, Fault):
            self.fault = self.fault or f"; {reading.detail}"
        else:
            self.told[name] = reading

    def trouble(self) -> str:
        """Why this is too little to tell, empty where it is enough."""
        for role, pool in self.seen.observation.fleet.pools.items():
            serving = pool.in_phase(Phase.SERVING)
            told = sum(replica.name in self.told for replica in serving)
            if told < LEAST_TOLD * len(serving):
                return f"{told} of {len(serving)} {role} engines say how full they are{self.fault}"
        return ""


class Publishing:
    """Publishes what ticks `note`, from `start` to `stop`. `now` is the ticks' clock, `monotonic` counts seconds."""

    def __init__(
        self,
        states: States,
        engines: Engines,
        leadership: Leadership,
        now: Callable[[], float],
        executor: Executor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._states, self._engines, self._leadership = states, engines, leadership
        self._now, self._monotonic = now, monotonic
        self._executor = executor or Daemons(READERS)
        self._seen: dict[str, _Seen] = {}
        self._term: int | None = None
        self._told: dict[str, float] = {}  # by fleet: the tick that it was told of in this term, without asking engines
        self._asking: dict[tuple[str, str], Future[Reading]] = {}
        self._troubles: dict[str, str] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="publishing", daemon=True)

    def note(self, fleet: Managed, observation: Observation, memory: Memory) -> None:
        """A tick has seen this. Called from the ticks' thread; costs nothing."""
        if fleet.judged is not None:
            self._seen[fleet.key] = _Seen(fleet, fleet.judged, observation, memory)

    def forget(self, key: str) -> None:
        """The fleet is managed no more."""
        self._seen.pop(key, None)
        self._told.pop(key, None)
        self._troubles.pop(key, None)
        self._states.forget(key)

    def start(self) -> None:
        """Begin to publish."""
        self._thread.start()

    def stop(self) -> None:
        """Publish no more. A round under way is left behind."""
        self._ending.set()

    def round(self) -> None:
        """Ask the engines of every fleet that is asked for, and publish each as soon as its own have answered."""
        term = self._leadership.term()
        self._states.lead(term)
        if term != self._term:
            self._term, self._told = term, {}
        if term is None:
            return
        looks: dict[Future[Reading], tuple[_Look, str]] = {}
        for key, seen in tuple(self._seen.items()):
            if not self._states.asked(key, ASKED_S):
                continue
            if not seen.asks:
                self._tell_as_seen(seen)
            elif len(looks) + len(seen.serving) > MOST:
                self._explain(
                    key, f"its {len(seen.serving)} engines are too many beside {len(looks)} others ({MOST} in a second)"
                )
            else:
                looks |= self._ask(_Look(seen))
        self._gather(looks)
        self._asking = {place: errand for place, errand in self._asking.items() if not errand.done()}

    def _ask(self, look: _Look) -> dict[Future[Reading], tuple[_Look, str]]:
        """The questions to a fleet's engines, under way."""
        begun = {}
        for replica in look.seen.serving:
            place = look.seen.fleet.key, replica.name
            if replica.address and place not in self._asking:
                self._asking[place] = errand = self._executor.submit(self._read, look.seen.fleet, replica)
                begun[errand] = look, replica.name
        look.waits_for = len(begun)
        return begun

    def _read(self, fleet: Managed, replica: Replica) -> Reading:
        found = attempt(
            "reading an engine",
            fleet.key,
            lambda: self._engines.gauges(fleet, replica, WITHIN_S),
            lambda why: Fault("engine", why),
        )
        return found if isinstance(found, Fault) else (found, self._monotonic())

    def _gather(self, looks: Mapping[Future[Reading], tuple[_Look, str]]) -> None:
        try:
            for errand in as_completed(looks, WITHIN_S):
                look, name = looks[errand]
                look.take(name, errand.result())
                if not look.waits_for:
                    self._tell(look)
        except TimeoutError:  # some hang: their fleets do without them
            for late in {id(look): look for look, _ in looks.values() if look.waits_for}.values():
                self._tell(late)

    def _tell(self, look: _Look) -> None:
        """Publish what the engines told, if it is enough, over what the last tick saw."""
        trouble, monotonic_s = look.trouble(), self._monotonic()
        self._explain(look.seen.fleet.key, trouble)
        if not trouble:
            gauges = {name: replace(told, age_s=monotonic_s - at_s) for name, (told, at_s) in look.told.items()}
            self._publish(look.seen, gauges)

    def _tell_as_seen(self, seen: _Seen) -> None:
        """Publish what the last tick saw, once."""
        if self._told.get(seen.fleet.key) != seen.observation.now:
            self._told[seen.fleet.key] = seen.observation.now
            self._publish(seen, None)

    def _publish(self, seen: _Seen, gauges: Mapping[str, Gauges] | None) -> None:
        content = attempt("publishing", seen.fleet.key, lambda: _content(seen, self._now(), gauges), lambda _: None)
        if content is not None and seen.fleet.key in self._seen:  # else it was forgotten meanwhile
            self._states.publish(content)

    def _explain(self, key: str, trouble: str) -> None:
        """Log why a fleet is not told of, and that it is again."""
        if bool(trouble) != bool(self._troubles.get(key)):
            told = f"sidecars are not told, and let everybody in: {trouble}" if trouble else "sidecars are told again"
            log.warning("%s: %s", key, told)
        self._troubles[key] = trouble

    def _run(self) -> None:
        while not self._ending.is_set():
            began_s = self._monotonic()
            attempt("publishing", "", self.round, lambda _: None)
            self._ending.wait(max(0.0, PERIOD_S - (self._monotonic() - began_s)))


def _content(seen: _Seen, now: float, gauges: Mapping[str, Gauges] | None) -> Mapping[str, Any] | None:
    """The document of a fleet as the last tick saw it, with these gauges of now if there are any; None where that is too long ago
    or too little.
    """
    fleet, memory, passed_s = seen.fleet, seen.memory, max(0.0, now - seen.observation.now)
    if passed_s > max(fleet.policy.freshness.max_age_s, TICKS * fleet.tick_s):
        return None
    signals = _later(seen.observation.signals, passed_s, gauges)
    observation = replace(seen.observation, now=now, signals=signals)
    profile, shape = sure_profile(fleet.policy, memory.speeds), memory.shape or fleet.policy.shape
    return document(observation, profile, shape, fleet.policy, seen.judged)


def _later(signals: Signals, passed_s: float, gauges: Mapping[str, Gauges] | None) -> Signals:
    """What was told `passed_s` ago, that much older, with `gauges` in place of its own."""
    if gauges is None and not isinstance(signals.gauges, Unknown):
        gauges = {name: replace(one, age_s=one.age_s + passed_s) for name, one in signals.gauges.items()}
    offered = signals.traffic.offered_rps
    if isinstance(offered, Known):
        offered = replace(offered, age_s=offered.age_s + passed_s)
    traffic = replace(signals.traffic, offered_rps=offered)
    return replace(signals, gauges=signals.gauges if gauges is None else gauges, traffic=traffic)
