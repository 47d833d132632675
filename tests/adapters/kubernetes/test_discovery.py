"""Does a server that hangs or misses a kind cost one question, however many fleets want to know?"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from autoscaler.adapters.kubernetes import discovery
from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.discovery import Discovery
from autoscaler.adapters.kubernetes.targets import Resource
from tests.adapters.kubernetes.fake_api import REFUSED, FakeApi

APPS = "/apis/apps/v1"
DEPLOYMENTS: Body = {"resources": [{"name": "deployments", "kind": "Deployment"}, {"name": "deployments/scale", "kind": "Scale"}]}


class HangingApi(FakeApi):
    """Answers nothing about apps/v1 until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_once, self.let_go = threading.Event(), threading.Event()

    def get(self, path: str, **query: str) -> Body | ApiFault:
        if path == APPS:
            self.asked_once.set()
            self.let_go.wait()
        return super().get(path, **query)


def test_while_one_asks_the_others_wait_for_a_moment_and_ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "OTHERS_S", 0.01)
    api = HangingApi()
    api.holds(APPS, DEPLOYMENTS)
    found = Discovery(api)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(found.resource, "apps/v1", "Deployment", "scale")
        api.asked_once.wait()
        others = [threads.submit(found.resource, "apps/v1", "Deployment", "scale") for _ in range(3)]
        assert {other.result() for other in others} == {ApiFault(0, "Unanswered", "no answer yet about apps/v1")}
        api.let_go.set()
        assert first.result() == Resource(APPS, "deployments")
    assert api.times_asked(APPS) == 1
    assert found.resource("apps/v1", "Deployment", "scale") == Resource(APPS, "deployments")


def test_who_waits_gets_the_answer_that_another_asked_for() -> None:
    api = HangingApi()
    api.holds(APPS, REFUSED)
    found = Discovery(api)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(found.resource, "apps/v1", "Deployment")
        api.asked_once.wait()
        other = threads.submit(found.resource, "apps/v1", "Deployment")
        api.let_go.set()
        assert (first.result(), other.result()) == (REFUSED, REFUSED)
    assert api.times_asked(APPS) == 1


def test_one_api_version_that_hangs_holds_up_no_other() -> None:
    api = HangingApi()
    api.holds("/apis/batch/v1", {"resources": [{"name": "jobs", "kind": "Job"}]})
    found = Discovery(api)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(found.resource, "apps/v1", "Deployment")
        api.asked_once.wait()
        assert found.resource("batch/v1", "Job") == Resource("/apis/batch/v1", "jobs")
        api.let_go.set()
        first.result()


def test_a_kind_that_comes_later_is_found_when_asking_again_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    api = FakeApi()
    found = Discovery(api)
    assert isinstance(found.resource("apps/v1", "Deployment"), ApiFault)
    api.holds(APPS, {"resources": DEPLOYMENTS["resources"][:1]}, DEPLOYMENTS)
    assert isinstance(found.resource("apps/v1", "Deployment"), ApiFault)
    assert api.times_asked(APPS) == 1
    monkeypatch.setattr(discovery, "RETRY_S", -1.0)
    assert found.resource("apps/v1", "Deployment") == Resource(APPS, "deployments")
    assert found.resource("apps/v1", "Deployment", "scale") == Resource(APPS, "deployments")


@pytest.mark.parametrize("answer", [{"resources": [{"kind": "Deployment"}]}, {"resources": "none"}, {"resources": [None]}])
def test_an_answer_that_is_no_list_of_kinds_is_a_fault(answer: Body) -> None:
    api = FakeApi()
    api.holds(APPS, answer)
    found = Discovery(api).resource("apps/v1", "Deployment")
    assert isinstance(found, ApiFault)
    assert found.reason == "Malformed"
