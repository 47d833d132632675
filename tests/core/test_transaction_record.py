"""Can the next leader read what this one has written of a transaction, to the last word, and does it refuse half of one?"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.core.fleet import Role
from autoscaler.core.reading import Refused
from autoscaler.core.transaction import IN_PLACE, OVER, PATHS, UNDO, Change, Kind, Step, Transaction, Victim, begun, split
from autoscaler.core.transaction_record import LONGEST_WHY, record, restored

NOW = 1_800_000_000.0
PREFILL, DECODE = Role
UID = "5f0c2f3e-7a1d-4c55-9d6b-0c7f6f1b2a3d"
DRAIN = Change(Kind.DRAIN, DECODE, DECODE, (Victim("llama-decode-4", UID),), {DECODE: 5}, {DECODE: 4})
ONE = replace(
    begun("drain-llama-decode-4-1800000000", 7, DRAIN, NOW - 9.0), step=Step.IDLE, since_s=NOW - 4.75, away_s=NOW - 4.75
)
TOLD = {
    "key": "drain-llama-decode-4-1800000000",
    "epoch": 7,
    "kind": "drain",
    "from": "decode",
    "to": "decode",
    "victims": [["llama-decode-4", UID]],
    "step": "idle",
    "since_s": NOW - 4.75,
    "started_s": NOW - 9.0,
    "away_s": NOW - 4.75,
    "before": {"decode": 5},
    "after": {"decode": 4},
}
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40)
moments = st.integers(0, int(NOW * 1000)).map(lambda ms: ms / 1000)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Any change that can be begun."""
    kind, of = draw(st.sampled_from(Kind)), draw(st.sampled_from(Role))
    to = of if kind is Kind.DRAIN else next(role for role in Role if role is not of)
    victims = tuple(Victim(name, UID) for name in draw(st.lists(names, min_size=1, max_size=3, unique=True)))
    if kind in IN_PLACE:
        return Change(kind, of, to, victims[:1])
    count, more = draw(st.integers(len(victims), 2000)), draw(st.integers(1, 4))
    before, after = {of: count}, {of: count - len(victims)}
    if to is of:
        return Change(kind, of, to, victims, before, after)
    return Change(kind, of, to, victims, before | {to: 3}, after | {to: 3 + more})


@st.composite
def transactions(draw: st.DrawFn, key: str = "one") -> Transaction:
    """One at any step of its path, or of a way back."""
    change = draw(changes())
    step: Step = draw(st.sampled_from(PATHS[change.kind]))
    started_s = draw(moments)
    one = replace(begun(key, draw(st.integers(0, 999)), change, started_s), step=step, forced=draw(st.integers(0, 50)))
    one = replace(one, away_s=draw(st.none() | moments), since_s=draw(moments))
    if (change.kind, step) in UNDO and draw(st.booleans()):
        one = one.returning(draw(st.text(max_size=LONGEST_WHY)), one.since_s)
        for _ in range(draw(st.integers(0, len(one.back)))):
            one = one.onward(one.since_s)
    return one


def changed(**fields: object) -> list[dict[str, Any]]:
    """The documented record with some of its fields others; `...`: without it."""
    return [{name: value for name, value in {**TOLD, **fields}.items() if value is not ...}]


def test_the_record_is_what_it_is_documented_to_be() -> None:
    """As it lies on clusters: the next release must read it."""
    assert record([ONE]) == [TOLD]
    assert restored(json.loads(json.dumps(record([ONE]))), NOW) == (ONE,)


@given(st.lists(transactions(), max_size=2))
def test_what_was_told_comes_back_to_the_last_word(told: list[Transaction]) -> None:
    named = [replace(one, key=f"{one.key}-{at}") for at, one in enumerate(told)]
    assert list(restored(json.loads(json.dumps(record(named))), NOW)) == named


def test_a_part_that_was_split_off_and_one_that_is_over_come_back_too() -> None:
    two = replace(DRAIN, victims=(Victim("d-3", UID), Victim("d-4", UID)), after={DECODE: 3})
    parts = split(begun("x", 1, two, NOW), 1, "wanted again", NOW)
    assert restored(record(parts), NOW) == parts
    ends = [replace(ONE, step=Step.DONE, key="a"), replace(ONE, step=Step.UNDONE, undoing=True, key="b")]
    assert restored(record(ends), NOW) == tuple(ends)
    assert {one.step for one in ends} == OVER


def test_what_most_transactions_are_takes_no_more_than_the_status_has_room_for() -> None:
    """8 KiB hold a dozen, in the longest names that are usual, beside all else."""
    resize = Change(Kind.DRAIN_FIRST, DECODE, PREFILL, DRAIN.victims, {DECODE: 5, PREFILL: 3}, {DECODE: 4, PREFILL: 4})
    back = replace(begun("drainFirst-llama-decode-4-1800000000", 7, resize, NOW), step=Step.READY).returning(
        "not ready within 900 s", NOW
    )
    for one in (ONE, back):
        assert len(json.dumps(record([one]), separators=(",", ":"))) <= 400


def test_a_reason_is_cut_short_and_times_are_to_the_millisecond() -> None:
    (told,) = record([replace(ONE, why="x" * 500, since_s=NOW - 1.23456)])
    assert (len(told["why"]), told["since_s"]) == (LONGEST_WHY, NOW - 1.235)


def test_a_time_to_come_counts_as_now() -> None:
    """So that a clock that was ahead makes no settling time shorter."""
    (one,) = restored(changed(since_s=NOW + 60.0, started_s=NOW + 60.0, away_s=NOW + 60.0), NOW)
    assert (one.since_s, one.started_s, one.away_s) == (NOW, NOW, NOW)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ("nonsense", "it: 'nonsense' is not a list"),
        ([3], "[0]: 3 is not an object"),
        (changed(key=None), "[0].key: None is not a text of at most 400 characters"),
        (changed(key=...), "[0].key: None is not a text"),
        (changed(epoch=-1), "[0].epoch: -1 is not a whole number from 0 to 2147483647"),
        (changed(kind="teleport"), "[0].kind: 'teleport' is of a newer release, this one knows drain, relabel, switch,"),
        (changed(kind=["drain"]), "[0].kind: a list is not a text"),
        (changed(step="fold"), "[0].step: 'fold' is of a newer release, this one knows leave, idle,"),
        (changed(step="join"), "[0].step: 'join' is no step of drain"),
        (changed(step="undone"), "[0].step: 'undone' is no step of drain"),
        (changed(back=[]), "[0].step: 'idle' is no step of drain on its way back"),
        (changed(step="rejoin", back=["grow"]), "[0].back: 'grow' is no step of drain on its way back"),
        (changed(step="rejoin", back=["fold"]), "[0].back: 'fold' is of a newer release"),
        (changed(step="rejoin", back="rejoin"), "[0].back: 'rejoin' is not a list"),
        (
            [{**TOLD, "from": "encode", "to": "encode"}],
            "[0].from: 'encode' is of a newer release, this one knows prefill, decode",
        ),
        (changed(to="prefill"), "[0].to: 'prefill' is not what drain from decode leads to"),
        (changed(kind="switch"), "[0].to: 'decode' is not what switch from decode leads to"),
        (changed(victims=...), "[0].victims: None is not a list"),
        (changed(victims=[["llama-decode-4"]]), "[0].victims: 1 values, name and uid are needed"),
        (changed(victims=[["llama-decode-4", 3]]), "[0].victims: 3 is not a text of at most 253 characters"),
        (changed(kind="switch", to="prefill", victims=[]), "[0].victims: 0 of them, a switch has one"),
        (changed(before=...), "[0].before: no role is counted, decode must be"),
        (changed(after={"decode": 4, "prefill": 1}), "[0].after: decode, prefill is counted, decode must be"),
        (changed(after={"decode": -4}), "[0].after.decode: -4 is not a whole number"),
        (changed(after={"encode": 4}), "[0].after: 'encode' is of a newer release"),
        (changed(since_s=float("nan")), "[0].since_s: nan is not a number"),
        (changed(since_s="noon"), "[0].since_s: 'noon' is not a number"),
        (changed(started_s=...), "[0].started_s: None is not a number"),
        (changed(away_s=True), "[0].away_s: True is not a number"),
        (changed(why=3), "[0].why: 3 is not a text of at most 120 characters"),
        (changed(forced=1.5), "[0].forced: 1.5 is not a whole number"),
        ([TOLD, TOLD], "[1].key: 'drain-llama-decode-4-1800000000' is there twice"),
        (changed(key="x" * 10_000), "is not a text of at most 400 characters"),
    ],
)
def test_what_is_no_transaction_is_refused_with_where_and_what(raw: object, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as refused:
        restored(raw, NOW)
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 300


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*TOLD, "back", "why", "forced"]), inner),
        max_leaves=8,
    ),
    st.sampled_from([*TOLD, "back", "why", "forced"]),
)
def test_garbage_is_refused_and_never_raises_anything_else(garbage: object, where: str) -> None:
    mended: Mapping[str, object] = {**TOLD, where: garbage}
    for raw in (garbage, [garbage], [mended]):
        with suppress(Refused):
            found = restored(raw, NOW)
            assert restored(record(found), NOW) == found
