"""Is a policy's way of routing, draining and flipping read as it is written, and refused where it cannot work?"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from autoscaler.core.fleet import Role
from autoscaler.policy import Document, warnings
from autoscaler.policy.behaviour import FlipDriver, FlipOrder, OnDeadline
from autoscaler.policy.fields import objections
from autoscaler.policy.routing import NAMES, Routing, RoutingKind
from tests.policy_documents import edited, policy

KEY = f"[DOMAIN/]NAME, at most 253 characters; NAME is {NAMES}"
KINDS = "label, readinessGate, sglangGateway"
ROLE_LABEL = "llm-d.ai/role"
LABEL = {"kind": "label", "label": ROLE_LABEL}
GATE = {"kind": "readinessGate"}
SMG = {"kind": "sglangGateway", "label": "role", "url": "http://smg:30000"}
HELD = {"spec.pools.prefill.capacityPool": "h100", "spec.pools.decode.capacityPool": "h100"}


def lines(changes: Mapping[str, object]) -> list[str]:
    """What is wrong with the shortest document after these changes."""
    try:
        Document.model_validate(edited(changes))
    except ValidationError as error:
        return [str(objection) for objection in objections(error, Document)]
    return []


def routed(**routing: object) -> list[str]:
    """What is wrong with this routing, without the path they all begin with."""
    return [line.removeprefix("spec.routing.") for line in lines({"spec.routing": routing})]


def test_what_nobody_writes_drains_for_ten_minutes_and_routes_nothing() -> None:
    spec = policy().spec
    assert (spec.engine_port, spec.routing) == (8000, None)
    assert (spec.behaviour.drain.deadline_seconds, spec.behaviour.drain.on_deadline) == (600.0, OnDeadline.ROLLBACK)
    assert (spec.behaviour.flip.driver, spec.behaviour.flip.order) == (FlipDriver.AUTO, FlipOrder.AUTO)
    assert {pool.capacity_pool for pool in spec.pools.values()} == {None}


def test_a_routing_of_one_label_has_the_roles_own_names_for_values() -> None:
    routing = policy(routing=LABEL).spec.routing
    assert routing == Routing.model_validate(
        {**LABEL, "values": {"decode": "decode", "prefill": "prefill"}, "away": "draining", "settleSeconds": 5.0}
    )
    assert (routing.kind, routing.label, routing.url) == (RoutingKind.LABEL, ROLE_LABEL, None)
    assert routing.values == {Role.PREFILL: "prefill", Role.DECODE: "decode"}


def test_everything_about_routing_and_flips_that_is_written_can_be_read() -> None:
    document = policy(
        enginePort=8200,
        routing={**SMG, "values": {"prefill": "P", "decode": "D"}, "away": "none", "settleSeconds": 0},
        behaviour={
            "drain": {"deadlineSeconds": 30, "onDeadline": "force"},
            "flip": {"driver": "pairedResize", "order": "surgeFirst"},
        },
        **{f"pools.{role}.capacityPool": "h100" for role in Role},
    )
    routing, behaviour = document.spec.routing, document.spec.behaviour
    assert routing is not None
    assert (document.spec.engine_port, routing.url, routing.away, routing.settle_seconds) == (8200, SMG["url"], "none", 0.0)
    assert routing.values == {Role.PREFILL: "P", Role.DECODE: "D"}
    assert (behaviour.drain.deadline_seconds, behaviour.drain.on_deadline) == (30.0, OnDeadline.FORCE)
    assert (behaviour.flip.driver, behaviour.flip.order) == (FlipDriver.PAIRED_RESIZE, FlipOrder.SURGE_FIRST)
    assert {pool.capacity_pool for pool in document.spec.pools.values()} == {"h100"}


def test_how_a_flip_is_carried_out_is_no_question_of_the_cores() -> None:
    flip = {"enabled": True, "driver": "relabel"}
    assert policy(routing=LABEL, behaviour={"flip": flip}).core() == policy(behaviour={"flip": {"enabled": True}}).core()


@pytest.mark.parametrize(
    "label", ["role", "a.b/c", "llm-d.ai/role", "component_1.X", f"{'d' * 189}/{'n' * 63}", "app.kubernetes.io/component"]
)
def test_a_label_that_kubernetes_takes_is_taken(label: str) -> None:
    assert routed(kind="label", label=label) == []


@pytest.mark.parametrize(
    "label", ["", "a/", "/a", "a/b/c", "-a", "a-", "A.b/c", "a..b/c", "a b", "n" * 64, "a\n", f"{'d' * 253}/n"]
)
def test_a_label_that_kubernetes_would_refuse_is_refused(label: str) -> None:
    (line,) = routed(kind="label", label=label)
    assert line.startswith('label: "')
    assert line.endswith(f" is not allowed (allowed: {KEY})")


@pytest.mark.parametrize(
    "url", ["http://smg", "https://smg:443", "http://10.0.0.1:30000", "http://smg.models.svc.cluster.local:65535"]
)
def test_the_address_of_a_gateway_is_a_host_and_perhaps_a_port(url: str) -> None:
    assert routed(**{**SMG, "url": url}) == []


@pytest.mark.parametrize(
    "url",
    [
        "smg",
        "smg:30000",
        "http://",
        "ftp://smg",
        "http://smg/",
        "http://smg/v1",
        "http://smg:0",
        "http://smg:65536",
        "http://a@smg",
    ],
)
def test_any_other_address_of_a_gateway_is_refused(url: str) -> None:
    (line,) = routed(**{**SMG, "url": url})
    assert line.startswith('url: "')
    assert line.endswith(" is not allowed (allowed: http(s)://HOST[:PORT])")


@pytest.mark.parametrize(
    ("routing", "line"),
    [
        ({}, f"kind: missing (allowed: {KINDS})"),
        ({**LABEL, "kind": "labels"}, f'kind: "labels" is unknown; did you mean "label"? (allowed: {KINDS})'),
        # what a kind needs, and what it has not
        ({"kind": "label"}, "label: missing; kind label needs the pod label that tells the router the role"),
        ({**SMG, "label": None}, "label: missing; kind sglangGateway needs the pod label that tells the router the role"),
        ({**GATE, "label": "role"}, 'label: "role" is not allowed; kind readinessGate has no label'),
        ({**SMG, "url": None}, "url: missing; kind sglangGateway needs its API (allowed: http(s)://HOST[:PORT])"),
        ({**LABEL, "url": "http://smg"}, 'url: "http://smg" is not allowed; only kind sglangGateway has an API'),
        ({**GATE, "url": "http://smg"}, 'url: "http://smg" is not allowed; only kind sglangGateway has an API'),
        # labels by which objects find their pods
        (
            {"kind": "label", "label": "leaderworkerset.sigs.k8s.io/name"},
            'label: "leaderworkerset.sigs.k8s.io/name" is not allowed; the objects that made the pods find them by it',
        ),
        (
            {"kind": "label", "label": "disaggregatedset.x-k8s.io/role"},
            'label: "disaggregatedset.x-k8s.io/role" is not allowed; the objects that made the pods find them by it',
        ),
        # values
        ({**LABEL, "values": {"prefill": "P"}}, "values.decode: missing"),
        ({**LABEL, "values": {"prefill": "P", "decode": "P"}}, 'values.decode: "P" is the value of prefill already'),
        ({**LABEL, "values": {"prefill": "P", "decode": ""}}, f'values.decode: "" is not allowed (allowed: {NAMES})'),
        (
            {**LABEL, "values": {"prefill": "P", "decode": "D", "mixed": "M"}},
            "values.mixed: unknown field (fields: prefill, decode)",
        ),
        ({**LABEL, "away": "decode"}, 'away: "decode" is the value of decode already'),
        ({**LABEL, "away": ""}, f'away: "" is not allowed (allowed: {NAMES})'),
        ({**LABEL, "values": {"prefill": "draining", "decode": "D"}}, 'away: "draining" is the value of prefill already'),
        ({**LABEL, "settleSeconds": 601}, "settleSeconds: 601 is out of range (allowed: 0..600)"),
    ],
)
def test_a_routing_that_cannot_work_is_refused_at_its_field(routing: dict[str, object], line: str) -> None:
    assert routed(**routing) == [line]


def test_a_drain_must_outlast_what_is_still_on_its_way() -> None:
    path, settling = "spec.behaviour.drain.deadlineSeconds", {**LABEL, "settleSeconds": 20}
    clash = "19.5 is below spec.routing.settleSeconds 20 (allowed: 20..86400)"
    assert lines({path: 19.5, "spec.routing": settling}) == [f"{path}: {clash}"]
    assert lines({path: 20, "spec.routing": settling}) == lines({path: 1}) == []


@pytest.mark.parametrize(
    ("driver", "changes", "found"),
    [
        ("pairedResize", {}, ["pairedResize needs one capacityPool for all pools: prefill has none, decode has none"]),
        (
            "pairedResize",
            {**HELD, "spec.pools.decode.capacityPool": "a100", "spec.routing": LABEL},
            ["pairedResize needs one capacityPool for all pools: prefill has h100, decode has a100"],
        ),
        ("pairedResize", {**HELD, "spec.pools.decode.gpusPerReplica": 8}, []),
        ("relabel", {}, ["relabel needs a spec.routing of kind label or sglangGateway: there is none"]),
        (
            "relabel",
            {"spec.routing": GATE, "spec.pools.decode.gpusPerReplica": 2},
            [
                "relabel needs a spec.routing of kind label or sglangGateway: readinessGate tells no router a role",
                "relabel needs one gpusPerReplica in all pools: prefill has 1, decode has 2",
            ],
        ),
        ("relabel", {"spec.routing": LABEL}, []),
        ("relabel", {"spec.routing": SMG}, []),
        ("engineSwitch", {"spec.routing": LABEL}, ["engineSwitch needs engine sglang: vllm keeps the role it was started in"]),
        ("engineSwitch", {"spec.routing": SMG, "spec.engine": "sglang"}, []),
        (
            "engineSwitch",
            {"spec.routing": GATE, "spec.engine": "sglang"},
            ["engineSwitch needs a spec.routing of kind label or sglangGateway: readinessGate tells no router a role"],
        ),
        ("auto", {}, []),
    ],
)
def test_a_driver_that_this_fleet_cannot_have_is_refused_with_what_it_needs(
    driver: str, changes: dict[str, object], found: list[str]
) -> None:
    assert lines({"spec.behaviour.flip.driver": driver, **changes}) == [f"spec.behaviour.flip.driver: {text}" for text in found]


@pytest.mark.parametrize("driver", ["relabel", "engineSwitch"])
def test_an_order_is_for_what_has_two_halves(driver: str) -> None:
    (line, *_) = lines({"spec.behaviour.flip": {"driver": driver, "order": "drainFirst"}, "spec.routing": LABEL})
    clash = f"drainFirst is not allowed with driver {driver}, which changes roles in place (allowed: auto)"
    assert line == f"spec.behaviour.flip.order: {clash}"


def test_needs_are_not_told_of_parts_that_are_wrong_themselves() -> None:
    changes = {"spec.behaviour.flip.driver": "relabel", "spec.routing": {"kind": "label"}}
    (line,) = lines(changes)
    assert line.startswith("spec.routing.label: missing")


LOST = "spec.routing: missing, so replicas are removed without being drained: what they still serve then is cut off"
NO_WAY = (
    "spec.behaviour.flip.enabled: driver auto finds no way to flip on Kubernetes: "
    "engineSwitch needs engine sglang: vllm keeps the role it was started in; "
    "pairedResize needs one capacityPool for all pools: prefill has none, decode has none"
)


EARLY = (
    "spec.routing.settleSeconds: 5 is shorter than spec.slo.ttft.seconds 6, for which a request may be in prefill "
    "and come to a decode replica that looked idle"
)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"spec.mode": "Auto"}, [LOST]),
        ({"spec.mode": "Auto", "spec.routing": GATE}, []),
        ({"spec.mode": "Recommend"}, []),
        ({"spec.slo.ttft.seconds": 6, "spec.routing": LABEL}, [EARLY]),
        ({"spec.slo.ttft.seconds": 6, "spec.routing": {**LABEL, "settleSeconds": 6}}, []),
        ({"spec.slo.ttft.seconds": 6, "spec.routing": SMG, "spec.engine": "sglang"}, []),
        ({"spec.mode": "Auto", "spec.pools.prefill.min": 4, "spec.pools.decode.min": 4}, []),
        ({"spec.behaviour.flip.enabled": True}, [NO_WAY]),
        ({"spec.behaviour.flip.enabled": True, "spec.routing": LABEL}, [NO_WAY]),
        ({"spec.behaviour.flip.enabled": True, "spec.routing": SMG, "spec.engine": "sglang"}, []),
        ({"spec.behaviour.flip.enabled": True, **HELD}, []),
        ({"spec.behaviour.flip": {"enabled": True, "driver": "relabel"}, "spec.routing": LABEL}, []),
    ],
)
def test_what_will_not_be_drained_or_flipped_is_told_before(changes: dict[str, object], told: list[str]) -> None:
    assert warnings(Document.model_validate(edited(changes))) == told
