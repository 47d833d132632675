"""Does a signal that comes at the worst moment still end a command?"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow  # processes

# The main thread waits in short turns, as the demo does; another process sends a signal every 0.1 ms on average, so that
# one comes at every step of a wait. With a threading.Event in Ending's place this recurses or hangs within a second.
WAITS = """
import os, random, subprocess, sys, time
from autoscaler.commands.ending import Ending
SENDS = "import os, random, signal, sys, time\\nwhile True: os.kill({}, signal.SIGTERM); time.sleep(random.random() * 2e-4)"
ending = Ending()
sender = subprocess.Popen([sys.executable, "-c", SENDS.format(os.getpid())])
until = time.monotonic() + 2
wished = 0
while time.monotonic() < until:
    wished += ending.wait(0.0003)
    ending.wished = False
sender.kill()
sender.wait()
print(wished)
"""


def test_a_signal_at_any_step_of_a_wait_is_a_wish_and_never_a_hang() -> None:
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr[-1000:]
    assert int(done.stdout) > 100
