"""How do several workers of one sidecar show one set of counters, and what does /metrics say?

Workers share a port, so a scrape reaches any one of them. Each writes its counts into its row of a shared piece of memory once
a second, and whoever is asked adds up all rows: itself as it is now, the others as they were up to a second ago. A row has two
halves and a byte that names the one that is whole, so a reader never waits and never sees half a row. A worker that is started
anew goes on from its predecessor's row: counters never fall.

    pdautoscaler_sidecar_decisions_total            every verdict: mode, decision, reason, class
    pdautoscaler_sidecar_rejected_requests_total    requests turned away at their first try; what the scaler adds to the load
    pdautoscaler_sidecar_rejected_tokens_total      their prompts
    pdautoscaler_sidecar_readmitted_requests_total  let in at a later try: the gateway has counted them, take them off again
    pdautoscaler_sidecar_unreadable_total           questions and states that could not be read, and faults of ours (`what`)
    pdautoscaler_sidecar_state_age_seconds          of the picture that this worker judges by
    pdautoscaler_sidecar_shadow_share               what shadow mode tells (ledger.py): `what` and the `end` of the range

`namespace` and `model_name` are the fleet's by the state; classes are the policy's, each told from 0 on: Prometheus sees no
increase in a series that begins at 50. Nothing a client writes becomes a label.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from autoscaler.core.rejection import RejectionMode
from autoscaler.sidecar.board import Board
from autoscaler.sidecar.ledger import Hindsight, Ledger

ROW_BYTES = 131_072
PREFIX = "pdautoscaler_sidecar_"

Labels = tuple[tuple[str, str], ...]
Counts = dict[tuple[str, Labels], float]


class Row(msgspec.Struct, frozen=True):
    """One worker's counts as they are stored."""

    counts: list[tuple[str, list[tuple[str, str]], float]]


class Rows:
    """The rows of all workers. Made before they are; each then writes `mine` and reads all."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, workers * ROW_BYTES)
        self._workers, self._mine = workers, 0
        self._before: Counts = {}

    def take(self, mine: int) -> None:
        """From now on this process writes the row `mine`, going on from what stands there."""
        self._mine = mine
        self._before = self._read(mine)

    def write(self, counts: Counts) -> None:
        """Put this worker's counts where the others see them. What does not fit is not shown: it never does not."""
        text = msgspec.msgpack.encode(Row([(name, list(labels), value) for (name, labels), value in self._own(counts).items()]))
        half = ROW_BYTES // 2
        if len(text) > half - 8:
            return
        start = self._mine * ROW_BYTES
        other = 1 - self._memory[start]
        place = start + 8 + other * (half - 4)
        self._memory[place : place + 4] = len(text).to_bytes(4, "big")
        self._memory[place + 4 : place + 4 + len(text)] = text
        self._memory[start] = other

    def total(self, counts: Counts) -> Counts:
        """The counts of this worker as given, and every other's as written."""
        found = self._own(counts)
        for row in range(self._workers):
            if row != self._mine:
                _add(found, self._read(row))
        return found

    def _own(self, counts: Counts) -> Counts:
        found = dict(self._before)
        _add(found, counts)
        return found

    def _read(self, row: int) -> Counts:
        start, half = row * ROW_BYTES, ROW_BYTES // 2
        place = start + 8 + self._memory[start] * (half - 4)
        size = int.from_bytes(self._memory[place : place + 4], "big")
        if not 0 < size <= half - 8:
            return {}
        try:
            row_text = msgspec.msgpack.decode(self._memory[place + 4 : place + 4 + size], type=Row)
        except msgspec.MsgspecError:  # read for longer than it took to write twice
            return {}
        return {(name, tuple(labels)): value for name, labels, value in row_text.counts}


def counts(ledger: Ledger, board: Board) -> Counts:
    """What one worker has counted, by metric and labels."""
    fleet, found = _fleet(board), Counts()
    untouched = dict.fromkeys(board.picture.rules.classes, 0.0) if board.picture else {}
    for (mode, admit, why, qos, _), count in tuple(ledger.verdicts.items()):
        labels = (*fleet, ("mode", mode), ("decision", "admit" if admit else "reject"), ("reason", why), ("class", qos))
        _add(found, {("decisions_total", labels): count})
    rows: dict[str, Mapping[str, float]] = {
        "rejected_requests_total": ledger.total(admitted=False, again=False),
        "rejected_tokens_total": dict(ledger.rejected_tokens),
        "readmitted_requests_total": ledger.total(admitted=True, again=True),
    }
    for name, by_class in rows.items():
        _add(found, {(name, (*fleet, ("class", qos))): value for qos, value in {**untouched, **by_class}.items()})
    for what, value in (("question", ledger.unreadable), ("state", board.unreadable), ("fault", ledger.faults)):
        _add(found, {("unreadable_total", (("what", what),)): value})
    return found


def _fleet(board: Board) -> Labels:
    picture = board.picture
    return ("namespace", picture.namespace if picture else ""), ("model_name", picture.model_name if picture else "")


def text(found: Counts, ledger: Ledger, board: Board, now: float) -> str:
    """The page for Prometheus: counters of all workers, gauges of this one."""
    lines = [*_lines(found, "counter"), *_lines(dict(_gauges(ledger.hindsight, board, now)), "gauge")]
    return "\n".join(lines) + "\n"


def _gauges(hindsight: Hindsight | None, board: Board, now: float) -> Iterator[tuple[tuple[str, Labels], float]]:
    picture = board.picture
    if picture is not None:
        yield ("state_age_seconds", ()), picture.age_s(now)
        yield ("arrivals_share", ()), picture.standing.share
        for mode in RejectionMode:
            yield ("mode", (("mode", mode.value),)), float(mode is picture.mode)
    if hindsight is not None:
        fleet = _fleet(board)
        yield ("shadow_share", (*fleet, ("what", "rejected"), ("end", "both"))), hindsight.rejected
        for what, ends in (("could_be_served", hindsight.could_be_served), ("missed", hindsight.missed)):
            for end, value in zip(("least", "most"), ends, strict=True):
                yield ("shadow_share", (*fleet, ("what", what), ("end", end))), value


def _lines(found: Mapping[tuple[str, Labels], float], kind: str) -> Iterable[str]:
    told = ""
    for (name, labels), value in sorted(found.items()):
        if name != told:
            told = name
            yield f"# TYPE {PREFIX}{name} {kind}"
        words = ",".join(f'{label}="{_escaped(word)}"' for label, word in labels)
        yield f"{PREFIX}{name}{{{words}}} {value:.15g}"


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _add(found: Counts, more: Mapping[tuple[str, Labels], float]) -> None:
    for key, value in more.items():
        found[key] = found.get(key, 0.0) + value
