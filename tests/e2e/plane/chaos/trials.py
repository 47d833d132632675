"""Did a course come to its end, whatever happened to it, and was every law kept?

A trial runs one course from the first request to the verdict. Whenever no controller runs any more, the next one leads; when
one stands still in the middle of a write, it wakes after its successor has ended everything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.e2e.plane.chaos.arena import Arena, Stage
from tests.e2e.plane.chaos.courses import Course
from tests.e2e.plane.chaos.gate import Fate, Gate
from tests.engines.ledger import End
from tests.engines.traffic import Fate as Served

AT_ONCE = 12  # cases on two cores: most of their time they wait
REST_S = 1.5  # a brain that looks again, and a beat
PATIENCE_S = 90.0

# Does more to a case, called again and again until it is settled; how many faults it has made this time.
Meddle = Callable[[Arena], int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one trial. `faults` were injected; `served` and `lost` count users' requests, `forced` those that the owner's
    word gave up. `peak` GPUs were held at most, of `looks` at everything. `undone` transactions went back, `stuck` ones were
    told to be. `broken`: laws that were, one line each.
    """

    name: str
    writes: tuple[str, ...]
    faults: int
    served: int
    lost: int
    forced: int
    peak: int
    looks: int
    ended: int
    undone: int
    stuck: int
    took_s: float
    broken: tuple[str, ...] = ()


def trial(
    stage: Stage, name: str, course: Course, fates: Mapping[int, Fate] | None = None, meddle: Meddle = lambda _: 0
) -> Verdict:
    """Run it."""
    gate, began_s, faults, why = Gate(fates), time.monotonic(), 0, ""
    with Arena(stage, course, gate) as arena:
        arena.lead()

        def settled() -> bool:
            nonlocal faults
            faults += meddle(arena)
            if not arena.leaders[-1].runs or (gate.late.is_set() and len(arena.leaders) == 1):
                arena.succeed()
            if not course.is_undone:
                arena.hurry()
            return arena.settled()

        try:
            arena.until(settled, f"{name}: {course.counts}, {course.end} and nothing under way", PATIENCE_S)
            if gate.late.is_set():
                arena.leaders[0].resume()
                gate.release()
            time.sleep(REST_S)
        except AssertionError as error:
            why = str(error)
        arena.end()
        broken = tuple(filter(None, (why, *laws(arena, settles=not why))))
        return _verdict(arena, name, faults + gate.struck, round(time.monotonic() - began_s, 1), broken)


def _verdict(arena: Arena, name: str, faults: int, took_s: float, broken: tuple[str, ...]) -> Verdict:
    said = "\n".join(leader.said for leader in arena.leaders)
    return Verdict(
        name,
        tuple(arena.gate.writes),
        faults,
        served=len(arena.traffic.ended(Served.SERVED)),
        lost=len(arena.traffic.ended(Served.LOST_BY_ACT)),
        forced=forced(arena),
        peak=arena.witness.peak,
        looks=arena.witness.events + arena.witness.glances,
        ended=said.count(": done "),
        undone=said.count(": undone "),
        stuck=said.count("stuck: "),
        took_s=took_s,
        broken=broken,
    )


def laws(arena: Arena, *, settles: bool = True) -> list[str]:
    """Those that were broken, one line each."""
    witness, traffic, ledger, budget = arena.witness, arena.traffic, arena.fleet.ledger, arena.course.budget
    lost, given_up = ledger.ended(End.LOST_BY_ACT), forced(arena)
    broken = [*traffic.ended(Served.UNSERVED)]
    if max(len(lost), len(traffic.ended(Served.LOST_BY_ACT))) > given_up:
        told = f"{given_up} were given up by force, the slowest hand-over took {traffic.slowest_s:.1f} s, and lost are:"
        broken += [told, *traffic.ended(Served.LOST_BY_ACT), *lost]
    if witness.peak > budget:
        broken.append(f"{witness.peak} GPUs held, and the budget is {budget}")
    broken += [f"nobody served {role} for a moment" for role in witness.bared]
    if settles and not arena.settled():
        broken.append(f"it did not stay as it was: {arena.told()}")
    return broken


def forced(arena: Arena) -> int:
    """Requests that were given up, as the records of all transactions say."""
    records = {key: one for way in arena.ways for key, one in way.records.items()}
    return sum(int(one.get("forced", 0)) for one in records.values())


def all_of(trials: Mapping[str, Callable[[], Verdict]], at_once: int = AT_ONCE) -> dict[str, Verdict]:
    """Many at once."""
    with ThreadPoolExecutor(at_once) as pool:
        begun = {name: pool.submit(one) for name, one in trials.items()}
        return {name: future.result() for name, future in begun.items()}
