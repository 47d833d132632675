"""Does a real API server ask the webhook what it should, and do as it is told? With the configurations that are shipped."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.prometheus_server import wait_until
from tests.e2e.plane.guarded import LWS, Answer, Guarded, configurations
from tests.e2e.plane.plane import Plane, Refused
from tests.e2e.plane.servers import free_ports
from tests.e2e.plane.test_companion import HOME, NAME, companion, documents

pytestmark = [pytest.mark.plane, pytest.mark.slow]

CONTROLLER = f"system:serviceaccount:{HOME}:pd-autoscaler"
PIPELINE = "pipeline"
GATE = "pdautoscaler.io/routed"
EMERGENCY = "pdautoscaler.io/emergency"


@pytest.fixture(scope="module")
def running(plane: Plane) -> Iterator[tuple[Guarded, subprocess.Popen[bytes]]]:
    """Everything installed and found; in the end the webhooks go before what answers them."""
    plane.install_crd()
    (port,) = free_ports(1)
    site = Guarded(plane, port)
    plane.kubeconfig_for(HOME, NAME)
    made = [one for one in documents(port, site.place.namespace) if one["kind"] != "APIService"]
    made += configurations(port)
    with ExitStack() as ends:
        for document in made:
            plane.kubectl("create", "-f", "-", input=json.dumps(document))
            ends.callback(plane.kubectl, "delete", "--wait=false", "-f", "-", input=json.dumps(document))
        process = ends.enter_context(companion(plane, port, site.place.namespace, "--allow", PIPELINE))
        wait_until(lambda: all(trusted(plane, one) for one in made if "webhooks" in one), "the webhooks are trusted")
        wait_until(lambda: site.job("first", "4k").status == 429, "the companion is asked")
        site.sets()
        yield site, process
    plane.kubectl("delete", "namespace", site.place.namespace, "--wait=false")


def trusted(plane: Plane, configuration: dict[str, Any]) -> bool:
    """Whether the companion has written its authority to all of it."""
    found = json.loads(plane.kubectl("get", configuration["kind"], configuration["metadata"]["name"], "-o", "json"))
    return all(one["clientConfig"].get("caBundle") for one in found["webhooks"])


@pytest.fixture
def site(running: tuple[Guarded, subprocess.Popen[bytes]]) -> Guarded:
    running[0].tell()
    return running[0]


def test_the_api_server_asks_about_what_may_matter_and_about_nothing_else(site: Guarded) -> None:
    sets, pods = site.path(f"{LWS}/v1", "leaderworkersets/chat-prefill"), site.path("v1", "pods")
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "example.invalid/c:1"}]}}
    inject = {**pod, "metadata": {"name": "p", "labels": {"pdautoscaler.io/inject": "true"}}}
    policy = site.path("pdautoscaler.io/v1alpha1", "pdautoscalers/draft")
    before = site.asked()
    assert site.write("PATCH", sets, {"metadata": {"annotations": {"a": "b"}}}).plain
    assert site.scale("chat-prefill", 3, CONTROLLER).plain
    assert site.scale("chat-prefill", 1).plain, "the count that it has"
    assert site.job("plain", "").plain
    assert site.job("elsewhere", "9k", f"{site.place.namespace}/chat", HOME).plain, "a namespace that has not opted in"
    assert site.write("POST", pods, pod).plain
    assert site.write("PATCH", f"{policy}/status", {"status": {"mode": "Auto"}}).plain
    assert site.asked() == before
    site.scale("chat-prefill", 3)
    site.job("asks", "1")
    site.write("POST", pods, inject)
    site.write("PATCH", policy, {"spec": {"mode": "Off"}})
    assert site.asked() - before == Counter(scale=1, load=1, pods=1, policies=1)


def test_a_count_of_ours_is_written_by_others_only_where_the_policy_lets_them(site: Guarded) -> None:
    with pytest.raises(Refused, match=r"chat-prefill: 1 -> 3 is the business of PDAutoscaler \S+/chat \(prefill\)"):
        site.place.kubectl("scale", "leaderworkerset/chat-prefill", "--replicas=3")
    whole = site.write("PATCH", site.path(f"{LWS}/v1", "leaderworkersets/chat-prefill"), {"spec": {"replicas": 3}})
    assert (whole.status, whole.body["reason"]) == (403, "Forbidden")
    assert site.place.wanted("leaderworkerset/chat-prefill") == 1
    dry = site.scale("draft-prefill", 2)
    assert site.place.wanted("leaderworkerset/draft-prefill") == 1
    wet = site.scale("draft-prefill", 2, dry_run=False)
    assert site.place.wanted("leaderworkerset/draft-prefill") == 2
    assert (dry.status, wet.status, dry.warnings) == (200, 200, wet.warnings)
    assert "draft-prefill: 1 -> 2 is the business of PDAutoscaler" in wet.warnings[0]


def test_who_is_allowed_writes_without_a_word(site: Guarded) -> None:
    assert [site.scale("chat-prefill", 2, user).plain for user in (CONTROLLER, PIPELINE)] == [True, True]
    assert site.scale("chat-prefill", 2, "somebody").status == 403


def test_a_real_hpa_writes_the_count_that_is_its_own_and_no_other(site: Guarded) -> None:
    assert site.scale("chat-decode", 2).status == 403
    for name in ("chat-decode", "chat-prefill"):
        target = {"apiVersion": f"{LWS}/v1", "kind": "LeaderWorkerSet", "name": name}
        site.place.create(
            "autoscaling/v2", "HorizontalPodAutoscaler", name, {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 4}
        )
    wait_until(lambda: site.place.wanted("leaderworkerset/chat-decode") == 2, "the HPA has scaled its own")
    wait_until(lambda: "is the business of PDAutoscaler" in able(site, "chat-prefill"), "the HPA was refused the other")
    assert site.place.wanted("leaderworkerset/chat-prefill") == 1
    site.place.kubectl("delete", "hpa", "--all")


def able(site: Guarded, name: str) -> str:
    """Why an HPA is not able to scale; empty where it is."""
    conditions = json.loads(site.place.kubectl("get", "hpa", name, "-o", "json")).get("status", {}).get("conditions", ())
    return next((one["message"] for one in conditions if (one["type"], one["status"]) == ("AbleToScale", "False")), "")


def test_an_emergency_opens_what_is_shut_and_is_told(site: Guarded) -> None:
    site.place.kubectl("annotate", "pdautoscaler", "chat", f"{EMERGENCY}=racks are on fire")
    wait_until(lambda: site.scale("chat-prefill", 4).status == 200, "it is open")
    assert "in an emergency (racks are on fire)" in site.scale("chat-prefill", 4).warnings[0]
    site.place.kubectl("annotate", "pdautoscaler", "chat", f"{EMERGENCY}-")
    wait_until(lambda: site.scale("chat-prefill", 4).status == 403, "it is shut again")


def test_while_the_controller_is_silent_everything_passes_with_a_warning(site: Guarded) -> None:
    with site.told(headroom=0, age_s=3600.0):
        wait_until(lambda: site.scale("chat-prefill", 3).status == 200, "the status is stale")
        for answer in (site.scale("chat-prefill", 3), site.job("late", "9k")):
            assert answer.status < 300
            assert "is not held against PDAutoscaler" in answer.warnings[0]
            assert "last word is 36" in answer.warnings[0]
    wait_until(lambda: site.scale("chat-prefill", 3).status == 403, "it is told again")


def test_a_job_without_room_is_told_when_to_come_back_and_is_made_once_there_is_room(site: Guarded) -> None:
    refused = site.job("batch", "4k", dry_run=False)
    assert (refused.status, refused.body["reason"], refused.retry_after) == (429, "TooManyRequests", "13")
    assert refused.body["details"]["retryAfterSeconds"] == 13
    assert "decode 4000, of which 3000 fit" in refused.body["message"]
    assert site.place.kubectl("get", "jobs", "-o", "name") == ""
    warned = site.job("batch", "4k", fleet="draft")
    assert (warned.status, "draft has no room now" in warned.warnings[0]) == (201, True)
    with site.told(headroom=5_000):
        wait_until(lambda: site.job("batch", "4k").plain, "there is room")
        assert site.job("batch", "4k", dry_run=False).plain
    assert site.place.kubectl("get", "jobs", "-o", "name") == "job.batch/batch\n"


def test_a_job_that_sleeps_is_asked_when_it_is_woken(site: Guarded) -> None:
    assert site.job("sleeper", "4k", suspend=True, dry_run=False).plain
    wake, path = {"spec": {"suspend": False}}, site.path("batch/v1", "jobs/sleeper")
    assert site.write("PATCH", path, wake).status == 429
    with site.told(headroom=5_000):
        wait_until(lambda: site.write("PATCH", path, wake).plain, "there is room")


def test_a_pod_gets_its_gate_and_is_ready_once_that_is_open(site: Guarded) -> None:
    wait_until(lambda: containers_ready(site, "chat-decode-0"), "its containers are ready")
    pod = json.loads(site.place.kubectl("get", "pod", "chat-decode-0", "-o", "json"))
    assert pod["spec"]["readinessGates"] == [{"conditionType": GATE}]
    assert "readinessGates" not in json.loads(site.place.kubectl("get", "pod", "chat-prefill-0", "-o", "json"))["spec"]
    assert "chat-decode-0" not in site.place.ready_pods()
    conditions = [*pod["status"]["conditions"], {"type": GATE, "status": "True"}]
    patch = json.dumps({"status": {"conditions": conditions}})
    site.place.kubectl("patch", "pod", "chat-decode-0", "--subresource=status", "--type=merge", "-p", patch)
    wait_until(lambda: "chat-decode-0" in site.place.ready_pods(), "it is ready")


def containers_ready(site: Guarded, name: str) -> bool:
    try:
        found = json.loads(site.place.kubectl("get", "pod", name, "-o", "json"))["status"].get("conditions", ())
    except Refused:
        return False
    return ("ContainersReady", "True") in [(one["type"], one["status"]) for one in found]


LONG = {"promptTokens": 8000, "outputTokens": 200}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"spec.pools.decode.target.name": "chat-decode"}, "spec.pools.decode.target"),
        ({"spec.requestShape": LONG, "spec.slo.ttft.seconds": 0.05}, "spec.slo.ttft.seconds"),
    ],
    ids=["another's target", "an SLO that nothing meets"],
)
def test_a_policy_that_cannot_be_worked_by_is_refused_with_its_field(site: Guarded, changes: dict[str, Any], field: str) -> None:
    path = site.path("pdautoscaler.io/v1alpha1", "pdautoscalers")
    assert site.write("POST", path, site.policy("new", {}, {})).status == 201
    refused = site.write("POST", path, site.policy("new", changes, {}))
    assert (refused.status, refused.body["reason"]) == (422, "Invalid")
    assert any(one["field"].startswith(field) for one in refused.body["details"]["causes"])


def test_the_api_server_goes_on_without_an_answer_after_two_seconds(
    running: tuple[Guarded, subprocess.Popen[bytes]], site: Guarded
) -> None:
    process = running[1]
    process.send_signal(signal.SIGSTOP)
    try:
        answers: list[Answer] = [site.job("hangs", "9k"), site.scale("chat-prefill", 3)]
    finally:
        process.send_signal(signal.SIGCONT)
    for answer in answers:
        assert answer.plain
        assert 1.9 < answer.took_s < 15.0
    wait_until(lambda: site.scale("chat-prefill", 3).status == 403, "it is asked again")
    assert site.job("hangs", "9k").status == 429


def test_what_the_log_tells_has_no_traceback(site: Guarded) -> None:
    assert "Traceback" not in Path(site.plane.folder / "companion.log").read_text()
