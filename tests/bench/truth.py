"""Does the simulator say what theory, publications and measurements say?

Each room of trials/ asks one source, and says in its first lines what is checked, why so, and what is left out. Here they
are run one after the other: a line per check on stderr as it comes, and at the end one JSON object on stdout, with all
checks and all curves. A check that is not met is printed like any other, and named again in `missed`.

Traces and measured rows lie in the folder that PDA_SHARED names, by default the one beside the checkout; a trial whose file
is not there is left out, with a line that says so.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.trials import early_rejection, per_gpu, queues, ratio_walk, silicon_rows, split_curve
from tests.bench.trials.finding import Check, Curve, Finding

SHARED = Path(os.environ.get("PDA_SHARED", Path(__file__).parents[3] / "shared"))
SILICON, TRACES = SHARED / "profiles" / "silicon_sample.csv.gz", SHARED / "traces"
PROMPTS = 1_000_000  # through each queue

Trial = Callable[[], Iterator[Finding]]
TRIALS: Mapping[str, Trial] = {
    "queueing theory": partial(queues.trial, PROMPTS),
    "DistServe's arithmetic": per_gpu.trial,
    "splits of 16 nodes": partial(split_curve.trial, TRACES),
    "walk of the best split": ratio_walk.trial,
    "early rejection": partial(early_rejection.trial, TRACES),
    "measured GPUs": partial(silicon_rows.trial, SILICON),
}
NEEDS: Mapping[str, Path] = {
    "splits of 16 nodes": TRACES / split_curve.TRACE,
    "early rejection": TRACES / early_rejection.TRACE,
    "measured GPUs": SILICON,
}


def findings(trials: Mapping[str, Trial]) -> Iterator[Finding]:
    """What they find, with a progress line on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("", total=len(trials))
        for name, trial in trials.items():
            progress.update(bar, description=name)
            for finding in trial():
                if isinstance(finding, Check):
                    console.print(told(finding), highlight=False, markup=False, soft_wrap=True)
                yield finding
            progress.advance(bar)


def told(check: Check) -> str:
    """One line."""
    error = "" if check.standard_error is None else f", standard error {check.standard_error:.2g}"
    verdict = "met" if check.met else "MISSED"
    return f"{check.name} {check.measured:.6g}{error}, {check.rule} {check.reference:.6g}: {verdict}"


def document(found: list[Finding]) -> dict[str, object]:
    """All of it, as `autoscaler compare --trial` reads it."""
    checks = [one for one in found if isinstance(one, Check)]
    return {
        "bench": "truth",
        "requests": PROMPTS,
        "checks": [{**asdict(check), "met": check.met} for check in checks],
        "missed": [check.name for check in checks if not check.met],
        "curves": [asdict(one) for one in found if isinstance(one, Curve)],
    }


def main() -> None:
    """Run all trials whose data is there."""
    absent = [name for name, path in NEEDS.items() if not path.is_file()]
    for name in absent:
        sys.stderr.write(f"left out: {name}, for there is no {NEEDS[name]}\n")
    found = list(findings({name: trial for name, trial in TRIALS.items() if name not in absent}))
    sys.stdout.write(json.dumps(document(found)) + "\n")


if __name__ == "__main__":
    main()
