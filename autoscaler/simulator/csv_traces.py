"""How are traces in csv read?

    Azure    TIMESTAMP,ContextTokens,GeneratedTokens           a date and time, to 100 ns
    plain    timestamp,prompt_tokens,output_tokens[,cached_tokens]   seconds, or a date and time

Columns are found by their names, in any order, others are left alone. Azure tells nothing about prefixes: nothing is
cached. A request without an output token was cut off; its prefill was computed and gave one token.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from autoscaler.simulator.replay import Recorded
from autoscaler.simulator.trace_lines import Line, Row, RowError, Skipped, made

AZURE_FIELDS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
PLAIN_FIELDS = ("timestamp", "prompt_tokens", "output_tokens")
CACHED = "cached_tokens"
LATEST_S = 1e11  # the year 5138, counted from 1970


def azure(path: Path, header: Sequence[str], lines: Iterable[Line], skipped: Skipped | None = None) -> Iterator[Recorded]:
    """The requests of these lines, the first at 0 s. Raises TraceError."""
    return made(lines, _Clocked(path, header, _azure_time, _azure_request).recorded, skipped)


def plain(path: Path, header: Sequence[str], lines: Iterable[Line], skipped: Skipped | None = None) -> Iterator[Recorded]:
    """The requests of these lines, the first at 0 s. Raises TraceError."""
    request = partial(_plain_request, CACHED in header)
    return made(lines, _Clocked(path, header, _plain_time, request).recorded, skipped)


def row_of(path: Path, header: Sequence[str], number: int, line: str) -> Row:
    """One line of csv under its header. Raises RowError for quotes that do not close."""
    where = f"{path} line {number}"
    try:
        values = next(csv.reader([line], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise RowError(f"{where}: not a row of csv: {error}") from None
    return Row(where, dict(zip(header, values, strict=False)))


class _Clocked:
    """Reads rows that carry a time, and knows the first and the last of them."""

    def __init__(
        self, path: Path, header: Sequence[str], time: Callable[[Row], tuple[str, float]], request: Callable[[Row], Recorded]
    ) -> None:
        self._path, self._header, self._time, self._request = path, header, time, request
        self._first_s: float | None = None
        self._last_s = 0.0

    def recorded(self, number: int, line: str) -> Recorded:
        """One row; a refused one is not remembered."""
        row = row_of(self._path, self._header, number, line)
        field, at_s = self._time(row)
        if self._first_s is not None and at_s < self._last_s:
            raise row.wrong(field, "at or after the one before it")
        request = self._request(row)
        self._first_s = at_s if self._first_s is None else self._first_s
        self._last_s = at_s
        return request._replace(arrival_s=at_s - self._first_s)


def _azure_time(row: Row) -> tuple[str, float]:
    return "TIMESTAMP", row.moment("TIMESTAMP").timestamp()


def _azure_request(row: Row) -> Recorded:
    output = row.tokens("GeneratedTokens", 0)
    return Recorded(0.0, row.tokens("ContextTokens", 1), 0, max(1, output))


def _plain_time(row: Row) -> tuple[str, float]:
    """Seconds where the field is a number; a date has more than one dash or colon and never is one."""
    written = str(row.fields.get("timestamp", ""))
    if "-" in written[1:] and ":" in written:
        return "timestamp", row.moment("timestamp").timestamp()
    return "timestamp", row.number("timestamp", 0, LATEST_S, "a date and time, or seconds")


def _plain_request(with_cached: bool, row: Row) -> Recorded:
    prompt, output = row.tokens("prompt_tokens", 1), row.tokens("output_tokens", 0)
    cached = row.tokens(CACHED, 0) if with_cached else 0
    if cached > prompt:
        raise row.wrong(CACHED, f"within the prompt (0..{prompt})")
    return Recorded(0.0, prompt, min(cached, prompt - 1), max(1, output))
