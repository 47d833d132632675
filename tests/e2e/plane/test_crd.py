"""Does a real API server take the CRD, and does it accept, default and refuse as the policy model does?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from autoscaler.policy import Document
from autoscaler.policy.crd import definition
from autoscaler.policy.drivers import Need
from autoscaler.policy.fields import objections
from autoscaler.policy.profiles import metric_profiles
from autoscaler.policy_file import load_policies
from tests.e2e.plane.plane import Plane, Refused
from tests.policy_documents import MINIMAL, edited

pytestmark = pytest.mark.plane
ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "manifests" / "crd" / "pdautoscalers.yaml"
STORED = ROOT / "tests" / "contracts" / "crd" / "stored-v1alpha1.json"
EXAMPLES = sorted((ROOT / "policies").glob("*.yaml"))
NAME = "pdautoscalers.pdautoscaler.io"
PROFILE = {"prefillSeconds": [0.01, 1e-4, 0], "decodeSeconds": [0.02, 1e-5, 1e-7], "kvTokens": 1000}
SET = {"apiVersion": "disaggregatedset.x-k8s.io/v1", "kind": "DisaggregatedSet", "name": "llama"}
LABEL = {"kind": "label", "label": "llm-d.ai/role"}
SMG = {"kind": "sglangGateway", "label": "role", "url": "http://smg:30000"}
SHAPE = {"promptTokens": 9, "uncachedTokens": 10, "outputTokens": 2}

# (driver, what it needs, a document that lacks this and nothing else)
LACKING: list[tuple[str, Need, dict[str, Any]]] = [
    ("engineSwitch", Need.SWITCH, {"spec.routing": LABEL}),
    ("engineSwitch", Need.TELLING, {"spec.engine": "sglang"}),
    ("engineSwitch", Need.ONE_SIZE, {"spec.engine": "sglang", "spec.routing": SMG, "spec.pools.decode.gpusPerReplica": 2}),
    ("relabel", Need.TELLING, {}),
    ("relabel", Need.TELLING, {"spec.routing.kind": "readinessGate"}),
    ("relabel", Need.ONE_SIZE, {"spec.routing": LABEL, "spec.pools.decode.gpusPerReplica": 2}),
    ("relabel", Need.OWN_COUNTS, {"spec.routing": LABEL, "spec.pools.decode.actuation": "hpa"}),
    ("engineSwitch", Need.OWN_COUNTS, {"spec.engine": "sglang", "spec.routing": SMG, "spec.pools.prefill.actuation": "hpa"}),
    ("pairedResize", Need.ONE_STOCK, {"spec.pools.decode.capacityPool": "h100"}),
    ("pairedResize", Need.ONE_STOCK, {"spec.pools.decode.capacityPool": "b", "spec.pools.prefill.capacityPool": "a"}),
]

# (what is written, the field that must change, the words of both doors)
PREMIUM = {"name": "premium", "priority": 10, "degradesTo": "free", "reserved": {"prefill": 0.3, "decode": 0.3}}
TTFT = {"seconds": 1.0}
CLASHES: list[tuple[dict[str, Any], str, str]] = [
    ({"metadata.name": "a.b"}, "metadata.name", "1 to 63 of a-z, 0-9 and -, a letter or digit at both ends"),
    ({"metadata.name": "a" * 64}, "metadata.name", "1 to 63 of a-z, 0-9 and -, a letter or digit at both ends"),
    (
        {"spec.pools.prefill.actuation": "hpa", "spec.gateway": "llm-d", "spec.behaviour.zeroAfterSeconds": 600.0},
        "spec.behaviour.zeroAfterSeconds",
        "is not possible with actuation hpa",
    ),
    (
        {"spec.pools.decode.target": {**SET, "role": "decode"}, "spec.pools.decode.actuation": "hpa"},
        "spec.pools.decode.actuation",
        "has no /scale",
    ),
    ({"spec.rejection.default": "gold"}, "spec.rejection.default", "is no class"),
    ({"spec.rejection.classes": [PREMIUM]}, "spec.rejection.classes", "degradesTo"),
    (
        {"spec.rejection.classes": [{"name": "a", "slo": {"ttft": {**TTFT, "leastSeconds": 2.0}, "tpot": {"seconds": 0.1}}}]},
        "spec.rejection.classes[0].slo.ttft.leastSeconds",
        "above seconds",
    ),
    (
        {"spec.rejection.classes": [{"name": "a", "slo": {"ttft": {**TTFT, "mostSeconds": 0.5}, "tpot": {"seconds": 0.1}}}]},
        "spec.rejection.classes[0].slo.ttft.mostSeconds",
        "below seconds",
    ),
    ({"spec.metrics.windowSeconds": 59}, "spec.metrics.windowSeconds", "below 4 x scrapeIntervalSeconds"),
    ({"spec.metrics.scrapeIntervalSeconds": 15.1}, "spec.metrics.windowSeconds", "below 4 x scrapeIntervalSeconds"),
    ({"spec.metrics.queries": {"pods.wating": "x"}}, "spec.metrics.queries", "not a signal"),
    ({"spec.pools.prefill.min": 5}, "spec.pools.prefill.max", "below min"),
    ({"spec.pools.decode.min": 5}, "spec.pools.decode.max", "below min"),
    (
        {"spec.pools.prefill.floors": [{"start": "08:00", "hours": 12, "min": 5}]},
        "spec.pools.prefill.floors",
        "above max",
    ),
    ({"spec.behaviour.zeroAfterSeconds": 600}, "spec.behaviour.zeroAfterSeconds", "needs a spec.gateway"),
    (
        {"spec.behaviour.zeroAfterSeconds": 600, "spec.gateway": "dynamo"},
        "spec.behaviour.zeroAfterSeconds",
        "spec.gateway dynamo forgets a model with its last worker",
    ),
    ({"spec.gpuBudget": 1}, "spec.gpuBudget", "GPUs of the smallest fleet"),
    ({"spec.gpuBudget": 7, "spec.pools.decode.gpusPerReplica": 7}, "spec.gpuBudget", "GPUs of the smallest fleet"),
    (
        {"spec.metrics": {"scrapeIntervalSeconds": 30, "windowSeconds": 120}},
        "spec.freshness.maxAgeSeconds",
        "below 2 x spec.metrics.scrapeIntervalSeconds",
    ),
    ({"spec.forecast.errorsNeeded": 61}, "spec.forecast.errorsNeeded", "above errorsKept"),
    ({"spec.requestShape": SHAPE}, "spec.requestShape.uncachedTokens", "above promptTokens"),
    ({"spec.behaviour.tickSeconds": 31}, "spec.behaviour.tickSeconds", "above 1/2 of spec.behaviour.gapSeconds"),
    ({"spec.behaviour.gapSeconds": 29}, "spec.behaviour.tickSeconds", "above 1/2 of spec.behaviour.gapSeconds"),
    ({"spec.forecast.gapSeconds": 29}, "spec.behaviour.tickSeconds", "above 1/2 of spec.forecast.gapSeconds"),
    (
        {"spec.pools.prefill.behaviour": {"gapSeconds": 29}},
        "spec.behaviour.tickSeconds",
        "above 1/2 of spec.pools.prefill.behaviour.gapSeconds",
    ),
    (
        {"spec.pools.decode.behaviour": {"gapSeconds": 29}},
        "spec.behaviour.tickSeconds",
        "above 1/2 of spec.pools.decode.behaviour.gapSeconds",
    ),
    ({"spec.pools.decode.target.name": "chat-prefill"}, "spec.pools.decode.target.name", "the target of prefill already"),
    (
        {
            "spec.pools.prefill.target": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "one"},
            "spec.pools.decode.target": {"kind": "Deployment", "apiVersion": "apps/v2", "name": "one"},
        },
        "spec.pools.decode.target.name",
        "the target of prefill already",
    ),
    (
        {"spec.pools.decode.target.kind": "Deployment"},
        "spec.pools.decode.target.apiVersion",
        "missing; the default leaderworkerset.x-k8s.io/v1 has no",
    ),
    ({"spec.pools.decode.target": SET}, "spec.pools.decode.target.role", "missing; a DisaggregatedSet has a count for each"),
    ({"spec.pools.decode.target.role": "decode"}, "spec.pools.decode.target.role", "only a DisaggregatedSet has roles inside"),
    (
        {"spec.pools.prefill.target": {**SET, "role": "one"}, "spec.pools.decode.target": {**SET, "role": "one"}},
        "spec.pools.decode.target.name",
        "the target of prefill already",
    ),
    # how requests find replicas
    ({"spec.routing.kind": "label"}, "spec.routing.label", "needs the pod label that tells the router the role"),
    ({"spec.routing": {**SMG, "label": None}}, "spec.routing.label", "needs the pod label that tells the router the role"),
    ({"spec.routing": {**LABEL, "kind": "readinessGate"}}, "spec.routing.label", "kind readinessGate has no label"),
    (
        {"spec.routing": {**LABEL, "label": "leaderworkerset.sigs.k8s.io/name"}},
        "spec.routing.label",
        "not allowed; the objects that made the pods find them by it",
    ),
    ({"spec.routing": {**LABEL, "label": "a/b/c"}}, "spec.routing.label", '"a/b/c"'),
    ({"spec.routing": {**SMG, "url": None}}, "spec.routing.url", "missing; kind sglangGateway needs its API"),
    ({"spec.routing": {**SMG, "url": "http://smg:65536"}}, "spec.routing.url", '"http://smg:65536"'),
    ({"spec.routing": {**LABEL, "url": "http://smg"}}, "spec.routing.url", "only kind sglangGateway has an API"),
    (
        {"spec.routing": {**LABEL, "values": {"prefill": "P", "decode": "P"}}},
        "spec.routing.values.decode",
        "the value of prefill already",
    ),
    ({"spec.routing": {**LABEL, "away": "prefill"}}, "spec.routing.away", "the value of prefill already"),
    ({"spec.routing": {**LABEL, "away": "decode"}}, "spec.routing.away", "the value of decode already"),
    (
        {"spec.routing": {**LABEL, "settleSeconds": 9.5}, "spec.behaviour.drain.deadlineSeconds": 9},
        "spec.behaviour.drain.deadlineSeconds",
        "below spec.routing.settleSeconds",
    ),
    # how a flip is carried out
    (
        {"spec.routing": LABEL, "spec.behaviour.flip": {"driver": "relabel", "order": "surgeFirst"}},
        "spec.behaviour.flip.order",
        "which changes roles in place",
    ),
    *(
        ({"spec.behaviour.flip.driver": driver, **changes}, "spec.behaviour.flip.driver", f"{driver} needs {need}")
        for driver, need, changes in LACKING
    ),
]


@pytest.fixture(scope="module")
def crd(plane: Plane) -> Plane:
    """The plane, with PDAutoscaler served."""
    plane.install_crd()
    return plane


def stored(crd: Plane, document: Mapping[str, Any]) -> dict[str, Any]:
    """What the server would store of this document, defaults filled in. Raises Refused in its words."""
    answer: dict[str, Any] = json.loads(
        crd.kubectl("create", "--validate=strict", "--dry-run=server", "-o", "json", "-f", "-", input=json.dumps(document))
    )
    return answer


def read(answer: Mapping[str, Any]) -> Document:
    """A stored object as the policy model reads it: what the server adds to the metadata is its own."""
    metadata = {key: answer["metadata"][key] for key in ("name", "namespace")}
    return Document.model_validate({**{key: answer[key] for key in ("apiVersion", "kind", "spec")}, "metadata": metadata})


def refused(crd: Plane, document: Mapping[str, Any]) -> str:
    with pytest.raises(Refused) as error:
        stored(crd, document)
    return str(error.value)


def file_lines(document: Mapping[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as error:
        Document.model_validate(document)
    return [str(objection) for objection in objections(error.value, Document)]


def test_the_crd_is_established_and_structural(crd: Plane) -> None:
    conditions = json.loads(crd.kubectl("get", "crd", NAME, "-o", "json"))["status"]["conditions"]
    assert {entry["type"]: entry["status"] for entry in conditions} == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_is_stored_and_read_back_as_the_policy_of_its_file(crd: Plane, file: Path) -> None:
    (loaded,) = load_policies([file])
    assert read(stored(crd, yaml.safe_load(file.read_text()))).spec == loaded.document.spec


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spec.mode": "Off"},
        {"spec.profile": PROFILE},
        {"spec.profile": {**PROFILE, "name": "own", "maxSeqs": 8}},
        {"spec.gateway": None, "spec.gpuBudget": None, "spec.requestShape": None},
        {"spec.metrics": {}, "spec.behaviour": {}, "spec.forecast": {}, "spec.pools.decode.behaviour": {"scaleUp": {"step": {}}}},
        {"spec.metrics.queries": {"pods.waiting": "sum(x)"}},
        {"spec.gpuBudget": 2},
        {"spec.metrics": {"scrapeIntervalSeconds": 20, "windowSeconds": 80}, "spec.freshness.maxAgeSeconds": 40},
        {"spec.behaviour": {"gapSeconds": 200, "tickSeconds": 60}, "spec.pools.decode.behaviour.gapSeconds": 120},
        {"spec.behaviour": {"gapSeconds": None, "scaleDown": {"step": {"percent": 20}}}},
        {"spec.requestShape": {"promptTokens": 9, "outputTokens": 2, "uncachedTokens": None}},
        {"spec.pools.decode.target": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "chat-prefill"}},
        {"spec.pools.decode.target": {"kind": "LeaderWorkerSet", "apiVersion": "v1", "name": "chat-prefill"}},
        {"spec.pools.decode.target.role": None},
        {"spec.pools.prefill.target": {**SET, "role": "prefill"}, "spec.pools.decode.target": {**SET, "role": "decode"}},
        {"spec.enginePort": 8200, "spec.routing.kind": "readinessGate", "spec.behaviour.drain": {"onDeadline": "force"}},
        {"spec.routing": LABEL, "spec.behaviour.flip": {"enabled": True, "driver": "relabel"}},
        {"spec.routing": {**SMG, "values": {"prefill": "P", "decode": "D"}, "away": "none", "settleSeconds": 0.5}},
        {"spec.engine": "sglang", "spec.routing": SMG, "spec.behaviour.flip.driver": "engineSwitch"},
        {"spec.rejection": {"mode": "enforce", "default": "free", "classes": [PREMIUM, {"name": "free", "shortenTo": 64}]}},
        {
            "spec.pools.prefill.capacityPool": "h100",
            "spec.pools.decode": {"target": {"name": "d"}, "max": 2, "capacityPool": "h100", "gpusPerReplica": 4},
            "spec.behaviour.flip": {"driver": "pairedResize", "order": "drainFirst"},
        },
    ],
)
def test_the_server_and_the_file_make_the_same_policy(crd: Plane, changes: Mapping[str, Any]) -> None:
    document = edited(changes)
    assert read(stored(crd, document)).spec == Document.model_validate(document).spec


def test_what_is_stored_of_the_shortest_document_is_the_golden_object(crd: Plane) -> None:
    """A default that changes would change every running fleet: it needs another golden object, on purpose."""
    assert stored(crd, MINIMAL)["spec"] == json.loads(STORED.read_text())["spec"]


@pytest.mark.parametrize(("changes", "path", "words"), CLASHES)
def test_what_two_fields_forbid_is_refused_at_the_same_field_in_the_words_of_the_file(
    crd: Plane, changes: Mapping[str, Any], path: str, words: str
) -> None:
    document = edited(changes)
    said = refused(crd, document)
    assert f"{path}: Invalid value: " in said
    assert words in said
    (line,) = file_lines(document)
    assert line.startswith(path)
    assert words in line


def test_every_rule_of_the_schema_has_been_tried() -> None:
    def messages(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (rule["message"] for rule in node.get("x-kubernetes-validations", ()))
        for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from messages(part)

    found = set(messages(definition()))
    assert len(found) >= 14
    assert not [message for message in found if not any(words in message for _, _, words in CLASHES)]


def test_what_one_field_forbids_is_refused_by_name(crd: Plane) -> None:
    said = refused(crd, edited({"spec.engine": "vlm", "spec.gateway": "llmd", "spec.mode": "auto", "spec.model": "my model"}))
    engines = ", ".join(f'"{name}"' for name in metric_profiles("engine"))
    assert f'spec.engine: Unsupported value: "vlm": supported values: {engines}' in said
    assert 'spec.mode: Unsupported value: "auto": supported values: "Off", "Recommend", "Auto"' in said
    assert 'spec.gateway: Invalid value: "llmd": spec.gateway in body should match' in said
    assert 'spec.model: Invalid value: "my model"' in said


def test_a_bare_off_which_yaml_reads_as_false_is_told_what_to_write(crd: Plane) -> None:
    """Only the file door knows that somebody wrote Off: here false has arrived."""
    assert 'spec.mode: Unsupported value: false: supported values: "Off"' in refused(crd, edited({"spec.mode": False}))


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"spec.profile": {**PROFILE, "maxSeq": 8}}, "spec.profile.maxSeq"),
        ({"spec.profile": {**PROFILE, "prefillSeconds": [0, 1, 0]}}, "spec.profile.prefillSeconds[0]"),
        ({"spec.profile": {**PROFILE, "decodeSeconds": [1, 0, 0]}}, "spec.profile.decodeSeconds"),
        ({"spec.slo.ttft.seconds": 0.002}, "spec.slo.ttft.seconds"),
    ],
)
def test_what_needs_the_profile_to_tell_is_stored_and_left_to_the_model(
    crd: Plane, changes: Mapping[str, Any], path: str
) -> None:
    """CEL sees nothing of a field that may be text or a mapping; the controller says it in a condition."""
    document = edited(changes)
    assert stored(crd, document)
    (line,) = file_lines(document)
    assert line.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "missing", ["spec.model", "spec.pools.decode", "spec.slo.tpot", "spec.pools.prefill.target.name", "spec"]
)
def test_a_missing_field_is_refused(crd: Plane, missing: str) -> None:
    assert f"{missing}: Required value" in refused(crd, edited({}, without=missing))


@pytest.mark.parametrize("unknown", ["spec.gpuBudgt", "spec.pools.mixed", "spec.slo.itl", "spec.behaviour.scaleUp.cooldown"])
def test_an_unknown_field_is_refused_under_strict_validation(crd: Plane, unknown: str) -> None:
    assert f'unknown field "{unknown}"' in refused(crd, edited({unknown: {}}))


@pytest.mark.parametrize("written", ["llama-9b", "", 0, 1, 2.5, True, False, [], ["llama-3-8b-h100-tp1"], {}, {"kvTokens": 5}])
def test_a_profile_is_a_known_name_or_a_complete_mapping(crd: Plane, written: object) -> None:
    assert "spec.profile" in refused(crd, edited({"spec.profile": written}))


def _ranges(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, schema) of every number that has a range, and of every list of them."""
    for name, field in schema.get("properties", {}).items():
        if "minimum" in field.get("items", field) and "properties" not in field:
            yield f"{path}.{name}", field
        yield from _ranges(field, f"{path}.{name}")


@pytest.mark.parametrize(("bound", "beyond", "words"), [("minimum", -1, "greater than"), ("maximum", 1, "less than")])
def test_every_range_bites_at_both_ends(crd: Plane, bound: str, beyond: int, words: str) -> None:
    """One document with every number just outside: the server names each."""
    version = definition()["spec"]["versions"][0]
    ranges = dict(_ranges(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec"))
    assert len(ranges) > 50
    outside = {path: field.get("items", field)[bound] + beyond for path, field in ranges.items()}
    lists = {path: [outside[path]] * 3 for path, field in ranges.items() if "items" in field}
    said = refused(crd, edited({"spec.profile": {}, **outside, **lists}))
    missing = [path for path in ranges if f"{path}{'[0]' if path in lists else ''} in body should be {words}" not in said]
    assert not missing, said


def test_status_and_spec_are_written_apart_and_kubectl_tells_the_story(crd: Plane) -> None:
    namespace = crd.namespace()

    def pda(*arguments: str, given: str | None = None) -> str:
        return crd.kubectl(f"--namespace={namespace}", *arguments, input=given)

    golden = json.loads(STORED.read_text())
    document = {**edited({}), "status": {"reason": "Ignored"}}
    document["metadata"]["namespace"] = namespace
    pda("create", "-f", "-", given=json.dumps(document))
    assert "status" not in json.loads(pda("get", "pda", "chat", "-o", "json"))
    patch = json.dumps({"status": golden["status"], "spec": {"model": "ignored"}})
    pda("patch", "pda", "chat", "--subresource=status", "--type=merge", "-p", patch)
    now = json.loads(pda("get", "pda", "chat", "-o", "json"))
    assert (now["status"], now["spec"]) == (golden["status"], golden["spec"])
    assert now["metadata"]["generation"] == 1
    header, row = pda("get", "pda").splitlines()
    assert header.split() == ["NAME", "MODE", "PREFILL", "DECODE", "SLO", "REASON", "AGE"]
    assert row.split("   ")[0] == "chat"
    for shown in ("Recommend", "2/3", "4/4", "TTFT 99 %, TPOT 97 %", "ScaledUp"):
        assert f"   {shown}   " in row
    crd.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.mark.parametrize("state", [{"transactions": []}, {"format": 0}, {"format": "1"}])
def test_a_state_without_its_format_is_refused(crd: Plane, state: Mapping[str, Any]) -> None:
    document = edited({})
    document["metadata"] = {"name": "chat-state", "namespace": crd.namespace()}
    crd.kubectl("create", "-f", "-", input=json.dumps(document))
    patch = json.dumps({"status": {"state": state}})
    where = f"--namespace={document['metadata']['namespace']}"
    with pytest.raises(Refused, match=r"status\.state\.format"):
        crd.kubectl("patch", where, "pda", "chat-state", "--subresource=status", "--type=merge", "-p", patch)
    crd.kubectl("delete", "namespace", document["metadata"]["namespace"], "--wait=false")
