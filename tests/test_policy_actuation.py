"""May a pool's count be handed to an autoscaler, and which one does the command print for it?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.followers import HPA, SCALED_OBJECT, Reading, reading
from autoscaler.adapters.kubernetes.objections import Handing, Rival, keeper
from autoscaler.commands.findings import Row
from autoscaler.commands.hpa import handed, hpa, needed
from autoscaler.core.fleet import Role
from autoscaler.policy import Document
from autoscaler.policy.actuation import Actuation
from autoscaler.policy.autoscalers import horizontal, scaled_object
from autoscaler.policy.fields import objections
from autoscaler.refusal import Refusal
from tests.policy_documents import edited, text

P, D = Role.PREFILL, Role.DECODE
PREFILL_HANDED = {"spec.pools.prefill.actuation": "hpa"}
SET = {"apiVersion": "disaggregatedset.x-k8s.io/v1", "kind": "DisaggregatedSet", "name": "llama", "role": "prefill"}
API_SERVICE = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io"
HPAS = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers"
SCALED = "/apis/keda.sh/v1alpha1/namespaces/default/scaledobjects"
URL = "http://companion:8080"


def document(**more: Any) -> Document:
    return Document.model_validate(edited({**PREFILL_HANDED, **more}))


def refused(changes: Mapping[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as found:
        Document.model_validate(edited(changes))
    return [str(one) for one in objections(found.value, Document)]


class Cluster:
    """Answers by path; `drops` is what the server takes out of a behavior."""

    def __init__(self, answers: Mapping[str, Body | ApiFault], *, drops: bool = False) -> None:
        self.answers, self.drops = answers, drops
        self.rehearsed: list[Body] = []

    def get(self, path: str, **query: str) -> Body | ApiFault:
        return self.answers.get(path, ApiFault(404, "NotFound", "no such thing"))

    def rehearse(self, path: str, body: Body) -> Body | ApiFault:
        self.rehearsed.append(body)
        stored: Body = json.loads(json.dumps(body))
        for way in stored["spec"]["behavior"].values() if self.drops else ():
            del way["tolerance"]
        return self.answers.get(f"POST {path}", stored)


def service(name: str, *, available: bool = True) -> Body:
    condition = {"type": "Available", "status": str(available), "message": "no endpoints\nfor it"}
    return {"spec": {"service": {"namespace": "ops", "name": name}}, "status": {"conditions": [condition]}}


def rows(cluster: Cluster, **more: Any) -> dict[str, Row]:
    return {row.name: row for row in handed(document(**more), cluster)}


def test_a_pool_is_ours_to_write_unless_the_policy_says_otherwise() -> None:
    pools = document().spec.pools
    assert (pools[P].actuation, pools[D].actuation) == (Actuation.HPA, Actuation.DIRECT)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"spec.gateway": "llm-d", "spec.behaviour.zeroAfterSeconds": 600.0},
            "zeroAfterSeconds: 600 is not possible with actuation hpa",
        ),
        ({"spec.pools.prefill.target": SET}, "spec.pools.prefill.actuation: hpa is not possible for a role inside an object"),
        (
            {"spec.routing": {"kind": "label", "label": "role"}, "spec.behaviour.flip": {"enabled": True, "driver": "relabel"}},
            "relabel needs actuation direct in all pools: prefill is written by a HorizontalPodAutoscaler",
        ),
    ],
)
def test_what_an_autoscaler_cannot_do_is_refused_where_it_is_asked_for(changes: Mapping[str, Any], says: str) -> None:
    (told,) = refused({**PREFILL_HANDED, **changes})
    assert says in told


def test_an_unknown_writer_is_told_the_known_ones() -> None:
    assert refused({"spec.pools.decode.actuation": "keda"}) == [
        'spec.pools.decode.actuation: "keda" is unknown (allowed: direct, hpa)'
    ]


def test_the_autoscaler_that_is_printed_makes_the_published_count_and_nothing_else_of_it() -> None:
    made = horizontal(document(), P)
    behavior = made["spec"]["behavior"]
    assert made["spec"]["metrics"][0]["external"]["target"] == {"type": "AverageValue", "averageValue": "1"}
    assert (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (1, 4)
    for way in ("scaleUp", "scaleDown"):
        assert behavior[way] == {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": 1000, "periodSeconds": 15}],
            "tolerance": "0",
        }
    assert all("tolerance" not in way for way in horizontal(document(), P, tolerant=True)["spec"]["behavior"].values())


def test_what_is_printed_is_known_again_as_a_follower_of_that_pool() -> None:
    for kind, made in ((HPA, horizontal(document(), P)), (SCALED_OBJECT, scaled_object(document(), P, URL))):
        rival = keeper(kind)(made)
        assert rival is not None
        assert rival.scales == document().spec.pools[P].target.identity
        assert (rival.reads, rival.follows(Handing("chat", "prefill", handed=True))) == (Reading("chat", "prefill"), True)
        assert rival.objection(Handing("chat", "decode", handed=True)).endswith("scales it already; remove one of the two")


def test_what_keda_makes_of_a_scaled_object_is_not_looked_at_beside_it() -> None:
    made = horizontal(document(), P)
    made["metadata"]["ownerReferences"] = [{"kind": SCALED_OBJECT, "controller": True}]
    assert keeper(HPA)(made) is None


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ({"metadata": {"url": f"{URL}/keda/v1/default/chat/prefill", "targetValue": "2"}}, "must be AverageValue 1"),
        (
            {"metricType": "Value", "metadata": {"url": f"{URL}/keda/v1/default/chat/prefill", "targetValue": "1"}},
            "must be Average",
        ),
        ({"metadata": {"url": f"{URL}/keda/v1/default/chat/prefill?metric=pdautoscaler_slo_headroom", "targetValue": "1"}}, None),
        ({"type": "cron", "metadata": {}}, None),
        ({}, None),
    ],
)
def test_a_trigger_that_multiplies_is_told_and_one_of_something_else_is_none_of_ours(trigger: Body, expected: str | None) -> None:
    found = reading(SCALED_OBJECT, {"spec": {"triggers": [{"type": "metrics-api", **trigger}]}})
    assert (None if found is None else found.flaw[-len("its target must be AverageValue 1") :]) == (
        None if expected is None else "its target must be AverageValue 1"
    )


@pytest.mark.parametrize(
    ("answer", "state", "says"),
    [
        (service("pd-autoscaler-companion"), "there", "pd-autoscaler (ops/pd-autoscaler-companion) answers"),
        (service("keda-metrics-apiserver"), "there", "KEDA (ops/keda-metrics-apiserver) answers: a ScaledObject"),
        (service("prometheus-adapter"), "taken", "prometheus-adapter (ops/prometheus-adapter) has the one APIService"),
        (service("datadog-cluster-agent"), "taken", "another adapter (ops/datadog-cluster-agent)"),
        (service("keda-metrics-apiserver", available=False), "failed", "KEDA (ops/keda-metrics-apiserver): no endpoints for it"),
        (ApiFault(404, "NotFound", "x"), "missing", "install the companion's, or KEDA"),
        (ApiFault(403, "Forbidden", "no access"), "failed", "no access"),
    ],
)
def test_preflight_tells_who_answers_for_external_metrics(answer: Body | ApiFault, state: str, says: str) -> None:
    row = rows(Cluster({API_SERVICE: answer}))["external-metrics"]
    assert (row.state, row.fine, row.needed) == (state, state == "there", False)
    assert says in row.detail


def test_preflight_rehearses_whether_the_cluster_keeps_a_tolerance() -> None:
    keeps, drops = Cluster({}), Cluster({}, drops=True)
    assert (rows(keeps)["tolerance"].state, rows(drops)["tolerance"].state) == ("there", "missing")
    assert "by up to a tenth" in rows(drops)["tolerance"].lost
    forbidden = Cluster({f"POST {HPAS}": ApiFault(403, "Forbidden", "no access")})
    assert rows(forbidden)["tolerance"].state == "failed"


def test_preflight_tells_who_writes_each_pool_that_is_handed_over_and_what_is_wrong_with_that() -> None:
    one, other = horizontal(document(), P), scaled_object(document(), P, URL)
    foreign = {**one, "spec": {**one["spec"], "metrics": [{"type": "Resource"}]}}
    lists: Mapping[str, Mapping[str, Body | ApiFault]] = {
        "none": {HPAS: {"items": []}},
        "ours": {HPAS: {"items": [one]}},
        "keda": {SCALED: {"items": [other]}, HPAS: {"items": []}},
        "both": {SCALED: {"items": [other]}, HPAS: {"items": [one]}},
        "rival": {HPAS: {"items": [foreign]}},
        "unread": {HPAS: ApiFault(403, "Forbidden", "no access")},
    }
    found = {name: rows(Cluster(answers))["prefill.autoscaler"] for name, answers in lists.items()}
    states = {"none": "missing", "ours": "there", "keda": "there", "both": "rival", "rival": "rival", "unread": "failed"}
    assert {name: row.state for name, row in found.items()} == states
    assert (
        found["both"].detail
        == "ScaledObject chat-prefill and HorizontalPodAutoscaler chat-prefill both scale it; remove one of the two"
    )


def test_nobody_is_asked_where_no_pool_is_handed_over_or_there_is_no_cluster() -> None:
    cluster = Cluster({})
    assert list(handed(Document.model_validate(edited({})), cluster)) == []
    assert list(handed(document(), None)) == []
    assert (needed(document(), None), cluster.rehearsed) == ("", [])


def test_the_yaml_is_the_one_that_the_cluster_can_use() -> None:
    both = {"spec.pools.decode.actuation": "hpa"}
    native = list(yaml.safe_load_all(needed(document(**both), Cluster({}))))
    assert [(one["kind"], one["metadata"]["name"]) for one in native] == [(HPA, "chat-prefill"), (HPA, "chat-decode")]
    old = Cluster({API_SERVICE: service("keda-metrics-apiserver")}, drops=True)
    (keda,) = yaml.safe_load_all(needed(document(), old))
    behavior = keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert (keda["kind"], "tolerance" in behavior["scaleUp"]) == (SCALED_OBJECT, False)
    assert keda["spec"]["triggers"][0]["metadata"]["url"].endswith("/keda/v1/default/chat/prefill")


def written(tmp_path: Path, changes: Mapping[str, Any]) -> Path:
    file = tmp_path / "policy.yaml"
    file.write_text(text(edited(changes)))
    return file


def test_the_command_prints_objects_that_kubectl_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, PREFILL_HANDED)
    for as_json, read in ((False, lambda out: list(yaml.safe_load_all(out))), (True, json.loads)):
        hpa(policies=[file], cluster=None, keda_url=URL, as_json=as_json)
        assert read(capsys.readouterr().out) == [horizontal(document(), P)]


@pytest.mark.parametrize(
    ("changes", "cluster", "says"),
    [({}, None, "no pool has actuation hpa"), (PREFILL_HANDED, "sim:http://x", "--cluster 'sim:http://x': must be kubernetes")],
)
def test_the_command_says_in_one_line_why_it_prints_nothing(
    tmp_path: Path, changes: Mapping[str, Any], cluster: str | None, says: str
) -> None:
    with pytest.raises(Refusal, match=says):
        hpa(policies=[written(tmp_path, changes)], cluster=cluster, keda_url=URL, as_json=False)


def test_an_autoscaler_of_something_else_is_a_rival_as_ever() -> None:
    rival = Rival(HPA, "mine", ("apps", "Deployment", "d"))
    assert (
        rival.objection(Handing("chat", "prefill", handed=True))
        == "HorizontalPodAutoscaler mine scales it already; remove one of the two"
    )
