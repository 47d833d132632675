"""Does the whole loop come to rest under constant load, with real prefix caches and replicas that may flip?

Forty people ask in turn, at one pace; each begins with the same 2,048 tokens as ever and adds 512 that are new. Most of each
prompt is cached, and a replica more or fewer changes how much: what the controller does comes back to it as load. After the
start it has nothing to do, whether all that is needed is there or the budget is too small and what there is must be split.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest

from autoscaler.core.action import Action, Flip
from autoscaler.core.capacity import Shape, Slo
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet, Phase, Role, SloKind
from autoscaler.core.flip import FlipLimits
from autoscaler.core.observation import Observation
from autoscaler.core.policy import Policy
from autoscaler.ports import FleetScope
from autoscaler.simulator.engine import PoolSpec
from autoscaler.simulator.flips import DriverKind, FlipSpec
from autoscaler.simulator.pools import StartUp
from autoscaler.simulator.prefix_cache import BLOCK_TOKENS
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.run import Scenario, VirtualRun
from autoscaler.simulator.workload import Request
from tests.fakes import merged, policy
from tests.simulator.small_fleet import KEY, changed, even

PEOPLE, SHARED_BLOCKS, ANSWER_TOKENS = 40, 4, 300
SLOS = {SloKind.TTFT: Slo(SloKind.TTFT, 3.0, 0.9), SloKind.TPOT: Slo(SloKind.TPOT, 0.05, 0.9)}
PROFILE = changed(prefill_s=(0.05, 0.0005, 0.0), decode_s=(0.010, 0.001, 1e-7), kv_tokens=1_000_000, max_seqs=32)
START_S, HOUR_S = 3600.0, 3600.0
ANSWERING = (Phase.SERVING, Phase.DRAINING)


def asking(apart_s: float) -> Iterator[Request]:
    """Everybody in turn, for ever, so many seconds apart."""
    for number in count():
        person = number % PEOPLE
        blocks = (*(person * 100 + block for block in range(SHARED_BLOCKS)), 1_000_000 + number)
        yield Request(number, number * apart_s, len(blocks) * BLOCK_TOKENS, 0, ANSWER_TOKENS, blocks)


def wanted(gpu_budget: int | None) -> Policy:
    """The usual limits, with flips."""
    shape = Shape(2560.0, 600.0, ANSWER_TOKENS, cv2=0.0)
    return replace(policy(gpu_budget=gpu_budget, shape=shape), slos=SLOS, profile=PROFILE, flip=FlipLimits(enabled=True))


def acted(hours: int, gpu_budget: int | None, apart_s: float) -> list[tuple[float, Action | Flip]]:
    """What the controller did, and when."""
    pools = {Role.PREFILL: PoolSpec(3), Role.DECODE: PoolSpec(3)}
    fleet = even(
        pools=pools,
        profile=PROFILE,
        start_up=StartUp(60.0, 0.2),
        cache_tokens=200_000,
        routing=Routing.PREFIX_AFFINITY,
        flips=FlipSpec(DriverKind.ENGINE_SWITCH, 20.0, drains=True, max_in_flight=2),
    )
    run = VirtualRun(Scenario(fleet, SLOS), asking(apart_s))
    memory, done = Memory(), []

    def tick() -> None:
        nonlocal memory
        now = run.clock.now()
        seen = run.cluster.read(KEY, now)
        assert isinstance(seen, Fleet)
        pods = {role: tuple(one.name for one in pool.in_phase(*ANSWERING)) for role, pool in seen.pools.items()}
        said = merged(run.signals.read([FleetScope(KEY, "", "", "", None, pods)], now))[KEY]
        decision = decide(Observation(now, seen, said), memory, wanted(gpu_budget))
        memory = decision.memory
        for action in decision.plan.to_apply:
            done.append((now, action))
            run.cluster.apply(KEY, action, now, 0)

    run.tick = tick
    run.advance(hours * HOUR_S)
    return done


@pytest.mark.slow  # tens of thousands of requests each
@pytest.mark.parametrize("apart_s", [0.4, 0.25, 0.12])
@pytest.mark.parametrize("gpu_budget", [None, 6], ids=["no budget", "a budget"])
def test_under_constant_load_with_prefix_caches_nothing_is_done_after_the_start(gpu_budget: int | None, apart_s: float) -> None:
    done = acted(3, gpu_budget, apart_s)
    assert done or gpu_budget is not None  # a full fleet whose split is right already has nothing that it could do
    assert [(now, action) for now, action in done if now > START_S] == []
