"""How do the fits of ARIMA go, which happen in a process of their own (adapters/arima.py)?

A fit that failed was given up, did not converge or was lost with its worker; it leaves its series to the other candidates.
Warnings are the library's, about a fifth of the fits has one. A restart is a worker that died or fell silent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, Metric


@dataclass(frozen=True, slots=True)
class Fits:
    """What became of the fits since the process began."""

    fitted: int = 0
    failed: int = 0
    warnings: int = 0
    restarts: int = 0


def fit_counters(fits: Fits) -> Iterator[Metric]:
    """Their families, which add `_total` to the name of each sample."""
    ended = CounterMetricFamily("pd_autoscaler_arima_fits", "Fits of ARIMA, by how they ended.", labels=("result",))
    ended.add_metric(["fitted"], fits.fitted)
    ended.add_metric(["failed"], fits.failed)
    yield ended
    yield CounterMetricFamily("pd_autoscaler_arima_warnings", "Warnings caught while fitting ARIMA.", fits.warnings)
    yield CounterMetricFamily("pd_autoscaler_arima_worker_restarts", "Workers replaced, dead or silent.", fits.restarts)
