"""How does a controller process begin in 50 ms, wanting one thing?

The controller is put together as `autoscaler run` does (commands/wiring.py): objects, ledger, election, conductor. Only its
brain is another: it wants given counts, and asks for whatever is missing at each look, once a second, as a brain that has
decided does until the fleet is going to be so. No Prometheus is needed, and what is written is the same in every run.

Importing all that takes a second of CPU. So a nursery does it once, and forks a controller for each line that it reads:

    {"kubeconfig": ..., "fleets": {NAMESPACE: {"prefill": 3, "decode": 2}}, "clock": ..., "log_file": ...}

What it takes for the wall-clock time is off by as many seconds as the file `clock` says, if there is one.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import autoscaler.adapters.engines
import autoscaler.adapters.kubernetes
import autoscaler.conductor  # noqa: F401 - what the wiring imports late
from autoscaler.adapters.telemetry import configure_logging
from autoscaler.commands.wiring import Doors, from_objects
from autoscaler.core.action import Action, Flip
from autoscaler.core.fleet import Fleet, Role
from autoscaler.core.reason import Reason

LEASE = "autoscaler"
LOOK_S = 1.0
DIES_S = 10.0

log = logging.getLogger(__name__)

Counts = Mapping[Role, int]


class Leader:
    """A controller process of the nursery. Known by a pidfd: its number may belong to a thread of somebody else's by now."""

    def __init__(self, pid: int, log_file: Path) -> None:
        self._log, self._process = log_file, os.pidfd_open(pid)

    def kill(self) -> None:
        """SIGKILL, and until nothing of it runs any more. Twice is fine."""
        with suppress(ProcessLookupError):
            self._send(signal.SIGKILL)
        assert select.select([self._process], [], [], DIES_S)[0], "it does not die"

    def pause(self) -> None:
        """It stands still in whatever it does."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on, and does not know that time has passed."""
        self._send(signal.SIGCONT)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self._process], [], [], 0)[0]

    @property
    def said(self) -> str:
        """What it has logged."""
        return self._log.read_text() if self._log.exists() else ""

    def close(self) -> None:
        """Let go of it; nothing may be asked of it any more."""
        os.close(self._process)

    def _send(self, name: signal.Signals) -> None:
        signal.pidfd_send_signal(self._process, name)


class Nursery:
    """Controllers ready to be born. As a context; it takes those that are left along."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._born, self._lock = folder, list[Leader](), threading.Lock()

    def __enter__(self) -> Nursery:
        command = [sys.executable, "-m", "tests.e2e.plane.chaos.driver"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_: object) -> None:
        for leader in self._born:
            leader.kill()
            leader.close()
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def leader(self, kubeconfig: Path, fleets: Mapping[str, Counts]) -> Leader:
        """One more controller, of the fleets in these namespaces. Its Lease is in the first."""
        with self._lock:
            namespace = next(iter(fleets))
            log_file = self._folder / f"{namespace}-{len(self._born)}.log"
            goals = {namespace: dict(goal) for namespace, goal in fleets.items()}
            orders = {"kubeconfig": str(kubeconfig), "fleets": goals, "log_file": str(log_file)}
            orders["clock"] = str(clock_of(self._folder, namespace))
            assert self._process.stdin
            assert self._process.stdout
            self._process.stdin.write(json.dumps(orders).encode() + b"\n")
            self._process.stdin.flush()
            born = Leader(int(self._process.stdout.readline()), log_file)
            self._born.append(born)
            return born


def decided(fleet: Fleet, goal: Counts) -> Action | Flip | None:
    """What is missing from a fleet that is going to be so."""
    seen = {role: pool.desired for role, pool in fleet.pools.items()}
    less = [role for role in goal if goal[role] < seen[role]]
    more = [role for role in goal if goal[role] > seen[role]]
    if less and more:
        (giver,), (taker,) = less, more
        given, taken = seen[giver] - goal[giver], goal[taker] - seen[taker]
        return Flip(giver, taker, given, taken, Reason.FLIP, seen)
    for role in (*less, *more):
        return Action(role, seen[role], goal[role], Reason.SCALE_DOWN if less else Reason.SCALE_UP)
    return None


def pursue(doors: Doors, key: str, goal: Counts) -> None:
    """One look: at the fleet, and at what is told of it; the next action where one is missing."""
    fleet, term = doors.gateway.read(key, time.time()), doors.election.term() if doors.election else None
    if not isinstance(fleet, Fleet):
        log.info("not seen: %s", fleet.detail)
        return
    for stuck in fleet.stuck:
        log.warning("stuck: %s", stuck)
    for ended in fleet.ended:
        log.info("ended: %s", ended)
    wanted = decided(fleet, goal)
    if wanted is not None and term is not None:
        outcome = doors.gateway.apply(key, wanted, time.time(), term)
        log.info("%s %s: %s %s", wanted.subject, wanted.change, outcome.verdict, outcome.detail)


def lead(kubeconfig: str, fleets: Mapping[str, Mapping[str, int]], clock: str, log_file: str) -> None:
    """Be a controller until killed, or until the nursery has ended."""
    with Path(log_file).open("wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ["KUBECONFIG"] = kubeconfig
    time.time = _off_by(Path(clock))
    configure_logging()
    first = next(iter(fleets))
    doors = from_objects("kubernetes", [*fleets], lease=f"{first}/{LEASE}", dry_run=False)
    doors.start()
    nursery = os.getppid()
    while os.getppid() == nursery:
        doors.roster.managed()
        for namespace, goal in fleets.items():
            pursue(doors, f"{namespace}/chat", {Role(role): count for role, count in goal.items()})
        time.sleep(LOOK_S)


def clock_of(folder: Path, namespace: str) -> Path:
    """Where it stands how far off the clock of a controller is."""
    return folder / f"{namespace}.clock"


def _off_by(file: Path) -> Callable[[], float]:
    right = time.time
    return lambda: right() + (float(file.read_text() or 0) if file.exists() else 0.0)


def main() -> None:
    """The nursery."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    for line in sys.stdin.buffer:
        orders: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            try:
                lead(**orders)
            except BaseException:  # noqa: BLE001 - its log is all that is left of it
                traceback.print_exc()
            os._exit(1)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
