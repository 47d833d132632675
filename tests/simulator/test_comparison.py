"""Does a comparison treat everybody alike, and are its figures those of the runs?"""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import partial

import pytest

from autoscaler.commands.standings import out_of_reach
from autoscaler.core.action import Mode
from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.hysteresis import Brakes, Damping, Step
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.policy.profiles import replica_profile
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.simulator.comparison import play, play_all
from autoscaler.simulator.contenders import HEADROOMS, OURS, REFERENCES, Contender, Job, dealt, field_of
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.ground import cut, requests_of
from autoscaler.simulator.losses import ReplicaLoss
from autoscaler.simulator.moves import Scaled
from autoscaler.simulator.peers.catalogue import PEERS
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.reach import percent
from autoscaler.simulator.result import Result, settled
from autoscaler.simulator.run import Scenario
from autoscaler.simulator.scenario_file import Mark
from autoscaler.simulator.scenarios import Bounds, Case
from autoscaler.simulator.shapes import OnOff, Phase, Ramp, Shape, Spike, Steady, Wave, shaped, walk
from autoscaler.simulator.shifts import Recovery, shifts_s
from autoscaler.simulator.workload import Kind, Lengths

KIND = Kind(Lengths(2000, 0.3, 8_000), Lengths(60, 0.3, 400), cached_share=0.25)
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 1.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.95)}


STEADY = Steady(2.0)
STATIC = Contender("static", 1.0)


def case(shape: Shape = STEADY, duration_s: float = 120.0, replicas: int = 2) -> Case:
    """Small: a few hundred requests for a fleet of 1..4 replicas a role."""
    fleet = FleetSpec("s/steady", replica_profile("llama-3-8b-h100-tp1"), {r: PoolSpec(replicas) for r in Role}, StartUp(30.0))
    traffic = partial(shaped, shape=shape, kind=KIND, duration_s=duration_s)
    return Case(
        "steady@30s", Mark.STATIONARY, False, duration_s, Scenario(fleet, SLOS), dict.fromkeys(Role, Bounds(1, 4)), 8, traffic
    )


QUIET = case(Steady(0.5), 1000.0, replicas=4)


@pytest.fixture(scope="module")
def plain() -> Result:
    """Our controller over a fleet that is too large for what is asked of it."""
    return play(Job(QUIET, Contender(OURS, 0.1)))


def test_a_job_gives_the_same_result_wherever_it_is_played() -> None:
    job = Job(case(), Contender(OURS, 0.1))
    assert play(pickle.loads(pickle.dumps(job))) == play(job)


def test_everybody_meets_the_same_requests() -> None:
    results = [play(Job(case(), one)) for one in field_of(None, tuple(PEERS), sweep=False, references=False)]
    assert {result.contender.name for result in results} == {OURS, *PEERS}
    assert {result.score.offered for result in results if result.score} == {len(list(requests_of(case(), 1)))}


def test_a_fixed_fleet_costs_its_replicas_times_its_time() -> None:
    result = play(Job(case(), Contender("static", 1.0)))
    assert result.gpu_hours == pytest.approx(4 * 120 / 3600)
    assert result.timeline is not None
    assert result.timeline.serving == dict.fromkeys(Role, (2,) * 8)
    assert sum(result.timeline.offered_rps) * 15 == pytest.approx(len(list(requests_of(case(), 1))))


def test_our_controller_gives_back_what_a_quiet_fleet_does_not_need(plain: Result) -> None:
    fixed = play(Job(QUIET, Contender("static", 1.0)))
    assert plain.score is not None
    assert plain.gpu_hours is not None
    assert fixed.gpu_hours is not None
    assert plain.score.actions > 0
    assert plain.gpu_hours < 0.9 * fixed.gpu_hours
    assert plain.reaches(0.95)


def test_more_headroom_costs_more() -> None:
    busy = case(Steady(15.0), 200.0, replicas=1)
    hours = [play(Job(busy, Contender(OURS, point))).gpu_hours or 0.0 for point in (0.0, 2.0)]
    assert 0 < 1.2 * hours[0] < hours[1]


def test_of_a_policy_only_the_tuning_counts(plain: Result) -> None:
    limits = dict.fromkeys(Role, PoolLimits(3, 3))
    slack = {kind: Slo(kind, 60.0, 0.5) for kind in SloKind}
    damping = dict.fromkeys(Role, Damping(down=Brakes(0.1, 300.0, 3_000.0, Step(1, 10.0, 60.0))))
    lame = Policy(Mode.OFF, slack, limits, replica_profile("llama-3-8b-a100-tp1"), gpu_budget=6)
    assert play(Job(QUIET, Contender(OURS, 0.1, tuning=Managed("x/y", "x", "m", lame)))).score == plain.score
    slower = Managed("x/y", "x", "m", replace(lame, damping=damping))
    braked = play(Job(QUIET, Contender(OURS, 0.1, tuning=slower)))
    assert braked.gpu_hours is not None
    assert plain.gpu_hours is not None
    assert braked.gpu_hours > plain.gpu_hours


def test_no_reference_is_cheaper_than_the_lower_bound() -> None:
    job = Job(case(Wave(5.0, 60.0, 120.0), replicas=1), Contender("lower-bound"), attainment=0.95)
    bound = play(job)
    fixed = play(replace(job, contender=Contender("best-static")))
    assert bound.score is None
    assert bound.gpu_hours is not None
    assert fixed.gpu_hours is not None
    assert bound.gpu_hours < fixed.gpu_hours
    assert fixed.reaches(0.95)


def test_a_reference_that_cannot_be_found_says_why() -> None:
    hard = case()
    slos = {**SLOS, SloKind.TPOT: Slo(SloKind.TPOT, 0.001, 0.95)}
    result = play(Job(replace(hard, scenario=replace(hard.scenario, slos=slos)), Contender("oracle")))
    assert (result.gpu_hours, result.score, result.reaches(0.0)) == (None, None, False)
    assert "cannot be found: TPOT SLO 0.001 s" in result.note


@pytest.mark.parametrize("name", ["static", "best-static"])
def test_who_never_starts_a_replica_plays_once_for_all_start_up_times(name: str) -> None:
    one = Job(case(), Contender(name, 2.0), attainment=0.95)
    fleet = one.case.scenario.fleet
    slow = replace(one.case, name="steady@90s", scenario=replace(one.case.scenario, fleet=replace(fleet, start_up=StartUp(90.0))))
    other = replace(one, case=slow)
    assert dealt([other, one]) == [(other, one)]
    assert dealt([replace(other, contender=Contender(OURS, 0.1)), replace(one, contender=Contender(OURS, 0.1))])[1:]
    oracle = replace(one, contender=Contender("oracle"))
    searched = replace(one, contender=Contender("best-static"))
    assert dealt([oracle, searched]) == [(oracle, searched)]
    assert play_all([one, other]) == [play(one), play(other)]


def test_a_fixed_fleet_that_loses_a_replica_is_played_for_every_start_up_time() -> None:
    there = replace(case().scenario.fleet, losses=(ReplicaLoss(30.0, Role.DECODE),))
    jobs = [
        Job(replace(case(), scenario=replace(case().scenario, fleet=replace(there, start_up=StartUp(start_up_s)))), STATIC)
        for start_up_s in (10.0, 90.0)
    ]
    soon, late = play_all([replace(job, case=replace(job.case, name=f"s@{at}s")) for at, job in enumerate(jobs)])
    assert soon.timeline is not None
    assert late.timeline is not None
    assert sum(soon.timeline.serving[Role.DECODE]) > sum(late.timeline.serving[Role.DECODE])
    assert len(dealt([jobs[0], replace(jobs[1], case=replace(jobs[1].case, name="steady@90s"))])) == 2


def test_a_promise_that_no_size_keeps_is_called_infeasible_and_the_nearest_is_told() -> None:
    slos = {**SLOS, SloKind.TTFT: Slo(SloKind.TTFT, 0.03, 0.95)}
    hard = replace(case(), scenario=replace(case().scenario, slos=slos))
    results = [play(Job(hard, Contender(name, 1.0))) for name in ("static", "best-static")]
    why = "no number of replicas keeps TTFT 0.03 s for 95% of the requests; the best reachable percentile is 3.36%"
    assert {one.infeasible for one in results} == {why}
    assert {round(one.reachable or 1.0, 4) for one in results} == {0.0336}
    assert "none tried reaches 99.0%, this one comes nearest" in results[1].note
    infeasible, nearest = out_of_reach(results, 0.99)
    assert infeasible == f"infeasible: {why}"
    assert nearest.startswith(f"nobody reaches 99.0%; the most is {max(one.attainment or 0 for one in results):.2%}, by ")
    assert play(Job(case(), Contender("static", 1.0))).infeasible == ""


def test_an_attainment_beyond_every_size_is_told_though_the_promise_itself_can_be_kept() -> None:
    """A promise for 90 % of the requests that 96 % can see at most, and 99 % are asked for."""
    slos = {**SLOS, SloKind.TTFT: Slo(SloKind.TTFT, 0.07, 0.9)}
    hard = replace(case(), scenario=replace(case().scenario, slos=slos))
    one = play(Job(hard, Contender("static", 1.0)))
    assert (one.infeasible, one.reachable is not None and 0.9 <= one.reachable < 0.99) == ("", True)
    told, _ = out_of_reach([one], 0.99)
    assert told == f"no size reaches 99.0%: alone on an idle fleet {percent(one.reachable or 0.0)} of the requests are in time"
    assert not any("no size" in line for line in out_of_reach([one], 0.9))


def test_who_reckons_with_equal_replicas_stays_out_where_they_differ() -> None:
    fleet = case().scenario.fleet
    unlike = replace(fleet, pools={Role.PREFILL: PoolSpec(2, 2), Role.DECODE: PoolSpec(2, 1)})
    there = replace(case(), scenario=replace(case().scenario, fleet=unlike))
    result = play(Job(there, Contender("clairvoyant-flipper", 1.0)))
    assert (result.gpu_hours, result.reaches(0.0)) == (None, False)
    assert "equal GPUs" in result.note
    assert play(Job(case(), Contender("clairvoyant-flipper", 1.0))).gpu_hours == pytest.approx(4 * 120 / 3600)
    assert play(Job(there, Contender("arrow", 1.0))).gpu_hours == pytest.approx(6 * 120 / 3600)


def test_a_reversal_that_the_oracle_makes_too_is_none() -> None:
    played = play(Job(case(), Contender("static", 1.0)))
    back = (Scaled(20.0, Role.DECODE, True), Scaled(40.0, Role.DECODE, False))
    hasty, oracle = replace(played, moves=back), replace(played, contender=Contender("oracle"), moves=(back[1],))
    for path, expected in [((back[1],), 0), ((), 1)]:
        excused, _ = settled([hasty, replace(oracle, moves=path)])
        assert excused.score is not None
        assert excused.score.reversals == expected


def test_a_sweep_has_five_points_each_and_the_published_one_among_them() -> None:
    field = field_of(None, tuple(PEERS), sweep=True, references=True)
    points = {name: [one for one in field if one.name == name] for name in (OURS, *PEERS)}
    assert {len(found) for found in points.values()} == {5}
    assert {sum(one.published for one in found) for found in points.values()} == {1}
    assert [one.name for one in field if one.point is None] == list(REFERENCES)
    assert [one.point for one in points[OURS]] == list(HEADROOMS)


def test_a_case_cut_short_sends_nothing_after_its_end() -> None:
    short = cut(case(), 60.0)
    assert short.duration_s == 60.0
    assert list(requests_of(short, 1)) == [request for request in requests_of(case(), 1) if request.arrival_s < 60]
    assert cut(short, 90.0).duration_s == 60.0


def test_a_case_in_which_nobody_asks_is_refused() -> None:
    with pytest.raises(Refusal, match=r"steady@30s: nobody sends a request within 120 s"):
        play(Job(case(Steady(0.0)), Contender(OURS, 0.1)))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (Steady(1.0), ()),
        (Wave(1.0, 2.0, 60.0), ()),
        (Spike(1.0, 9.0, 40.0, 10.0), (40.0,)),
        (Spike(1.0, 9.0, 40.0, 10.0, 50.0), (40.0, 90.0)),
        (OnOff(5.0, 1.0, 20.0, 30.0), (50.0, 100.0)),
        (Ramp(1.0, 5.0, 30.0, 10.0), (30.0,)),
    ],
)
def test_shifts_are_where_the_rate_begins_to_rise_for_good(shape: Shape, expected: tuple[float, ...]) -> None:
    assert shifts_s(case(shape)) == expected


def test_a_walk_shifts_at_each_seam() -> None:
    walking = replace(case(), traffic=partial(walk, phases=(Phase(KIND, 1.0, 30.0), Phase(KIND, 2.0, 50.0)), duration_s=120.0))
    assert shifts_s(walking) == (30.0, 80.0, 110.0)


def test_a_fleet_with_room_recovers_at_once() -> None:
    spiky = case(Spike(1.0, 6.0, 45.0, 15.0))
    assert play(Job(spiky, Contender("static", 2.0))).recovery == Recovery(1, 1, 0.0)
