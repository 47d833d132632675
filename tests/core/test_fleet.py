"""Does a fleet count what it holds?"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from autoscaler.core.capacity import Shape
from autoscaler.core.fleet import ROLE_FACTS, Flipping, Phase, Role
from tests.fakes import fleet, pool


@pytest.mark.parametrize(
    ("desired", "serving", "starting", "draining", "held"),
    [
        pytest.param(4, 4, 0, 0, 4, id="all serve"),
        pytest.param(4, 1, 0, 0, 4, id="three are asked for and not there yet"),
        pytest.param(4, 2, 2, 0, 4, id="starting ones are among the desired"),
        pytest.param(3, 3, 0, 1, 4, id="one drains on top of the desired"),
        pytest.param(3, 4, 0, 0, 4, id="one too many that does not drain yet"),
        pytest.param(4, 2, 0, 2, 6, id="two drain while two more are asked for"),
        pytest.param(0, 0, 0, 2, 2, id="nothing desired, two still draining"),
    ],
)
def test_a_draining_replica_holds_its_gpus_on_top_of_the_desired(
    desired: int, serving: int, starting: int, draining: int, held: int
) -> None:
    assert pool(Role.DECODE, desired, serving=serving, starting=starting, draining=draining).held == held


def test_gpus_are_counted_with_each_pools_own_size() -> None:
    seen = fleet(pool(Role.PREFILL, 2, draining=1, gpus=4), pool(Role.DECODE, 3, gpus=2))
    assert seen.gpus_held == 3 * 4 + 3 * 2


def test_a_replica_that_leaves_once_it_is_replaced_is_held_on_top_of_the_desired() -> None:
    """3 shall stay, of which one is not there yet; a third serves until what takes its place does."""
    assert replace(pool(Role.DECODE, 3, serving=3), leaving=1).held == 4


def test_gpus_that_two_pools_count_during_a_flip_are_held_once() -> None:
    """One decode replica drains to become the third of prefill: both pools hold 3 + 2 for 4 GPUs."""
    pools = {Role.PREFILL: pool(Role.PREFILL, 3, serving=2), Role.DECODE: pool(Role.DECODE, 1, draining=1)}
    flip = Flipping("flip-0", Role.DECODE, Role.PREFILL, 1, 1, Phase.DRAINING, 0.0, 0.0, shared_gpus=1)
    assert replace(fleet(), pools=pools, flips=(flip,)).gpus_held == 4


def test_only_serving_replicas_take_work() -> None:
    members = pool(Role.PREFILL, 5, serving=2, starting=1, draining=1, stuck=1)
    assert members.serving == 2
    assert [replica.name for replica in members.in_phase(Phase.STARTING, Phase.STUCK)] == ["prefill-2", "prefill-3"]


def test_every_role_has_its_row_of_facts_and_its_work_is_a_field_of_the_shape() -> None:
    assert set(ROLE_FACTS) == set(Role)
    assert {facts.work.value for facts in ROLE_FACTS.values()} <= {field.name for field in fields(Shape)}
