"""Which fleet is simulated?

Everything that is fixed before the first request: the profile, the pools as they begin, and how hard life is in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import permutations
from math import inf

from autoscaler.core.fleet import ROLE_FACTS, FlipWay, Role, Sizing
from autoscaler.core.profile import ReplicaProfile
from autoscaler.simulator.clients import NEVER, Retries
from autoscaler.simulator.flips import Driver, FlipSpec
from autoscaler.simulator.losses import Loss, ReplicaLoss
from autoscaler.simulator.pool_setting import StartUp
from autoscaler.simulator.provisioning import NodeSpec
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.sidecars import SidecarSpec


class Handover(StrEnum):
    """When decode promises room to a request: once its prompt is computed, or before."""

    PULL = "pull"
    PUSH = "push"


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """One role's pool at the beginning: replicas that serve at once, and GPUs each holds."""

    replicas: int
    gpus_per_replica: int = 1


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What is simulated. `pools` in the order in which a request passes them; `max_model_len` in tokens.

    `profile` is what the fleet is sized by; `profiles` are those of roles whose replicas are others, of more GPUs for one.
    `network_bytes_per_s`: what all KV transfers share, None for a link each. `cache_tokens`: the prefix cache of each
    prefill replica, 0 where the requests say what is cached. `nodes` None: there is always room for one more replica.
    `gateway_holds_above`: unfinished requests per replica of the first pool beyond which the gateway holds the others.
    `flips`: how the controller may have replicas change their role, None if it may not.
    `sidecars`: who turns requests away early, None: nobody.
    """

    key: str
    profile: ReplicaProfile
    pools: Mapping[Role, PoolSpec]
    start_up: StartUp = StartUp()
    max_model_len: int = 131_072
    seed: int = 0
    routing: Routing = Routing.PENDING_TOKENS
    handover: Handover = Handover.PULL
    network_bytes_per_s: float | None = None
    cache_tokens: int = 0
    drain_deadline_s: float = inf
    retries: Retries = NEVER
    nodes: NodeSpec | None = None
    losses: tuple[Loss, ...] = ()
    gateway_holds_above: int | None = None
    flips: FlipSpec | None = None
    profiles: Mapping[Role, ReplicaProfile] = field(default_factory=dict)
    sidecars: SidecarSpec | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for what no fleet can be."""
        if self.cache_tokens < 0:
            raise ValueError(f"cache_tokens {self.cache_tokens} is not >= 0")
        if not self.drain_deadline_s >= 0:
            raise ValueError(f"drain_deadline_s {self.drain_deadline_s:g} is not >= 0")
        if self.gateway_holds_above is not None and self.gateway_holds_above < 1:
            raise ValueError(f"gateway_holds_above {self.gateway_holds_above} is not >= 1")
        self._refuse_too_large()
        nowhere = {loss.role for loss in self.losses if isinstance(loss, ReplicaLoss)} - self.pools.keys()
        if nowhere:
            raise ValueError(f"a loss among {', '.join(sorted(nowhere))}, of which there is no pool")

    def _refuse_too_large(self) -> None:
        """A replica that fits on no node would be found out only when one is asked for."""
        for pool in self.pools.values():
            if self.nodes is not None and pool.gpus_per_replica > self.nodes.gpus:
                raise ValueError(f"a replica of {pool.gpus_per_replica} GPUs fits on no node of {self.nodes.gpus}")

    def profile_of(self, role: Role) -> ReplicaProfile:
        """How fast a replica of this role is, and what it holds."""
        return self.profiles.get(role, self.profile)

    @property
    def longest(self) -> tuple[int, int]:
        """The longest prompt, and the longest request with its answer, for which replicas of every role have room: tokens.

        Where prompts queue only the prompt is held, where steps are shared the answer too.
        """
        room = dict.fromkeys(Sizing, self.max_model_len)
        for role in self.pools:
            law = ROLE_FACTS[role].sizing
            room[law] = min(room[law], self.profile_of(role).kv_tokens)
        return room[Sizing.QUEUE], room[Sizing.BATCH]

    def driver(self, from_role: Role, to_role: Role) -> Driver | None:
        """How replicas of one role become replicas of another, where the controller asks for it; None if they cannot."""
        if self.flips is None or from_role is to_role:
            return None
        return self.flips.driver(self.pools[from_role].gpus_per_replica, self.pools[to_role].gpus_per_replica)

    def flip_ways(self) -> dict[tuple[Role, Role], FlipWay]:
        """All that it may have flipped, as it is told."""
        drivers = {roles: self.driver(*roles) for roles in permutations(self.pools, 2)}
        start_up_s = self.start_up.median_s
        return {
            roles: self.flips.way(driver, start_up_s) for roles, driver in drivers.items() if driver is not None and self.flips
        }
