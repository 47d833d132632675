"""Which queries are asked: how many, in which words, and who may change them?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.prometheus import load_profiles, queries_for
from autoscaler.adapters.prometheus.profile import NEEDED_OF_PODS, SHAPES, PodSignal, Query, parse_profile
from autoscaler.adapters.prometheus.promql import Shard, any_of, deal, render
from autoscaler.core.fleet import Role
from autoscaler.core.observation import Gauges
from autoscaler.ports import FleetScope
from autoscaler.refusal import Refusal
from tests.bench.prometheus_answers import canned, fleets
from tests.fakes import merged

GOLDEN = Path(__file__).parent.parent / "contracts" / "promql"
PROFILES = load_profiles()
NAMES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12), min_size=1, max_size=6)


def queries(scope: FleetScope) -> Mapping[str, Query]:
    return queries_for(scope.engine, scope.gateway, scope.queries, PROFILES)


def shards(*scopes: FleetScope, limit: int = 2000) -> list[Shard]:
    return list(deal([(scope, queries(scope)) for scope in scopes], limit))


@pytest.mark.parametrize("name", ["vllm", "vllm-behind-llm-d", "sglang-behind-smg", "trtllm-behind-dynamo"])
def test_the_text_of_a_query_is_as_agreed(name: str) -> None:
    """Two fleets in two namespaces, one query. A change of a profile shows here word by word."""
    engine, _, gateway = name.partition("-behind-")
    pair = [
        replace(scope, namespace=f"team-{number}", engine=engine) for number, scope in enumerate(fleets(2, 4, gateway or None))
    ]
    [shard] = shards(*pair)
    assert render(shard) + "\n" == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("count", "replicas", "asked"), [(1, 2, 1), (1, 200, 1), (1, 2000, 1), (100, 2, 1), (100, 20, 4)])
def test_the_number_of_queries_grows_neither_with_replicas_nor_with_fleets(count: int, replicas: int, asked: int) -> None:
    """It grows with pods, by one for each 500."""
    scopes = fleets(count, replicas)
    signals, server = canned(scopes)
    assert set(merged(signals.read(scopes, 0.0))) == {scope.key for scope in scopes}
    assert server.queries == asked


def test_2000_pods_share_a_query_and_a_fleet_is_never_split() -> None:
    assert [shard.pods for shard in shards(*fleets(5, 800))] == [1600, 1600, 800]
    assert [len(shard.scopes) for shard in shards(*fleets(2, 3000))] == [1, 1]


def test_what_is_asked_in_other_words_goes_into_another_query() -> None:
    plain, twin, slow, behind, own = fleets(5, 2, gateway=None)
    behind = replace(behind, gateway="llm-d")
    slow = replace(slow, window_s=300.0)
    own = replace(own, queries={"pods.waiting": "my_queue"})
    assert [shard.scopes for shard in shards(plain, slow, behind, own, twin)] == [[plain, twin], [slow], [behind], [own]]


def test_one_name_with_two_roles_in_two_namespaces_is_never_in_one_query() -> None:
    """Namespaces and pods are matched apart: together, each of these pods would count for both roles of both fleets."""
    here = replace(fleets(1, 2)[0], namespace="here", pods={Role.PREFILL: ("chat-0",), Role.DECODE: ("chat-1",)})
    there = replace(here, namespace="there", key="there/chat", pods={Role.PREFILL: ("chat-1",), Role.DECODE: ("chat-0",)})
    same = replace(here, namespace="same", key="same/chat")
    assert [shard.scopes for shard in shards(here, there, same)] == [[here, same], [there]]


def test_a_role_without_pods_matches_nobody() -> None:
    """An empty alternative would match every series that has no such label."""
    scope = replace(fleets(1, 2)[0], pods={Role.PREFILL: ("chat-0",), Role.DECODE: ()})
    [shard] = shards(scope)
    assert 'pod=~""' not in render(shard)
    assert 'pod=~"/"' in render(shard)


def test_what_a_pod_counted_in_another_role_is_in_no_sum_while_its_gauges_are_asked() -> None:
    scope = replace(
        fleets(1, 2)[0], pods={Role.PREFILL: ("chat-0", "chat-1"), Role.DECODE: ("chat-2",)}, moved=frozenset({"chat-1"})
    )
    [shard] = shards(scope)
    asked = render(shard)
    assert 'pod=~"chat-0"}' in asked
    assert 'pod=~"chat-0|chat-1"}' not in asked
    assert 'pod=~"chat-0|chat-1|chat-2"}' in asked


@pytest.mark.parametrize(("window_s", "spelled"), [(60.0, "[60s]"), (7.5, "[7500ms]"), (86400.0, "[86400s]")])
def test_a_window_is_spelled_in_whole_units(window_s: float, spelled: str) -> None:
    [shard] = shards(replace(fleets(1, 2)[0], window_s=window_s))
    assert set(re.findall(r"\[\w+\]", render(shard))) == {spelled}


@given(names=NAMES, other=st.text(max_size=12))
def test_a_matcher_takes_its_names_literally_and_nothing_else(names: list[str], other: str) -> None:
    pattern = re.compile(json.loads(any_of(names)))
    assert all(pattern.fullmatch(name) for name in names)
    assert bool(pattern.fullmatch(other)) == (other in names)


def test_a_plain_list_of_pods_stays_plain() -> None:
    """Prometheus looks up a list of literal names in its index; escaped hyphens would make it try them one by one."""
    assert any_of(["chat-p-10", "chat-p-2", "chat-p-2"]) == '"chat-p-10|chat-p-2"'


def test_the_gauges_of_a_profile_are_those_of_the_core_in_their_order() -> None:
    assert get_args(PodSignal) == tuple(field.name for field in fields(Gauges))
    assert tuple(field.name for field in fields(Gauges) if field.default is MISSING) == NEEDED_OF_PODS


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        (profile, name)
        for profile, told in PROFILES.items()
        for name in told.queries
        if SHAPES[name].buckets and (profile, name) != ("sglang", "prefill.service")  # sums what it does not count
    ],
)
def test_a_histograms_query_asks_for_its_sum_too(profile: str, name: str) -> None:
    """In every alternative: a mean from another version's sum would be of other things."""
    asked = re.findall(r"increase\(.*", PROFILES[profile].queries[name].promql)
    assert asked
    assert all(re.search(r'__name__=~"[\w:[\]]+_\(bucket\|sum\)"', one) for one in asked)


def test_every_signal_of_every_profile_has_a_shape() -> None:
    assert set(PROFILES) >= {"vllm", "llm-d"}
    for name, profile in PROFILES.items():
        assert set(profile.queries) <= set(SHAPES), name
        assert bool(profile.source) == (profile.scope != "sidecar"), name


def test_a_gateway_tells_traffic_before_the_engine_and_the_fleets_own_query_before_both() -> None:
    own = {"traffic.offered_rps": "sum by (namespace, model_name) (rate(requests_total[$window]))", "pods.waiting": "queue"}
    merged = queries_for("vllm", "llm-d", own, PROFILES)
    assert merged["traffic.offered_rps"] == Query(own["traffic.offered_rps"], "gateway")
    assert merged["traffic.ttft"] == PROFILES["llm-d"].queries["traffic.ttft"]
    assert merged["traffic.prompt_tokens"] == PROFILES["vllm"].queries["traffic.prompt_tokens"]
    assert merged["pods.waiting"] == Query("queue", "engine")


@pytest.mark.parametrize(
    ("engine", "gateway", "own", "told"),
    [
        ("vlm", None, {}, "engine: vlm is unknown; did you mean vllm? known: sglang, trtllm, vllm"),
        ("vllm", "vllm", {}, "gateway: vllm is unknown; known: dynamo, llm-d, smg"),
        (
            "vllm",
            None,
            {"pods.waitng": "x"},
            "queries: pods.waitng is unknown; did you mean pods.waiting? known: decode.latency,",
        ),
        ("vllm", None, {"pods.waiting": " "}, "queries: pods.waiting: empty query"),
        (
            "vllm",
            None,
            {"pods.waiting": "x[$windw]"},
            "queries: pods.waiting: placeholder $windw is unknown; did you mean $window?",
        ),
        (
            "vllm",
            None,
            {"traffic.ttft": "x{pod=~$pods}"},
            "queries: traffic.ttft: placeholder $pods is unknown; known: $any_case_models,",
        ),
    ],
)
def test_what_does_not_exist_is_told_in_one_line_with_the_nearest(
    engine: str, gateway: str | None, own: Mapping[str, str], told: str
) -> None:
    with pytest.raises(Refusal) as refusal:
        queries_for(engine, gateway, own, PROFILES)
    assert str(refusal.value).startswith(told)
    assert "\n" not in str(refusal.value)


def test_all_faults_of_a_fleets_queries_come_at_once() -> None:
    with pytest.raises(Refusal) as refusal:
        queries_for("vlm", None, {"pods.waitng": "x", "pods.running": ""}, PROFILES)
    assert [line.partition(" ")[0] for line in str(refusal.value).splitlines()] == ["engine:", "queries:", "queries:"]


def test_a_plain_dollar_stays_a_dollar() -> None:
    own = {"pods.waiting": 'label_replace(queue{pod=~"a$$"}, "pod", "$1", "instance", "(.*):[0-9]+")'}
    [shard] = shards(replace(fleets(1, 2)[0], queries=own))
    assert 'label_replace(queue{pod=~"a$"}, "pod", "$1", "instance", "(.*):[0-9]+")' in render(shard)


ENGINE = {"scope": "engine", "pods": dict.fromkeys(get_args(PodSignal), "x"), "traffic": {"source": "s", "offered_rps": "x"}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scope": "router"}, ["scope: Input should be 'engine', 'gateway' or 'sidecar'"]),
        ({"role": {}}, ["role: Extra inputs are not permitted"]),
        ({"pods": {"waiting": "x", "running": "x"}}, ["pods.kv_usage: an engine profile must have it", "pods.age_s: an engine"]),
        ({"roles": {"decoder": {"latency": "x"}}}, ["roles.decoder: Input should be 'prefill' or 'decode'"]),
        ({"roles": {"decode": {"late": "x"}}}, ["roles.decode.late: Input should be 'latency', 'tokens_per_request' or"]),
        ({"roles": {"decode": {"latency": "$pod"}}}, ["decode.latency: placeholder $pod is unknown; did you mean $pods?"]),
        ({"traffic": {"source": "s"}}, ["traffic.offered_rps: must be there"]),
        ({"scope": "gateway"}, ["pods, roles: a gateway profile has only traffic"]),
        ({"door": {"verdicts": "x"}}, ["door: only the sidecar's profile has it"]),
        ({"scope": "sidecar"}, ["traffic, door: the sidecar's profile", "pods, roles: a sidecar profile has"]),
        ({"scope": "sidecar", "pods": {}, "traffic": {}, "door": {"verdict": "x"}}, ["door.verdict: Input should be"]),
    ],
)  # fmt: skip
def test_a_profiles_faults_are_told_with_file_and_field(change: dict[str, object], told: list[str]) -> None:
    with pytest.raises(Refusal) as refusal:
        parse_profile(yaml.safe_dump(ENGINE | change), "mine.yaml")
    lines = str(refusal.value).splitlines()
    assert len(lines) == len(told)
    assert all(line.startswith(f"mine.yaml: {start}") for line, start in zip(lines, told, strict=True)), lines


@pytest.mark.parametrize("text", ["scope: [", "- a list", "", "scope: {a: b", "12"])
def test_a_profile_that_is_no_profile_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(Refusal, match=r"^mine\.yaml: ") as refusal:
        parse_profile(text, "mine.yaml")
    assert "\n" not in str(refusal.value)


def test_a_valid_profile_is_taken() -> None:
    assert parse_profile(yaml.safe_dump(ENGINE), "mine.yaml").queries["pods.waiting"] == Query("x", "engine")
