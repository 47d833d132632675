"""Which lines of an engine's page of metrics count, and what do they say?

Of 5,000 lines that an engine tells, some ten are wanted; only those are parsed, and the rest may be what it likes. A page that
is half there cannot be told from one of an engine at rest, so a wanted line that cannot be read spoils it (ValueError).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from autoscaler.adapters.engines.client import Engine, EngineFault, FaultKind, fetch

# The parser's time grows with the square of a line's labels: 20,000 take 0.6 s, 4,096 characters of them 2 ms. A gauge of an
# engine has a dozen labels, and one line per rank.
LONGEST = 4096  # characters
MOST = 10_000  # lines that count

# Labels by which one number is told several times.
SAME = frozenset({"tp_rank", "pp_rank", "moe_ep_rank", "pid", "priority"})


def page(engine: Engine, paths: Sequence[str], within_s: float) -> bytes | EngineFault:
    """The page at the first of these paths that there is. Takes `within_s` seconds at most, per path."""
    found = fetch(engine, paths[0], within_s)
    for path in paths[1:]:
        if not isinstance(found, EngineFault) or found.kind is not FaultKind.ABSENT:
            break
        found = fetch(engine, path, within_s)
    return found


def samples(exposition: bytes, wanted: Collection[str]) -> Iterator[Sample]:
    """The samples of these metrics (`wanted` as `plain` names them). Raises ValueError for a line of theirs that cannot be read,
    and for a number that is none of anything.
    """
    for sample in _parsed(_lines(exposition, wanted)):
        if not 0 <= sample.value < math.inf:
            raise ValueError(f"{sample.name} is {sample.value}, which is no number of anything")
        yield sample


def plain(name: str) -> str:
    """The name without the colon after its prefix, which some exporters turn into `_` (queues.py)."""
    return name.replace(":", "_", 1)


def _parsed(lines: Iterable[str]) -> list[Sample]:
    try:
        return [sample for family in text_string_to_metric_families("\n".join(lines)) for sample in family.samples]
    except IndexError as error:  # the parser raises it for some lines, a ValueError for most that it cannot read
        raise ValueError("a line that is no sample") from error


def _lines(exposition: bytes, wanted: Collection[str]) -> Iterator[str]:
    lines = 0
    begin = tuple(spelt.encode() for name in wanted for spelt in (name, name.replace("_", ":", 1)))
    for told in exposition.split(b"\n"):
        if not told.lstrip().startswith(begin):  # as most do: 0.2 ms less for 1,200 lines
            continue
        line = told.decode(errors="replace")
        words = line.partition("{")[0].split(maxsplit=1)
        if words and plain(words[0]) in wanted:
            lines += 1
            if len(line) > LONGEST or lines > MOST:
                raise ValueError(f"{words[0]} has a line of {len(line)} characters, or more than {MOST} lines")
            yield line
