"""Is a fleet that differs from its profile found out from what Prometheus shows of it?

The fleet really takes `prefill` and `decode` times as long as the profile says, coefficient by coefficient. Capacity is
compared at the load that was measured, since that is what replicas are counted by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from random import Random

import pytest

from autoscaler.core.action import Action
from autoscaler.core.calibration import Calibration, CalibrationLimits, Trust, calibrated, learn
from autoscaler.core.capacity import Slo, capacity
from autoscaler.core.demand import shape_of
from autoscaler.core.factors import Triple, product
from autoscaler.core.fleet import ROLE_FACTS, Fleet, Role, SloKind
from autoscaler.core.observation import Freshness, Observation
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.reason import Reason
from autoscaler.policy.profiles import replica_profile
from autoscaler.ports import FleetScope
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.shapes import Steady, Wave, shaped
from autoscaler.simulator.workload import Kind, Lengths, Request
from tests.fakes import merged

pytestmark = pytest.mark.slow

KEY = "demo/chat"
NAMED = replica_profile("llama-3-70b-h100-tp4")
CHAT = Kind(Lengths(2_000, 1.0, 8_192), Lengths(200, 0.8, 1_024), cached_share=0.2)
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)}
FRESH = Freshness()
SLOW_PREFILL, FAST_DECODE = (1.6, 1.6, 1.6), (0.8, 0.8, 0.8)

Known = dict[Role, Calibration]
Act = Callable[[VirtualRun, float], None]


@dataclass(frozen=True, slots=True)
class Life:
    """What was known at each tick, and by how much capacity was off at the end, before and after calibration."""

    ticks: tuple[tuple[float, Known], ...]
    before: Mapping[Role, float]
    after: Mapping[Role, float]


def nobody(run: VirtualRun, now: float) -> None:
    """No action."""


def lived(
    requests: Iterable[Request],
    until_s: float,
    truth: tuple[Triple, Triple] = (SLOW_PREFILL, FAST_DECODE),
    *,
    named: ReplicaProfile = NAMED,
    trust: Trust = Trust.MEASURED,
    act: Act = nobody,
) -> Life:
    """Ticks of 15 s over three prefill and two decode replicas."""
    true = replace(named, prefill_s=product(truth[0], named.prefill_s), decode_s=product(truth[1], named.decode_s))
    pools = {role: PoolSpec(count) for role, count in zip(Role, (3, 2), strict=True)}
    run = VirtualRun(Scenario(FleetSpec(KEY, true, pools, StartUp(60.0, 0.3)), SLOS), requests)
    limits, known, ticks, shape = CalibrationLimits(trust), Known(), [], None

    def tick() -> None:
        nonlocal shape
        now = run.clock.now()
        seen = look(run, now)
        shape = shape_of(seen, shape, FRESH)
        for role in Role:
            known[role] = learn(known.get(role), role, seen, named, limits, shape=shape, freshness=FRESH)
        ticks.append((now, dict(known)))
        act(run, now)

    run.tick = tick
    run.advance(until_s)
    found = calibrated(named, known, limits)
    assert isinstance(found, ReplicaProfile), found
    assert shape is not None
    carried = [
        {role: capacity(facts.sizing, one, SLOS[facts.binding_slo], shape).tokens_per_s for role, facts in ROLE_FACTS.items()}
        for one in (true, named, found)
    ]
    before, after = ({role: one[role] / carried[0][role] - 1 for role in Role} for one in carried[1:])
    return Life(tuple(ticks), before, after)


def look(run: VirtualRun, now: float) -> Observation:
    fleet = run.cluster.read(KEY, now)
    assert isinstance(fleet, Fleet)
    pods = {role: tuple(one.name for one in pool.replicas) for role, pool in fleet.pools.items()}
    return Observation(now, fleet, merged(run.signals.read([FleetScope(KEY, "", "", "", "gateway", pods)], now))[KEY])


def steady(rps: float, until_s: float, seed: int = 1) -> Iterable[Request]:
    return shaped(Random(seed), Steady(rps), CHAT, until_s)


def test_a_fleet_with_slower_prefill_and_faster_decode_is_found_out_in_ten_minutes() -> None:
    life = lived(steady(8.0, 600.0), 600.0)
    assert life.before[Role.PREFILL] > 0.5
    assert life.before[Role.DECODE] < -0.15
    assert life.after == pytest.approx({Role.PREFILL: 0.0, Role.DECODE: 0.0}, abs=0.03)


def test_a_load_that_moves_tells_the_coefficients_apart_well_enough_for_capacity_at_the_limit() -> None:
    """The limit of a decode replica is ten times the batch that the wave ever fills."""
    truth = ((1.2, 1.6, 2.0), (1.3, 0.7, 0.9))
    life = lived(shaped(Random(2), Wave(2.0, 14.0, 1_800.0), CHAT, 5_400.0), 5_400.0, truth)
    assert life.before[Role.PREFILL] > 0.5
    assert abs(life.after[Role.PREFILL]) < 0.05
    assert abs(life.after[Role.DECODE]) < 0.08


def test_constant_load_with_the_cache_on_moves_nothing_for_two_hours() -> None:
    life = lived(steady(3.0, 7_800.0, seed=7), 7_800.0)
    for role in Role:
        trusted = {known[role].trusted for _, known in life.ticks}
        assert len(trusted) == 2, f"{role}: none, and then one for good"
        assert None in trusted


def test_resizes_and_cold_starts_disturb_no_factor() -> None:
    """Every three minutes a replica comes or goes, in turn."""

    def act(run: VirtualRun, now: float) -> None:
        if now % 180 == 0:
            for role, pool in run.engine.pools.items():
                wanted = 3 if pool.desired == 2 else 2
                run.cluster.apply(KEY, Action(role, pool.desired, wanted, Reason.SCALE_UP), now, 0)

    life = lived(steady(6.0, 3_600.0), 3_600.0, act=act)
    for role, level in {Role.PREFILL: 1.6, Role.DECODE: 0.8}.items():
        levels = [known[role].applied for _, known in life.ticks if known[role].trusted]
        assert levels, f"{role} was never sure"
        assert levels == pytest.approx([level] * len(levels), rel=0.05)


def test_from_nothing_another_model_s_profile_does_to_begin_with() -> None:
    """The 8B's coefficients, with the 70B's memory and link, for a fleet of the 70B."""
    small = replica_profile("llama-3-8b-h100-tp1")
    anchor = replace(NAMED, prefill_s=small.prefill_s, decode_s=small.decode_s)
    first, second = (
        tuple(true / guess for true, guess in zip(*each, strict=True))
        for each in ((NAMED.prefill_s, small.prefill_s), (NAMED.decode_s, small.decode_s))
    )
    load = shaped(Random(3), Wave(2.0, 14.0, 1_800.0), CHAT, 3_600.0)
    life = lived(load, 3_600.0, (first, second), named=anchor, trust=Trust.NOTHING)  # type: ignore[arg-type]
    assert life.before[Role.PREFILL] > 1.5
    assert abs(life.after[Role.PREFILL]) < 0.05
    assert abs(life.after[Role.DECODE]) < 0.15
