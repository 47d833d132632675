"""What of a comparison need not be played again?

Everybody but ours does tomorrow what he did today, and a reference takes a dozen runs to be found. So their results are kept
in files, one for each job, in a folder of the user's cache ($PDA_CACHE or ~/.cache/pd-autoscaler, below it `references`). A
file is named by a digest of all that the result depends on:

    the job       case, contender, seed and required attainment, and of a trace the size of its file
    the source    every file of the simulator, and the rooms of the core that reckon or rule for everybody (`JUDGES`)

so nothing is ever out of date, only unused. Our own controller is played each time. Timelines and recoveries are not kept: no
target is about them.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

import autoscaler
from autoscaler.commands.playing import Lot, Played
from autoscaler.simulator.comparison import play_all
from autoscaler.simulator.contenders import OURS, Job
from autoscaler.simulator.moves import Flipped, Scaled
from autoscaler.simulator.result import Result
from autoscaler.simulator.score import Score

FOLDER = Path(os.environ.get("PDA_CACHE", Path.home() / ".cache" / "pd-autoscaler")) / "references"
PACKAGE = Path(autoscaler.__file__).parent
JUDGES = ("capacity", "fleet", "observation", "plan", "profile", "queueing")


@dataclass(frozen=True)
class Kept:
    """What of a `Result` is kept."""

    gpu_hours: float | None
    score: Score | None
    moves: tuple[Scaled | Flipped, ...]
    hasty_s: tuple[float, float]
    note: str
    infeasible: str


KEPT = TypeAdapter(Kept)


def source_digest(package: Path = PACKAGE) -> str:
    """Of all code that a baseline's result depends on."""
    rooms = [*sorted(package.glob("simulator/**/*.py")), *(package / "core" / f"{room}.py" for room in JUDGES)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in rooms)).hexdigest()


@dataclass(frozen=True, slots=True)
class Remembered:
    """The results kept in a folder, of this source."""

    folder: Path
    source: str

    def path(self, job: Job) -> Path:
        """Where the result of this job is kept, or would be."""
        parts = (job.case, job.contender.name, job.contender.point, job.seed, job.attainment, _trace_bytes(job), self.source)
        return self.folder / f"{hashlib.sha256(pickle.dumps(parts)).hexdigest()}.json"

    def recall(self, job: Job) -> Result | None:
        """The result as it was, None where none is kept or it cannot be read. Ours is never kept."""
        if job.contender.name == OURS:
            return None
        try:
            kept = KEPT.validate_json(self.path(job).read_bytes())
        except (OSError, ValidationError):
            return None
        return Result(job.case.name, job.contender, **{one.name: getattr(kept, one.name) for one in fields(kept)})

    def keep(self, job: Job, result: Result) -> None:
        """For the next time, unless it is ours or came to nothing. Written beside and renamed: others read meanwhile."""
        if job.contender.name == OURS or result.lost:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.path(job)
        beside = path.with_suffix(f".{os.getpid()}")
        beside.write_bytes(KEPT.dump_json(Kept(**{one.name: getattr(result, one.name) for one in fields(Kept)})))
        beside.replace(path)


def playing(remembered: Remembered, play: Played = play_all) -> Played:
    """How a lot is played where some of it is remembered; can be sent to another process."""
    return partial(_play, remembered=remembered, play=play)


def _play(lot: Lot, remembered: Remembered, play: Played) -> list[Result]:
    found = {place: kept for place, job in enumerate(lot) if (kept := remembered.recall(job)) is not None}
    left = [place for place in range(len(lot)) if place not in found]
    for place, result in zip(left, play(tuple(lot[place] for place in left)), strict=True):
        remembered.keep(lot[place], result)
        found[place] = result
    return [found[place] for place in range(len(lot))]


def known(jobs: Sequence[Job], remembered: Remembered) -> list[Job]:
    """Those that need not be played, and ours."""
    return [job for job in jobs if job.contender.name == OURS or remembered.recall(job) is not None]


def _trace_bytes(job: Job) -> int:
    """The size of the case's trace; 0 where its requests are made up."""
    traffic = job.case.traffic
    files = [one for one in traffic.args if isinstance(one, Path)] if isinstance(traffic, partial) else []
    return sum(one.stat().st_size for one in files)
