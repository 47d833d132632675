"""How do ServeGen's rate tables become requests?

ServeGen published, for each client of a large service, what it sent in every 10 minutes of two weeks: not requests but
statistics. Two files, the second found beside the first by its name (client_rates -> client_lengths):

    rates     client,window_start_s,rate_rps,cv,...          windows of 600 s; one that is not there was silent
    lengths   client,window_start_s,in_p50,in_p90,in_p99,out_p50,...   parts of a day, 6 h each

Each client is a renewal process with gamma gaps of the window's rate and coefficient of variation c: shape 1/c^2, scale
c^2/rate. The first gap of a window is what is left of a gap under way, U x Gamma(shape + 1, scale), so that a window
has rate x 600 requests on average however bursty it is (begun with a whole gap, a client with c = 8.6 would send 36 too
many: (c^2 - 1) / 2). Lengths are lognormal through the median and the 90th percentile, cut at the 99th.

`scale` below 1 keeps that share of each client's requests, above 1 puts independent clients beside it. Of a renewal
process with share p kept, c^2 becomes p c^2 + 1 - p, and that is what is drawn: the counts' spread over their mean stays
what it was up to Poisson noise, and time is not stretched.

Clients without lengths (37 % of the rate of m-large) are left out, as the published token demand leaves them out. The
tables of the chosen part are held in memory, 175 bytes a window; requests stream.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import merge
from itertools import count
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import NamedTuple

from autoscaler.simulator.csv_traces import row_of
from autoscaler.simulator.replay import Slice
from autoscaler.simulator.trace_lines import MOST_TOKENS, Line, Row, RowError, Skipped, TraceError, filled_lines, made
from autoscaler.simulator.workload import Request

RATE_FIELDS = ("client", "window_start_s", "rate_rps", "cv")
LENGTH_FIELDS = ("client", "window_start_s", "in_p50", "in_p90", "in_p99", "out_p50", "out_p90", "out_p99")
WINDOW_S = 600.0
Z90 = 1.2815515655446004  # a standard normal is below it nine times of ten
_LAST_S = 1e9


class Window(NamedTuple):
    """What one client sent in 600 s: requests per second and the coefficient of variation of the gaps."""

    start_s: float
    rate_rps: float
    cv: float


class Tokens(NamedTuple):
    """A lognormal cut at `most`: its median and sigma."""

    median: float
    sigma: float
    most: float

    def draw(self, rng: Random) -> int:
        """One length, 1..most."""
        return max(1, round(min(self.most, self.median * math.exp(self.sigma * rng.gauss(0.0, 1.0)))))

    @property
    def mean(self) -> float:
        """E[min(X, most)], at least 1: the lognormal's partial mean below the cut, and the cut for the rest."""
        if self.sigma == 0:
            return max(1.0, min(self.most, self.median))
        cut = math.log(self.most / self.median) / self.sigma
        below = self.median * math.exp(self.sigma**2 / 2) * _normal(cut - self.sigma)
        return max(1.0, below + self.most * (1 - _normal(cut)))


class Mix(NamedTuple):
    """Prompt and output lengths of one client from `start_s` on."""

    start_s: float
    prompt: Tokens
    output: Tokens


@dataclass(frozen=True, slots=True)
class Client:
    """One client's windows and lengths, each in the order of time."""

    windows: tuple[Window, ...]
    mixes: tuple[Mix, ...]

    def mix(self, at_s: float) -> Mix:
        """The lengths at `at_s`; the first ones before that."""
        return self.mixes[max(0, bisect_right(self.mixes, at_s, key=itemgetter(0)) - 1)]


@dataclass(frozen=True, slots=True)
class Table:
    """The clients that have lengths, and only the windows that a part of the time touches."""

    clients: tuple[Client, ...]
    part: Slice

    def requests(self, rng: Random) -> Iterator[Request]:
        """The part's requests, sorted and numbered, its begin at time 0."""
        copies = math.ceil(self.part.scale)
        share = self.part.scale / copies
        streams = [
            _client(Random(rng.getrandbits(64)), client, self.part, share)  # noqa: S311 - a simulation, not a secret
            for client in self.clients
            for _ in range(copies)
        ]
        ids = count()
        for arrival_s, prompt, output in merge(*streams):
            yield Request(next(ids), arrival_s, prompt, 0, output)

    def expected(self) -> tuple[float, float, float]:
        """(requests, prompt tokens, output tokens) that the part has on average, unscaled."""
        sums = [0.0, 0.0, 0.0]
        for client in self.clients:
            for window in client.windows:
                begin_s, end_s = _within(window, self.part)
                requests, mix = window.rate_rps * (end_s - begin_s), client.mix(window.start_s)
                for place, per_request in enumerate((1.0, mix.prompt.mean, mix.output.mean)):
                    sums[place] += requests * per_request
        return sums[0], sums[1], sums[2]

    @property
    def length_s(self) -> float:
        """Seconds from the part's begin to the end of its last window."""
        ends = (_within(client.windows[-1], self.part)[1] for client in self.clients)
        return max(ends, default=self.part.start_s) - self.part.start_s


def read_table(path: Path, header: Sequence[str], lines: Iterator[Line], part: Slice, skipped: Skipped | None = None) -> Table:
    """The rate table of these lines and the lengths beside it. Raises TraceError if either cannot be read, or if the part
    holds nothing.
    """
    mixes = _mixes(_beside(path), skipped)
    windows: dict[str, list[Window]] = {}
    last: dict[str, float] = {}
    for client, window in made(lines, partial(_window, path, header, last), skipped):
        begin_s, end_s = _within(window, part)
        if client in mixes and window.rate_rps > 0 and begin_s < end_s:
            windows.setdefault(client, []).append(window)
    return Table(tuple(Client(tuple(kept), mixes[client]) for client, kept in windows.items()), part)


def _client(rng: Random, client: Client, part: Slice, share: float) -> Iterator[tuple[float, int, int]]:
    for window in client.windows:
        begin_s, end_s = _within(window, part)
        mix = client.mix(window.start_s)
        for at_s in _renewals(rng, window.rate_rps * share, share * window.cv**2 + 1 - share, end_s - begin_s):
            yield begin_s - part.start_s + at_s, mix.prompt.draw(rng), mix.output.draw(rng)


def _renewals(rng: Random, rate_rps: float, cv2: float, length_s: float) -> Iterator[float]:
    """A stationary renewal process with gamma gaps from 0 to `length_s`; with cv2 = 0 the gaps are all the same."""
    if cv2 < 1e-6:
        at_s, gap_s = rng.random() / rate_rps, 1 / rate_rps
        while at_s < length_s:
            yield at_s
            at_s += gap_s
        return
    shape, scale_s = 1 / cv2, cv2 / rate_rps
    at_s = rng.random() * rng.gammavariate(shape + 1, scale_s)
    while at_s < length_s:
        yield at_s
        at_s += rng.gammavariate(shape, scale_s)


def _within(window: Window, part: Slice) -> tuple[float, float]:
    """Begin and end of what a part leaves of a window; the begin is not before the end if nothing is left."""
    return max(window.start_s, part.start_s), min(window.start_s + WINDOW_S, part.end_s)


def _window(path: Path, header: Sequence[str], last: dict[str, float], number: int, line: str) -> tuple[str, Window]:
    """A row of the rate table; a client's rows must be in the order of time."""
    row = row_of(path, header, number, line)
    client, start_s = str(row.fields.get("client")), row.number("window_start_s", 0, _LAST_S)
    if start_s < last.get(client, -WINDOW_S) + WINDOW_S:
        raise row.wrong("window_start_s", f"at least {WINDOW_S:g} after the one before it of client {client}")
    window = Window(start_s, row.number("rate_rps", 0, 1e6), row.number("cv", 0, 1e4))
    last[client] = start_s
    return client, window


def _mixes(path: Path, skipped: Skipped | None) -> dict[str, tuple[Mix, ...]]:
    lines = filled_lines(path)
    header = next(lines, (0, ""))[1].split(",")
    if not set(LENGTH_FIELDS) <= set(header):
        raise TraceError(f"{path} line 1: not the header of a ServeGen length table ({','.join(LENGTH_FIELDS)})")
    mixes: dict[str, list[Mix]] = {}
    for client, mix in made(lines, partial(_mix, path, header), skipped):
        mixes.setdefault(client, []).append(mix)
    return {client: tuple(sorted(found)) for client, found in mixes.items()}


def _mix(path: Path, header: Sequence[str], number: int, line: str) -> tuple[str, Mix]:
    row = row_of(path, header, number, line)
    start_s = row.number("window_start_s", 0, _LAST_S)
    return str(row.fields.get("client")), Mix(start_s, _tokens(row, "in"), _tokens(row, "out"))


def _tokens(row: Row, side: str) -> Tokens:
    p50, p90, p99 = (max(1.0, row.number(f"{side}_{p}", 0, MOST_TOKENS)) for p in ("p50", "p90", "p99"))
    if not p50 <= p90 <= p99:
        raise RowError(f"{row.where}: {side}_p50 {p50:g}, {side}_p90 {p90:g}, {side}_p99 {p99:g} are not in rising order")
    return Tokens(p50, math.log(p90 / p50) / Z90, p99)


def _beside(path: Path) -> Path:
    """The length table that belongs to a rate table."""
    name = path.name.replace("client_rates", "client_lengths")
    if name == path.name or not (beside := path.with_name(name)).is_file():
        raise TraceError(
            f"{path}: a ServeGen rate table, but there is no length table beside it"
            " (NAME_client_rates.csv and NAME_client_lengths.csv, .gz too)"
        )
    return beside


def _normal(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2
