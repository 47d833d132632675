"""What does the adapter say about fleets that a real Prometheus scraped?

One server and one set of pods serve all read-only tests; a pod moves on one step per scrape (prometheus_server.py), so
shares, means and percentiles are exact and counts are known up to the scrapes in the window. The last test freezes, stops
and starts the server. Prometheus looks for its targets every 5 s, so most of the time here is the wait for the first scrape.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.adapters.prometheus import Endpoint, PrometheusSignals, load_profiles, queries_for
from autoscaler.adapters.prometheus.client import PrometheusClient
from autoscaler.adapters.prometheus.promql import deal, render
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gap, Gauges, Histogram, Known, Reading, Signals, Unknown
from autoscaler.core.rejection import RejectionMode
from autoscaler.ports import FleetScope
from tests.adapters.conftest import StartPrometheus
from tests.adapters.fake_engines import OLDER, Engine, Frozen, Gateway, Queues, Step
from tests.adapters.fake_pages import door
from tests.adapters.prometheus_server import Exporters, RealPrometheus, wait_until
from tests.bench.prometheus_answers import CannedPrometheus
from tests.fakes import merged

pytestmark = pytest.mark.prometheus

WINDOW_S = 5.0  # five scrapes: the shortest that gives a rate at every moment
FROZEN_FOR_S = 100.0
STRANGE = 'org/we"ird\\model (v1.0|x)+'


def scope(name: str, prefill: tuple[str, ...], decode: tuple[str, ...], **changes: Any) -> FleetScope:
    plain = FleetScope(f"prod/{name}", "prod", name, "vllm", None, {Role.PREFILL: prefill, Role.DECODE: decode}, WINDOW_S)
    return replace(plain, **changes)


FLEETS = {
    "modern": scope("modern", ("modern-p-0", "modern-p-1"), ("modern-d-0", "modern-d-1"), gateway="llm-d"),
    "older": scope("older", ("older-p-0",), ("older-d-0",)),
    "strange": scope(STRANGE, ("strange.p-0",), ("strange-d-0",), gateway="llm-d", key="prod/strange"),
    "frozen": scope("frozen", ("frozen-p-0",), ("frozen-d-0",)),
    "sick": scope("sick", ("sick-p-0",), ("sick-d-0",)),
    "silent": scope("silent", ("silent-p-0",), ("silent-d-0",), gateway="llm-d"),
    "asleep": scope("asleep", (), ()),
}
PREFILL = Step(
    completed=10, ttft_s=[0.2] * 8 + [2.0] * 2, prefill_s=0.125, prompt_tokens=1500, computed_tokens=1200, generated_tokens=1
)
DECODE = Step(completed=20, tpot_s=[0.02] * 19 + [0.06], prompt_tokens=1500, computed_tokens=1, generated_tokens=210)
IDLE = Step()


def populate(exporters: Exporters) -> None:
    busy = [Queues(waiting=2, deferred=5, running=3, kv_usage=0.4), Queues(waiting=1, running=4, kv_usage=0.7)]
    for pod in ("modern-p-0", "modern-p-1"):
        add(exporters, pod, Engine("modern", PREFILL, busy))
    add(exporters, "modern-d-0", Engine("modern", DECODE, [Queues(running=30, kv_usage=0.5)]))
    piling_up = replace(PREFILL, completed=2, ttft_s=[0.2] * 2, more_waiting=1)
    add(exporters, "older-p-0", Engine("older", piling_up, [Queues(deferred=6, running=1, kv_usage=0.3)], OLDER))
    add(exporters, "older-d-0", Engine("older", DECODE, [Queues(running=30, kv_usage=0.5)], OLDER))
    add(exporters, "strange.p-0", Engine(STRANGE, PREFILL, [Queues(running=1)]))
    # Matches "strange.p-0" if a dot were left to mean any character.
    add(exporters, "strangexp-0", Engine(STRANGE, replace(PREFILL, computed_tokens=9), [Queues(running=1)]))
    add(exporters, "strange-d-0", Engine(STRANGE, IDLE, [Queues(running=1)]))
    for pod in ("sick-p-0", "sick-d-0"):
        add(exporters, pod, Engine("sick", IDLE, [Queues(running=1, kv_usage=float("nan"))]))
    for pod in ("frozen-p-0", "frozen-d-0"):
        add(exporters, pod, Frozen("frozen", time.time() - FROZEN_FOR_S))
    for model, pod in (("modern", "epp-0"), (STRANGE, "epp-1")):
        add(exporters, pod, Gateway(model, 30, [0.3] * 9 + [4.5], unstreamed_s=[50.0] * 5))
    # A sidecar of the fleet's namespace, another of a gateway's own, and one that only watches.
    for name, model, mode in (("here", "modern", "enforce"), ("there", "modern", "enforce"), ("watching", "older", "shadow")):
        page = door(model, RejectionMode(mode), rejected=6, readmitted=2)
        exporters.add_page(f"sidecar-{name}", page, namespace="gateways" if name == "there" else "prod", pod=f"sidecar-{name}")


def add(exporters: Exporters, pod: str, source: Engine | Gateway | Frozen) -> None:
    exporters.add(pod, source.registry, source.step, namespace="prod", pod=pod)


@pytest.fixture(scope="module")
def server(start_prometheus: StartPrometheus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    exporters = Exporters()
    populate(exporters)
    server = start_prometheus(tmp_path_factory.mktemp("prometheus"), exporters.targets)
    exporters.wait_for_scrapes(int(WINDOW_S) + 2)
    yield server
    exporters.close()


@pytest.fixture(scope="module")
def signals(server: RealPrometheus) -> Mapping[str, Signals]:
    """One read of all fleets."""
    read = merged(PrometheusSignals(Endpoint(server.url)).read(list(FLEETS.values()), time.time()))
    return {name: read[one.key] for name, one in FLEETS.items()}


def pods(signals: Signals) -> Mapping[str, Gauges]:
    assert not isinstance(signals.gauges, Unknown), signals.gauges
    return signals.gauges


def histogram(latency: Histogram | Unknown) -> Histogram:
    assert isinstance(latency, Histogram), latency
    return latency


def known(reading: Reading) -> float:
    assert isinstance(reading, Known), reading
    assert reading.age_s < 10
    return reading.value


def gap(reading: object) -> Gap:
    assert isinstance(reading, Unknown), reading
    return reading.gap


def test_gauges_are_summed_over_ranks_and_kv_use_is_the_fullest_rank(signals: Mapping[str, Signals]) -> None:
    pod = pods(signals["modern"])["modern-p-0"]
    assert (pod.waiting, pod.running, pod.kv_usage) == (3, 7, 0.7)
    assert 0 <= pod.age_s < 10


def test_deferred_requests_do_not_wait_for_capacity(signals: Mapping[str, Signals]) -> None:
    pod = pods(signals["modern"])["modern-p-1"]
    assert (pod.waiting, pod.deferred) == (3, 5)


def test_a_pod_that_defers_nobody_and_an_engine_that_tells_no_reasons_are_known_all_the_same(
    signals: Mapping[str, Signals],
) -> None:
    assert pods(signals["modern"])["modern-d-0"].deferred == 0
    assert {pod.deferred for pod in pods(signals["older"]).values()} == {0}


def test_an_older_engine_is_read_by_its_older_names(signals: Mapping[str, Signals]) -> None:
    pod = pods(signals["older"])["older-p-0"]
    assert pod.waiting > 6  # one number for all that wait, and one more at every scrape
    assert pod.kv_usage == 0.3
    assert histogram(signals["older"].roles[Role.DECODE].latency).samples > 0


def test_a_pod_that_nobody_scrapes_is_absent_and_the_others_stay_known(signals: Mapping[str, Signals]) -> None:
    assert set(pods(signals["modern"])) == {"modern-p-0", "modern-p-1", "modern-d-0"}


def test_each_role_has_its_own_latency(signals: Mapping[str, Signals]) -> None:
    ttft = histogram(signals["modern"].roles[Role.PREFILL].latency)
    tpot = histogram(signals["modern"].roles[Role.DECODE].latency)
    assert ttft.share_within(0.25) == pytest.approx((0.8, 0.8))
    assert tpot.share_within(0.025) == pytest.approx((0.95, 0.95))


def test_an_slo_between_two_edges_gives_the_shares_at_both(signals: Mapping[str, Signals]) -> None:
    tpot = histogram(signals["modern"].roles[Role.DECODE].latency)
    assert tpot.share_within(0.06) == pytest.approx((0.95, 1.0))


def test_a_percentile_is_interpolated_in_its_bucket_and_comes_with_its_samples(signals: Mapping[str, Signals]) -> None:
    ttft = histogram(signals["modern"].roles[Role.PREFILL].latency)
    # 80 % are below 0.25 s, the rest between 1 and 2.5 s: the 95th percentile is three quarters of the way.
    assert ttft.quantile(0.95) == pytest.approx(1 + 0.75 * 1.5)
    assert ttft.samples == pytest.approx(2 * 10 * WINDOW_S, rel=0.5)  # two pods, ten requests a scrape, one scrape a second


def test_the_per_request_tpot_is_preferred_where_there_are_two(signals: Mapping[str, Signals]) -> None:
    tpot = histogram(signals["modern"].roles[Role.DECODE].latency)
    assert tpot.quantile(1.0) == pytest.approx(0.075)  # the other one shows 79 s


def test_means_come_from_sums_and_not_from_the_middle_of_buckets(signals: Mapping[str, Signals]) -> None:
    """Eight first tokens after 0.2 s and two after 2 s; nineteen requests at 20 ms per token and one at 60 ms."""
    modern = signals["modern"]
    assert histogram(modern.roles[Role.PREFILL].latency).mean == pytest.approx(0.56)
    assert histogram(modern.roles[Role.DECODE].latency).mean == pytest.approx(0.022)
    assert histogram(modern.traffic.ttft).mean == pytest.approx(0.72)


def test_the_work_itself_is_told_by_its_mean_alone(signals: Mapping[str, Signals]) -> None:
    """125 ms are below the lowest edge that vLLM has for a prompt's computation."""
    prefill, decode = (histogram(signals["modern"].roles[role].service) for role in Role)
    assert prefill.edges == (math.inf,)
    assert prefill.mean == pytest.approx(0.125)
    assert decode.mean == pytest.approx(79.0)  # the time between tokens, which is the other one's latency here
    assert histogram(signals["older"].roles[Role.DECODE].service).mean == pytest.approx(0.022)  # by its older name


def test_who_is_let_in_at_a_later_try_is_not_counted_among_those_turned_away(signals: Mapping[str, Signals]) -> None:
    """Each of two sidecars turns 6 away while 30 arrive, lets 2 of these in later, and is believed wherever it stands."""
    traffic = signals["modern"].traffic
    assert known(traffic.rejected_rps) / known(traffic.offered_rps) == pytest.approx(2 * (6 - 2) / 30, rel=0.01)


def test_no_sidecar_tells_nothing_and_one_that_turns_nobody_away_tells_nought(signals: Mapping[str, Signals]) -> None:
    assert gap(signals["strange"].traffic.rejected_rps) is Gap.MISSING
    assert signals["strange"].traffic.door is None
    assert known(signals["older"].traffic.rejected_rps) == 0


def test_what_sidecars_say_of_their_verdicts_is_told_by_reason_and_class(signals: Mapping[str, Signals]) -> None:
    enforced, watched = signals["modern"].traffic.door, signals["older"].traffic.door
    assert enforced is not None
    assert watched is not None
    assert (enforced.mode, watched.mode) == ("enforce", "shadow")
    no, yes = watched.rates()
    assert [(one.admit, one.reason, one.qos) for one in (no, yes)] == [(False, "ttft", "free"), (True, "fits", "free")]
    assert no.rps / yes.rps == pytest.approx(12 / 32)
    assert enforced.rates()[0].rps / no.rps == pytest.approx(2, rel=0.5)
    assert watched.hindsight == {"could_be_served": (0.1, 0.2)}


def test_tokens_per_request_are_computed_ones_for_prefill_and_generated_ones_for_decode(signals: Mapping[str, Signals]) -> None:
    roles = signals["modern"].roles
    assert known(roles[Role.PREFILL].tokens_per_request) == pytest.approx(1200)
    assert known(roles[Role.DECODE].tokens_per_request) == pytest.approx(210)
    assert known(signals["modern"].traffic.prompt_tokens) == pytest.approx(1500)


def test_users_traffic_comes_from_the_gateway_and_only_from_streamed_answers(signals: Mapping[str, Signals]) -> None:
    traffic = signals["modern"].traffic
    assert traffic.source == "gateway llm-d"
    assert known(traffic.offered_rps) == pytest.approx(30, rel=0.5)
    assert histogram(traffic.ttft).share_within(0.4) == pytest.approx((0.9, 0.9))
    assert histogram(traffic.ttft).quantile(1.0) == pytest.approx(5.0)  # an answer that is not streamed takes 50 s
    assert (known(traffic.held), known(traffic.direct_share)) == (0, 0)


def test_without_a_gateway_offered_load_is_completions_and_what_piled_up(signals: Mapping[str, Signals]) -> None:
    older = signals["older"]
    completed = histogram(older.roles[Role.PREFILL].latency).samples
    # Two requests complete per scrape and one more waits, so three arrive for every two that complete.
    assert known(older.traffic.offered_rps) * WINDOW_S == pytest.approx(1.5 * completed)
    assert older.traffic.source.startswith("completions")
    assert gap(older.traffic.ttft) is Gap.MISSING


def test_names_are_taken_literally_whatever_they_hold(signals: Mapping[str, Signals]) -> None:
    strange = signals["strange"]
    assert set(pods(strange)) == {"strange.p-0", "strange-d-0"}
    assert known(strange.roles[Role.PREFILL].tokens_per_request) == pytest.approx(1200)  # not the look-alike's 9
    assert known(strange.traffic.offered_rps) > 0


def test_a_mean_over_no_requests_is_not_a_number_and_not_zero(signals: Mapping[str, Signals]) -> None:
    assert gap(signals["strange"].roles[Role.DECODE].tokens_per_request) is Gap.NOT_A_NUMBER
    assert histogram(signals["strange"].roles[Role.DECODE].latency).samples == 0


def test_samples_that_an_exporter_timed_itself_show_their_age(signals: Mapping[str, Signals]) -> None:
    pod = pods(signals["frozen"])["frozen-p-0"]
    assert (pod.waiting, pod.running) == (4, 9)
    assert FROZEN_FOR_S <= pod.age_s < FROZEN_FOR_S + 60


def test_a_gauge_that_is_nan_is_not_a_number(signals: Mapping[str, Signals]) -> None:
    assert gap(signals["sick"].gauges) is Gap.NOT_A_NUMBER
    assert "kv_usage is nan" in str(signals["sick"].gauges)


def test_pods_that_prometheus_does_not_know_are_missing_and_not_idle(signals: Mapping[str, Signals]) -> None:
    silent = signals["silent"]
    assert isinstance(silent.gauges, Unknown)
    assert silent.gauges.detail.startswith("Prometheus answers, but no pod of 2 has all gauges; silent-p-0 in prod lacks")
    readings = [silent.traffic.offered_rps, silent.traffic.ttft, silent.traffic.prompt_tokens]
    readings += [reading for role in silent.roles.values() for reading in (role.latency, role.tokens_per_request)]
    assert {gap(silent.gauges), *map(gap, readings)} == {Gap.MISSING}


def test_a_model_name_that_no_pod_reports_is_told_with_those_they_report(server: RealPrometheus) -> None:
    misnamed = replace(FLEETS["older"], model="oldest")
    read = merged(PrometheusSignals(Endpoint(server.url)).read([misnamed], 0.0))[misnamed.key]
    assert set(pods(read)) == {"older-p-0", "older-d-0"}
    latency = read.roles[Role.PREFILL].latency
    assert isinstance(latency, Unknown)
    assert latency.detail == "Prometheus answers, but has no prefill.latency of oldest in prod; that namespace answers for older"


def test_a_fleet_asleep_has_no_gauges_and_that_is_no_fault(signals: Mapping[str, Signals]) -> None:
    assert signals["asleep"].gauges == {}
    assert gap(signals["asleep"].traffic.offered_rps) is Gap.MISSING


def test_a_query_of_2000_pods_is_accepted(server: RealPrometheus) -> None:
    crowd = {role: tuple(f"llama-70b-instruct-{role}-{number}" for number in range(1000)) for role in Role}
    read = merged(PrometheusSignals(Endpoint(server.url)).read([replace(FLEETS["silent"], pods=crowd)], 0.0))
    assert gap(read["prod/silent"].gauges) is Gap.MISSING


def test_a_query_of_the_users_that_does_not_parse_holds_only_that_fleet(server: RealPrometheus) -> None:
    broken = replace(FLEETS["older"], queries={"pods.waiting": "sum by (namespace, pod) (vllm:num_requests_waiting{"})
    read = merged(PrometheusSignals(Endpoint(server.url)).read([broken, FLEETS["modern"]], 0.0))
    assert isinstance(read["prod/older"].gauges, Unknown)
    assert read["prod/older"].gauges.gap is Gap.SERVER_ERROR
    assert "HTTP 400: invalid parameter" in read["prod/older"].gauges.detail
    assert pods(read["prod/modern"])


def test_a_query_of_the_users_replaces_the_profiles(server: RealPrometheus) -> None:
    query = "sum by (namespace, pod) (vllm:num_requests_waiting{namespace=~$namespaces, pod=~$pods}) + 100"
    own = replace(FLEETS["modern"], queries={"pods.waiting": query})
    read = merged(PrometheusSignals(Endpoint(server.url)).read([own], 0.0))
    assert pods(read["prod/modern"])["modern-p-0"].waiting == 108


def test_the_canned_answers_of_the_benchmarks_have_a_real_servers_shape(server: RealPrometheus) -> None:
    """Same signals, labels and bucket spellings, so that what the benchmarks decode is what production decodes."""
    fleet = FLEETS["modern"]
    [shard] = deal([(fleet, queries_for(fleet.engine, fleet.gateway, {}, load_profiles()))], 2000)
    real, canned = PrometheusClient(Endpoint(server.url)), PrometheusClient(Endpoint(server.url))
    canned.session.mount(f"{server.url}/api/", CannedPrometheus([fleet]))

    def shapes(client: PrometheusClient) -> set[tuple[object, ...]]:
        rows = client.query(render(shard), 5.0)
        assert not isinstance(rows, Unknown), rows
        return {(row["metric"]["signal"], *row["metric"], row["metric"].get("le"), len(row["value"])) for row in rows}

    assert shapes(real) == shapes(canned)


def test_an_outage_is_told_by_kind_and_ends_by_itself(server: RealPrometheus) -> None:
    """A time-out while it hangs, refused while it is down, known again after each: nobody has to restart the controller."""
    source, fleet = PrometheusSignals(Endpoint(server.url, timeout_s=1.0)), FLEETS["modern"]

    def gauges() -> Mapping[str, Gauges] | Unknown:
        return merged(source.read([fleet], time.time()))[fleet.key].gauges

    assert not isinstance(gauges(), Unknown)
    server.freeze()
    assert gap(gauges()) is Gap.TIMEOUT
    server.thaw()
    wait_until(lambda: not isinstance(gauges(), Unknown), "known again after it hung")
    server.stop()
    refused = gauges()
    assert gap(refused) is Gap.UNREACHABLE
    assert "Connection refused" in str(refused)
    server.start()
    wait_until(lambda: not isinstance(gauges(), Unknown), "known again after it was down")
