"""Does measured latency speak only where it is sure, of those it is about, and above what an idle replica takes?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autoscaler.core.capacity import Bound, Slo
from autoscaler.core.fleet import Pool, Role, SloKind
from autoscaler.core.observation import Histogram, Unknown
from autoscaler.core.strain import IDLE_S, Strain, StrainLimits, crowded, strain
from tests.fakes import GONE, PROFILE, SHAPE, carries, pool

SLO = Slo(SloKind.TPOT, 0.06, 0.95)
LIMITS = StrainLimits()
EDGES = (0.03, 0.045, 0.06, 0.09, math.inf)


def steps(*counts: float) -> Histogram:
    """How many fell into each bucket."""
    return Histogram(EDGES, tuple(sum(counts[: index + 1]) for index in range(len(EDGES))))


def strained(
    latency: Histogram | Unknown, members: Pool | None = None, *, crowd: bool = True, idle_s: float = 0.03
) -> Strain | None:
    return strain(latency, SLO, idle_s, members or pool(Role.DECODE, 4), 1000.0, LIMITS, crowded=crowd)


@pytest.mark.parametrize(
    ("counts", "ratio"),
    [
        pytest.param((100, 0, 0, 0, 0), 0.0, id="all at the floor"),
        pytest.param((50, 40, 10, 0, 0), 0.5, id="45 ms are half way from 30 to 60"),
        pytest.param((50, 0, 50, 0, 0), 0.5, id="45 to 60 ms: 45 are sure"),
        pytest.param((0, 0, 50, 50, 0), 1.0, id="60 to 90 ms: at its promise for sure"),
        pytest.param((0, 0, 0, 50, 50), 2.0, id="over 90 ms, nobody knows how far: twice"),
    ],
)
def test_strain_is_what_is_sure_above_the_idle_floor(counts: tuple[float, ...], ratio: float) -> None:
    judged = strained(steps(*counts))
    assert judged is not None
    assert judged.ratio == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("latency", "members", "idle_s"),
    [
        pytest.param(GONE, pool(Role.DECODE, 4), 0.03, id="not measured"),
        pytest.param(steps(0, 0, 0, 0, 29), pool(Role.DECODE, 4), 0.03, id="29 samples"),
        pytest.param(Histogram(EDGES, (math.nan,) * 5), pool(Role.DECODE, 4), 0.03, id="no number"),
        pytest.param(steps(0, 0, 0, 0, 99), pool(Role.DECODE, 4, serving=0, starting=4), 0.03, id="nobody serves"),
        pytest.param(steps(0, 0, 0, 0, 99), pool(Role.DECODE, 4), 0.06, id="an idle replica takes as long"),
    ],
)
def test_what_says_nothing_is_no_strain(latency: Histogram | Unknown, members: Pool, idle_s: float) -> None:
    assert strained(latency, members, idle_s=idle_s) is None


def test_latency_speaks_only_of_those_who_served_all_of_its_window() -> None:
    """Two of four begun a minute ago: what was measured is about the other two, and their relief has yet to be seen."""
    members = pool(Role.DECODE, 4)
    young = tuple(replace(replica, since_s=940.0) for replica in members.replicas[2:])
    judged = strained(steps(0, 0, 0, 0, 99), replace(members, replicas=(*members.replicas[:2], *young)))
    assert judged is not None
    assert judged.ratio == pytest.approx(2.0)
    assert (judged.settled, judged.may_raise) == (2, False)


@pytest.mark.parametrize(
    ("members", "crowd", "may_raise"),
    [
        pytest.param(pool(Role.DECODE, 4), True, True, id="all serve and are crowded"),
        pytest.param(pool(Role.DECODE, 4), False, False, id="the queues are gone: that was before"),
        pytest.param(pool(Role.DECODE, 6, serving=4, starting=2), True, False, id="two more are on their way"),
    ],
)
def test_a_breach_raises_only_while_it_lasts_and_nothing_is_on_its_way(members: Pool, crowd: bool, may_raise: bool) -> None:
    judged = strained(steps(0, 0, 0, 50, 50), members, crowd=crowd)
    assert judged is not None
    assert judged.replicas(LIMITS) == pytest.approx(8.0 if may_raise else 4.0)


@pytest.mark.parametrize(
    ("waiting", "running", "serving", "most", "full"),
    [
        (3.0, 0.0, 4, None, False),
        (4.0, 0.0, 4, None, True),
        (0.0, 19.0, 4, 10.0, False),
        (0.0, 20.0, 4, 10.0, True),
        (0.0, 0.0, 0, None, False),
    ],
)
def test_a_crowd_is_one_waiting_or_half_a_batch_per_replica(
    waiting: float, running: float, serving: int, most: float | None, full: bool
) -> None:
    assert crowded(waiting, running, serving, carries(500.0, most, Bound.TPOT)) is full


def test_the_idle_floor_is_a_prompt_or_a_step_alone() -> None:
    assert IDLE_S[SloKind.TTFT](PROFILE, SHAPE) == pytest.approx(0.19)
    assert IDLE_S[SloKind.TPOT](PROFILE, SHAPE) == pytest.approx(0.02 + 1e-7)
