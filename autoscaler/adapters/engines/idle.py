"""How many requests are in this engine now, and since when are there none?

The engine itself is asked, never Prometheus, whose last sample is half a minute old. `look` is one scrape; `Looks` is what
successive looks come to. Both err on one side only: what is not told, cannot be read, or is asked of an engine that nobody
knows, counts as busy.

    numbers   by rank: each data-parallel rank has requests of its own, and they are added. Tensor, pipeline and expert ranks,
              several processes, and the classes of a priority tell of the same requests once more: of those the largest counts
    looks     one quiet look may fall between two requests, so the caller waits for several in a row. One sooner than
              `APART_S` after the last that counted is no further one: it may find the very same numbers
    held      an engine whose KV is still to be fetched is idle when that memory is free, or when it has been quiet for as
              long as it keeps KV for anyone (`lease_s`; vLLM with NIXL: 30 s, older versions 480 s; reference/engines.md B.3)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import chain

from autoscaler.adapters.engines.client import ASK_S, Engine, EngineFault, FaultKind
from autoscaler.adapters.engines.exposition import SAME, page, plain, samples
from autoscaler.adapters.engines.queues import TELLINGS, Names, Queues
from autoscaler.core.fleet import Role

LEASE_S = 30.0
APART_S = 0.9  # a caller that looks every second is sometimes a little early, which must not cost it a whole second
FREE = 0.001  # share of the KV memory: one block of 16 tokens in 16,000 tokens, or rounding

Ranks = Mapping[str, Collection[float]]  # by metric name, with `_` for `:`: what each rank with requests of its own tells


@dataclass(frozen=True, slots=True)
class Load:
    """What one look found: how many `requests`, which owed metrics are `missing`, and the share of KV memory `held` for other
    engines: 0 where those are among the requests, None where it is not told.
    """

    requests: int
    missing: tuple[str, ...] = ()
    held: float | None = 0.0

    @property
    def quiet(self) -> bool:
        """Whether it surely has no request."""
        return not self.requests and not self.missing


@dataclass(frozen=True, slots=True)
class Looks:
    """What successive looks at one engine came to: `count` of them in a row found it idle.

    `requests`: how many it had at the last look that told, None before that. `why`: what keeps it from being idle, one line.
    """

    count: int = 0
    requests: int | None = None
    why: str = "not looked at yet"
    quiet_since_s: float | None = None
    counted_s: float = -math.inf

    def after(self, look: Load | EngineFault, now: float, lease_s: float = LEASE_S) -> Looks:
        """These and one more. `now`: seconds of a clock that nobody sets; if it goes back all the same, counting begins anew."""
        if isinstance(look, EngineFault):
            return Looks(requests=self.requests, why=look.detail)
        if not look.quiet:
            return Looks(requests=look.requests or self.requests, why=_business(look))
        before = self if now >= self.counted_s else Looks()
        since_s = now if before.quiet_since_s is None else before.quiet_since_s
        if not (look.held is not None and look.held <= FREE) and now - since_s < lease_s:
            return Looks(requests=0, why=_holding(look, lease_s - (now - since_s)), quiet_since_s=since_s)
        if now - before.counted_s < APART_S:
            return replace(before, requests=0, quiet_since_s=since_s)
        return Looks(before.count + 1, 0, "", since_s, now)


def look(engine: Engine, role: Role, within_s: float = ASK_S) -> Load | EngineFault:
    """What is in an engine that has had this role, by its own word. Takes `within_s` seconds at most, per path."""
    telling = TELLINGS.get(engine.profile)
    if telling is None:
        return engine.fault(FaultKind.ABSENT, f"nobody knows which metrics of {engine.profile!r} count its requests")
    body = page(engine, telling.paths, within_s)
    if isinstance(body, EngineFault):
        return body
    try:
        return load(body, telling.queues[role])
    except ValueError as error:
        return engine.fault(FaultKind.MALFORMED, f"its metrics: {error}")


def load(exposition: bytes, queues: Queues) -> Load:
    """What an exposition in the text format tells. ValueError for one of its lines that cannot be read."""
    ranks = _ranks(exposition, {plain(name) for names in (*queues.owed, *queues.more, queues.held) for name in names})
    owed = {names[0]: _told(ranks, names) for names in queues.owed}
    missing = tuple(name for name, told in owed.items() if not told)
    requests = math.fsum(chain.from_iterable((*owed.values(), *(_told(ranks, names) for names in queues.more))))
    return Load(math.ceil(requests), missing, max(_told(ranks, queues.held), default=None) if queues.held else 0.0)


def _told(ranks: Ranks, names: Names) -> Collection[float]:
    return next((ranks[name] for name in map(plain, names) if name in ranks), ())


def _ranks(exposition: bytes, wanted: Collection[str]) -> Ranks:
    ranks: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for sample in samples(exposition, wanted):
        rank = frozenset((label, text) for label, text in sample.labels.items() if label not in SAME)
        of = ranks.setdefault(plain(sample.name), {})
        of[rank] = max(of.get(rank, 0.0), sample.value)
    return {name: of.values() for name, of in ranks.items()}


def _business(look: Load) -> str:
    if look.missing:
        return f"does not tell {', '.join(look.missing)}, so it may have requests"
    return f"{look.requests} request{'s' * (look.requests != 1)} in it"


def _holding(look: Load, left_s: float) -> str:
    told = "does not tell whether KV" if look.held is None else f"{look.held:.1%} of its KV memory"
    return f"{told} is still to be fetched; waits {left_s:.0f} s more at most"
