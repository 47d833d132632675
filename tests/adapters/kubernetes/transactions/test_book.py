"""Is what is under way stored before it is known, and never acted on where nobody knows what is stored?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.adapters.kubernetes.transactions.book import GONE, Book
from autoscaler.core.transaction import Kind, Step, Transaction
from autoscaler.core.transaction_record import record
from tests.adapters.kubernetes.transactions.standing_fleet import NOW, moving

KEY, TERM = "default/chat", 4
LOST = ApiFault(0, "ReadTimeoutError", "no answer")
DRAIN = moving(Kind.DRAIN, Step.IDLE, ["prefill-2"])
FLIP = moving(Kind.SWITCH, Step.LEAVE, ["prefill-0"])


class StoreOf:
    """A place for records. `fault` answers every write, which is carried out all the same where it is `deaf`."""

    def __init__(self, *records: Any) -> None:
        self.records: Any = list(records)
        self.fault: ApiFault | None = None
        self.deaf = False
        self.reads = 0

    def transactions(self, key: str, term: int) -> Sequence[Any] | ApiFault:
        self.reads += 1
        found: Sequence[Any] = self.records
        return found

    def transact(self, key: str, term: int, records: Sequence[Any]) -> ApiFault | None:
        if self.fault is None or self.deaf:
            self.records = list(records)
        return self.fault


def kept(status: dict[str, Any] | None = None, uid: str = "u1") -> Kept:
    return Kept(uid, 1, "default", "chat", status or {})


def book(store: StoreOf, seen: Kept | None = None) -> Book:
    return Book(store, lambda key: seen or kept())


def keys(found: object) -> list[str]:
    assert isinstance(found, tuple), found
    return [one.key for one in found]


def test_a_leader_reads_once_and_then_knows_what_it_stored() -> None:
    store = StoreOf(*record([DRAIN]))
    of = book(store)
    assert keys(of.under_way(KEY, TERM, NOW)) == [DRAIN.key]
    assert of.put(KEY, TERM, NOW, FLIP) is None
    assert keys(of.under_way(KEY, TERM, NOW)) == keys(of.known(KEY, TERM)) == [DRAIN.key, FLIP.key]
    assert (store.records, store.reads) == (record([DRAIN, FLIP]), 1)


def test_a_later_term_and_an_object_made_anew_read_again() -> None:
    store, seen = StoreOf(*record([DRAIN])), [kept()]
    of = Book(store, lambda key: seen[0])
    of.under_way(KEY, TERM, NOW)
    store.records = record([FLIP])
    assert keys(of.under_way(KEY, TERM + 1, NOW)) == [FLIP.key]
    seen[0], store.records = kept(uid="u2"), []
    assert of.under_way(KEY, TERM + 1, NOW) == ()


def test_what_is_over_is_struck_out_and_what_goes_on_keeps_its_place() -> None:
    store = StoreOf(*record([DRAIN, FLIP]))
    of = book(store)
    further = DRAIN.onward(NOW)
    assert of.put(KEY, TERM, NOW, further) is None
    assert of.under_way(KEY, TERM, NOW) == (further, FLIP)
    over = Transaction(FLIP.key, 1, FLIP.change, Step.UNDONE, NOW, NOW)
    assert of.put(KEY, TERM, NOW, over) is None
    assert store.records == record([further])


@pytest.mark.parametrize("deaf", [False, True])
def test_after_a_fault_what_is_stored_is_asked_for_again(deaf: bool) -> None:
    """A write whose answer was lost may have been carried out."""
    store = StoreOf(*record([DRAIN]))
    of = book(store)
    store.fault, store.deaf = LOST, deaf
    assert of.put(KEY, TERM, NOW, FLIP) == LOST
    assert of.known(KEY, TERM) is None
    store.fault = None
    assert keys(of.under_way(KEY, TERM, NOW)) == ([DRAIN.key, FLIP.key] if deaf else [DRAIN.key])


@pytest.mark.parametrize("garbage", [[{"key": 7}], ["x"], "all", {"a": 1}])
def test_a_record_that_cannot_be_read_is_told_and_nothing_is_stored_over_it(garbage: Any) -> None:
    store = StoreOf()
    store.records = garbage
    of = book(store, kept({"state": {"transactions": garbage}}))
    for term in (TERM, None):
        fault = of.under_way(KEY, term, NOW)
        assert isinstance(fault, ApiFault)
        assert str(fault).startswith("TransactionsUnreadable: status.state.transactions: ")
        assert str(fault).endswith("; nothing is done before that is mended")
    assert isinstance(of.put(KEY, TERM, NOW, DRAIN), ApiFault)
    assert store.records == garbage


def test_who_does_not_lead_shows_what_was_watched_and_asks_nobody() -> None:
    store = StoreOf()
    of = book(store, kept({"state": {"transactions": record([DRAIN])}}))
    assert keys(of.under_way(KEY, None, NOW)) == [DRAIN.key]
    assert book(store, kept({"state": "garbage"})).under_way(KEY, None, NOW) == ()
    assert store.reads == 0


def test_a_fleet_that_is_gone_has_nothing_under_way_and_no_place_for_more() -> None:
    store = StoreOf()
    of = Book(store, lambda key: None)
    assert of.under_way(KEY, TERM, NOW) == of.known(KEY, TERM) == ()
    assert of.put(KEY, TERM, NOW, DRAIN) == GONE
    assert store.records == []


def test_a_new_leader_knows_whom_it_has_to_ask() -> None:
    told = kept({"state": {"transactions": record([DRAIN])}})
    assert book(StoreOf(), told).known(KEY, TERM) is None
    assert book(StoreOf()).known(KEY, TERM) == ()
    of = book(StoreOf(*record([DRAIN])), told)
    of.under_way(KEY, TERM, NOW)
    assert of.known(KEY, TERM + 1) is None
    assert of.keys == {KEY}
    of.forget(of.keys)
    assert of.keys == frozenset()
