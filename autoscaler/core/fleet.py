"""What exists now? Roles, replicas, pools and the fleet they form.

A *replica* is the unit we count, scale and flip: one LeaderWorkerSet group, one serving instance. A *pool* is the
replicas of one role; a *fleet* is all pools of one model.

Role is data. Nothing else in this package may ask `if role == PREFILL`: whatever differs between roles stands in
one row of `ROLE_FACTS`, and a new role is a new row. Prefill is compute-bound and owns TTFT; decode is memory-bound
and owns TPOT (Splitwise, DistServe, Mooncake; reference/papers.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a replica does now."""

    PREFILL = "prefill"
    DECODE = "decode"


class SloKind(StrEnum):
    """A latency an operator can promise: time to first token, or time per output token after it."""

    TTFT = "ttft"
    TPOT = "tpot"


class Sizing(StrEnum):
    """Which law tells how much one replica carries (core/capacity.py holds the laws)."""

    QUEUE = "queue"  # one request at a time, first come first served: waiting dominates
    BATCH = "batch"  # many requests share one step: the step time dominates


class Work(StrEnum):
    """The tokens a request brings to a role; the value names the field of `capacity.Shape` that counts them."""

    UNCACHED_PROMPT = "uncached_tokens"
    OUTPUT = "output_tokens"


@dataclass(frozen=True, slots=True)
class RoleFacts:
    """The row that makes a role: which SLO binds it, which law sizes it, which work feeds it."""

    binding_slo: SloKind
    sizing: Sizing
    work: Work


ROLE_FACTS: Mapping[Role, RoleFacts] = {
    Role.PREFILL: RoleFacts(SloKind.TTFT, Sizing.QUEUE, Work.UNCACHED_PROMPT),
    Role.DECODE: RoleFacts(SloKind.TPOT, Sizing.BATCH, Work.OUTPUT),
}


class Phase(StrEnum):
    """A replica's life. Only SERVING takes new work; STARTING is capacity that arrives later."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    SWITCHING = "switching"
    WARMING = "warming"
    STUCK = "stuck"


@dataclass(frozen=True, slots=True)
class Replica:
    """One serving instance. `name` is its (leader) pod; `since_s` is when it entered its phase, on the clock of `now`;
    `born_s` when its first pod was made, None where that is not known. A replica made anew under its old name is born anew.
    """

    name: str
    phase: Phase
    since_s: float
    born_s: float | None = None


class Lack(StrEnum):
    """Why a replica that is wanted does not serve, beyond needing its time to start."""

    NOT_CREATED = "NotCreated"  # a quota or a webhook refuses its pods
    NODES_REFUSED = "NodesRefused"  # no node has room, and what adds nodes said that it will add none
    UNSCHEDULABLE = "Unschedulable"  # no node has room; one may still come
    FAILING = "Failing"  # its image, its configuration, or it crashes


@dataclass(frozen=True, slots=True)
class Shortage:
    """Replicas that are wanted and do not come: how many, when the cluster last said so (seconds), and in which words."""

    lack: Lack
    replicas: int
    told_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Pool:
    """The replicas of one role.

    `desired` is how many shall stay; `replicas` are those that stand: on their way in, serving, or on their way out.
    `shortages` tell why replicas are missing. `note` is what else there is to say about it (who else scales it, a rollout):
    shown, never decided on.
    """

    role: Role
    desired: int
    replicas: tuple[Replica, ...]
    gpus_per_replica: int = 1
    note: str = ""
    shortages: tuple[Shortage, ...] = ()

    def in_phase(self, *phases: Phase) -> tuple[Replica, ...]:
        """The replicas in one of `phases`, in their own order."""
        return tuple(replica for replica in self.replicas if replica.phase in phases)

    @property
    def serving(self) -> int:
        """How many replicas take new work."""
        return sum(replica.phase is Phase.SERVING for replica in self.replicas)

    @property
    def held(self) -> int:
        """How many replicas hold GPUs or are about to. A draining one does so on top of `desired`: asking for 3 while
        a fourth drains holds 4, and a fifth would be a fifth GPU bill.
        """
        draining = len(self.in_phase(Phase.DRAINING))
        return max(self.desired, len(self.replicas) - draining) + draining


@dataclass(frozen=True, slots=True)
class Fleet:
    """All pools of one model. `key` is "namespace/name" of its PDAutoscaler."""

    key: str
    pools: Mapping[Role, Pool]

    @property
    def gpus_held(self) -> int:
        """GPUs held or promised by every pool together, draining replicas included."""
        return sum(pool.held * pool.gpus_per_replica for pool in self.pools.values())
