"""Is what waits laid to what it waits for, and to nobody where that is not known?

A row is what the pods of each role report: (waiting, running, deferred, KV use).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.attribution import Attribution, attribute
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Freshness, Gauges, Histogram, Known, Observation, Signals
from tests.fakes import GONE, SLOS, fleet, histogram, signals

P, D = Role.PREFILL, Role.DECODE
FLEET = fleet()
Row = tuple[float, float, float, float]
CALM: Row = (0.0, 1.0, 0.0, 0.4)
FULL: Row = (0.0, 20.0, 0.0, 0.95)


def seen(rows: Mapping[Role, Row], ttft: Histogram | None = None) -> Signals:
    """The rows, each over both pods of its role."""
    said = signals(FLEET, 9.0)
    gauges = {
        replica.name: Gauges(waiting / 2, running / 2, kv_usage, 5.0, deferred / 2)
        for role, (waiting, running, deferred, kv_usage) in rows.items()
        for replica in FLEET.pools[role].replicas
    }
    return replace(said, gauges=gauges, traffic=replace(said.traffic, ttft=ttft or said.traffic.ttft))


def judged(said: Signals) -> Attribution:
    return attribute(Observation(0.0, FLEET, said), SLOS, Freshness())


@pytest.mark.parametrize(
    ("prefill", "decode", "waiting", "link"),
    [
        pytest.param((9.0, 2.0, 0.0, 0.5), CALM, (9.0, 0.0), 0.0, id="prompts wait for prefill"),
        pytest.param(CALM, (9.0, 20.0, 0.0, 0.95), (0.0, 9.0), 0.0, id="requests wait for room in decode"),
        pytest.param((0.0, 0.0, 30.0, 1.0), FULL, (0.0, 30.0), 0.0, id="prefill stands still, decode is full: decode's"),
        pytest.param((4.0, 1.0, 30.0, 1.0), (6.0, 20.0, 0.0, 0.8), (4.0, 36.0), 0.0, id="decode has a queue: decode's"),
        pytest.param((0.0, 0.0, 30.0, 1.0), CALM, (0.0, 0.0), 30.0, id="nobody is pressed: the link's"),
        pytest.param((50.0, 2.0, 0.0, 0.5), (8.0, 5.0, 15.0, 0.9), (56.0, 2.0), 0.0, id="push: rooms held for slow prompts"),
        pytest.param(CALM, (8.0, 5.0, 15.0, 0.9), (0.0, 2.0), 21.0, id="rooms held for a slow transfer"),
        pytest.param(CALM, CALM, (0.0, 0.0), 0.0, id="nothing waits"),
    ],
)
def test_each_queue_is_laid_to_what_it_waits_for(prefill: Row, decode: Row, waiting: tuple[float, float], link: float) -> None:
    whose = judged(seen({P: prefill, D: decode}))
    assert (whose.waiting[P], whose.waiting[D], whose.link) == pytest.approx((*waiting, link))


LATE = histogram(within=10.0, over=90.0, edge_s=30.0)


@pytest.mark.parametrize(
    ("rows", "ttft", "late"),
    [
        pytest.param({P: CALM, D: CALM}, None, None, id="the promise is kept"),
        pytest.param({P: (9.0, 2.0, 0.0, 0.5), D: CALM}, LATE, {P}, id="prompts wait"),
        pytest.param({P: (0.0, 0.0, 30.0, 1.0), D: FULL}, LATE, {D}, id="decode is full"),
        pytest.param({P: (9.0, 2.0, 0.0, 0.5), D: (9.0, 20.0, 0.0, 0.95)}, LATE, {P, D}, id="both"),
        pytest.param({P: CALM, D: CALM}, LATE, set(), id="nobody has a queue"),
        pytest.param({P: CALM, D: CALM}, histogram(within=2.0, over=20.0, edge_s=30.0), None, id="too few samples to tell"),
        pytest.param({P: CALM, D: CALM}, Histogram((math.inf,), (math.nan,)), None, id="no number of samples"),
    ],
)
def test_a_broken_ttft_is_laid_to_who_has_a_queue(
    rows: Mapping[Role, Row], ttft: Histogram | None, late: set[Role] | None
) -> None:
    assert judged(seen(rows, ttft)).late == late


def test_without_gauges_nothing_waits_for_anybody() -> None:
    whose = judged(replace(signals(FLEET, 9.0), gauges=GONE))
    assert (whose.waiting, whose.link) == (dict.fromkeys(Role, 0.0), 0.0)


counts = st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1))


@given(counts, counts)
def test_no_request_is_laid_to_a_role_and_the_link_twice(prefill: Row, decode: Row) -> None:
    """At most what is reported is given out; what holds places in decode may wait in prefill's queue already."""
    whose = judged(seen({P: prefill, D: decode}))
    given_out = sum(whose.waiting.values()) + whose.link
    reported = prefill[0] + prefill[2] + decode[0] + decode[2]
    assert reported - decode[2] <= given_out * (1 + 1e-9) + 1e-6
    assert given_out <= reported * (1 + 1e-9) + 1e-6


@given(counts, st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.just(0.0), st.floats(0, 1)))
def test_overload_of_decode_never_raises_prefill(prefill: Row, decode: Row) -> None:
    """With rooms granted only to computed prompts (pull), whatever decode reports adds nothing to prefill's backlog."""
    assert judged(seen({P: prefill, D: decode})).waiting[P] == pytest.approx(prefill[0])


@pytest.mark.parametrize(
    ("prefill", "decode", "waiting"),
    [
        pytest.param(CALM, CALM, (12.0, 0.0), id="nobody is pressed: they come to prefill first"),
        pytest.param((9.0, 2.0, 0.0, 0.5), CALM, (21.0, 0.0), id="prefill is pressed"),
        pytest.param(CALM, FULL, (0.0, 12.0), id="decode is full: prefill would not help them"),
        pytest.param((9.0, 2.0, 0.0, 0.5), FULL, (15.0, 6.0), id="both are"),
    ],
)
def test_what_a_gateway_holds_back_waits_for_who_is_pressed(prefill: Row, decode: Row, waiting: tuple[float, float]) -> None:
    said = seen({P: prefill, D: decode})
    whose = judged(replace(said, traffic=replace(said.traffic, held=Known(12.0))))
    assert (whose.waiting[P], whose.waiting[D]) == pytest.approx(waiting)
    stale = judged(replace(said, traffic=replace(said.traffic, held=Known(12.0, 600.0))))
    assert stale == judged(said)
