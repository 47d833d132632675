"""How do statuses and ticks become a /metrics page?

The controller's thread reports, the web server's asks: `report` keeps the newest status and adds to the fleet's counts,
`collect` takes a picture of both under the lock and makes the families outside it: no tick waits for the lock while the
120,000 lines of 1,000 fleets are written (0.9 s CPU).
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from threading import Lock

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from autoscaler import __version__
from autoscaler.adapters.own_metrics.fits import Fits, fit_counters
from autoscaler.adapters.own_metrics.gauges import gauges
from autoscaler.adapters.own_metrics.tally import Tally, counters
from autoscaler.core.reason import Reason
from autoscaler.core.status import Status

BELIEVED_S = 300.0  # how long Prometheus itself goes on showing a series that has gone silent
EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Tick = Callable[[], Sequence[Status]]


class OwnMetrics:
    """StatusSink and prometheus_client collector; every method may be called from any thread.

    `interval_s` is the real time between two ticks. `wall` gives seconds since 1970, `monotonic` seconds of a clock that
    never steps back.
    """

    def __init__(
        self, interval_s: float, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s, self._wall, self._monotonic = interval_s, wall, monotonic
        self._lock = Lock()
        self._latest: dict[str, tuple[float, Status]] = {}
        self._tallies: dict[str, Tally] = {}
        self._ticks = self._errors = 0
        self._buckets = [0] * (len(EDGES_S) + 1)
        self._ticking_s = 0.0
        self._last_tick_s: float | None = None
        self._skipped: Callable[[], int] = int
        self._written: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._fits: Callable[[], Fits] = Fits
        self._process = ProcessCollector(registry=None)

    def report(self, status: Status) -> None:
        """Keep the newest status of a fleet and count what happened."""
        with self._lock:
            self._latest[status.key] = (self._monotonic(), status)
            self._tallies.setdefault(status.key, Tally()).add(status)
            self._errors += sum(finding.reason is Reason.INTERNAL_ERROR for finding in status.plan.findings)

    def forget(self, key: str) -> None:
        """A fleet that is managed no more is gone from the page, its counts with it."""
        with self._lock:
            self._latest.pop(key, None)
            self._tallies.pop(key, None)

    def timed(self, tick: Tick) -> Tick:
        """The same tick, timed and counted."""

        def run() -> Sequence[Status]:
            began = self._monotonic()
            try:
                statuses = tick()
            except Exception:
                with self._lock:
                    self._errors += 1
                raise
            self._ticked(self._monotonic() - began)
            return statuses

        return run

    def count_skipped(self, skipped: Callable[[], int]) -> None:
        """Where to ask how many ticks were skipped; 0 until told."""
        self._skipped = skipped

    def count_written(self, written: Callable[[], tuple[int, int]]) -> None:
        """Where to ask how many writes of statuses and Events the cluster took, and how many it did not; 0 until told."""
        self._written = written

    def count_fits(self, fits: Callable[[], Fits]) -> None:
        """Where to ask what became of the fits of ARIMA; 0 until told."""
        self._fits = fits

    def page(self) -> tuple[bytes, str]:
        """The page in Prometheus' text format, and its content type."""
        return generate_latest(self), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """Every family of the table in the package's head, then those of the process."""
        with self._lock:
            oldest = self._monotonic() - BELIEVED_S
            statuses = [status for at_s, status in self._latest.values() if at_s >= oldest]
            tallies = {status.key: self._tallies[status.key].copy() for status in statuses}
            own = list(self._own(len(statuses)))
        yield from own
        yield from gauges(statuses)
        yield from counters(tallies)
        yield from fit_counters(self._fits())
        yield from self._process.collect()

    def _ticked(self, took_s: float) -> None:
        with self._lock:
            self._ticks += 1
            self._buckets[bisect_left(EDGES_S, took_s)] += 1
            self._ticking_s += took_s
            self._last_tick_s = self._wall()

    def _own(self, fleets: int) -> Iterator[Metric]:
        """What is told of the controller and of no fleet."""
        yield InfoMetricFamily("pd_autoscaler_build", "Which version this is.", {"version": __version__})
        yield GaugeMetricFamily("pd_autoscaler_fleets", "Fleets under management.", fleets)
        duration = HistogramMetricFamily("pd_autoscaler_tick_duration_seconds", "Seconds one tick over all fleets took.")
        edges = [*map(str, EDGES_S), "+Inf"]
        duration.add_metric([], list(zip(edges, map(float, accumulate(self._buckets)), strict=True)), self._ticking_s)
        yield duration
        yield GaugeMetricFamily("pd_autoscaler_tick_interval_seconds", "Seconds wanted between two ticks.", self._interval_s)
        if self._last_tick_s is not None:
            text = "When the last tick ended, in seconds since 1970."
            yield GaugeMetricFamily("pd_autoscaler_last_tick_timestamp_seconds", text, self._last_tick_s)
        yield CounterMetricFamily("pd_autoscaler_ticks", "Ticks that ended.", self._ticks)
        yield CounterMetricFamily("pd_autoscaler_ticks_skipped", "Ticks that were due and did not happen.", self._skipped())
        taken, failed = self._written()
        written = CounterMetricFamily(
            "pd_autoscaler_status_writes", "Writes of statuses and Events, by whether the cluster took them.", labels=("result",)
        )
        written.add_metric(["taken"], taken)
        written.add_metric(["failed"], failed)
        yield written
        yield CounterMetricFamily("pd_autoscaler_internal_errors", "Faults of our own; the fleet was held.", self._errors)
