"""Does the controller find the way of a split that moves, and does it matter how a flip is made?

Narwhal's walk over six engines, as in trials/ratio_walk.py: eight phases of 20 minutes, 1.1 times the published rates, TTFT 15 s
and TPOT 60 ms; it begins at 4P2D, as published. There a script knew the best split of each phase. Here nobody does: our
controller sees the signals, from a cold start, and flips

    label     at once                      >= 98.5 %, the best figure published
    switch    20 s, once idle              told beside it
    resize    one goes, another starts and takes 120 or 300 s: never more than 0.5 points below the best fixed split

The fleet is fixed (fixed_fleet.py). `shrinking` are the same runs where replicas may also be taken away, which nobody asked
Narwhal's planner to do: what it saves, and what it costs where a replica takes 300 s to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from statistics import fmean
from typing import Any

from autoscaler.core.fleet import SloKind
from autoscaler.simulator.contenders import Job
from autoscaler.simulator.flips import SWITCH_S, DriverKind, FlipSpec
from autoscaler.simulator.result import Result
from autoscaler.simulator.scenarios import Case
from autoscaler.simulator.shapes import walk
from tests.bench.decisions.fixed_fleet import FixedFleet, as_it_is, flipper
from tests.bench.trials.finding import Check, Rule
from tests.bench.trials.ratio_walk import ENGINES, LENGTH_S, PHASES, PROFILE, SCALE, TPOT_S, TTFT_S

FLEET = FixedFleet(ENGINES, PROFILE, {SloKind.TTFT: TTFT_S, SloKind.TPOT: TPOT_S})
BEGINS = 4  # prefill replicas
SEEDS = (1, 2)
PUBLISHED, SLACK = 0.985, 0.005
LABEL = FlipSpec(DriverKind.LABEL, max_in_flight=ENGINES)
SWITCH = FlipSpec(DriverKind.ENGINE_SWITCH, SWITCH_S, drains=True, max_in_flight=ENGINES)
RESIZE = FlipSpec(DriverKind.PAIRED_RESIZE, max_in_flight=ENGINES)
WAYS: Mapping[str, tuple[FlipSpec, float]] = {
    "label": (LABEL, 300.0),
    "switch": (SWITCH, 300.0),
    "resize_120": (RESIZE, 120.0),
    "resize_300": (RESIZE, 300.0),
}

Play = Callable[[Sequence[Job]], Sequence[Result]]


def case(name: str, prefill: int, flips: FlipSpec = LABEL, start_up_s: float = 300.0) -> Case:
    """The walk on this fleet."""
    traffic = partial(walk, phases=PHASES, duration_s=LENGTH_S, scale=SCALE)
    return replace(FLEET, start_up_s=start_up_s).case(f"walk-{name}", prefill, traffic, LENGTH_S, flips)


def jobs() -> dict[str, Job]:
    """Everybody, by name, with the first seed."""
    fixed = {f"fixed_{prefill}p": as_it_is(case("fixed", prefill)) for prefill in FLEET.splits}
    ways = {name: case(name, BEGINS, *way) for name, way in WAYS.items()}
    ours = {name: FLEET.ours(one) for name, one in ways.items()}
    shrinking = {
        f"{name}_shrinking": FLEET.ours(replace(one, name=f"free-{one.name}"), shrinks=True) for name, one in ways.items()
    }
    return {**fixed, "clairvoyant_flipper": flipper(ways["label"]), **ours, **shrinking}


def findings(play: Play) -> tuple[dict[str, Any], list[Check]]:
    """The figures of everybody, means over the seeds, and what is promised."""
    named = jobs()
    seeded = [(name, replace(job, seed=seed)) for name, job in named.items() for seed in SEEDS]
    results = play([job for _, job in seeded])
    pairs = zip((name for name, _ in seeded), results, strict=True)
    figures = {name: told([one for _, one in group]) for name, group in groupby(pairs, key=lambda pair: pair[0])}
    return figures, list(checks({name: one["attainment"] for name, one in figures.items()}))


def told(runs: Sequence[Result]) -> dict[str, float]:
    """Means over runs."""
    scores = [one.score for one in runs if one.score is not None]
    return {
        "attainment": round(fmean(score.attainment or 0.0 for score in scores), 5),
        "gpu_hours": round(fmean(sum(score.gpu_hours.values()) for score in scores), 3),
        "actions": fmean(score.actions for score in scores),
        "flips": fmean(score.flips for score in scores),
        "reversals": fmean(score.reversals for score in scores),
    }


def checks(shares: Mapping[str, float]) -> Iterator[Check]:
    """Attainments by name, beside what they should be."""
    best = max((name for name in shares if name.startswith("fixed_")), key=shares.__getitem__)
    claim = "attainment on the walk of six engines with flips by label, against the best published"
    yield Check("walk_label", claim, shares["label"], PUBLISHED, rule=Rule.AT_LEAST, published=PUBLISHED)
    for name in ("resize_120", "resize_300"):
        claim = f"attainment with resizes of {name.partition('_')[2]} s, against the best fixed split's ({best}) less {SLACK:g}"
        yield Check(f"walk_{name}", claim, shares[name], shares[best] - SLACK, rule=Rule.AT_LEAST)
