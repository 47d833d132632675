"""Does a replica on a real cluster change its role in place, under load, with nobody the wiser, and what if its engine will not?

Engines are stubs with SGLang's own switch at the pods' addresses, or vLLM's that take either kind of request. Figures are
logged (`pytest --log-level=INFO -rP`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind, Step
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.conftest import FoundTown
from tests.e2e.plane.town import ROUTING, Leader, Town
from tests.e2e.plane.users import keep_busy, let_end, nobody_noticed, users
from tests.e2e.plane.watching import Steps, Watching
from tests.engines.contract import Contract, Launch, Switching
from tests.engines.sglang import Sglang
from tests.engines.smg import SmgStub
from tests.engines.vllm import Vllm

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.plane, pytest.mark.slow]

PREFILL, DECODE = Role.PREFILL, Role.DECODE
OVERHEAD_S = 3.0  # what a flip may take beside its drain
SWITCH_S = 0.5
DISCOVERS_S = 0.1
FLIP: dict[str, Any] = {"enabled": True, "dwellSeconds": 0}


def at_work(found_town: FoundTown, during: ExitStack, contract: type[Contract], size: int = 1) -> tuple[Town, Leader]:
    """A town with one prefill and three decode replicas that may flip, each of `size` pods."""
    town = found_town(contract)
    town.pools({PREFILL: 1, DECODE: 3}, size=size)
    town.policy(behaviour__flip=FLIP)
    return town, during.enter_context(Leader(town))


@contextmanager
def discovering(town: Town) -> Iterator[SmgStub]:
    """A gateway that follows the town's labels."""
    gateway, stop = SmgStub(town.engines.at, settle_s=0.5), threading.Event()

    def discover() -> None:
        while not stop.wait(DISCOVERS_S):
            gateway.discover(town.engines.selected())

    thread = threading.Thread(target=discover, name="discovery", daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        stop.set()
        thread.join()
        gateway.close()


def test_an_engine_switches_its_role_between_two_requests_of_many(found_town: FoundTown, during: ExitStack) -> None:
    town, leader = at_work(found_town, during, Sglang)
    traffic = users(town, during)
    engine = town.engine("decode-0")
    engine.switch_s = SWITCH_S
    keep_busy(town, "decode-0")
    watching, steps = during.enter_context(Watching(town)), during.enter_context(Steps(leader.under_way))
    leader.flip(DECODE, PREFILL)
    town.until_routed(DECODE, "decode-1", "decode-2")
    leader.drains_on()
    let_end(town, "decode-0")
    ended_s = time.monotonic()
    ended = leader.until_over()
    town.until_routed(PREFILL, "decode-0", "prefill-0")
    taken = engine.taken
    wait_until(lambda: engine.taken > taken, "it prefills")
    nobody_noticed(town, traffic)
    assert (ended.done, ended.kind, engine.role) == (True, Kind.SWITCH, PREFILL)
    assert steps.went(Kind.SWITCH), steps.came
    assert watching.labels("decode-0") == ["decode", "draining", "prefill"]
    assert len({one.uid for one in watching.sightings}) == 4, "no pod was made anew"
    pools = leader.fleet().pools
    assert {role: (pool.desired, pool.serving) for role, pool in pools.items()} == {PREFILL: (2, 2), DECODE: (2, 2)}
    assert (town.wanted(PREFILL), town.wanted(DECODE)) == (1, 3)
    drain_s, over_s = steps.at(Step.SWITCH) - steps.at(Step.LEAVE), steps.at(None) - steps.at(Step.SWITCH)
    idle_s = steps.at(Step.SWITCH) - ended_s
    log.info("flip: drained in %.1f s (%.1f s after its last answer), then %.2f s", drain_s, idle_s, over_s)
    assert over_s <= OVERHEAD_S


def test_who_was_borrowed_goes_home_first(found_town: FoundTown, during: ExitStack) -> None:
    town, leader = at_work(found_town, during, Sglang)
    traffic = users(town, during)
    leader.flip(DECODE, PREFILL)
    assert leader.until_over().done
    town.until_routed(PREFILL, "decode-0", "prefill-0")
    leader.flip(PREFILL, DECODE)
    assert leader.until_over(2).done
    town.until_routed(PREFILL, "prefill-0")
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2")
    nobody_noticed(town, traffic)
    assert {pod: town.engine(pod).role for pod in ("prefill-0", "decode-0")} == {"prefill-0": PREFILL, "decode-0": DECODE}


def test_a_flipped_replica_that_is_deleted_is_its_templates_again_and_seen_so(found_town: FoundTown, during: ExitStack) -> None:
    town, leader = at_work(found_town, during, Sglang)
    leader.flip(DECODE, PREFILL)
    assert leader.until_over().done
    first = town.engine("decode-0")
    town.engines.mine("decode-0")
    town.place.kubectl("delete", "pod", "decode-0", "--grace-period=1", "--wait=false")
    wait_until(lambda: town.engines.engine("decode-0") not in (None, first), "it is made anew")
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2")
    wait_until(lambda: leader.fleet().pools[DECODE].serving == 3, "and seen in its first role")
    assert (leader.fleet().pools[PREFILL].desired, leader.fleet().pools[DECODE].desired) == (1, 3)
    assert town.engine("decode-0").role is DECODE


@pytest.mark.parametrize("how", [Switching.REFUSES, Switching.PRETENDS])
def test_an_engine_that_does_not_switch_is_let_in_again_as_it_was(
    found_town: FoundTown, during: ExitStack, how: Switching
) -> None:
    town, leader = at_work(found_town, during, Sglang)
    traffic = users(town, during)
    engine = town.engine("decode-0")
    engine.switching = how
    watching = during.enter_context(Watching(town))
    leader.flip(DECODE, PREFILL)
    ended = leader.until_over()
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2")
    nobody_noticed(town, traffic)
    assert (ended.done, engine.role, engine.gone.is_set()) == (False, DECODE, False)
    assert (
        ended.why
        == {
            Switching.REFUSES: "the instance is not idle",
            Switching.PRETENDS: "it says that it has switched to prefill, and is decode all the same",
        }[how]
    )
    assert watching.labels("decode-0") == ["decode", "draining", "decode"]
    assert leader.fleet().pools[DECODE].desired == 3


def test_an_engine_that_breaks_is_made_anew_in_its_first_role(found_town: FoundTown, during: ExitStack) -> None:
    town, leader = at_work(found_town, during, Sglang, size=2)
    traffic = users(town, during)
    broken = town.engine("decode-0")
    broken.switching = Switching.BREAKS
    watching = during.enter_context(Watching(town))
    leader.flip(DECODE, PREFILL)
    ended = leader.until_over()
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2")
    nobody_noticed(town, traffic)
    assert (ended.done, "restart required" in ended.why) == (False, True)
    assert broken.gone.is_set()
    assert (town.engine("decode-0").role, town.engine("decode-0").healthy) == (DECODE, True)
    assert len({one.uid for one in watching.of("decode-0-1")}) > 1, "its worker is made anew as well"
    assert watching.labels("decode-0") == ["decode", "draining", "decode"]
    assert watching.busy_when_deleted() == []
    assert leader.fleet().pools[DECODE].serving == 3


def test_sglangs_gateway_lets_a_worker_go_and_takes_it_in_its_new_role(found_town: FoundTown, during: ExitStack) -> None:
    town = found_town(Sglang)
    town.pools({PREFILL: 1, DECODE: 3})
    gateway = during.enter_context(discovering(town))
    town.policy(behaviour__flip=FLIP, routing={**ROUTING, "kind": "sglangGateway", "url": gateway.url})
    leader = during.enter_context(Leader(town))
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2", router=gateway)
    traffic = users(town, during, gateway)
    watching = during.enter_context(Watching(town))
    leader.flip(DECODE, PREFILL)
    assert leader.until_over().done
    town.until_routed(PREFILL, "decode-0", "prefill-0", router=gateway)
    town.until_routed(DECODE, "decode-1", "decode-2", router=gateway)
    nobody_noticed(town, traffic)
    assert watching.labels("decode-0") == ["decode", "draining", "prefill"]
    assert town.engine("decode-0").role is PREFILL
    assert gateway.http.asked["GET /workers"] > 0


def test_an_engine_that_does_both_roles_needs_no_more_than_another_label(found_town: FoundTown, during: ExitStack) -> None:
    town = found_town(Vllm, lambda role: Launch(role, any_leg=True))
    town.pools({PREFILL: 1, DECODE: 3})
    town.policy(behaviour__flip={**FLIP, "driver": "relabel"})
    leader = during.enter_context(Leader(town))
    traffic = users(town, during)
    watching = during.enter_context(Watching(town))
    leader.flip(DECODE, PREFILL)
    ended = leader.until_over()
    town.until_routed(PREFILL, "decode-0", "prefill-0")
    nobody_noticed(town, traffic)
    assert (ended.done, ended.kind) == (True, Kind.RELABEL)
    assert watching.labels("decode-0") == ["decode", "prefill"]
    log.info("relabel: %.2f s", ended.took_s)
