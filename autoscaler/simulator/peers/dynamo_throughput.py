"""What does Dynamo's throughput planner buy for the next interval?

NVIDIA Dynamo's SLA planner as documented before 1.1 (docs/planner/sla_planner.md; reference/peers.md, Dynamo 1.4, 1.5):
every 180 s, one step ahead, count, prompt and output lengths each forecast by itself, then

    c_p = TTFT seen / TTFT of the table           prefill  ceil(count * isl / interval * min(1, c_p) / tokens/s(isl))
    c_d = ITL seen / ITL of the table             decode   ceil(count * osl / interval / tokens/s(ITL SLO / c_d, context))

context = isl + osl / 2; the table's ITL is taken at the requests that run per replica. There is no queueing term: prefill
is planned at a utilisation of 1 (their issue 10528). 1,800 requests of 1,000 tokens in 180 s are 10,000 tokens/s; at
4,000 a replica 2.5, so 3; with a TTFT of 0.8 of the table's 2.0, so 2.

Forecast: their Kalman filter over level and trend, F = [[1, 1], [0, 1]], P0 = 1000 I, q 1.0 and 0.1, r 10; the last value
before 5 points; never below 0; leading zeros are skipped. Their default is an ARIMA whose order a library chooses, which
on so few points mostly is a mean; the filter is the one they advise for that case.

`isl` counts cache-missed tokens, as their later versions do. Since 1.1 prefill is divided by the fullest batch that meets the
TTFT: where prompts are computed one at a time, as here, that is the rate above. Rates are those of the signals' window (60 s),
not of the whole interval, and no step is capped at their 8 replicas, which makes this peer quicker than it is.

Headroom knob: `fill`, the share of the table's rates that is counted on; less is more headroom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autoscaler.core.fleet import ROLE_FACTS, Role, Sizing
from autoscaler.core.observation import Freshness, Observation, Reading, Unknown, believable
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.peers import Wishes, hold, mean_seen, role_sized_by, time_per_token
from autoscaler.simulator.peers.behavior import ROUNDING
from autoscaler.simulator.peers.profiled import PrefillTable, decode_rate

Q_LEVEL, Q_TREND, R, P0, MIN_POINTS = 1.0, 0.1, 10.0, 1000.0, 5


@dataclass(frozen=True, slots=True)
class Kalman:
    """Level and trend of one series, their covariance (upper triangle), and how many points it has seen."""

    level: float = 0.0
    trend: float = 0.0
    covariance: tuple[float, float, float] = (P0, 0.0, P0)
    points: int = 0
    last: float = 0.0

    def seen(self, value: float) -> Kalman:
        """After one more point."""
        if self.points == 0:
            return self if value == 0 else replace(self, level=value, points=1, last=value)
        p11, p12, p22 = self.covariance
        p11, p12, p22 = p11 + 2 * p12 + p22 + Q_LEVEL, p12 + p22, p22 + Q_TREND
        gain, drift = p11 / (p11 + R), p12 / (p11 + R)
        surprise = value - (self.level + self.trend)
        level, trend = self.level + self.trend + gain * surprise, self.trend + drift * surprise
        covariance = ((1 - gain) * p11, (1 - gain) * p12, p22 - drift * p12)
        return Kalman(level, trend, covariance, self.points + 1, value)

    @property
    def next(self) -> float:
        """One step ahead; the last value while there are too few points."""
        return self.last if self.points < MIN_POINTS else max(0.0, self.level + self.trend)


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests per interval and tokens per request: as measured, or as forecast."""

    count: float
    isl: float
    osl: float
    context: float


Series = Mapping[str, Kalman]


@dataclass(frozen=True, slots=True)
class DynamoThroughput:
    """`itl_s` is the target that the decode table is read at; the TTFT target is in none of these formulas."""

    profile: ReplicaProfile
    itl_s: float
    fill: float = 1.0
    freshness: Freshness = field(default=Freshness())
    interval_s: float = 180.0

    def begin(self) -> Series:
        """No points yet."""
        return {name: Kalman() for name in ("count", "isl", "osl")}

    def step(self, observation: Observation, memory: Series) -> tuple[Wishes, Series]:
        """Both roles for the next interval; kept where the traffic is not known."""
        now = self._measure(observation)
        if now is None:
            return hold(observation.fleet), memory
        after = {name: series.seen(getattr(now, name)) for name, series in memory.items()}
        count, isl, osl = (after[name].next for name in ("count", "isl", "osl"))
        ahead = Traffic(count, isl, osl, now.context - now.isl - now.osl / 2 + isl + osl / 2)
        return Wishes(self._replicas(observation, now, ahead)), after

    def _measure(self, observation: Observation) -> Traffic | None:
        fleet, traffic = observation.fleet, observation.signals.traffic
        work = {kind: observation.signals.roles.get(role_sized_by(fleet, kind)) for kind in Sizing}
        if any(signals is None for signals in work.values()):
            return None
        readings: list[Reading] = [traffic.offered_rps, traffic.prompt_tokens]
        readings += [signals.tokens_per_request for signals in work.values() if signals is not None]
        known = [believable(reading, self.freshness) for reading in readings]
        values = [reading.value for reading in known if not isinstance(reading, Unknown)]
        if len(values) < len(known):
            return None
        rps, prompt, isl, osl = values
        return Traffic(rps * self.interval_s, isl, osl, prompt + osl / 2)

    def _replicas(self, observation: Observation, now: Traffic, ahead: Traffic) -> dict[Role, int]:
        corrections, prefill_rate = self._corrections(observation, now), PrefillTable.of(self.profile).rate_at(ahead.isl)
        itl_s = self.itl_s / corrections[Sizing.BATCH]
        needs = {
            Sizing.QUEUE: ahead.isl * min(1.0, corrections[Sizing.QUEUE]) / prefill_rate,
            Sizing.BATCH: ahead.osl / decode_rate(self.profile, itl_s, ahead.context),
        }
        rps = ahead.count / self.interval_s / self.fill
        return {role: max(1, math.ceil(rps * needs[ROLE_FACTS[role].sizing] - ROUNDING)) for role in observation.fleet.pools}

    def _corrections(self, observation: Observation, now: Traffic) -> dict[Sizing, float]:
        """What is seen over what the table says; 1 where nothing is seen."""
        batch = role_sized_by(observation.fleet, Sizing.BATCH)
        running = observation.coverage(batch, self.freshness)
        each = max(1.0, running.running / running.reporting) if running.reporting else 1.0
        expected = {
            Sizing.QUEUE: PrefillTable.of(self.profile).ttft_at(now.isl),
            Sizing.BATCH: self.profile.step_time_s(each, each * now.context),
        }
        seen = {
            Sizing.QUEUE: mean_seen(observation.signals.traffic.ttft),
            Sizing.BATCH: time_per_token(observation),
        }
        return {kind: value / expected[kind] if value else 1.0 for kind, value in seen.items()}
