"""Does one fleet's trouble stay its own, and does a fault end in Hold with its reason and never in a crash?"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from autoscaler.controller import Controller
from autoscaler.core.action import Action, Flip, Mode, Outcome, Verdict
from autoscaler.core.fleet import Fleet, Phase, Role
from autoscaler.core.observation import Gap, Signals
from autoscaler.core.policy import Policy
from autoscaler.core.reason import Finding, Reason
from autoscaler.core.reason import Stage as Step
from autoscaler.core.status import Status
from autoscaler.errands import Daemons, Pace
from autoscaler.ports import Fault, FleetScope, Managed, Unusable
from tests.fakes import FakeClock, FakeFleet, FakeLeadership, FakeRoster, FakeSink, ScriptedSignals, fleet, policy, pool, signals

A, B, C = "models/a", "models/b", "models/c"


class Stage:
    """A controller over fleets of 2 and 2 that all see the same load, with every fake within reach."""

    def __init__(
        self, *keys: str, rps: float = 22.0, wanted: dict[str, Policy] | None = None, cluster: type[FakeFleet] = FakeFleet
    ) -> None:
        self.clock, self.sinks = FakeClock(), [FakeSink(), FakeSink()]
        self.cluster, self.signals = cluster(*(fleet(key=key) for key in keys)), ScriptedSignals()
        self.roster = FakeRoster([Managed(key, "models", key, (wanted or {}).get(key, policy())) for key in keys])
        self.restart()
        self.see(rps)

    def restart(self, leadership: FakeLeadership | None = None, pace: Pace | None = None) -> None:
        """A new controller that knows nothing of what the old one saw."""
        doors = self.clock, self.signals, self.cluster
        self.controller = Controller(self.roster, *doors, self.sinks, leadership, pace=pace)

    def see(self, rps: float) -> None:
        """From now on every fleet sees this load."""
        self.signals.script = {key: signals(seen, rps) for key, seen in self.cluster.fleets.items()}

    def tick(self, after_s: float = 15.0) -> dict[str, Status]:
        """The next tick's statuses by fleet."""
        self.clock.at += after_s
        return {status.key: status for status in self.controller.tick()}

    def desired(self, key: str) -> list[int]:
        """What is asked for, prefill first."""
        return [members.desired for members in self.cluster.fleets[key].pools.values()]


def reasons(status: Status) -> set[Reason]:
    return {finding.reason for finding in status.plan.findings}


def test_a_tick_reads_decides_acts_and_reports_in_the_order_of_management() -> None:
    stage = Stage(B, A)
    statuses = stage.tick()
    assert list(statuses) == [B, A]
    assert stage.desired(A) == stage.desired(B) == [5, 5]
    assert [key for key, _ in stage.cluster.applied] == [B, B, A, A]
    assert [status.key for status in stage.sinks[0].reported] == [B, A]
    assert [outcome.verdict for outcome in statuses[A].outcomes] == [Verdict.APPLIED] * 2


def test_signals_of_all_fleets_are_asked_for_in_one_call() -> None:
    keys = [f"models/{number}" for number in range(100)]
    stage = Stage(*keys)
    assert len(stage.tick()) == 100
    assert stage.signals.reads == [tuple(keys)]


def test_what_is_told_of_the_first_fleets_is_acted_on_before_the_last_ones_are_asked_about() -> None:
    """A thousand fleets are decoded for two seconds; a write waits for its own part only."""
    stage = Stage(A, B, C)
    written: list[int] = []

    class Watched(ScriptedSignals):
        def read(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
            for part in super().read(scopes, now):
                written.append(len(stage.cluster.applied))
                yield part

    stage.signals = Watched(part=1)
    stage.restart()
    stage.see(22.0)
    assert list(stage.tick()) == [A, B, C]
    assert written == [0, 2, 4]


def test_a_source_that_breaks_half_way_holds_only_those_it_has_not_told_of() -> None:
    stage = Stage(A, B)

    class Broken(ScriptedSignals):
        def read(self, scopes: Sequence[FleetScope], now: float) -> Iterator[Mapping[str, Signals]]:
            yield next(super().read(scopes, now))
            raise RuntimeError("a bug")

    stage.signals = Broken(part=1)
    stage.restart()
    stage.see(22.0)
    assert Reason.SIGNALS_MALFORMED in reasons(stage.tick()[B])
    assert (stage.desired(A), stage.desired(B)) == ([5, 5], [2, 2])


def test_a_scope_names_the_pods_that_have_work_now() -> None:
    seen = fleet(pool(Role.PREFILL, 3, serving=2, starting=1, draining=1), pool(Role.DECODE, 1, stuck=1))
    scope = Managed(A, "models", "m", policy(), gateway="llm-d", queries={"x": "up"}).scope(seen, 0.0)
    assert scope.pods == {Role.PREFILL: ("prefill-0", "prefill-1", "prefill-3"), Role.DECODE: ("decode-0",)}
    assert (scope.key, scope.model, scope.engine, scope.gateway, scope.queries) == (A, "m", "vllm", "llm-d", {"x": "up"})


def test_a_scope_tells_for_one_window_who_changed_its_role() -> None:
    seen = fleet(pool(Role.PREFILL, 3), pool(Role.DECODE, 1))
    first, *others = seen.pools[Role.PREFILL].replicas
    moved = replace(seen.pools[Role.PREFILL], replicas=(replace(first, moved_s=100.0), *others))
    managed, flipped = (
        Managed(A, "models", "m", policy(), window_s=60.0),
        replace(seen, pools={**seen.pools, Role.PREFILL: moved}),
    )
    assert [managed.scope(flipped, now).moved for now in (100.0, 159.0, 160.0)] == [{"prefill-0"}, {"prefill-0"}, frozenset()]


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        pytest.param(Fault("cluster", "connection refused"), "cluster: connection refused", id="a fault"),
        pytest.param(RuntimeError("a bug"), "fleet: RuntimeError: a bug", id="a bug"),
    ],
)
def test_a_fleet_that_cannot_be_read_holds_and_the_others_go_on(trouble: Fault | Exception, text: str) -> None:
    stage = Stage(A, B, C)
    stage.cluster.unreadable[B] = trouble
    statuses = stage.tick()
    assert [(f.reason, f.text) for f in statuses[B].plan.findings] == [(Reason.FLEET_UNREADABLE, text)]
    assert (stage.desired(A), stage.desired(B), stage.desired(C)) == ([5, 5], [2, 2], [5, 5])
    assert stage.signals.reads == [(A, C)]


def test_when_the_signal_source_has_a_bug_every_fleet_holds_and_the_next_tick_acts() -> None:
    stage = Stage(A, B)
    stage.signals.script = RuntimeError("a bug")
    for status in stage.tick().values():
        assert Reason.SIGNALS_MALFORMED in reasons(status)
    assert stage.cluster.applied == []
    stage.see(22.0)
    stage.tick()
    assert stage.desired(A) == [5, 5]


def test_a_fleet_that_the_signal_source_forgot_holds() -> None:
    stage = Stage(A, B)
    stage.signals.script = {A: signals(stage.cluster.fleets[A], 22.0)}
    assert Reason.SIGNALS_MISSING in reasons(stage.tick()[B])
    assert (stage.desired(A), stage.desired(B)) == ([5, 5], [2, 2])


def test_a_decision_that_breaks_holds_its_fleet_only(caplog: pytest.LogCaptureFixture) -> None:
    """A pool of a role that the policy says nothing of: a bug of ours, told with its traceback."""
    stage = Stage(A, B, wanted={A: replace(policy(), pools={})})
    with caplog.at_level(logging.ERROR):
        statuses = stage.tick()
    assert reasons(statuses[A]) == {Reason.INTERNAL_ERROR}
    assert (stage.desired(A), stage.desired(B)) == ([2, 2], [5, 5])
    assert [record.exc_info is not None for record in caplog.records] == [True]


@pytest.mark.parametrize("answer", [Verdict.REFUSED, Verdict.FAILED, RuntimeError("a bug")])
def test_a_write_that_fails_holds_up_neither_the_other_role_nor_the_other_fleet(answer: Verdict | Exception) -> None:
    """A prefill pool that nobody lets us change must not starve decode for good."""
    stage = Stage(A, B)
    stage.cluster.answers[A, Role.PREFILL] = answer
    outcomes = stage.tick()[A].outcomes
    assert (stage.desired(A), stage.desired(B)) == ([2, 5], [5, 5])
    failed = Verdict.FAILED if isinstance(answer, Exception) else answer
    assert [outcome.verdict for outcome in outcomes] == [failed, Verdict.APPLIED]


def test_a_write_that_raised_still_shows_the_whole_fleet_and_what_went_wrong() -> None:
    stage = Stage(A)
    stage.cluster.answers[A, Role.PREFILL] = RuntimeError("a bug")
    status = stage.tick()[A]
    assert status.outcomes[0].detail == "RuntimeError: a bug"
    assert set(status.pools) == set(Role)


def test_after_a_conflict_the_rest_of_the_plan_waits_for_the_next_tick() -> None:
    stage = Stage(A, B)
    stage.cluster.answers[A, Role.PREFILL] = Verdict.CONFLICT
    assert [outcome.verdict for outcome in stage.tick()[A].outcomes] == [Verdict.CONFLICT]
    assert (stage.desired(A), stage.desired(B)) == ([2, 2], [5, 5])
    stage.cluster.answers.clear()
    stage.tick()
    assert stage.desired(A) == [5, 5]


class Meddled(FakeFleet):
    """Somebody scales by hand just before each write."""

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        self.scale(key, action.roles[0], 7, now)
        return super().apply(key, action, now, term)


def test_an_action_carries_what_it_was_decided_on_so_that_a_human_in_between_wins() -> None:
    stage = Stage(A, cluster=Meddled)
    assert [outcome.verdict for outcome in stage.tick()[A].outcomes] == [Verdict.CONFLICT]
    assert stage.desired(A) == [7, 2]


@pytest.mark.parametrize("spoil", [0, 1])
def test_a_sink_that_fails_keeps_no_other_sink_or_fleet_from_being_reported(spoil: int) -> None:
    stage = Stage(A, B)
    stage.sinks[spoil].error = OSError("disk full")
    stage.tick()
    assert [status.key for status in stage.sinks[1 - spoil].reported] == [A, B]
    assert stage.desired(B) == [5, 5]


def quiet(stage: Stage, seconds: float) -> None:
    for _ in range(int(seconds / 15)):
        stage.tick()


Break = Callable[[Stage], None]


def unreadable(stage: Stage) -> None:
    stage.cluster.unreadable[A] = Fault("cluster", "down")


def dark(stage: Stage) -> None:
    stage.signals.script = {A: Signals.unknown(Gap.TIMEOUT, "dark")}


@pytest.mark.parametrize("trouble", [unreadable, dark])
@pytest.mark.parametrize(("lasts_s", "window_s"), [(30.0, 0.0), (90.0, 300.0)])
def test_memory_outlives_a_short_trouble_and_a_long_one_starts_the_window_anew(
    trouble: Break, lasts_s: float, window_s: float
) -> None:
    """Five quiet minutes allow a shrink. Half a minute of trouble in between costs nothing, more than one the window."""
    stage = Stage(A, rps=4.0)
    quiet(stage, 285.0)
    script = stage.signals.script
    trouble(stage)
    quiet(stage, lasts_s)
    assert stage.desired(A) == [2, 2]
    stage.cluster.unreadable.clear()
    stage.signals.script = script
    quiet(stage, window_s)
    assert stage.desired(A) == [2, 2]
    stage.tick()
    assert stage.desired(A) == [1, 1]


def test_what_was_seen_is_remembered_even_while_every_write_fails() -> None:
    stage = Stage(A, rps=4.0)
    for role in Role:
        stage.cluster.answers[A, role] = RuntimeError("a bug")
    quiet(stage, 600.0)
    assert stage.desired(A) == [2, 2]
    stage.cluster.answers.clear()
    stage.tick()
    assert stage.desired(A) == [1, 1]


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.RECOMMEND])
def test_outside_auto_the_gateway_is_only_read(mode: Mode) -> None:
    stage = Stage(A, wanted={A: policy(mode=mode)})
    quiet(stage, 600.0)
    assert stage.cluster.applied == []


def test_a_new_controller_shrinks_nothing_before_its_own_window() -> None:
    stage = Stage(A, rps=4.0)
    quiet(stage, 285.0)
    stage.restart()
    quiet(stage, 300.0)
    assert stage.desired(A) == [2, 2]
    stage.tick()
    assert stage.desired(A) == [1, 1]


def test_replicas_that_were_asked_for_come_up_and_take_part() -> None:
    """The loop closed through the gateway: asked for at 15 s, serving at 75 s, and no action in between."""
    stage = Stage(A)
    stage.cluster.start_s = 60.0
    for _ in range(5):
        stage.tick()
        stage.see(22.0)
    seen = stage.cluster.read(A, stage.clock.at)
    assert isinstance(seen, Fleet)
    assert [len(members.in_phase(Phase.SERVING)) for members in seen.pools.values()] == [5, 5]
    assert len(stage.cluster.applied) == 2


def test_who_does_not_lead_decides_and_tells_but_writes_nothing() -> None:
    stage = Stage(A)
    stage.restart(FakeLeadership([None]))
    status = stage.tick()[A]
    assert stage.cluster.applied == []
    assert len(status.plan.actions) == 2
    assert Reason.STANDING_BY in reasons(status)


def test_leading_is_asked_before_every_write() -> None:
    """The term ends between the first write and the second."""
    stage = Stage(A)
    stage.restart(FakeLeadership([3, None]))
    status = stage.tick()[A]
    assert len(stage.cluster.applied) == len(status.outcomes) == 1
    assert stage.cluster.terms == [3]
    assert Reason.STANDING_BY in reasons(status)


def test_who_leads_does_not_say_that_it_stands_by() -> None:
    stage = Stage(A)
    stage.restart(FakeLeadership([0]))
    assert Reason.STANDING_BY not in reasons(stage.tick()[A])
    assert len(stage.cluster.applied) == 2


def test_a_successor_that_watched_need_not_wait_for_a_window() -> None:
    """It saw five quiet minutes while another led; the moment it leads it may shrink."""
    stage, leadership = Stage(A, rps=4.0), FakeLeadership([None])
    stage.restart(leadership)
    quiet(stage, 300.0)
    assert stage.desired(A) == [2, 2]
    leadership.terms = [1]
    stage.tick()
    assert stage.desired(A) == [1, 1]


class Hanging(FakeFleet):
    """`hanging` names whose reads and writes hang until `released`, as those of a server that does not answer."""

    def __init__(self, *fleets: Fleet) -> None:
        super().__init__(*fleets)
        self.hanging: set[tuple[str, str]] = set()
        self.released, self.asked = threading.Event(), Counter[tuple[str, str]]()

    def read(self, key: str, now: float) -> Fleet | Fault:
        self._wait("read", key)
        return super().read(key, now)

    def apply(self, key: str, action: Action | Flip, now: float, term: int) -> Outcome:
        self._wait("apply", key)
        return super().apply(key, action, now, term)

    def _wait(self, what: str, key: str) -> None:
        self.asked[what, key] += 1
        if (what, key) in self.hanging:
            assert self.released.wait(30)


@pytest.fixture
def hanging() -> Iterator[tuple[Stage, Hanging]]:
    """A controller over three fleets with errands in threads, and its gateway."""
    stage = Stage(A, B, C, cluster=Hanging)
    assert isinstance(stage.cluster, Hanging)
    stage.restart(pace=Pace(Daemons(), grace_s=0.1))
    yield stage, stage.cluster
    stage.cluster.released.set()


def until_ended(stage: Stage, key: str, verdict: Verdict) -> list[Outcome]:
    """The first outcomes of a fleet that bear this verdict; the errand's thread needs a moment to come home."""
    for _ in range(100):
        outcomes = stage.tick()[key].outcomes
        if verdict in [outcome.verdict for outcome in outcomes]:
            return list(outcomes)
        time.sleep(0.01)
    raise AssertionError(f"{key} never told {verdict}")


def test_a_fleet_whose_reading_hangs_is_held_asked_once_and_holds_up_nobody(hanging: tuple[Stage, Hanging]) -> None:
    stage, cluster = hanging
    cluster.hanging.add(("read", B))
    for _ in range(3):
        statuses = stage.tick()
        assert reasons(statuses[B]) == {Reason.FLEET_UNREADABLE}
    assert (stage.desired(A), stage.desired(B), stage.desired(C)) == ([5, 5], [2, 2], [5, 5])
    assert cluster.asked["read", B] == 1
    cluster.hanging.clear()
    cluster.released.set()
    until_ended(stage, B, Verdict.APPLIED)
    assert stage.desired(B) == [5, 5]


def test_a_write_that_hangs_is_told_as_pending_and_is_not_repeated_before_it_ended(hanging: tuple[Stage, Hanging]) -> None:
    stage, cluster = hanging
    cluster.hanging.add(("apply", B))
    first = stage.tick()
    assert [outcome.verdict for outcome in first[B].outcomes] == [Verdict.PENDING] * 2
    assert [outcome.verdict for outcome in first[A].outcomes] == [Verdict.APPLIED] * 2
    second = stage.tick()[B]
    assert Reason.WRITE_PENDING in reasons(second)
    assert cluster.asked["apply", B] == 1
    assert stage.desired(C) == [5, 5]
    cluster.hanging.clear()
    cluster.released.set()
    assert [outcome.verdict for outcome in until_ended(stage, B, Verdict.APPLIED)] == [Verdict.APPLIED]
    assert stage.desired(B) == [5, 2], "the rest was decided on what stood there many ticks ago"
    stage.tick()
    assert stage.desired(B) == [5, 5]


def test_a_write_found_at_a_later_tick_is_told_once(hanging: tuple[Stage, Hanging]) -> None:
    stage, cluster = hanging
    cluster.hanging.add(("apply", B))
    stage.tick()
    cluster.hanging.clear()
    cluster.released.set()
    assert [outcome.action.roles for outcome in until_ended(stage, B, Verdict.APPLIED)] == [(Role.PREFILL,)]
    assert [outcome.action.roles for outcome in until_ended(stage, B, Verdict.APPLIED)] == [(Role.DECODE,)]
    assert stage.tick()[B].outcomes == ()


def test_the_first_look_waits_for_slow_lists_and_the_first_tick_then_does_not() -> None:
    stage = Stage(A, cluster=Hanging)
    cluster = stage.cluster
    assert isinstance(cluster, Hanging)
    cluster.hanging.add(("read", A))
    stage.restart(pace=Pace(Daemons(), grace_s=0.1, warm_s=30.0))
    threading.Timer(0.3, cluster.released.set).start()
    stage.controller.warm()
    assert Reason.FLEET_UNREADABLE not in reasons(stage.tick()[A])


def test_a_fleet_that_hangs_longer_than_the_first_look_is_not_read_twice_at_once(hanging: tuple[Stage, Hanging]) -> None:
    stage, cluster = hanging
    cluster.hanging.add(("read", B))
    stage.restart(pace=Pace(Daemons(), grace_s=0.1, warm_s=0.1))
    stage.controller.warm()
    assert reasons(stage.tick()[B]) == {Reason.FLEET_UNREADABLE}
    assert cluster.asked["read", B] == 1


def test_a_hundred_fleets_that_hang_leave_hands_for_the_others() -> None:
    sick = [f"models/{number}" for number in range(100)]
    stage = Stage(*sick, A, cluster=Hanging)
    assert isinstance(stage.cluster, Hanging)
    stage.cluster.hanging.update(("apply", key) for key in sick)
    stage.restart(pace=Pace(Daemons(), grace_s=0.1))
    stage.tick()
    assert stage.desired(A) == [5, 5]
    assert Reason.FLEET_UNREADABLE not in reasons(stage.tick()[A])
    stage.cluster.released.set()


def test_fleets_come_and_go_while_the_controller_runs() -> None:
    stage = Stage(A, B)
    there = stage.roster.entries.pop()
    assert list(stage.tick()) == [A]
    stage.roster.entries.append(there)
    assert list(stage.tick()) == [A, B]
    stage.roster.entries.remove(there)
    stage.tick()
    assert [sink.forgotten for sink in stage.sinks] == [[B], [B]]
    assert stage.desired(B) == [5, 5]


def test_a_policy_that_cannot_be_used_holds_its_fleet_with_the_reason_and_no_other() -> None:
    stage = Stage(A, B)
    finding = Finding(Step.OBSERVE, Reason.INVALID_POLICY, "spec.profile: a0 must be above 0")
    stage.roster.entries[1] = Unusable(B, finding)
    statuses = stage.tick()
    assert reasons(statuses[B]) == {Reason.INVALID_POLICY}
    assert (stage.desired(A), stage.desired(B)) == ([5, 5], [2, 2])
    assert stage.signals.reads == [(A,)]


def test_memory_survives_a_policy_that_is_broken_and_mended_but_not_another_object_of_its_name() -> None:
    """Five quiet minutes allow a shrink, though the policy was unusable for a moment; not for one made anew."""
    for mended_as, expected in (("", [1, 1]), ("another-uid", [2, 2])):
        stage = Stage(A, rps=4.0)
        quiet(stage, 285.0)
        (before,) = stage.roster.entries
        stage.roster.entries = [Unusable(A, Finding(Step.OBSERVE, Reason.INVALID_POLICY, "mistyped"))]
        stage.tick()
        assert isinstance(before, Managed)
        stage.roster.entries = [replace(before, uid=mended_as)]
        quiet(stage, 30.0)
        assert stage.desired(A) == expected


def test_what_an_earlier_leader_left_and_nobody_here_can_read_holds_the_fleet_and_is_left_alone() -> None:
    stage = Stage(A, B)
    stage.roster.entries[0] = Managed(A, "models", A, policy(), state={"format": 99})
    status = stage.tick()[A]
    assert reasons(status) == {Reason.STATE_UNREADABLE}
    assert status.state is None
    assert (stage.desired(A), stage.desired(B)) == ([2, 2], [5, 5])


def test_each_fleet_is_looked_at_as_often_as_its_owner_wants() -> None:
    """A beat of 1 s; one fleet wants every 5 s, one every 15 s. Their looks fall together, so that one query serves both."""
    stage = Stage(A, B)
    stage.roster.entries = [Managed(A, "models", A, policy(), tick_s=5.0), Managed(B, "models", B, policy(), tick_s=15.0)]
    stage.restart(pace=Pace(beat_s=1.0))
    stage.clock.at = 1000.3
    looks = [tuple(stage.tick(after_s=1.0)) for _ in range(60)]
    assert [look for look in looks[1:] if look].count((A, B)) == 4
    assert [look for look in looks[1:] if look].count((A,)) == 8
