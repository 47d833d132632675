"""What does preflight find, and what does it say about it?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.prometheus import Endpoint, load_profiles, queries_for
from autoscaler.adapters.prometheus.client import PrometheusClient, Row
from autoscaler.adapters.prometheus.profile import SHAPES
from autoscaler.adapters.prometheus.promql import any_of, deal, render
from autoscaler.adapters.prometheus.sightings import Outlook, Sight, Sighting
from autoscaler.commands.findings import Row as Found
from autoscaler.commands.losses import LOST, NEEDED
from autoscaler.commands.preflight import CHECKS, Subject, _tell, pods, preflight, signals
from autoscaler.core.observation import Unknown
from autoscaler.policy import Document
from autoscaler.policy.routing import Routing, RoutingKind
from autoscaler.policy.sections import Target
from autoscaler.policy_file import load_policies
from autoscaler.ports import Managed
from autoscaler.refusal import Refusal
from autoscaler.roster import managed
from tests.bench.prometheus_answers import URL, CannedPrometheus, fleets
from tests.examples import examples

CHAT = Path(__file__).parents[1] / "policies" / "chat.yaml"
SCOPE = fleets(1, 4)[0]
PODS = {role: json.loads(any_of(pods)) for role, pods in SCOPE.pods.items()}
NOWHERE: dict[str, Any] = {"headers": (), "token_file": None, "ca_file": None, "query_timeout_s": 1.0, "as_json": True}


@cache
def document() -> Document:
    [loaded] = load_policies([CHAT])
    return loaded.document


@cache
def chat() -> Managed:
    return managed(document())


def fleet(**changes: Any) -> Managed:
    told = {"namespace": SCOPE.namespace, "model": SCOPE.model, "engine": SCOPE.engine, "gateway": SCOPE.gateway}
    return Managed(SCOPE.key, policy=chat().policy, **{**told, **changes})


@cache
def whole_answer() -> list[Row]:
    """What a real one would say about this fleet, all signals together."""
    client = PrometheusClient(Endpoint(URL))
    client.session.mount(f"{URL}/api/", CannedPrometheus([SCOPE]))
    [shard] = deal([(SCOPE, queries_for(SCOPE.engine, SCOPE.gateway, {}, load_profiles()))], 500)
    rows = client.query(render(shard), 1.0)
    assert isinstance(rows, list), rows
    return rows


class Prometheus(PrometheusClient):
    """Answers signal by signal; `drop` and `put` change its rows."""

    def __init__(self, drop: Sequence[str] = (), put: Mapping[str, str] | None = None) -> None:
        super().__init__(Endpoint(URL))
        self._drop, self._put = drop, put or {}

    def query(self, promql: str, within_s: float) -> list[Row] | Unknown:
        [asked] = re.findall(r', "signal", "([^"]+)", "", ""\)$', promql)
        rows = [row for row in whole_answer() if row["metric"]["signal"] == asked and asked not in self._drop]
        rows = [] if "DCGM" in promql else rows
        return [{**row, "value": [0, self._put.get(asked, row["value"][1])]} for row in rows]


def sightings(client: PrometheusClient, **changes: Any) -> Mapping[str, Sighting]:
    return {seen.signal: seen for seen in Outlook(fleet(**changes), PODS).sightings(client, 1.0)}


def rows(client: PrometheusClient, **changes: Any) -> Mapping[str, Found]:
    return {row.name: row for row in signals(Subject(document(), fleet(**changes), PODS, client, 1.0))}


def test_every_signal_has_its_line_of_what_is_lost_without_it() -> None:
    assert LOST.keys() == SHAPES.keys()
    assert LOST.keys() >= NEEDED
    assert not [text for text in LOST.values() if "{" in text]


def test_where_all_is_told_all_is_there_with_its_age_and_what_it_says() -> None:
    told = sightings(Prometheus())
    assert {seen.sight for seen in told.values()} == {Sight.THERE}
    assert all(seen.age_s is not None and 0 <= seen.age_s < 15 for seen in told.values())
    assert told["pods.running"].detail.startswith("2 prefill, 2 decode; chat-0-prefill-0 says ")
    assert " samples, mean " in told["traffic.ttft"].detail


@examples(25)
@given(st.sets(st.sampled_from(sorted(SHAPES))))
def test_a_policy_is_barred_by_what_it_needs_and_by_nothing_else(gone: set[str]) -> None:
    """Without an age nothing is believed, so an age that is gone bars whatever it dates too."""
    barred = {row.name for row in rows(Prometheus(sorted(gone))).values() if row.bars}
    dated = {"pods.age_s": {"pods.waiting", "pods.running", "pods.kv_usage"}, "traffic.age_s": {"traffic.offered_rps"}}
    assert barred == (gone & NEEDED).union(*(dated[age] for age in gone & dated.keys()))


@pytest.mark.parametrize(
    ("signal", "says", "sight", "detail"),
    [
        ("pods.kv_usage", "NaN", Sight.FAILED, "chat-0-prefill-0 says nan; of 2 prefill, 2 decode pods"),
        ("pods.age_s", "3600", Sight.STALE, "2 prefill, 2 decode; chat-0-prefill-0 says 3600, older than 45 s"),
        ("decode.tokens_per_request", "NaN", Sight.QUIET, "decode.tokens_per_request is nan; a mean is that while no request"),
        ("traffic.age_s", "3600", Sight.STALE, "3600, older than 45 s"),
    ],
)
def test_what_is_told_and_not_believed_is_told_apart(signal: str, says: str, sight: Sight, detail: str) -> None:
    seen = sightings(Prometheus(put={signal: says}))[signal]
    assert seen.sight is sight
    assert seen.detail.startswith(detail)


def test_nobody_deferred_is_quiet_and_no_loss() -> None:
    row = rows(Prometheus(drop=["pods.deferred"]))["pods.deferred"]
    assert (row.state, row.fine, row.lost) == ("quiet", True, "")


@pytest.mark.parametrize("signal", ["traffic.rejected_rps", "door.verdicts", "door.hindsight"])
def test_a_fleet_without_a_sidecar_lacks_nothing(signal: str) -> None:
    row = rows(Prometheus(drop=[signal]))[signal]
    assert (row.state, row.fine, row.lost) == ("quiet", True, "")


def test_without_a_gateway_nobody_tells_what_only_a_gateway_knows_and_ages_are_the_pods() -> None:
    told = sightings(Prometheus(), gateway=None)
    assert {name for name, seen in told.items() if seen.sight is Sight.UNTOLD} == {
        "traffic.ttft",
        "traffic.held",
        "traffic.direct_share",
    }
    assert told["traffic.ttft"].detail == "neither engine vllm nor a gateway, for there is none, tells it"
    assert "traffic.age_s" not in told
    assert told["traffic.offered_rps"].sight is Sight.THERE


def test_a_fleet_that_asks_for_what_does_not_exist_is_refused() -> None:
    with pytest.raises(Refusal, match=r"queries: pods\.waitng is unknown; did you mean pods\.waiting"):
        sightings(Prometheus(), queries={"pods.waitng": "x"})


def test_a_prometheus_that_does_not_answer_is_one_clear_line() -> None:
    with pytest.raises(Refusal, match=r"^--prometheus http://127\.0\.0\.1:1: .*Connection refused$"):
        preflight(policies=[CHAT], cluster=None, prometheus="http://127.0.0.1:1", **NOWHERE)


def told(client: Prometheus, capsys: pytest.CaptureFixture[str]) -> str:
    """What people read of a fleet whose GPUs nobody tells of."""
    found = {"team-0/chat-0": [row for check in CHECKS for row in check(Subject(document(), fleet(), PODS, client, 1.0))]}
    _tell(found, as_json=False)
    return capsys.readouterr().out


def test_people_read_what_is_missing_what_is_lost_and_whether_it_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(Prometheus(), capsys).splitlines()[-1] == f"ready, without 1 of {len(SHAPES) + 1}"
    less = told(Prometheus(drop=["decode.latency", "traffic.held"]), capsys)
    assert less.splitlines()[-1] == f"ready, without 3 of {len(SHAPES) + 1}"
    assert "TPOT is not watched on its pods" in less
    assert told(Prometheus(drop=["pods.running", "traffic.ttft"]), capsys).splitlines()[-1] == "not ready: pods.running"


class Made:
    """Templates of which every pod of a target is made; what is a text cannot be read."""

    def __init__(self, **targets: dict[str, Any] | str | None) -> None:
        self._targets = targets

    def of(self, namespace: str, target: Target, /) -> dict[str, Any] | ApiFault | None:
        found = self._targets[target.name.removeprefix("chat-")]
        return ApiFault(403, "Forbidden", found) if isinstance(found, str) else found


def template(grace_s: float, *args: str, **labels: str) -> dict[str, Any]:
    """A pod template with one engine."""
    spec = {"terminationGracePeriodSeconds": grace_s, "containers": [{"args": list(args)}]}
    return {"metadata": {"labels": labels}, "spec": spec}


def ends(policy: Document | None = None, **targets: dict[str, Any] | str | None) -> list[tuple[str, str, str]]:
    subject = Subject(policy or document(), fleet(), PODS, Prometheus(), 1.0, Made(**targets))
    found = list(pods(subject))
    assert not any(row.bars for row in found)
    assert all(bool(row.lost) != row.fine for row in found)
    return [(row.name, row.state, row.detail) for row in found]


def test_pods_that_have_no_time_to_finish_are_told_one_line_for_each_complaint() -> None:
    told = ends(prefill=template(630, "--shutdown-timeout=600"), decode=template(30))
    ending = [row for row in told if row[0].endswith(".ending")]
    assert ending[0] == ("prefill.ending", "there", "630 s from SIGTERM to SIGKILL")
    assert [(name, state) for name, state, _ in ending[1:]] == [("decode.ending", "short")] * 2
    assert ending[1][2].startswith("decode: vLLM aborts requests in flight when its pod is deleted")
    assert ending[2][2].endswith("a deleted pod has 30 s for requests that may take 600 s (behaviour.drain)")


def test_pods_that_cannot_be_taken_out_of_routing_are_told_with_what_is_missing() -> None:
    """A pod is labelled and gated by its template, or not at all."""
    label = "label llm-d.ai/role:"
    told = ends(prefill=template(630, **{"llm-d.ai/role": "prefill"}), decode=template(630, **{"llm-d.ai/role": "both"}))
    assert [row for row in told if row[0].endswith(".leaving")] == [
        ("prefill.leaving", "there", f"{label} prefill is on the pod template"),
        ("decode.leaving", "missing", f"no {label} decode on the pod template"),
    ]
    routing = Routing(kind=RoutingKind.READINESS_GATE)
    gated = document().model_copy(update={"spec": document().spec.model_copy(update={"routing": routing})})
    with_gate = {"spec": {"readinessGates": [{"conditionType": "pdautoscaler.io/routed"}]}}
    told = ends(gated, prefill=with_gate, decode=template(630))
    assert [state for name, state, _ in told if name.endswith(".leaving")] == ["there", "missing"]


def test_templates_that_are_not_there_or_not_to_be_read_are_told_and_bar_nothing() -> None:
    assert ends(prefill=None, decode="list is forbidden") == [
        ("prefill.pods", "untold", "a LeaderWorkerSet has no pod template"),
        ("decode.pods", "failed", "LeaderWorkerSet chat-decode: Forbidden: list is forbidden"),
    ]


def test_without_a_kubernetes_cluster_nobody_looks_at_templates() -> None:
    assert list(pods(Subject(document(), fleet(), PODS, Prometheus(), 1.0))) == []
