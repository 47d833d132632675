"""Does a transaction keep every law whichever of its writes is the last one of a process, or comes late?

Each kind once undisturbed, and then again for each of its writes (every_write.py): the controller gets a SIGKILL before it is
sent, or when it was carried out and the answer is on its way, and a successor leads in the next term. And once more with a
controller that is stopped in the middle of the write and wakes when its successor has ended everything: what it was about to
write is refused, or says what is so already.
"""

from __future__ import annotations

import logging

import pytest

from tests.e2e.plane.chaos.arena import Stage
from tests.e2e.plane.chaos.courses import COURSES
from tests.e2e.plane.chaos.every_write import DEATHS, Enumeration, enumerated
from tests.e2e.plane.chaos.gate import Fate
from tests.e2e.plane.chaos.trials import Verdict

pytestmark = [pytest.mark.plane, pytest.mark.slow]

log = logging.getLogger(__name__)

IN_CI = {name: course for name, course in COURSES.items() if set(course.gpus.values()) == {1} and not course.is_undone}


@pytest.fixture(scope="module")
def killed(stage: Stage) -> dict[str, Enumeration]:
    """All courses at once: most of the time they wait."""
    return enumerated(stage, DEATHS, IN_CI)


@pytest.mark.parametrize("name", IN_CI)
def test_whichever_write_is_a_controllers_last_the_end_is_the_same_and_every_law_is_kept(
    killed: dict[str, Enumeration], name: str
) -> None:
    verify(killed[name])
    assert len(killed[name].cases) == len(DEATHS) * len(killed[name].calm.writes)


@pytest.mark.parametrize("name", IN_CI)
def test_undisturbed_every_gpu_of_the_budget_is_used_at_some_moment_and_each_step_is_stored_once(
    killed: dict[str, Enumeration], name: str
) -> None:
    """Which also shows that the witness sees GPUs: a surge takes one more for a while."""
    calm = killed[name].calm
    assert calm.peak == IN_CI[name].budget
    assert (calm.ended, calm.undone, calm.stuck) == (1, 0, 0)
    assert len(calm.writes) == IN_CI[name].writes, calm.writes


@pytest.mark.chaos
def test_whichever_write_comes_late_the_end_is_the_same_and_every_law_is_kept(stage: Stage) -> None:
    for one in enumerated(stage, [Fate.LATE]).values():
        verify(one)


@pytest.mark.chaos
def test_where_replicas_have_other_sizes_or_engines_refuse_or_break_it_is_no_different(stage: Stage) -> None:
    others = {name: course for name, course in COURSES.items() if name not in IN_CI}
    for name, one in enumerated(stage, DEATHS, others).items():
        verify(one)
        assert len(one.calm.writes) >= COURSES[name].writes, one.calm.writes  # what is undone may be tried again


def verify(found: Enumeration) -> None:
    for one in (found.calm, *found.cases):
        log.info("%s: %s, %.1f s, %d requests served", one.name, struck(one), one.took_s, one.served)
    assert [f"{one.name} {struck(one)}: {why}" for one in (found.calm, *found.cases) for why in one.broken] == []
    assert found.calm.faults == 0
    assert {one.faults for one in found.cases} == {1}
    assert all(one.served > 0 and one.looks > 0 for one in found.cases)


def struck(one: Verdict) -> list[str]:
    """The writes at which something happened."""
    return [write for write in one.writes if write.partition(": ")[2]]
