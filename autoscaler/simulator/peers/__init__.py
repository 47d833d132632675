"""What would somebody else's autoscaler have done on the same traffic, and what could anybody have done?

A *peer* is another project's sizing rule, told as a frozen dataclass of knobs with a pure `step`: the same observation and
memory give the same wishes. It sees the `Observation` that the real controller sees, no more, and acts through the same
guard and the same delays (`seat.py`). Constants are those the projects publish, from reference/peers.md and papers.md.

Peers:
    static.py              the counts one is given, for ever
    hpa_queue.py           Kubernetes HPA on the queue length per pod
    llmd_token_pd.py       llm-d's token path: prompt tokens in flight, KV in use, each through an HPA
    heteroscale.py         decode tokens per second size both roles, in a fixed ratio
    dynamo_throughput.py   NVIDIA Dynamo's planner, forecast divided by interpolated capacity
    dynamo_load.py         NVIDIA Dynamo's planner, one replica up or down by regressed latency
    arrow.py               a fixed fleet whose replicas change role as soon as a latency asks for it
References, which are told all requests beforehand:
    lower_bound.py         GPU-seconds of the work itself: nobody needs fewer
    oracle.py              the cheapest schedule found that keeps a required attainment, through the same delays
    best_static.py         the cheapest fixed fleet that does
    clairvoyant_flipper.py a fixed fleet that is always split the best way
Around them:
    behavior.py            HPA's brakes, which two peers share
    profiled.py            Dynamo's tables and lines over a replica profile, which its two planners share
    schedule.py            a path of counts over time, for references and for what really stood there
    affordable.py          counts within bounds and budget
    seat.py                puts a peer where the controller would sit
    trial.py               one run of one peer, and how many runs were made
    played.py              a run, and what was seen of its fleet
    catalogue.py           every peer by name, with its one headroom knob
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from autoscaler.core.fleet import ROLE_FACTS, Fleet, Role, Sizing
from autoscaler.core.observation import Histogram, Observation, Unknown

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class Flip:
    """`count` replicas shall leave one role for another."""

    from_role: Role
    to_role: Role
    count: int


@dataclass(frozen=True, slots=True)
class Wishes:
    """Replicas wanted per role (a role that is not named keeps its count), and the flips wanted beside."""

    replicas: Mapping[Role, int]
    flips: tuple[Flip, ...] = ()


class Peer(Protocol[M]):
    """A sizing rule. `interval_s`: how often it looks; `M`: what it remembers between two looks."""

    @property
    def interval_s(self) -> float:
        """Seconds between two looks."""
        ...

    def begin(self) -> M:
        """The memory before the first look."""
        ...

    def step(self, observation: Observation, memory: M) -> tuple[Wishes, M]:
        """One look: what is wanted now, and the memory for the next look."""
        ...


def hold(fleet: Fleet) -> Wishes:
    """Wish for what is there."""
    return Wishes({role: pool.desired for role, pool in fleet.pools.items()})


def role_sized_by(fleet: Fleet, sizing: Sizing) -> Role:
    """The fleet's role of this kind, for rules that treat the two kinds differently. StopIteration if it has none."""
    return next(role for role in fleet.pools if ROLE_FACTS[role].sizing is sizing)


def mean_seen(histogram: Histogram | Unknown) -> float | None:
    """The mean that its sum gives, which is what the peers read; None where there is no sample or no sum."""
    return None if isinstance(histogram, Unknown) else histogram.mean


def time_per_token(observation: Observation) -> float | None:
    """Mean seconds between two tokens of a request in decode; None where nobody tells it."""
    signals = observation.signals.roles.get(role_sized_by(observation.fleet, Sizing.BATCH))
    return None if signals is None else mean_seen(signals.service)


def mean_of(histogram: Histogram) -> float | None:
    """The mean as its buckets tell it, each observation at the middle of its bucket; None without samples.

    3 requests in (0.5, 1.0] s and 1 in (1.0, 2.0] s read as (3 * 0.75 + 1.5) / 4 = 0.94 s. What lies above the last finite
    edge counts as that edge.
    """
    if histogram.samples <= 0:
        return None
    total, lower_edge, lower_count = 0.0, 0.0, 0.0
    for edge, count in zip(histogram.edges, histogram.counts, strict=True):
        upper_edge = lower_edge if math.isinf(edge) else edge
        total += (lower_edge + upper_edge) / 2 * (count - lower_count)
        lower_edge, lower_count = upper_edge, count
    return total / histogram.samples
