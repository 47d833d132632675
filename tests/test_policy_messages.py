"""Does every refused field get one exact line: path, value, and what is allowed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from autoscaler.policy import Document
from autoscaler.policy.fields import objections
from autoscaler.policy.profiles import metric_profiles, replica_profiles, signals
from tests.policy_documents import MINIMAL, edited

NAME = "1 to 63 of a-z, 0-9 and -, a letter or digit at both ends"
WORD = "1 to 253 characters without spaces"
PROFILES = ", ".join(replica_profiles())
SIGNALS = ", ".join(signals())
ENGINES, GATEWAYS = (", ".join(metric_profiles(scope)) for scope in ("engine", "gateway"))
SET = {"apiVersion": "disaggregatedset.x-k8s.io/v1", "kind": "DisaggregatedSet", "name": "llama"}
INLINE = {"prefillSeconds": [0.01, 1e-4, 0.0], "decodeSeconds": [0.02, 1e-4, 1e-7], "kvTokens": 100_000}


def lines(data: Any) -> list[str]:
    """What is wrong with a document, as it is told."""
    try:
        Document.model_validate(data)
    except ValidationError as error:
        return [str(objection) for objection in objections(error, Document)]
    return []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        # out of range, on either side
        ("spec.pools.decode.min", 0, "0 is out of range (allowed: 1..1000)"),
        ("spec.slo.ttft.percentile", 99.95, "99.95 is out of range (allowed: 50..99.9)"),
        ("spec.forecast.aim", 1, "1 is out of range (allowed: 0.5..0.999)"),
        ("spec.behaviour.scaleDown.step.replicas", 0, "0 is out of range (allowed: 1..1000)"),
        ("spec.gpuBudget", 10**30, "a huge number is out of range (allowed: 1..1000000)"),
        # not the kind of value
        ("spec.pools.prefill.max", "four", '"four" is not a whole number (allowed: 1..1000)'),
        ("spec.pools.prefill.max", 4.5, "4.5 is not a whole number (allowed: 1..1000)"),
        ("spec.enginePort", 65_536, "65536 is out of range (allowed: 1..65535)"),
        ("spec.behaviour.drain.deadlineSeconds", 0.5, "0.5 is out of range (allowed: 1..86400)"),
        ("spec.pools.prefill.max", True, "true is not a whole number (allowed: 1..1000)"),
        ("spec.pools.prefill.max", None, "null is not a whole number (allowed: 1..1000)"),
        ("spec.slo.tpot.seconds", "50ms", '"50ms" is not a number (allowed: 0.0001..3600)'),
        ("spec.slo.tpot.seconds", float("nan"), "nan is not a number (allowed: 0.0001..3600)"),
        ("spec.slo.tpot.seconds", float("inf"), "inf is not a number (allowed: 0.0001..3600)"),
        ("spec.slo.tpot.seconds", False, "false is not a number (allowed: 0.0001..3600)"),
        ("spec.behaviour.flip.enabled", "yes", '"yes" is not true or false'),
        ("spec.model", 8, "8 is not text; quotes make it text"),
        ("spec.slo.ttft", 2, "2 is not a mapping (fields: seconds, percentile)"),
        ("spec.slo", [], "a list is not a mapping (fields: ttft, tpot)"),
        ("spec.profile", 8, "8 is not a mapping (allowed: the name of a built-in replica profile, or its fields)"),
        # names
        ("metadata.name", "Chat_", f'"Chat_" is not allowed (allowed: {NAME})'),
        ("metadata.name", "", f'"" is not allowed (allowed: {NAME})'),
        ("metadata.name", "a" * 64, f'"{"a" * 55}..." is not allowed (allowed: {NAME})'),
        ("metadata.namespace", "a\n", f'"a\\n" is not allowed (allowed: {NAME})'),
        ("spec.model", "my model", f'"my model" is not allowed (allowed: {WORD})'),
        ("kind", "PDAutoScaler", '"PDAutoScaler" is unknown; did you mean "PDAutoscaler"? (allowed: PDAutoscaler)'),
        (
            "apiVersion",
            "pdautoscaler.io/v1",
            '"pdautoscaler.io/v1" is unknown; did you mean "pdautoscaler.io/v1alpha1"? (allowed: pdautoscaler.io/v1alpha1)',
        ),
        ("spec.mode", "auto", '"auto" is unknown; did you mean "Auto"? (allowed: Off, Recommend, Auto)'),
        ("spec.mode", True, "true is unknown (allowed: Off, Recommend, Auto)"),
        ("spec.engine", "vlm", f'"vlm" is not an engine with a metric profile; did you mean "vllm"? (allowed: {ENGINES})'),
        ("spec.engine", "llm-d", f'"llm-d" is not an engine with a metric profile; did you mean "vllm"? (allowed: {ENGINES})'),
        ("spec.gateway", "llmd", f'"llmd" is not a gateway with a metric profile; did you mean "llm-d"? (allowed: {GATEWAYS})'),
        (
            "spec.profile",
            "llama-3-8b-h100",
            f'"llama-3-8b-h100" is not a built-in replica profile; did you mean "llama-3-8b-h100-tp1"? (allowed: {PROFILES})',
        ),
        ("spec.pools.prefill.capacityPool", "H100", f'"H100" is not allowed (allowed: {NAME})'),
        (
            "spec.behaviour.drain.onDeadline",
            "forced",
            '"forced" is unknown; did you mean "force"? (allowed: rollback, force)',
        ),
        (
            "spec.behaviour.flip.driver",
            "enginSwitch",
            '"enginSwitch" is unknown; did you mean "engineSwitch"? (allowed: auto, relabel, engineSwitch, pairedResize)',
        ),
        (
            "spec.behaviour.flip.order",
            "surge",
            '"surge" is unknown; did you mean "surgeFirst"? (allowed: auto, drainFirst, surgeFirst)',
        ),
        # unknown fields
        ("spec.gpuBudgt", 8, 'unknown field; did you mean "gpuBudget"?'),
        ("spec.gpu_budget", 8, 'unknown field; did you mean "gpuBudget"?'),
        ("spec.behavior", {}, 'unknown field; did you mean "behaviour"?'),
        ("spec.slo.ttft.xyz", 1, "unknown field (fields: seconds, percentile)"),
        ("spec.slo.itl", {"seconds": 1}, "unknown field (fields: ttft, tpot)"),
        # two fields that clash
        ("spec.metrics.windowSeconds", 59, "59 is below 4 x scrapeIntervalSeconds 15 (allowed: 60..3600)"),
        ("spec.freshness.maxAgeSeconds", 29, "29 is below 2 x spec.metrics.scrapeIntervalSeconds 15 (allowed: 30..600)"),
        ("spec.forecast.errorsNeeded", 61, "61 is above errorsKept 60 (allowed: 1..60)"),
        ("spec.gpuBudget", 1, "1 is below the 2 GPUs of the smallest fleet: prefill 1 x 1 + decode 1 x 1 (allowed: 2..1000000)"),
        ("spec.behaviour.tickSeconds", 31, "31 is above 1/2 of spec.behaviour.gapSeconds 60 (allowed: 1..30)"),
        (
            "spec.slo.ttft.seconds",
            0.002,
            "0.002 is below 0.0027, the least that a prefill takes on llama-3-8b-h100-tp1 (allowed: 0.0027..3600)",
        ),
        (
            "spec.slo.tpot.seconds",
            0.008,
            "0.008 is below 0.0089, the least that a decode step takes on llama-3-8b-h100-tp1 (allowed: 0.0089..3600)",
        ),
        ("spec.pools.decode.target.name", "chat-prefill", "LeaderWorkerSet chat-prefill is the target of prefill already"),
    ],
)
def test_one_wrong_field_makes_one_exact_line(path: str, value: object, line: str) -> None:
    assert lines(edited({path: value})) == [f"{path}: {line}"]


@pytest.mark.parametrize(
    ("floor", "line"),
    [
        ({"min": 5}, "[0].min: 5 is above max 4 (allowed: 1..4)"),
        ({"start": "8:00"}, '[0].start: "8:00" is not allowed (allowed: "00:00" to "23:59", UTC)'),
        ({"hours": 0}, "[0].hours: 0 is out of range (allowed: 0.25..168)"),
        (
            {"days": ["Monday"]},
            '[0].days[0]: "Monday" is unknown; did you mean "Mon"? (allowed: Mon, Tue, Wed, Thu, Fri, Sat, Sun)',
        ),
        ({"end": "20:00"}, "[0].end: unknown field (fields: days, start, hours, min)"),
    ],
)
def test_a_floor_is_refused_at_its_field(floor: dict[str, object], line: str) -> None:
    written = {"start": "08:00", "hours": 12, "min": 2, **floor}
    assert lines(edited({"spec.pools.prefill.floors": [written]})) == [f"spec.pools.prefill.floors{line}"]


def test_zero_without_a_gateway_that_hears_of_it_and_floors_beyond_the_budget_are_refused_with_the_numbers() -> None:
    path = "spec.behaviour.zeroAfterSeconds"
    needs = "600 needs a spec.gateway: without engines nothing else sees arrivals (allowed: null)"
    assert lines(edited({path: 600})) == [f"{path}: {needs}"]
    assert lines(edited({path: 600, "spec.gateway": "llm-d"})) == []
    forgets = "600 is not possible: spec.gateway dynamo forgets a model with its last worker, so nobody could wake the fleet"
    assert lines(edited({path: 600, "spec.gateway": "dynamo"})) == [f"{path}: {forgets} (allowed: null)"]
    assert lines(edited({path: None, "spec.gateway": "dynamo"})) == []
    floor = {"start": "08:00", "hours": 12, "min": 3}
    clash = "3 is below the 4 GPUs of the smallest fleet: prefill 3 x 1 + decode 1 x 1 (allowed: 4..1000000)"
    assert lines(edited({"spec.pools.prefill.floors": [floor], "spec.gpuBudget": 3})) == [f"spec.gpuBudget: {clash}"]


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("metadata.labels", {"version": 1.5}, "metadata.labels.version: 1.5 is not text; quotes make it text"),
        ("spec.slo.a b", {"seconds": 1}, 'spec.slo."a b": unknown field (fields: ttft, tpot)'),
        (
            "spec",
            None,
            (
                "spec: null is not a mapping (fields: mode, model, engine, enginePort, gateway, metrics, profile, speed, pools, "
                "routing, slo, gpuBudget, requestShape, freshness, forecast, sizing, behaviour, rejection)"
            ),
        ),
        (
            "spec.metrics.queries",
            {"traffic.ttft": " "},
            'spec.metrics.queries."traffic.ttft": " " is not allowed (allowed: a PromQL expression)',
        ),
        (
            "spec.metrics.queries",
            {"pods.wating": "x"},
            (
                'spec.metrics.queries."pods.wating": "pods.wating" is not a signal; did you mean "pods.waiting"? '
                f"(allowed: {SIGNALS})"
            ),
        ),
        # two fields that clash: the later one is to be changed, written or not
        ("spec.pools.prefill.min", 5, "spec.pools.prefill.max: 4 is below min 5 (allowed: 5..1000)"),
        (
            "spec.metrics.scrapeIntervalSeconds",
            16,
            "spec.metrics.windowSeconds: 60 is below 4 x scrapeIntervalSeconds 16 (allowed: 64..3600)",
        ),
        (
            "spec.metrics",
            {"scrapeIntervalSeconds": 30, "windowSeconds": 120},
            "spec.freshness.maxAgeSeconds: 45 is below 2 x spec.metrics.scrapeIntervalSeconds 30 (allowed: 60..600)",
        ),
        (
            "spec.pools.decode.behaviour",
            {"gapSeconds": 20},
            "spec.behaviour.tickSeconds: 15 is above 1/2 of spec.pools.decode.behaviour.gapSeconds 20 (allowed: 1..10)",
        ),
        (
            "spec.forecast",
            {"gapSeconds": 16},
            "spec.behaviour.tickSeconds: 15 is above 1/2 of spec.forecast.gapSeconds 16 (allowed: 1..8)",
        ),
        (
            "spec.pools.decode.target.kind",
            "Deployment",
            "spec.pools.decode.target.apiVersion: missing; the default leaderworkerset.x-k8s.io/v1 has no Deployment",
        ),
        (
            "spec.pools.decode.target",
            {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "Deployment", "name": "engines"},
            "spec.pools.decode.target.apiVersion: leaderworkerset.x-k8s.io/v1 has no Deployment",
        ),
        (
            "spec.pools.decode.target",
            SET,
            "spec.pools.decode.target.role: missing; a DisaggregatedSet has a count for each of its roles",
        ),
        (
            "spec.pools.decode.target.role",
            "decode",
            'spec.pools.decode.target.role: "decode" is not allowed; only a DisaggregatedSet has roles inside',
        ),
        (
            "spec.pools",
            {role: {"target": {**SET, "role": "one"}, "max": 4} for role in ("prefill", "decode")},
            "spec.pools.decode.target.name: DisaggregatedSet llama role one is the target of prefill already",
        ),
        (
            "spec.requestShape",
            {"promptTokens": 9, "uncachedTokens": 10, "outputTokens": 1},
            "spec.requestShape.uncachedTokens: 10 is above promptTokens 9 (allowed: 1..9)",
        ),
        # a profile of one's own
        (
            "spec.profile",
            {**INLINE, "prefillSeconds": [0.0, 1e-4, 0.0]},
            "spec.profile.prefillSeconds[0]: 0 is out of range (allowed: 1e-06..60)",
        ),
        (
            "spec.profile",
            {**INLINE, "prefillSeconds": [0.1, 0.1]},
            "spec.profile.prefillSeconds[2]: missing (allowed: 0..1)",
        ),
        (
            "spec.profile",
            {**INLINE, "prefillSeconds": [0.1, 0.1, 0.0, 0.0]},
            "spec.profile.prefillSeconds: has the wrong length (allowed: 3 numbers)",
        ),
        (
            "spec.profile",
            {**INLINE, "prefillSeconds": 0.1},
            "spec.profile.prefillSeconds: 0.1 is not a list (allowed: 3 numbers)",
        ),
        (
            "spec.profile",
            {**INLINE, "decodeSeconds": [0.02, 0, 0]},
            (
                "spec.profile.decodeSeconds: b1 and b2 are both 0: a decode step must take longer the more it carries "
                "(allowed: one of them above 0)"
            ),
        ),
        (
            "spec.profile",
            {**INLINE, "decodeBeyond": {"requests": 95, "seconds": [0.01, 2e-4, 0]}},
            (
                "spec.profile.decodeBeyond.seconds: 0.029 s for 95 requests is shorter than the 0.0295 s of decodeSeconds "
                "(allowed: at least that)"
            ),
        ),
        (
            "spec.profile",
            {**INLINE, "decodeBeyond": {"requests": 0.5, "seconds": [0.1, 2e-4, 0]}},
            "spec.profile.decodeBeyond.requests: 0.5 is out of range (allowed: 1..65536)",
        ),
        (
            "spec.profile",
            {**INLINE, "name": ""},
            'spec.profile.name: "" is not allowed (allowed: text of 1 to 63 characters)',
        ),
        ("spec.profile", {**INLINE, "kvTokns": 1}, 'spec.profile.kvTokns: unknown field; did you mean "kvTokens"?'),
    ],
)
def test_a_line_names_the_field_to_change(path: str, value: object, line: str) -> None:
    assert lines(edited({path: value})) == [line]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("kind", "kind: missing (allowed: PDAutoscaler)"),
        ("metadata.name", f"metadata.name: missing (allowed: {NAME})"),
        ("spec.model", f"spec.model: missing (allowed: {WORD})"),
        ("spec.engine", "spec.engine: missing"),
        ("spec.profile", "spec.profile: missing (allowed: the name of a built-in replica profile, or its fields)"),
        ("spec.pools.decode", "spec.pools.decode: missing"),
        ("spec.pools.decode.max", "spec.pools.decode.max: missing (allowed: 1..1000)"),
        ("spec.pools.decode.target", "spec.pools.decode.target: missing (fields: kind, apiVersion, name, role)"),
        ("spec.slo", "spec.slo: missing (fields: ttft, tpot)"),
        ("spec.slo.tpot", "spec.slo.tpot: missing"),
        ("spec.slo.tpot.seconds", "spec.slo.tpot.seconds: missing (allowed: 0.0001..3600)"),
    ],
)
def test_a_missing_field_is_named_with_what_belongs_there(path: str, line: str) -> None:
    assert lines(edited({}, without=path)) == [line]


def test_what_is_no_mapping_at_all_is_told_without_a_path() -> None:
    assert lines("hello") == ['"hello" is not a mapping (fields: apiVersion, kind, metadata, spec)']
    assert lines(None) == ["null is not a mapping (fields: apiVersion, kind, metadata, spec)"]


def test_every_problem_of_a_document_is_told_at_once() -> None:
    data = edited(
        {
            "metadata.name": "-",
            "spec.mode": "auto",
            "spec.gpuBudgt": 1,
            "spec.gpuBudget": 1,
            "spec.pools.prefill.min": 9,
            "spec.metrics.windowSeconds": 1,
            "spec.freshness.maxAgeSeconds": 1,
            "spec.slo.ttft.seconds": 0.001,
            "spec.slo.tpot.seconds": 0.001,
            "spec.slo.tpot.percentile": 5,
        }
    )
    assert lines(data) == [
        f'metadata.name: "-" is not allowed (allowed: {NAME})',
        'spec.mode: "auto" is unknown; did you mean "Auto"? (allowed: Off, Recommend, Auto)',
        "spec.metrics.windowSeconds: 1 is below 4 x scrapeIntervalSeconds 15 (allowed: 60..3600)",
        "spec.pools.prefill.max: 4 is below min 9 (allowed: 9..1000)",
        "spec.slo.tpot.percentile: 5 is out of range (allowed: 50..99.9)",
        'spec.gpuBudgt: unknown field; did you mean "gpuBudget"?',
    ]
    # What hangs on a field that is wrong itself is told when that one is right.
    data["spec"]["metrics"]["windowSeconds"] = 60
    data["spec"]["pools"]["prefill"]["min"] = 2
    del data["spec"]["slo"]["tpot"]["percentile"], data["spec"]["gpuBudgt"], data["spec"]["mode"]
    data["metadata"]["name"] = "chat"
    assert [line.partition(" is ")[0] for line in lines(data)] == [
        "spec.slo.ttft.seconds: 0.001",
        "spec.slo.tpot.seconds: 0.001",
        "spec.gpuBudget: 1",
        "spec.freshness.maxAgeSeconds: 1",
    ]


def numbers(node: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[tuple[str, float, float]]:
    """Every number of a schema with its range; of a list only the first, of a role's or SLO's section one name."""
    for choice in (node, *node.get("anyOf", ())):
        if "$ref" in choice:
            yield from numbers(root["$defs"][choice["$ref"].rpartition("/")[2]], root, path)
        if choice.get("type") in {"integer", "number"}:
            yield path, choice["minimum"], choice["maximum"]
    for name, child in node.get("properties", {}).items():
        yield from numbers(child, root, f"{path}.{name}".removeprefix("."))
    others = node.get("additionalProperties")
    if isinstance(others, dict) and "propertyNames" in node and "$ref" in node["propertyNames"]:
        name = root["$defs"][node["propertyNames"]["$ref"].rpartition("/")[2]]["enum"][0]
        yield from numbers(others, root, f"{path}.{name}")


SCHEMA = Document.model_json_schema()
NUMBERS = list(numbers(SCHEMA, SCHEMA, ""))
WHOLE: Mapping[str, Any] = {
    "spec.profile": INLINE,
    "spec.requestShape": {"promptTokens": 1.0, "outputTokens": 1.0},
}


def test_the_schema_knows_the_numbers_of_the_document() -> None:
    paths = {path for path, _, _ in NUMBERS}
    assert {"spec.gpuBudget", "spec.profile.kvTokens", "spec.pools.prefill.behaviour.scaleDown.step.percent"} <= paths
    assert len(paths) == len(NUMBERS) > 40


@pytest.mark.parametrize(("path", "least", "most"), NUMBERS, ids=[path for path, _, _ in NUMBERS])
def test_every_number_has_a_range_and_tells_it(path: str, least: float, most: float) -> None:
    for value in (least - 1, most * 2 + 1):
        (line,) = [line for line in lines(edited({**WHOLE, path: value})) if line.startswith(f"{path}:")]
        shown = f"{value:.12g}"
        assert line == f"{path}: {shown} is out of range (allowed: {least:.12g}..{most:.12g})"
    assert lines(MINIMAL) == []
