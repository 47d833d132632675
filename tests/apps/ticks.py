"""How does a test get a real tick? A two-role fleet under a given rate, through the real `decide` and `status_of`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from autoscaler.apps.feed import Feed
from autoscaler.core.action import Mode, Outcome, Verdict
from autoscaler.core.capacity import Shape, Slo
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet, Phase, Pool, Replica, Role, SloKind
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Observation, RoleSignals, Signals, Traffic
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.status import Status, status_of

FLEET = "chat/llama"
QUIET_RPS = 1.0
BUSY_RPS = 400.0
POLICY = Policy(
    mode=Mode.AUTO,
    slos={SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)},
    pools=dict.fromkeys(Role, PoolLimits(1, 50)),
    profile=ReplicaProfile("test", (0.01, 5e-5, 0.0), (0.01, 5e-5, 2e-8), 1_000_000),
    shape=Shape(1000, 800, 200),
)


def observation(now: float, rps: float, key: str = FLEET, replicas: int = 2) -> Observation:
    """Every pod reports; one bucket edge below each SLO and one above. `rps` may be NaN: a broken exporter."""
    pools: dict[Role, Pool] = {}
    gauges: dict[str, Gauges] = {}
    for role in Role:
        names = [f"{role}-{i}" for i in range(replicas)]
        pools[role] = Pool(role, replicas, tuple(Replica(name, Phase.SERVING, -1000.0) for name in names))
        gauges |= {name: Gauges(1.0, 4.0, 0.3, 2.0) for name in names}
    counts = (20.0, 90.0, 100.0, 100.0)
    latency, steps = Histogram((0.01, 1.0, 5.0, math.inf), counts), Histogram((0.01, 0.03, 0.1, math.inf), counts)
    roles = {Role.PREFILL: RoleSignals(latency, Known(800.0)), Role.DECODE: RoleSignals(steps, Known(200.0))}
    traffic = Traffic(Known(rps, 2.0), "gateway arrivals", latency, Known(1000.0))
    return Observation(now, Fleet(key, pools), Signals(gauges, roles, traffic))


@cache
def status(now: float = 0.0, rps: float = QUIET_RPS, key: str = FLEET) -> Status:
    """One tick without a past; under BUSY_RPS both pools grow and every write is accepted."""
    return _tick(observation(now, rps, key))


def blind(now: float) -> Status:
    """One tick that sees the fleet but none of its signals."""
    signals = Signals.unknown(Gap.UNREACHABLE, "connection refused")
    return _tick(replace(observation(now, QUIET_RPS), signals=signals))


def _tick(seen: Observation) -> Status:
    decision = decide(seen, Memory(), POLICY)
    outcomes = tuple(Outcome(action, Verdict.APPLIED, "done") for action in decision.plan.to_apply)
    return status_of(seen, decision, outcomes, POLICY)


def report(feed: Feed, count: int, key: str = FLEET) -> None:
    """`count` uneventful ticks, 15 s apart, into a feed."""
    for one in ticks(count, key):
        feed.report(one)


def ticks(count: int, key: str = FLEET) -> Iterator[Status]:
    """`count` uneventful ticks, 15 s apart."""
    return (replace(status(15.0 * i), key=key) for i in range(count))
