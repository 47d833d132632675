"""Is what a policy says of early rejection read as it is written, and refused where it cannot work?"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from autoscaler.core.fleet import Role, SloKind
from autoscaler.core.outlook import Strategy
from autoscaler.core.qos import Promise
from autoscaler.core.rejection import RejectionMode, Rules
from autoscaler.policy import Document
from autoscaler.policy.crd import definition
from autoscaler.policy.fields import objections
from tests.policy_documents import edited, policy

TIER = {"name": "x-tier", "value": "premium"}
PREMIUM: dict[str, Any] = {"name": "premium", "match": {"headers": [TIER]}, "priority": 10}


def rules_of(**rejection: Any) -> Rules:
    """What the core is told of this section."""
    spec = policy(rejection=rejection).spec
    return spec.rejection.core(spec.slo)


def lines(**rejection: Any) -> list[str]:
    """What is wrong with this section, without the path they all begin with."""
    try:
        Document.model_validate(edited({"spec.rejection": rejection}))
    except ValidationError as error:
        return [str(objection).removeprefix("spec.rejection.") for objection in objections(error, Document)]
    return []


def test_what_nobody_writes_is_one_class_in_shadow() -> None:
    rules = policy().spec.rejection.core(policy().spec.slo)
    assert (rules.mode, rules.strategy, rules.default) == (RejectionMode.SHADOW, Strategy.PREDICTIVE, "default")
    assert (rules.margin, rules.sureness, policy().spec.rejection.status) == (-0.05, 0.9, 429)
    (only,) = rules.classes.values()
    assert only.promises == {SloKind.TTFT: Promise(2.0, 2.0, 2.0, 0.95), SloKind.TPOT: Promise(0.05, 0.05, 0.05, 0.95)}
    assert (only.reserved, only.may_retry, only.shorten_to, only.degrades_to) == ({}, True, None, None)


def test_everything_that_is_written_can_be_read() -> None:
    slo = {"ttft": {"seconds": 1, "percentile": 99, "leastSeconds": 0.5, "mostSeconds": 8}, "tpot": {"seconds": 0.04}}
    gold = {**PREMIUM, "reserved": {"prefill": 0.4, "decode": 0.3}, "slo": slo, "degradesTo": "free"}
    gold["match"] = {"headers": [TIER], "objectives": ["chat-premium"]}
    rules = rules_of(
        mode="enforce",
        strategy="early",
        margin=-0.1,
        sureness=0.7,
        status=529,
        classes=[gold, {"name": "free", "mayRetry": False, "shortenTo": 256}],
    )
    assert (rules.mode, rules.strategy, rules.margin, rules.sureness) == (RejectionMode.ENFORCE, Strategy.EARLY, -0.1, 0.7)
    premium, free = rules.classes["premium"], rules.classes["free"]
    assert rules.default == "free"  # the last one
    assert premium.promises == {SloKind.TTFT: Promise(1.0, 0.5, 8.0, 0.99), SloKind.TPOT: Promise(0.04, 0.04, 0.04, 0.95)}
    assert (premium.reserved, premium.priority) == ({Role.PREFILL: 0.4, Role.DECODE: 0.3}, 10)
    assert (premium.headers, premium.objectives) == ((("x-tier", "premium"),), frozenset({"chat-premium"}))
    assert (premium.degrades_to, free.may_retry, free.shorten_to) == ("free", False, 256)


def test_yaml_means_off_by_off() -> None:
    assert rules_of(mode=False).mode is RejectionMode.OFF


@pytest.mark.parametrize(
    ("rejection", "line"),
    [
        ({"mode": "on"}, 'mode: "on" is unknown (allowed: off, shadow, enforce)'),
        (
            {"strategy": "predicted"},
            'strategy: "predicted" is unknown; did you mean "predictive"? (allowed: baseline, early, predictive)',
        ),
        ({"margin": 1.5}, "margin: 1.5 is out of range (allowed: -0.9..1)"),
        ({"status": 500}, "status: 500 is not allowed (allowed: 429, 503, 529)"),
        ({"default": "free"}, 'default: "free" is no class (allowed: null)'),
        ({"default": "fre", "classes": [PREMIUM]}, 'default: "fre" is no class (allowed: premium)'),
        (
            {"classes": [{"priority": 1}]},
            "classes[0].name: missing (allowed: 1 to 63 of a-z, 0-9 and -, a letter or digit at both ends)",
        ),
        (
            {"classes": [PREMIUM, {"name": "premium"}]},
            'classes[1].name: "premium" is the name of another class already',
        ),
        (
            {"classes": [PREMIUM, {"name": "gold", "match": {"headers": [TIER]}}]},
            'classes[1].match.headers[0].value: "premium" makes a request one of premium already',
        ),
        (
            {"classes": [{"name": name, "match": {"objectives": ["chat"]}} for name in ("one", "two")]},
            'classes[1].match.objectives[0]: "chat" makes a request one of one already',
        ),
        (
            {"classes": [{"name": name, "reserved": {"prefill": 0.5, "decode": 0.1}} for name in ("one", "two")]},
            "classes[1].reserved.prefill: makes 1 of prefill reserved (allowed: 0.9 by all classes together)",
        ),
        ({"classes": [{"name": "one", "reserved": {"prefill": 0.5}}]}, "classes[0].reserved.decode: missing"),
        ({"classes": [{"name": "one", "degradesTo": "two"}]}, 'classes[0].degradesTo: "two" is no class (allowed: one)'),
        (
            {"classes": [{"name": "one", "degradesTo": "two"}, {"name": "two"}]},
            "classes[0].degradesTo: two has priority 0, which is not below 0",
        ),
        (
            {"classes": [{"name": "one", "slo": {"ttft": {"seconds": 1, "leastSeconds": 2}, "tpot": {"seconds": 1}}}]},
            "classes[0].slo.ttft.leastSeconds: 2 is above seconds 1 (allowed: 0.0001..1)",
        ),
        (
            {"classes": [{"name": "one", "slo": {"ttft": {"seconds": 1, "mostSeconds": 0.5}, "tpot": {"seconds": 1}}}]},
            "classes[0].slo.ttft.mostSeconds: 0.5 is below seconds 1 (allowed: 1..3600)",
        ),
        (
            {"classes": [{"name": "one", "slo": {"ttft": {"seconds": 1}, "tpot": {"seconds": 0.0001}}}]},
            (
                "classes[0].slo.tpot.seconds: 0.0001 is below 0.0089, the least that a decode step takes on llama-3-8b-h100-tp1 "
                "(allowed: 0.0089..3600)"
            ),
        ),
    ],
)
def test_what_cannot_work_is_told_in_one_line(rejection: dict[str, Any], line: str) -> None:
    assert lines(**rejection) == [line]


def test_the_cluster_refuses_the_same_in_its_own_words() -> None:
    spec = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    section = spec["properties"]["rejection"]
    assert section["properties"]["status"]["enum"] == [429, 503, 529]
    assert [rule["fieldPath"] for rule in section["x-kubernetes-validations"]] == [".default", ".classes"]
    slo = section["properties"]["classes"]["items"]["properties"]["slo"]["properties"]["ttft"]
    assert [rule["fieldPath"] for rule in slo["x-kubernetes-validations"]] == [".leastSeconds", ".mostSeconds"]
