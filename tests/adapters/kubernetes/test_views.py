"""Are lists begun once whoever comes first, waited for once, and followed no longer than somebody looks?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.targets import Resource
from autoscaler.adapters.kubernetes.views import IDLE_S, Views
from tests.adapters.kubernetes.fake_api import END, FakeApi, named
from tests.adapters.prometheus_server import wait_until

SETS = Resource("/apis/x/v1", "sets")
PATH = SETS.within("default")
PODS = "/api/v1/namespaces/default/pods"


class SilentApi(FakeApi):
    """Never answers a list until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def get(self, path: str, **query: str) -> Body | ApiFault:
        self.let_go.wait()
        return super().get(path, **query)


@pytest.fixture
def silent() -> Iterator[SilentApi]:
    api = SilentApi()
    yield api
    api.let_go.set()


def test_a_list_that_was_never_heard_is_waited_for_once_and_not_by_everybody(silent: SilentApi) -> None:
    views = Views(silent, patience_s=0.05)
    begun = time.monotonic()
    answers = [views.objects(SETS, "default") for _ in range(50)]
    assert time.monotonic() - begun < 50 * 0.05 / 2  # by far less than if each had waited
    assert {answer.reason for answer in answers if isinstance(answer, ApiFault)} == {"Unanswered"}
    assert all(isinstance(answer, ApiFault) for answer in answers)
    views.stop()


def test_a_list_that_hangs_holds_up_no_reader_of_another() -> None:
    api = FakeApi()
    api.lists(PATH, named("one"))
    api.lists(PODS)
    hangs, let_go = threading.Event(), threading.Event()
    answer = api.get

    def get(path: str, **query: str) -> Body | ApiFault:
        if path == PODS:
            hangs.set()
            let_go.wait()
        return answer(path, **query)

    api.get = get  # type: ignore[method-assign]
    views = Views(api, patience_s=60.0)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(views.pods, "default", "app=one")
        hangs.wait()
        found = views.objects(SETS, "default")
        assert not isinstance(found, ApiFault)
        assert list(found) == ["one"]
        assert not waiting.done()
        let_go.set()
        assert waiting.result() == ()
    views.stop()


def test_many_who_come_at_once_follow_one_list() -> None:
    api = FakeApi()
    api.lists(PATH, named("one"))
    views = Views(api)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: views.objects(SETS, "default"), range(64)))
    assert all(not isinstance(one, ApiFault) and list(one) == ["one"] for one in found)
    assert api.times_asked(PATH) == 1
    views.stop()


def test_a_list_that_nobody_looks_at_ends_and_begins_anew_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoscaler.adapters.kubernetes.snapshot.SHORTEST_S", 0.0)
    api = FakeApi()
    api.lists(PATH, named("one"))
    views = Views(api)
    assert not isinstance(views.objects(SETS, "default"), ApiFault)
    (followed,) = views._followed.values()
    monkeypatch.setattr(followed.snapshot, "_looked_s", time.monotonic() - IDLE_S - 1)
    api.events[PATH].put(END)  # the watch ends in good order
    wait_until(lambda: followed.snapshot.ended, "the list is followed no longer")
    assert isinstance(followed.items(), ApiFault)
    found = views.objects(SETS, "default")
    assert not isinstance(found, ApiFault)
    assert list(found) == ["one"]
    assert list(views._followed.values()) != [followed]
    views.stop()
