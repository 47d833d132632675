"""Does each peer compute what its authors' formula gives? Every expected number is worked by hand beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autoscaler.core.action import Mode
from autoscaler.core.capacity import Shape, Slo
from autoscaler.core.fleet import Role, Sizing, SloKind
from autoscaler.core.observation import Histogram
from autoscaler.core.policy import Policy, PoolLimits
from autoscaler.simulator.peers import Flip, Wishes, mean_of, mean_seen, time_per_token
from autoscaler.simulator.peers.arrow import Arrow, Pressure
from autoscaler.simulator.peers.catalogue import PEERS, Setting
from autoscaler.simulator.peers.dynamo_load import DynamoLoad, Floor
from autoscaler.simulator.peers.dynamo_throughput import DynamoThroughput, Kalman
from autoscaler.simulator.peers.heteroscale import Heteroscale
from autoscaler.simulator.peers.hpa_queue import HpaQueue
from autoscaler.simulator.peers.llmd_token_pd import LlmdTokenPd
from autoscaler.simulator.peers.profiled import PrefillTable, decode_rate, prefill_line
from autoscaler.simulator.peers.static import Static
from tests.simulator.peers.looks import blind, look, rows
from tests.simulator.peers.sinusoid import SHAPE, TODAY, sinusoid
from tests.simulator.peers.sinusoid import policy as sinusoid_policy
from tests.simulator.small_fleet import PROFILE, changed

P, D = Role.PREFILL, Role.DECODE
SETTING = Setting(sinusoid_policy(), SHAPE, TODAY)
NO_FLOOR = Floor({}, next_s=float("inf"))
SECONDS = {SloKind.TTFT: 2.0, SloKind.TPOT: 0.03}


def test_a_mean_is_read_from_the_middle_of_its_buckets() -> None:
    seen = Histogram((0.5, 1.0, 2.0, float("inf")), (0.0, 3.0, 4.0, 4.0))
    assert mean_of(seen) == pytest.approx((3 * 0.75 + 1.5) / 4)
    assert mean_of(Histogram((1.0, float("inf")), (0.0, 2.0))) == 1.0  # above the last edge: that edge
    assert mean_of(Histogram((), ())) is None


def test_the_peers_means_are_sum_over_count_and_unknown_without_a_sum() -> None:
    seen = look({P: rows(1), D: rows(2)}, tpot_s=0.021)
    assert time_per_token(seen) == pytest.approx(0.021)
    assert time_per_token(blind(seen)) is None
    assert mean_seen(Histogram((1.0, float("inf")), (2.0, 3.0), 4.5)) == 1.5
    assert mean_seen(Histogram((1.0, float("inf")), (2.0, 3.0))) is None


def test_static_wants_what_it_was_given() -> None:
    assert Static({P: 3, D: 5}).step(look({P: rows(1, waiting=99), D: rows(9)}), None)[0].replicas == {P: 3, D: 5}


@pytest.mark.parametrize(
    ("pods", "beside", "expected"),
    [
        (rows(2, waiting=12), {}, 5),  # u = 12 / 5 = 2.4, 2 pods: ceil(4.8)
        (rows(2, waiting=5), {}, 2),  # u = 1
        (rows(10, waiting=5.4), {}, 10),  # u = 1.08, within 10 %
        (rows(2, waiting=12), {"starting": {P: 1}}, 5),  # u = 24 / 3 / 5 = 1.6, 3 pods
        (rows(2, waiting=6), {"starting": {P: 1}}, 3),  # 1.2, then 12 / 3 / 5 = 0.8: turned, so the count is kept
        (rows(2, waiting=12), {"silent": {P: 1}}, 5),  # missing counts as 0 going up: 24 / 3 / 5 = 1.6
        (rows(4, waiting=1.2), {"silent": {P: 1}}, 2),  # and as the target going down: (4.8 + 5) / 5 / 5 = 0.392, 5 pods
    ],
)
def test_hpa_counts_pods_as_kubernetes_does(
    pods: tuple[tuple[float, float, float], ...], beside: dict[str, dict[Role, int]], expected: int
) -> None:
    seen = look({P: pods, D: rows(1, waiting=5)}, **beside)  # type: ignore[arg-type]
    peer = HpaQueue(5.0)
    past = peer.step(seen, peer.begin())[1][P]
    assert past.recommended[-1] == (1000.0, expected)


def test_hpa_does_not_shrink_under_load_what_a_quota_keeps_from_being_made() -> None:
    """6 are asked for and 2 exist: u = 14 / 2 / 5 = 1.4, of 2 pods 2.8, so 3, which are fewer than asked for."""
    seen = look({P: rows(2, waiting=7), D: rows(1, waiting=5)})
    fleet = replace(seen.fleet, pools={**seen.fleet.pools, P: replace(seen.fleet.pools[P], desired=6)})
    peer = HpaQueue(5.0)
    assert peer.step(replace(seen, fleet=fleet), peer.begin())[1][P].recommended[-1] == (1000.0, 6)


def test_llmd_sizes_prefill_by_prompts_in_flight_and_decode_by_kv() -> None:
    peer = LlmdTokenPd(prompt_tokens_per_s=4000.0, wait_s=1.5)
    kv = ((0.0, 1.0, 0.9), (0.0, 1.0, 0.9), (0.0, 1.0, 0.9))
    seen = look({P: rows(1, waiting=23, running=1), D: kv}, uncached=1000.0)
    _, past = peer.step(seen, peer.begin())
    assert past[P].recommended[-1][1] == 4  # 24 * 1000 / 4000 / 1.5
    assert past[D].recommended[-1][1] == 4  # 2.7 / 0.8 = 3.375
    wishes, _ = peer.step(seen, peer.begin())
    assert wishes.replicas == {P: 2, D: 4}  # one pod per 180 s


def test_heteroscale_drives_both_roles_by_decode_tokens() -> None:
    peer = Heteroscale(decode_tokens_per_s=250.0, replicas_per_decode=0.5, tpot_s=0.1)
    fleet = {P: rows(1), D: rows(2, running=5)}
    assert peer.step(look(fleet, rps=9.0), None) == (peer.step(look(fleet, rps=9.0), None)[0], 1000.0)
    assert peer.step(look(fleet, rps=9.0), None)[0].replicas == {D: 4, P: 2}  # 900 / 250 = 3.6
    assert peer.step(look(fleet, rps=5.4), None)[0].replicas == {D: 2, P: 1}  # 2.16 is within 10 % of 2
    tight = Heteroscale(250.0, 0.5, tpot_s=0.02 / 1.3)
    crowded = look({P: rows(1), D: rows(10, running=4)}, rps=20.0, tpot_s=0.02)  # 40 / 2000 = 20 ms: 1.3 times the SLO
    assert tight.step(crowded, None)[0].replicas == {D: 12, P: 6}  # 2000 / 250 = 8, the net asks for 1.2 * 10


def test_heteroscale_shrinks_only_when_its_last_move_is_old() -> None:
    """And the first look counts as one: answers that end within the first seconds are the short ones, so the lengths seen
    then say too little.
    """
    peer = Heteroscale(250.0, 0.5, tpot_s=0.1)
    seen = look({P: rows(3), D: rows(6, running=1)}, rps=5.0)
    assert peer.step(seen, 900.0)[0].replicas[D] == 6
    assert peer.step(seen, 700.0)[0].replicas[D] == 2
    wishes, memory = peer.step(seen, peer.begin())
    assert (wishes.replicas[D], memory) == (6, 1000.0)
    assert peer.step(replace(seen, now=1300.0), memory)[0].replicas[D] == 2


def test_dynamo_reads_its_tables_between_the_samples() -> None:
    table = PrefillTable.of(PROFILE, (1000.0, 2000.0))
    assert table.ttft_s == pytest.approx((1.1, 2.1))
    assert table.ttft_at(1500) == pytest.approx(1.6)
    assert table.rate_at(1500) == pytest.approx((1000 / 1.1 + 2000 / 2.1) / 2)
    # step = 10 ms + 1 ms B with no KV term: 8 sequences in six batches of 1.33 .. 8; 15 ms allows B = 5
    plain = changed(decode_s=(0.010, 0.001, 0.0))
    assert decode_rate(plain, 0.018, 100.0) == pytest.approx(8 / 0.018)
    assert decode_rate(plain, 0.015, 100.0) == pytest.approx(5 / 0.015, rel=0.02)
    assert decode_rate(plain, 0.001, 100.0) == pytest.approx((8 / 6) / (0.010 + 8 / 6000))  # none meets it: the emptiest
    assert prefill_line(PROFILE) == pytest.approx((0.1, 0.001))


def test_dynamo_filters_level_and_trend() -> None:
    one = Kalman().seen(10.0)
    assert (one.level, one.next) == (10.0, 10.0)
    two = one.seen(20.0)  # P = F 1000 I F' + Q: p11 2001, p12 1000; gains 2001/2011 and 1000/2011 of a surprise of 10
    assert (two.level, two.trend) == pytest.approx((10 + 20010 / 2011, 10000 / 2011))
    assert two.next == 20.0  # the last value before five points
    line = Kalman()
    for value in range(100, 800, 100):
        line = line.seen(float(value))
    assert line.next == pytest.approx(800.0, rel=0.01)
    assert Kalman().seen(0.0).points == 0


def test_dynamo_throughput_divides_the_forecast_by_the_tables() -> None:
    peer = DynamoThroughput(changed(decode_s=(0.010, 0.001, 0.0)), itl_s=0.018)
    # prefill 10 * 512 tokens/s at 512 / 0.612 = 836.6 a replica = 6.12; decode 10 * 100 tokens/s at 8 / 18 ms = 444 = 2.25,
    # for 3.33 requests on each of 4 take 13.3 ms a step, as is seen
    calm = look({P: rows(3), D: rows(4, running=10 / 3)}, uncached=512.0, ttft_s=0.612, tpot_s=0.04 / 3)
    assert peer.step(calm, peer.begin())[0].replicas == {P: 7, D: 3}
    assert DynamoThroughput(peer.profile, 0.018, fill=0.5).step(calm, peer.begin())[0].replicas == {P: 13, D: 5}
    # half the table's TTFT halves prefill: 3.06. 4.5 requests read 18 ms where 14.5 are expected, so the target is
    # 18 * 14.5 / 18 = 14.5 ms: 4.5 requests at 310 tokens/s = 3.22
    odd = look({P: rows(3), D: rows(4, running=4.5)}, uncached=512.0, ttft_s=0.306, tpot_s=0.018)
    assert peer.step(odd, peer.begin())[0].replicas == {P: 4, D: 4}


def test_dynamo_load_adds_one_when_all_exceed_and_takes_one_when_all_can_bear_it() -> None:
    peer = DynamoLoad(PROFILE, SECONDS, DynamoThroughput(PROFILE, 0.03))
    # T(n) = 0.1 + n/1000: 4 queued prompts of 500 and an own one take 2.1 + 0.6 = 2.7 s, above 2 s; step 10 + 5 = 15 ms
    busy = {P: rows(2, waiting=4), D: rows(2, running=5)}
    assert peer.step(look(busy), NO_FLOOR)[0].replicas == {P: 3, D: 1}
    # one engine below its target is enough to stay: 1 queued prompt takes 0.6 + 0.6 s
    mixed = {P: ((4.0, 0.0, 0.0), (1.0, 0.0, 0.0)), D: rows(2, running=9)}
    assert peer.step(look(mixed), NO_FLOOR)[0].replicas[P] == 2
    # decode on one engine: 9 * 2 = 18 requests are 28 ms, above 0.8 * 30 = 24; 6 * 2 would be 22 ms
    assert peer.step(look(mixed), NO_FLOOR)[0].replicas[D] == 2
    assert peer.step(look({P: rows(2), D: rows(2, running=6)}), NO_FLOOR)[0].replicas == {P: 1, D: 1}


def test_dynamo_load_freezes_both_pools_while_anything_starts() -> None:
    seen = look({P: rows(2, waiting=40), D: rows(2)}, starting={D: 1})
    peer = DynamoLoad(PROFILE, SECONDS, DynamoThroughput(PROFILE, 0.03))
    assert peer.step(seen, NO_FLOOR)[0].replicas == {P: 2, D: 3}


def test_dynamo_load_goes_no_lower_than_the_throughput_planner() -> None:
    """At 10 requests/s of 512 tokens that planner asks for 7 and 3, as in the test above; the queues are empty."""
    planner = DynamoThroughput(changed(decode_s=(0.010, 0.001, 0.0)), itl_s=0.018)
    peer = DynamoLoad(planner.profile, SECONDS, planner)
    calm = look({P: rows(3), D: rows(4, running=10 / 3)}, uncached=512.0, ttft_s=0.612, tpot_s=0.04 / 3)
    first, memory = peer.step(calm, peer.begin())
    assert first.replicas == {P: 3, D: 4}  # until the planner has looked, what is there
    at = calm.now + 180.0
    later, after = peer.step(replace(calm, now=at), memory)
    assert later.replicas == {P: 7, D: 3}
    assert after.next_s == at + 180.0
    assert peer.step(blind(replace(calm, now=at + 180.0)), after) == (Wishes({P: 3, D: 4}), after)


def test_arrow_gives_decode_a_replica_once_its_load_has_lasted() -> None:
    peer = Arrow(changed(decode_s=(0.010, 0.001, 0.0)), SECONDS)
    # floor 11 ms, SLO 30 ms: 30.9 ms are a load of 1.05; prefill holds nothing
    seen = look({P: rows(3), D: rows(2)}, tpot_s=0.0309)
    first = peer.step(seen, Pressure())
    assert (first[0].flips, first[1]) == ((), Pressure(1000.0))
    later = look({P: rows(3), D: rows(2)}, tpot_s=0.0309, now=1003.0)
    wishes, memory = peer.step(later, first[1])
    assert wishes.flips == (Flip(P, D, 1),)
    again = look({P: rows(3), D: rows(2)}, tpot_s=0.0309, now=1009.0)
    assert peer.step(again, replace(memory, since_s=1003.0))[0].flips == ()  # cooling down until 1013


def test_arrow_gives_prefill_a_replica_when_no_newcomer_would_be_in_time() -> None:
    peer = Arrow(changed(decode_s=(0.010, 0.001, 0.0)), SECONDS)
    # each prompt takes 0.6 s: 3 held are 1.8 s, and the newcomer's own make 2.4 > 2.0. Decode: 20 ms is a load of 0.47
    late = look({P: rows(2, waiting=2, running=1), D: rows(3)}, tpot_s=0.02)
    assert peer.step(late, Pressure())[0].flips == (Flip(D, P, 1),)
    one_free = look({P: ((2.0, 1.0, 0.0), (1.0, 1.0, 0.0)), D: rows(3)}, tpot_s=0.02)
    assert peer.step(one_free, Pressure())[0].flips == ()


def test_arrow_never_empties_a_role() -> None:
    peer = Arrow(changed(decode_s=(0.010, 0.001, 0.0)), SECONDS)
    seen = look({P: rows(1), D: rows(2)}, tpot_s=0.032)
    assert peer.step(seen, Pressure(0.0))[0].flips == ()


def test_arrow_waits_until_what_it_flipped_serves() -> None:
    """Decode asks since 3 s; a resized replica still starts there, which no latency tells of yet."""
    peer = Arrow(changed(decode_s=(0.010, 0.001, 0.0)), SECONDS)
    pods = {P: rows(3), D: rows(2)}
    asked = Pressure(997.0)
    assert peer.step(look(pods, tpot_s=0.0309, starting={D: 1}), asked) == (Wishes({P: 3, D: 3}), asked)
    assert peer.step(look(pods, tpot_s=0.0309), asked)[0].flips == (Flip(P, D, 1),)


def test_the_catalogue_tunes_peers_to_the_workload() -> None:
    slos = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.03, 0.95)}
    policy = Policy(Mode.AUTO, slos, dict.fromkeys(Role, PoolLimits(1, 9)), PROFILE)
    setting = Setting(policy, Shape(500, 400, 100), {P: 2, D: 4})
    llmd = PEERS["llmd-token-pd"].make(setting, 1.0)
    assert isinstance(llmd, LlmdTokenPd)
    assert (llmd.prompt_tokens_per_s, llmd.wait_s) == pytest.approx((400 / 0.5, 1.5))  # 2 s - 0.4 s of prompt - 0.1 s
    assert PEERS["static"].make(setting, 1.5) == Static(PEERS["static"].begins(setting, 1.5)) == Static({P: 3, D: 6})
    assert PEERS["hpa-queue"].begins(setting, 1.0) == {P: 2, D: 4}
    for entry in PEERS.values():
        assert entry.published in entry.points
        assert entry.points == tuple(sorted(entry.points, reverse=entry.points[0] > entry.points[-1]))


def test_the_fleet_that_flips_is_no_smaller_than_the_mean_load_asks_for() -> None:
    """A prompt of 400 takes 0.5 s; what the laws leave of a replica is what 8 requests/s are divided by. 2 + 4 stand there."""
    slos = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.03, 0.95)}
    policy = Policy(Mode.AUTO, slos, dict.fromkeys(Role, PoolLimits(1, 30)), PROFILE)
    few = Setting(policy, Shape(500, 400, 100), {P: 2, D: 4}, rps=0.1)
    assert few.carrying(1.0) == {P: 2, D: 4}
    many = replace(few, rps=8.0)
    prefill = 8 * 400 / few.law(Sizing.QUEUE).tokens_per_s
    decode = 8 * 100 / few.law(Sizing.BATCH).tokens_per_s
    assert many.carrying(1.0) == {P: math.ceil(prefill), D: math.ceil(decode)}
    assert prefill + decode > 6
    assert many.carrying(2.0)[P] == math.ceil(2 * prefill)
    assert many.fleet_of(1.0) == {P: 2, D: 4}
    full = replace(many, policy=replace(policy, gpu_budget=6))
    assert full.carrying(1.0) == {P: 2, D: 4}, "the budget is what stands there: nothing can be added"


def test_a_standing_fleet_keeps_bounds_and_budget() -> None:
    slos = {SloKind.TTFT: Slo(SloKind.TTFT, 2.0, 0.95), SloKind.TPOT: Slo(SloKind.TPOT, 0.03, 0.95)}
    policy = Policy(Mode.AUTO, slos, dict.fromkeys(Role, PoolLimits(1, 9)), PROFILE, gpu_budget=14)
    setting = Setting(policy, Shape(500, 400, 100), {P: 2, D: 4}, gpus={P: 2, D: 1})
    assert setting.fleet_of(1.0) == {P: 2, D: 4}
    assert setting.fleet_of(2.0) == {P: 3, D: 8}  # 4 + 8 are 16 GPUs; both are half busy, and the first gives
    assert setting.fleet_of(5.0) == {P: 3, D: 8}  # 9 + 9 within the bounds; prefill, less busy, gives until 3 + 8


def test_who_reads_the_engines_itself_sees_them_every_5_s_and_at_once_and_others_every_scrape() -> None:
    late = replace(sinusoid(60.0).scenario, scrape_delay_s=9.0)
    seen = {name: entry.watched(entry.make(SETTING, entry.published), late) for name, entry in PEERS.items()}
    for name in ("dynamo-load", "arrow"):
        assert (seen[name].scrape_s, seen[name].interval_s, seen[name].scrape_delay_s) == (5.0, 5.0, 0.0)
    assert {(one.scrape_s, one.scrape_delay_s) for one in seen.values()} == {(5.0, 0.0), (15.0, 9.0)}
    assert (seen["hpa-queue"].interval_s, seen["dynamo-throughput"].interval_s) == (15.0, 180.0)
