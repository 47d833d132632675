"""What does one tick cost, from Prometheus' response bytes to the plan?

    one_fleet_ms        CPU milliseconds of a tick of one fleet with 64 replicas (budget 15)
    many_fleets_s       CPU seconds of a tick of 1,000 fleets with 20 replicas each (budget 3)
    many_fleets_mib     peak resident memory of the whole process (budget 500 MB)

Everything between the socket and the status is counted: rendering the queries, the client library, decoding,
assembling, deciding, folding into a status. Answers are canned (prometheus_answers.py), the cluster is in memory and
accepts nothing. Each figure is the median of ticks after the memory of the controller has filled (45 ticks: 40 forecast
errors, a 300 s window), which costs more than the first ones. Python looks for cycles as seldom as under `run`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import track

from autoscaler.commands.run import look_seldom_for_cycles
from autoscaler.controller import Controller
from autoscaler.core.action import Action, Flip, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Phase, Pool, Replica
from autoscaler.errands import Daemons, Pace
from autoscaler.policy_file import load_policies
from autoscaler.ports import FleetScope, Managed
from autoscaler.roster import FixedRoster, managed
from tests.bench.prometheus_answers import canned, fleets

POLICY = Path(__file__).parents[2] / "policies" / "chat.yaml"
TICK_S = 15.0
WARM_TICKS, COUNTED_TICKS = 45, 5
BUDGETS = {"one_fleet_ms": 15.0, "many_fleets_s": 3.0, "many_fleets_mib": 500e6 / 2**20}


class Steps:
    """A clock that moves one tick at a time."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now(self) -> float:
        """Seconds since the bench began."""
        return self.time_s


class Standing:
    """Fleets that stand as they are, all replicas serving; a write is refused, so every tick plans anew."""

    def __init__(self, scopes: Sequence[FleetScope]) -> None:
        self._fleets: Mapping[str, Fleet] = {
            scope.key: Fleet(
                scope.key,
                {
                    role: Pool(role, len(pods), tuple(Replica(pod, Phase.SERVING, -3600.0) for pod in pods))
                    for role, pods in scope.pods.items()
                },
            )
            for scope in scopes
        }

    def read(self, key: str, now: float) -> Fleet:
        """The fleet."""
        return self._fleets[key]

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        """No."""
        return Outcome(action, Verdict.REFUSED, "this fleet stands")


def tick_cpu_s(count: int, replicas: int) -> float:
    """CPU seconds of one tick of `count` fleets with `replicas` replicas each."""
    scopes = fleets(count, replicas)
    template = managed(load_policies([POLICY])[0].document)
    owned = [Managed(one.key, one.namespace, one.model, template.policy, one.engine, one.gateway) for one in scopes]
    signals, _ = canned(scopes, read_s=60.0)
    clock = Steps()
    controller = Controller(FixedRoster(owned), clock, signals, Standing(scopes), pace=Pace(Daemons()))
    costs_s = []
    for _ in track(range(WARM_TICKS + COUNTED_TICKS), f"{count} fleets x {replicas}", console=Console(stderr=True)):
        clock.time_s += TICK_S
        began = time.process_time()
        statuses = controller.tick()
        costs_s.append(time.process_time() - began)
    blind = [status.key for status in statuses if status.offered_rps is None]
    if len(statuses) != count or blind:
        raise SystemExit(f"{len(statuses)} of {count} fleets decided, {len(blind)} of them blind: not the work to be measured")
    return median(costs_s[-COUNTED_TICKS:])


def main() -> None:
    """Measure and print one JSON object."""
    look_seldom_for_cycles()
    figures = {"one_fleet_ms": round(tick_cpu_s(1, 64) * 1e3, 2), "many_fleets_s": round(tick_cpu_s(1000, 20), 3)}
    figures["many_fleets_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    met = all(figures[name] <= budget for name, budget in BUDGETS.items())
    sys.stdout.write(json.dumps({"bench": "tick", **figures, "budgets": BUDGETS, "met": met}) + "\n")


if __name__ == "__main__":
    main()
