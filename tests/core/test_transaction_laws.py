"""Does a transaction keep every law whichever of its writes is the last one of a process?

Each course of each kind is run once undisturbed. Then again for each of its writes and each thing that may happen to a write:
the process dies before it, dies after it, or the answer is lost. Nothing is sampled. Whatever the write, the world is the
same in the end; no request is lost through an act of ours but those that were forced and counted; no more GPUs are held at
any second; no role loses its last serving replica; and what has no end is told, with what a human may do.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind, Step
from tests.core.transaction_life import PATIENCE, Fault, Life, Mode, change
from tests.core.transaction_world import NEVER, Answer, Script, World

PREFILL, DECODE = Role
MOST_BEATS = 120


@dataclass(frozen=True, slots=True)
class Course:
    """What one transaction meets: which decode replicas leave, how many of the other role start on their GPUs, and its end."""

    kind: Kind
    leave: tuple[int, ...]
    grow: int = 0
    end: Step = Step.DONE
    gpus: tuple[int, int] = (1, 1)
    spare: int = 0
    script: Script = field(default_factory=Script)
    forces: bool = False

    def life(self, fault: Fault) -> Life:
        """At its beginning. Prefill has two replicas and decode four; all GPUs are in use but `spare`."""
        gpus = dict(zip(Role, self.gpus, strict=True))
        counts = {PREFILL: 2, DECODE: 4}
        budget = sum(counts[role] * gpus[role] for role in Role) + self.spare
        world = World(counts, gpus, budget, replace(self.script))
        life = Life(world, fault=fault, patience=replace(PATIENCE, forces=self.forces))
        life.begin("one", change(world, self.kind, self.leave, self.grow))
        return life


BOTH = Script(engines_do_both=True)
BUSY = Script(works_for_ever=True)
HAPPY = {
    "a drain": Course(Kind.DRAIN, (3,)),
    "a drain of two": Course(Kind.DRAIN, (2, 3)),
    "a drain of whoever is idle at once": Course(Kind.DRAIN, (3,), script=Script(load=0)),
    "a relabel": Course(Kind.RELABEL, (0,), script=BOTH),
    "a switch": Course(Kind.SWITCH, (0,)),
    "drain first 1:1": Course(Kind.DRAIN_FIRST, (3,), 1),
    "drain first 2:1": Course(Kind.DRAIN_FIRST, (2, 3), 1, gpus=(2, 1)),
    "drain first 1:2": Course(Kind.DRAIN_FIRST, (3,), 2, gpus=(1, 2)),
    "surge first 1:1": Course(Kind.SURGE_FIRST, (3,), 1, spare=1),
    "surge first 2:1": Course(Kind.SURGE_FIRST, (2, 3), 1, gpus=(2, 1), spare=2),
}
REFUSED = {
    "a drain whose count is refused": Course(Kind.DRAIN, (3,), end=Step.UNDONE, script=Script(counts_refused=True)),
    "a relabel that the router does not hear": Course(
        Kind.RELABEL, (0,), end=Step.UNDONE, script=Script(engines_do_both=True, router_is_deaf=True)
    ),
    **{
        f"a switch whose engine {answer}": Course(Kind.SWITCH, (0,), end=Step.UNDONE, script=Script(answer=answer))
        for answer in Answer
        if answer is not Answer.SWITCHES
    },
    "drain first whose count is refused": Course(Kind.DRAIN_FIRST, (3,), 1, end=Step.UNDONE, script=Script(counts_refused=True)),
    "surge first whose count is refused": Course(
        Kind.SURGE_FIRST, (3,), 1, end=Step.UNDONE, spare=1, script=Script(counts_refused=True)
    ),
}
LATE = {
    "a drain of endless work": Course(Kind.DRAIN, (3,), end=Step.UNDONE, script=BUSY),
    "a drain of endless work by force": Course(Kind.DRAIN, (2, 3), script=BUSY, forces=True),
    "a switch of endless work": Course(Kind.SWITCH, (0,), end=Step.UNDONE, script=BUSY),
    "a switch of endless work by force": Course(Kind.SWITCH, (0,), end=Step.UNDONE, script=BUSY, forces=True),
    "drain first of endless work": Course(Kind.DRAIN_FIRST, (3,), 1, end=Step.UNDONE, script=BUSY),
    "drain first 1:1 that nobody starts for": Course(
        Kind.DRAIN_FIRST, (3,), 1, end=Step.UNDONE, script=Script(newcomers_ready=0)
    ),
    "drain first 2:1 that nobody starts for": Course(
        Kind.DRAIN_FIRST, (2, 3), 1, end=Step.UNDONE, gpus=(2, 1), script=Script(newcomers_ready=0)
    ),
    "drain first 1:2 of which one starts": Course(
        Kind.DRAIN_FIRST, (3,), 2, end=Step.READY, gpus=(1, 2), script=Script(newcomers_ready=1)
    ),
    "drain first whose pods never go": Course(Kind.DRAIN_FIRST, (3,), 1, end=Step.GONE, script=Script(going_s=NEVER)),
    "surge first of endless work": Course(Kind.SURGE_FIRST, (3,), 1, end=Step.UNDONE, spare=1, script=BUSY),
    "surge first that nobody starts for": Course(
        Kind.SURGE_FIRST, (3,), 1, end=Step.UNDONE, spare=1, script=Script(newcomers_ready=0)
    ),
}
COURSES = HAPPY | REFUSED | LATE


def followed(course: Course, *faults: tuple[int, Mode]) -> Life:
    """Its life to the end, every law looked at."""
    life = course.life(Fault(dict(faults)))
    life.run(MOST_BEATS)
    world, what = life.world, f"{faults}"
    one = life.last
    assert one.step is course.end, what
    assert one.over or life.stuck(), what
    assert world.lost <= one.forced, what
    assert world.peak <= world.budget, what
    assert world.over == 0, what
    assert world.bared == [], what
    return life


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_whichever_write_is_a_process_s_last_the_end_is_the_same_and_every_law_holds(course: Course) -> None:
    calm = followed(course)
    assert calm.fault.writes >= 2
    given_up = 2 * (2 + 1) if course.forces and course.kind is Kind.DRAIN else 0  # of each: its load, and one handed over late
    assert (calm.world.lost, calm.last.forced) == (given_up, given_up)
    for at, mode in product(range(calm.fault.writes), Mode):
        life = followed(course, (at, mode))
        assert life.fault.writes > at
        assert life.world.shape() == calm.world.shape(), (at, mode)


@pytest.mark.slow
@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_whichever_two_writes_are_broken_the_end_is_the_same(course: Course) -> None:
    calm = followed(course)
    for first, mode, then in product(range(calm.fault.writes), Mode, Mode):
        for second in range(first + 1, followed(course, (first, mode)).fault.writes):
            life = followed(course, (first, mode), (second, then))
            assert life.world.shape() == calm.world.shape(), (first, mode, second, then)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_a_course_that_ends_well_one_that_is_refused_or_late(kind: Kind) -> None:
    ends = {course.end for course in COURSES.values() if course.kind is kind}
    assert {Step.DONE, Step.UNDONE} <= ends
