"""Does one run that goes wrong cost the others nothing?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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


def endless(lot: Lot) -> list[Result]:
    """Says which process it is, and never comes to an end."""
    (Path(os.environ["PIDS"]) / str(os.getpid())).touch()
    time.sleep(600)
    return plain(lot)


def bad_after_a_while(lot: Lot) -> list[Result]:
    if lot[0].contender.name == "two":
        while len(list(Path(os.environ["PIDS"]).iterdir())) < 1:
            time.sleep(0.01)
        return refused(lot)
    return endless(lot)


@click.command()
@click.argument("play")
def command(play: str) -> None:
    played(FIELD, 2, globals()[play])


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


def until(true: Callable[[], object]) -> None:
    """Wait for it; a process takes a second or two to begin."""
    patience = time.monotonic() + 60
    while not true():
        assert time.monotonic() < patience
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether it still runs; a zombie, which nobody has buried yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes as Linux shows them")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda pid: os.killpg(pid, signal.SIGINT), 1),  # Ctrl-C, as a terminal sends it
        (lambda pid: os.kill(pid, signal.SIGINT), 1),
        (lambda pid: os.kill(pid, signal.SIGTERM), -signal.SIGTERM),
        (lambda pid: os.kill(pid, signal.SIGKILL), -signal.SIGKILL),
    ],
    ids=["ctrl-c", "int", "term", "kill"],
)
def test_nobody_plays_on_once_the_command_has_ended(tmp_path: Path, end: Callable[[int], None], code: int) -> None:
    script = [sys.executable, "-c", "import tests.test_playing as here; here.command()", "endless"]
    environment = {**os.environ, "PIDS": str(tmp_path)}
    with subprocess.Popen(script, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True) as running:
        until(lambda: len(list(tmp_path.iterdir())) == 2)
        end(running.pid)
        said = running.communicate(timeout=60)[1]
    assert running.returncode == code
    assert "Traceback" not in said
    assert said == "\nAborted!\n" or code < 0
    until(lambda: not any(alive(int(pid.name)) for pid in tmp_path.iterdir()))


@pytest.mark.slow
def test_bad_input_ends_those_who_still_play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIDS", str(tmp_path))
    with pytest.raises(Refusal, match=r"trace\.csv line 3: bad"):
        played(FIELD, 2, bad_after_a_while)
    until(lambda: not any(alive(int(pid.name)) for pid in tmp_path.iterdir()))
