"""The feed keeps a bounded past and never lets a watcher hold up the controller."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.apps.feed import Feed, Frame
from autoscaler.core.action import Flip, Outcome, Verdict
from autoscaler.core.door import Door, Verdicts
from autoscaler.core.fleet import Role
from autoscaler.core.reason import Reason
from tests.apps.ticks import BUSY_RPS, FLEET, blind, report, status


def read(frame: Frame) -> dict[str, Any]:
    """The frame as a strict JSON reader sees it: NaN and infinity are errors."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    content: dict[str, Any] = json.loads(frame.text, parse_constant=refuse)
    return content


def moments(frames: list[Frame]) -> list[float]:
    return [read(frame)["status"]["now"] for frame in frames]


def filled(count: int, **limits: int) -> Feed:
    feed = Feed(**limits)
    report(feed, count)
    return feed


def test_reports_of_many_threads_are_all_kept_each_fleet_in_its_own_order() -> None:
    feed = Feed()
    keys = [f"team/{i}" for i in range(8)]
    with ThreadPoolExecutor(len(keys)) as threads:
        list(threads.map(lambda key: report(feed, 25, key), keys))
    for key in keys:
        assert moments(feed.history(key)) == [15.0 * i for i in range(25)]
    places = [frame.sequence for key in keys for frame in feed.history(key)]
    assert sorted(places) == list(range(1, 8 * 25 + 1))


def test_history_keeps_the_newest_ticks_up_to_its_bound() -> None:
    assert moments(filled(12, history=5).history(FLEET)) == [15.0 * i for i in range(7, 12)]


def test_fleets_share_the_total_so_that_many_of_them_keep_less_each() -> None:
    feed = Feed(history=100, total=40)
    for _ in range(2):  # a fleet gives room at its own next tick
        for key in ("a/1", "a/2", "a/3", "a/4"):
            report(feed, 12, key)
    assert [len(feed.history(key)) for key in feed.fleets] == [10, 10, 10, 10]


def test_an_old_tick_keeps_its_findings_only_if_it_decided_something() -> None:
    feed = Feed()
    for now, rps in ((0.0, 1.0), (15.0, BUSY_RPS), (30.0, 1.0), (45.0, 1.0)):
        feed.report(status(now, rps))
    frames = [read(frame)["status"] for frame in feed.history(FLEET)]
    assert [bool(frame["actions"]) for frame in frames] == [False, True, False, False]
    assert ["findings" in frame for frame in frames] == [False, True, False, True]


def test_whom_sidecars_turn_away_is_told_of_the_newest_tick_and_how_many_of_all() -> None:
    feed = Feed()
    for now in (0.0, 15.0, 30.0):
        verdict = Verdicts("enforce", False, "ttft", "free", 4.0)
        feed.report(replace(status(now), rejected_rps=4.0, door=Door((verdict,))))
    frames = [read(frame)["status"] for frame in feed.history(FLEET)]
    assert ["door" in frame for frame in frames] == [False, False, True]
    assert [frame["rejected_rps"] for frame in frames] == [4.0, 4.0, 4.0]


def test_the_first_tick_of_all_is_explained_when_it_decides() -> None:
    feed = Feed()
    feed.report(status(0.0, BUSY_RPS))
    feed.report(status(15.0))
    assert read(feed.history(FLEET)[0])["status"]["findings"]


def test_a_hold_for_want_of_signals_is_explained_where_it_begins_and_where_it_ends() -> None:
    feed = Feed()
    for i in range(8):
        feed.report(blind(15.0 * i) if 2 <= i < 5 else status(15.0 * i))
    explained = [i for i, frame in enumerate(feed.history(FLEET)) if "findings" in read(frame)["status"]]
    assert explained == [2, 5, 7]


def test_a_tick_that_flips_keeps_its_findings() -> None:
    flip = Flip(Role.PREFILL, Role.DECODE, 1, 1, Reason.FLIP, {Role.PREFILL: 2, Role.DECODE: 2})
    feed = Feed()
    for now in (0.0, 15.0, 30.0, 45.0):
        outcomes = (Outcome(flip, Verdict.APPLIED),) if now == 15.0 else ()
        feed.report(replace(status(now), outcomes=outcomes))
    frames = [read(frame)["status"] for frame in feed.history(FLEET)]
    assert [[one["verdict"] for one in frame["flips"]] for frame in frames] == [[], ["Applied"], [], []]
    assert ["findings" in frame for frame in frames] == [False, True, False, True]


def test_explained_decisions_are_bounded() -> None:
    feed = Feed(explained=3)
    for i in range(20):
        feed.report(status(15.0 * i, BUSY_RPS if i % 2 else 1.0))
    explained = [i for i, frame in enumerate(feed.history(FLEET)) if "findings" in read(frame)["status"]]
    assert explained == [15, 17, 19]


def test_extras_ride_with_the_frames_that_follow() -> None:
    feed = Feed()
    feed.report(status(0.0))
    feed.annotate(score={"offered": 12, "slo_attainment": 0.5}, speed=60.0)
    feed.report(status(15.0))
    feed.annotate(speed=30.0)
    feed.report(status(30.0))
    first, second, third = (read(frame) for frame in feed.history(FLEET))
    assert (first["score"], first["speed"], first["ended"]) == (None, None, False)
    assert (second["score"], second["speed"]) == ({"offered": 12, "slo_attainment": 0.5}, 60.0)
    assert (third["score"], third["speed"]) == ({"offered": 12, "slo_attainment": 0.5}, 30.0)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_a_number_is_null_on_the_wire(broken: float) -> None:
    feed = Feed()
    feed.annotate(score={"slo_attainment": broken}, speed=broken)
    feed.report(status(0.0, rps=broken))
    frame = read(feed.latest()[FLEET])
    assert (frame["score"]["slo_attainment"], frame["speed"], frame["status"]["offered_rps"]) == (None, None, None)


def test_the_end_repeats_every_fleets_last_tick_and_says_so() -> None:
    feed = Feed()
    for key in ("a/1", "a/2"):
        feed.report(status(15.0, key=key))
    feed.end()
    for key in ("a/1", "a/2"):
        last = read(feed.history(key)[-1])
        assert (last["status"]["now"], last["ended"]) == (15.0, True)
        assert last["status"]["findings"]


def test_a_place_is_read_only_from_an_id_of_this_run() -> None:
    feed, other = filled(3), filled(3)
    newest = feed.latest()[FLEET]
    assert feed.place_of(newest.id) == newest.sequence == 3
    for foreign in (other.latest()[FLEET].id, "", "3", "-3", f"{newest.id}x", newest.id.replace("-3", "--3")):
        assert feed.place_of(foreign) is None


def test_a_watcher_that_never_takes_loses_its_oldest_frames_and_blocks_nobody() -> None:
    async def watch() -> list[Frame] | None:
        feed = Feed(queue=4)
        _, subscription = feed.subscribe()
        report(feed, 30)  # in the loop's own thread: a report that waited for the watcher would never return
        return await subscription.take()

    frames = asyncio.run(watch())
    assert frames is not None
    assert moments(frames) == [15.0 * i for i in range(26, 30)]


def test_a_waiting_watcher_is_woken_by_another_thread() -> None:
    async def watch() -> list[float]:
        feed = Feed()
        _, subscription = feed.subscribe()
        waiting = asyncio.create_task(subscription.take())
        await asyncio.sleep(0)
        await asyncio.to_thread(feed.report, status(7.0))
        frames = await asyncio.wait_for(waiting, 5)
        assert frames is not None
        return moments(frames)

    assert asyncio.run(watch()) == [7.0]


def test_a_watcher_coming_back_while_ticks_go_on_misses_none_and_sees_none_twice() -> None:
    async def watch(feed: Feed) -> list[int]:
        report(feed, 20)
        reporting = asyncio.create_task(asyncio.to_thread(report, feed, 100))
        await asyncio.sleep(0)
        missed, subscription = feed.subscribe(FLEET, after=10)
        await reporting
        return [frame.sequence for frame in (*missed, *(await subscription.take() or []))]

    assert asyncio.run(watch(Feed(queue=1000))) == list(range(11, 121))


def test_a_watcher_of_one_fleet_gets_no_other() -> None:
    async def watch() -> set[str]:
        feed = Feed()
        feed.report(status(key="a/1"))
        feed.report(status(key="a/2"))
        missed, subscription = feed.subscribe("a/2", after=0)
        feed.report(status(15.0, key="a/1"))
        feed.report(status(15.0, key="a/2"))
        return {frame.fleet for frame in (*missed, *(await subscription.take() or []))}

    assert asyncio.run(watch()) == {"a/2"}


def test_a_subscription_that_is_let_go_gives_what_it_holds_and_then_ends() -> None:
    async def watch() -> list[bool]:
        feed = filled(1)
        _, subscription = feed.subscribe()
        feed.report(status(99.0))
        feed.let_go()
        feed.report(status(120.0))
        return [bool(await subscription.take()), await subscription.take() is None]

    assert asyncio.run(watch()) == [True, True]


def test_a_watcher_whose_loop_has_closed_does_not_hurt_the_controller() -> None:
    feed = Feed()

    async def forget_to_unsubscribe() -> None:
        feed.subscribe()

    asyncio.run(forget_to_unsubscribe())
    feed.report(status(0.0))
    assert moments(feed.history(FLEET)) == [0.0]
