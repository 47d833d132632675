"""How long until the command line answers, and until the demo's page does?

    help_cpu_s          CPU seconds of `autoscaler --help`, median of five (budget 0.4)
    demo_page_s         seconds from starting `autoscaler demo` to its page answering 200, median of three (budget 3)

CPU seconds are user + system of the child process. The second is wall time on purpose, since it is what a newcomer
waits for; on a busy machine read `demo_page_cpu_s` beside it, the CPU spent until then.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from statistics import median

BUDGETS = {"help_cpu_s": 0.4, "demo_page_s": 3.0}
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/")


def children_cpu_s() -> float:
    """CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def help_cpu_s() -> float:
    """CPU seconds of one `autoscaler --help`."""
    before = children_cpu_s()
    subprocess.run([sys.executable, "-m", "autoscaler", "--help"], check=True, stdout=subprocess.DEVNULL)
    return children_cpu_s() - before


def process_cpu_s(pid: int) -> float:
    """CPU seconds a living process has used, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def demo_page() -> tuple[float, float]:
    """(wall seconds, CPU seconds) until the page of a fresh demo answers."""
    began = time.monotonic()
    command = [sys.executable, "-m", "autoscaler", "demo", "--port", "0", "--duration", "20"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = next(match.group() for line in process.stderr if (match := ADDRESS.search(line)))
            with urllib.request.urlopen(address, timeout=10) as answer:
                assert answer.status == 200
            return time.monotonic() - began, process_cpu_s(process.pid)
        finally:
            process.terminate()


def main() -> None:
    """Measure and print one JSON object."""
    pages = [demo_page() for _ in range(3)]
    figures = {
        "help_cpu_s": round(median(help_cpu_s() for _ in range(5)), 3),
        "demo_page_s": round(median(wall for wall, _ in pages), 3),
        "demo_page_cpu_s": round(median(cpu for _, cpu in pages), 3),
    }
    met = all(figures[name] <= budget for name, budget in BUDGETS.items())
    sys.stdout.write(json.dumps({"bench": "start", **figures, "budgets": BUDGETS, "met": met}) + "\n")


if __name__ == "__main__":
    main()
