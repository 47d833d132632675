"""Does the whole thing work on a real cluster, from a PDAutoscaler and what Prometheus scraped to pods that follow?

    engines behind the plane's pods -> real Prometheus, one scrape a second -> `autoscaler run` -> /scale -> LWS -> pods

Every test has a namespace, engines and controllers of its own; the plane and Prometheus serve all of them. Time-outs are
generous and bound how long a test waits; what is asserted are values and their order.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from autoscaler.core.fleet import Role
from tests.adapters.conftest import StartPrometheus, prometheus_binary, start_prometheus
from tests.adapters.prometheus_server import RealPrometheus
from tests.e2e.plane.plane import Plane
from tests.e2e.plane.scene import Scene, scene

__all__ = ["prometheus_binary", "start_prometheus"]  # fixtures

pytestmark = [pytest.mark.plane, pytest.mark.prometheus, pytest.mark.slow]

BUSY_RPS = 36.0  # 2.5 A100 replicas of prefill at 1,000 tokens each: three with or without headroom or a backlog
BUSIER_RPS = 60.0
FAIL_OVER_S = 20.0
OUTAGE_S = 60.0
LWS = {"apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"}
SET = {"apiVersion": "disaggregatedset.x-k8s.io/v1", "kind": "DisaggregatedSet", "name": "chat"}
OF_THE_SET = {Role.PREFILL: r"chat-.*-prefill-\d+", Role.DECODE: r"chat-.*-decode-\d+"}


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Prometheus looks for pods, and keeps its data."""
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="module")
def prometheus(start_prometheus: StartPrometheus, targets: Path) -> RealPrometheus:
    return start_prometheus(targets, [])


@pytest.fixture
def chat(plane: Plane, prometheus: RealPrometheus, targets: Path, tmp_path: Path) -> Iterator[Scene]:
    with scene(plane, prometheus, targets, tmp_path) as made:
        yield made


def sees(chat: Scene) -> bool:
    """Whether every signal of the fleet is known."""
    return chat.condition("ScalingActive")[0] == "True"


def at_work(chat: Scene, prefill: int = 1, **policy: object) -> None:
    """One PDAutoscaler and one controller that sees everything."""
    chat.pools(prefill)
    chat.policy(**policy)
    chat.controller()
    chat.until(lambda: sees(chat), "every signal is there")


def test_a_pdautoscaler_makes_its_pools_follow_the_load_up_and_down_and_tells_so(chat: Scene) -> None:
    at_work(chat)
    chat.engines.offer(BUSY_RPS, output_tokens=400)
    chat.until(lambda: chat.wanted("prefill") >= 3, "prefill grows with the load")
    chat.until(lambda: chat.wanted("decode") >= 2, "decode grows with the load")
    chat.until(lambda: len(chat.place.ready_pods()) == chat.wanted("prefill") + chat.wanted("decode"), "pods follow")
    chat.engines.offer(0.0)
    chat.until(lambda: (chat.wanted("prefill"), chat.wanted("decode")) == (1, 1), "without load both are at their minimum", 90)
    chat.until(lambda: len(chat.place.ready_pods()) == 2, "pods follow")
    chat.until(lambda: chat.status()["pools"]["prefill"]["ready"] == "1/1", "the status follows")

    head, line = chat.place.kubectl("get", "pda").splitlines()
    assert head.split() == ["NAME", "MODE", "PREFILL", "DECODE", "SLO", "REASON", "AGE"]
    assert line.split()[:4] == ["chat", "Auto", "1/1", "1/1"]
    told = chat.events()
    deeds = [note for reason, note in told if reason == "ScaledUp"] + [note for reason, note in told if reason == "ScaledDown"]
    assert deeds[0].startswith(("prefill: 1 -> ", "decode: 1 -> "))
    assert deeds[-1].endswith((" -> 1 (DemandFell)", " -> 1 (ScaleDown)"))  # the latter where none was needed and min made it one
    assert len(told) <= 20, "no flood"


def test_in_mode_recommend_nothing_changes_but_the_status(chat: Scene) -> None:
    at_work(chat, mode="Recommend")
    before = chat.place.kubectl("get", "leaderworkerset/chat-prefill", "-o", "jsonpath={.metadata.resourceVersion}")
    chat.engines.offer(BUSY_RPS)
    pool = chat.until(lambda: (p := chat.status()["pools"]["prefill"]).get("recommended", 0) >= 3 and p, "a recommendation")
    assert "target" not in pool
    assert pool["desired"] == 1
    assert before == chat.place.kubectl("get", "leaderworkerset/chat-prefill", "-o", "jsonpath={.metadata.resourceVersion}")
    assert not {reason for reason, _ in chat.events()} & {"ScaledUp", "ScaledDown"}


def test_a_pool_that_an_hpa_scales_too_is_refused_by_name_until_the_hpa_is_gone(chat: Scene) -> None:
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    spec = {"scaleTargetRef": {**LWS, "name": "chat-prefill"}, "minReplicas": 1, "maxReplicas": 3, "metrics": [cpu]}
    chat.place.create("autoscaling/v2", "HorizontalPodAutoscaler", "theirs", spec)
    at_work(chat)
    chat.engines.offer(BUSY_RPS, output_tokens=400)
    reason, message = chat.until(lambda: (c := chat.condition("AbleToScale"))[0] == "False" and c[1:], "the refusal is told")
    assert (reason, "HorizontalPodAutoscaler theirs" in message) == ("Refused", True)
    chat.until(lambda: chat.wanted("decode") >= 2, "the other pool grows")
    assert chat.wanted("prefill") == 1
    assert any("HorizontalPodAutoscaler theirs" in note for _, note in chat.events())
    chat.place.kubectl("delete", "hpa", "theirs")
    chat.until(lambda: chat.wanted("prefill") >= 3, "without the rival the pool grows")


def test_a_quota_that_refuses_pods_is_told_in_its_own_words(chat: Scene) -> None:
    chat.place.create("v1", "ResourceQuota", "small", {"hard": {"pods": "3"}})
    at_work(chat)
    chat.engines.offer(BUSIER_RPS)
    reason, message = chat.until(lambda: (c := chat.condition("Degraded"))[0] == "True" and c[1:], "the quota is told")
    assert reason == "NotCreated"
    assert "exceeded quota: small" in message
    assert "exceeded quota: small" in chat.until(lambda: chat.status()["pools"]["prefill"].get("missing"), "in the pool, too")
    assert len(chat.place.ready_pods()) == 3
    chat.place.kubectl("delete", "resourcequota", "small")
    chat.until(lambda: chat.condition("Degraded")[0] == "False", "it is forgotten when all pods are there")


def test_nothing_is_taken_away_while_the_set_is_rolled_out(chat: Scene) -> None:
    chat.pools(prefill=3)
    ready_after(chat, "1h")
    chat.policy()
    chat.controller()
    chat.until(lambda: "rollout" in chat.condition("AbleToScale")[2], "a shrink was wanted and refused")
    assert chat.wanted("prefill") == 3
    ready_after(chat, "0s")
    chat.until(lambda: chat.wanted("prefill") == 1, "after the rollout it shrinks", 90)


def ready_after(chat: Scene, duration: str) -> None:
    """Roll the prefill pool out with pods that become ready so late."""
    paths = (f"/spec/leaderWorkerTemplate/{one}Template/metadata/annotations" for one in ("leader", "worker"))
    patch = [{"op": "add", "path": path, "value": {"plane/ready-after": duration}} for path in paths]
    chat.place.kubectl("patch", "leaderworkerset/chat-prefill", "--type=json", "-p", json.dumps(patch))


def test_after_kill_9_another_controller_goes_on_within_20_s(chat: Scene) -> None:
    at_work(chat)
    first, second = chat.controllers[0], chat.controller()
    chat.engines.offer(BUSY_RPS)
    reached = chat.until(lambda: (count := chat.wanted("prefill")) >= 3 and count, "the first one scales up")
    first.process.send_signal(signal.SIGKILL)
    began = time.monotonic()
    chat.engines.offer(BUSIER_RPS)
    chat.until(lambda: "leading in term 1 " in second.log.read_text(), "the second one leads")
    assert time.monotonic() - began <= FAIL_OVER_S
    chat.until(lambda: chat.wanted("prefill") > reached, "and scales further")
    assert chat.status()["state"]["epoch"] == 1


def test_without_prometheus_the_pools_are_held_and_the_condition_says_so(chat: Scene) -> None:
    at_work(chat)
    chat.engines.offer(BUSY_RPS)
    chat.until(lambda: chat.wanted("prefill") >= 3, "prefill grows with the load")
    chat.prometheus.stop()
    try:
        chat.until(lambda: chat.condition("ScalingActive")[:2] == ("False", "SignalsUnreachable"), "blindness is told")
        before = chat.wanted("prefill"), chat.wanted("decode")
        chat.engines.offer(0.0)
        time.sleep(15)  # a stabilization window and half of one: long enough for a shrink that should not be
        assert (chat.wanted("prefill"), chat.wanted("decode")) == before
    finally:
        chat.prometheus.start()
    chat.until(lambda: sees(chat), "sight is back")
    chat.until(lambda: chat.wanted("prefill") == 1, "and what it shows is acted on", 90)


def test_pdautoscalers_that_cannot_work_are_told_so_and_disturb_no_other(chat: Scene) -> None:
    chat.pools()
    chat.policy()
    elsewhere = {"prefill": {"target": {"name": "nowhere-p"}, "max": 2}, "decode": {"target": {"name": "nowhere-d"}, "max": 2}}
    chat.policy("missing", model="other", pools=elsewhere)
    time.sleep(1.1)  # the older goes on, and an age counts in seconds
    chat.policy("clashing")
    chat.policy("hasty", model="third", pools=_named(elsewhere, "x"), slo__ttft={"seconds": 0.002})
    chat.controller()
    chat.until(lambda: sees(chat), "the good one is at work")
    wrong = {"missing": "FleetUnreadable", "clashing": "ClashingPolicy", "hasty": "InvalidPolicy"}
    for name, reason in wrong.items():
        chat.until(partial(is_told, chat, name, reason), f"{name} is told")
        chat.until(partial(chat.events, name), f"an Event of {name}")
    assert "nowhere-" in chat.condition("AbleToScale", "missing")[2]
    assert f"{chat.namespace}/chat" in chat.condition("AbleToScale", "clashing")[2]
    chat.engines.offer(BUSY_RPS)
    chat.until(lambda: chat.wanted("prefill") >= 3, "the good one follows its load")


def test_the_roles_of_a_disaggregatedset_follow_the_load(
    plane: Plane, prometheus: RealPrometheus, targets: Path, tmp_path: Path
) -> None:
    with scene(plane, prometheus, targets, tmp_path, OF_THE_SET) as chat:
        chat.place.disaggregated_set("chat", 1, "prefill", "decode")
        chat.until(lambda: len(chat.place.ready_pods()) == 2, "all pods are ready")
        chat.policy(**{f"pools__{role}__target": {**SET, "role": role} for role in ("prefill", "decode")})
        chat.controller()
        chat.until(lambda: sees(chat), "every signal is there")
        chat.engines.offer(BUSY_RPS)
        chat.until(lambda: role_counts(chat)[0] >= 3, "the set's prefill role grows with the load")
        chat.until(lambda: len(chat.place.ready_pods()) == sum(role_counts(chat)), "pods follow")
        chat.engines.offer(0.0)
        chat.until(lambda: role_counts(chat) == [1, 1], "and shrinks without it", 90)


def role_counts(chat: Scene) -> list[int]:
    """What the DisaggregatedSet wants of each role."""
    path = "jsonpath={.spec.roles[*].spec.replicas}"
    return [int(count) for count in chat.place.kubectl("get", "disaggregatedset/chat", "-o", path).split()]


# A connection that is reset before its handshake is left by Python's ssl to the garbage collector, which complains. The last
# test here, for the control plane's own controllers take up to a minute to come back from their back-off.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_an_api_server_that_is_away_for_a_minute_changes_nothing(chat: Scene) -> None:
    at_work(chat)
    chat.engines.offer(BUSY_RPS)
    chat.until(lambda: chat.wanted("prefill") >= 3, "prefill grows with the load")
    chat.until(lambda: len(chat.place.ready_pods()) == chat.wanted("prefill") + chat.wanted("decode"), "pods follow")
    chat.until(lambda: sees(chat), "every signal is there")
    before = chat.wanted("prefill"), chat.wanted("decode")
    chat.plane.stop_api()
    try:
        time.sleep(OUTAGE_S)
        assert chat.controllers[0].process.poll() is None
    finally:
        chat.plane.start_api()
    assert (chat.wanted("prefill"), chat.wanted("decode")) == before
    chat.engines.offer(BUSIER_RPS)
    chat.until(lambda: chat.wanted("prefill") > before[0], "it goes on where it was", 120)
    assert chat.controllers[0].end() < 5


def is_told(chat: Scene, name: str, reason: str) -> bool:
    """Whether a PDAutoscaler says that it cannot scale, and that somebody should look."""
    able, degraded = (chat.condition(kind, name)[:2] for kind in ("AbleToScale", "Degraded"))
    return (able, degraded) == (("False", reason), ("True", reason))


def _named(pools: dict[str, dict[str, object]], name: str) -> dict[str, dict[str, object]]:
    return {role: {**pool, "target": {"name": f"{name}-{role}"}} for role, pool in pools.items()}
