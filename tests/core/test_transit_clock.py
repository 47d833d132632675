"""What becomes of a transaction when the clock of its leader jumps?"""

from __future__ import annotations

import pytest

from autoscaler.core.transaction import Kind, Step
from tests.core.transaction_life import life, until

HOUR_S = 3600.0


@pytest.mark.parametrize("step", [Step.LEAVE, Step.IDLE, Step.GONE])
def test_a_clock_that_is_set_back_costs_no_more_than_its_settling_once_more(step: Step) -> None:
    one = life(Kind.DRAIN)
    until(one, step)
    one.world.now -= HOUR_S
    for pod in (pod for pods in one.world.pods.values() for pod in pods.values()):  # the world itself has no clock
        pod.late_s -= HOUR_S
        if pod.going_until_s is not None:
            pod.going_until_s -= HOUR_S
    one.run(20)
    assert (one.last.step, one.world.lost) == (Step.DONE, 0)
