"""What exists now? Roles, replicas, pools and the fleet they form.

A *replica* is the unit we count, scale and flip: one LeaderWorkerSet group, one serving instance. A *pool* is the
replicas of one role; a *fleet* is all pools of one model.

Role is data. Nothing else in this package may ask `if role == PREFILL`: whatever differs between roles stands in
one row of `ROLE_FACTS`, and a new role is a new row. Prefill is compute-bound and owns TTFT; decode is memory-bound
and owns TPOT (Splitwise, DistServe, Mooncake; reference/papers.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    `moved_s` is when it was last taken in or out of a role; None: never. `address`: where its engine answers, an IP address
    with or without a port; empty where that is not known.
    """

    name: str
    phase: Phase
    since_s: float
    born_s: float | None = None
    moved_s: float | None = None
    address: str = ""


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
class Handed:
    """A count that somebody else writes, as we publish it. `count` is what the target asks for, `published` what it shall ask for
    as far as was told before this look; `reader` what reads that, empty if nothing does. `promised`: the most that the reader may
    still make of it by what was published lately. `waits_s`: for how long the target has kept its count while another was
    published, in seconds; `patience_s`: for how long that is usual.
    """

    count: int
    published: int
    promised: int = 0
    reader: str = ""
    waits_s: float = 0.0
    patience_s: float = 0.0

    @property
    def followed(self) -> bool:
        """Whether nobody need look after it."""
        return self.waits_s <= self.patience_s


@dataclass(frozen=True, slots=True)
class Pool:
    """The replicas of one role.

    `desired` is how many shall stay; `replicas` are those that stand: on their way in, serving, or on their way out.
    `shortages` tell why replicas are missing. `note` is what else there is to say about it (who else scales it, a rollout):
    shown, never decided on. `leaving`: of those that serve, how many only do so until others have taken their place. `handed`:
    somebody else writes its count; None: we do.
    """

    role: Role
    desired: int
    replicas: tuple[Replica, ...]
    gpus_per_replica: int = 1
    note: str = ""
    shortages: tuple[Shortage, ...] = ()
    leaving: int = 0
    handed: Handed | None = None

    def in_phase(self, *phases: Phase) -> tuple[Replica, ...]:
        """The replicas in one of `phases`, in their own order."""
        return tuple(replica for replica in self.replicas if replica.phase in phases)

    @property
    def serving(self) -> int:
        """How many replicas take new work."""
        return sum(replica.phase is Phase.SERVING for replica in self.replicas)

    @property
    def promised(self) -> int:
        """How many replicas may be asked for without another word of ours: `desired`, and what somebody else was told to add
        and has not yet.
        """
        return self.desired + (0 if self.handed is None else max(0, self.handed.promised - self.handed.count))

    @property
    def held(self) -> int:
        """How many replicas hold GPUs or are about to. A draining one does so on top of `desired`: asking for 3 while
        a fourth drains or is leaving holds 4, and a fifth would be a fifth GPU bill.
        """
        going = len(self.in_phase(Phase.DRAINING)) + self.leaving
        return max(self.promised, len(self.replicas) - going) + going


@dataclass(frozen=True, slots=True)
class FlipWay:
    """How replicas of one role can become replicas of another: `from_replicas` of the one `to_replicas` of the other, one
    unit of it; TP4 against TP2 is 1 for 2, and 2 for 1 on the way back.

    `takes_s`: until the new ones serve, waiting for the old ones' last requests not counted. `in_place`: the same replicas
    with their GPUs, else others start. `loses_cache`: what they had of past prompts is gone. `grows_first`: the new ones
    serve before the old ones go, so that for a while both hold GPUs. No more than `max_in_flight` units at once.
    """

    driver: str
    takes_s: float
    from_replicas: int
    to_replicas: int
    in_place: bool
    loses_cache: bool
    grows_first: bool = False
    max_in_flight: int = 1


@dataclass(frozen=True, slots=True)
class Flipping:
    """One unit of a flip under way, as the cluster shows it. `desired` of both pools is already what it leads to.

    `phase`: DRAINING while the old ones finish their work, SWITCHING or STARTING while the new ones come. `since_s` is when
    it entered that, `started_s` when it began. `shared_gpus` are counted in both pools: the old ones hold them, and the new
    ones are promised the same.
    """

    name: str
    from_role: Role
    to_role: Role
    from_replicas: int
    to_replicas: int
    phase: Phase
    since_s: float
    started_s: float
    shared_gpus: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """A drain or a flip that is over: what it is called, of which kind, whether it was done or undone and why, in one line;
    requests that were given up for it, and how long it took.
    """

    name: str
    kind: str
    from_role: Role
    to_role: Role
    done: bool
    why: str
    forced_requests: int
    took_s: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """All pools of one model. `key` is "namespace/name" of its PDAutoscaler. `flip_ways` by (from, to), empty where nothing
    can be flipped; `flips` are those under way, the oldest first. `ended` are drains and flips that are over since the last
    look; `stuck` tells of those that do not get on, and what a human may do, one line each.
    """

    key: str
    pools: Mapping[Role, Pool]
    flip_ways: Mapping[tuple[Role, Role], FlipWay] = field(default_factory=dict)
    flips: tuple[Flipping, ...] = ()
    ended: tuple[Ended, ...] = ()
    stuck: tuple[str, ...] = ()

    @property
    def gpus_held(self) -> int:
        """GPUs held or promised by every pool together, draining replicas included; those that change their role once."""
        held = sum(pool.held * pool.gpus_per_replica for pool in self.pools.values())
        return held - sum(flip.shared_gpus for flip in self.flips)
