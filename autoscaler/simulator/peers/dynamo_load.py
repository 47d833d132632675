"""What does Dynamo's load planner add or take, one replica at a time?

NVIDIA Dynamo's load-based scaling with an SLA target (P/core/load_scaling.py; reference/peers.md, Dynamo 1.6), every 5 s,
over the engines of one pool, N = engines, s = sensitivity / 100 = 0.8:

    estimate   prefill: time to drain its queued prompt tokens, in chunks of B, plus one mean prompt of its own
               decode: step time with what it runs and what waits
    up         +1 if ALL engines exceed the target
    down       -1 if for every engine, its load times N / (N - 1): prefill (estimate - own) < s (target - own),
               decode its KV fits and estimate < s target
    guard      while any pool starts or drains replicas nothing moves in either
    floor      never below what the throughput planner asked for at its last look (dynamo_throughput.py): it is on by default,
               and beside the load planner its result is a lower bound. Until its first look, never below what was there

Times come from a regression, linear in prompt tokens for prefill and in (requests, KV tokens) for decode. Dynamo feeds it
each engine's forward passes, which no `Observation` holds, so it is fitted to the profiled points, the third of its four
sources; for decode the profile's law is itself that plane. Chunks: t(n) = floor(n / B) T(B) + T(n mod B).

With T(n) = 0.1 s + 1 ms n, 4 prompts of 500 tokens queued and an own one of 500: 2.1 + 0.6 = 2.7 s.

Two things stay theirs. An empty queue is taken for idleness, so prefill shrinks until it runs at a utilisation of 1 (the
floor knows no queue either), and then it is short of replicas whenever they start. And all engines must be late before one
is added: at 40 requests/s that keep 7.1 replicas busy it goes to and fro between 7 and 9 with queues of minutes. Not for want
of sight: it reads the engines every 5 s (catalogue.py), and of that load 28 % are met at looks 15 s apart, 27 % at 5 s. Its
users report the same of bursts: a mean TTFT of 160 s and 9 % met where 3 s are promised (their issue 10528).

Headroom knob: `target_share`, the share of what a target allows above an idle engine's latency, together with the floor's
own `fill`; less is more headroom.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from autoscaler.core.fleet import ROLE_FACTS, Phase, Pool, Role, Sizing, SloKind
from autoscaler.core.observation import Freshness, Gauges, Observation, Unknown, believable
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.peers import Wishes, hold, role_sized_by
from autoscaler.simulator.peers.dynamo_throughput import DynamoThroughput, Series
from autoscaler.simulator.peers.profiled import prefill_line

IDLE = Gauges(waiting=0.0, running=0.0, kv_usage=0.0, age_s=0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds a request would see on one engine, how much of it is its own, and whether the memory holds it."""

    total_s: float
    own_s: float
    fits: bool


@dataclass(frozen=True, slots=True)
class Floor:
    """What the throughput planner remembers, what it asked for, and when it looks again (None: nothing has been seen yet)."""

    series: Series
    replicas: Mapping[Role, int] = field(default_factory=dict)
    next_s: float | None = None


@dataclass(frozen=True, slots=True)
class DynamoLoad:
    """`targets_s`: TTFT and TPOT; `planner`: whose result is the floor; `batched_tokens`: prompt tokens per forward pass (B)."""

    profile: ReplicaProfile
    targets_s: Mapping[SloKind, float]
    planner: DynamoThroughput
    target_share: float = 1.0
    sensitivity: float = 0.8
    batched_tokens: float = 8192.0
    freshness: Freshness = field(default=Freshness())
    interval_s: float = 5.0

    def begin(self) -> Floor:
        """No floor yet. Of loads nothing is remembered: the last snapshot decides."""
        return Floor(self.planner.begin())

    def step(self, observation: Observation, memory: Floor) -> tuple[Wishes, Floor]:
        """One replica more or fewer per role, or none; and no role below the floor."""
        if isinstance(observation.signals.gauges, Unknown):
            return hold(observation.fleet), memory
        floor = self._floor(observation, memory)
        moving = any(
            len(pool.replicas) != pool.serving or pool.serving != pool.desired for pool in observation.fleet.pools.values()
        )
        if moving:
            return hold(observation.fleet), floor
        wanted = {role: pool.desired + self._change(role, pool, observation) for role, pool in observation.fleet.pools.items()}
        return Wishes({role: max(count, floor.replicas.get(role, 0)) for role, count in wanted.items()}), floor

    def _floor(self, observation: Observation, memory: Floor) -> Floor:
        if memory.next_s is None:
            return Floor(memory.series, hold(observation.fleet).replicas, observation.now + self.planner.interval_s)
        if observation.now < memory.next_s:
            return memory
        wishes, series = self.planner.step(observation, memory.series)
        measured = series is not memory.series
        return Floor(series, wishes.replicas, observation.now + self.planner.interval_s) if measured else memory

    def _change(self, role: Role, pool: Pool, observation: Observation) -> int:
        engines, tokens = self._engines(pool, observation), self._tokens(role, observation)
        if len(engines) != pool.serving or tokens is None:  # worker_count_mismatch, insufficient_data
            return 0
        estimate = self._estimates()[ROLE_FACTS[role].sizing]
        idle_s = estimate(IDLE, tokens, 1.0).total_s
        target_s = idle_s + (self.targets_s[ROLE_FACTS[role].binding_slo] - idle_s) * self.target_share
        if all(estimate(engine, tokens, 1.0).total_s > target_s for engine in engines):
            return 1
        if len(engines) < 2:
            return 0
        denser = len(engines) / (len(engines) - 1)
        after = [estimate(engine, tokens, denser) for engine in engines]
        easy = all(one.fits and one.total_s - one.own_s < self.sensitivity * (target_s - one.own_s) for one in after)
        return -1 if easy else 0

    def _engines(self, pool: Pool, observation: Observation) -> list[Gauges]:
        gauges = observation.signals.gauges
        if isinstance(gauges, Unknown):
            return []
        seen = (gauges.get(replica.name) for replica in pool.in_phase(Phase.SERVING))
        return [one for one in seen if one is not None and one.age_s <= self.freshness.max_age_s]

    def _tokens(self, role: Role, observation: Observation) -> float | None:
        """Tokens that one waiting request brings: its cache-missed prompt, or what it will hold in KV."""
        reading = observation.signals.traffic.prompt_tokens
        if ROLE_FACTS[role].sizing is Sizing.QUEUE:
            signals = observation.signals.roles.get(role_sized_by(observation.fleet, Sizing.QUEUE))
            reading = signals.tokens_per_request if signals else reading
        known = believable(reading, self.freshness)
        return None if isinstance(known, Unknown) else known.value

    def _estimates(self) -> Mapping[Sizing, Callable[[Gauges, float, float], Estimate]]:
        return {Sizing.QUEUE: self._ttft, Sizing.BATCH: self._itl}

    def _ttft(self, engine: Gauges, prompt: float, denser: float) -> Estimate:
        own_s = self._chunked_s(prompt)
        queued = (engine.waiting + engine.deferred) * denser
        return Estimate(self._chunked_s(queued * prompt) + own_s, own_s, fits=True)

    def _itl(self, engine: Gauges, prompt: float, denser: float) -> Estimate:
        requests = (engine.running + engine.waiting) * denser
        kv_tokens = (engine.kv_usage * self.profile.kv_tokens + engine.waiting * prompt) * denser
        return Estimate(self.profile.step_time_s(requests, kv_tokens), 0.0, kv_tokens < self.profile.kv_tokens)

    def _chunked_s(self, tokens: float) -> float:
        constant, slope = prefill_line(self.profile)
        whole, rest = divmod(tokens, self.batched_tokens)
        last_s = constant + slope * rest if rest else 0.0
        return whole * (constant + slope * self.batched_tokens) + last_s
