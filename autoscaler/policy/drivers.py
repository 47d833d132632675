"""Which drivers could flip a replica of this fleet, and what stands in the way of the others?

    engineSwitch   the engine changes its role itself, as SGLang's POST /pd_role_switch does, and the router is told
    pairedResize   one pool gives up replicas, and another starts some on the GPUs they held: a restart, takes minutes
    relabel        only the router is told. Right for engines that take the direction with each request (vLLM's kv_both),
                   wrong for one that was started in a role; nothing outside shows which it is, so `auto` leaves it alone

Where replicas change their role in place, both pools' must be of one size: what was prefill with 8 GPUs is as large as
decode, and the budget counts it so. And both counts must be ours to write (actuation.py). Engines, routers and models have
needs besides that a policy cannot tell (reference/engines.md B.1): those show when a flip is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from autoscaler.core.fleet import Role
from autoscaler.policy.actuation import Actuation
from autoscaler.policy.behaviour import FlipDriver
from autoscaler.policy.routing import TELLS_ROLES, Routing
from autoscaler.policy.sections import Pool

SWITCHING = ("sglang",)  # engines that can change their role while they run


class Need(StrEnum):
    """What a driver needs of a fleet, in words that follow "needs"."""

    SWITCH = f"engine {' or '.join(SWITCHING)}"
    TELLING = f"a spec.routing of kind {' or '.join(TELLS_ROLES)}"
    ONE_SIZE = "one gpusPerReplica in all pools"
    ONE_STOCK = "one capacityPool for all pools"
    OWN_COUNTS = "actuation direct in all pools"


NEEDS: Mapping[FlipDriver, tuple[Need, ...]] = {
    FlipDriver.ENGINE_SWITCH: (Need.SWITCH, Need.TELLING, Need.ONE_SIZE, Need.OWN_COUNTS),
    FlipDriver.RELABEL: (Need.TELLING, Need.ONE_SIZE, Need.OWN_COUNTS),
    FlipDriver.PAIRED_RESIZE: (Need.ONE_STOCK,),
}
AUTOMATIC = (FlipDriver.ENGINE_SWITCH, FlipDriver.PAIRED_RESIZE)  # what `auto` may choose, the best first


@dataclass(frozen=True, slots=True)
class Ground:
    """What of a policy decides which drivers it can have."""

    engine: str
    routing: Routing | None
    pools: Mapping[Role, Pool]


def obstacles(driver: FlipDriver, ground: Ground) -> list[str]:
    """What a driver needs and this fleet has not, one text for each. `auto` needs nothing by itself."""
    lacks = {need: LACKS[need](ground) for need in NEEDS.get(driver, ())}
    return [f"{driver} needs {need}: {lack}" for need, lack in lacks.items() if lack]


def _no_switch(ground: Ground) -> str:
    return "" if ground.engine in SWITCHING else f"{ground.engine} keeps the role it was started in"


def _no_telling(ground: Ground) -> str:
    if ground.routing is None:
        return "there is none"
    return "" if ground.routing.kind in TELLS_ROLES else f"{ground.routing.kind} tells no router a role"


def _sizes(ground: Ground) -> str:
    sizes = {role: pool.gpus_per_replica for role, pool in ground.pools.items()}
    return "" if len(set(sizes.values())) == 1 else ", ".join(f"{role} has {size}" for role, size in sizes.items())


def _stocks(ground: Ground) -> str:
    stocks = {role: pool.capacity_pool for role, pool in ground.pools.items()}
    if None not in stocks.values() and len(set(stocks.values())) == 1:
        return ""
    return ", ".join(f"{role} has {stock or 'none'}" for role, stock in stocks.items())


def _others_counts(ground: Ground) -> str:
    others = [role for role, pool in ground.pools.items() if pool.actuation is not Actuation.DIRECT]
    return f"{', '.join(others)} is written by a HorizontalPodAutoscaler, which knows no borrowed replicas" if others else ""


# What is lacking of a need, with the values that clash; empty if nothing is.
LACKS: Mapping[Need, Callable[[Ground], str]] = {
    Need.SWITCH: _no_switch,
    Need.TELLING: _no_telling,
    Need.ONE_SIZE: _sizes,
    Need.ONE_STOCK: _stocks,
    Need.OWN_COUNTS: _others_counts,
}
