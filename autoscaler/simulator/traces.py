"""How is recorded traffic read?

Two formats, told apart by what is in the file and not by its name; gzip too:

    Mooncake jsonl   {"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [block, ...]}
    Azure csv        TIMESTAMP,ContextTokens,GeneratedTokens

Mooncake timestamps are batched about 3 s apart (1,180 distinct ones for 12,031 requests), which would look like bursts
of ten; the requests of one batch are spread evenly up to the next timestamp. Its hash_ids name 512-token blocks of the
prompt: the leading ones seen before are in cache. That cache is unbounded and shared by all replicas, an upper bound;
one token of a prompt is always computed, as engines do. Azure tells nothing about prefixes: nothing is cached.

Everything streams: a trace is never held in memory. A row that nobody can read raises `TraceError`, one line that names
file, line, field, value and what is allowed; `measure` reads a whole trace in advance and so finds the first of them.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from random import Random

from autoscaler.refusal import Refusal
from autoscaler.simulator.replay import Recorded, Slice, cut, replayed
from autoscaler.simulator.workload import Request

BLOCK_TOKENS = 512
MOST_TOKENS = 10_000_000
LONGEST_LINE = 1 << 20
AZURE_FIELDS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_GZIP_MAGIC = b"\x1f\x8b"


class TraceError(Refusal, ValueError):
    """A trace that cannot be replayed. The message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What a trace contains: requests, seconds from the first to the last, mean lengths in tokens."""

    requests: int
    duration_s: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float

    @property
    def rate_rps(self) -> float:
        """Mean requests per second; 0 when all came at one instant."""
        return self.requests / self.duration_s if self.duration_s > 0 else 0.0


def read_trace(path: Path, rng: Random, part: Slice | None = None) -> Iterator[Request]:
    """The requests of `part` of a trace (all of it by default), sorted, the part's begin at time 0.

    Raises TraceError at once for a file that cannot be read or is no trace, and while iterating for a bad row.
    """
    return replayed(_recording(path), part or Slice(), rng)


def measure(path: Path, part: Slice | None = None) -> Measure:
    """Read the part from end to end, unscaled. Raises TraceError for the first thing wrong, or if nothing is in it."""
    part = part or Slice()
    requests, last_s = 0, 0.0
    sums = [0, 0, 0]
    for arrival_s, *tokens in cut(_recording(path), part):
        requests, last_s = requests + 1, arrival_s
        sums = [total + count for total, count in zip(sums, tokens, strict=True)]
    if not requests:
        where = "in it" if part == Slice() else f"from {part.start_s:g} s to {part.end_s:g} s"
        raise TraceError(f"{path}: no requests {where}")
    return Measure(requests, last_s, *(total / requests for total in sums))


def checked_trace(path: Path, rng: Random, part: Slice) -> Iterator[Request]:
    """`read_trace` after one reading from end to end, so that a bad row is refused before a run begins (0.15 s for
    19,366 requests). Raises TraceError.
    """
    measure(path, part)
    return read_trace(path, rng, part)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line, which can read its fields and say what is wrong with them."""

    where: str
    fields: Mapping[str, object]

    def wrong(self, field: str, allowed: str) -> TraceError:
        value = self.fields.get(field)
        return TraceError(f"{self.where}: {field} {'is missing, not' if value is None else _shown(value) + ' is not'} {allowed}")

    def tokens(self, field: str, least: int) -> int:
        """A whole number: a number in json, digits in csv."""
        value = self.fields.get(field)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_TOKENS:
            return value
        raise self.wrong(field, f"a whole number {least}..{MOST_TOKENS}")

    def milliseconds(self, field: str) -> float:
        """A finite number >= 0."""
        value = self.fields.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
            return value / 1000
        raise self.wrong(field, "a number of milliseconds >= 0")

    def moment(self, field: str) -> datetime:
        """A point in time; UTC where nothing else is said, since only differences count."""
        try:
            moment = datetime.fromisoformat(str(self.fields.get(field)))
        except ValueError:
            raise self.wrong(field, "a time like 2023-11-16 18:15:46.6805900") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def blocks(self, field: str) -> list[int]:
        """Whole numbers; none if the field is not there."""
        value = self.fields.get(field, [])
        if isinstance(value, list) and all(type(block) is int for block in value):
            return value
        raise self.wrong(field, "a list of whole numbers")


def _recording(path: Path) -> Iterator[Recorded]:
    """Open a trace, tell its format by its first line, and read that far, so that what is no trace fails here."""
    lines = ((number, line.strip()) for number, line in _lines(path))
    filled = ((number, line) for number, line in lines if line)
    first = next(filled, None)
    if first is None:
        raise TraceError(f"{path}: no requests in it")
    number, line = first
    if line.startswith("{"):
        return _mooncake(path, chain([first], filled))
    header = [name.strip() for name in line.split(",")]
    if set(AZURE_FIELDS) <= set(header):
        return _azure(path, header, filled)
    raise TraceError(
        f"{path} line {number}: {_shown(line)} begins neither a Mooncake trace (a JSON object)"
        f" nor an Azure one (the header {','.join(AZURE_FIELDS)})"
    )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, unpacked and decoded one by one, so that an error knows its line."""
    number = 0
    try:
        with path.open("rb") as start:
            packed = start.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        with gzip.open(path) if packed else path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise TraceError(f"{path} line {number}: longer than {LONGEST_LINE} bytes")
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise TraceError(f"{path} line {number}: not UTF-8 text") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(f"{path} line {number + 1}: broken gzip: {error}") from None
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from None


def _azure(path: Path, header: list[str], lines: Iterable[tuple[int, str]]) -> Iterator[Recorded]:
    first: datetime | None = None
    last_s = 0.0
    for number, line in lines:
        values = next(csv.reader([line], skipinitialspace=True))
        row = _Row(f"{path} line {number}", dict(zip(header, values, strict=False)))
        moment = row.moment("TIMESTAMP")
        first = first or moment
        arrival_s = (moment - first).total_seconds()
        if arrival_s < last_s:
            raise row.wrong("TIMESTAMP", "at or after the one before it")
        last_s = arrival_s
        output = max(1, row.tokens("GeneratedTokens", 0))  # 0: cut off; its prefill was computed and gave one token
        yield Recorded(arrival_s, row.tokens("ContextTokens", 1), 0, output)


def _mooncake(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[Recorded]:
    """Rows with their cached part; one batch of equal timestamps is held until the next tells how far to spread it."""
    seen: set[int] = set()
    batch: list[Recorded] = []
    first_s: float | None = None
    gap_s = 0.0
    for number, line in lines:
        row = _Row(f"{path} line {number}", _object(f"{path} line {number}", line))
        at_s = row.milliseconds("timestamp")
        first_s = at_s if first_s is None else first_s
        if batch and at_s - first_s != batch[0].arrival_s:
            gap_s = at_s - first_s - batch[0].arrival_s
            if gap_s < 0:
                raise row.wrong("timestamp", "at or after the one before it")
            yield from _spread(batch, gap_s)
            batch.clear()
        prompt = row.tokens("input_length", 1)
        cached = min(_leading(row.blocks("hash_ids"), seen) * BLOCK_TOKENS, prompt - 1)
        batch.append(Recorded(at_s - first_s, prompt, cached, max(1, row.tokens("output_length", 0))))
    yield from _spread(batch, gap_s)


def _object(where: str, line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise TraceError(f"{where}: {_shown(line)} is not a JSON object")
    return value


def _spread(batch: list[Recorded], gap_s: float) -> Iterator[Recorded]:
    for place, recorded in enumerate(batch):
        yield recorded._replace(arrival_s=recorded.arrival_s + gap_s * place / len(batch))


def _leading(blocks: list[int], seen: set[int]) -> int:
    """How many leading blocks were seen before; all of them are from now on."""
    known = next((place for place, block in enumerate(blocks) if block not in seen), len(blocks))
    seen.update(blocks)
    return known


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
