"""What is there to decide and act on: one fleet's targets, its replicas, and what is under way?

All of one moment, put together once per look, for whoever reads the fleet, begins a transaction or moves one on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autoscaler.adapters.kubernetes.publishing import patience_s
from autoscaler.adapters.kubernetes.standing import Standing
from autoscaler.adapters.kubernetes.transactions.living import Living, about, flippings, pools
from autoscaler.core.fleet import Flipping, Pool, Role
from autoscaler.core.transaction import Transaction
from autoscaler.core.transit import Patience
from autoscaler.policy import Document
from autoscaler.policy.actuation import Actuation
from autoscaler.policy.behaviour import OnDeadline
from autoscaler.policy.document import Spec

LEAST_READY_S = 900.0  # a cold node and an image that is not there take 10 minutes
STARTS = 3.0  # times the expected time to start


@dataclass(frozen=True, slots=True)
class Ground:
    """One fleet as it stands. `replicas` are those of all its targets."""

    document: Document
    standings: Mapping[Role, Standing]
    replicas: tuple[Living, ...]
    under_way: tuple[Transaction, ...] = ()

    @property
    def spec(self) -> Spec:
        """What its owner wants."""
        return self.document.spec

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.document.metadata.namespace

    @property
    def gpus(self) -> Mapping[Role, int]:
        """GPUs of one replica, by role."""
        return {role: pool.gpus_per_replica for role, pool in self.spec.pools.items()}

    @property
    def pools(self) -> Mapping[Role, Pool]:
        """The pools as they are going to be."""
        return pools(self.standings, self.replicas, self.under_way, self.gpus)

    @property
    def flips(self) -> tuple[Flipping, ...]:
        """The flips under way."""
        return flippings(self.under_way, self.standings, self.replicas, self.pools) if self.under_way else ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """Replicas that somebody has taken out of routing, and what to do; one line each."""
        routing = self.spec.routing
        if routing is None:
            return ()
        alone = [one for one in self.replicas if one.away and about(one, self.under_way) is None]
        how = f"serves nobody: label {routing.label} is {routing.away} and nothing is under way for it; give it its role's value"
        return tuple(f"{one.replica.name} {how}" for one in alone)

    def handed(self, role: Role) -> bool:
        """Whether somebody else writes this target's count, as we publish it."""
        return self.spec.pools[role].actuation is Actuation.HPA

    def counting(self, role: Role) -> tuple[Transaction, ...]:
        """What is under way that changes this target's count."""
        return tuple(one for one in self.under_way if role in one.change.before)


def patience_of(ground: Ground) -> Patience:
    """How long each step may take, by the policy and by what its pods get to end in good order."""
    drain, routing = ground.spec.behaviour.drain, ground.spec.routing
    grace_s = max((one.leader.grace_s or 0.0 for one in ground.replicas), default=0.0)
    return Patience(
        idle_s=drain.deadline_seconds,
        forces=drain.on_deadline is OnDeadline.FORCE,
        settle_s=routing.settle_seconds if routing is not None else 0.0,
        ready_s=max(LEAST_READY_S, STARTS * ground.spec.forecast.horizon_seconds),
        gone_s=Patience().gone_s + grace_s,
        write_s=Patience().write_s
        + (patience_s(ground.spec.behaviour.tick_seconds) if any(map(ground.handed, ground.standings)) else 0.0),
    )
