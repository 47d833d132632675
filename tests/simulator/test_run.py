"""Does a run keep its order of events, its doors, and its repeatability?"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from autoscaler.core.action import Action
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.observation import Unknown
from autoscaler.core.reason import Reason
from autoscaler.ports import FleetScope
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.score import Score
from autoscaler.simulator.workload import Kind, Lengths, constant
from tests.fakes import merged
from tests.simulator.small_fleet import KEY, even, spec
from tests.simulator.test_score import SLOS

SCENARIO = Scenario(spec(), SLOS, scrape_s=15.0, interval_s=20.0)
KIND = Kind(Lengths(300, 1.0), Lengths(60, 1.0))


def test_ticks_come_at_their_interval_and_after_the_scrape_of_that_instant() -> None:
    run = VirtualRun(SCENARIO, [])
    seen: list[tuple[float, float]] = []

    def tick() -> None:
        gauges = merged(run.signals.read([FleetScope(KEY, "", "", "", None, {Role.DECODE: ("decode-0",)})], run.clock.now()))[
            KEY
        ].gauges
        assert not isinstance(gauges, Unknown)
        seen.append((run.clock.now(), gauges["decode-0"].age_s))

    run.tick = tick
    run.advance(65.0)
    assert seen == [(20.0, 5.0), (40.0, 10.0), (60.0, 0.0)]


def grown(pauses: int) -> Score:
    """One more decode replica at the first tick, one fewer at the tenth; advanced in so many pieces."""
    run = VirtualRun(SCENARIO, constant(Random(1), KIND, 3.0))
    moves = {20.0: (1, 2), 200.0: (2, 1)}

    def tick() -> None:
        if run.clock.now() in moves:
            seen, wanted = moves[run.clock.now()]
            run.cluster.apply(KEY, Action(Role.DECODE, seen, wanted, Reason.SCALE_UP), run.clock.now(), 0)

    run.tick = tick
    for pause in range(1, pauses + 1):
        run.advance(600.0 * pause / pauses)
    fleet = run.cluster.read(KEY, run.clock.now())
    assert isinstance(fleet, Fleet)
    assert fleet.pools[Role.DECODE].desired == 1
    return run.score()


def test_a_run_repeats_exactly() -> None:
    assert grown(1) == grown(1)


def test_a_run_watched_live_is_the_same_run() -> None:
    whole, in_pieces = grown(1), grown(40)
    assert (whole.offered, whole.served, whole.met, whole.actions) == (in_pieces.offered, in_pieces.served, in_pieces.met, 2)


def test_without_a_controller_the_fleet_stays() -> None:
    run = VirtualRun(SCENARIO, constant(Random(1), KIND, 1.0))
    run.advance(300.0)
    score = run.score()
    assert (score.actions, score.lost) == (0, 0)
    assert score.served + score.open == score.offered > 200


def test_two_policies_on_one_seed_see_the_same_cold_starts() -> None:
    """Common random numbers: the second run's first action comes later and elsewhere, decode-2 starts as slowly."""

    def starts_s(moves: dict[float, Role]) -> float:
        run = VirtualRun(replace(SCENARIO, fleet=even(start_up=StartUp(60.0, 0.5), seed=4)), [])

        def tick() -> None:
            role = moves.get(run.clock.now())
            if role is not None:
                run.engine.scale(role, 3)

        run.tick = tick
        run.advance(900.0)
        asked_s = next(at_s for at_s, role in moves.items() if role is Role.DECODE)
        return run.engine.pools[Role.DECODE].replicas[2].since_s - asked_s

    haste, patience = starts_s({20.0: Role.DECODE}), starts_s({60.0: Role.PREFILL, 400.0: Role.DECODE})
    assert round(haste, 9) == round(patience, 9) != 60.0


def test_requests_are_asked_at_the_run_s_door() -> None:
    """Half are turned away; the score tells, and the delay of scrapes reaches the signals."""
    scenario = replace(SCENARIO, scrape_delay_s=40.0)
    run = VirtualRun(scenario, constant(Random(1), KIND, 1.0), admit=lambda request, now: request.id % 2 == 0)
    run.advance(300.0)
    score = run.score()
    assert score.rejected == score.offered // 2
    assert run.signals.delay_s == 40.0
