"""Is the cache-hit share not believed while our own doing tells in it, and believed again after?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.capacity import Shape
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Fleet, Phase, Role
from autoscaler.core.forecast import Forecast
from autoscaler.core.hits import as_forecast, quarantined, share_of
from autoscaler.core.observation import Observation
from autoscaler.core.reason import Reason
from tests.fakes import fleet, policy, pool, signals

SETTLE_S = 90.0
CACHED = Shape(3000.0, 1000.0, 100.0)
COLD = Shape(3000.0, 3000.0, 100.0)


def with_one(role: Role, phase: Phase, ago_s: float, now: float = 1000.0) -> Fleet:
    """A fleet whose last replica of a role has been in its phase for so long."""
    members = pool(role, 3)
    *others, last = members.replicas
    return fleet(replace(members, replicas=(*others, replace(last, phase=phase, since_s=now - ago_s))))


@pytest.mark.parametrize(
    ("role", "phase", "ago_s", "kept_out"),
    [
        pytest.param(Role.PREFILL, Phase.SERVING, 0.0, True, id="its cache is empty"),
        pytest.param(Role.PREFILL, Phase.SERVING, 89.0, True, id="its cache is young"),
        pytest.param(Role.PREFILL, Phase.SERVING, 90.0, False, id="its cache has settled"),
        pytest.param(Role.PREFILL, Phase.DRAINING, 500.0, True, id="one takes its cache along"),
        pytest.param(Role.PREFILL, Phase.SWITCHING, 500.0, True, id="one lost it for another role"),
        pytest.param(Role.PREFILL, Phase.WARMING, 500.0, True, id="one fills it"),
        pytest.param(Role.PREFILL, Phase.STARTING, 0.0, False, id="one that starts has changed nothing yet"),
        pytest.param(Role.DECODE, Phase.SERVING, 0.0, False, id="who computes no prompts has no say"),
        pytest.param(Role.DECODE, Phase.DRAINING, 0.0, False, id="nor when it goes"),
    ],
)
def test_the_share_is_quarantined_while_a_cache_comes_or_goes(role: Role, phase: Phase, ago_s: float, kept_out: bool) -> None:
    assert quarantined(with_one(role, phase, ago_s), 1000.0, SETTLE_S) is kept_out


def test_a_share_is_told_of_the_whole_prompt_and_never_beyond_all_or_nothing() -> None:
    assert share_of(CACHED) == pytest.approx(2 / 3)
    assert share_of(replace(CACHED, uncached_tokens=3500.0)) == 0.0  # more computed than asked: two windows that differ
    assert share_of(Shape(0.0, 0.0, 1.0)) == 0.0


def test_a_forecast_share_takes_the_place_of_the_measured_one() -> None:
    def ahead(share: float) -> Forecast:
        return Forecast(share, share, 60.0, "last", None, Reason.DEMAND_ROSE)

    assert as_forecast(COLD, ahead(0.5)) == replace(COLD, uncached_tokens=1500.0)
    assert as_forecast(COLD, ahead(1.2)).uncached_tokens == 1.0
    assert as_forecast(COLD, None) == COLD


def looked(memory: Memory, now: float, shape: Shape, stands: Fleet) -> Memory:
    """The memory after a look at a fleet that tells this shape."""
    return decide(Observation(now, stands, signals(stands, 9.0, shape=shape)), memory, policy()).memory


def test_in_quarantine_what_a_request_brings_is_told_from_the_share_before_until_that_is_too_old() -> None:
    """A replica joins at 600 s and nothing is cached any more: two thirds stay believed. Others keep joining, for longer than
    a forecast outlives its last value: then what is measured counts.
    """
    memory = Memory()
    for tick in range(40):
        memory = looked(memory, 15.0 * tick, CACHED, fleet(pool(Role.PREFILL, 3)))
    told = []
    for tick in range(40, 52):
        now = 15.0 * tick
        memory = looked(memory, now, COLD, with_one(Role.PREFILL, Phase.SERVING, 0.0, now))
        assert memory.shape is not None
        told.append(round(memory.shape.uncached_tokens))
    assert told[0] == 1000
    assert told[-1] == 3000
    assert told == sorted(told)


def test_after_the_quarantine_the_share_is_measured_again() -> None:
    memory = Memory()
    for tick in range(40):
        memory = looked(memory, 15.0 * tick, CACHED, fleet(pool(Role.PREFILL, 3)))
    joins = with_one(Role.PREFILL, Phase.SERVING, 0.0, 600.0)
    told = []
    for now in (600.0, 660.0, 690.0):
        memory = looked(memory, now, COLD, joins)
        assert memory.shape is not None
        told.append(round(memory.shape.uncached_tokens))
    assert told == [1000, 1000, 3000]
