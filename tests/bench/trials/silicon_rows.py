"""How far is the timing model from measured rows of real GPUs, system by system?

The median of |predicted / measured - 1| over loads that were not fitted to (simulator/silicon.py says how), so the
reference is 0. The bounds are chosen here, not published for this model: 10 % of TPOT, and 20 % of TTFT, which is what an
independent simulator with a learned model tells of itself (BLIS: mean 17.6 % of TTFT, 7.1 % of the time between tokens).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autoscaler.simulator.silicon import form_errors
from tests.bench.trials.finding import Check, Finding, Rule

TPOT_BOUND, TTFT_BOUND = 0.10, 0.20


def trial(path: Path) -> Iterator[Finding]:
    """Two checks per system. Raises TraceError for a file that cannot be read."""
    for found in form_errors(path):
        over = f"{found.rows} loads of {found.settings} settings"
        claim = f"median error of TPOT on {found.what}, {over}"
        yield Check(f"silicon_{found.what}_tpot", claim, found.tpot_median, TPOT_BOUND, rule=Rule.AT_MOST)
        if found.ttft_median is not None:
            claim = f"median error of TTFT on {found.what}, {found.ttft_rows} loads of at most four in flight"
            yield Check(f"silicon_{found.what}_ttft", claim, found.ttft_median, TTFT_BOUND, rule=Rule.AT_MOST)
