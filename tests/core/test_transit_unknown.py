"""Does what is not known move nothing?

Any record at any step, and any look at it, in full and with parts of it hidden. A look that tells nothing changes nothing
before the deadline and asks for nothing. Whatever a look in part brings forward or asks for, the same look in full does too,
or knows why not: knowing more is never worse. And a look is a value: the same one always says the same, and brings a record
to rest within a few steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

from hypothesis import assume, given
from hypothesis import strategies as st

from autoscaler.core.duties import Remake, Route, duties
from autoscaler.core.fleet import Role
from autoscaler.core.sight import AWAY, Seen, Sight
from autoscaler.core.transaction import PATHS, Change, Step, Transaction
from autoscaler.core.transit import Patience, advance
from tests.core.test_transaction_record import transactions
from tests.core.transaction_life import MOST_STEPS
from tests.examples import examples

PATIENCE = Patience()
SHORT_S = 9.0  # within everybody's patience, and settled


def counts(change: Change) -> st.SearchStrategy[Mapping[Role, int]]:
    """Of targets, near those of a change."""
    return st.fixed_dictionaries(
        {
            role: st.integers(min(count, after) - 1, max(count, after) + 1)
            for role, count, after in ((role, change.before[role], change.after[role]) for role in change.before)
        }
    )


def looks(one: Transaction) -> st.SearchStrategy[Sight]:
    """At this record, with everything told."""
    seen = st.builds(
        Seen,
        same=st.booleans(),
        stands=st.just(True),
        going=st.booleans(),
        routed=st.sampled_from((*Role, AWAY)),
        role=st.sampled_from(Role),
        idle=st.booleans(),
        requests=st.integers(0, 2),
        refused=st.sampled_from(("", "refused")),
        broken=st.sampled_from(("", "broken")),
    ) | st.just(Seen(same=False, stands=False))
    few = st.integers(0, 2)
    return st.builds(
        Sight,
        st.fixed_dictionaries({victim.name: seen for victim in one.change.victims}),
        counts(one.change),
        counts(one.change),
        counts(one.change),
        few,
        few,
        few,
    )


@st.composite
def looked_at(draw: st.DrawFn) -> tuple[Transaction, Sight, Sight, float]:
    """A record, a look at it in full, the same in part, and when: before the deadline of its step."""
    one = draw(transactions())
    full = draw(looks(one))
    names = sorted({each.name for each in (*fields(Seen), *fields(Sight))} - {"victims", "going"})
    return one, full, hidden(full, set(draw(st.lists(st.sampled_from(names), min_size=1)))), one.since_s + SHORT_S


def hidden(sight: Sight, names: set[str]) -> Sight:
    """Without these facts."""
    unknown = {each.name: getattr(Seen(), each.name) for each in fields(Seen) if each.name in names}
    victims = {name: replace(seen, **unknown) for name, seen in sight.victims.items()}
    untold = {each.name: getattr(Sight(), each.name) for each in fields(Sight) if each.name in names}
    return replace(sight, victims=victims, **untold)


def at_rest(one: Transaction, sight: Sight, now: float) -> Transaction:
    """After all that one look brings."""
    for _ in range(MOST_STEPS):
        after = advance(one, sight, now, PATIENCE)
        if after == one:
            return one
        one = after
    raise AssertionError(f"goes round in circles at {one.step}")


@given(transactions(), st.floats(0.0, 59.0))
def test_a_look_that_tells_nothing_changes_nothing_before_the_deadline_and_asks_for_nothing(
    one: Transaction, waited_s: float
) -> None:
    now = one.since_s + waited_s
    assume(one.away_s is None or one.away_s <= now)
    assert advance(one, Sight(), now, PATIENCE) == one
    assert duties(one, Sight()) == ()


@examples(80)
@given(looked_at())
def test_knowing_more_is_never_worse(drawn: tuple[Transaction, Sight, Sight, float]) -> None:
    """What a look in part lets come true has come true by the whole look too, unless that shows a victim made anew."""
    one, full, part, now = drawn
    less, more = advance(one, part, now, PATIENCE), advance(one, full, now, PATIENCE)
    if forward(one, less):
        assert more.step is less.step or (more.step is Step.UNDONE and more.why.endswith("template"))


@examples(80)
@given(looked_at())
def test_nothing_is_asked_for_that_a_whole_look_would_not_ask_for(drawn: tuple[Transaction, Sight, Sight, float]) -> None:
    """But to keep out of routing, and then to make anew, who may be in no role at all: that is what not knowing is there."""
    one, full, part, _ = drawn
    wary = one.step in (Step.SWITCH, Step.REMAKE)
    for duty in set(duties(one, part)) - set(duties(one, full)):
        assert wary
        assert duty.role is None if isinstance(duty, Route) else isinstance(duty, Remake)


@examples(80)
@given(looked_at())
def test_a_look_always_says_the_same_and_brings_a_record_to_rest(drawn: tuple[Transaction, Sight, Sight, float]) -> None:
    one, full, part, now = drawn
    for sight in (full, part):
        before = repr((one, sight))
        assert at_rest(one, sight, now) == at_rest(one, sight, now)
        assert duties(one, sight) == duties(one, sight)
        assert repr((one, sight)) == before


def forward(one: Transaction, after: Transaction) -> bool:
    """Whether a record has gone on along its path."""
    path = (*PATHS[one.change.kind], Step.DONE)
    return not one.undoing and not after.undoing and path.index(after.step) > path.index(one.step)
