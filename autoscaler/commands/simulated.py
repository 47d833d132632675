"""Which simulated fleet does a policy describe?

The policy's pools and profile; where it lets replicas flip, as good a way as its GPUs allow: a label where a replica of
either role has as many, an exchange of whole replicas where not.
"""

from __future__ import annotations

from collections.abc import Mapping

from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.simulator.fleet_spec import FleetSpec, PoolSpec
from autoscaler.simulator.flips import DriverKind, FlipSpec
from autoscaler.simulator.pool_setting import StartUp


def simulated(written: Document, start_up: StartUp, seed: int = 0, counts: Mapping[Role, int] | None = None) -> FleetSpec:
    """The fleet, beginning with `counts` replicas, the policy's minimum where none is given."""
    spec = written.spec
    begin = {role: pool.min for role, pool in spec.pools.items()} | dict(counts or {})
    pools = {role: PoolSpec(begin[role], pool.gpus_per_replica) for role, pool in spec.pools.items()}
    alike = len({pool.gpus_per_replica for pool in spec.pools.values()}) == 1
    kind = DriverKind.LABEL if alike else DriverKind.PAIRED_RESIZE
    flip = spec.behaviour.flip
    flips = FlipSpec(kind, max_in_flight=flip.max_in_flight) if flip.enabled else None
    return FleetSpec(written.key, spec.profile.core(), pools, start_up, seed=seed, flips=flips)
