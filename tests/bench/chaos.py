"""What becomes of drains and flips when anything dies or fails at any moment?

    faults            that were injected: processes killed or stopped at a write or between two, requests to the API server that
                      were refused, lost or hung, pods deleted, clocks set, Leases taken
    laws              that were checked, once for each case: its end, that it stays, requests, GPUs, a replica in each role
    moments           at which GPUs and serving replicas were looked at
    ended, undone     transactions that came to their end, and that went back; `undone` ones are tried again
    stuck             times that a waiting transaction was told, with what a human may do
    served, lost      requests of users; `lost` through an act of ours (must be 0)
    forced            requests given up by the owner's word: counted and told before they are lost

All of it on a real control plane, and as many schedules in the pure world (tests/core). `--seed N` begins both there, and is
printed; `--schedules N` are run on the plane. Exit code 1 and the broken laws on stderr where there are any.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import SystemRandom

import pytest

from autoscaler.adapters.kubernetes import connect
from autoscaler.core.transaction import Step
from tests.e2e.plane.binaries import find_binaries
from tests.e2e.plane.chaos.arena import Stage
from tests.e2e.plane.chaos.driver import Nursery
from tests.e2e.plane.chaos.every_write import enumerated
from tests.e2e.plane.chaos.faults import FAULTS
from tests.e2e.plane.chaos.gate import Fate
from tests.e2e.plane.chaos.schedules import on_plane, pure
from tests.e2e.plane.chaos.trials import Verdict, all_of
from tests.e2e.plane.plane import Plane

PURE, ON_PLANE = 1000, 20
LAWS = 5  # of each case


def say(text: str) -> None:
    """A line about how far things are."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def in_the_pure_world(seed: int) -> tuple[dict[str, int], list[str]]:
    """A thousand schedules, and what they broke."""
    counts, broken = dict.fromkeys(("ended", "undone", "stuck", "lost", "forced"), 0), []
    for one in range(seed, seed + PURE):
        try:
            life = pure(one)
        except AssertionError as error:
            broken.append(f"pure, seed {one}: {error}")
            continue
        ended = life.stored.ended.values()
        gave_up = sum(transaction.forced for transaction in (*ended, *life.under_way()))
        found = {
            "ended": sum(transaction.step is Step.DONE for transaction in ended),
            "undone": sum(transaction.step is Step.UNDONE for transaction in ended),
            "stuck": len(life.stuck()),
            "lost": max(0, life.world.lost - gave_up),
            "forced": gave_up,
        }
        counts = {name: counts[name] + found[name] for name in counts}
    return counts, broken


def on_the_plane(stage: Stage, seed: int, schedules: int) -> Iterator[Verdict]:
    """Every write of every course with everything that can happen there, every fault, and schedules."""
    for name, found in enumerated(stage, tuple(Fate)).items():
        say(f"{name}: {len(found.calm.writes)} writes, {len(found.cases)} cases")
        yield found.calm
        yield from found.cases
    say(f"{len(FAULTS)} faults, {schedules} schedules from seed {seed}")
    yield from all_of({name: partial(case.verdict, stage, name) for name, case in FAULTS.items()}).values()
    yield from all_of({str(one): partial(on_plane, stage, one) for one in range(seed, seed + schedules)}).values()


def main() -> int:
    """The figures, as one JSON object in the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(2**31))
    parser.add_argument("--schedules", type=int, default=ON_PLANE)
    chosen = parser.parse_args()
    binaries = find_binaries()
    if isinstance(binaries, str):
        say(binaries)
        return 2
    say(f"seed {chosen.seed}")
    in_pure, broken = in_the_pure_world(chosen.seed)
    with tempfile.TemporaryDirectory() as name, Plane(binaries, Path(name)) as plane, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(plane.kubeconfig))
        plane.install_crd()
        with Nursery(Path(name)) as nursery:
            verdicts = list(on_the_plane(Stage(plane, connect(), nursery, Path(name)), chosen.seed, chosen.schedules))
    broken += [f"{one.name}: {why}" for one in verdicts for why in one.broken]
    for line in broken:
        say(line)
    sums = {name: sum(getattr(one, name) for one in verdicts) for name in in_pure}
    figures = {
        "bench": "chaos",
        "seed": chosen.seed,
        "cases": len(verdicts),
        "faults": sum(one.faults for one in verdicts),
        "laws": LAWS * len(verdicts),
        "broken": len(broken),
        "moments": sum(one.looks for one in verdicts),
        "served": sum(one.served for one in verdicts),
        **sums,
        "pure": {"schedules": PURE, **in_pure},
        "met": not broken,
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
