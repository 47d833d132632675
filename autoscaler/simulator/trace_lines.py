"""Which lines does a trace file have, what stands in their fields, and where is what wrong?

Lines come one by one, unpacked from gzip where the file's first bytes say so, and numbered. A `Row` is one line with
named fields; it reads numbers and times out of them, and what it cannot read it names: file, line, field, value, and what
is allowed.

Two kinds of trouble are kept apart. A `RowError` is one row that nobody can read; whoever passes a `Skipped` tally goes
on with the next row and knows at the end how many were left out. A plain `TraceError` (no file, broken gzip, no text, a
line without end) ends the reading always.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from autoscaler.refusal import Refusal

MOST_TOKENS = 10_000_000
LONGEST_LINE = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"

Line = tuple[int, str]
Made = TypeVar("Made")


class TraceError(Refusal, ValueError):
    """A trace that cannot be replayed. The message is one line for the user."""


class RowError(TraceError):
    """One row of a trace that cannot be read."""


@dataclass(slots=True)
class Skipped:
    """How many rows were left out because they cannot be read, and what was wrong with the first of them."""

    rows: int = 0
    first: str = ""

    @property
    def told(self) -> str:
        """In one line, for people; empty if none was."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{rows} skipped; the first: {self.first}" if self.rows else ""

    def add(self, error: RowError) -> None:
        """Count one more."""
        self.rows += 1
        self.first = self.first or str(error)


@dataclass(frozen=True, slots=True)
class Row:
    """One line, which can read its fields and say what is wrong with them."""

    where: str
    fields: Mapping[str, object]

    def wrong(self, field: str, allowed: str) -> RowError:
        """The error that this field is not what is allowed."""
        value = self.fields.get(field)
        return RowError(f"{self.where}: {field} {'is missing, not' if value is None else told(value) + ' is not'} {allowed}")

    def tokens(self, field: str, least: int) -> int:
        """A whole number: a number in json, digits in csv."""
        value = self.fields.get(field)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_TOKENS:
            return value
        raise self.wrong(field, f"a whole number {least}..{MOST_TOKENS}")

    def number(self, field: str, least: float, most: float, what: str = "a number") -> float:
        """A number within `least`..`most`, as json or as csv writes it."""
        value = self.fields.get(field)
        try:
            number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
        except (ValueError, OverflowError):
            number = math.nan
        if least <= number <= most:
            return number
        raise self.wrong(field, f"{what} {least:g}..{most:g}")

    def milliseconds(self, field: str) -> float:
        """A finite number >= 0, in seconds."""
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

    def blocks(self, field: str) -> tuple[int, ...]:
        """Whole numbers; none if the field is not there."""
        value = self.fields.get(field, [])
        if isinstance(value, list) and all(type(block) is int for block in value):
            return tuple(value)
        raise self.wrong(field, "a list of whole numbers")


def filled_lines(path: Path) -> Iterator[Line]:
    """The numbered lines that are not blank, stripped. Raises TraceError."""
    for number, line in _lines(path):
        stripped = line.strip()
        if stripped:
            yield number, stripped


def made(lines: Iterable[Line], make: Callable[[int, str], Made], skipped: Skipped | None) -> Iterator[Made]:
    """`make(number, line)` of every line. A RowError from it ends the reading, unless there is a tally to count it in."""
    for number, line in lines:
        try:
            row = make(number, line)
        except RowError as error:
            if skipped is None:
                raise
            skipped.add(error)
        else:
            yield row


def told(value: object) -> str:
    """A value as it may stand in a one-line message."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _lines(path: Path) -> Iterator[Line]:
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
