"""In which situations is rejection judged?

    mooncake   Mooncake's conversation at twice its rate on 8P + 8D, TTFT 30 s and 0.1 s between tokens, the profile of the
               paper's time and GPU (arXiv 2407.00079, Table 3): decode carries a third of what comes
    ramp       chat on 4P + 4D of a 70B model on H100, from half to twice of what it carries, TTFT 2 s and 30 ms: both phases
               break at about the same rate, and the picture is half as old as the promise is long
    long       prompts of 30,000 tokens at twice what two decode replicas carry, on 4P + 2D, TTFT 30 s and 15 ms: half of those
               that decode holds fit into the time until one is computed, and that is what makes both loads swing (the paper's
               figure 9); in the other two cases answers take so much longer than prompts that nothing swings

What a request is on average is told beforehand, as the owner of a policy would; from there on it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random

from autoscaler.core.arrivals import Arrival
from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.outlook import Strategy
from autoscaler.core.profile import ReplicaProfile
from autoscaler.core.qos import Promise, QosClass
from autoscaler.core.rejection import Rules
from autoscaler.policy.profiles import replica_profile
from autoscaler.simulator.engine import FleetSpec, PoolSpec
from autoscaler.simulator.replay import Slice
from autoscaler.simulator.shapes import Ramp, Steady, shaped
from autoscaler.simulator.traces import read_trace
from autoscaler.simulator.workload import Kind, Lengths, Request
from tests.bench.doors.played import Play
from tests.bench.doors.sidecars import Means

TRACE = "mooncake_fast25_conversation_trace.jsonl.gz"
MOONCAKE_S: Mapping[SloKind, float] = {SloKind.TTFT: 30.0, SloKind.TPOT: 0.1}
RAMP_S: Mapping[SloKind, float] = {SloKind.TTFT: 2.0, SloKind.TPOT: 0.03}
CHAT = Kind(Lengths(4000, 1.0), Lengths(1000, 1.0))
CARRIED_RPS = 25.0  # about what four prefill replicas carry of it, busy all the time, and what four of decode do
RAMP = Ramp(0.5 * CARRIED_RPS, 2 * CARRIED_RPS, 60.0, 480.0)
RAMP_LENGTH_S = 780.0
LONG_S: Mapping[SloKind, float] = {SloKind.TTFT: 30.0, SloKind.TPOT: 0.015}
LONG = Kind(Lengths(30_000, 0.3), Lengths(1000, 0.5))
LONG_RPS, LONG_LENGTH_S = 3.0, 1200.0
PREMIUM, FREE = "premium", "free"
PREMIUM_QUANTILE = 0.99
PREMIUM_EVERY = 5  # one request in five


def mooncake(folder: Path) -> Play:
    """Raises TraceError for a trace that cannot be read."""
    requests = list(read_trace(folder / TRACE, Random(1), Slice(scale=2.0)))
    return _play(replica_profile("splitwise-2024-llama-2-70b-a100-tp8"), (8, 8), requests, MOONCAKE_S)


def ramp() -> Play:
    """Made up, always the same."""
    requests = list(shaped(Random(1), RAMP, CHAT, RAMP_LENGTH_S))
    return _play(replica_profile("llama-3-70b-h100-tp8"), (4, 4), requests, RAMP_S)


def long() -> Play:
    """Made up, always the same."""
    requests = list(shaped(Random(1), Steady(LONG_RPS), LONG, LONG_LENGTH_S))
    return _play(replica_profile("llama-3-70b-h100-tp8"), (4, 2), requests, LONG_S)


def _play(profile: ReplicaProfile, nodes: tuple[int, int], requests: Sequence[Request], full_s: Mapping[SloKind, float]) -> Play:
    spec = FleetSpec(
        "default/door",
        profile,
        {role: PoolSpec(count, 8) for role, count in zip(Role, nodes, strict=True)},
        max_model_len=200_000,
    )
    return Play(spec, requests, lambda: _told(requests, full_s), full_s)


def _told(requests: Sequence[Request], full_s: Mapping[SloKind, float]) -> Means:
    count = len(requests)
    uncached = [request.prompt_tokens - request.cached_tokens for request in requests]
    mean = sum(uncached) / count
    cv2 = sum(tokens * tokens for tokens in uncached) / count / mean**2 - 1
    prompt, output = (
        sum(lengths) / count for lengths in zip(*((r.prompt_tokens, r.output_tokens) for r in requests), strict=True)
    )
    return Means(Shape(prompt, mean, output, cv2), output * full_s[SloKind.TPOT])


def mean_arrival(play: Play) -> Arrival:
    """The mean request of a case."""
    shape = play.means().shape
    return Arrival(shape.prompt_tokens, shape.uncached_tokens, shape.output_tokens)


def alike(strategy: Strategy, full_s: Mapping[SloKind, float]) -> Rules:
    """One class for everybody."""
    return Rules({FREE: _class(FREE, full_s)}, FREE, strategy=strategy)


def two_classes(full_s: Mapping[SloKind, float]) -> Rules:
    """A premium class that comes before the other and has three tenths of both phases kept for it."""
    premium = _class(PREMIUM, full_s, priority=10, reserved=dict.fromkeys(Role, 0.3))
    return Rules({PREMIUM: premium, FREE: _class(FREE, full_s)}, FREE)


def class_of(request: Request) -> str:
    """One request in five is premium."""
    return FREE if request.id % PREMIUM_EVERY else PREMIUM


def _class(
    name: str, full_s: Mapping[SloKind, float], priority: int = 0, reserved: Mapping[Role, float] | None = None
) -> QosClass:
    quantile = PREMIUM_QUANTILE if reserved else 0.95
    promises = {kind: Promise(seconds, seconds, seconds, quantile) for kind, seconds in full_s.items()}
    return QosClass(name, promises, priority, reserved or {})
