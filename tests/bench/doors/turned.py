"""Was a rejection wrong?

One by one: each sampled request is let in all the same, on the same seed, in a copy of the run as it stands when it arrives (a
process of its own, which shares the memory it does not change). A rejection was FALSE if the request then ends within its
promises and nobody else newly misses theirs, by the outcomes of all that arrive until `AHEAD_S` later. Two worlds are asked:

    live   everything else goes on as it would: the door sees one more in the fleet and refuses somebody else for it
    held   every other verdict is as it was: only the queues differ

Neither tells a good door from a bad one. In `live` a door makes up for the one, so nobody is ever wrongly refused: 0 % too of a
door at margin -0.5, which refuses a third more of Mooncake's requests than one at -0.05. In `held` one more finds room wherever
any is kept: four fifths at -0.05, nearly all at -0.5. What was refused was refused together, so:

    together   a random part of all rejections is turned round at once, every other verdict as it was. The part of them that
               could have been served is the most by which the promises kept rise so, over all rejections: 0.2 % at
               margin -0.05, 6.5 % at -0.5
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean

from autoscaler.core.rejection import Verdict
from autoscaler.simulator.workload import Request
from tests.bench.doors.played import Fate, Play, Run
from tests.bench.doors.sidecars import Setup

AHEAD_S = 150.0
WARM_S = 60.0
PARTS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Turned:
    """What one verdict turned round did: was the request's own promise kept, and how many others newly missed theirs."""

    met: bool
    newly_missed: int

    @property
    def false(self) -> bool:
        """The rejection was wrong."""
        return self.met and not self.newly_missed


def figures(play: Play, setup: Setup, samples: int) -> dict[str, object]:
    """One by one in both worlds, over the same sample. ValueError for a run in which nobody was rejected."""
    reference = Run(play, setup)
    reference.finish()
    books: Mapping[str, Mapping[int, Verdict] | None] = {"live": None, "held": reference.door.verdicts}
    told: dict[str, object] = {}
    for name, book in books.items():
        found = list(_turned(play, setup, reference.tally.fates, _sample(play, reference, samples), book))
        told[name] = {
            "samples": len(found),
            "false_share": round(fmean(one.false for one in found), 4),
            "own_met_share": round(fmean(one.met for one in found), 4),
        }
    return told


def _sample(play: Play, reference: Run, samples: int) -> list[Request]:
    fates = reference.tally.fates
    last_s = play.requests[-1].arrival_s - AHEAD_S
    rejected = [one for one in play.requests if fates[one.id] is Fate.REJECTED and WARM_S < one.arrival_s < last_s]
    if not rejected:
        raise ValueError("nobody was rejected: there is nothing to turn round")
    chosen = Random(1).sample(rejected, min(samples, len(rejected)))
    return sorted(chosen, key=lambda one: one.arrival_s)


def _turned(
    play: Play, setup: Setup, fates: Mapping[int, Fate], chosen: Sequence[Request], book: Mapping[int, Verdict] | None
) -> Iterator[Turned]:
    run = Run(play, setup)
    for request in chosen:
        run.advance(request.arrival_s - 1e-6)
        after = let_in(run, request, book, AHEAD_S)
        others = [other for other, fate in after.items() if other != request.id and fate is not Fate.MET]
        yield Turned(after.get(request.id) is Fate.MET, sum(fates[other] is Fate.MET for other in others))


def together(play: Play, setup: Setup) -> dict[str, object]:
    """The promises kept more, by the part of all rejections that was turned round at once, and the part that was false."""
    reference = Run(play, setup)
    reference.finish()
    fates = reference.tally.fates
    rejected = [one for one, fate in fates.items() if fate is Fate.REJECTED]
    gains = {}
    for part in PARTS:
        run = Run(play, setup)
        run.door.forced, run.door.book = (
            frozenset(Random(1).sample(rejected, round(part * len(rejected)))),
            reference.door.verdicts,
        )
        run.finish()
        gains[part] = _kept(run.tally.fates) - _kept(fates)
    false = max(0, *gains.values()) / len(rejected)
    return {
        "rejected": len(rejected),
        "gains": {f"{part:g}": gain for part, gain in gains.items()},
        "false_share": round(false, 4),
    }


def _kept(fates: Mapping[int, Fate]) -> int:
    return sum(fate is Fate.MET for fate in fates.values())


def let_in(run: Run, request: Request, book: Mapping[int, Verdict] | None, ahead_s: float) -> dict[int, Fate]:
    """What became of everybody `ahead_s` later, in the copy that lets this one in; the run, which is just before its arrival,
    stays as it is. `book`: all other verdicts, None to judge them anew.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)
        run.door.forced, run.door.book = frozenset({request.id}), book
        run.advance(request.arrival_s + ahead_s)
        with os.fdopen(writes, "wb") as pipe:
            pickle.dump(run.tally.fates, pipe)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        fates: dict[int, Fate] = pickle.load(pipe)
    os.waitpid(child, 0)
    return fates
