"""How is a transaction carried through by processes that may die at any of their writes?

`Runner` does what the real one does at each beat: look, `advance` as long as that changes anything and store each new record,
then do the duties. Every store and every duty is a write. `Fault` breaks one of them: the process dies before it or after it,
or it is done and the answer is lost. The next process has what is stored, as JSON, and nothing else. `Life` is one process
after another in one world.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.core.duties import Duty, Switch, duties
from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Change, Kind, Step, Transaction, begun
from autoscaler.core.transaction_record import record, restored
from autoscaler.core.transit import Patience, advance, stuck
from tests.core.transaction_world import Pod, Script, World

PREFILL, DECODE = Role

# Short, so that a timeline is: with requests done in two seconds a drain takes its 5 s of settling. Twice as long as a step
# takes with two processes dead in between.
PATIENCE = Patience(idle_s=24.0, settle_s=5.0, ready_s=20.0, gone_s=20.0, switch_s=20.0, write_s=16.0)
IDLE_LOOKS = 3
MOST_STEPS = 12  # of one look: more is a circle


class Mode(StrEnum):
    """What happens to a write."""

    KILLED_BEFORE = "killed before"
    KILLED_AFTER = "killed after"
    ANSWER_LOST = "answer lost"


class Killed(Exception):
    """The process is dead."""


class AnswerLost(Exception):
    """It was done, and nobody knows."""


@dataclass(slots=True)
class Fault:
    """What happens to which write, the first being number 0. `writes` counts them over all processes."""

    at: dict[int, Mode] = field(default_factory=dict)
    writes: int = 0

    def write(self, act: Callable[[], str]) -> str:
        """Do it, or what becomes of it."""
        mode = self.at.get(self.writes)
        self.writes += 1
        if mode is Mode.KILLED_BEFORE:
            raise Killed
        said = act()
        if mode is not None:
            raise Killed if mode is Mode.KILLED_AFTER else AnswerLost
        return said


@dataclass(slots=True)
class Stored:
    """What outlives a process: the records under way as JSON. `ended`, and the `way` of each, are for the test to see."""

    text: str = "[]"
    ended: dict[str, Transaction] = field(default_factory=dict)
    way: defaultdict[str, list[Step]] = field(default_factory=lambda: defaultdict(list))

    def put(self, now: float, *changed: Transaction) -> str:
        """In place of those of their keys; what is over is struck out."""
        merged = {one.key: one for one in (*self.read(now), *changed)}
        self.text = json.dumps(record([one for one in merged.values() if not one.over]))
        self.ended |= {one.key: one for one in changed if one.over}
        for one in changed:
            if self.way[one.key][-1:] != [one.step]:
                self.way[one.key].append(one.step)
        return ""

    def read(self, now: float) -> tuple[Transaction, ...]:
        """What is under way."""
        return restored(json.loads(self.text), now)


class Runner:
    """One process."""

    def __init__(self, world: World, stored: Stored, fault: Fault, patience: Patience = PATIENCE) -> None:
        self.world, self.stored, self.fault, self.patience = world, stored, fault, patience
        self._known = {one.key: one for one in stored.read(world.now)}
        self._quiet: Counter[str] = Counter()
        self._heard: dict[str, str] = {}

    def beat(self) -> None:
        """One look at all that is under way, and what comes of it."""
        for one in tuple(self._known.values()):
            try:
                self._move(one)
            except AnswerLost:  # of a store: nothing may be done on it before it is read again
                self._known = {kept.key: kept for kept in self.stored.read(self.world.now)}

    def _move(self, one: Transaction) -> None:
        busy = {victim.name for each in self._known.values() for victim in each.change.victims}
        sight = self.world.look(one, busy, self._idle, self._heard)
        for _ in range(MOST_STEPS):
            after = advance(one, sight, self.world.now, self.patience)
            if after == one:
                break
            one = after
            self.fault.write(lambda after=after: self.stored.put(self.world.now, after))  # type: ignore[misc]
            self._known[one.key] = one
        else:
            raise AssertionError(f"goes round in circles at {one.step}")
        if one.over:
            del self._known[one.key]
        for duty in duties(one, sight):
            self._carry_out(duty)

    def _carry_out(self, duty: Duty) -> None:
        try:
            said = self.fault.write(lambda: self.world.do(duty))
        except AnswerLost:
            return
        if said:
            pod = self.world.pod(duty.victim.name) if isinstance(duty, Switch) else None
            self._heard[pod.uid if pod else ""] = said

    def _idle(self, pod: Pod) -> bool:
        """Remembered by pod: a new process, and a pod made anew, begin again."""
        self._quiet[pod.uid] = 0 if pod.work or isinstance(pod.routed, Role) else self._quiet[pod.uid] + 1
        return self._quiet[pod.uid] >= IDLE_LOOKS


@dataclass(slots=True)
class Life:
    """A world, what is stored, and one process after another. `down_s`: how long none is there after one died."""

    world: World
    stored: Stored = field(default_factory=Stored)
    fault: Fault = field(default_factory=Fault)
    patience: Patience = PATIENCE
    down_s: int = 2
    _runner: Runner | None = None
    _down: int = 0

    def begin(self, key: str, change: Change) -> None:
        """A decision was made; it is stored."""
        self.stored.put(self.world.now, begun(key, 1, change, self.world.now))
        self._runner = None

    def beat(self) -> None:
        """A second passes."""
        self.world.tick()
        if self._down:
            self._down -= 1
            return
        try:
            self._runner = self._runner or Runner(self.world, self.stored, self.fault, self.patience)
            self._runner.beat()
        except Killed:
            self._runner, self._down = None, self.down_s

    def kill(self) -> None:
        """Between two beats."""
        self._runner, self._down = None, self.down_s

    def reread(self) -> None:
        """Somebody of this process has stored something else."""
        self._runner = None

    def under_way(self) -> tuple[Transaction, ...]:
        """As stored."""
        return self.stored.read(self.world.now)

    @property
    def last(self) -> Transaction:
        """The one that there is, as it ended or as it is."""
        (one,) = (*self.stored.ended.values(), *self.under_way())
        return one

    def run(self, beats: int, rest: int = 8) -> None:
        """Until nothing is under way, or so many beats; then the world comes to rest."""
        for _ in range(beats):
            if self.stored.text == "[]":
                break
            self.beat()
        for _ in range(rest):
            self.beat()

    def stuck(self) -> list[str]:
        """What is told of those that wait."""
        return [told for one in self.under_way() if (told := stuck(one, self.world.now, self.patience))]


def change(world: World, kind: Kind, leave: tuple[int, ...] = (), grow: int = 0, of: Role = DECODE) -> Change:
    """One of this kind: replicas of target `of` with these numbers leave the role they have, `grow` of the other start."""
    victims = world.victims(of, *leave)
    if kind in (Kind.RELABEL, Kind.SWITCH):
        had = world.pods[of][leave[0]].routed
        assert isinstance(had, Role)
        return Change(kind, had, _other(had), victims)
    before, after = {of: world.counts[of]}, {of: world.counts[of] - len(leave)}
    if kind is Kind.DRAIN:
        return Change(kind, of, of, victims, before, after)
    to = _other(of)
    return Change(kind, of, to, victims, before | {to: world.counts[to]}, after | {to: world.counts[to] + grow})


def _other(role: Role) -> Role:
    return next(one for one in Role if one is not role)


def life(
    kind: Kind, leave: tuple[int, ...] = (3,), grow: int = 0, script: Script | None = None, patience: Patience = PATIENCE
) -> Life:
    """Two prefill and four decode replicas on eight GPUs, and one transaction."""
    world = World({PREFILL: 2, DECODE: 4}, {PREFILL: 1, DECODE: 1}, 8, script or Script())
    one = Life(world, patience=patience)
    one.begin("one", change(world, kind, leave, grow))
    return one


def until(one: Life, step: Step, beats: int = 80) -> None:
    """Second by second, until its step is this."""
    for _ in range(beats):
        if one.last.step is step:
            return
        one.beat()
    raise AssertionError(f"at {one.last.step}, never at {step}")


def way(one: Life) -> str:
    """All its steps, to the end."""
    one.run(120)
    assert one.world.lost == one.last.forced
    return " ".join(one.stored.way["one"])


def routed(one: Life, name: str) -> object:
    """As what requests are sent to it."""
    pod = one.world.pod(name)
    return pod and pod.routed
