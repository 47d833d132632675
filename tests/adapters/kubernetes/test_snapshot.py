"""Does a snapshot follow its list through everything a watch does, and tell when it may not be believed?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autoscaler.adapters.kubernetes import snapshot as module
from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.snapshot import Picture, Snapshot
from tests.adapters.kubernetes.fake_api import END, NOT_FOUND, REFUSED, FakeApi, listed, named
from tests.adapters.prometheus_server import wait_until

PATH = "/apis/x/v1/namespaces/n/things"
Follow = Callable[..., Snapshot[int]]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORTEST_S", 0.0)
    monkeypatch.setattr(module, "BACKOFF_S", 0.01)


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


@pytest.fixture
def follow(api: FakeApi) -> Iterator[Follow]:
    started: list[Snapshot[int]] = []

    def start(keep: Callable[[Body], int | None] = lambda body: int(body["spec"]["size"]), **options: Any) -> Snapshot[int]:
        started.append(Snapshot(api, PATH, keep, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def known(snapshot: Snapshot[int], items: dict[str, int]) -> None:
    wait_until(lambda: snapshot.picture(10).items == items and snapshot.picture().fault is None, f"known: {items}")


def test_a_list_is_followed_by_its_events(api: FakeApi, follow: Follow) -> None:
    api.lists(PATH, named("a", size=1), named("b", size=2))
    seen = follow()
    known(seen, {"a": 1, "b": 2})
    api.tell(PATH, "MODIFIED", named("a", size=5))
    api.tell(PATH, "ADDED", named("c", size=3))
    api.tell(PATH, "DELETED", named("b", size=2))
    known(seen, {"a": 5, "c": 3})
    assert api.times_asked(PATH) == 1


def test_a_picture_once_taken_never_changes(api: FakeApi, follow: Follow) -> None:
    api.lists(PATH, named("a", size=1))
    seen = follow()
    known(seen, {"a": 1})
    taken = seen.picture()
    api.tell(PATH, "MODIFIED", named("a", size=2))
    known(seen, {"a": 2})
    assert taken.items == {"a": 1}


def test_a_long_list_is_read_page_by_page(api: FakeApi, follow: Follow) -> None:
    api.holds(PATH, listed(named("a", size=1), more="next"), listed(named("b", size=2), version="7"))
    known(follow(), {"a": 1, "b": 2})
    wait_until(lambda: bool(api.watched), "the watch")
    assert [query.get("continue") for _, query in api.asked] == [None, "next"]
    assert api.watched[0][1]["resourceVersion"] == "7"


@pytest.mark.parametrize("ending", [END, ApiFault(0, "ProtocolError", "Response ended prematurely")], ids=["ended", "broken"])
def test_a_watch_that_ends_goes_on_where_it_was(api: FakeApi, follow: Follow, ending: ApiFault | None) -> None:
    api.lists(PATH, named("a", size=1))
    seen = follow()
    known(seen, {"a": 1})
    api.tell(PATH, "BOOKMARK", {"metadata": {}}, version="9")
    api.events[PATH].put(ending)
    wait_until(lambda: len(api.watched) == 2, "a second watch")
    assert api.watched[1][1]["resourceVersion"] == "9"
    api.tell(PATH, "MODIFIED", named("a", size=4))
    known(seen, {"a": 4})
    assert api.times_asked(PATH) == 1


def test_history_that_is_gone_means_listing_again(api: FakeApi, follow: Follow) -> None:
    api.holds(PATH, listed(named("a", size=1)), listed(named("b", size=2)))
    seen = follow()
    known(seen, {"a": 1})
    gone = {"code": 410, "reason": "Expired", "message": "too old resource version"}
    api.events[PATH].put({"type": "ERROR", "object": gone})
    known(seen, {"b": 2})


def test_everything_is_listed_anew_now_and_then(api: FakeApi, follow: Follow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RELIST_S", 0.0)
    api.holds(PATH, listed(named("a", size=1)), listed(named("b", size=2)))
    known(follow(), {"b": 2})


def test_a_server_that_refuses_is_a_fault_that_keeps_what_was_known(api: FakeApi, follow: Follow) -> None:
    api.lists(PATH, named("a", size=1))
    seen = follow()
    known(seen, {"a": 1})
    api.refused_watches[PATH] = REFUSED
    api.events[PATH].put(END)
    wait_until(lambda: seen.picture().fault == REFUSED, "a fault")
    assert seen.picture().items == {"a": 1}
    del api.refused_watches[PATH]
    known(seen, {"a": 1})


def test_a_first_list_that_fails_is_a_fault_until_one_succeeds(api: FakeApi, follow: Follow) -> None:
    api.holds(PATH, REFUSED)
    seen = follow()
    assert seen.picture(10).fault == REFUSED
    api.lists(PATH, named("a", size=1))
    known(seen, {"a": 1})


@pytest.mark.parametrize(("optional", "fault"), [(True, None), (False, NOT_FOUND)])
def test_a_kind_that_is_not_installed_is_empty_only_where_it_may_be(
    api: FakeApi, follow: Follow, optional: bool, fault: ApiFault | None
) -> None:
    picture = follow(optional=optional).picture(10)
    assert (dict(picture.items), picture.fault) == ({}, fault)


def test_an_answer_that_is_no_list_is_a_fault_and_not_the_end(api: FakeApi, follow: Follow) -> None:
    api.holds(PATH, {"items": [{"metadata": None}]})
    seen = follow()
    fault = seen.picture(10).fault
    assert fault is not None
    assert fault.reason == "Malformed"
    api.lists(PATH, named("a", size=1))
    known(seen, {"a": 1})


def test_what_is_not_kept_is_left_out(api: FakeApi, follow: Follow) -> None:
    api.lists(PATH, named("a", size=1), named("b", size=2))
    seen = follow(lambda body: body["spec"]["size"] if body["spec"]["size"] > 1 else None)
    known(seen, {"b": 2})
    api.tell(PATH, "MODIFIED", named("b", size=0))
    known(seen, {})


def test_silence_longer_than_a_watch_is_not_believed() -> None:
    picture = Picture({"a": 1}, seen_s=100.0)
    assert picture.trouble(140.0, max_age_s=45.0) is None
    trouble = picture.trouble(146.0, max_age_s=45.0)
    assert trouble is not None
    assert str(trouble) == "Silent: nothing heard for 46 s"
