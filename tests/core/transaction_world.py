"""How do tests have a fleet that transactions act on, and a runner that may be killed at any of its writes?

`World` is two targets and their pods, with the truth that nobody sees whole: the requests in each replica, those that a
router has handed over and that arrive a moment after it was told, the role that an engine really has. A replica that takes
requests has `load` of them, one that takes none finishes one a second. Second by second (`tick`) pods go, come and get
ready, and engines switch. `do` carries out a duty as a cluster and an engine would; the scale-down takes the highest numbers,
as an ordinal LeaderWorkerSet does.

It keeps account of what must never be: requests `lost` through an act of ours (`lost_by_others` through somebody else's),
GPUs `over` the budget through one, roles `bared` of their last serving replica by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum

from autoscaler.core.duties import Count, Duty, Remake, Route, Switch
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Away, Seen, Sight
from autoscaler.core.transaction import Transaction, Victim

HANDED_OVER_S = 4.0  # the last request that a router had handed over before it was told
NEVER = math.inf


class Answer(StrEnum):
    """What an engine does when it is told to switch."""

    SWITCHES = "switches"
    REFUSES = "refuses"
    BREAKS = "breaks"
    LIES = "lies"  # says yes and does nothing
    FALLS_SILENT = "falls silent"  # hangs, and answers nothing any more


@dataclass(slots=True)
class Script:
    """How this world behaves. Durations in seconds, `NEVER` for what does not come true."""

    load: int = 2
    start_s: float = 3.0
    going_s: float = 2.0
    switch_s: float = 2.0
    answer: Answer = Answer.SWITCHES
    engines_do_both: bool = False
    newcomers_ready: int = 99  # of those that are started from now on
    works_for_ever: bool = False
    router_is_deaf: bool = False
    counts_refused: bool = False


@dataclass(slots=True, eq=False)
class Pod:
    """One replica. `engine`: the role that it really has, None while it has none."""

    name: str
    uid: str
    number: int
    routed: Role | Away
    engine: Role | None
    ready_s: float
    work: int = 0
    late_s: float = NEVER
    going_until_s: float | None = None
    switched_s: float = NEVER
    silent: bool = False


@dataclass(slots=True)
class World:
    """Two targets. `counts` and `gpus` by role; `budget` of GPUs."""

    counts: dict[Role, int]
    gpus: Mapping[Role, int]
    budget: int
    script: Script = field(default_factory=Script)
    now: float = 1000.0
    pods: dict[Role, dict[int, Pod]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset()
    switching: dict[str, Role] = field(default_factory=dict)
    lost: int = 0
    lost_by_others: int = 0
    over: int = 0
    peak: int = 0
    bared: list[Role] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        """All stand and serve already."""
        self.pods = {role: {} for role in self.counts}
        self._make(-NEVER)
        self.tick(0.0)

    def pod(self, name: str) -> Pod | None:
        """By its name, as "decode-3"."""
        role, _, number = name.partition("-")
        return self.pods[Role(role)].get(int(number))

    def victims(self, role: Role, *numbers: int) -> tuple[Victim, ...]:
        """Replicas of a target, as a transaction names them."""
        return tuple(Victim(pod.name, pod.uid) for pod in (self.pods[role][number] for number in numbers))

    def held(self) -> int:
        """GPUs held or promised."""
        return sum(max(count, len(self.pods[role])) * self.gpus[role] for role, count in self.counts.items())

    def serving(self, role: Role, but: Set[str] = frozenset()) -> int:
        """Replicas that take requests in this role, whoever made them."""
        pods = (pod for pods in self.pods.values() for pod in pods.values() if pod.name not in but)
        return sum(pod.routed is role and self._serves(pod) for pod in pods)

    def shape(self) -> object:
        """What a human would compare: counts, and what each replica does."""
        does = {pod.name: (str(pod.routed), pod.engine) for pods in self.pods.values() for pod in pods.values()}
        return {role: self.counts[role] for role in self.counts}, sorted(does.items())

    def _serves(self, pod: Pod) -> bool:
        fits = self.script.engines_do_both or pod.engine is pod.routed
        return self.now >= pod.ready_s and pod.going_until_s is None and fits

    def tick(self, seconds: float = 1.0) -> None:
        """Time passes."""
        self.now += seconds
        for pods in self.pods.values():
            for pod in tuple(pods.values()):
                self._age(pod)
                if pod.going_until_s is not None and self.now >= pod.going_until_s:
                    del pods[pod.number]
        self._make(self.now + self.script.start_s)
        self.peak = max(self.peak, self.held())

    def _age(self, pod: Pod) -> None:
        if self.now >= pod.switched_s:
            pod.engine, pod.switched_s = self.switching.pop(pod.uid), NEVER
        if isinstance(pod.routed, Role) and self._serves(pod):
            pod.work = self.script.load
        elif pod.work and not self.script.works_for_ever:
            pod.work -= 1
        if self.now >= pod.late_s:
            pod.work, pod.late_s = pod.work + 1, NEVER

    def _make(self, ready_s: float) -> None:
        for role, pods in self.pods.items():
            for number in range(self.counts[role]):
                if number not in pods:
                    self.made += 1
                    serves = ready_s < 0 or self.script.newcomers_ready > 0
                    self.script.newcomers_ready -= ready_s > 0
                    name, starts_s = f"{role}-{number}", ready_s if serves else NEVER
                    pods[number] = Pod(name, f"u{self.made}", number, role, role, starts_s)

    def _remove(self, pod: Pod, ours: bool) -> None:
        if pod.going_until_s is None:
            handed_over = pod.late_s < NEVER
            taking = isinstance(pod.routed, Role) and self._serves(pod)
            self._lose(pod.work + handed_over + taking, ours)
            pod.work, pod.late_s = 0, NEVER
            pod.going_until_s = self.now + self.script.going_s

    def _lose(self, requests: int, ours: bool) -> None:
        if ours:
            self.lost += requests
        else:
            self.lost_by_others += requests

    def do(self, duty: Duty) -> str:
        """Carry out a duty of ours; what is answered to a switch."""
        served, held = {role: self.serving(role) for role in self.counts}, self.held()
        said = ""
        match duty:
            case Route(victim, role):
                self._route(victim, role)
            case Count(role, seen, wanted):
                if self.counts[role] == seen and not self.script.counts_refused:
                    self.scale(role, wanted, ours=True)
            case Switch(victim, role):
                said = self._switch(victim, role)
            case Remake(victim):
                pod = self.pod(victim.name)
                if pod is not None and pod.uid == victim.uid:
                    self._remove(pod, ours=True)
        self.bared += [role for role, before in served.items() if before and self.counts[role] and not self.serving(role)]
        self.over += held < self.held() > self.budget
        self.peak = max(self.peak, self.held())
        return said

    def _route(self, victim: Victim, role: Role | None) -> None:
        pod = self.pod(victim.name)
        if pod is None or pod.going_until_s is not None or self.script.router_is_deaf:
            return
        if role is None and isinstance(pod.routed, Role) and self._serves(pod):
            pod.late_s = self.now + HANDED_OVER_S
        pod.routed = AWAY if role is None else role
        if role is not None and not self.script.engines_do_both and pod.engine is not role and self.now >= pod.ready_s:
            self.lost += 1  # sent to an engine that cannot serve it

    def _switch(self, victim: Victim, role: Role) -> str:
        pod = self.pod(victim.name)
        if pod is None or pod.uid != victim.uid or pod.silent or pod.going_until_s is not None or pod.switched_s < NEVER:
            return ""
        if pod.work:
            return "refused: not idle"
        match self.script.answer:
            case Answer.REFUSES:
                return "refused: no memory"
            case Answer.LIES:
                return ""
        self.lost += pod.late_s < NEVER or isinstance(pod.routed, Role)
        pod.engine = None
        if self.script.answer is Answer.SWITCHES:
            pod.switched_s, self.switching[pod.uid] = self.now + self.script.switch_s, role
            return ""
        pod.silent = self.script.answer is Answer.FALLS_SILENT
        return "" if pod.silent else "broken: half way"

    def scale(self, role: Role, count: int, *, ours: bool = False) -> None:
        """Give a target this count; somebody else does, unless it is `ours`."""
        self.counts[role] = count
        for number, pod in self.pods[role].items():
            if number >= count:
                self._remove(pod, ours)

    def delete(self, name: str) -> None:
        """Somebody else deletes a pod; a number within the count comes back under its name."""
        if (pod := self.pod(name)) is not None:
            self._remove(pod, ours=False)

    def relabel(self, name: str, routed: Role | Away) -> None:
        """Somebody else changes a label."""
        if (pod := self.pod(name)) is not None:
            pod.routed = routed
            self.lost_by_others += isinstance(routed, Role) and pod.engine is not routed and not self.script.engines_do_both

    def restart(self, name: str) -> None:
        """An engine crashes and is back in its launch's role, in the same pod."""
        if (pod := self.pod(name)) is not None:
            self.lost_by_others += pod.work
            pod.engine, pod.work, pod.silent, pod.switched_s = Role(name.partition("-")[0]), 0, False, NEVER
            self.switching.pop(pod.uid, None)

    def fail(self, *names: str) -> None:
        """These serve no more, and their pods stay."""
        for name in names:
            if (pod := self.pod(name)) is not None:
                pod.ready_s = NEVER

    def look(self, one: Transaction, busy: Set[str], idle: Callable[[Pod], bool], heard: Mapping[str, str]) -> Sight:
        """What can be seen of it now, less what is `hidden`; `idle` and `heard` are what the looking process remembers, `busy`
        the victims of all that is under way.
        """
        change, names = one.change, {victim.name for victim in one.change.victims}
        of, to = change.from_role, change.to_role
        limit = change.after.get(of, NEVER)
        came_from = change.before.get(to, NEVER)
        told: dict[str, object] = {
            "victims": {victim.name: self._seen(victim, idle, heard) for victim in change.victims},
            "counts": dict(self.counts),
            "ready": {role: sum(self._ready(pod) for pod in pods.values()) for role, pods in self.pods.items()},
            "standing": {role: len(pods) for role, pods in self.pods.items()},
            "bystanders": sum(pod.number >= limit and pod.name not in names for pod in self.pods[of].values()),
            "came": sum(pod.number >= came_from and self._ready(pod) for pod in self.pods[to].values()),
            "others": self.serving(of, busy),
        }
        return Sight(**{name: value for name, value in told.items() if name not in self.hidden})  # type: ignore[arg-type]

    def _ready(self, pod: Pod) -> bool:
        return self.now >= pod.ready_s and pod.going_until_s is None

    def _seen(self, victim: Victim, idle: Callable[[Pod], bool], heard: Mapping[str, str]) -> Seen:
        pod = self.pod(victim.name)
        if pod is None:
            return Seen(same=False, stands=False)
        answers = not pod.silent and pod.engine is not None
        said = heard.get(pod.uid, "")
        told: dict[str, object] = {
            "same": pod.uid == victim.uid,
            "stands": True,
            "going": pod.going_until_s is not None,
            "routed": pod.routed,
            "role": pod.engine if answers and not self.script.engines_do_both else None,
            "idle": answers and idle(pod),
            "requests": pod.work if answers else None,
            "refused": said if said.startswith("refused") else "",
            "broken": said if said.startswith("broken") else "",
        }
        return Seen(**{name: value for name, value in told.items() if name not in self.hidden})  # type: ignore[arg-type]
