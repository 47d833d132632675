"""What does each metric profile make of what its engine or gateway shows? Read through a real Prometheus (fake_cluster.py)."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Gauges
from tests.adapters.fake_cluster import OLDER, SGLANG, TRTLLM, VLLM, WINDOW_S, Cluster, gap, known, pod, seen

pytestmark = pytest.mark.prometheus


def test_of_each_data_parallel_rank_the_tensor_ranks_count_once_and_priorities_not_beside_their_total(cluster: Cluster) -> None:
    """Four ranks tell of two: 3 and 2 in the queue, 2 and 1 computed ones that decode has not fetched."""
    assert pod(cluster.read(SGLANG), "sglang-p-0") == Gauges(waiting=5, running=3, kv_usage=0.55, age_s=0, deferred=3)


def test_a_wait_for_decodes_memory_is_decodes_and_told_once(cluster: Cluster) -> None:
    """Prefill's bootstrap queue, 7 and growing, holds those that stand in decode's prealloc queue. What decode has promised
    a place waits for prefill or the link.
    """
    assert pod(cluster.read(SGLANG), "sglang-d-0") == Gauges(waiting=6, running=42, kv_usage=0.8, age_s=0, deferred=6)


def test_prefill_is_told_by_its_own_queue_and_work(cluster: Cluster) -> None:
    """Its time to first token is 6 s, most of it spent waiting for decode; chunks of a prompt are one prompt."""
    prefill = cluster.read(SGLANG).roles[Role.PREFILL]
    queue, service = seen(prefill.latency), seen(prefill.service)
    assert queue.share_within(0.1) == pytest.approx((0.75, 0.75))
    assert queue.mean == pytest.approx(0.125)
    assert queue.samples == pytest.approx(8 * WINDOW_S, rel=0.5)
    assert service.edges == (math.inf,)
    assert service.mean == pytest.approx(0.25)
    assert known(prefill.tokens_per_request) == pytest.approx(1200)


def test_decode_is_told_token_by_token(cluster: Cluster) -> None:
    decode = cluster.read(SGLANG).roles[Role.DECODE]
    assert seen(decode.latency).share_within(0.02) == pytest.approx((0.9, 0.9))
    assert seen(decode.service).mean == pytest.approx(0.016)
    assert known(decode.tokens_per_request) == pytest.approx(210)


def test_without_a_gateway_arrivals_are_what_left_and_what_piled_up_before_decodes_memory(cluster: Cluster) -> None:
    """Eight a second end and one more waits, whoever it waits for. Users wait for decode's first token."""
    signals = cluster.read(replace(SGLANG, gateway=None))
    left = seen(signals.roles[Role.PREFILL].latency).samples
    assert known(signals.traffic.offered_rps) * WINDOW_S == pytest.approx(left * 9 / 8)
    assert known(signals.traffic.prompt_tokens) == pytest.approx(1500)
    assert seen(signals.traffic.ttft).share_within(0.4) == pytest.approx((0.75, 0.75))
    assert seen(signals.traffic.ttft).mean == pytest.approx(0.7)


def test_an_older_version_is_read_by_its_older_names(cluster: Cluster) -> None:
    signals = cluster.read(OLDER)
    prefill = signals.roles[Role.PREFILL]
    assert pod(signals, "sglang-older-p-0") == Gauges(waiting=5, running=2, kv_usage=0.25, age_s=0, deferred=1)
    assert seen(prefill.latency).share_within(0.4) == pytest.approx((0.75, 0.75))
    assert known(prefill.tokens_per_request) == pytest.approx(750)
    assert gap(prefill.service) is Gap.MISSING
    assert known(signals.traffic.offered_rps) * WINDOW_S == pytest.approx(seen(prefill.latency).samples * 5 / 4)


def test_of_several_models_and_kinds_of_servers_only_this_models_two_roles_count(cluster: Cluster) -> None:
    """The same gateway takes 400 embeddings a second for this model and 53 requests for another."""
    traffic = cluster.read(SGLANG).traffic
    assert traffic.source == "gateway smg"
    assert known(traffic.offered_rps) * WINDOW_S == pytest.approx(seen(traffic.ttft).samples)
    assert known(traffic.offered_rps) == pytest.approx(9, rel=0.5)
    assert known(cluster.read(replace(SGLANG, model="BAAI/bge-m3")).traffic.offered_rps) == pytest.approx(3, rel=0.5)


def test_users_wait_from_prefill_on(cluster: Cluster) -> None:
    """The router's own times begin at decode: 5 ms."""
    ttft = seen(cluster.read(SGLANG).traffic.ttft)
    assert ttft.share_within(0.5) == pytest.approx((2 / 3, 2 / 3))
    assert ttft.mean == pytest.approx(0.5)


def test_what_it_does_not_tell_by_model_is_left_out(cluster: Cluster) -> None:
    traffic = cluster.read(SGLANG).traffic
    assert {gap(one) for one in (traffic.held, traffic.rejected_rps, traffic.direct_share)} == {Gap.MISSING}


def test_each_server_is_told_by_itself(cluster: Cluster) -> None:
    signals = cluster.read(TRTLLM)
    assert pod(signals, "trtllm-p-0") == Gauges(waiting=4, running=3, kv_usage=0.3, age_s=0)
    assert pod(signals, "trtllm-d-0") == Gauges(waiting=0, running=40, kv_usage=0.6, age_s=0)


def test_each_role_has_its_latency_and_its_tokens(cluster: Cluster) -> None:
    prefill, decode = (cluster.read(TRTLLM).roles[role] for role in Role)
    assert seen(prefill.latency).share_within(0.25) == pytest.approx((0.75, 0.75))
    assert seen(prefill.service).mean == pytest.approx(0.08)
    assert known(prefill.tokens_per_request) == pytest.approx(1500)
    assert seen(decode.latency).share_within(0.025) == pytest.approx((0.75, 0.75))
    assert known(decode.tokens_per_request) == pytest.approx(150)
    assert gap(decode.service) is Gap.MISSING  # nothing is told per token


def test_a_cache_without_hits_is_no_missing_number(cluster: Cluster) -> None:
    """The other server never had one, so it has no series of them: nothing is cached."""
    turned = replace(TRTLLM, pods={Role.PREFILL: ("trtllm-d-0",), Role.DECODE: ("trtllm-p-0",)})
    assert known(cluster.read(turned).roles[Role.PREFILL].tokens_per_request) == pytest.approx(2000)


def test_without_a_gateway_arrivals_are_completions(cluster: Cluster) -> None:
    traffic = cluster.read(replace(TRTLLM, gateway=None)).traffic
    assert known(traffic.offered_rps) == pytest.approx(12, rel=0.5)
    assert known(traffic.prompt_tokens) == pytest.approx(2000)
    assert gap(traffic.ttft) is Gap.MISSING


def test_two_frontends_are_one_gateway_and_requests_in_flight_have_arrived(cluster: Cluster) -> None:
    """Eight and four end per second, refused ones included, and one more is in flight. The other model's 180 do not count,
    and no gauge is taken twice for having a new name beside its old one.
    """
    traffic = cluster.read(TRTLLM).traffic
    assert known(traffic.offered_rps) * WINDOW_S == pytest.approx(seen(traffic.ttft).samples * 13 / 12, rel=0.02)
    assert known(traffic.prompt_tokens) == pytest.approx(2000)


def test_edges_that_two_exporters_spell_differently_are_the_same(cluster: Cluster) -> None:
    """le="1" at the one frontend and le="1.0" at the other, as Prometheus 2 keeps them and as 3 writes them."""
    ttft = seen(cluster.read(TRTLLM).traffic.ttft)
    assert list(ttft.edges) == [0.001, 0.0047, 0.022, 0.1, 0.47, 1, 2.2, 10, 48, 100, 480, math.inf]
    assert ttft.share_within(0.47) == pytest.approx((0.75, 0.75))
    assert ttft.mean == pytest.approx(0.4)


def test_a_model_is_known_by_its_name_in_lower_case(cluster: Cluster) -> None:
    other = replace(TRTLLM, model="Meta-Llama/Llama-3.1-8B-Instruct")
    assert known(cluster.read(other).traffic.prompt_tokens) == pytest.approx(100)
    assert gap(cluster.read(replace(TRTLLM, model="Qwen/Qwen3")).traffic.offered_rps) is Gap.MISSING


def test_what_is_held_now_and_was_not_before_has_arrived_and_old_names_do_not_count_again(cluster: Cluster) -> None:
    """Twenty a second are given a pod, 16 of them streamed, and three more are held."""
    traffic = cluster.read(VLLM).traffic
    assert known(traffic.offered_rps) * WINDOW_S == pytest.approx(seen(traffic.ttft).samples * 23 / 16)


def test_all_that_flow_control_holds_of_a_model_is_told(cluster: Cluster) -> None:
    """12 and 3 more at every scrape, of two tenants."""
    held = known(cluster.read(VLLM).traffic.held)
    assert held > 12 + 3 * WINDOW_S
    assert held % 3 == 0


def test_refused_and_given_up_is_rejected_and_dispatched_is_not(cluster: Cluster) -> None:
    traffic = cluster.read(VLLM).traffic
    assert known(traffic.rejected_rps) * WINDOW_S == pytest.approx(seen(traffic.ttft).samples * 6 / 16)


def test_without_flow_control_those_are_rejected_that_no_pod_is_found_for(cluster: Cluster) -> None:
    """Ten are given a pod, two of which fail there."""
    traffic = cluster.read(replace(VLLM, model="mistralai/Mistral-7B-v0.3")).traffic
    assert known(traffic.rejected_rps) / known(traffic.offered_rps) == pytest.approx(3 / 10)
    assert gap(traffic.held) is Gap.MISSING


def test_a_quarter_goes_past_the_prefill_pods(cluster: Cluster) -> None:
    assert known(cluster.read(VLLM).traffic.direct_share) == pytest.approx(0.25)
    other = replace(VLLM, model="meta-llama/Llama-3.1-8B-Instruct")
    assert known(cluster.read(other).traffic.direct_share) == pytest.approx(1.0)


def test_names_with_an_underscore_are_the_same_as_with_a_colon(cluster: Cluster) -> None:
    """The prefill pod's exporter heeds the rules of OpenMetrics, the decode pod's does not; a router tells their names over
    again, with 700 running and 900 waiting.
    """
    signals = cluster.read(VLLM)
    assert pod(signals, "vllm-p-0") == Gauges(waiting=2, running=7, kv_usage=0.7, age_s=0, deferred=5)
    assert pod(signals, "vllm-d-0") == Gauges(waiting=0, running=30, kv_usage=0.5, age_s=0)
    prefill, decode = (signals.roles[role] for role in Role)
    assert seen(prefill.latency).share_within(0.25) == pytest.approx((1.0, 1.0))
    assert seen(prefill.service).mean == pytest.approx(0.125)
    assert [known(role.tokens_per_request) for role in (prefill, decode)] == pytest.approx([1200, 210])
    assert known(signals.traffic.prompt_tokens) == pytest.approx(1500)


def test_without_a_gateway_the_routers_own_gauges_bring_nobody(cluster: Cluster) -> None:
    traffic = cluster.read(replace(VLLM, gateway=None)).traffic
    assert known(traffic.offered_rps) == pytest.approx(10, rel=0.5)
