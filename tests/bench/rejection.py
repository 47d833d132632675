"""What does early rejection save, whom does it refuse wrongly, and does a premium class keep its promise?

    runs      mooncake and ramp of doors/cases.py under baseline, early and predictive, with 1, 4 and 16 sidecars that share
              the fleet and see it 1 s late. `paper`: decode looks once more after the prefill, whatever the strategy, as in
              Mooncake's section 7. `shipped`: no engine does that, so only the door decides
    swing     early and predictive, as shipped, where both loads do swing: `long`
    t_d       predictive on Mooncake, with half and with twice the running estimate
    false     rejections turned round one by one and together (doors/turned.py), of `predictive` as shipped
    premium   one request in five has priority and three tenths of both phases reserved, at twice what the fleet carries

What must be reached is held against the figures in `targets`. Two pools that hardly move may be perfectly correlated, and the
sooner a door reacts the more they are: so their anti-phase is told as the correlation of both loads at one time (`anti_phase`,
which predictive misses) and as its covariance (`swing`), how far they move against each other. `--samples`
rejections are turned round one by one in each world; the issue speaks of 1,000, which take a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import process_time
from timeit import timeit
from typing import Any

from rich.console import Console
from rich.progress import track

from autoscaler.core.fleet import SloKind
from autoscaler.core.judge import judge, look
from autoscaler.core.outlook import Strategy
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


def swings() -> dict[str, dict[str, object]]:
    """Both strategies that look at decode, where prompts take as long as answers."""
    play = cases.long()
    setups_ = {one: Setup(cases.alike(one, cases.LONG_S), recheck=False) for one in (Strategy.EARLY, Strategy.PREDICTIVE)}
    return {one.value: played(play, setup).figures() for one, setup in setups_.items()}


def verdict_us(play: Play, full_s: Mapping[SloKind, float]) -> dict[str, float]:
    """Microseconds of one verdict in the middle of an overload: with one class, and with two of which one has reserved."""
    told = {}
    for name, rules in (("one_class", cases.alike(Strategy.PREDICTIVE, full_s)), ("two_classes", cases.two_classes(full_s))):
        run = Run(play, Setup(rules, recheck=False, qos=cases.class_of))
        run.advance(play.requests[len(play.requests) // 2].arrival_s)
        moment = look(run.door.standing, run.door.owns[0], rules, run.door.engine.now)
        steps: dict[str, Callable[[], object]] = {
            "look": partial(look, run.door.standing, run.door.owns[0], rules, run.door.engine.now),
            "judge": partial(judge, cases.mean_arrival(play), moment),
        }
        for step, once in steps.items():
            least_s = min(timeit(once, timer=process_time, number=VERDICTS) for _ in range(3))
            told[f"{name}_{step}"] = round(1e6 * least_s / VERDICTS, 2)
    return told


def targets(figures: Mapping[str, Any]) -> dict[str, dict[str, object]]:
    """Figure, bound and whether it is met: with one sidecar, on Mooncake's trace where the name tells no other case."""
    runs, key = figures["mooncake"], f"paper {ONE}"
    base, early, ours = (runs[f"{strategy} {key}"] for strategy in Strategy)
    false = figures["false_rejections"]
    found = {
        "wasted_prefills_share": (ours["wasted_prefills"] / base["wasted_prefills"], 0.35, -1),
        "goodput_rps": (ours["goodput_rps"], max(base["goodput_rps"], early["goodput_rps"]), 1),
        "anti_phase": (ours["anti_phase"], early["anti_phase"], 1),
        "swing": (ours["swing"], early["swing"], -1),
        "swing_long": (figures["swing"]["predictive"]["swing"], figures["swing"]["early"]["swing"], -1),
        **{f"false_rejections_{name}": (false[name]["false_share"], 0.02, -1) for name in ("live", "held", "together", "ramp")},
        **{
            f"premium_{name}_{count}": (figures["premium"][name][str(count)][cases.PREMIUM], 0.99, 1)
            for name in ("mooncake", "ramp")
            for count in SIDECARS
        },
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
    told["swing"] = swings()
    told["false_rejections"] = turned.figures(play, ours, samples) | {"together": turned.together(play, ours)}
    play_, full_s_ = plays["ramp"]
    told["false_rejections"]["ramp"] = turned.together(play_, Setup(cases.alike(Strategy.PREDICTIVE, full_s_), recheck=False))
    told["verdict_us"] = verdict_us(play, full_s)
    told["targets"] = targets(told)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
