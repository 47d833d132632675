"""Do peers keep what they must keep whatever they see: the same answer to the same question, and the policy's bounds?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Observation
from autoscaler.core.policy import PoolLimits
from autoscaler.ports import Managed
from autoscaler.simulator.engine import PoolSpec
from autoscaler.simulator.flips import DriverKind, FlipSpec, PairedResize
from autoscaler.simulator.peers import Flip, Wishes
from autoscaler.simulator.peers.catalogue import PEERS, Setting
from autoscaler.simulator.peers.seat import PeerController
from autoscaler.simulator.run import VirtualRun
from tests.examples import examples
from tests.simulator.peers.looks import blind, look
from tests.simulator.peers.sinusoid import SHAPE, TODAY, policy, sinusoid

SETTING = Setting(policy(), SHAPE, TODAY)
PODS = st.lists(st.tuples(st.floats(0, 500), st.floats(0, 256), st.floats(0, 1)), min_size=1, max_size=6).map(tuple)
LOOKS = st.builds(
    lambda prefill, decode, rps, output: look({Role.PREFILL: prefill, Role.DECODE: decode}, rps=rps, output=output),
    PODS, PODS, st.floats(0, 100), st.floats(1, 2000),
)  # fmt: skip


@pytest.mark.parametrize("name", PEERS)
@given(seen=st.lists(LOOKS, min_size=1, max_size=4), at=st.integers(0, 4))
@examples(6)
def test_the_same_looks_give_the_same_wishes(name: str, seen: list[Observation], at: int) -> None:
    def wishes() -> list[Wishes]:
        peer: Any = PEERS[name].make(SETTING, PEERS[name].points[at])
        memory, said = peer.begin(), []
        for turn, one in enumerate(seen):
            wish, memory = peer.step(replace(one, now=1000.0 + turn * peer.interval_s), memory)
            said.append(wish)
        return said

    first = wishes()
    assert first == wishes()
    assert all(count >= 0 for wish in first for count in wish.replicas.values())


@pytest.mark.parametrize("name", [name for name in PEERS if name != "static"])
def test_a_blind_peer_holds(name: str) -> None:
    peer = PEERS[name].make(SETTING, PEERS[name].published)
    seen = blind(look({Role.PREFILL: ((9.0, 1.0, 0.5),) * 3, Role.DECODE: ((0.0, 90.0, 0.9),) * 5}))
    wishes, memory = peer.step(seen, peer.begin())
    assert (wishes.replicas, memory) == ({Role.PREFILL: 3, Role.DECODE: 5}, peer.begin())


class Wild:
    """Asks for a different absurdity at every look."""

    interval_s = 15.0

    def begin(self) -> int:
        return 0

    def step(self, observation: Observation, memory: int) -> tuple[Wishes, int]:
        asked = ((99, 0), (0, 99), (7, 7), (-5, 3))[memory % 4]
        giver, taker = list(Role)[:: 1 if memory % 2 else -1]
        return Wishes(dict(zip(Role, asked, strict=True)), (Flip(giver, taker, 99),)), memory + 1


@pytest.mark.parametrize("driver", [None, PairedResize(1, 2)])
def test_no_wish_gets_past_bounds_and_budget(driver: PairedResize | None) -> None:
    trial = sinusoid(300.0)
    limits = {Role.PREFILL: PoolLimits(2, 5), Role.DECODE: PoolLimits(1, 6)}
    managed = Managed("demo/wave", "demo", "8b", replace(policy(), pools=limits, gpu_budget=9), gateway="llm-d")
    run = VirtualRun(trial.scenario, [])
    seat = PeerController(run, Wild(), managed) if driver is None else PeerController(run, Wild(), managed, driver)
    seen: set[tuple[int, ...]] = set()

    def tick() -> None:
        seat.tick()
        fleet = run.engine.fleet()
        assert fleet.gpus_held <= 9
        assert all(limits[r].min_replicas <= pool.desired <= limits[r].max_replicas for r, pool in fleet.pools.items())
        seen.add(tuple(pool.desired for pool in fleet.pools.values()))

    run.tick = tick
    run.advance(300.0)
    assert len(seen) > 1


class Once:
    """Asks for one flip from prefill to decode, once."""

    interval_s = 15.0

    def begin(self) -> bool:
        return False

    def step(self, observation: Observation, memory: bool) -> tuple[Wishes, bool]:
        return Wishes({}, () if memory else (Flip(Role.PREFILL, Role.DECODE, 1),)), True


@pytest.mark.parametrize(
    ("prefill_gpus", "flips", "after"),
    [
        (1, None, (3, 5)),  # the label changes
        (4, None, (3, 6)),  # 1 of 4 GPUs against 2 of 2
        (4, FlipSpec(DriverKind.LABEL), (4, 4)),  # this fleet can only change labels, and not of these
        (4, FlipSpec(DriverKind.PAIRED_RESIZE, grows_first=True), (3, 6)),
    ],
)
def test_a_flip_goes_the_fleets_way_and_by_paired_resize_where_the_gpus_differ(
    prefill_gpus: int, flips: FlipSpec | None, after: tuple[int, int]
) -> None:
    pools = {Role.PREFILL: PoolSpec(4, prefill_gpus), Role.DECODE: PoolSpec(4, 1 if prefill_gpus == 1 else 2)}
    scenario = sinusoid(300.0).scenario
    run = VirtualRun(replace(scenario, fleet=replace(scenario.fleet, pools=pools, flips=flips)), [])
    limits = dict.fromkeys(Role, PoolLimits(1, 9))
    managed = Managed("demo/wave", "demo", "8b", replace(policy(), pools=limits, gpu_budget=None), gateway="llm-d")
    run.tick = PeerController(run, Once(), managed).tick
    run.advance(300.0)
    assert tuple(pool.serving for pool in run.engine.fleet().pools.values()) == after


def test_a_whole_run_repeats_exactly() -> None:
    name = "arrow"
    scores = [sinusoid(120.0).of(PEERS[name].make(SETTING, 1.5)) for _ in range(2)]
    assert scores[0] == scores[1]
    assert scores[0].offered > 100
