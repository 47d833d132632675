"""How are a case's requests played again and again without being read again?

Reading a trace or drawing lengths costs up to a fifth of a run, and everybody who is compared meets the same requests. A
`Tape` keeps them packed: 8 bytes for the arrival and 4 for each of three lengths, so a million requests take 20 MB where a
list of `Request` takes 200. The names of prompt blocks are kept only for a fleet that looks at them (`blocks`), since they
are as long as the prompts. A tape is read any number of times, from the begin each time, and gives what was put on it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Protocol

from autoscaler.simulator.workload import Request

LONGEST_TOKENS = 2**32 - 1  # what 4 bytes hold


class Requests(Protocol):
    """Requests that can be counted, and gone through again and again: a tape, or a plain sequence."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Request]: ...


class Tape:
    """Requests, packed. `ids` are those of their order: 0, 1, 2 ..., as every source numbers them."""

    __slots__ = ("_arrivals_s", "_blocks", "_cached", "_outputs", "_prompts")

    def __init__(self, requests: Iterable[Request], *, blocks: bool = False) -> None:
        """Read them all, once. OverflowError for a length beyond `LONGEST_TOKENS`."""
        self._arrivals_s = array("d")
        self._prompts, self._cached, self._outputs = array("I"), array("I"), array("I")
        self._blocks: list[tuple[int, ...]] | None = [] if blocks else None
        for request in requests:
            self._arrivals_s.append(request.arrival_s)
            self._prompts.append(request.prompt_tokens)
            self._cached.append(request.cached_tokens)
            self._outputs.append(request.output_tokens)
            if self._blocks is not None:
                self._blocks.append(request.blocks)

    def __len__(self) -> int:
        return len(self._arrivals_s)

    def __iter__(self) -> Iterator[Request]:
        """The requests, made anew."""
        blocks = repeat(()) if self._blocks is None else self._blocks
        return map(Request, range(len(self)), self._arrivals_s, self._prompts, self._cached, self._outputs, blocks)
