"""Do replicas of one role give way to replicas of another on a real cluster, on the same GPUs and never on more than there are?

The GPUs of all pods that are not gone are added up every 50 ms, and pods take a while to go, as real ones do: a second
replica that started too early would be seen. Figures are logged (`pytest --log-level=INFO -rP`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from autoscaler.adapters.kubernetes.transactions import ground
from autoscaler.core.fleet import Role
from autoscaler.core.transaction import Kind
from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.conftest import FoundTown
from tests.e2e.plane.plane import NODES, Plane
from tests.e2e.plane.town import Leader, Town
from tests.e2e.plane.users import keep_busy, let_end, nobody_noticed, users
from tests.e2e.plane.watching import Steps, Watching
from tests.engines.vllm import Vllm

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.plane, pytest.mark.slow]

PREFILL, DECODE = Role.PREFILL, Role.DECODE
COUNTS = {PREFILL: 1, DECODE: 3}
LEAST_SAMPLES = 40  # two seconds' worth


@dataclass(frozen=True, slots=True)
class Case:
    """Decode gives `give` replicas, prefill gets one; GPUs of one replica by role, and of all together at most."""

    name: str
    give: int
    gpus: Mapping[Role, int]
    budget: int
    kind: Kind


ALIKE, UNLIKE = {PREFILL: 2, DECODE: 2}, {PREFILL: 4, DECODE: 2}
DRAINS = Case("one for one, no GPU to spare", 1, ALIKE, 8, Kind.DRAIN_FIRST)
MERGES = Case("two of two GPUs for one of four, no GPU to spare", 2, UNLIKE, 10, Kind.DRAIN_FIRST)
SURGES = Case("two of two GPUs for one of four, four GPUs to spare", 2, UNLIKE, 14, Kind.SURGE_FIRST)


def at_work(found_town: FoundTown, during: ExitStack, case: Case) -> tuple[Town, Leader]:
    """A town of one prefill and three decode replicas on shared GPUs."""
    town = found_town(Vllm)
    town.pools(COUNTS, gpus=case.gpus, gone_after="1500ms")
    pools = {
        role: {"target": {"name": str(role)}, "max": 8, "gpusPerReplica": case.gpus[role], "capacityPool": "all"} for role in Role
    }
    flip = {"enabled": True, "dwellSeconds": 0}
    town.policy(pools=pools, gpuBudget=case.budget, behaviour__flip=flip, forecast__horizonSeconds=1)
    return town, during.enter_context(Leader(town))


@pytest.mark.parametrize("case", [DRAINS, MERGES, SURGES], ids=lambda case: case.name)
def test_replicas_give_way_to_others_on_the_same_gpus_and_nobody_notices(
    found_town: FoundTown, during: ExitStack, case: Case
) -> None:
    town, leader = at_work(found_town, during, case)
    traffic = users(town, during)
    victims = [f"decode-{3 - number}" for number in range(case.give, 0, -1)]
    keep_busy(town, victims[0])
    watching, steps = during.enter_context(Watching(town)), during.enter_context(Steps(leader.under_way))
    leader.flip(DECODE, PREFILL, case.give, 1)
    wait_until(lambda: not {*victims} & {*town.routed(DECODE)}, "the victims have left the routing")
    let_end(town, victims[0])
    ended = leader.until_over()
    town.until_routed(PREFILL, "prefill-0", "prefill-1")
    nobody_noticed(town, traffic)
    assert (ended.done, ended.kind, ended.forced_requests) == (True, case.kind, 0)
    assert steps.went(case.kind), steps.came
    assert (town.wanted(PREFILL), town.wanted(DECODE)) == (2, 3 - case.give)
    for victim in victims:
        assert watching.labels(victim) == ["decode", "draining"]
    assert watching.busy_when_deleted() == []
    assert len(watching.gpus) >= LEAST_SAMPLES
    assert max(watching.gpus) <= case.budget
    log.info(
        "%s: %.1f s, at most %d of %d GPUs in %d samples",
        *(case.kind, ended.took_s, max(watching.gpus), case.budget, len(watching.gpus)),
    )


@contextmanager
def cordoned(plane: Plane) -> Iterator[None]:
    """No node takes another pod."""
    names = [f"gpu-node-{number}" for number in range(NODES)]
    plane.kubectl("cordon", *names)
    try:
        yield
    finally:
        plane.kubectl("uncordon", *names)


@pytest.mark.parametrize("case", [MERGES, SURGES], ids=lambda case: str(case.kind))
def test_if_the_new_ones_never_serve_all_is_as_before(
    found_town: FoundTown, during: ExitStack, monkeypatch: pytest.MonkeyPatch, case: Case
) -> None:
    monkeypatch.setattr(ground, "LEAST_READY_S", 3.0)  # instead of a quarter of an hour
    town, leader = at_work(found_town, during, case)
    traffic = users(town, during)
    watching = during.enter_context(Watching(town))
    with cordoned(town.plane):
        leader.flip(DECODE, PREFILL, case.give, 1)
        wait_until(lambda: town.wanted(PREFILL) == 2, "the receiver has grown")
        wait_until(lambda: town.wanted(PREFILL) == 1, "and not any more")
    ended = leader.until_over()
    assert (ended.done, ended.why) == (False, "not ready within 3 s")
    town.until_routed(DECODE, "decode-0", "decode-1", "decode-2")
    town.until_routed(PREFILL, "prefill-0")
    nobody_noticed(town, traffic)
    assert (town.wanted(PREFILL), town.wanted(DECODE)) == (1, 3)
    assert {role: pool.desired for role, pool in leader.fleet().pools.items()} == COUNTS
    assert max(watching.gpus) <= case.budget
    assert watching.busy_when_deleted() == []
