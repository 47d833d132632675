"""Observations made by hand: what a peer is shown, in round numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.core.fleet import Fleet, Phase, Pool, Replica, Role
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Observation, RoleSignals, Signals, Traffic

Row = tuple[float, float, float]  # waiting, running, KV use


def all_at(seconds: float) -> Histogram:
    """Ten observations of `seconds` each, in a bucket whose middle lies elsewhere."""
    return Histogram((seconds * 0.5, seconds * 2.0, float("inf")), (0.0, 10.0, 10.0), 10.0 * seconds)


@dataclass(frozen=True, slots=True)
class Mean:
    """What the histograms and rates of a look say."""

    rps: float = 10.0
    uncached: float = 500.0
    prompt: float = 500.0
    output: float = 100.0
    tpot_s: float = 0.02
    ttft_s: float = 1.0


def look(
    pods: Mapping[Role, tuple[Row, ...]],
    *,
    now: float = 1000.0,
    starting: Mapping[Role, int] | None = None,
    silent: Mapping[Role, int] | None = None,
    **mean: float,
) -> Observation:
    """One instant: a row of gauges per serving pod, pods beside them that start or tell nothing, and a `Mean`."""
    seen = Mean(**mean)
    pools, gauges = {}, {}
    for role, rows in pods.items():
        mute, cold = (silent or {}).get(role, 0), (starting or {}).get(role, 0)
        serving = [Replica(f"{role}-{at}", Phase.SERVING, 0.0) for at in range(len(rows) + mute)]
        coming = [Replica(f"{role}-{len(serving) + at}", Phase.STARTING, now) for at in range(cold)]
        pools[role] = Pool(role, len(serving) + cold, (*serving, *coming))
        gauges.update({one.name: Gauges(*row, age_s=0.0) for one, row in zip(serving, rows, strict=False)})
    roles = {
        Role.PREFILL: RoleSignals(all_at(seen.ttft_s), Known(seen.uncached)),
        Role.DECODE: RoleSignals(all_at(seen.tpot_s), Known(seen.output), all_at(seen.tpot_s)),
    }
    traffic = Traffic(Known(seen.rps), "gateway", all_at(seen.ttft_s), Known(seen.prompt))
    return Observation(now, Fleet("demo/chat", pools), Signals(gauges, roles, traffic))


def blind(seen: Observation) -> Observation:
    """The same fleet, and no signal at all."""
    return Observation(seen.now, seen.fleet, Signals.unknown(Gap.UNREACHABLE, "gone"))


def rows(count: int, waiting: float = 0.0, running: float = 0.0, kv_usage: float = 0.0) -> tuple[Row, ...]:
    """So many pods alike."""
    return ((waiting, running, kv_usage),) * count
