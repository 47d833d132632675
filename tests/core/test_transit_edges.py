"""What does one look make of a record that a timeline seldom comes to?

One victim `d` of decode unless said otherwise, `LATE` after the deadline of every step.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoscaler.core.duties import Count, Duty, Remake, Route, Switch, duties
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Seen, Sight
from autoscaler.core.transaction import Change, Kind, Step, Transaction, Victim, begun
from autoscaler.core.transit import Patience, advance
from tests.core.transaction_life import life, until, way
from tests.core.transaction_world import NEVER, Script

PREFILL, DECODE = Role
VICTIM, OTHER = Victim("d", "u"), Victim("e", "v")
OUT = Seen(True, True, routed=AWAY, role=DECODE, idle=True, requests=0)
SOON, LATE = 10.0, 1e4
PATIENCE = Patience()


def record(kind: Kind, step: Step, *victims: Victim, undoing: bool = False, back: tuple[Step, ...] = ()) -> Transaction:
    """One at this step since 0 s, four decode and two prefill replicas before it."""
    count = 4 - len(victims or (VICTIM,))
    counts: dict[Kind, tuple[dict[Role, int], dict[Role, int]]] = {
        Kind.DRAIN: ({DECODE: 4}, {DECODE: count}),
        Kind.RELABEL: ({}, {}),
        Kind.SWITCH: ({}, {}),
    }
    before, after = counts.get(kind, ({DECODE: 4, PREFILL: 2}, {DECODE: count, PREFILL: 3}))
    to = DECODE if kind is Kind.DRAIN else PREFILL
    one = begun("one", 1, Change(kind, DECODE, to, victims or (VICTIM,), before, after), 0.0)
    return replace(one, step=step, away_s=0.0, undoing=undoing, back=back)


def look(seen: Seen, **told: object) -> Sight:
    """At one victim, others serving, and whatever else is told."""
    return Sight(**({"victims": {"d": seen}, "others": 3} | told))  # type: ignore[arg-type]


UNKNOWN = replace(OUT, routed=None)
TAKES = replace(OUT, routed=DECODE)
SILENT = replace(OUT, role=None, idle=False, requests=None)
FLIPPED = replace(OUT, role=PREFILL)


@pytest.mark.parametrize(
    ("one", "sight", "now", "step"),
    [
        pytest.param(
            record(Kind.DRAIN, Step.SHRINK), look(OUT), LATE, Step.SHRINK, id="a count that is not known may be written already"
        ),
        pytest.param(
            record(Kind.DRAIN, Step.SHRINK), look(TAKES, others=0), SOON, Step.SHRINK, id="and then nobody is called back"
        ),
        pytest.param(
            record(Kind.DRAIN, Step.LEAVE),
            look(replace(TAKES, refused="no such label")),
            SOON,
            Step.REJOIN,
            id="refused for good",
        ),
        pytest.param(
            record(Kind.RELABEL, Step.JOIN), look(replace(TAKES, refused="somebody else's label")), SOON, Step.REJOIN, id="so too"
        ),
        pytest.param(
            record(Kind.DRAIN, Step.IDLE), look(replace(OUT, idle=False, refused="once")), SOON, Step.IDLE, id="but not if out"
        ),
        pytest.param(record(Kind.DRAIN_FIRST, Step.READY), look(OUT), LATE, Step.READY, id="who may serve is not taken back"),
        pytest.param(
            record(Kind.DRAIN_FIRST, Step.READY), look(OUT, came=0), LATE, Step.UNGROW, id="who surely does not serve is"
        ),
        pytest.param(
            record(Kind.RELABEL, Step.REJOIN, undoing=True),
            look(replace(OUT, routed=PREFILL)),
            SOON,
            Step.JOIN,
            id="a label that was set after all stays",
        ),
        pytest.param(
            record(Kind.SWITCH, Step.REJOIN, undoing=True),
            look(replace(TAKES, role=PREFILL)),
            SOON,
            Step.JOIN,
            id="an engine that switched after all is let in as what it is",
        ),
        pytest.param(
            record(Kind.SWITCH, Step.REMAKE, undoing=True, back=(Step.REJOIN,)),
            look(FLIPPED),
            SOON,
            Step.JOIN,
            id="and is not made anew",
        ),
        pytest.param(
            record(Kind.SWITCH, Step.SWITCH), look(SILENT, others=0), SOON, Step.SWITCH, id="an engine that switches goes on"
        ),
        pytest.param(
            record(Kind.SWITCH, Step.SWITCH), look(OUT, others=0), SOON, Step.REMAKE, id="one that was not told does not"
        ),
        pytest.param(
            record(Kind.SWITCH, Step.SWITCH), look(TAKES), SOON, Step.REMAKE, id="one that was let in again does not either"
        ),
        pytest.param(
            record(Kind.SWITCH, Step.JOIN),
            look(replace(OUT, routed=PREFILL)),
            SOON,
            Step.REMAKE,
            id="a label is not enough where the engine says something else",
        ),
        pytest.param(
            record(Kind.SWITCH, Step.JOIN),
            look(replace(SILENT, routed=PREFILL)),
            SOON,
            Step.JOIN,
            id="or nothing",
        ),
        pytest.param(
            record(Kind.DRAIN, Step.GONE),
            look(OUT, counts={DECODE: 3}, standing={DECODE: 3}),
            SOON,
            Step.GONE,
            id="if another pod went the victim still has to",
        ),
        pytest.param(
            record(Kind.DRAIN_FIRST, Step.UNGROW, undoing=True, back=(Step.REGROW,)),
            look(OUT, counts={PREFILL: 2}, standing={PREFILL: 3}),
            LATE,
            Step.UNGROW,
            id="GPUs of newcomers on their way out are not free",
        ),
        pytest.param(record(Kind.DRAIN, Step.IDLE), look(UNKNOWN), SOON, Step.IDLE, id="idle is not out of routing"),
        pytest.param(
            record(Kind.SWITCH, Step.JOIN),
            look(replace(SILENT, broken="it said so once")),
            SOON,
            Step.JOIN,
            id="an engine that had switched is not broken by an old answer",
        ),
        pytest.param(
            record(Kind.SWITCH, Step.SWITCH),
            look(replace(SILENT, refused="not idle")),
            SOON,
            Step.SWITCH,
            id="who refused and does not tell its role may have switched",
        ),
    ],
)
def test_one_look(one: Transaction, sight: Sight, now: float, step: Step) -> None:
    assert advance(one, sight, now, PATIENCE).step is step


def test_what_is_given_up_is_counted_and_untold_is_one_at_least() -> None:
    two = record(Kind.DRAIN, Step.IDLE, VICTIM, OTHER)
    forcing = replace(PATIENCE, forces=True)
    for seen, given_up in ((Seen(False, False), 1), (OUT, 1), (SILENT, 2), (replace(SILENT, requests=4), 5)):
        forced = advance(two, look(SILENT, victims={"d": SILENT, "e": seen}), LATE, forcing)
        assert (forced.step, forced.forced) == (Step.SHRINK, given_up)


def test_nobody_is_forced_of_whom_it_is_not_known_whether_requests_are_sent_there() -> None:
    """What is given up could not be counted."""
    one = advance(record(Kind.DRAIN, Step.IDLE), look(UNKNOWN), LATE, replace(PATIENCE, forces=True))
    assert (one.step, one.forced) == (Step.REJOIN, 0)


def test_a_victim_that_somebody_else_took_is_not_waited_for() -> None:
    one = life(Kind.DRAIN, script=Script(going_s=NEVER))
    until(one, Step.IDLE)
    one.world.scale(DECODE, 2)
    assert way(one) == "leave idle shrink rejoin undone"


UNSURE = record(Kind.SWITCH, Step.REMAKE, undoing=True, back=(Step.REJOIN,))
BROKEN = record(Kind.SWITCH, Step.REMAKE, undoing=True)


@pytest.mark.parametrize("says", [OUT, FLIPPED, SILENT], ids=["its old role", "its new role", "nothing"])
def test_what_broke_in_its_switch_is_never_let_in_again_whatever_it_says_to_a_successor(says: Seen) -> None:
    """That it broke is heard by one process only; the record knows it by having no way back behind it."""
    assert advance(BROKEN, look(says), SOON, PATIENCE) == BROKEN
    assert advance(BROKEN, look(replace(says, same=False)), SOON, PATIENCE).step is Step.UNDONE


@pytest.mark.parametrize(("requests", "counted"), [(4, 4), (1, 1), (0, 1), (None, 1)])
def test_a_drain_by_force_counts_those_too_who_came_after_its_deadline(requests: int | None, counted: int) -> None:
    """Handed over before, and in the engine only by now: they go with it as well."""
    one = replace(record(Kind.DRAIN, Step.SHRINK), forced=1, why="1 requests given up after 600 s")
    late = replace(OUT, idle=False, requests=requests)
    after = advance(one, look(late, counts={DECODE: 4}, bystanders=0), SOON, PATIENCE)
    assert (after.step, after.forced) == (Step.SHRINK, counted)
    assert advance(after, look(late, counts={DECODE: 4}, bystanders=0), SOON, PATIENCE) == after


NO_DUTY = [
    (record(Kind.DRAIN, Step.LEAVE), look(TAKES, others=None)),  # it may be the last
    (record(Kind.DRAIN, Step.LEAVE), look(TAKES, others=0)),
    (record(Kind.DRAIN, Step.LEAVE), look(UNKNOWN)),
    (record(Kind.DRAIN, Step.LEAVE), look(replace(TAKES, going=True))),
    (record(Kind.DRAIN, Step.SHRINK), look(OUT, counts={DECODE: 4})),  # somebody may go along
    (record(Kind.DRAIN, Step.SHRINK), look(OUT, counts={DECODE: 4}, bystanders=1)),
    (record(Kind.DRAIN, Step.SHRINK), look(replace(OUT, idle=False), counts={DECODE: 4}, bystanders=0)),
    (record(Kind.DRAIN, Step.SHRINK), look(UNKNOWN, counts={DECODE: 4}, bystanders=0)),
    (record(Kind.DRAIN, Step.SHRINK), look(OUT, bystanders=0)),
    (record(Kind.RELABEL, Step.JOIN), look(TAKES, others=None)),
    (record(Kind.SWITCH, Step.SWITCH), look(SILENT)),  # it may be switching
    (record(Kind.SWITCH, Step.SWITCH), look(replace(OUT, idle=False))),
    (record(Kind.SWITCH, Step.JOIN), look(OUT)),
    (record(Kind.SWITCH, Step.JOIN), look(SILENT)),
    (record(Kind.SWITCH, Step.REJOIN, undoing=True), look(FLIPPED)),
    (record(Kind.SWITCH, Step.REJOIN, undoing=True), look(SILENT)),
    (UNSURE, look(replace(FLIPPED, requests=1))),
    (UNSURE, look(OUT)),
    (BROKEN, look(replace(OUT, requests=1))),
    (record(Kind.DRAIN_FIRST, Step.GROW), look(OUT, counts={PREFILL: 2, DECODE: 3}, standing={DECODE: 4})),
    (record(Kind.DRAIN_FIRST, Step.GROW), look(OUT, counts={PREFILL: 2, DECODE: 4}, standing={DECODE: 3})),
    (record(Kind.DRAIN_FIRST, Step.GROW), look(OUT, counts={PREFILL: 2, DECODE: 3})),
    (record(Kind.SURGE_FIRST, Step.GROW), look(OUT, counts={PREFILL: 2, DECODE: 5})),
    (record(Kind.SURGE_FIRST, Step.GROW), look(OUT, counts={PREFILL: 2})),
    (record(Kind.SURGE_FIRST, Step.UNGROW, undoing=True), look(OUT, counts={PREFILL: 3})),
    (record(Kind.SURGE_FIRST, Step.UNGROW, undoing=True), look(OUT, counts={PREFILL: 3}, came=1)),
    (record(Kind.DRAIN_FIRST, Step.REGROW, undoing=True), look(OUT, counts={PREFILL: 3, DECODE: 3}, standing={PREFILL: 2})),
    (record(Kind.DRAIN_FIRST, Step.REGROW, undoing=True), look(OUT, counts={PREFILL: 2, DECODE: 3}, standing={PREFILL: 3})),
]


@pytest.mark.parametrize(("one", "sight"), NO_DUTY)
def test_nothing_is_done_about_what_is_not_surely_so(one: Transaction, sight: Sight) -> None:
    assert duties(one, sight) == ()


DUTY: list[tuple[Transaction, Sight, Duty]] = [
    (record(Kind.DRAIN, Step.LEAVE), look(TAKES), Route(VICTIM, None)),
    (record(Kind.DRAIN, Step.SHRINK), look(OUT, counts={DECODE: 4}, bystanders=0), Count(DECODE, 4, 3)),
    (record(Kind.RELABEL, Step.JOIN), look(TAKES), Route(VICTIM, PREFILL)),
    (record(Kind.SWITCH, Step.SWITCH), look(OUT), Switch(VICTIM, PREFILL)),
    (record(Kind.SWITCH, Step.SWITCH), look(replace(SILENT, routed=DECODE)), Route(VICTIM, None)),
    (record(Kind.SWITCH, Step.JOIN), look(FLIPPED), Route(VICTIM, PREFILL)),
    (record(Kind.SWITCH, Step.REJOIN, undoing=True), look(OUT), Route(VICTIM, DECODE)),
    (record(Kind.DRAIN, Step.REJOIN, undoing=True), look(SILENT), Route(VICTIM, DECODE)),
    (UNSURE, look(SILENT), Remake(VICTIM)),
    (UNSURE, look(replace(SILENT, routed=DECODE)), Route(VICTIM, None)),
    (BROKEN, look(OUT), Remake(VICTIM)),  # whatever it says of itself
    (BROKEN, look(FLIPPED), Remake(VICTIM)),
    (BROKEN, look(replace(OUT, routed=DECODE)), Route(VICTIM, None)),
    (
        record(Kind.DRAIN_FIRST, Step.GROW),
        look(OUT, counts={PREFILL: 2, DECODE: 3}, standing={DECODE: 3}),
        Count(PREFILL, 2, 3),
    ),
    (record(Kind.SURGE_FIRST, Step.GROW), look(OUT, counts={PREFILL: 2, DECODE: 4}), Count(PREFILL, 2, 3)),
    (record(Kind.SURGE_FIRST, Step.UNGROW, undoing=True), look(OUT, counts={PREFILL: 3}, came=0), Count(PREFILL, 3, 2)),
    (
        record(Kind.DRAIN_FIRST, Step.REGROW, undoing=True),
        look(OUT, counts={PREFILL: 2, DECODE: 3}, standing={PREFILL: 2}),
        Count(DECODE, 3, 4),
    ),
]


@pytest.mark.parametrize(("one", "sight", "duty"), DUTY)
def test_what_surely_is_so_is_done(one: Transaction, sight: Sight, duty: Duty) -> None:
    assert duties(one, sight) == (duty,)
