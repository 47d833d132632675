"""How does a test run our commands as a user does, each a process of its own?"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


@dataclass
class Process:
    """One of our commands, and the addresses it printed."""

    arguments: list[str]
    log: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "autoscaler", *self.arguments], stdout=log, stderr=log)

    def address(self, name: str) -> str:
        """The address printed after `name`."""
        pattern = re.compile(rf"{name}: (http://127\.0\.0\.1:\d+)")

        def found() -> str | None:
            assert self.process.poll() is None, self.log.read_text()
            match = pattern.search(self.log.read_text())
            return match.group(1) if match else None

        return str(wait_for(found, f"{self.arguments[0]} prints its address"))

    def end(self) -> float:
        """Send SIGTERM; the seconds until it was gone. Fails on any exit code but 0."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        assert code == 0, f"exit code {code}: {self.log.read_text()[-2000:]}"
        return time.monotonic() - began


def wait_for(look: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Look until there is something to see."""
    ends = time.monotonic() + patience_s
    while not (seen := look()):
        assert time.monotonic() < ends, f"waited {patience_s:g} s in vain: {what}"
        time.sleep(0.2)
    return seen
