"""Does one run that goes wrong cost the others nothing?"""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import click
import pytest

from autoscaler.commands.playing import KILLED, Lot, played, tell_lost
from autoscaler.refusal import Refusal
from autoscaler.simulator.contenders import Contender, Job
from autoscaler.simulator.result import Result
from tests.simulator.test_comparison import case

FIELD = [Job(case(), Contender(name, 1.0)) for name in ("one", "two", "three", "four")]


def plain(lot: Lot) -> list[Result]:
    return [Result(job.case.name, job.contender, 1.0) for job in lot]


def deadly(lot: Lot) -> list[Result]:
    if lot[0].contender.name == "two":
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(lot)


def faulty(lot: Lot) -> list[Result]:
    if lot[0].contender.name == "two":
        raise KeyError("x")
    return plain(lot)


def refused(lot: Lot) -> list[Result]:
    raise Refusal("trace.csv line 3: bad")


def test_results_come_in_the_order_of_the_jobs_though_the_longest_go_first() -> None:
    long = Job(replace(case(), name="long@30s", duration_s=900.0), Contender("five", 1.0))
    assert [one.contender.name for one in played([*FIELD, long], 1, plain)] == ["one", "two", "three", "four", "five"]


def test_a_fault_in_one_run_costs_that_run_only(capsys: pytest.CaptureFixture[str]) -> None:
    results = played(FIELD, 1, faulty)
    assert [one.lost for one in results] == [False, True, False, False]
    assert results[1].note == "a fault of ours: KeyError: 'x'"
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(click.ClickException, match=r"lost: steady@30s two: a fault of ours") as raised:
        tell_lost(results)
    assert raised.value.exit_code == 1


def test_bad_input_ends_everything() -> None:
    with pytest.raises(Refusal, match=r"trace\.csv line 3: bad"):
        played(FIELD, 1, refused)


@pytest.mark.slow
def test_a_killed_process_costs_its_own_run_only() -> None:
    results = played(FIELD, 2, deadly)
    assert [(one.lost, one.note) for one in results] == [(False, ""), (True, KILLED), (False, ""), (False, "")]
