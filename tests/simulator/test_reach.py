"""Is what no fleet can serve in time told before anybody is blamed for it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest

from autoscaler.core.capacity import Slo
from autoscaler.core.fleet import Role, SloKind
from autoscaler.refusal import Refusal
from autoscaler.simulator.comparison import play
from autoscaler.simulator.contenders import Contender, Job
from autoscaler.simulator.engine import Engine
from autoscaler.simulator.fleet_spec import FleetSpec, Handover
from autoscaler.simulator.reach import Reach, percent, reach
from autoscaler.simulator.score import ScoreKeeper
from autoscaler.simulator.workload import Request
from tests.simulator.small_fleet import changed, even
from tests.simulator.test_comparison import case


def slos(ttft_s: float, tpot_s: float, quantile: float = 0.95) -> Mapping[SloKind, Slo]:
    return {SloKind.TTFT: Slo(SloKind.TTFT, ttft_s, quantile), SloKind.TPOT: Slo(SloKind.TPOT, tpot_s, quantile)}


def request(prompt: int, output: int = 1, cached: int = 0, number: int = 0) -> Request:
    return Request(number, 1_000.0 * number, prompt, cached, output)


def test_alone_a_request_takes_its_prefill_and_a_first_step() -> None:
    """Prefill 0.1 s + 1 ms a token, a step 10 ms + 1 ms + 10 us a token: 900 tokens take 1.0 + 0.011 + 0.009 s."""
    for ttft_s, share in ((1.0199, 0.0), (1.0201, 1.0)):
        assert reach([request(900)], even(), slos(ttft_s, 1.0)).best[SloKind.TTFT] == share
    assert reach([request(900, cached=800)], even(), slos(0.2201, 1.0)).best[SloKind.TTFT] == 1.0


def test_the_tokens_after_the_first_take_a_step_of_the_prompt_and_half_the_answer() -> None:
    """11 ms + 10 us x (1,000 + 200 / 2) = 22 ms; one token alone has none after it."""
    for tpot_s, share in ((0.0219, 0.0), (0.0221, 1.0)):
        assert reach([request(1_000, 200)], even(), slos(9.0, tpot_s)).best[SloKind.TPOT] == share
    assert reach([request(1_000, 1)], even(), slos(9.0, 0.001)).best[SloKind.TPOT] == 1.0


def test_both_promises_can_be_out_of_reach_of_different_requests() -> None:
    found = reach([request(100), request(5_000), request(100, 900), request(100)], even(), slos(1.0, 0.012))
    assert found == Reach({SloKind.TTFT: 0.75, SloKind.TPOT: 0.75}, 0.5)


@pytest.mark.parametrize(
    "fleet",
    [
        even(),
        even(handover=Handover.PUSH),
        even(profile=changed(link_bytes_per_s=4e3, link_base_s=0.05), network_bytes_per_s=2e3),
        even(profile=changed(decode_beyond=(2.0, (0.05, 0.001, 1e-5)), kv_tokens=3_000)),
    ],
    ids=["pull", "push", "a slow network", "two pieces and a small memory"],
)
def test_it_is_what_an_idle_fleet_attains(fleet: FleetSpec) -> None:
    """The engine itself says so: each request comes when nobody else is there."""
    rng, promises = Random(4), slos(1.6, 0.025)
    requests = [request(rng.randint(1, 2_500), rng.randint(1, 900), number=number) for number in range(200)]
    keeper = ScoreKeeper(promises, 30.0)
    engine = Engine(fleet, requests, keeper)
    engine.advance(201_000.0)
    found = reach(requests, fleet, promises)
    assert 0.1 < found.all < 0.9
    assert keeper.score(engine).attainment == found.all


def test_what_cannot_be_kept_is_named_with_the_best_percentile() -> None:
    promises = slos(1.0, 0.012)
    found = reach([request(5_000), *(request(100) for _ in range(8))], even(), promises)
    assert found.infeasible(promises) == (
        "no number of replicas keeps TTFT 1 s for 95% of the requests; the best reachable percentile is 88.88%"
    )
    assert found.infeasible(slos(1.0, 0.012, 0.88)) == ""


def test_a_percentile_that_is_just_missed_is_never_rounded_up_to_the_promise() -> None:
    assert [percent(share) for share in (0.95, 0.94999, 0.999, 0.0, 1.0)] == ["95%", "94.99%", "99.9%", "0%", "100%"]


def test_a_replica_too_small_for_the_mean_request_is_refused() -> None:
    """Requests of 2,000 tokens and answers of 60 for a cache of 2,000."""
    usual = case()
    fleet = replace(usual.scenario.fleet, profile=replace(usual.scenario.fleet.profile, kv_tokens=2_000))
    small = replace(usual, scenario=replace(usual.scenario, fleet=fleet))
    told = r"^steady@30s: decode: kvTokens 2000 of profile llama-3-8b-h100-tp1 is below the 2\d\d\d tokens of a mean request"
    with pytest.raises(Refusal, match=told):
        play(Job(small, Contender("static", 1.0)))
    assert fleet.pools.keys() == set(Role)
