"""What did Prometheus have to say over a span of days, asked in pieces that it and we can hold?

A range query evaluates an expression at every step. Prometheus refuses more than 11,000 points per series, and an answer for
many pods outgrows any memory long before, so a span is asked for in chunks of at most 1,000 steps: a week at 60 s is eleven
questions per signal. Point k stands for the step that ends there, (start + k step, start + (k + 1) step]: rates over windows
of one step then lie side by side, and no increase is counted twice.

Deadline, size limit, credentials and words for what went wrong are those of the client for instant queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_api_client.exceptions import PrometheusApiClientException

from autoscaler.adapters.prometheus.client import PrometheusClient, Row, why_not
from autoscaler.core.observation import Gap, Unknown
from autoscaler.refusal import Refusal

CHUNK_STEPS = 1_000
MOST_STEPS = 50_000  # five weeks at 60 s; a step's histograms take about 5 KB


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, and how finely: seconds since 1970, all whole. Raises Refusal for what cannot be asked."""

    start_s: int
    end_s: int
    step_s: int

    def __post_init__(self) -> None:
        if self.step_s < 1 or self.end_s - self.start_s < self.step_s:
            raise Refusal(f"a span of {self.end_s - self.start_s} s holds no step of {self.step_s} s")
        if self.steps > MOST_STEPS:
            least_s = -(-(self.end_s - self.start_s) // MOST_STEPS)
            raise Refusal(
                f"{self.steps:,} steps of {self.step_s} s are too many (allowed: {MOST_STEPS:,}, a step >= {least_s} s)"
            )

    @property
    def steps(self) -> int:
        """How many whole steps it holds."""
        return (self.end_s - self.start_s) // self.step_s

    def chunks(self) -> Iterator[tuple[int, Span]]:
        """(first step, part) of each part that one query asks for."""
        for first in range(0, self.steps, CHUNK_STEPS):
            last = min(first + CHUNK_STEPS, self.steps)
            yield first, Span(self.start_s + first * self.step_s, self.start_s + last * self.step_s, self.step_s)


class RangeClient(PrometheusClient):
    """Asks one Prometheus range queries, one after the other."""

    def query_range(self, promql: str, span: Span) -> list[Row] | Unknown:
        """The rows of a matrix, `values` at the end of each step of a chunk, or why there are none."""
        self._span = span
        return self.query(promql, self._endpoint.timeout_s)

    def _ask(self, promql: str, within_s: float) -> list[Row] | Unknown:
        span, url = self._span, self._endpoint.url
        first, last = (datetime.fromtimestamp(at_s, UTC) for at_s in (span.start_s + span.step_s, span.end_s))
        limit = {"timeout": f"{round(within_s * 1000)}ms"}
        try:
            rows: object = self._prometheus.custom_query_range(promql, first, last, str(span.step_s), limit)
        except (PrometheusApiClientException, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            return why_not(error, self._endpoint)
        return rows if isinstance(rows, list) else Unknown(Gap.MALFORMED, f"{url}: the result is no list")
