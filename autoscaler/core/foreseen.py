"""What is said of the load to come, and what decides how carefully?

The words of core/forecast.py, apart from its work: who only writes or reads them needs neither models nor NumPy, whose 16 MB
of memory a process that validates policies (commands/serve.py) would otherwise carry.
"""

from __future__ import annotations

from dataclasses import dataclass

from autoscaler.core.reason import Reason


@dataclass(frozen=True, slots=True)
class Forecast:
    """Load `horizon_s` ahead: mean and upper bound in the series' unit, who says so, its mean absolute error and why;
    `coverage` is the share of its latest promises whose upper bound held.
    """

    mean: float
    upper: float
    horizon_s: float
    model: str
    error: float | None
    reason: Reason
    coverage: float | None = None


@dataclass(frozen=True, slots=True)
class ForecastLimits:
    """Knobs. `horizon_s`: time a change takes to act, where no other is asked for. `aim`: quantile of own errors that makes
    the upper bound; `cover`: share of values that shall lie below it, `gamma`: how fast its widening follows that.
    """

    horizon_s: float = 120.0
    aim: float = 0.93
    errors_kept: int = 60
    errors_needed: int = 10
    margin: float = 0.03
    gap_s: float = 120.0
    cover: float = 0.90
    gamma: float = 0.02
