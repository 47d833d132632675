"""Is what readers care about written at once, the rest once a minute, and never more than the server can take?"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from autoscaler.adapters.kubernetes import scribe
from autoscaler.adapters.kubernetes.api import ApiFault, Body
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.adapters.kubernetes.scribe import BROKEN_S, OUTAGE_S, SPACING_S, Scribe
from autoscaler.adapters.kubernetes.story import story
from autoscaler.core.action import Action, Mode, Outcome, Plan, Verdict
from autoscaler.core.conditions import Condition
from autoscaler.core.fleet import Role
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import Status
from tests.adapters.prometheus_server import wait_until
from tests.fakes import KEY, FakeLeadership

TICK_S = 15.0
LOST = ApiFault(0, "ReadTimeoutError", "no answer")
FORBIDDEN = ApiFault(403, "Forbidden", "may not patch pdautoscalers/status")
CONDITIONS = tuple(
    Condition(name, good, "Fine", "all is well")
    for name, good in {"AbleToScale": True, "ScalingActive": True, "ScalingLimited": False, "Degraded": False}.items()
)
DARK = (CONDITIONS[0], Condition("ScalingActive", False, "SignalsMissing", "nothing answers"), *CONDITIONS[2:])
UP = Outcome(Action(Role.PREFILL, 2, 5, Reason.DEMAND_ROSE), Verdict.APPLIED)


def status(key: str = KEY, now: float = 1000.0, reason: Reason = Reason.HOLD, **changes: Any) -> Status:
    plan = Plan(now, Mode.AUTO, (), {}, (Finding(Stage.PLAN, reason, "x"),))
    return replace(Status(key, now, Mode.AUTO, None, "", None, {}, (), plan, CONDITIONS), **changes)


@dataclass
class Cluster:
    """Takes statuses and Events, or answers `faults` by key; `down` answers nobody. `tried` is when it was asked."""

    now: float = 5000.0
    down: bool = False
    objects: dict[str, Kept] = field(default_factory=dict)
    published: list[tuple[float, str, Body, object]] = field(default_factory=list)
    events: list[tuple[float, Body]] = field(default_factory=list)
    tried: list[float] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    faults: dict[str, ApiFault] = field(default_factory=dict)
    event_fault: ApiFault | None = None
    meanwhile: Callable[[], object] | None = None

    def kept(self, key: str) -> Kept | None:
        return self.objects.get(key)

    def publish(self, kept: Kept, term: int, story: Body, record: Mapping[str, Any] | None) -> ApiFault | None:
        self.tried.append(self.now)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        if self.down or kept.key in self.faults:
            return self.faults.get(kept.key, LOST)
        self.published.append((self.now, kept.key, story, record))
        self.objects[kept.key] = replace(kept, status=story)
        return None

    def has_published(self, number: int) -> bool:
        return len(self.published) == number

    def forget(self, key: str) -> None:
        self.forgotten.append(key)

    def create(self, path: str, body: Body) -> Body | ApiFault:
        assert path == f"/apis/events.k8s.io/v1/namespaces/{body['metadata']['namespace']}/events"
        self.tried.append(self.now)
        if self.down or self.event_fault is not None:
            return self.event_fault or LOST
        self.events.append((self.now, body))
        return body

    def add(self, keys: Iterable[str], **changes: Any) -> None:
        for key in keys:
            namespace, _, name = key.partition("/")
            self.objects[key] = replace(Kept(f"uid of {name}", 1, namespace, name, {}), **changes)


class Desk:
    """A scribe over such a cluster, stepped by hand."""

    def __init__(self, *keys: str, terms: FakeLeadership | None = None, **changes: Any) -> None:
        self.cluster = Cluster()
        self.cluster.add(keys or (KEY,), **changes)
        self.leadership = terms or FakeLeadership([3])
        self.scribe = Scribe(self.cluster.kept, self.cluster, self.cluster, self.leadership, "pod-a", lambda: self.cluster.now)

    def report(self, *statuses: Status) -> None:
        for one in statuses:
            self.scribe.report(one)

    def run(self, seconds: float) -> None:
        """Let the writing thread's loop run so long."""
        ends = self.cluster.now + seconds
        while True:
            wait = self.scribe.step()
            if self.cluster.now + wait > ends:
                break
            self.cluster.now += wait
        self.cluster.now = ends

    def reasons(self) -> list[str]:
        return [told["reason"] for _, _, told, _ in self.cluster.published]

    def event_reasons(self) -> list[str]:
        return [body["reason"] for _, body in self.cluster.events]


def test_a_first_status_is_written_at_once_with_its_record() -> None:
    desk = Desk()
    desk.report(status(state={"format": 1}))
    desk.run(0.0)
    ((_, key, told, record),) = desk.cluster.published
    assert (key, told, record) == (KEY, story(status(), {}, 1), {"format": 1})
    assert (desk.scribe.writes, desk.scribe.failures) == (1, 0)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"reason": Reason.SCALE_UP}, id="reason"),
        pytest.param({"mode": Mode.RECOMMEND}, id="mode"),
        pytest.param({"conditions": DARK}, id="condition"),
    ],
)
def test_what_a_reader_acts_on_is_written_at_once(change: Mapping[str, Any]) -> None:
    desk = Desk()
    desk.report(status())
    desk.run(1.0)
    desk.report(status(now=1015.0, **change))
    desk.run(SPACING_S)
    assert len(desk.cluster.published) == 2


def test_a_new_generation_of_the_spec_is_observed_at_once() -> None:
    desk = Desk()
    desk.report(status())
    desk.run(1.0)
    desk.cluster.objects[KEY] = replace(desk.cluster.objects[KEY], generation=2)
    desk.report(status(now=1015.0))
    desk.run(SPACING_S)
    assert [told["observedGeneration"] for _, _, told, _ in desk.cluster.published] == [1, 2]


def test_what_only_moves_on_is_written_once_a_minute() -> None:
    desk = Desk()
    for tick in range(40):
        desk.report(status(now=1000.0 + tick * TICK_S))
        desk.run(TICK_S)
    times = [at for at, *_ in desk.cluster.published]
    assert len(times) == 10
    assert 30 <= times[1] - times[0] <= 90
    assert {round(later - earlier) for earlier, later in pairwise(times[1:])} == {60}


def test_500_quiet_fleets_are_500_writes_a_minute_spread_over_it_and_a_start_floods_nobody() -> None:
    keys = [f"models/fleet-{n}" for n in range(500)]
    desk = Desk(*keys)
    for tick in range(4):
        desk.report(*(status(key, now=1000.0 + tick * 30.0) for key in keys))
        desk.run(30.0)
    times = [at - 5000.0 for at, *_ in desk.cluster.published]
    assert len([at for at in times if at < 30]) == 500
    assert max(Counter(int(at) for at in times).values()) <= 20
    quiet_minute = [at for at in times if 60 <= at < 120]
    assert len(quiet_minute) == 500
    assert max(Counter(int(at) for at in quiet_minute).values()) <= 20


def test_a_new_leader_claims_at_once_also_what_is_told_already_and_has_no_news_of_it() -> None:
    """Or a predecessor that was paused could still write, until the fleet's slot comes."""
    desk = Desk(status=story(status(conditions=DARK), {}, 1))
    for term in (3, 4):
        desk.leadership.terms = [term]
        desk.report(status(now=1015.0, conditions=DARK))
        desk.run(1.0)
    assert [told["conditions"][1]["lastTransitionTime"] for _, _, told, _ in desk.cluster.published] == [
        "1970-01-01T00:16:40Z"
    ] * 2
    assert not desk.cluster.events


def test_the_newest_status_wins_while_an_older_one_waits() -> None:
    desk = Desk()
    for reason in (Reason.HOLD, Reason.COOLDOWN, Reason.SCALE_UP):
        desk.report(status(reason=reason))
    desk.run(1.0)
    assert desk.reasons() == ["ScaleUp"]


def test_a_status_reported_during_a_write_is_written_after_it() -> None:
    desk = Desk()
    desk.report(status())
    desk.cluster.meanwhile = lambda: desk.report(status(reason=Reason.COOLDOWN))
    desk.run(1.0)
    assert desk.reasons() == ["Hold", "Cooldown"]


def test_where_more_changes_than_can_be_told_everyone_has_his_turn() -> None:
    keys = [f"models/fleet-{n}" for n in range(60)]
    desk = Desk(*keys)
    for second in range(15):
        acted = Outcome(replace(UP.action, to_replicas=3 + second), (Verdict.APPLIED, Verdict.REFUSED)[second % 2])
        desk.report(*(status(key, now=1000.0 + second, outcomes=(acted,)) for key in keys))
        desk.run(1.0)
    told = Counter(key for _, key, _, _ in desk.cluster.published)
    events = Counter(body["regarding"]["name"] for _, body in desk.cluster.events)
    assert set(told) == set(keys)
    assert max(told.values()) - min(told.values()) <= 1
    assert len(events) == 60
    assert max(events.values()) - min(events.values()) <= 1


def test_without_the_leadership_nothing_is_kept_and_nothing_written() -> None:
    desk = Desk(terms=FakeLeadership([None]))
    desk.report(status(outcomes=(UP,)))
    desk.run(5.0)
    desk.leadership.terms = [4]
    desk.run(120.0)
    assert not desk.cluster.published
    assert not desk.cluster.events


def test_what_waits_when_the_leadership_ends_is_left_to_the_successor() -> None:
    desk = Desk()
    desk.report(status(outcomes=(UP,)))
    desk.leadership.terms = [None]
    desk.run(5.0)
    desk.leadership.terms = [5]
    desk.run(120.0)
    assert not desk.cluster.published
    assert not desk.cluster.events


def test_a_server_that_answers_nobody_is_asked_ever_more_rarely_and_told_the_newest_at_last() -> None:
    keys = [f"models/fleet-{n}" for n in range(50)]
    desk = Desk(*keys)
    desk.cluster.down = True
    for tick in range(40):
        desk.report(*(status(key, now=1000.0 + tick * TICK_S, outcomes=(UP,)) for key in keys))
        desk.run(TICK_S)
    pauses = [later - earlier for earlier, later in pairwise(desk.cluster.tried)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16] + [OUTAGE_S] * (len(pauses) - 5), abs=SPACING_S)
    assert desk.scribe.failures == len(desk.cluster.tried)
    desk.cluster.down = False
    desk.run(OUTAGE_S + 50 * 2 * SPACING_S + 1.0)
    newest = {key: told["lastTick"] for _, key, told, _ in desk.cluster.published}
    assert len(newest) == 50
    assert set(newest.values()) == {story(status(now=1000.0 + 39 * TICK_S), {}, 1)["lastTick"]}
    assert len(desk.cluster.events) == 50


def test_one_object_that_is_refused_costs_the_others_nothing_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(KEY, "models/broken")
    desk.cluster.faults["models/broken"] = FORBIDDEN
    for tick in range(40):
        desk.report(*(status(key, now=1000.0 + tick * TICK_S) for key in (KEY, "models/broken")))
        with caplog.at_level(logging.WARNING):
            desk.run(TICK_S)
    assert desk.scribe.writes == len(desk.cluster.published) == 10
    assert desk.scribe.failures <= 6 + 600 / BROKEN_S
    assert [record.getMessage() for record in caplog.records] == [
        "models/broken: its status was not written: Forbidden: may not patch pdautoscalers/status"
    ]


def test_an_action_is_told_after_the_status_and_once() -> None:
    desk = Desk()
    desk.report(status(outcomes=(UP,)))
    desk.run(1.0)
    assert desk.reasons() == desk.event_reasons() == ["ScaledUp"]
    assert desk.cluster.published[0][0] < desk.cluster.events[0][0]
    desk.run(120.0)
    assert len(desk.cluster.events) == 1


@pytest.mark.parametrize(
    ("fault", "tries"), [(FORBIDDEN, 1), (ApiFault(409, "AlreadyExists", "sent twice"), 1), (LOST, 3)], ids=["403", "409", "0"]
)
def test_an_event_is_sent_again_only_where_nobody_knows_whether_it_arrived(fault: ApiFault, tries: int) -> None:
    desk = Desk()
    desk.cluster.event_fault = fault
    desk.report(status(outcomes=(UP,)))
    desk.run(4.0)
    expected = 0 if fault.status == 409 else tries
    assert desk.scribe.failures == expected
    desk.cluster.event_fault = None
    desk.run(10.0)
    assert len(desk.cluster.events) == (1 if fault is LOST else 0)


def test_events_are_told_also_of_an_object_whose_status_is_never_taken() -> None:
    desk = Desk()
    desk.cluster.faults[KEY] = FORBIDDEN
    desk.report(status(outcomes=(UP,)))
    desk.run(5.0)
    assert desk.event_reasons() == ["ScaledUp"]


def test_an_object_that_is_gone_is_neither_written_nor_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.cluster.faults[KEY] = ApiFault(404, "NotFound", "gone")
    desk.report(status())
    desk.run(120.0)
    assert len(desk.cluster.tried) == 1
    assert not caplog.records


def test_a_fleet_that_is_managed_no_more_is_forgotten() -> None:
    desk = Desk()
    desk.report(status(outcomes=(UP,)))
    desk.scribe.forget(KEY)
    desk.run(120.0)
    assert not desk.cluster.published
    assert not desk.cluster.events
    assert desk.cluster.forgotten == [KEY]


def test_a_report_on_an_object_that_is_not_kept_is_dropped() -> None:
    desk = Desk()
    desk.report(status("models/other"))
    desk.run(120.0)
    assert desk.cluster.published == []


def test_an_object_made_anew_under_its_name_is_told_its_own_story() -> None:
    desk = Desk()
    desk.report(status())
    desk.run(1.0)
    desk.cluster.add([KEY], uid="another")
    desk.report(status(now=1015.0))
    desk.run(1.0)
    _, second = desk.cluster.published
    assert {one["lastTransitionTime"] for one in second[2]["conditions"]} == {"1970-01-01T00:16:55Z"}


def test_a_report_wakes_the_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scribe, "LOOK_S", 3600.0)
    cluster = Cluster()
    cluster.add([KEY])
    writer = Scribe(cluster.kept, cluster, cluster, FakeLeadership([3]), "pod-a")
    writer.start()
    writer.report(status())
    wait_until(partial(cluster.has_published, 1), "the first is written")
    time.sleep(3 * SPACING_S)  # now the writer sleeps
    writer.report(status(reason=Reason.COOLDOWN))
    wait_until(partial(cluster.has_published, 2), "the second is written")
    writer.stop()


@dataclass
class Frozen(Cluster):
    """A server that does not answer before it is `released`."""

    released: threading.Event = field(default_factory=threading.Event)

    def publish(self, kept: Kept, term: int, story: Body, record: Mapping[str, Any] | None) -> ApiFault | None:
        self.tried.append(self.now)
        self.released.wait(30.0)
        return LOST


@dataclass
class Hung(Frozen):
    """A server that hangs on one object."""

    hanging: int = 0

    def publish(self, kept: Kept, term: int, story: Body, record: Mapping[str, Any] | None) -> ApiFault | None:
        if kept.name != "hung":
            return Cluster.publish(self, kept, term, story, record)
        self.hanging += 1
        return super().publish(kept, term, story, record)


def test_a_report_never_waits_for_the_server_and_neither_does_the_end() -> None:
    cluster = Frozen()
    cluster.add([KEY])
    writer = Scribe(cluster.kept, cluster, cluster, FakeLeadership([3]), "pod-a")
    writer.start()
    writer.report(status())
    wait_until(lambda: bool(cluster.tried), "a write is under way")
    began = time.monotonic()
    for _ in range(100):
        writer.report(status())
    assert time.monotonic() - began < 1.0
    cluster.released.set()
    writer.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scribe")]


def test_an_object_whose_write_hangs_keeps_no_other_from_being_told_and_is_not_written_twice_at_once() -> None:
    cluster = Hung()
    cluster.add([KEY, "models/hung"])
    writer = Scribe(cluster.kept, cluster, cluster, FakeLeadership([3]), "pod-a")
    writer.start()
    writer.report(status("models/hung"))
    wait_until(lambda: cluster.hanging == 1, "its write hangs")
    writer.report(status("models/hung", reason=Reason.COOLDOWN))
    writer.report(status())
    wait_until(lambda: [key for _, key, *_ in cluster.published] == [KEY], "the other is told of")
    assert cluster.hanging == 1
    cluster.released.set()
    writer.stop()


@pytest.mark.parametrize("count", [1, 8])
def test_objects_whose_writes_hang_again_and_again_do_not_pass_for_a_server_that_is_down(count: int) -> None:
    sick = [f"models/sick-{number}" for number in range(count)]
    desk = Desk(KEY, *sick)
    desk.cluster.faults = dict.fromkeys(sick, LOST)
    desk.report(status(), *map(status, sick))
    desk.run(300.0)
    assert desk.cluster.published
    desk.report(status(now=1300.0, reason=Reason.COOLDOWN))
    desk.run(1.0)
    assert desk.cluster.published[-1][2]["reason"] == Reason.COOLDOWN


def test_a_bug_about_one_object_does_not_end_the_writing(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    cluster.add([KEY, "models/odd"])
    cluster.meanwhile = {}.popitem
    writer = Scribe(cluster.kept, cluster, cluster, FakeLeadership([3]), "pod-a")
    writer.start()
    writer.report(status("models/odd"))
    wait_until(lambda: "writing failed" in caplog.text, "it is logged")
    writer.report(status())
    wait_until(lambda: KEY in [key for _, key, *_ in cluster.published], "the other is told of")
    writer.stop()
