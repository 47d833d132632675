"""Which replicas teach how long a start takes, and which must not?

A life is what stands at each look: name -> (phase, since, born). Looks are 15 s apart unless told otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Phase, Pool, Replica, Role
from autoscaler.core.startup import GAP_S, KEPT, LONGEST_S, StartUps, learn

Standing = dict[str, tuple[Phase, float, float | None]]
NOW = 1000.0
OLD: Standing = {"a": (Phase.SERVING, 0.0, -90.0)}


def starting(born_s: float) -> Standing:
    return {"b": (Phase.STARTING, born_s, born_s)}


def serving(born_s: float, since_s: float) -> Standing:
    return {"b": (Phase.SERVING, since_s, born_s)}


def members(standing: Standing) -> Pool:
    return Pool(Role.DECODE, len(standing), tuple(Replica(name, *life) for name, life in standing.items()))


def lived(looks: Sequence[tuple[float, Standing]]) -> StartUps:
    learned = StartUps()
    for now, standing in looks:
        learned = learn(learned, members(standing), now)
    return learned


@pytest.mark.parametrize(
    ("looks", "samples"),
    [
        pytest.param([(0, OLD), (15, OLD | starting(1)), (30, OLD | serving(1, 27))], (26,), id="seen to start and to serve"),
        pytest.param([(0, OLD), (15, OLD | serving(1, 9))], (8,), id="so fast that it serves at its first look"),
        pytest.param([(0, {}), (15, starting(1)), (30, serving(1, 27)), (45, serving(1, 27))], (26,), id="it teaches once"),
        pytest.param([(0, OLD), (15, OLD)], (), id="what served at the very first look"),
        pytest.param([(0, starting(-3600)), (15, serving(-3600, 9))], (), id="what started at the very first look"),
        pytest.param(
            [(0, {}), (15, starting(1)), (30, serving(1, 27)), (45, starting(1)), (900, starting(1)), (915, serving(1, 905))],
            (26,),
            id="lost readiness and came back",
        ),
        pytest.param([(0, {}), (15, starting(1)), (40, {}), (55, serving(1, 50))], (), id="was gone in between, and is no news"),
        pytest.param([(0, serving(-90, -5)), (15, starting(2)), (60, serving(2, 52))], (50,), id="made anew under its old name"),
        pytest.param([(0, {}), (15, serving(-3600, 9))], (), id="born long before: it came from another role"),
        pytest.param([(0, {}), (15, serving(-20, 9))], (29,), id="the cluster's clock is some seconds behind"),
        pytest.param(
            [(0, {}), (15, starting(1.02)), (30, starting(0.98)), (45, serving(1.01, 41.01)), (60, serving(0.99, 41))],
            (40.0,),
            id="its birth is told as an age and trembles",
        ),
        pytest.param([(0, {}), (15, {"b": (Phase.SERVING, 9.0, None)})], (), id="nobody knows when it was born"),
        pytest.param([(0, {}), (15, {"b": (Phase.DRAINING, 9.0, 1.0)}), (30, {})], (), id="leaves before it served"),
        pytest.param([(0, {}), (15, starting(1)), (GAP_S + 15, serving(1, 27))], (26,), id="unseen for as long as a tick may be"),
        pytest.param([(0, {}), (15, starting(1)), (GAP_S + 16, serving(1, 27))], (), id="unseen for longer"),
        pytest.param([(0, {}), (GAP_S + 1, serving(GAP_S - 90, GAP_S - 9))], (), id="appeared in a long gap"),
        pytest.param([(50, {}), (40, starting(38)), (55, serving(38, 54))], (), id="the clock stepped back"),
        pytest.param([(0, {}), (15, starting(14)), (20, serving(14, 13))], (), id="ready before it was born"),
    ],
)
def test_a_birth_that_was_seen_teaches_once(looks: list[tuple[float, Standing]], samples: tuple[float, ...]) -> None:
    assert lived(looks).samples == pytest.approx(samples)


def test_the_newest_are_kept_in_the_order_in_which_they_served() -> None:
    standing: Standing = {f"r{i}": (Phase.SERVING, NOW + 50 - i, NOW + i % 2) for i in range(KEPT + 2)}
    learned = learn(learn(StartUps((500.0,)), members({}), NOW), members(standing), NOW + 60)
    assert learned.samples == tuple(50 - i - i % 2 for i in reversed(range(KEPT)))


@pytest.mark.parametrize(("samples", "median_s"), [((), None), ((60.0,), 60.0), ((60.0, 70.0, 900.0), 70.0)])
def test_the_median_speaks_and_nothing_is_said_before_the_first(samples: tuple[float, ...], median_s: float | None) -> None:
    assert StartUps(samples).median_s == median_s


names = st.sampled_from(("a", "b", "c"))
lives = st.tuples(st.sampled_from(Phase), st.floats(-500, 2000), st.none() | st.floats(-500, 2000))
runs = st.lists(st.tuples(st.floats(-50, 900), st.dictionaries(names, lives)), max_size=12)


@given(runs)
def test_whatever_is_seen_the_samples_are_few_and_can_be_times(run: list[tuple[float, Standing]]) -> None:
    now, learned = 0.0, StartUps()
    for gap_s, standing in run:
        now += gap_s
        learned = learn(learned, members(standing), now)
        assert len(learned.samples) <= KEPT
        assert all(math.isfinite(took_s) and 0 <= took_s <= LONGEST_S for took_s in learned.samples)
        assert learned.awaited <= learned.known.keys()
