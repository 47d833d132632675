"""Does one fleet's slow or broken target, admission webhook, namespace or policy delay or break another? (DESIGN.md 5)

The real command over several fleets. One is broken the way clusters break, and the other is timed: from a changed metric
to the count that its LeaderWorkerSet is asked for, with the sick one beside it and without.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault
from tests.e2e.plane.accounts import without
from tests.e2e.plane.hanging import NEVER_S
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.sites import STEPS, Site, Sites, prometheus, sites
from tests.e2e.processes import wait_for

__all__ = ["prometheus", "sites"]  # fixtures

pytestmark = [pytest.mark.plane, pytest.mark.slow]

log = logging.getLogger(__name__)

GROUP = "sick.example.com"
ENGINE = {"apiVersion": f"{GROUP}/v2", "kind": "Engine", "name": "engines"}
TICK_S = 1.0
SLACK_S = 2.0  # for a busy machine; whoever waits for a request that hangs waits for 5 s or more


def convertible(plane: Plane, conversion: dict[str, Any]) -> None:
    """A kind with two versions and /scale. Whoever asks for the one that is not stored waits for the conversion."""
    text, number = {"type": "string"}, {"type": "integer"}
    spec = {"type": "object", "properties": {"replicas": number}}
    status = {"type": "object", "properties": {"replicas": number, "selector": text}}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": status}}}
    fields = {
        "specReplicasPath": "spec.replicas",
        "statusReplicasPath": "status.replicas",
        "labelSelectorPath": "status.selector",
    }
    scale = {name: f".{path}" for name, path in fields.items()}
    shared = {"served": True, "schema": schema, "subresources": {"scale": scale}}
    document = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"engines.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": "engines", "kind": "Engine"},
            "versions": [{"name": "v1", "storage": True} | shared, {"name": "v2", "storage": False} | shared],
            "conversion": conversion,
        },
    }
    plane.kubectl("apply", "-f", "-", input=json.dumps(document))
    plane.kubectl("wait", "--for=condition=Established", f"crd/engines.{GROUP}", "--timeout=30s")


def engines_of(site: Site) -> None:
    """The pods of a target that is no workload itself, and the target, as long as it is healthy."""
    site.place.deployment("engines", 1)
    engine = {"apiVersion": f"{GROUP}/v1", "kind": "Engine", "metadata": {"name": "engines"}, "spec": {"replicas": 1}}
    site.kubectl("create", "-f", "-", input=json.dumps(engine | {"status": {"replicas": 1, "selector": "app=engines"}}))


def timed(site: Site, steps: Sequence[float]) -> list[float]:
    """Seconds from metric to write, one for each step of load."""
    return [round(site.grows(rps), 2) for rps in steps]


def test_targets_whose_api_breaks_or_never_answers_delay_no_other_fleet(sites: Sites) -> None:
    """One kind's conversion webhook hangs from some moment on, another kind's API server from the beginning."""
    plane, hook = sites.plane, sites.webhook()
    hook.delay_s = NEVER_S
    convertible(plane, {"strategy": "None"})
    wait_for(lambda: not isinstance(sites.api.get(f"/apis/{GROUP}/v1/engines"), ApiFault), "the kind is served")
    well, broken, hung = (
        sites.site(),
        sites.site(target=ENGINE),
        sites.site(target=ENGINE | {"apiVersion": "hang.example.com/v1"}),
    )
    engines_of(broken)
    # Only once the namespaces stand: Kubernetes' own controllers ask every API that is registered, and may wait for this one.
    kinds = [{"name": name, "kind": "Engine", "namespaced": True, "verbs": ["get"]} for name in ("engines", "engines/scale")]
    hanging = sites.extension("hang.example.com", kinds)
    for one in (well, broken, hung):
        one.create()
    alone = sites.running(well.namespace)
    without = timed(well, STEPS[:2])
    alone.process.end()
    running = sites.running(well.namespace, broken.namespace, hung.namespace)
    broken.until_able("Ready")
    convertible(plane, {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hook.client}})
    for one in (broken, hung):
        one.until_able("FleetUnreadable")
        assert "Engine" in one.condition("Degraded")[2]
    beside = timed(well, STEPS[2:])
    log.info("metric to write, s: without a sick fleet %s, beside two %s", without, beside)
    assert hook.asked
    assert any(path.endswith("/engines") for path in hanging.asked)
    assert running.is_punctual()
    assert max(beside) <= TICK_S + SLACK_S
    convertible(plane, {"strategy": "None"})
    broken.until_able("Ready")


def test_a_webhook_that_hangs_on_one_fleets_writes_delays_no_other_and_its_write_is_told_when_it_ended(sites: Sites) -> None:
    hook, well, sick = sites.webhook(), sites.site(), sites.site()
    for one in (well, sick):
        one.create()
    running = sites.running(well.namespace, sick.namespace)
    with hook.guarding(sites.plane, sick.namespace, "leaderworkerset.x-k8s.io", "leaderworkersets/scale"):
        hook.delay_s = 3.0
        sick.offer(STEPS[0])
        sick.until_able("WritePending")
        beside = timed(well, STEPS[:1])
        sick.until(lambda: "ScaledUp" in dict(sick.events()), "how it ended is told")
        assert sick.wanted() > 1
        hook.delay_s = NEVER_S
        sick.offer(STEPS[1])
        sick.until_able("WritePending")
        beside += timed(well, STEPS[1:3])
        sick.until(lambda: "WriteFailed" in dict(sick.events()), "that it failed is told")
        beside += timed(well, STEPS[3:])
        stuck_at = sick.wanted()
        hook.delay_s = 0.0
        sick.until(lambda: sick.wanted() > stuck_at, "it goes on by itself")
    log.info("metric to write, s: beside one whose writes hang %s", beside)
    assert running.is_punctual()
    assert max(beside) <= TICK_S + SLACK_S


def test_a_webhook_that_hangs_on_one_policys_status_delays_neither_writes_nor_long_the_statuses_of_others(sites: Sites) -> None:
    hook, well, sick = sites.webhook(), sites.site(), sites.site()
    hook.delay_s = NEVER_S
    for one in (well, sick):
        one.create()
    running = sites.running(well.namespace, sick.namespace)
    well.until(lambda: well.status() and sick.status(), "both have a status")
    with hook.guarding(sites.plane, sick.namespace, "pdautoscaler.io", "pdautoscalers/status"):
        sick.offer(STEPS[0])
        wait_for(lambda: hook.asked, "the sick one's status is being written")
        beside, told = [], []
        for rps in STEPS:
            beside += timed(well, [rps])
            began_s = time.monotonic()
            well.until(lambda: well.status()["pools"]["prefill"]["desired"] == well.wanted(), "its status tells of it")
            told.append(round(time.monotonic() - began_s, 2))
        assert sick.wanted() == 1, "what cannot be noted is not written"
    assert max(told) <= 2 * TICK_S + SLACK_S, "the look after the write, and no status of the sick one before it"
    log.info("s beside one whose status hangs: metric to write %s, write to status %s", beside, told)
    sick.until(lambda: sick.wanted() > 1, "it goes on by itself")
    assert running.is_punctual()
    assert max(beside) <= TICK_S + SLACK_S


def test_a_policy_that_is_broken_edited_or_made_anew_while_it_is_written_for_disturbs_no_other(sites: Sites) -> None:
    hook, well, sick = sites.webhook(), sites.site(), sites.site()
    for one in (well, sick):
        one.create()
    running = sites.running(well.namespace, sick.namespace)
    well.until(lambda: well.status() and sick.status(), "both have a status")
    sick.edit(slo={"ttft": {"seconds": 0.001}})
    sick.until_able("InvalidPolicy")
    assert "spec.slo.ttft.seconds: 0.001 is below" in sick.condition("AbleToScale")[2]
    beside = timed(well, STEPS[:1])
    sick.edit(slo={"ttft": {"seconds": 2.0}})
    sick.until_able("Ready")

    with hook.guarding(sites.plane, sick.namespace, "leaderworkerset.x-k8s.io", "leaderworkersets/scale"):
        hook.delay_s = 4.0
        sick.offer(STEPS[0])
        sick.until_able("WritePending")
        sick.kubectl("delete", "pda/chat")
        sick.create()
        beside += timed(well, STEPS[1:2])
        hook.delay_s = 0.0
        sick.until(lambda: sick.status().get("pools", {}).get("prefill", {}).get("target", 0) > 1, "the new one is worked by")
        grown = sick.wanted()
        hook.delay_s = 4.0
        sick.offer(STEPS[2])
        sick.until_able("WritePending")
        sick.edit(mode="Off")
        sick.until(lambda: sick.status()["mode"] == "Off", "the edit is seen at once")
        beside += timed(well, STEPS[2:3])
        sick.until(lambda: sick.wanted() > grown, "the write that was under way is carried out")
        hook.delay_s, ended_at = 0.0, sick.wanted()
        sick.offer(STEPS[3])
        beside += timed(well, STEPS[3:])
        assert sick.wanted() == ended_at, "and no other follows"
    assert running.is_punctual()
    assert running.metric("pd_autoscaler_internal_errors_total") == 0
    assert max(beside) <= TICK_S + SLACK_S


def test_a_namespace_that_is_forbidden_or_deleted_takes_only_its_own_fleets_along(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    well, forbidden, doomed = (sites.site() for _ in range(3))
    for one in (well, forbidden, doomed):
        one.create()
    monkeypatch.setenv("KUBECONFIG", str(sites.plane.kubeconfig_for(well.namespace, "autoscaler")))
    for one in (well, doomed):
        allow(one, well.namespace)
    running = sites.running(well.namespace, forbidden.namespace, doomed.namespace)
    line = f"a Role in {forbidden.namespace} must allow list and watch of pdautoscalers"
    wait_for(lambda: line in running.log(), "what is missing is told")
    beside = timed(well, STEPS[:1])
    assert not forbidden.status()
    doomed.until(doomed.status, "it is worked by")
    sites.plane.kubectl("delete", "namespace", doomed.namespace, "--wait=false")
    wait_for(lambda: running.metric("pd_autoscaler_fleets") == 1, "the fleet of the deleted namespace is gone")
    beside += timed(well, STEPS[1:2])
    allow(forbidden, well.namespace)
    beside += [forbidden.grows(STEPS[0]) and forbidden.grows(STEPS[1]), *timed(well, STEPS[2:3])]
    assert running.is_punctual()
    assert max(beside) <= TICK_S + SLACK_S


def test_while_the_definition_is_away_nothing_is_scaled_and_fleets_come_back_with_it(sites: Sites) -> None:
    well = sites.site()
    well.create()
    running = sites.running(well.namespace)
    well.grows(STEPS[0])
    before = well.wanted()
    stored = well.kubectl("get", "pda/chat", "-o", "json")
    sites.plane.kubectl("delete", "crd/pdautoscalers.pdautoscaler.io")
    try:
        well.offer(STEPS[2])
        wait_for(lambda: "their CRD is not installed: autoscaler crd | kubectl apply -f -" in running.log(), "what to do is told")
        assert (running.metric("pd_autoscaler_fleets"), running.healthz()) == (0, 200)
        assert well.wanted() == before
    finally:
        sites.plane.install_crd()
    well.kubectl("apply", "-f", "-", input=stored)
    well.until(lambda: well.wanted() > before, "the fleet comes back by itself")
    well.until(lambda: well.status().get("state", {}).get("epoch") == 0, "and its status with it")
    assert (running.is_punctual(), running.healthz()) == (True, 200)


def allow(site: Site, namespace: str) -> None:
    """Give the account "autoscaler" of a namespace the shipped Role in the site's."""
    rbac, metadata = "rbac.authorization.k8s.io/v1", {"name": "autoscaler", "namespace": site.namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "autoscaler"}
    subject = {"kind": "ServiceAccount", "name": "autoscaler", "namespace": namespace}
    role = {"apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": without(None)}
    binding = {"apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata, "roleRef": reference, "subjects": [subject]}
    site.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [role, binding]}))
