"""What does a scrape of the controller's own /metrics cost?

    many_fleets_s       CPU seconds of one page of 1,000 fleets, both roles, every metric known (budget 1)
    many_fleets_mb      size of that page; most of it is names, and a scrape is compressed by nobody on loopback
    one_fleet_ms        CPU milliseconds of the page of one fleet

Statuses are real ticks over canned signals. Each figure is the median of five pages.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median

from autoscaler.adapters.own_metrics import OwnMetrics
from autoscaler.core.action import Outcome, Verdict
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet
from autoscaler.core.observation import Observation
from autoscaler.core.status import status_of
from tests.fakes import fleet, policy, signals

PAGES = 5
BUDGETS = {"many_fleets_s": 1.0}


def filled(count: int) -> OwnMetrics:
    """The metrics of so many fleets after a tick that moved both pools and one that held them."""
    metrics, wanted = OwnMetrics(15.0), policy(gpu_budget=64)
    for number in range(count):
        seen = Fleet(f"team-{number % 20}/model-{number}", fleet().pools)
        memory = Memory()
        for now, rps in ((0.0, 22.0), (15.0, 9.0)):
            observation = Observation(now, seen, signals(seen, rps))
            decision = decide(observation, memory, wanted)
            memory = decision.memory
            outcomes = tuple(Outcome(action, Verdict.APPLIED) for action in decision.plan.to_apply)
            metrics.report(status_of(observation, decision, outcomes, wanted))
    return metrics


def page_cpu_s(metrics: OwnMetrics) -> float:
    """CPU seconds of one page."""
    costs_s = []
    for _ in range(PAGES):
        began = time.process_time()
        metrics.page()
        costs_s.append(time.process_time() - began)
    return median(costs_s)


def main() -> None:
    """Measure and print one JSON object."""
    many = filled(1000)
    figures = {"many_fleets_s": round(page_cpu_s(many), 3), "many_fleets_mb": round(len(many.page()[0]) / 1e6, 1)}
    figures["one_fleet_ms"] = round(page_cpu_s(filled(1)) * 1e3, 2)
    met = all(figures[name] <= budget for name, budget in BUDGETS.items())
    sys.stdout.write(json.dumps({"bench": "metrics", **figures, "budgets": BUDGETS, "met": met}) + "\n")


if __name__ == "__main__":
    main()
