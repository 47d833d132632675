"""How does a server process start, and how is it made sure that it ends?

Each server gets a log file and ends in one of three ways: `kill` (always SIGKILL: what it holds is thrown away with the
plane, and an API server takes up to a minute to leave in order); the kernel, when the thread that started it ends for
whatever reason (PR_SET_PDEATHSIG, by way of setpriv); or by itself, which is a fault that the next `check` tells with
the end of the log. It has a session of its own, so that Ctrl-C in the terminal reaches pytest and not the servers.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

LOG_TAIL_LINES = 15


class ServerFailed(Exception):
    """A server ended, or was not ready in time. The message has the end of its log."""


class Server:
    """One program with its arguments, which may be started, frozen, killed and started again."""

    def __init__(self, name: str, command: Sequence[str], setpriv: Path, folder: Path) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self._command = [str(setpriv), "--pdeathsig", "KILL", "--", *command]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id, also after its end."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def start(self) -> None:
        """Start it, appending to its log. Its environment says nothing about this machine: no proxy, no home."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self._folder)},
                start_new_session=True,
            )

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it, frozen or not; twice is fine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raise ServerFailed if it has ended by itself."""
        if self._process is not None and (status := self._process.poll()) is not None:
            raise ServerFailed(f"{self.name} ended with {status}; {self.tail()}")

    def tail(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return "\n".join([f"{self.log} ends with:", *lines])

    def rss_mib(self) -> float:
        """Resident memory in MiB; 0 when it does not run."""
        status = Path(f"/proc/{self.pid}/status")
        for line in status.read_text().splitlines() if status.exists() else ():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def wait_for(what: str, holds: Callable[[], bool], server: Server, patience_s: float = 60.0) -> None:
    """Poll until it holds. Raises ServerFailed when the server ends meanwhile, or after a time no machine should need."""
    ends = time.monotonic() + patience_s
    while not holds():
        server.check()
        if time.monotonic() > ends:
            raise ServerFailed(f"waited {patience_s:g} s in vain: {what}; {server.tail()}")
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing uses now.

    They are not the kernel's own choice: a port below its range for outgoing connections cannot be taken by one while a
    server is down, so the server finds its port free when it comes back.
    """
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    candidates = range(max(1024, lowest_outgoing - 16384), lowest_outgoing)
    shuffled = random.sample(candidates, len(candidates))
    return list(islice(filter(_is_free, shuffled), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
