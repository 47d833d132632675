"""Does `make bench NAME=decision` say what was played? Its arithmetic, on results that are made up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from autoscaler.commands.playing import Lot
from autoscaler.core.fleet import Role
from autoscaler.policy.profiles import replica_profile
from autoscaler.simulator.contenders import BEST_STATIC, FLIPPER, ORACLE, OURS, Contender, Job, dealt
from autoscaler.simulator.flips import DriverKind
from autoscaler.simulator.moves import Flipped, Scaled
from autoscaler.simulator.result import Result
from autoscaler.simulator.scenario_file import Mark
from autoscaler.simulator.score import Score
from autoscaler.simulator.workload import Request
from tests.bench import decision
from tests.bench.decisions import moving_ratio, six_engines
from tests.bench.decisions.claims import Played, claims, outdone
from tests.bench.decisions.moving_ratio import FIXED, LOADS, PERIOD_S, Search, carried, crowds, met_by
from tests.bench.decisions.remembered import Remembered, known, playing, source_digest
from tests.bench.trials.finding import Check
from tests.simulator.test_comparison import case


def score(attainment: float, gpu_hours: float, actions: int = 0, flips: int = 0, reversals: int = 0) -> Score:
    hours = {Role.PREFILL: gpu_hours / 2, Role.DECODE: gpu_hours / 2}
    return Score(60.0, 100, 100, 0, 0, 0, 0, 0, 0, 99, attainment, 1.6, hours, 0, 0, actions, flips, reversals)


def run(name: str, attainment: float, gpu_hours: float, point: float | None = None, **moves: int) -> Result:
    contender = Contender(name, point, published=point in {None, 0.0})
    return Result("steady@30s", contender, gpu_hours, score(attainment, gpu_hours, **moves))


def told(mark: Mark, results: Sequence[Result], duration_s: float = 120.0) -> dict[str, Check]:
    played = Played(replace(case(), mark=mark, duration_s=duration_s), results, 0.99)
    return {check.name.removeprefix("steady@30s_"): check for check in claims(played)}


def missed(found: dict[str, Check]) -> set[str]:
    return {name for name, check in found.items() if not check.met}


def test_a_forecastable_scenario_is_held_to_the_oracle() -> None:
    oracle = run(ORACLE, 0.99, 10.0)
    assert missed(told(Mark.FORECASTABLE, [run(OURS, 0.975, 12.4, 0.0), oracle])) == {"attainment_stretch", "gpu_hours_stretch"}
    assert missed(told(Mark.FORECASTABLE, [run(OURS, 0.985, 11.4, 0.0), oracle])) == set()
    assert "attainment" in missed(told(Mark.FORECASTABLE, [run(OURS, 0.969, 9.0, 0.0), oracle]))
    assert "gpu_hours" in missed(told(Mark.FORECASTABLE, [run(OURS, 0.999, 12.6, 0.0), oracle]))


def test_a_stationary_scenario_is_held_to_the_best_fixed_fleet_and_to_no_move_undone() -> None:
    fixed = run(BEST_STATIC, 0.999, 10.0)
    assert missed(told(Mark.STATIONARY, [run(OURS, 0.995, 10.2, 0.0, actions=2), fixed])) == set()
    assert missed(told(Mark.STATIONARY, [run(OURS, 0.993, 10.4, 0.0, actions=2, reversals=1), fixed])) == {
        "attainment",
        "gpu_hours",
        "reversals",
    }


def test_a_baseline_that_is_cheaper_anywhere_above_our_lowest_point_is_named() -> None:
    ours = [run(OURS, 0.90, 10.0, 0.0), run(OURS, 0.98, 14.0, 0.1)]
    peer = [run("peer", 0.50, 1.0, 0.0), run("peer", 0.94, 11.0, 0.1), run("peer", 0.995, 30.0, 0.3)]
    found = told(Mark.UNFORECASTABLE, [*ours, *peer])
    # At 90 % peer's line costs 1 + 10 * 40 / 44 = 10.09, at 94 % ours 12 and peer's 11, at 98 % 24.8; beyond it we have none.
    played = Played(case(), [*ours, *peer], 0.99)
    assert list(outdone(played, "peer")) == ["94.00% for 11, ours 12", "99.50% for 30, ours never reaches it"]
    assert found["line_peer"].measured == 2
    assert "94.00% for 11, ours 12" in decision.line_of(found["line_peer"])


def test_equal_attainment_is_what_is_required_or_the_most_that_ours_reaches() -> None:
    ours = [run(OURS, 0.90, 10.0, 0.0), run(OURS, 0.98, 14.0, 0.1)]
    cheap, dear = [run("cheap", 0.98, 13.0, 0.0)], [run("dear", 0.999, 40.0, 0.0)]
    check = told(Mark.UNFORECASTABLE, [*ours, *cheap, *dear])["cheapest"]
    assert (check.measured, check.reference, check.met) == (14.0, 13.0, False)
    assert "98.00%" in check.claim
    assert "cheap 13" in check.claim
    assert told(Mark.UNFORECASTABLE, [*ours, *dear])["cheapest"].met


def test_one_move_of_ten_may_be_undone_in_a_day() -> None:
    ours = run(OURS, 0.99, 10.0, 0.0, actions=15, flips=5, reversals=2)
    assert told(Mark.FORECASTABLE, [ours], 86_400.0)["reversals"].met
    more = run(OURS, 0.99, 10.0, 0.0, actions=15, flips=5, reversals=3)
    assert not told(Mark.FORECASTABLE, [more], 86_400.0)["reversals"].met
    assert "reversals" not in told(Mark.FORECASTABLE, [more], 86_399.0)


def test_what_was_not_played_is_not_compared_with() -> None:
    assert told(Mark.FORECASTABLE, [run(ORACLE, 0.99, 10.0)]) == {}
    assert told(Mark.FORECASTABLE, [run(OURS, 0.5, 10.0, 0.0), Result("steady@30s", Contender(ORACLE), None)]) == {}


def searched(carries: dict[str, float]) -> tuple[dict[str, Search], list[str]]:
    """What is found of people who carry so much each, of groups before the colon, and who was asked how often."""
    asked: list[str] = []

    def met(jobs: Sequence[Job]) -> list[float]:
        asked.extend(job.case.name for job in jobs)
        return [1.0 if (job.contender.point or 0.0) <= carries[job.case.name] else 0.0 for job in jobs]

    def search(name: str) -> Search:
        return Search(name.partition(":")[0], lambda scale: Job(replace(case(), name=name), Contender("x", scale)), note=name)

    return carried([search(name) for name in carries], met), asked


@pytest.mark.parametrize("rate", [0.2, 0.7, 1.0, 1.3, 9.0])
def test_the_rate_that_is_carried_is_found_to_one_percent(rate: float) -> None:
    found, _ = searched({"one": rate})
    assert found["one"].low <= rate < found["one"].low * 1.0101


def test_who_carries_next_to_nothing_is_given_up() -> None:
    found, asked = searched({"one": 0.0})
    assert found["one"].low == 0.0
    assert len(asked) < 10


def test_of_a_group_the_best_counts_and_the_hopeless_are_not_asked_to_the_end() -> None:
    found, asked = searched({"fixed:1": 0.3, "fixed:2": 1.2, "ours": 0.9})
    assert (found["fixed"].note, found["ours"].note) == ("fixed:2", "ours")
    assert found["fixed"].low == pytest.approx(1.2, rel=0.01)
    assert asked.count("fixed:1") == 1  # fails at 1, where the other holds


def test_a_search_takes_the_mean_over_seeds() -> None:
    def play(jobs: Sequence[Job]) -> list[Result]:
        return [run(OURS, {1: 0.8, 2: 1.0}[job.seed], 1.0) for job in jobs]

    jobs = [Job(case(), Contender(OURS))] * 3
    assert met_by(play, (1, 2))(jobs) == pytest.approx([0.9] * 3)


def test_the_crowds_take_turns() -> None:
    quarter = PERIOD_S / 4
    requests = list(crowds(0.05, Random(1)))
    assert [one.id for one in requests] == list(range(len(requests)))
    assert [one.arrival_s for one in requests] == sorted(one.arrival_s for one in requests)
    long = [one.arrival_s % PERIOD_S for one in requests if one.prompt_tokens > 1_000]
    short = [one.arrival_s % PERIOD_S for one in requests if one.prompt_tokens <= 1_000]
    early = [sum(at < 2 * quarter for at in each) / len(each) for each in (long, short)]
    # Half a wave from its mean over the top is 1/2 + 1/pi = 82 % of it.
    assert early == pytest.approx([0.5 + 1 / math.pi, 0.5 - 1 / math.pi], abs=0.06)


def test_everybody_on_a_fixed_fleet_has_the_same_replicas_and_no_gpu_to_spare() -> None:
    jobs = [*six_engines.jobs().values(), *(search.job(1.0) for load in LOADS for search in load.searches())]
    assert {job.contender.name for job in jobs} == {OURS, FLIPPER, "static"}
    for job in jobs:
        held = sum(pool.replicas * pool.gpus_per_replica for pool in job.case.scenario.fleet.pools.values())
        assert held == job.case.budget_gpus
    lots = dealt(jobs)  # whoever never starts a replica is played once for a name before "@"
    assert all(len({job.case.name for job in lot}) == 1 for lot in lots if lot[0].contender.name == "static")
    assert {search.group for search in LOADS[0].searches()} == {OURS, FLIPPER, FIXED}


def test_six_engines_are_held_to_what_was_published_and_to_the_best_fixed_split() -> None:
    shares = {"fixed_3p": 0.3, "fixed_4p": 0.9, "label": 0.984, "resize_120": 0.895, "resize_300": 0.894}
    found = {check.name: check.met for check in six_engines.checks(shares)}
    assert found == {"walk_label": False, "walk_resize_120": True, "walk_resize_300": False}
    assert six_engines.case("x", 4).scenario.fleet.profile == replica_profile("splitwise-2024-llama-2-70b-h100-tp8")
    assert six_engines.case("x", 4).scenario.fleet.flips == six_engines.LABEL
    assert six_engines.LABEL.kind is DriverKind.LABEL


def test_what_was_played_once_is_remembered_but_never_ours(tmp_path: Path) -> None:
    moves = (Scaled(15.0, Role.PREFILL, True), Flipped(30.0, Role.DECODE, Role.PREFILL, 2))
    lots: list[Lot] = []

    def play(lot: Lot) -> list[Result]:
        lots.append(lot)
        return [replace(run(job.contender.name, 0.9, 4.0), moves=moves, note="a note") for job in lot]

    remembered = Remembered(tmp_path / "new", "source")
    lot = (Job(case(), Contender(OURS, 0.0)), Job(case(), Contender(ORACLE)))
    first, again = playing(remembered, play)(lot), playing(remembered, play)(lot)
    assert [job.contender.name for each in lots for job in each] == [OURS, ORACLE, OURS]
    assert again == first
    assert known(lot, remembered) == list(lot)
    for other in (replace(lot[1], seed=2), replace(lot[1], case=replace(case(), budget_gpus=7))):
        assert remembered.recall(other) is None
        assert known([other], remembered) == []
    assert Remembered(tmp_path / "new", "changed").recall(lot[1]) is None


def test_a_memory_that_cannot_be_read_and_a_run_that_was_lost_are_played_again(tmp_path: Path) -> None:
    remembered, job = Remembered(tmp_path, "source"), Job(case(), Contender(ORACLE))
    remembered.keep(job, replace(run(ORACLE, 0.9, 4.0), lost=True))
    assert remembered.recall(job) is None
    remembered.path(job).write_text("{", encoding="utf-8")
    assert remembered.recall(job) is None


def test_a_trace_of_another_size_is_another_case(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("1", encoding="utf-8")
    job = Job(replace(case(), traffic=partial(_replayed, trace)), Contender(ORACLE))
    remembered = Remembered(tmp_path, "source")
    before = remembered.path(job)
    assert remembered.path(job) == before
    trace.write_text("12", encoding="utf-8")
    assert remembered.path(job) != before


def _replayed(path: Path, rng: Random) -> Iterator[Request]:
    raise AssertionError(f"{path} is not to be read")


def test_the_source_is_another_when_the_simulator_or_the_guard_changes(tmp_path: Path) -> None:
    rooms = ["simulator/peers/arrow.py", "core/plan.py", "core/forecast.py"]
    for room in (*rooms, *(f"core/{name}.py" for name in ("capacity", "fleet", "observation", "profile", "queueing"))):
        (tmp_path / room).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / room).write_text("1", encoding="utf-8")
    digests = [source_digest(tmp_path)]
    for room in rooms:
        (tmp_path / room).write_text("2", encoding="utf-8")
        digests.append(source_digest(tmp_path))
    assert digests[0] != digests[1] != digests[2] == digests[3]


@pytest.mark.parametrize("arguments", [["--length", "1"], ["--jobs", "0"], ["--jobs", "x"], ["--sweep"]])
def test_a_wrong_option_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        decision.wanted_of(arguments)
    assert raised.value.code == 2
    assert "error" in capsys.readouterr().err


def test_a_pattern_means_a_scenario_at_one_or_at_all_start_up_times() -> None:
    wanted = decision.wanted_of(["--scenario", "spike", "--scenario", "*@180s"])
    named = [name for name in ("spike@60s", "constant@180s", "constant@60s", "walk") if wanted.named(name)]
    assert named == ["spike@60s", "constant@180s"]
    assert decision.wanted_of([]).named("walk")


def test_the_document_names_what_is_missed_and_the_stretch_apart() -> None:
    found = told(Mark.FORECASTABLE, [run(OURS, 0.5, 20.0, 0.0), run(ORACLE, 0.99, 10.0)])
    part = {"runs": [decision.row(run(OURS, 0.5, 20.0, 0.0))]}, list(found.values())
    document = decision.document({"steady@30s": part}, [], decision.wanted_of([]))
    assert document["missed"] == ["steady@30s_attainment", "steady@30s_gpu_hours"]
    assert document["missed_stretch"] == ["steady@30s_attainment_stretch", "steady@30s_gpu_hours_stretch"]
    assert decision.brief(part[0]) == f"{OURS} 50.00% 20 GPU-h"


def test_a_share_of_the_flippers_rate_is_what_is_told_of_a_moving_ratio() -> None:
    carries = {OURS: 0.85, FLIPPER: 1.0, "static": 0.5}

    def play(jobs: Sequence[Job]) -> list[Result]:
        rates = [float(job.case.name.partition("-x")[2].partition("-")[0]) for job in jobs]
        shares = [1.0 if rate <= carries[job.contender.name] else 0.0 for job, rate in zip(jobs, rates, strict=True)]
        return [run(job.contender.name, share, 1.0) for job, share in zip(jobs, shares, strict=True)]

    figures, (check,) = moving_ratio.findings(LOADS[1], play)
    assert figures["fixed_share"] == pytest.approx(0.5, rel=0.02)
    assert check.measured == pytest.approx(0.85, rel=0.02)
    assert not check.met
