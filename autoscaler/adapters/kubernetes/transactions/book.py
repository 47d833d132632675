"""Which transactions of a fleet are under way, and where do they stand written?

In the PDAutoscaler's status, through the ledger, before anything is done for them. The leader of a term reads them from the
server once, when it first asks, and knows from then on what it stored itself; anybody else shows what the watched object
says, which is a moment old and never acted on.

One fleet's transactions are in one hand at a time (`alone`): a tick that begins one and the conductor that moves another on
store the same list. After a fault nobody knows what is stored: it is asked for again before anything else is done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from autoscaler.adapters.kubernetes.api import ApiFault
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.core.transaction import Transaction
from autoscaler.core.transaction_record import record, restored


class Store(Protocol):
    """Where the records are kept; `Ledger` is one."""

    def transactions(self, key: str, term: int) -> Sequence[Any] | ApiFault:
        """What is stored, for the leader of `term`."""
        ...

    def transact(self, key: str, term: int, records: Sequence[Any]) -> ApiFault | None:
        """Store these instead; a fault: they must not be acted on."""
        ...


UnderWay = tuple[Transaction, ...]


GONE = ApiFault(404, "NotFound", "the PDAutoscaler is gone: there is nowhere to store a transaction")


@dataclass(frozen=True, slots=True)
class _Page:
    """What is stored of one object, as the leader of `term` knows it; `sure`: nothing has happened since."""

    uid: str
    term: int
    under_way: UnderWay
    sure: bool = True


class Book:
    """The transactions of many fleets. Thread-safe. `kept` finds the stored object of a fleet."""

    def __init__(self, store: Store, kept: Callable[[str], Kept | None]) -> None:
        self._store, self._kept = store, kept
        self._pages: dict[str, _Page] = {}
        self._locks: dict[str, threading.RLock] = {}

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Nobody else stores anything about this fleet meanwhile."""
        with self._locks.setdefault(key, threading.RLock()):
            yield

    def under_way(self, key: str, term: int | None, now: float) -> UnderWay | ApiFault:
        """What is under way, the oldest first. With a `term` as its leader must know it, without one as far as it is seen."""
        kept = self._kept(key)
        if kept is None:
            return ()
        if term is None:
            state = kept.status.get("state")
            return _read(state.get("transactions", ()) if isinstance(state, dict) else (), now)
        with self.alone(key):
            page = self._pages.get(key)
            if page is None or not page.sure or (page.uid, page.term) != (kept.uid, term):
                stored = self._store.transactions(key, term)
                found = stored if isinstance(stored, ApiFault) else _read(stored, now)
                if isinstance(found, ApiFault):
                    return found
                page = self._pages[key] = _Page(kept.uid, term, found)
            return page.under_way

    def put(self, key: str, term: int, now: float, *changed: Transaction) -> ApiFault | None:
        """Store these in place of those of their keys, or as new ones; those that are over are struck out. A fault: nothing may
        be done for them, and what is stored is asked for again.
        """
        with self.alone(key):
            known = self.under_way(key, term, now)
            page = self._pages.get(key)
            if isinstance(known, ApiFault) or page is None:
                return known if isinstance(known, ApiFault) else GONE
            merged = {one.key: one for one in (*known, *changed)}
            left = tuple(one for one in merged.values() if not one.over)
            fault = self._store.transact(key, term, record(left))
            self._pages[key] = _Page(page.uid, term, left) if fault is None else replace(page, sure=False)
            return fault

    def known(self, key: str, term: int) -> UnderWay | None:
        """What the leader of `term` knows to be under way, without a lock or a request; None where it has to ask."""
        page, kept = self._pages.get(key), self._kept(key)
        if page is None and kept is not None and not _tells(kept):
            return ()
        if page is None or kept is None or not page.sure or (page.uid, page.term) != (kept.uid, term):
            return None if kept is not None else ()
        return page.under_way

    def forget(self, keys: Collection[str]) -> None:
        """These fleets are managed no more."""
        for key in keys:
            self._pages.pop(key, None)

    @property
    def keys(self) -> frozenset[str]:
        """The fleets of which something is known."""
        return frozenset(tuple(self._pages))


def _tells(kept: Kept) -> bool:
    """Whether the object, as it was watched, has anything under way. One that we have not heard of yet is asked by its tick."""
    state = kept.status.get("state")
    return isinstance(state, dict) and bool(state.get("transactions"))


def _read(stored: object, now: float) -> UnderWay | ApiFault:
    try:
        return restored(stored, now)
    except ValueError as error:
        return ApiFault(0, "TransactionsUnreadable", f"status.state.transactions: {error}; nothing is done before that is mended")
