"""Does the controller decide well? Ours beside every baseline and every reference, from a cold start without history.

    scenarios      those of autoscaler/simulator/scenarios.yaml: every contender at every headroom, and what is promised of
                   each (decisions/claims.py)
    walk           the walk of the best split over six engines, by each way to flip (decisions/six_engines.py)
    moving-ratio   the rate that a fixed fleet carries while its load's ratio moves (decisions/moving_ratio.py)

    --scenario PATTERN   only what is called so, `*@60s` or `moving-ratio`; may be given again
    --length SECONDS     no more than the first of each scenario
    --ours-only          nobody else is played; the others stand beside where they are remembered from before
    --one-point          policies at their published headroom only; lines are not compared then
    --kept               the scenarios kept for the final report, and no others
    --jobs N             processes, by default one for each core

Baselines and references are played once and remembered (decisions/remembered.py), for $PDA_CACHE or ~/.cache/pd-autoscaler.
Checks are told on stderr as they come; at the end one JSON object on stdout has everybody's figures and all checks, with those
that are not met named again in `missed`. Traces lie in the folder that PDA_SHARED names; a scenario without its trace is left
out, with a line that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from autoscaler.commands.playing import played
from autoscaler.simulator.contenders import OURS, Contender, Job, field_of
from autoscaler.simulator.ground import cut
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.result import Result, settled
from autoscaler.simulator.scenarios import BUILT_IN, Case, load_cases
from tests.bench.decisions import moving_ratio, six_engines
from tests.bench.decisions.claims import STRETCH, Played, claims
from tests.bench.decisions.remembered import FOLDER, Remembered, known, playing, source_digest
from tests.bench.trials.finding import Check
from tests.bench.truth import told

TRACES = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "traces"
ATTAINMENT, SEED = 0.99, 1
WALK, MOVING_RATIO = "walk", "moving-ratio"

Part = tuple[dict[str, Any], list[Check]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for on the command line."""

    scenario: Sequence[str]
    length: float | None
    ours_only: bool
    one_point: bool
    kept: bool
    jobs: int

    def named(self, name: str) -> bool:
        """Whether something of this name is to be played: a full name, or a scenario's at all start-up times."""
        names = name, name.partition("@")[0]
        return not self.scenario or any(fnmatchcase(one, pattern) for one in names for pattern in self.scenario)


@dataclass(frozen=True, slots=True)
class Stage:
    """Where jobs are played."""

    wanted: Wanted
    remembered: Remembered

    def play(self, jobs: Sequence[Job]) -> list[Result]:
        """All of them, what is remembered included. Raises Refusal on bad input."""
        return played(jobs, self.wanted.jobs, playing(self.remembered))

    def scenario(self, cases: Sequence[Case]) -> Iterator[tuple[str, Part]]:
        """One scenario at all its start-up times."""
        jobs = [Job(case, one, SEED, ATTAINMENT) for case in cases for one in field(self.wanted)]
        if self.wanted.ours_only:
            jobs = known(jobs, self.remembered)
        results = settled(self.play(jobs))
        for case in cases:
            own = [one for one in results if one.scenario == case.name]
            yield case.name, ({"runs": [row(one) for one in own]}, list(claims(Played(case, own, ATTAINMENT))))

    def parts(self, cases: Sequence[Case]) -> Iterator[tuple[str, Part]]:
        """Everything that is asked for, one after the other."""
        if self.wanted.named(WALK) and not self.wanted.kept:
            yield WALK, six_engines.findings(self.play)
        for load in moving_ratio.LOADS if self.wanted.named(MOVING_RATIO) and not self.wanted.kept else ():
            yield f"{MOVING_RATIO}-{load.name}", moving_ratio.findings(load, self.play)
        for _, each in groupby(cases, key=lambda case: case.name.partition("@")[0]):
            yield from self.scenario(tuple(each))


def field(wanted: Wanted) -> tuple[Contender, ...]:
    """Everybody who plays in a scenario."""
    return field_of(None, tuple(PEERS), sweep=not wanted.one_point, references=True)


def row(result: Result) -> dict[str, Any]:
    """One run as it is told."""
    score = result.score
    moved = {} if score is None else {"actions": score.actions, "flips": score.flips, "reversals": score.reversals}
    return {
        "policy": result.contender.name,
        "headroom": result.contender.point,
        "attainment": result.attainment,
        "gpu_hours": result.gpu_hours,
        **moved,
        "note": result.note or result.infeasible,
    }


def brief(figures: Mapping[str, Any]) -> str:
    """Ours at its published point and the references, on one line."""
    rows = [one for one in figures.get("runs", ()) if one["headroom"] is None or (one["policy"], one["headroom"]) == (OURS, 0.0)]
    return ", ".join(f"{one['policy']} {_share(one['attainment'])} {_hours(one['gpu_hours'])}" for one in rows)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _hours(value: float | None) -> str:
    return "not found" if value is None else f"{value:.4g} GPU-h"


def line_of(check: Check) -> str:
    """One line; of a check that is missed also what it is about, for there the exceptions are named."""
    return told(check) if check.met else f"{told(check)} ({check.claim})"


def document(found: Mapping[str, Part], left_out: Sequence[str], wanted: Wanted) -> dict[str, Any]:
    """All of it."""
    checks = [check for _, each in found.values() for check in each]
    missed = [check.name for check in checks if not check.met]
    return {
        "bench": "decision",
        "attainment": ATTAINMENT,
        "seed": SEED,
        "length_s": wanted.length,
        "kept": wanted.kept,
        "left_out": list(left_out),
        "figures": {name: figures for name, (figures, _) in found.items()},
        "checks": [{**asdict(check), "met": check.met} for check in checks],
        "missed": [name for name in missed if not name.endswith(STRETCH)],
        "missed_stretch": [name for name in missed if name.endswith(STRETCH)],
    }


def wanted_of(arguments: Sequence[str]) -> Wanted:
    """The command line, read. Ends with exit code 2 where it is wrong."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parser = argparse.ArgumentParser(prog="make bench NAME=decision", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--scenario", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--length", type=partial(_at_least, 60.0), metavar="SECONDS")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--one-point", action="store_true")
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--jobs", type=lambda text: int(_at_least(1, text)), default=cores, metavar="N")
    return Wanted(**vars(parser.parse_args(arguments)))


def _at_least(least: float, text: str) -> float:
    """Raises ArgumentTypeError, which argparse tells, for a number that is too small."""
    if not (value := float(text)) >= least:
        raise argparse.ArgumentTypeError(f"{text} is not >= {least:g}")
    return value


def main() -> None:
    """Play what is asked for, and print one JSON object."""
    wanted = wanted_of(sys.argv[1:])
    cases = load_cases(TRACES if TRACES.is_dir() else None, BUILT_IN, kept=wanted.kept)
    left_out = [line for line in cases.left_out if wanted.named(line.partition(":")[0])]
    for line in left_out:
        sys.stderr.write(f"{line}\n")
    found: dict[str, Part] = {}
    chosen = [cut(case, wanted.length) for case in cases.ready if wanted.named(case.name)]
    for name, (figures, checks) in Stage(wanted, Remembered(FOLDER, source_digest())).parts(chosen):
        found[name] = figures, checks
        for line in (f"{name}: {brief(figures)}", *map(line_of, checks)):
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    sys.stdout.write(json.dumps(document(found, left_out, wanted)) + "\n")


if __name__ == "__main__":
    main()
