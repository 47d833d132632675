"""A fleet small enough to compute by hand: round coefficients, an instant link, no cold start unless asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from autoscaler.core.fleet import Role
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.engine import Engine, FleetSpec, PoolSpec
from autoscaler.simulator.events import Cause
from autoscaler.simulator.front import Admit, Ledger
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.workload import Request

KEY = "demo/chat"
# prefill 0.1 s + 1 ms per token; step 10 ms + 1 ms per request + 10 us per token
PROFILE = ReplicaProfile(
    "by hand",
    (0.1, 0.001, 0.0),
    (0.010, 0.001, 1e-5),
    100_000,
    max_seqs=8,
    kv_bytes_per_token=1,
    link_bytes_per_s=1e30,
    link_base_s=0.0,
)


def even(**changes: object) -> FleetSpec:
    """Two replicas each, one GPU per replica, so that roles can be flipped in place, and whatever else is changed."""
    pools = {role: PoolSpec(2) for role in Role}
    return replace(FleetSpec(KEY, PROFILE, pools, StartUp(30.0, 0.0)), **changes)  # type: ignore[arg-type]


def spec(prefill: int = 1, decode: int = 1, profile: ReplicaProfile = PROFILE, start_up: StartUp | None = None) -> FleetSpec:
    pools = {Role.PREFILL: PoolSpec(prefill, gpus_per_replica=4), Role.DECODE: PoolSpec(decode, gpus_per_replica=2)}
    return FleetSpec(KEY, profile, pools, start_up or StartUp(30.0, 0.0))


def engine(requests: Iterable[Request], fleet: FleetSpec | None = None, ledger: Ledger | None = None, **hooks: Admit) -> Engine:
    return Engine(fleet or spec(), requests, ledger, **hooks)


def changed(profile: ReplicaProfile = PROFILE, **changes: object) -> ReplicaProfile:
    return replace(profile, **changes)  # type: ignore[arg-type]


class Answers:
    """A `Ledger` that remembers everything, by request id."""

    def __init__(self) -> None:
        self.ttft_s: dict[int, float] = {}
        self.tpot_s: dict[int, float] = {}
        self.refusals: list[int] = []
        self.given_up_for: dict[int, Cause] = {}
        self.flips: list[tuple[float, Role, Role, int]] = []

    def finished(self, request: Request, ttft_s: float, tpot_s: float) -> None:
        assert request.id not in self.ttft_s, f"request {request.id} finished twice"
        self.ttft_s[request.id], self.tpot_s[request.id] = ttft_s, tpot_s

    def refused(self, request: Request) -> None:
        self.refusals.append(request.id)

    def given_up(self, request: Request, cause: Cause) -> None:
        assert request.id not in {**self.ttft_s, **self.given_up_for}, f"request {request.id} ended twice"
        self.given_up_for[request.id] = cause

    def flipped(self, from_role: Role, to_role: Role, count: int, now: float) -> None:
        self.flips.append((now, from_role, to_role, count))
