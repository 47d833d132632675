"""Is the largest need the demand, and is what is not known never taken for nothing to do?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.capacity import Bound, Capacity, Shape
from autoscaler.core.demand import Demand, DemandLimits, Load, demand, load_of, shape_of
from autoscaler.core.fleet import Role
from autoscaler.core.forecast import Forecast
from autoscaler.core.observation import Freshness, Gap, Known, Observation, Reading, Signals, Unknown
from autoscaler.core.reason import Reason
from autoscaler.core.strain import Strain
from tests.fakes import GONE, SHAPE, carries, fleet, pool, signals

FRESH = Freshness()
FLEET = fleet(pool(Role.PREFILL, 4))
NAMES = [replica.name for replica in FLEET.pools[Role.PREFILL].replicas]


def load(said: Signals, tokens: float | None = 1000.0) -> Load | Unknown:
    return load_of(Observation(0.0, FLEET, said), Role.PREFILL, tokens, FRESH)


def test_load_is_what_arrives_times_what_a_request_brings() -> None:
    said = signals(FLEET, 7.0, waiting={Role.PREFILL: 8.0}, running={Role.PREFILL: 4.0})
    assert load(said) == Load(Known(7000.0, 5.0), 8.0, 4.0, 1000.0, None)


@pytest.mark.parametrize(
    ("said", "gap"),
    [
        pytest.param(replace(signals(FLEET, 7.0), gauges=GONE), Gap.UNREACHABLE, id="no gauges at all"),
        pytest.param(signals(FLEET, 7.0, silent=NAMES), Gap.MISSING, id="every pod silent"),
        pytest.param(signals(FLEET, 7.0, stale=NAMES), Gap.STALE, id="every pod stale"),
    ],
)
def test_without_a_single_queue_nothing_is_known(said: Signals, gap: Gap) -> None:
    judged = load(said)
    assert isinstance(judged, Unknown)
    assert judged.gap is gap


@pytest.mark.parametrize(
    ("said", "gap", "waiting"),
    [
        pytest.param(signals(FLEET, 7.0, waiting={Role.PREFILL: 8.0}, silent=NAMES[:1]), Gap.MISSING, 6.0, id="one pod silent"),
        pytest.param(signals(FLEET, 7.0, waiting={Role.PREFILL: 8.0}, stale=NAMES[1:]), Gap.STALE, 2.0, id="three of four stale"),
        pytest.param(signals(FLEET, GONE, waiting={Role.PREFILL: 8.0}), Gap.UNREACHABLE, 8.0, id="arrivals unknown"),
    ],
)
def test_what_is_partly_known_is_a_lower_bound_and_says_so(said: Signals, gap: Gap, waiting: float) -> None:
    judged = load(said)
    assert isinstance(judged, Load)
    assert judged.partial is not None
    assert (judged.partial.gap, judged.waiting) == (gap, waiting)


@pytest.mark.parametrize("rejected", [Known(15.0), Known(15.0, 600.0), Known(math.nan), GONE])
def test_what_was_turned_away_is_load_where_it_is_believed_and_nothing_where_it_is_not(rejected: Reading) -> None:
    said = signals(FLEET, 7.0)
    judged = load(replace(said, traffic=replace(said.traffic, rejected_rps=rejected)))
    assert isinstance(judged, Load)
    assert judged.offered_tokens_per_s == Known(22_000.0 if rejected == Known(15.0) else 7000.0, 5.0)
    assert judged.partial is None


def test_a_backlog_that_is_laid_to_others_is_not_the_roles_own() -> None:
    said = signals(FLEET, 7.0, waiting={Role.PREFILL: 8.0})
    judged = load_of(Observation(0.0, FLEET, said), Role.PREFILL, 1000.0, FRESH, waiting=3.0, lent=5.0)
    assert isinstance(judged, Load)
    assert (judged.waiting, judged.lent) == (3.0, 5.0)


def test_a_fleet_that_is_seen_to_be_idle_is_idle_even_before_any_request_completed() -> None:
    assert load(signals(FLEET, 0.0, shape=None), tokens=None) == Load(Known(0.0, 5.0), 0.0, 0.0, 0.0, None)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(signals(FLEET, 1.0), id="requests arrive"),
        pytest.param(signals(FLEET, 0.0, waiting={Role.PREFILL: 1.0}), id="one waits"),
        pytest.param(signals(FLEET, GONE), id="nobody knows what arrives"),
    ],
)
def test_without_a_shape_a_fleet_that_is_not_seen_to_be_idle_has_no_load(said: Signals) -> None:
    judged = load(said, tokens=None)
    assert isinstance(judged, Unknown)
    assert "no request has completed" in judged.detail


# The shape


def measured(prompt: Reading, uncached: Reading, output: Reading, remembered: Shape | None = None) -> Shape | None:
    said = signals(FLEET)
    work = {Role.PREFILL: uncached, Role.DECODE: output}
    roles = {role: replace(said.roles[role], tokens_per_request=reading) for role, reading in work.items()}
    said = replace(said, roles=roles, traffic=replace(said.traffic, prompt_tokens=prompt))
    return shape_of(Observation(0.0, FLEET, said), remembered, FRESH)


def test_a_shape_is_whole_or_it_is_none() -> None:
    assert measured(Known(900.0), Known(300.0), Known(50.0)) == Shape(900.0, 300.0, 50.0)
    assert measured(Known(900.0), Known(300.0), GONE) is None


@pytest.mark.parametrize("unusable", [GONE, Known(math.nan), Known(7.0, 600.0), Known(-7.0)])
def test_what_is_not_measured_stays_as_remembered(unusable: Reading) -> None:
    known = replace(SHAPE, cv2=3.0)
    assert measured(unusable, Known(300.0), Known(50.0), known) == replace(known, uncached_tokens=300.0, output_tokens=50.0)


def test_a_request_brings_at_least_a_token_even_if_all_of_it_is_cached() -> None:
    """A prompt found whole in the cache still costs a prefill step; no tokens would make a thousand of them no work."""
    assert measured(Known(900.0), Known(0.0), Known(50.0)) == Shape(900.0, 1.0, 50.0)


# The needs


PREFILL = carries(5000.0)
DECODE = carries(500.0, 10.0, Bound.TPOT)
PLAIN = DemandLimits(headroom=0.0, drain_s=30.0)


def ahead(upper: float, horizon_s: float = 10.0) -> Forecast:
    return Forecast(upper, upper, horizon_s, "last-value", None, Reason.MODEL_UNPROVEN)


def asked(offered: Reading, waiting: float = 0.0, running: float = 0.0, tokens: float = 1000.0) -> Load:
    return Load(offered, waiting, running, tokens, None)


@pytest.mark.parametrize(
    ("work", "forecast", "replica", "replicas", "bound"),
    [
        pytest.param(asked(Known(22_000.0)), None, PREFILL, 4.4, Bound.TTFT, id="what arrives"),
        pytest.param(asked(Known(10_000.0), waiting=150.0), None, PREFILL, 3.0, Bound.QUEUE, id="and 150,000 tokens in 30 s"),
        pytest.param(asked(GONE, waiting=150.0), None, PREFILL, 1.0, Bound.QUEUE, id="the backlog alone"),
        pytest.param(asked(Known(10_000.0)), ahead(21_000.0), PREFILL, 4.2, Bound.FORECAST, id="what is coming"),
        pytest.param(asked(Known(10_000.0)), ahead(1.0), PREFILL, 2.0, Bound.TTFT, id="a forecast of less lowers nothing"),
        pytest.param(asked(Known(1000.0), running=45.0, tokens=100), None, DECODE, 4.5, Bound.TPOT, id="what is resident"),
        pytest.param(asked(Known(0.0), 1500.0, 20.0, 100.0), None, DECODE, 12.0, Bound.QUEUE, id="what waits for room, in 30 s"),
        pytest.param(asked(Known(0.0)), None, PREFILL, 0.0, Bound.TTFT, id="nothing"),
    ],
)
def test_the_largest_need_is_the_demand_and_gives_it_its_name(
    work: Load, forecast: Forecast | None, replica: Capacity, replicas: float, bound: Bound
) -> None:
    sized = demand(work, forecast, replica, PLAIN)
    assert sized.replicas == pytest.approx(replicas)
    assert sized.bound is bound
    assert sized.replicas == max(sized.needs.values())


def test_headroom_is_added_to_whatever_binds() -> None:
    assert demand(asked(Known(20_000.0)), None, PREFILL, DemandLimits(headroom=0.25)).replicas == pytest.approx(5.0)


def test_the_time_for_a_backlog_begins_when_new_replicas_can_be_there() -> None:
    """1,200 prompts waiting: gone within 30 s they need 8 replicas more; 30 s after a start of 210 s, 1."""
    work = asked(Known(10_000.0), waiting=1200.0)
    assert demand(work, None, PREFILL, PLAIN).replicas == pytest.approx(2.0 + 8.0)
    assert demand(work, ahead(0.0, horizon_s=210.0), PREFILL, PLAIN).replicas == pytest.approx(2.0 + 1.0)


def test_a_lower_bound_stays_marked_as_one() -> None:
    work = replace(asked(Known(5000.0)), partial=GONE)
    assert demand(work, None, PREFILL, PLAIN) == Demand(1.0, Bound.TTFT, GONE, {"TTFT": 1.0, "QUEUE": 1.0})


@pytest.mark.parametrize(
    ("ratio", "may_raise", "replicas"),
    [
        pytest.param(1.5, True, 6.0, id="half over its promise: half as many again"),
        pytest.param(9.0, True, 8.0, id="far over: twice as many, not nine times"),
        pytest.param(9.0, False, 4.0, id="far over in a window gone by: no more, and no fewer"),
        pytest.param(0.3, True, 2.0, id="well within: what the model says"),
    ],
)
def test_measured_latency_raises_what_serves_and_never_lowers(ratio: float, may_raise: bool, replicas: float) -> None:
    sized = demand(asked(Known(10_000.0)), None, PREFILL, PLAIN, Strain(ratio, 4, may_raise))
    assert sized.replicas == pytest.approx(replicas)
    assert sized.bound is (Bound.MEASURED if replicas > 2 else Bound.TTFT)


@pytest.mark.parametrize(("offered", "waiting", "panic"), [(19_000.0, 0.0, False), (21_000.0, 0.0, True), (19_000.0, 60.0, True)])
def test_twice_what_serves_needed_at_once_is_a_panic(offered: float, waiting: float, panic: bool) -> None:
    """Two serve and carry 10,000 tokens/s."""
    assert demand(asked(Known(offered), waiting), None, PREFILL, PLAIN, serving=2).panic is panic


def test_what_is_only_foreseen_is_no_panic() -> None:
    assert not demand(asked(Known(5000.0)), ahead(1e6), PREFILL, PLAIN, serving=2).panic


counts = st.floats(0.0, 1e6)


@given(counts, counts, counts, counts, st.tuples(counts, counts, counts, counts), st.sampled_from((PREFILL, DECODE)))
def test_more_load_of_any_kind_never_lowers_demand(
    offered: float, waiting: float, running: float, upper: float, more: tuple[float, float, float, float], replica: Capacity
) -> None:
    less = demand(asked(Known(offered), waiting, running), ahead(upper), replica, PLAIN)
    high = demand(asked(Known(offered + more[0]), waiting + more[1], running + more[2]), ahead(upper + more[3]), replica, PLAIN)
    assert high.replicas >= less.replicas
    assert less.replicas >= offered / replica.tokens_per_s


def test_knowing_less_never_raises_demand() -> None:
    """Law 2 from the other side: what is missing counts as nothing, and the demand is marked as a lower bound."""
    whole = demand(asked(Known(10_000.0), waiting=150.0), None, PREFILL, PLAIN)
    assert demand(asked(GONE, waiting=150.0), None, PREFILL, PLAIN).replicas < whole.replicas


@pytest.mark.parametrize(("share", "kept"), [(Known(0.25), 0.75), (Known(1.0), 0.0), (Known(0.25, 600.0), 1.0), (GONE, 1.0)])
def test_requests_that_skip_prefill_are_no_load_of_prefill_and_load_of_decode(share: Reading, kept: float) -> None:
    said = signals(FLEET, 7.0)
    direct = replace(said, traffic=replace(said.traffic, direct_share=share))
    for role, part in ((Role.PREFILL, kept), (Role.DECODE, 1.0)):
        plain, less = (load_of(Observation(0.0, FLEET, one), role, 100.0, Freshness()) for one in (said, direct))
        assert isinstance(plain, Load)
        assert isinstance(less, Load)
        assert isinstance(plain.offered_tokens_per_s, Known)
        assert isinstance(less.offered_tokens_per_s, Known)
        assert less.offered_tokens_per_s.value == pytest.approx(part * plain.offered_tokens_per_s.value)
