"""Which replica gets the next request?

    round-robin      each in turn, whatever it has
    least-loaded     the fewest requests that have not ended
    pending-tokens   the fewest tokens ahead: uncached ones to compute in prefill, KV spoken for in decode (Splitwise)
    prefix-affinity  the fewest tokens ahead once this request is there, so a replica that has its prefix may be busier by
                     what it saves (Mooncake's cache-aware choice without moving KV between prefill replicas)

Equals go to the one that has served longest. A router knows lengths and loads exactly and at once, as a gateway that
routes every request itself does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter

from autoscaler.simulator.events import Server
from autoscaler.simulator.workload import Request

Router = Callable[[Sequence[Server], Request], Server]

_load = attrgetter("load")
_requests = attrgetter("requests")


class Routing(StrEnum):
    """How a pool's requests are spread."""

    ROUND_ROBIN = "round-robin"
    LEAST_LOADED = "least-loaded"
    PENDING_TOKENS = "pending-tokens"
    PREFIX_AFFINITY = "prefix-affinity"


def router(routing: Routing) -> Router:
    """One pool's router. Chooses among one or more servers."""
    return _ROUTERS[routing]()


def _round_robin() -> Router:
    """The turn counts requests, so it goes on evenly while replicas come and go."""
    turn = -1

    def choose(servers: Sequence[Server], _: Request) -> Server:
        nonlocal turn
        turn += 1
        return servers[turn % len(servers)]

    return choose


def _fewest_requests(servers: Sequence[Server], _: Request) -> Server:
    return min(servers, key=_requests)


def _fewest_tokens(servers: Sequence[Server], _: Request) -> Server:
    return min(servers, key=_load)


def _soonest(servers: Sequence[Server], request: Request) -> Server:
    return min(servers, key=lambda server: server.load + server.cost(request))


_ROUTERS: Mapping[Routing, Callable[[], Router]] = {
    Routing.ROUND_ROBIN: _round_robin,
    Routing.LEAST_LOADED: lambda: _fewest_requests,
    Routing.PENDING_TOKENS: lambda: _fewest_tokens,
    Routing.PREFIX_AFFINITY: lambda: _soonest,
}
