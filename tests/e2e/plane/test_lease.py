"""Does one of two controllers lead, and never both, on a real API server?"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

import pytest

from autoscaler.adapters.kubernetes.api import KubeApi, connect
from autoscaler.adapters.kubernetes.lease import Election, Timing
from tests.e2e.plane.plane import Plane

pytestmark = [pytest.mark.plane, pytest.mark.slow]

TIMING = Timing()
PATIENCE_S = 60.0


@pytest.fixture
def api(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> KubeApi:
    monkeypatch.setenv("KUBECONFIG", str(plane.kubeconfig))
    return connect()


@pytest.fixture
def candidates(plane: Plane, api: KubeApi) -> Iterator[list[Election]]:
    namespace = plane.namespace()
    both = [Election(api, namespace, "autoscaler", f"pod-{number}") for number in range(2)]
    yield both
    plane.kubectl("delete", "namespace", namespace, "--wait=false")


def until(holds: Callable[[], bool]) -> float:
    """The seconds until it holds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < PATIENCE_S
        time.sleep(0.05)
    return time.monotonic() - began


def test_a_leader_that_stops_hands_over_within_a_retry(candidates: list[Election]) -> None:
    first, second = candidates
    first.start()
    until(lambda: first.term() == 0)
    second.start()
    first.stop()
    assert until(lambda: second.term() == 1) <= 2 * TIMING.retry_s + 1
    assert first.term() is None
    second.stop()


def test_a_leader_that_dies_is_replaced_within_20_seconds(candidates: list[Election]) -> None:
    dead, second = candidates
    dead.step()
    assert dead.term() == 0
    second.start()
    assert until(lambda: second.term() == 1) <= 20
    assert dead.term() is None
    second.stop()


def test_a_leader_without_an_api_server_stops_acting_and_leads_again_when_it_is_back(
    plane: Plane, candidates: list[Election]
) -> None:
    (leader, _) = candidates
    leader.start()
    until(lambda: leader.term() == 0)
    plane.pause_api()
    try:
        assert until(lambda: leader.term() is None) <= TIMING.renew_deadline_s + 1
    finally:
        plane.resume_api()
    until(lambda: leader.term() == 0)
    leader.stop()


def test_kubectl_shows_who_leads(plane: Plane, api: KubeApi) -> None:
    namespace = plane.namespace()
    election = Election(api, namespace, "autoscaler", "pod-a")
    election.start()
    until(lambda: election.term() is not None)
    shown = json.loads(plane.kubectl("get", "lease", "autoscaler", "-n", namespace, "-o", "json"))
    assert shown["spec"]["holderIdentity"] == "pod-a"
    election.stop()
    shown = json.loads(plane.kubectl("get", "lease", "autoscaler", "-n", namespace, "-o", "json"))
    assert shown["spec"].get("holderIdentity", "") == ""
