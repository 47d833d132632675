"""Does the controller see what Prometheus would show, worked out by hand, and nothing fresher?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Signals, Unknown
from autoscaler.ports import FleetScope, Managed
from autoscaler.simulator.clients import Retries
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.flips import LABEL
from autoscaler.simulator.routing import Routing
from autoscaler.simulator.sampling import SampledSignals
from autoscaler.simulator.workload import Request
from tests.fakes import merged, policy
from tests.simulator.small_fleet import KEY, changed, engine, even, spec


def scope(engine_: Engine, gateway: str | None = "llm-d", window_s: float = 60.0) -> FleetScope:
    pods = {role: tuple(replica.name for replica in pool.exposed()) for role, pool in engine_.pools.items()}
    return FleetScope(KEY, "demo", "llama", "vllm", gateway, pods, window_s)


def scraped(fleet: Engine, signals: SampledSignals, until_s: float, every_s: float = 15.0) -> None:
    while fleet.now + every_s <= until_s:
        fleet.advance(fleet.now + every_s)
        signals.scrape()


def read(signals: SampledSignals, fleet: Engine, now: float, gateway: str | None = "llm-d") -> Signals:
    return merged(signals.read([scope(fleet, gateway)], now))[KEY]


def known(reading: object) -> float:
    assert isinstance(reading, Known), reading
    return reading.value


def one_per_second(count: int = 600) -> list[Request]:
    return [Request(number, number + 0.5, 100 + number % 2 * 100, 0, 10) for number in range(count)]


def test_offered_rate_is_arrivals_between_the_windows_first_and_last_scrape() -> None:
    """Scrapes at 15, 30 ... 120; at 120 s the window (60, 120] has 75, 90, 105 and 120: 45 arrivals in 45 s."""
    fleet = engine(one_per_second())
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 120.0)
    seen = read(signals, fleet, 120.0).traffic
    assert seen.offered_rps == Known(1.0, 0.0)
    assert seen.source == "gateway"
    fleet.advance(127.0)
    assert read(signals, fleet, 127.0).traffic.offered_rps == Known(1.0, 7.0)


def test_without_a_gateway_offered_is_completions_plus_what_piles_up() -> None:
    """A prompt takes 1.1 s and one arrives every second: completions alone would say 0.91 per second."""
    profile = changed(prefill_s=(1.1, 0.0, 0.0))
    fleet = engine([Request(number, float(number), 100, 0, 5) for number in range(600)], spec(profile=profile))
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 300.0)
    traffic = read(signals, fleet, 300.0, gateway=None).traffic
    assert known(traffic.offered_rps) == pytest.approx(1.0)
    assert traffic.source == "completions"
    assert isinstance(traffic.ttft, Unknown)
    assert known(traffic.prompt_tokens) == 100.0
    done = fleet.pools[Role.PREFILL].replicas[0].server.metrics.completed
    assert done == int(300 / 1.1)


def test_histograms_and_means_cover_the_window_only() -> None:
    """Prompts of 200 tokens (0.3 s) until 60 s, then of 50 (0.15 s): the second window knows the latter alone."""
    requests = [Request(number, float(number), 200 if number < 60 else 50, 0, 10) for number in range(200)]
    fleet = engine(requests)
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 60.0)
    early = read(signals, fleet, 60.0).roles[Role.PREFILL]
    scraped(fleet, signals, 135.0)
    late = read(signals, fleet, 135.0).roles[Role.PREFILL]
    assert (known(early.tokens_per_request), known(late.tokens_per_request)) == (200.0, 50.0)
    assert isinstance(early.latency, Histogram)
    assert isinstance(late.latency, Histogram)
    assert (early.latency.share_within(0.25), late.latency.share_within(0.25)) == ((0.0, 0.0), (1.0, 1.0))
    assert late.latency.samples == 45
    assert late.latency.edges[-1] == math.inf


def test_each_role_shows_the_latency_that_binds_it_and_the_work_that_feeds_it() -> None:
    fleet = engine(one_per_second())
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 90.0)
    roles = read(signals, fleet, 90.0).roles
    assert known(roles[Role.PREFILL].tokens_per_request) == pytest.approx(150.0, rel=0.01)
    assert known(roles[Role.DECODE].tokens_per_request) == 10.0
    decode = roles[Role.DECODE].latency
    assert isinstance(decode, Histogram)
    assert decode.share_within(0.01) == (0.0, 0.0)
    assert decode.share_within(0.025) == (1.0, 1.0)


def test_the_work_itself_is_told_by_count_and_sum_without_the_waiting() -> None:
    """Prompts of 1,000 tokens take 1.1 s and one comes every second, so they wait ever longer; alone in decode, a request of
    10 tokens has steps of 11 ms and 10 us per token it holds.
    """
    fleet = engine([Request(number, float(number), 1_000, 0, 10) for number in range(600)])
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 300.0)
    roles = read(signals, fleet, 300.0).roles
    prefill, decode = roles[Role.PREFILL], roles[Role.DECODE]
    assert isinstance(prefill.service, Histogram)
    assert isinstance(prefill.latency, Histogram)
    assert isinstance(decode.service, Histogram)
    assert prefill.service.edges == (math.inf,)
    assert prefill.service.mean == pytest.approx(1.1)
    assert prefill.latency.mean == pytest.approx(1.1 + 0.1 * 245, rel=0.05)  # the 245th or so, and each waits 0.1 s more
    assert decode.service.mean == pytest.approx(0.011 + 1e-5 * 1_005, rel=0.001)


def test_a_prefill_pod_that_stands_still_for_its_kv_has_a_deferred_queue_and_the_load_stays_known() -> None:
    """Decode holds one request at a time, for 100 s. Prefill has room for four prompts, and 26 more pile up behind these."""
    profile = changed(kv_tokens=400, max_seqs=1, decode_s=(10.0, 0.0, 0.0), prefill_s=(0.01, 0.0, 0.0))
    fleet = engine([Request(number, number / 2, 100, 0, 10) for number in range(200)], spec(profile=profile))
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 15.0)
    seen = _gauges(read(signals, fleet, 15.0))
    assert (seen["prefill-0"].waiting, seen["prefill-0"].deferred) == (0, 26)
    assert (seen["decode-0"].running, seen["decode-0"].waiting) == (1, 4)
    scraped(fleet, signals, 60.0)
    assert known(read(signals, fleet, 60.0, gateway=None).traffic.offered_rps) == pytest.approx(2.0)


@pytest.mark.parametrize("gateway", ["llm-d", None])
def test_what_is_turned_away_is_told_once_per_request_and_beside_what_arrives(gateway: str | None) -> None:
    """Of four requests a second, every other one is turned away, and its client tries twice more, in vain."""
    requests = [Request(number, number / 4, 10, 0, 2) for number in range(600)]
    fleet = engine(requests, even(retries=Retries(2, 0.5, 8.0, 0.0)), admit=lambda request, now: request.id % 2 == 0)
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 120.0)
    traffic = read(signals, fleet, 120.0, gateway).traffic
    assert (known(traffic.offered_rps), known(traffic.rejected_rps)) == pytest.approx((2.0, 2.0), rel=0.02)
    assert fleet.gateway.rejected > 2 * fleet.gateway.turned_away_first


@pytest.mark.parametrize("gateway", ["llm-d", None])
def test_who_is_let_in_at_a_later_try_is_told_once(gateway: str | None) -> None:
    """Of four requests a second every other one is turned away at its first try, and let in 0.5 s later."""
    requests = [Request(number, number / 4, 10, 0, 2) for number in range(600)]
    met: set[int] = set()

    def admit(request: Request, now: float) -> bool:
        again = request.id in met
        met.add(request.id)
        return request.id % 2 == 0 or again

    fleet = engine(requests, even(retries=Retries(2, 0.5, 8.0, 0.0)), admit=admit)
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 120.0)
    traffic = read(signals, fleet, 120.0, gateway).traffic
    assert known(traffic.offered_rps) + known(traffic.rejected_rps) == pytest.approx(4.0, rel=0.02)
    assert known(traffic.rejected_rps) < 0.05
    assert fleet.gateway.turned_away_first == fleet.gateway.rejected > 200


def test_what_a_pod_did_that_went_counts_until_it_has_gone_and_no_longer() -> None:
    """Two prefill replicas share one request per second; prefill-1 is drained at 100 s and gone by 105 s. Queries name the pods
    that the fleet has.
    """
    fleet = engine([Request(number, float(number), 1_400, 0, 5) for number in range(600)], spec(prefill=2))
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 90.0)
    fleet.advance(100.0)
    fleet.scale(Role.PREFILL, 1)
    draining = read(signals, fleet, 100.0)
    assert set(_gauges(draining)) == {"prefill-0", "prefill-1", "decode-0"}
    assert _samples(draining) == pytest.approx(45.0, abs=1.0), "all of what both did from 45 s to 90 s"
    fleet.advance(104.0)
    gone = read(signals, fleet, 104.0)
    assert set(_gauges(gone)) == {"prefill-0", "decode-0"}
    assert _samples(gone) == pytest.approx(45.0 / 2, abs=1.0), "the half of it that the one did which stayed"


def test_prompts_are_told_by_who_finishes_them_last_and_by_who_does_first_where_that_has_no_pods() -> None:
    """A prompt of 1,000 tokens is prefilled in 1.1 s, and its 2,000 tokens take 45 s; a short one comes and goes meanwhile."""
    fleet = engine([Request(0, 16.0, 1_000, 0, 2_000), Request(1, 20.0, 100, 0, 2)])
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 45.0)
    whole = scope(fleet)
    for pods, tokens in ((whole.pods, 100), ({**whole.pods, Role.DECODE: ()}, 550)):
        seen = merged(signals.read([replace(whole, pods=pods)], 45.0))[KEY]
        assert known(seen.traffic.prompt_tokens) == tokens


def _samples(seen: Signals) -> float:
    latency = seen.roles[Role.PREFILL].latency
    assert isinstance(latency, Histogram)
    return latency.samples


def _gauges(signals: Signals) -> dict[str, Gauges]:
    assert not isinstance(signals.gauges, Unknown), signals.gauges
    return dict(signals.gauges)


def test_gauges_are_those_of_the_last_scrape_with_its_age() -> None:
    """A prompt takes 1.1 s: two seconds after five came, the first is fetched, the second runs and holds 1 % of the KV."""
    fleet = engine([Request(number, 20.0, 1_000, 0, 5) for number in range(5)])
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 15.0)
    fleet.advance(21.0)
    assert _gauges(read(signals, fleet, 21.0))["prefill-0"] == Gauges(0, 0, 0.0, 6.0)
    fleet.advance(22.0)
    signals.scrape()
    assert _gauges(read(signals, fleet, 22.5))["prefill-0"] == Gauges(3, 1, 0.01, 0.5)


def test_a_scrape_sees_the_tokens_made_since_the_last_event() -> None:
    """Nothing happens between joining (0.2 s) and leaving, but a step of 10 ms adds a token: 480 in 4.8 s."""
    fleet = engine([Request(0, 0.0, 100, 0, 1_000)], spec(profile=changed(decode_s=(0.01, 0.0, 0.0))))
    signals = SampledSignals(fleet)
    fleet.advance(5.0)
    signals.scrape()
    decode = _gauges(read(signals, fleet, 5.0))["decode-0"]
    assert (decode.running, decode.waiting) == (1, 0)
    assert decode.kv_usage == pytest.approx((100 + 480) / 100_000)


def test_a_starting_replica_reports_nothing() -> None:
    fleet = engine([])
    signals = SampledSignals(fleet)
    fleet.scale(Role.DECODE, 2)
    scraped(fleet, signals, 15.0)
    assert set(_gauges(read(signals, fleet, 15.0))) == {"prefill-0", "decode-0"}
    scraped(fleet, signals, 45.0)
    assert "decode-1" in _gauges(read(signals, fleet, 45.0))


@pytest.mark.parametrize("gateway", ["llm-d", None])
def test_one_scrape_gives_gauges_but_no_rates(gateway: str | None) -> None:
    fleet = engine(one_per_second())
    signals = SampledSignals(fleet)
    assert isinstance(read(signals, fleet, 0.0, gateway).gauges, Unknown)
    scraped(fleet, signals, 15.0)
    seen = read(signals, fleet, 15.0, gateway)
    assert len(_gauges(seen)) == 2
    assert isinstance(seen.traffic.offered_rps, Unknown)
    assert isinstance(seen.traffic.rejected_rps, Unknown)
    told = [one for role in seen.roles.values() for one in (role.latency, role.tokens_per_request, role.service)]
    assert all(isinstance(one, Unknown) for one in told)


def test_no_traffic_is_a_known_zero_but_its_means_are_unknown() -> None:
    fleet = engine([])
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 60.0)
    seen = read(signals, fleet, 60.0)
    assert seen.traffic.offered_rps == Known(0.0, 0.0)
    assert isinstance(seen.traffic.prompt_tokens, Unknown)
    latency = seen.roles[Role.DECODE].latency
    assert isinstance(latency, Histogram)
    assert latency.samples == 0


def test_blind_signals_are_unknown_and_come_back() -> None:
    fleet = engine(one_per_second())
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 60.0)
    signals.blind(until_s=100.0)
    scraped(fleet, signals, 90.0)
    blind = read(signals, fleet, 90.0)
    assert isinstance(blind.gauges, Unknown)
    assert blind.gauges.gap is Gap.UNREACHABLE
    assert isinstance(blind.traffic.offered_rps, Unknown)
    scraped(fleet, signals, 120.0)
    assert known(read(signals, fleet, 120.0).traffic.offered_rps) == pytest.approx(1.0)


def test_frozen_signals_grow_old_and_then_vanish() -> None:
    fleet = engine(one_per_second())
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 60.0)
    signals.freeze(until_s=1_000.0)
    scraped(fleet, signals, 360.0)
    assert _gauges(read(signals, fleet, 120.0))["decode-0"].age_s == 60.0
    assert isinstance(read(signals, fleet, 120.0).traffic.offered_rps, Unknown)
    gone = read(signals, fleet, 361.0).gauges
    assert isinstance(gone, Unknown)
    assert gone.gap is Gap.MISSING


def test_another_fleet_is_not_answered_for() -> None:
    fleet = engine([])
    signals = SampledSignals(fleet)
    scraped(fleet, signals, 30.0)
    other = FleetScope("demo/other", "demo", "llama", "vllm", None, {})
    gauges = merged(signals.read([other], 30.0))["demo/other"].gauges
    assert isinstance(gauges, Unknown)
    assert "demo/other" in gauges.detail


def test_a_scrape_shows_only_after_its_delay_in_gauges_rates_and_latencies_alike() -> None:
    """Scrapes every 15 s that show 20 s later: at 130 s the newest visible one is of 105 s, and the window (70, 130] has
    those of 75, 90 and 105 s.
    """
    fleet = engine(one_per_second())
    signals = SampledSignals(fleet, delay_s=20.0)
    scraped(fleet, signals, 120.0)
    seen = read(signals, fleet, 130.0)
    assert isinstance(seen.gauges, dict)
    assert {gauges.age_s for gauges in seen.gauges.values()} == {25.0}
    assert seen.traffic.offered_rps == Known(1.0, 25.0)
    latency = seen.roles[Role.PREFILL].latency
    assert isinstance(latency, Histogram)
    assert latency.counts[-1] == 30


def test_before_the_first_scrape_shows_nothing_is_known() -> None:
    fleet = engine(one_per_second())
    signals = SampledSignals(fleet, delay_s=20.0)
    scraped(fleet, signals, 15.0)
    assert isinstance(read(signals, fleet, 30.0).gauges, Unknown)
    assert isinstance(read(signals, fleet, 35.0).gauges, dict)


def test_a_replica_that_flips_to_and_fro_has_counters_that_only_grow() -> None:
    """decode-0 prefills from 60 s to 90 s and decodes again: what its role did in the window is never below 0."""
    requests = [Request(number, number / 4, 100, 0, 10) for number in range(2_000)]
    fleet = engine(requests, even())
    signals = SampledSignals(fleet)
    for flip_at_s, source, target in ((60.0, Role.DECODE, Role.PREFILL), (90.0, Role.PREFILL, Role.DECODE)):
        scraped(fleet, signals, flip_at_s)
        fleet.flip(source, target, 1, LABEL)
        scraped(fleet, signals, flip_at_s + 15.0)
        roles = read(signals, fleet, fleet.now).roles
        histograms = [signal.latency for signal in roles.values()]
        assert all(isinstance(one, Histogram) and min(one.counts) >= 0 and one.counts[-1] > 0 for one in histograms)


def test_what_a_replica_did_that_has_just_changed_its_role_is_laid_to_neither() -> None:
    """A decode replica prefills from 120 s on, each in turn. For 60 s what it tells is partly of decode: queries leave it out."""
    requests = [Request(number, number / 4, 100, 0, 10) for number in range(2_000)]
    fleet = engine(requests, even(routing=Routing.ROUND_ROBIN))
    signals, managed = SampledSignals(fleet), Managed(KEY, "demo", "llama", policy())
    scraped(fleet, signals, 120.0)
    fleet.flip(Role.DECODE, Role.PREFILL, 1, LABEL)
    seen = []
    for now in (165.0, 180.0):
        scraped(fleet, signals, now)
        (flipped,) = [one for one in fleet.fleet().pools[Role.PREFILL].replicas if one.name.startswith("decode")]
        assert flipped.moved_s == 120.0
        told = merged(signals.read([managed.scope(fleet.fleet(), now)], now))[KEY]
        assert flipped.name in _gauges(told)
        seen.append(_samples(told))
    assert seen[1] / seen[0] == pytest.approx(3 / 2, rel=0.1), "three prefill replicas are counted, and before that two of three"
