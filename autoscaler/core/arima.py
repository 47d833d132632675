"""What does ARIMA(1,1,1) say, and when is it fitted anew?

Fitting by maximum likelihood takes a tenth of a second and a library that takes three to load, so it happens elsewhere
(adapters/arima.py), rarely, and comes back as a value. Going on from a fit is arithmetic: with d the differences, e the
surprises,

    d_t = phi d_{t-1} + e_t + theta e_{t-1}

unrolled until only differences are left, the next one is expected to be d' = sum over k >= 0 of (phi + theta) (-theta)^k
d_{t-k}, and the j-th one phi^(j-1) d'. That is what a Kalman filter says once it has settled
(tests/core/test_arima.py holds it against statsmodels' `extend`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autoscaler.core.series import Floats

LEAST_BINS = 60  # to fit to; with three, numbers come out, with an interval of nothing
REFIT_S = 2700.0
FORGOTTEN = 1e-9
MOST_THETA = 0.98  # 0.98^360 = 7e-4 of the first surprise is left after all bins that are kept; beyond it the load is noise


@dataclass(frozen=True, slots=True)
class ArimaFit:
    """Fitted outside to `bins` bins of `bin_s` that ended at `fitted_at_s`; `sigma` is the deviation of a surprise. One that
    did not converge has no say, and tells when it was tried.

    Raises ValueError for coefficients that are not stationary, whose forecasts explode, or that forget too slowly.
    """

    phi: float
    theta: float
    sigma: float
    bin_s: float
    bins: int
    fitted_at_s: float
    converged: bool = True

    def __post_init__(self) -> None:
        if not (abs(self.phi) < 1 and abs(self.theta) <= MOST_THETA):
            raise ValueError(f"phi {self.phi:g} must lie between -1 and 1, theta {self.theta:g} within {MOST_THETA:g} of 0")

    @property
    def reach(self) -> int:
        """How many of the newest values matter; the weight of what was before them is below `FORGOTTEN`."""
        decay = abs(self.theta)
        return 2 + (math.ceil(math.log(FORGOTTEN) / math.log(decay)) if decay > FORGOTTEN else 0)

    def forecast(self, newest: Floats, steps: float) -> float | None:
        """The value so many bins after the newest one, newest first, on the line between bins; None for fewer than two.

        Where the newest value would count negatively (psi < 0), its surprise is left out: a higher load never lowers a
        forecast (law 5).
        """
        changes = newest[:-1] - newest[1:]
        if not changes.size:
            return None
        weights = (self.phi + self.theta) * (-self.theta) ** np.arange(changes.size)
        whole = int(steps)
        growth = (1 - self.phi**whole) / (1 - self.phi) + (steps - whole) * self.phi**whole
        surprise = float(changes[0] - weights[:-1] @ changes[1:])
        left_out = max(0.0, -1.0 - (self.phi + self.theta) * growth)
        return float(newest[0] + growth * float(weights @ changes) + left_out * surprise)


@dataclass(frozen=True, slots=True)
class FitTask:
    """A fit to be made: of whom, to which bins (oldest first, NaN for missing), and what to start from."""

    key: str
    values: tuple[float, ...]
    bin_s: float
    ends_s: float
    start: ArimaFit | None

    @property
    def failed(self) -> ArimaFit:
        """What stands for a fit that could not be had."""
        return ArimaFit(0.0, 0.0, 0.0, self.bin_s, len(self.values), self.ends_s, converged=False)
