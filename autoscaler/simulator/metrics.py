"""What would each replica and the gateway export?

Plain counters and bucket arrays, cheap enough to be written on every event of a run (a dozen additions per request),
read by two parties: `cluster.SampledSignals`, which copies them at each scrape, and `exporters`, which prints them.

Names, labels and edges are vLLM's (V1 engine, reference/engines.md C.1) and, for the gateway, those of llm-d's
endpoint picker (C.4). A prefill replica is asked for one token per request, as vLLM's disaggregated set-ups do: it
counts that request as finished for "length", with one generated token and 0 s per output token. A decode replica
receives the prompt by transfer and computes only its last token again.

Early rejection stands before the gateway, as the sidecar does: the gateway counts what it let through, and the sidecar's
own counter (`pdautoscaler_sidecar_rejected_requests_total`) each request that was turned away at its first try. One that is
let in at a later try is in both, so the sidecar counts it once more (`pdautoscaler_sidecar_readmitted_requests_total`), to be
taken off again. It knows which try it is and not how the one before ended: one that was let in and failed counts, too.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

TTFT_EDGES_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
TOKEN_TIME_EDGES_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip
REQUEST_TIME_EDGES_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0,
    7680.0,
)  # fmt: skip
GATEWAY_TTFT_EDGES_S = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0, 120.0,
)  # fmt: skip
GATEWAY_TPOT_EDGES_S = (
    0.0005, 0.00205, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 2.0,
)  # fmt: skip
# 32,778 is what the gateway really has, not 32,768.
GATEWAY_INPUT_EDGES = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32778, 65536,
                       131072, 262144, 524288, 1048576)  # fmt: skip
GATEWAY_OUTPUT_EDGES = GATEWAY_INPUT_EDGES[:12]


M = TypeVar("M", "ReplicaMetrics", "GatewayMetrics")


@cache
def token_edges(max_model_len: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50 ... up to and including `max_model_len`: the edges of vLLM's token histograms."""
    edges = (float(digit * 10**power) for power in range(len(str(max_model_len))) for digit in (1, 2, 5))
    return tuple(edge for edge in edges if edge <= max_model_len)


class Buckets:
    """A histogram: observations per bucket (not cumulative; the last is everything above the edges) and their sum."""

    __slots__ = ("counts", "edges", "total")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self.counts = [0.0] * (len(edges) + 1)
        self.total = 0.0

    def observe(self, value: float, weight: float = 1.0) -> None:
        """Count `value`, `weight` times; a value on an edge belongs below it, as `le` says."""
        self.counts[bisect_left(self.edges, value)] += weight
        self.total += value * weight

    @property
    def samples(self) -> float:
        """Observations so far."""
        return sum(self.counts)

    def copy(self) -> Buckets:
        """A picture that later observations do not change."""
        twin = Buckets(self.edges)
        twin.counts, twin.total = self.counts.copy(), self.total
        return twin

    def since(self, older: Buckets) -> Buckets:
        """What was observed after `older` was copied from this."""
        grown = Buckets(self.edges)
        grown.counts = [new - old for new, old in zip(self.counts, older.counts, strict=True)]
        grown.total = self.total - older.total
        return grown

    def plus(self, other: Buckets) -> Buckets:
        """Both together."""
        both = Buckets(self.edges)
        both.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        both.total = self.total + other.total
        return both


class ReplicaMetrics:
    """One replica's counters and histograms, from its first request on. Tokens and seconds."""

    __slots__ = (
        "cached_tokens", "computed_tokens", "cut", "fetched_tokens", "generated_tokens", "generation", "itl_s",
        "kv_computed", "prefill_s", "prompt", "stopped", "tpot_s", "ttft_s",
    )  # fmt: skip

    def __init__(self, max_model_len: int) -> None:
        edges = token_edges(max_model_len)
        self.computed_tokens = self.cached_tokens = self.fetched_tokens = 0
        self.generated_tokens = 0.0
        self.stopped = self.cut = 0
        self.ttft_s, self.prefill_s = Buckets(TTFT_EDGES_S), Buckets(REQUEST_TIME_EDGES_S)
        self.tpot_s, self.itl_s = Buckets(TOKEN_TIME_EDGES_S), Buckets(TOKEN_TIME_EDGES_S)
        self.prompt, self.generation, self.kv_computed = Buckets(edges), Buckets(edges), Buckets(edges)

    def prefilled(self, uncached_tokens: int, cached_tokens: int, ttft_s: float, prefill_s: float) -> None:
        """A prompt was computed in `prefill_s` and its one token given; the request is over for this replica."""
        self.computed_tokens += uncached_tokens
        self.cached_tokens += cached_tokens
        self.generated_tokens += 1
        self.cut += 1
        self.ttft_s.observe(ttft_s)
        self.prefill_s.observe(prefill_s)
        self._request(uncached_tokens + cached_tokens, 1, uncached_tokens, 0.0)

    def joined(self, prompt_tokens: int, ttft_s: float) -> None:
        """A prompt's KV has arrived and the request decodes; `ttft_s` from its arrival at this replica."""
        self.fetched_tokens += prompt_tokens - 1
        self.computed_tokens += 1
        self.ttft_s.observe(ttft_s)

    def finished(self, prompt_tokens: int, output_tokens: int, tpot_s: float) -> None:
        """A request gave its last token. Its tokens were counted while it ran."""
        self.stopped += 1
        self._request(prompt_tokens, output_tokens, 1, tpot_s)

    def _request(self, prompt_tokens: int, output_tokens: int, computed_tokens: int, tpot_s: float) -> None:
        self.prompt.observe(prompt_tokens)
        self.generation.observe(output_tokens)
        self.kv_computed.observe(computed_tokens)
        self.tpot_s.observe(tpot_s)

    @property
    def completed(self) -> int:
        """Requests this replica finished, for whatever reason."""
        return self.stopped + self.cut

    def copy(self) -> ReplicaMetrics:
        """A picture that later events do not change."""
        return _picture_of(self, ReplicaMetrics.__new__(ReplicaMetrics))


class GatewayMetrics:
    """The gateway's counters and histograms. A request counts when it arrives, each try anew, for the gateway knows no
    tries; its lengths count when it is answered. `turned_away` of the tries came no further than the sidecar, and
    `turned_away_first` of these were first ones. `readmitted` requests it let in at a later try.
    """

    __slots__ = (
        "arrived", "failed", "input_tokens", "output_tokens", "readmitted", "refused", "rejected", "running", "tpot_s", "ttft_s",
        "turned_away", "turned_away_first",
    )  # fmt: skip

    def __init__(self) -> None:
        self.arrived = self.refused = self.rejected = self.failed = self.running = 0
        self.turned_away = self.turned_away_first = self.readmitted = 0
        self.ttft_s, self.tpot_s = Buckets(GATEWAY_TTFT_EDGES_S), Buckets(GATEWAY_TPOT_EDGES_S)
        self.input_tokens = Buckets(tuple(map(float, GATEWAY_INPUT_EDGES)))
        self.output_tokens = Buckets(tuple(map(float, GATEWAY_OUTPUT_EDGES)))

    @property
    def let_in(self) -> int:
        """Tries that came past the sidecar."""
        return self.arrived - self.turned_away

    @property
    def unseen(self) -> int:
        """Requests that the gateway has not seen, as the sidecar tells it; those included whose client is about to try again."""
        return self.turned_away_first - self.readmitted

    def reject(self, first: bool) -> None:
        """A try was turned away as it arrived."""
        self.rejected += 1
        self.turned_away += 1
        self.turned_away_first += first

    def finished(self, prompt_tokens: int, output_tokens: int, tpot_s: float) -> None:
        """A request was answered in full; one token alone has no time per output token."""
        self.running -= 1
        self.input_tokens.observe(prompt_tokens)
        self.output_tokens.observe(output_tokens)
        if output_tokens > 1:
            self.tpot_s.observe(tpot_s)

    def dropped(self, rejected: bool) -> None:
        """A request that had been taken ended early: turned away between two roles, or failed."""
        self.running -= 1
        self.rejected += rejected
        self.failed += not rejected

    def copy(self) -> GatewayMetrics:
        """A picture that later events do not change."""
        return _picture_of(self, GatewayMetrics.__new__(GatewayMetrics))


def _picture_of(original: M, blank: M) -> M:
    for name in original.__slots__:
        value = getattr(original, name)
        setattr(blank, name, value.copy() if isinstance(value, Buckets) else value)
    return blank


@dataclass(frozen=True, slots=True)
class Occupancy:
    """One replica at one instant: requests running, waiting for room, waiting for their KV to arrive; KV in use, 0..1."""

    running: int
    waiting: int
    deferred: int
    kv_usage: float

    def plus(self, other: Occupancy) -> Occupancy:
        """Both together, as one replica tells them."""
        return Occupancy(
            self.running + other.running,
            self.waiting + other.waiting,
            self.deferred + other.deferred,
            self.kv_usage + other.kv_usage,
        )
