"""What does early rejection save, whom does it refuse wrongly, and does a premium class keep its promise?

    runs      both cases of doors/cases.py under baseline, early and predictive, with 1, 4 and 16 sidecars that share the fleet
              and see it 1 s late. `paper`: decode looks once more after the prefill, whatever the strategy, as in
              Mooncake's section 7. `shipped`: no engine does that, so only the door decides
    t_d       predictive on Mooncake, with half and with twice the running estimate
    false     rejections turned round one by one (doors/turned.py), of `predictive` as shipped
    premium   one request in five has priority and three tenths of both phases reserved, at twice what the fleet carries

What must be reached is held against the figures in `targets`. The pools' anti-phase is told twice: as the correlation of their
loads, and as its covariance (`swing`), since two pools that hardly move may be perfectly correlated. `--samples` rejections
are turned round in each world; the target speaks of 1,000, which take a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import process_time
from timeit import timeit
from typing import Any

from rich.console import Console
from rich.progress import track

from autoscaler.core.fleet import SloKind
from autoscaler.core.outlook import Strategy
from autoscaler.core.rejection import judge
from tests.bench.doors import cases, turned
from tests.bench.doors.played import Fate, Play, Run
from tests.bench.doors.sidecars import Setup

TRACES = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared")) / "traces"
SIDECARS = (1, 4, 16)
TIMES_T_D = (0.5, 2.0)
ONE = 1
VERDICTS = 20_000


def setups(full_s: Mapping[SloKind, float]) -> Iterator[tuple[str, Setup]]:
    """Who plays a case: baseline lives from decode's second look, the others are played with it and without."""
    for sidecars in SIDECARS:
        for strategy in Strategy:
            rules = cases.alike(strategy, full_s)
            yield f"{strategy} paper {sidecars}", Setup(rules, sidecars, recheck=True)
            if strategy is not Strategy.BASELINE:
                yield f"{strategy} shipped {sidecars}", Setup(rules, sidecars, recheck=False)


def played(play: Play, setup: Setup) -> Run:
    """A whole run."""
    run = Run(play, setup)
    run.finish()
    return run


def attainments(play: Play, full_s: Mapping[SloKind, float], sidecars: int) -> dict[str, float]:
    """Of the offered requests of each class the share that was met."""
    run = played(play, Setup(cases.two_classes(full_s), sidecars, recheck=False, qos=cases.class_of))
    offered, met = Counter[str](), Counter[str]()
    for request in play.requests:
        name = cases.class_of(request)
        offered[name] += 1
        met[name] += run.tally.fates[request.id] is Fate.MET
    return {name: round(met[name] / count, 4) for name, count in offered.items()}


def verdict_us(play: Play, full_s: Mapping[SloKind, float]) -> dict[str, float]:
    """Microseconds of one verdict in the middle of an overload: with one class, and with two of which one has reserved."""
    told = {}
    for name, rules in (("one_class", cases.alike(Strategy.PREDICTIVE, full_s)), ("two_classes", cases.two_classes(full_s))):
        run = Run(play, Setup(rules, recheck=False, qos=cases.class_of))
        run.advance(play.requests[len(play.requests) // 2].arrival_s)
        once = partial(judge, cases.mean_arrival(play), run.door.standing, run.door.owns[0], rules, run.door.engine.now)
        told[name] = round(1e6 * min(timeit(once, timer=process_time, number=VERDICTS) for _ in range(3)) / VERDICTS, 2)
    return told


def targets(figures: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Figure, bound and whether it is met: with one sidecar, on Mooncake's trace but for `premium_ramp`."""
    runs, key = figures["mooncake"], f"paper {ONE}"
    base, early, ours = (runs[f"{strategy} {key}"] for strategy in Strategy)
    false = figures["false_rejections"]
    found = {
        "wasted_prefills_share": (ours["wasted_prefills"] / base["wasted_prefills"], 0.35, -1),
        "goodput_rps": (ours["goodput_rps"], max(base["goodput_rps"], early["goodput_rps"]), 1),
        "anti_phase": (ours["anti_phase"], early["anti_phase"], 1),
        "swing": (ours["swing"], early["swing"], -1),
        "false_rejections_live": (false["live"]["false_share"], 0.02, -1),
        "false_rejections_held": (false["held"]["false_share"], 0.02, -1),
        **{f"premium_{name}": (figures["premium"][name][str(ONE)][cases.PREMIUM], 0.99, 1) for name in ("mooncake", "ramp")},
    }
    return {
        name: {"figure": round(figure, 6), "target": round(bound, 6), "met": sign * figure >= sign * bound}
        for name, (figure, bound, sign) in found.items()
    }


def main() -> None:
    """Play everything and print one JSON object."""
    parser = argparse.ArgumentParser(prog="make bench NAME=rejection", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, default=150, metavar="N")
    samples = parser.parse_args().samples
    if not (TRACES / cases.TRACE).is_file():
        raise SystemExit(f"no trace at {TRACES / cases.TRACE}: PDA_SHARED must name the folder that holds traces/")
    if samples < 1:
        raise SystemExit(f"--samples {samples} is not >= 1")
    plays = {"mooncake": (cases.mooncake(TRACES), cases.MOONCAKE_S), "ramp": (cases.ramp(), cases.RAMP_S)}
    told: dict[str, Any] = {"bench": "rejection"}
    console = Console(stderr=True)
    for case, (play, full_s) in plays.items():
        rows = track(list(setups(full_s)), case, console=console, disable=not console.is_terminal)
        told[case] = {name: played(play, setup).figures() for name, setup in rows}
    play, full_s = plays["mooncake"]
    ours = Setup(cases.alike(Strategy.PREDICTIVE, full_s), recheck=False)
    told["t_d"] = {f"{times:g}": played(play, Setup(ours.rules, recheck=False, t_d=times)).figures() for times in TIMES_T_D}
    told["premium"] = {case: {str(n): attainments(*both, n) for n in SIDECARS} for case, both in plays.items()}
    told["false_rejections"] = turned.figures(play, ours, samples)
    told["verdict_us"] = verdict_us(play, full_s)
    told["targets"] = targets(told)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
