"""How is a Mooncake trace read?

    {"timestamp": ms, "input_length": tokens, "output_length": tokens, "hash_ids": [block, ...]}

Two traps. Its timestamps are batched about 3 s apart (1,180 distinct ones for 12,031 requests), which would look like
bursts of ten: the requests of one batch are spread evenly up to the next timestamp, but over no more than 5 s: what was held
together for an export came within its interval, however long nobody came afterwards. And `input_length` holds the cached
prefix: `hash_ids` name the 512-token blocks of the prompt, and the leading ones seen before are in cache. Counted here,
that cache is unbounded and shared by all replicas, an upper bound (36.6 % of the blocks of the conversation trace); the
names go along, for replicas that have caches of their own. One token of a prompt is always computed, as engines do.

One batch is held in memory, and the names of the blocks seen: 66 MB for a million of them, which is 512 million tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from autoscaler.simulator.replay import Recorded
from autoscaler.simulator.trace_lines import Line, Row, RowError, Skipped, made, told

BLOCK_TOKENS = 512
LONGEST_BATCH_S = 5.0


def mooncake(path: Path, lines: Iterable[Line], skipped: Skipped | None = None) -> Iterator[Recorded]:
    """The requests of these lines, the first at 0 s. Raises TraceError."""
    batch: list[Recorded] = []
    gap_s = 0.0
    for recorded in made(lines, _Reader(path).recorded, skipped):
        if batch and recorded.arrival_s != batch[0].arrival_s:
            gap_s = min(recorded.arrival_s - batch[0].arrival_s, LONGEST_BATCH_S)
            yield from _spread(batch, gap_s)
            batch.clear()
        batch.append(recorded)
    yield from _spread(batch, gap_s)


class _Reader:
    """Knows the time of the first and of the last row, and which blocks came before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first_s: float | None = None
        self._last_s = 0.0
        self._seen: set[int] = set()

    def recorded(self, number: int, line: str) -> Recorded:
        """One row. Everything in it is checked before it is remembered, so that a refused row leaves no trace."""
        where = f"{self._path} line {number}"
        row = Row(where, _object(where, line))
        at_s = row.milliseconds("timestamp")
        if at_s < self._last_s:
            raise row.wrong("timestamp", "at or after the one before it")
        prompt, output = row.tokens("input_length", 1), row.tokens("output_length", 0)
        blocks = row.blocks("hash_ids")
        self._first_s = at_s if self._first_s is None else self._first_s
        self._last_s = at_s
        cached = min(_leading(blocks, self._seen) * BLOCK_TOKENS, prompt - 1)
        return Recorded(at_s - self._first_s, prompt, cached, max(1, output), blocks)


def _object(where: str, line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RowError(f"{where}: {told(line)} is not a JSON object")
    return value


def _spread(batch: list[Recorded], gap_s: float) -> Iterator[Recorded]:
    for place, recorded in enumerate(batch):
        yield recorded._replace(arrival_s=recorded.arrival_s + gap_s * place / len(batch))


def _leading(blocks: tuple[int, ...], seen: set[int]) -> int:
    """How many leading blocks were seen before; all of them are from now on."""
    known = next((place for place, block in enumerate(blocks) if block not in seen), len(blocks))
    seen.update(blocks)
    return known
