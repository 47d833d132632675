"""What comes of every course for each of its writes and each thing that can happen to a process there?

Each course once undisturbed; and once for each of the writes that it has then (courses.py) and each fate. Nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

from tests.e2e.plane.chaos.arena import Stage
from tests.e2e.plane.chaos.courses import COURSES, Course
from tests.e2e.plane.chaos.gate import Fate
from tests.e2e.plane.chaos.trials import Verdict, all_of, trial

DEATHS = (Fate.BEFORE, Fate.UNANSWERED)


@dataclass(frozen=True, slots=True)
class Enumeration:
    """Of one course: undisturbed, and every case."""

    calm: Verdict
    cases: tuple[Verdict, ...]


def enumerated(stage: Stage, fates: Collection[Fate], courses: Mapping[str, Course] = COURSES) -> dict[str, Enumeration]:
    """All of them, by course; all at the same time."""
    calm = {name: partial(trial, stage, name, course) for name, course in courses.items()}
    cases = {
        f"{name}: {fate}, write {at + 1} of {course.writes}": partial(trial, stage, f"{name}, {fate}", course, {at: fate})
        for name, course in courses.items()
        for at, fate in product(range(course.writes), fates)
    }
    found = all_of(calm | cases)
    return {
        name: Enumeration(found[name], tuple(one for told, one in found.items() if told.startswith(f"{name}: ")))
        for name in courses
    }
