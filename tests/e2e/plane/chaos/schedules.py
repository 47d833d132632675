"""What happens to a transaction in which order, by a seed?

Two kinds, both of one generator of random numbers each, so that a number that was printed brings the same schedule back:

    pure     in the world of tests/core, whose seconds cost nothing: two transactions, any event of its machine in any order
    plane    on the real control plane: a course, processes that die at writes or between them, and troubles of a few seconds
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from random import Random

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.core.fleet import Role
from tests.core import test_transaction_machine as machine
from tests.core.transaction_life import Life
from tests.e2e.plane.chaos.arena import Arena, Stage
from tests.e2e.plane.chaos.courses import COURSES
from tests.e2e.plane.chaos.faults import deleted, every, meddling, pod_path, rest, until
from tests.e2e.plane.chaos.gate import Fate
from tests.e2e.plane.chaos.proxy import HANGS, Asked, Trouble
from tests.e2e.plane.chaos.trials import Verdict, trial

MOST_EVENTS, MOST_GAP_S = 12, 8
LIVES_S = 160
REMADE_S = 4.0


def pure(seed: int) -> Life:
    """One schedule in the pure world, every law looked at every second; its life as it ended. Raises AssertionError."""
    random = Random(seed)
    first, second = random.choice(sorted(machine.FIRST)), random.choice(("", "switch", "drain"))
    life = machine.life(first, second, forces=random.random() < 0.5, flipped=random.random() < 0.5)
    for _ in range(random.randint(1, MOST_EVENTS)):
        for _ in range(random.randint(0, MOST_GAP_S)):
            life.beat()
            machine._keeps_the_laws(life)
        machine.EVENTS[random.choice(sorted(machine.EVENTS))](life, random.randrange(12))
    machine._heal(life)
    life.run(LIVES_S)
    machine._keeps_the_laws(life)
    assert len(life.stuck()) == len(life.under_way()), [(left.step, left.why) for left in life.under_way()]
    return life


Event = Callable[[Arena, Random], Iterator[int]]


def _killed(arena: Arena, _: Random) -> Iterator[int]:
    arena.leaders[-1].kill()
    yield 1


def _paused(arena: Arena, random: Random) -> Iterator[int]:
    leader = arena.leaders[-1]
    leader.pause()
    yield 1
    yield from rest(random.uniform(0.5, 3.0))
    leader.resume()


def _deposed(arena: Arena, _: Random) -> Iterator[int]:
    arena.depose()
    yield 1


def _rival(arena: Arena, _: Random) -> Iterator[int]:
    if len(arena.leaders) < 4:
        arena.lead()
        arena.depose()
        yield 1


def _clock(arena: Arena, random: Random) -> Iterator[int]:
    arena.jump(random.uniform(-300.0, 300.0))
    yield 1


def _pod(arena: Arena, random: Random) -> Iterator[int]:
    """While all stand: two that are missing at once are nobody's act."""
    role = random.choice(list(Role))
    name = f"{role}-{random.randrange(arena.course.start[role])}"
    whole = sum(arena.shape().values()) >= sum(arena.course.start.values()) - 1 and (role, "-") not in arena.shape()
    if whole and not isinstance(arena.api.get(pod_path(arena, name)), ApiFault):
        yield deleted(arena, name)
        yield from rest(REMADE_S + 2.0)


def _trouble(make: Callable[[], Callable[[Asked], Trouble | None]]) -> Event:
    def event(arena: Arena, random: Random) -> Iterator[int]:
        before, arena.proxy.trouble = arena.proxy.troubled.total(), make()
        if random.random() < 0.5:
            arena.proxy.cut()
        yield from rest(random.uniform(1.0, 4.0))
        arena.proxy.trouble = lambda _: None
        yield arena.proxy.troubled.total() - before

    return event


EVENTS: Mapping[str, Event] = {
    "killed": _killed,
    "paused": _paused,
    "deposed": _deposed,
    "a rival": _rival,
    "clock": _clock,
    "a pod is deleted": _pod,
    "stopped": _trouble(lambda: lambda _: Trouble(drops=True)),
    "hangs": _trouble(lambda: lambda _: HANGS),
    "slow": _trouble(lambda: lambda _: Trouble(wait_s=1.0)),
    "conflicts": _trouble(lambda: every(2, Trouble(status=409), lambda asked: asked.writes)),
    "too many": _trouble(lambda: every(2, Trouble(status=429))),
    "broken": _trouble(lambda: every(3, Trouble(status=500))),
    "answers lost": _trouble(lambda: every(2, Trouble(loses_answer=True), lambda asked: asked.writes)),
    "no history": _trouble(lambda: lambda asked: Trouble(status=410) if asked.watch else None),
}


def on_plane(stage: Stage, seed: int) -> Verdict:
    """One schedule on the plane."""
    random = Random(seed)
    name = random.choice(sorted(name for name, course in COURSES.items() if not course.is_undone))
    fates = {random.randrange(12): random.choice((Fate.BEFORE, Fate.UNANSWERED)) for _ in range(random.randrange(3))}
    events = [(random.uniform(0.0, 3.0), random.choice(sorted(EVENTS))) for _ in range(random.randint(2, 6))]
    happened: list[str] = []

    def deed(arena: Arena) -> Iterator[int]:
        yield from until(lambda: len(arena.gate.writes) > 0)
        for gap_s, event in events:
            yield from rest(gap_s)
            happened.append(f"{event} at {time.strftime('%X')}")
            yield from EVENTS[event](arena, random)

    course = replace(COURSES[name], ready_s=REMADE_S)
    verdict = trial(stage, f"seed {seed}: {name}", course, fates, meddling(deed))
    return replace(verdict, name=f"{verdict.name}: {', '.join([*map(str, fates.items()), *happened])}")
