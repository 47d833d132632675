"""Do sidecars hear of what engines say now, and of nothing that is old, partial or not ours to tell?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any

import pytest

from autoscaler import publishing
from autoscaler.controller import Controller
from autoscaler.core.calibration import CalibrationLimits, Trust
from autoscaler.core.decide import Memory
from autoscaler.core.fleet import Fleet, Phase, Pool, Replica, Role, SloKind
from autoscaler.core.observation import Gap, Gauges, Observation, Signals
from autoscaler.core.published import Judged
from autoscaler.core.qos import Promise, QosClass
from autoscaler.core.rejection import RejectionMode, Rules
from autoscaler.errands import AtOnce, Daemons
from autoscaler.ports import Fault, Managed
from autoscaler.publishing import ASKED_S, Publishing
from autoscaler.sidecar.state import Heard, read
from tests.fakes import KEY, FakeClock, FakeFleet, FakeLeadership, FakeRoster, ScriptedSignals, policy, signals

PROMISES = {SloKind.TTFT: Promise(20.0, 20.0, 20.0, 0.8), SloKind.TPOT: Promise(0.05, 0.05, 0.05, 0.5)}
RULES = Rules({"all": QosClass("all", PROMISES)}, "all", RejectionMode.ENFORCE)
POLICY = replace(policy(), calibration=CalibrationLimits(Trust.PROFILE))
FLEET = Fleet(
    KEY,
    {
        role: Pool(role, 4, tuple(Replica(f"{role}-{n}", Phase.SERVING, -1e5, address=f"10.0.0.{n}") for n in range(4)), 1)
        for role in Role
    },
)
MANAGED = Managed(KEY, "models", "chat", POLICY, judged=Judged(RULES, 429, "chat"))
NOW_S = 1000.0


@dataclass
class FakeStates:
    """Keeps what is published. `wanted`: which fleets sidecars ask for."""

    wanted: set[str] = field(default_factory=lambda: {KEY})
    published: list[Mapping[str, Any]] = field(default_factory=list)
    terms: list[int | None] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)

    def lead(self, term: int | None) -> None:
        """Keep."""
        self.terms.append(term)

    def asked(self, fleet: str, within_s: float) -> bool:
        """As told."""
        assert within_s == ASKED_S
        return fleet in self.wanted

    def publish(self, content: Mapping[str, Any]) -> None:
        """Keep."""
        self.published.append(content)

    def forget(self, fleet: str) -> None:
        """Keep."""
        self.forgotten.append(fleet)


@dataclass
class FakeEngines:
    """Every engine has `waiting` requests; the `silent` do not answer, and at one that hangs `hangs` is waited for."""

    waiting: float = 7.0
    silent: frozenset[str] = frozenset()
    hangs: Mapping[str, Event] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def gauges(self, fleet: Managed, replica: Replica, within_s: float) -> Gauges | Fault:
        """As told."""
        self.asked.append(replica.name)
        if replica.name in self.hangs:
            assert self.hangs[replica.name].wait(10)
        if replica.name in self.silent:
            return Fault("engine", "no answer")
        return Gauges(self.waiting, 1.0, 0.2, 0.0)


class Stage:
    """A room with every fake within reach, and a fleet that a tick has just seen."""

    def __init__(self, leadership: FakeLeadership | None = None, executor: AtOnce | Daemons | None = None) -> None:
        self.states, self.engines, self.clock, self.monotonic_s = FakeStates(), FakeEngines(), FakeClock(NOW_S), 50.0
        self.room = Publishing(
            self.states,
            self.engines,
            leadership or FakeLeadership([3]),
            self.clock.now,
            executor or AtOnce(),
            lambda: self.monotonic_s,
        )
        self.see()

    def see(self, seen: Signals | None = None, managed: Managed = MANAGED, fleet: Fleet = FLEET) -> None:
        """What a tick does at this moment."""
        self.room.note(managed, Observation(self.clock.at, fleet, seen or signals(fleet, 8.0)), Memory())

    def round(self) -> list[Mapping[str, Any]]:
        """What one round publishes."""
        before = len(self.states.published)
        self.room.round()
        return self.states.published[before:]


def heard(content: Mapping[str, Any]) -> Heard:
    found = read(json.dumps({**content, "epoch": 1, "sequence": 1, "issued_at": 5.0}).encode())
    assert isinstance(found, Heard), found
    return found


def test_what_engines_say_now_takes_the_place_of_what_the_tick_saw() -> None:
    stage = Stage()
    (content,) = stage.round()
    crowd = heard(content).text.crowds[Role.PREFILL]
    assert (crowd.waiting, crowd.running, crowd.age_s) == (28.0, 4.0, 0.0)
    assert content["offered_rps"] == 8.0
    assert sorted(stage.engines.asked) == sorted(f"{role}-{n}" for role in Role for n in range(4))


def test_a_sidecar_reads_the_rules_as_the_policy_has_them() -> None:
    (content,) = Stage().round()
    assert heard(content).rules == RULES


def test_nobody_is_asked_and_nothing_is_made_for_a_fleet_that_no_sidecar_asks_for() -> None:
    stage = Stage()
    stage.states.wanted.clear()
    assert stage.round() == []
    assert stage.engines.asked == []


def test_a_replica_that_does_not_answer_is_taken_to_be_as_its_peers() -> None:
    stage = Stage()
    stage.engines.silent = frozenset({"prefill-0", "prefill-1"})
    (content,) = stage.round()
    assert content["crowds"][Role.PREFILL]["waiting"] == 28.0


def test_where_most_of_a_role_is_silent_nothing_is_published() -> None:
    stage = Stage()
    stage.engines.silent = frozenset({"prefill-0", "prefill-1", "prefill-2"})
    assert stage.round() == []


def test_why_a_fleet_is_not_told_of_is_logged_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    stage.engines.silent = frozenset({"prefill-0", "prefill-1", "prefill-2"})
    stage.round()
    stage.round()
    stage.engines.silent = frozenset()
    stage.round()
    stage.round()
    trouble = "sidecars are not told, and let everybody in: 1 of 4 prefill engines say how full they are; no answer"
    assert [record.message for record in caplog.records] == [f"{KEY}: {trouble}", f"{KEY}: sidecars are told again"]


def test_fleets_beyond_what_can_be_asked_in_a_second_are_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(publishing, "MOST", 15)
    stage, other = Stage(), replace(FLEET, key="models/other")
    stage.see(fleet=other, managed=replace(MANAGED, key=other.key))
    stage.states.wanted.add(other.key)
    assert [content["fleet"] for content in stage.round()] == [KEY]
    assert f"{other.key}: sidecars are not told, and let everybody in: its 8 engines are too many beside 8 others" in caplog.text


def test_with_prometheus_dark_the_engines_are_enough() -> None:
    stage = Stage()
    stage.see(Signals.unknown(Gap.UNREACHABLE, "dark"))
    (content,) = stage.round()
    assert content["crowds"][Role.PREFILL]["waiting"] == 28.0
    assert content["offered_rps"] is None


def test_where_rejection_is_off_no_engine_is_asked_and_sidecars_hear_of_it_once_a_tick() -> None:
    stage = Stage()
    off = replace(MANAGED, judged=Judged(replace(RULES, mode=RejectionMode.OFF), 429, "chat"))
    stage.see(managed=off)
    (content,) = stage.round()
    assert heard(content).rules.mode is RejectionMode.OFF
    assert stage.round() == []
    stage.clock.at += 15
    stage.see(managed=off)
    assert len(stage.round()) == 1
    assert stage.engines.asked == []


def test_without_addresses_the_gauges_of_the_tick_are_told_with_their_age() -> None:
    stage = Stage()
    nowhere = {
        role: replace(pool, replicas=tuple(replace(one, address="") for one in pool.replicas))
        for role, pool in FLEET.pools.items()
    }
    stage.see(fleet=replace(FLEET, pools=nowhere))
    stage.clock.at += 2
    (content,) = stage.round()
    assert content["crowds"][Role.PREFILL]["age_s"] == 7.0  # 5 s old when the tick saw them


def test_a_fleet_that_no_tick_has_seen_for_long_is_not_told_of() -> None:
    stage = Stage()
    stage.clock.at += POLICY.freshness.max_age_s + 1
    assert stage.round() == []
    stage.see()
    assert len(stage.round()) == 1


def test_who_does_not_lead_asks_nobody_and_publishes_nothing() -> None:
    stage = Stage(FakeLeadership([None]))
    assert stage.round() == []
    assert stage.engines.asked == []
    assert stage.states.terms == [None]


def test_a_new_term_tells_again_what_an_older_one_has_told() -> None:
    stage = Stage(FakeLeadership([3, None, 5]))
    stage.see(managed=replace(MANAGED, judged=Judged(replace(RULES, mode=RejectionMode.OFF), 429, "chat")))
    assert [len(stage.round()) for _ in range(3)] == [1, 0, 1]
    assert stage.states.terms == [3, None, 5]


def test_a_fleet_that_is_forgotten_is_told_of_no_more() -> None:
    stage = Stage()
    stage.room.forget(KEY)
    assert stage.round() == []
    assert stage.states.forgotten == [KEY]


def test_a_hanging_engine_delays_no_other_fleet_and_is_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "WITHIN_S", 0.05)
    stage, free = Stage(executor=Daemons(16)), Event()
    other = Fleet("models/other", {role: replace(pool) for role, pool in FLEET.pools.items()})
    stage.see(fleet=other, managed=replace(MANAGED, key=other.key))
    stage.states.wanted.add(other.key)
    stage.engines.hangs = {"prefill-0": free}
    asked_of: list[str] = []
    plain = stage.engines.gauges

    def gauges(fleet: Managed, replica: Replica, within_s: float) -> Gauges | Fault:
        asked_of.append(f"{fleet.key} {replica.name}")
        return plain(fleet, replica, within_s) if fleet.key == KEY else Gauges(1.0, 1.0, 0.2, 0.0)

    monkeypatch.setattr(stage.engines, "gauges", gauges)
    try:
        assert [content["fleet"] for content in stage.round()] == [other.key, KEY]
        stage.round()
        assert asked_of.count(f"{KEY} prefill-0") == 1
        assert asked_of.count(f"{KEY} prefill-1") == 2
    finally:
        free.set()


def test_the_controller_leaves_what_it_saw_and_what_is_gone() -> None:
    stage = Stage()
    stage.room.forget(KEY)
    roster, clock = FakeRoster([MANAGED]), FakeClock(NOW_S)
    source = ScriptedSignals({KEY: signals(FLEET, 8.0)})
    controller = Controller(roster, clock, source, FakeFleet(FLEET), publishing=stage.room)
    controller.tick()
    (content,) = stage.round()
    assert content["model_name"] == "chat"
    assert content["shape"]["prompt_tokens"] == 1000.0
    roster.entries.clear()
    controller.tick()
    assert stage.round() == []


def test_a_fleet_nobody_may_be_told_of_is_left_alone() -> None:
    stage = Stage()
    stage.room.forget(KEY)
    stage.see(managed=replace(MANAGED, judged=None))
    assert stage.round() == []
