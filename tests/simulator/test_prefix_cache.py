"""Does a replica remember the prompts it computed, as many as it has room for, and no other's?"""

from __future__ import annotations

import pytest

from autoscaler.core.fleet import Role
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.flips import ENGINE_SWITCH, LABEL
from autoscaler.simulator.prefix_cache import BLOCK_TOKENS, PrefixCache
from autoscaler.simulator.queue_server import QueueServer
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import Answers, engine, even


def asking(number: int, *blocks: int, at_s: float = 0.0, tokens: int | None = None, cached: int = 0) -> Request:
    return Request(number, at_s, len(blocks) * BLOCK_TOKENS if tokens is None else tokens, cached, 1, blocks)


def computed(fleet: Engine) -> list[int]:
    return [replica.server.metrics.computed_tokens for replica in fleet.pools[Role.PREFILL].replicas]


def test_only_leading_blocks_count() -> None:
    cache = PrefixCache(10 * BLOCK_TOKENS)
    assert cache.use(asking(0, 1, 2, 3)) == 3 * BLOCK_TOKENS
    assert cache.use(asking(1, 1, 2, 9, 3)) == 2 * BLOCK_TOKENS
    assert cache.use(asking(2, 7, 2, 3)) == 3 * BLOCK_TOKENS


def test_one_token_is_always_computed() -> None:
    cache = PrefixCache(10 * BLOCK_TOKENS)
    cache.use(asking(0, 1, 2))
    assert cache.use(asking(1, 1, 2)) == 1
    assert cache.use(asking(2, 1, 2, tokens=BLOCK_TOKENS + 100)) == 1


def test_asking_does_not_change_the_cache() -> None:
    cache = PrefixCache(10 * BLOCK_TOKENS)
    assert cache.uncached_tokens(asking(0, 1)) == cache.uncached_tokens(asking(0, 1)) == BLOCK_TOKENS
    assert len(cache) == 0


def test_what_was_used_longest_ago_goes_first_and_a_chain_from_its_end() -> None:
    cache = PrefixCache(4 * BLOCK_TOKENS)
    cache.use(asking(0, 1, 2, 3))
    cache.use(asking(1, 8, 9))
    assert len(cache) == 4
    assert cache.uncached_tokens(asking(2, 1, 2, 3)) == BLOCK_TOKENS, "3 went, 1 and 2 stayed"
    cache.use(asking(3, 1))
    cache.use(asking(4, 5, 6))
    assert cache.uncached_tokens(asking(5, 1, 2)) == BLOCK_TOKENS, "1 was used again"


def test_a_replica_computes_a_known_prefix_once() -> None:
    fleet = engine([asking(0, 1, 2), asking(1, 1, 2, 3, at_s=9.0)], even(cache_tokens=100_000, routing=Routing.PREFIX_AFFINITY))
    fleet.advance(100.0)
    assert computed(fleet) == [3 * BLOCK_TOKENS, 0]
    assert fleet.pools[Role.PREFILL].replicas[0].server.metrics.cached_tokens == 2 * BLOCK_TOKENS


def test_each_replica_has_a_cache_of_its_own() -> None:
    requests = [asking(number, 1, 2, at_s=9.0 * number) for number in range(4)]
    fleet = engine(requests, even(cache_tokens=100_000, routing=Routing.ROUND_ROBIN))
    fleet.advance(100.0)
    assert computed(fleet) == [2 * BLOCK_TOKENS + 1] * 2


def test_without_blocks_or_without_caches_the_request_says_what_is_cached() -> None:
    told = [asking(0, cached=60, tokens=100), asking(1, cached=60, tokens=100, at_s=9.0)]
    with_caches = engine(told, even(cache_tokens=100_000))
    without = engine([asking(0, 1, 2, cached=1000), asking(1, 1, 2, cached=1000, at_s=9.0)], even())
    for fleet, uncached in ((with_caches, 40), (without, 24)):
        fleet.advance(100.0)
        assert sum(computed(fleet)) == 2 * uncached


@pytest.mark.parametrize("driver", [LABEL, ENGINE_SWITCH])
def test_a_flipped_replica_has_forgotten_and_a_new_one_knows_nothing(driver: object) -> None:
    fleet = engine([asking(0, 1, 2)], even(cache_tokens=100_000))
    fleet.advance(10.0)
    known = fleet.pools[Role.PREFILL].replicas[0]
    fleet.pools[Role.PREFILL].scale(3, fleet.now)
    fleet.advance(50.0)
    for role, other in ((Role.PREFILL, Role.DECODE), (Role.DECODE, Role.PREFILL)):
        replicas = fleet.pools[role].replicas
        while known in replicas and known.server in [one.server for one in replicas]:
            fleet.flip(role, other, 1, driver)  # type: ignore[arg-type]
            fleet.advance(fleet.now + 30.0)
    servers = [one.server for one in fleet.pools[Role.PREFILL].replicas]
    assert known.server in servers
    assert all(
        isinstance(one, QueueServer) and one.cost(asking(1, 1, 2)) == 2 * BLOCK_TOKENS for one in servers if one is known.server
    )


def test_cached_prompts_are_quicker_and_still_held_whole() -> None:
    """Prefill 0.1 s + 1 ms per token, 1,024 tokens: 1.124 s, then 0.101 s for one token."""
    answers = Answers()
    fleet = engine([asking(0, 1, 2), asking(1, 1, 2, at_s=9.0)], even(cache_tokens=100_000), answers)
    fleet.advance(9.05)
    held = [one.server.occupancy().kv_usage for one in fleet.pools[Role.PREFILL].replicas]
    assert max(held) == pytest.approx(1_024 / 100_000)
    fleet.advance(100.0)
    assert answers.ttft_s[0] - answers.ttft_s[1] == pytest.approx(1.023)
