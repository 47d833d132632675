"""Is everything worth an Event told once, and nothing told for ever?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.adapters.kubernetes.events import BURST, FOLD_S, NOTE_BYTES, REFILL_S, Happening, Restraint, event, happenings
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.adapters.kubernetes.story import story
from autoscaler.core.action import Action, Mode, Outcome, Verdict
from autoscaler.core.conditions import Condition
from autoscaler.core.decide import Memory, decide
from autoscaler.core.fleet import Ended, Role
from autoscaler.core.observation import Gap, Observation, Signals
from autoscaler.core.reason import Finding, Reason, Stage
from autoscaler.core.status import Status, status_of, unreadable
from tests.fakes import KEY, fleet, policy, signals

FLEET = fleet()
KEPT = Kept("u1", 1, "models", "chat", {})
UP = Action(Role.PREFILL, 2, 5, Reason.DEMAND_ROSE)


def ticked(*outcomes: Outcome, said: Signals | None = None, mode: Mode = Mode.AUTO) -> Status:
    observation = Observation(1000.0, FLEET, said or signals(FLEET, 9.0))
    return status_of(observation, decide(observation, Memory(), policy(mode=mode)), outcomes, policy(mode=mode))


def told(status: Status, before: Status | None = None) -> list[tuple[str, str]]:
    """(type, reason) of what happens after `before`; None: nothing is stored yet."""
    stored = story(before, {}, 1) if before else {}
    return [("Warning" if one.warning else "Normal", one.reason) for one in happenings(status, stored)]


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(UP, Verdict.APPLIED), [("Normal", "ScaledUp")]),
        (Outcome(Action(Role.DECODE, 5, 4, Reason.DEMAND_FELL), Verdict.APPLIED), [("Normal", "ScaledDown")]),
        (Outcome(UP, Verdict.REFUSED, "quota"), [("Warning", "WriteRefused")]),
        (Outcome(UP, Verdict.FAILED, "no answer"), [("Warning", "WriteFailed")]),
        (Outcome(UP, Verdict.CONFLICT, "changed"), [("Warning", "WriteConflict")]),
        (Outcome(UP, Verdict.PENDING, "no answer yet"), []),
    ],
    ids=["scaled up", "scaled down", "refused", "failed", "conflict", "pending"],
)
def test_an_action_is_told_by_how_it_ended(outcome: Outcome, expected: list[tuple[str, str]]) -> None:
    assert told(ticked(outcome), ticked()) == expected


def test_a_condition_is_told_when_it_turns_bad_and_when_it_is_good_again_and_not_between() -> None:
    dark = ticked(said=Signals.unknown(Gap.TIMEOUT, "no answer"))
    assert told(dark) == told(dark, ticked()) == [("Warning", "SignalsTimeout")]
    assert told(dark, dark) == told(ticked(), ticked()) == told(ticked()) == []
    assert told(ticked(), dark) == [("Normal", "ValidMetricFound")]


def test_conditions_that_turn_for_one_reason_are_told_together() -> None:
    gone = unreadable(KEY, 1000.0, policy(), Finding(Stage.OBSERVE, Reason.FLEET_UNREADABLE, "no such object"))
    (one,) = happenings(gone, story(ticked(), {}, 1))
    assert one.note == "ScalingActive is False, Degraded is True: no such object"


def test_a_recommendation_is_no_event() -> None:
    busy = ticked(said=signals(FLEET, 22.0), mode=Mode.RECOMMEND)
    assert busy.plan.actions
    assert told(busy, ticked()) == []


def over(done: bool = True, *, to: Role = Role.PREFILL, why: str = "", forced: int = 0) -> Happening:
    """What is told of a transaction that has ended."""
    ended = Ended("drain-p-2-17", "drain", Role.PREFILL, to, done, why, forced, 42.4)
    (one,) = happenings(replace(ticked(), ended=(ended,)), story(ticked(), {}, 1))
    return one


def test_a_drain_and_a_flip_are_told_when_they_are_over() -> None:
    assert over() == Happening(False, "Drained", "Drain", "drain-p-2-17: done after 42 s", "drain-p-2-17")
    flip = over(to=Role.DECODE)
    assert (flip.warning, flip.reason, flip.action) == (False, "Flipped", "Flip")


def test_what_was_undone_and_what_cost_requests_is_a_warning() -> None:
    undone = over(False, why="not idle within 600 s")
    assert (undone.warning, undone.reason) == (True, "DrainUndone")
    assert undone.note == "drain-p-2-17: undone after 42 s: not idle within 600 s"
    assert over(False, to=Role.DECODE).reason == "FlipUndone"
    assert undone.topic == "prefill to prefill"  # the next one that fails alike is not told anew
    forced = over(forced=2, why="2 requests given up after 600 s")
    assert (forced.warning, forced.reason) == (True, "Drained")


def refusal(note: str = "prefill: quota", topic: str = "prefill") -> Happening:
    return Happening(True, "WriteRefused", "Scale", note, topic)


def test_the_same_again_is_told_once_in_ten_minutes_with_how_often_it_happened() -> None:
    restraint = Restraint()
    assert restraint.admit(refusal("used 6"), 0.0) == refusal("used 6")
    assert [restraint.admit(refusal(f"used {n}"), n * 15.0) for n in range(1, 40)] == [None] * 39
    again = restraint.admit(refusal("used 7"), FOLD_S)
    assert again == refusal("used 7 (39 times more since last told)")
    assert restraint.admit(refusal("used 8"), 2 * FOLD_S) == refusal("used 8")


def test_the_same_reason_of_another_role_is_another_thing() -> None:
    restraint = Restraint()
    assert restraint.admit(refusal(topic="prefill"), 0.0)
    assert restraint.admit(refusal(topic="decode"), 0.0)


def test_a_fleet_that_never_rests_tells_ten_things_and_then_one_a_minute() -> None:
    restraint = Restraint()
    at_once = [restraint.admit(refusal(topic=f"first {n}"), 0.0) for n in range(20)]
    assert [one is not None for one in at_once] == [True] * BURST + [False] * 10
    later = [n * 10.0 for n in range(1, 61) if restraint.admit(refusal(topic=str(n)), n * 10.0)]
    assert later == [n * REFILL_S for n in range(1, 11)]


def test_what_was_told_long_ago_is_forgotten() -> None:
    restraint = Restraint()
    for n in range(200):
        restraint.admit(refusal(topic=str(n)), n * REFILL_S)
    assert len(restraint._told) <= 2 * FOLD_S / REFILL_S + 1


def test_an_event_names_its_object_who_tells_it_and_when_to_the_microsecond() -> None:
    (one,) = happenings(ticked(Outcome(UP, Verdict.REFUSED, "exceeded quota")), story(ticked(), {}, 1))
    body = event(one, KEPT, "pod-a", 1_767_603_615.0, 0)
    assert body["eventTime"] == "2026-01-05T09:00:15.000000Z"
    assert body["regarding"]["uid"] == "u1"
    assert (body["reportingController"], body["reportingInstance"]) == ("pdautoscaler.io/controller", "pod-a")
    assert (body["type"], body["action"], body["note"]) == ("Warning", "Scale", "prefill: 2 -> 5 (DemandRose): exceeded quota")


def test_events_of_one_tick_have_names_of_their_own_and_one_sent_twice_the_same() -> None:
    names = [event(refusal(), KEPT, "pod-a", 1_767_603_615.25, number)["metadata"]["name"] for number in (0, 1, 1)]
    assert names == ["chat.647a049973650-0", "chat.647a049973650-1", "chat.647a049973650-1"]


@pytest.mark.parametrize("note", ["é" * 600, "x" * 1025, "日" * 342])
def test_a_note_too_long_is_cut_between_two_characters(note: str) -> None:
    cut = event(refusal(note), KEPT, "pod-a", 0.0, 0)["note"]
    assert NOTE_BYTES - 6 < len(cut.encode()) <= NOTE_BYTES
    assert note.startswith(cut.removesuffix("..."))


def test_a_note_that_has_room_is_left_as_it_is() -> None:
    assert event(refusal("x" * NOTE_BYTES), KEPT, "pod-a", 0.0, 0)["note"] == "x" * NOTE_BYTES


def test_able_to_scale_turns_with_a_write_and_has_no_event_of_its_own() -> None:
    unable = Condition("AbleToScale", False, "Refused", "quota")
    assert told(replace(ticked(), conditions=(unable,)), ticked()) == []
