"""Does each routing policy choose as its name says?"""

from __future__ import annotations

import pytest

from autoscaler.core.fleet import Role
from autoscaler.simulator.prefix_cache import BLOCK_TOKENS
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import engine, even

LENGTHS = (5_000, 100, 100, 100, 100)


@pytest.mark.parametrize(
    ("routing", "loads"),
    [
        pytest.param(Routing.ROUND_ROBIN, [5_200, 200], id="each in turn"),
        pytest.param(Routing.LEAST_LOADED, [5_200, 200], id="three requests against two"),
        pytest.param(Routing.PENDING_TOKENS, [5_000, 400], id="all short ones on one side"),
    ],
)
def test_requests_are_spread_as_the_policy_counts(routing: Routing, loads: list[int]) -> None:
    requests = [Request(number, 0.0, tokens, 0, 1) for number, tokens in enumerate(LENGTHS)]
    fleet = engine(requests, even(routing=routing))
    fleet.advance(0.0)
    assert [replica.server.load for replica in fleet.pools[Role.PREFILL].replicas] == loads


def test_least_loaded_counts_requests_and_round_robin_does_not() -> None:
    """The first two are done when the others come, so the turn is at prefill-0 and both are idle."""
    for routing, first in ((Routing.ROUND_ROBIN, 1), (Routing.LEAST_LOADED, 0)):
        requests = [Request(0, 0.0, 10, 0, 1), Request(1, 5.0, 10, 0, 1)]
        fleet = engine(requests, even(routing=routing))
        fleet.advance(5.0)
        assert [replica.server.requests for replica in fleet.pools[Role.PREFILL].replicas].index(1) == first


def test_affinity_follows_the_prefix_until_waiting_costs_more() -> None:
    """Prefill-0 knows blocks 1 and 2. A prompt of three blocks costs 512 tokens there and 1,536 elsewhere; the third such
    prompt would wait behind 1,024 tokens there, and goes to prefill-1 when a fourth block's worth stands before it.
    """
    fleet = engine(
        [
            Request(0, 0.0, 2 * BLOCK_TOKENS, 0, 1, (1, 2)),
            *(Request(number, 9.0, 3 * BLOCK_TOKENS, 0, 1, (1, 2, 10 * number)) for number in range(1, 5)),
        ],
        even(cache_tokens=100_000, routing=Routing.PREFIX_AFFINITY),
    )
    fleet.advance(9.0)
    assert [replica.server.load for replica in fleet.pools[Role.PREFILL].replicas] == [3 * BLOCK_TOKENS, 3 * BLOCK_TOKENS]
