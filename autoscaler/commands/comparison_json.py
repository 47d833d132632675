"""What do machines get of a comparison?

`simulate --json` prints the list of `runs`; `compare --json` an object:

    version, seed, attainment   of this program; of the random numbers; the required share of offered requests, 0..1
    command                     what was typed
    left_out, skipped           lines about scenarios that could not be played, and about traces of which rows were left out
    scenarios                   name -> mark, durationSeconds, startUpSeconds, budgetGpus, slo, pools, conditions (as written),
                                infeasible ("" or why), reachable (the most that a fleet of any size could attain, 0..1)
    runs                        in order of merit per scenario, each with
        scenario, policy        who played where
        headroom                its knob, null for a reference; published_point: whether that is its published setting
        reaches                 whether `attainment` was reached
        gpu_hours               null where nothing was found
        score                   every field of simulator/score.py `Score`, null where nothing was played
        recovery                shifts, recovered, worst_s; null where nothing shifts
        timeline                step_s, offered_rps, serving and moving by role; null where nothing was played
        note, lost              words; whether it came to nothing by a fault that is not the user's
        infeasible, reachable   as of its scenario
    costs                       scenario -> policy -> gpu_hours at `attainment` along its line, kind, nearest (frontiers.py)

Keys are added, never taken away. Times in seconds, rates per second, tokens and GPUs as counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from autoscaler import __version__
from autoscaler.commands.setting import Setting
from autoscaler.commands.standings import by_scenario
from autoscaler.simulator.frontiers import costs
from autoscaler.simulator.result import Result
from autoscaler.simulator.scenarios import Case


def document(results: Sequence[Result], cases: Sequence[Case], played: Setting) -> dict[str, Any]:
    """The object of `compare --json`."""
    rankings = by_scenario(results, played.attainment)
    return {
        "version": __version__,
        "command": played.command,
        "seed": played.seed,
        "attainment": played.attainment,
        "left_out": list(played.left_out),
        "skipped": list(played.skipped),
        "scenarios": {case.name: _case(case, rankings.get(case.name, [])) for case in cases},
        "runs": runs(results, played.attainment),
        "costs": {
            name: {one.contender: {"gpu_hours": one.gpu_hours, "kind": one.kind.value, "nearest": one.nearest} for one in found}
            for name, found in ((name, costs(ranking, played.attainment)) for name, ranking in rankings.items())
        },
    }


def runs(results: Sequence[Result], attainment: float) -> list[dict[str, Any]]:
    """One object for each run, in the order of the tables."""
    return [_entry(result, attainment) for ranking in by_scenario(results, attainment).values() for result in ranking]


def _case(case: Case, ranking: Sequence[Result]) -> dict[str, Any]:
    fleet = case.scenario.fleet
    return {
        "mark": case.mark.value,
        "durationSeconds": case.duration_s,
        "startUpSeconds": fleet.start_up.median_s,
        "budgetGpus": case.budget_gpus,
        "conditions": dict(case.hardships),
        "profile": fleet.profile.name,
        "slo": {
            kind.value: {"seconds": slo.threshold_s, "percentile": 100 * slo.quantile} for kind, slo in case.scenario.slos.items()
        },
        "pools": {
            role.value: {
                "min": case.bounds[role].min,
                "max": case.bounds[role].max,
                "start": pool.replicas,
                "gpus": pool.gpus_per_replica,
            }
            for role, pool in fleet.pools.items()
        },
        "infeasible": next((one.infeasible for one in ranking if one.infeasible), ""),
        "reachable": next((one.reachable for one in ranking if one.reachable is not None), None),
    }


def _entry(result: Result, attainment: float) -> dict[str, Any]:
    return {
        "scenario": result.scenario,
        "policy": result.contender.name,
        "headroom": result.contender.point,
        "published_point": result.contender.published,
        "reaches": result.reaches(attainment),
        "gpu_hours": result.gpu_hours,
        "score": asdict(result.score) if result.score else None,
        "recovery": asdict(result.recovery) if result.recovery else None,
        "timeline": asdict(result.timeline) if result.timeline else None,
        "note": result.note,
        "lost": result.lost,
        "infeasible": result.infeasible,
        "reachable": result.reachable,
    }
