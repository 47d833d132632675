"""What if decode throughput sized both roles, in a fixed ratio?

HeteroScale's production rule (arXiv 2508.19559; reference/papers.md A7): decode tokens per second have the best signal to
noise of all candidates, so they alone drive both pools, which always move together:

    decode    ceil(n)       n = decode tokens/s / target tokens/s of one replica; kept while |n / current - 1| <= 0.1
    prefill   ceil(ratio * decode)
    net       TPOT over its SLO: n is at least 1.1 * current; over 1.2 times its SLO: 1.2 * current

Ratio and target come from pressure tests of the workload; here from the capacity laws at its mean request. Decode tokens/s
are the arrivals times their mean output, so a saturated fleet still shows its demand, which is kind to this peer. The
latency is the mean. The paper names cooldowns without figures. Here the net waits until nothing starts any more, shrinking
for 300 s since the last move or the first look (HPA's own window), and growth by throughput for nothing. The paper's calendar
for services whose peaks are known is left out: nobody gives it one.

Two things stay theirs. Nothing asks for the backlog that piles up while replicas start. And a decode pool whose KV is full is
slow to let in, not slow to decode: its tokens come every 26 ms of the 40 ms promised, the net stays silent, and hundreds of
requests wait.

900 tokens/s at 250 a replica are 3.6, so 4 decode and, at a ratio of 0.5, 2 prefill.

Headroom knob: `utilisation`, the share of the target tokens/s that is counted on; less is more headroom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoscaler.core.fleet import Phase, Role, Sizing
from autoscaler.core.observation import Freshness, Observation, Unknown, believable
from autoscaler.simulator.peers import Wishes, hold, role_sized_by, time_per_token
from autoscaler.simulator.peers.behavior import ROUNDING

DEAD_BAND = 0.1
NET = ((1.2, 1.2), (1.0, 1.1))  # (TPOT / SLO above which, growth to)


@dataclass(frozen=True, slots=True)
class Heteroscale:
    """`replicas_per_decode`: how many prefill replicas go with one decode replica. `tpot_s`: the SLO of the safety net."""

    decode_tokens_per_s: float
    replicas_per_decode: float
    tpot_s: float
    utilisation: float = 1.0
    cooldown_s: float = 300.0
    freshness: Freshness = Freshness()
    interval_s: float = 15.0

    def begin(self) -> float | None:
        """When the fleet last moved, or was first seen: not yet."""
        return None

    def step(self, observation: Observation, memory: float | None) -> tuple[Wishes, float | None]:
        """Both roles from decode tokens/s; kept where these are not known."""
        held = hold(observation.fleet)
        driver = role_sized_by(observation.fleet, Sizing.BATCH)  # the role that makes the tokens
        tokens_per_s = self._tokens_per_s(observation, driver)
        if tokens_per_s is None:
            return held, memory
        current = observation.fleet.pools[driver].desired
        wanted = self._decode(tokens_per_s, self._tpot_ratio(observation, driver), current)
        rested_since_s = observation.now if memory is None else memory
        if observation.now - rested_since_s < self.cooldown_s:
            wanted = max(wanted, current)
        followers = math.ceil(self.replicas_per_decode * wanted - ROUNDING)
        wishes = Wishes({role: wanted if role is driver else max(1, followers) for role in observation.fleet.pools})
        return wishes, rested_since_s if wanted == current else observation.now

    def _tokens_per_s(self, observation: Observation, driver: Role) -> float | None:
        signals = observation.signals.roles.get(driver)
        if signals is None:
            return None
        rps = believable(observation.signals.traffic.offered_rps, self.freshness)
        tokens = believable(signals.tokens_per_request, self.freshness)
        return None if isinstance(rps, Unknown) or isinstance(tokens, Unknown) else rps.value * tokens.value

    def _tpot_ratio(self, observation: Observation, driver: Role) -> float:
        """TPOT over its SLO; 0, which asks for nothing, while replicas that may mend it still start."""
        if observation.fleet.pools[driver].in_phase(Phase.STARTING):
            return 0.0
        return (time_per_token(observation) or 0.0) / self.tpot_s

    def _decode(self, tokens_per_s: float, tpot_ratio: float, current: int) -> int:
        share = tokens_per_s / (self.decode_tokens_per_s * self.utilisation)
        wanted = current if current and abs(share / current - 1) <= DEAD_BAND else max(1, math.ceil(share - ROUNDING))
        growth = next((factor for over, factor in NET if tpot_ratio > over), None)
        return wanted if growth is None else max(wanted, math.ceil(growth * current - ROUNDING))
