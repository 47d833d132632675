"""How is recorded traffic read?

Four formats, told apart by what is in the file and not by its name; gzip too:

    Mooncake jsonl   {"timestamp": ms, "input_length": tokens, ...}          mooncake.py
    Azure csv        TIMESTAMP,ContextTokens,GeneratedTokens                 csv_traces.py
    plain csv        timestamp,prompt_tokens,output_tokens[,cached_tokens]   csv_traces.py
    ServeGen rates   client,window_start_s,rate_rps,cv,...                   servegen.py

The first three are requests and become a run's traffic in replay.py; ServeGen's are rates, from which requests are drawn.

Everything streams: a trace is never held in memory. A row that nobody can read raises `TraceError`, one line that names
file, line, field, value and what is allowed; `measure` reads a whole trace in advance and so finds the first of them.
Whoever passes a `Skipped` tally gets the rest of the trace instead, and the count of the rows left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random

from autoscaler.simulator.csv_traces import AZURE_FIELDS, PLAIN_FIELDS, azure, plain
from autoscaler.simulator.mooncake import mooncake
from autoscaler.simulator.replay import Recorded, Slice, cut, replayed
from autoscaler.simulator.servegen import RATE_FIELDS, Table, read_table
from autoscaler.simulator.trace_lines import Line, Skipped, TraceError, filled_lines, told
from autoscaler.simulator.workload import Request

CsvReader = Callable[[Path, Sequence[str], Iterator[Line], Skipped | None], Iterator[Recorded]]
_CSV: Mapping[tuple[str, ...], CsvReader] = {AZURE_FIELDS: azure, PLAIN_FIELDS: plain}


@dataclass(frozen=True, slots=True)
class Measure:
    """What a trace contains: requests, seconds from the first to the last, mean lengths in tokens. Of rates: what they
    make on average.
    """

    requests: int
    duration_s: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float

    @property
    def rate_rps(self) -> float:
        """Mean requests per second; 0 when all came at one instant."""
        return self.requests / self.duration_s if self.duration_s > 0 else 0.0


def read_trace(path: Path, rng: Random, part: Slice | None = None, skipped: Skipped | None = None) -> Iterator[Request]:
    """The requests of `part` of a trace (all of it by default), sorted, the part's begin at time 0.

    Raises TraceError at once for a file that cannot be read or is no trace, and while iterating for a bad row; with a
    tally, bad rows are counted in it instead. A table of rates is read as a whole, so its bad rows come at once.
    """
    part = part or Slice()
    source = _opened(path, part, skipped)
    return source.requests(rng) if isinstance(source, Table) else replayed(source, part, rng)


def measure(path: Path, part: Slice | None = None, skipped: Skipped | None = None) -> Measure:
    """Read the part from end to end, unscaled. Raises TraceError for the first thing wrong, or if nothing is in it."""
    part = part or Slice()
    source = _opened(path, part, skipped)
    found = _expected(source) if isinstance(source, Table) else _counted(source, part)
    if not found.requests:
        where = "in it" if part == Slice() else f"from {part.start_s:g} s to {part.end_s:g} s"
        raise TraceError(f"{path}: no requests {where}")
    return found


@dataclass(frozen=True, slots=True)
class Recording:
    """A part of a trace as the traffic of a run; it can be sent to another process. `lenient`: rows that cannot be read are
    left out, and `measured` counts them.
    """

    path: Path
    part: Slice = Slice()
    lenient: bool = False

    def __call__(self, rng: Random) -> Iterator[Request]:
        """The requests. Raises TraceError as `read_trace` does."""
        return read_trace(self.path, rng, self.part, self._tally())

    def measured(self) -> tuple[Measure, Skipped]:
        """What is in it, and which rows were left out: one reading from end to end, so that a bad row is refused, or told,
        before a run begins (0.15 s for 19,366 requests). Raises TraceError.
        """
        skipped = self._tally()
        return measure(self.path, self.part, skipped), skipped or Skipped()

    def _tally(self) -> Skipped | None:
        return Skipped() if self.lenient else None


def _opened(path: Path, part: Slice, skipped: Skipped | None) -> Iterator[Recorded] | Table:
    """Open a trace, tell its format by its first line, and read that far, so that what is no trace fails here."""
    lines = filled_lines(path)
    first = next(lines, None)
    if first is None:
        raise TraceError(f"{path}: no requests in it")
    number, line = first
    if line.startswith("{"):
        return mooncake(path, chain([first], lines), skipped)
    header = [name.strip() for name in line.split(",")]
    if set(RATE_FIELDS) <= set(header):
        return read_table(path, header, lines, part, skipped)
    for fields, reader in _CSV.items():
        if set(fields) <= set(header):
            return reader(path, header, lines, skipped)
    raise TraceError(
        f"{path} line {number}: {told(line)} begins neither a Mooncake trace (a JSON object) nor an Azure one (the header"
        f" {','.join(AZURE_FIELDS)}), a plain one ({','.join(PLAIN_FIELDS)}) or ServeGen's rates ({','.join(RATE_FIELDS)})"
    )


def _counted(recording: Iterator[Recorded], part: Slice) -> Measure:
    requests, last_s = 0, 0.0
    sums = [0, 0, 0]
    for arrival_s, *tokens, _ in cut(recording, part):
        requests, last_s = requests + 1, arrival_s
        sums = [total + count for total, count in zip(sums, tokens, strict=True)]
    return Measure(requests, last_s, *(total / max(1, requests) for total in sums))


def _expected(table: Table) -> Measure:
    requests, prompt, output = table.expected()
    return Measure(round(requests), table.length_s, prompt / max(1, requests), 0.0, output / max(1, requests))
