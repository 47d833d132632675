"""How is a PDAutoscaler's status written, so that of two leaders only the later one acts?

A Lease tells who leads, but a leader that was paused between asking and writing does not know that its term is over. So
each term claims each object by compare-and-swap before its first write, and every write after it is refused by the API
server as soon as a later term has claimed (law 9):

    claim    read the object; epoch <= term? then one JSON patch: `test` uid and resourceVersion, write state.epoch = term
    later    one JSON patch: `test` uid, state.epoch = term and state.format, write

`intend` notes in state.desired what a pool is about to be asked for, before `/scale` is: a write that is refused there must
not be made here. `publish` tells the fleet's story and keeps what the next leader resumes from (core/state.py):

    state = {"format": 1, "epoch": term, "desired": {role: replicas}, "transactions": [...], "memory": {...}}

`transactions` reads what is under way, as the claim finds it, and `transact` stores it anew before the next step of any of
them is begun (core/transaction.py): a leader whose term is over is refused there, before it has drained or flipped anything.

A claim needs no request of its own: the first write of a term is the claim. After anything that failed, also a request
without an answer, the object is read again. What is stored is written back as it was where it is not ours to know: a
state of a newer format is never touched, and nothing is scaled under it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol
from urllib.parse import quote

from autoscaler.adapters.kubernetes.api import ApiFault, Body, Operation
from autoscaler.adapters.kubernetes.policies import Kept
from autoscaler.core.action import Action
from autoscaler.core.state import FORMAT
from autoscaler.policy.crd.definition import GROUP, PLURAL, VERSION
from autoscaler.policy.crd.status import STATE_BYTES

GONE = ApiFault(404, "NotFound", "the PDAutoscaler is gone, or another of its name stands there")
OWN = ("epoch", "desired", "transactions")

log = logging.getLogger(__name__)

State = Mapping[str, Any]


class LedgerApi(Protocol):
    """What the ledger needs of an API server."""

    def get(self, path: str, **query: str) -> Body | ApiFault:
        """One object."""
        ...

    def patch(self, path: str, operations: Sequence[Operation]) -> Body | ApiFault:
        """Apply a JSON patch."""
        ...


@dataclass(frozen=True, slots=True)
class Claim:
    """What we know to be stored, and the operations that fail if it is no longer so. `ours`: the state may be written."""

    uid: str
    term: int
    state: State
    tests: tuple[Operation, ...]
    ours: bool = True


Compose = Callable[[Claim], Operation | ApiFault]


@dataclass(slots=True)
class _Page:
    """One fleet: its lock is held during requests, so that an intent and a story do not overwrite each other."""

    lock: Lock = field(default_factory=Lock)
    claim: Claim | None = None


class Ledger:
    """Writes the status of every PDAutoscaler. `kept` finds the stored object of a fleet. Thread-safe."""

    def __init__(self, api: LedgerApi, kept: Callable[[str], Kept | None]) -> None:
        self._api, self._kept = api, kept
        self._pages: dict[str, _Page] = {}
        self._oversize: set[str] = set()  # whose record is too large, told once

    def intend(self, key: str, term: int, action: Action) -> ApiFault | None:
        """Note what is about to be written to `/scale`, as the leader of `term`. A fault: it must not be written."""
        kept = self._kept(key)
        if kept is None:
            return GONE

        def noted(claim: Claim) -> Operation | ApiFault:
            if not claim.ours:
                return ApiFault(409, "NewerState", _format(claim.state, kept))
            desired = {**claim.state.get("desired", {}), action.role.value: action.to_replicas}
            return _add("/status/state", {**claim.state, "desired": desired})

        return self._write(kept, term, noted)

    def transactions(self, key: str, term: int) -> Sequence[Any] | ApiFault:
        """What is stored as under way, for the leader of `term`: of the claim it holds, or as the server has it now."""
        kept = self._kept(key)
        if kept is None:
            return GONE
        page = self._pages.setdefault(kept.key, _Page())
        with page.lock:
            claim = page.claim
            if claim is None or (claim.uid, claim.term) != (kept.uid, term):
                looked = self._look(kept, term)
                if isinstance(looked, ApiFault):
                    return looked
                claim = page.claim = looked
        stored = claim.state.get("transactions") or ()
        return stored if isinstance(stored, list | tuple) else [stored]

    def transact(self, key: str, term: int, records: Sequence[State]) -> ApiFault | None:
        """Store these as what is under way, as the leader of `term`. A fault: nothing of theirs may be done."""
        kept = self._kept(key)
        if kept is None:
            return GONE

        def noted(claim: Claim) -> Operation | ApiFault:
            if not claim.ours:
                return ApiFault(409, "NewerState", _format(claim.state, kept))
            others = {name: part for name, part in claim.state.items() if name != "transactions"}
            return _add("/status/state", {**others, "transactions": list(records)} if records else others)

        return self._write(kept, term, noted)

    def publish(self, kept: Kept, term: int, story: Body, record: State | None) -> ApiFault | None:
        """Write a fleet's status, as the leader of `term`. `record` is what to resume from; None: keep what is stored."""

        def told(claim: Claim) -> Operation:
            return _add("/status", {**story, "state": self._with_record(kept.key, claim, record)})

        return self._write(kept, term, told)

    def forget(self, key: str) -> None:
        """The fleet is managed no more."""
        self._pages.pop(key, None)
        self._oversize.discard(key)

    def _write(self, kept: Kept, term: int, compose: Compose) -> ApiFault | None:
        """Write by the claim we hold; if there is none, or what it said is no longer true, by a new one."""
        page = self._pages.setdefault(kept.key, _Page())
        with page.lock:
            held, page.claim = page.claim, None
            if held is not None and (held.uid, held.term) == (kept.uid, term):
                fault = self._write_by(held, kept, page, compose)
                if fault is None or not _untrue(fault):
                    return fault
            claim = self._look(kept, term)
            return claim if isinstance(claim, ApiFault) else self._write_by(claim, kept, page, compose)

    def _write_by(self, claim: Claim, kept: Kept, page: _Page, compose: Compose) -> ApiFault | None:
        operation = compose(claim)
        if isinstance(operation, ApiFault):
            return operation
        answer = self._api.patch(f"{_path(kept)}/status", [*claim.tests, operation])
        if isinstance(answer, ApiFault):
            return answer
        page.claim = _held(claim, answer)
        return None

    def _look(self, kept: Kept, term: int) -> Claim | ApiFault:
        """Read the object, for a write that claims it."""
        found = self._api.get(_path(kept))
        if isinstance(found, ApiFault):
            return found
        metadata, status = found.get("metadata") or {}, found.get("status")
        if metadata.get("uid") != kept.uid:
            return GONE
        state = (status or {}).get("state") or {}
        epoch = state.get("epoch")
        if isinstance(epoch, int) and epoch > term:
            return ApiFault(409, "LaterTerm", _later(epoch, term, kept))
        tests = [_test("/metadata/uid", kept.uid), _test("/metadata/resourceVersion", metadata.get("resourceVersion"))]
        room = () if status else (_add("/status", {}),)
        if state.get("format", FORMAT) > FORMAT:
            return Claim(kept.uid, term, state, (*tests, *room), ours=False)
        desired = state.get("desired")
        claimed = {**state, "format": FORMAT, "epoch": term, "desired": desired if isinstance(desired, dict) else {}}
        return Claim(kept.uid, term, claimed, (*tests, *room))

    def _with_record(self, key: str, claim: Claim, record: State | None) -> State:
        """The state with what to resume from, unless that is not ours to write or too large for its place."""
        if not claim.ours or record is None:
            return claim.state
        whole = {**claim.state, **{name: part for name, part in record.items() if name not in OWN}}
        size = len(json.dumps(whole, separators=(",", ":")).encode())
        if size <= STATE_BYTES:
            self._oversize.discard(key)
            return whole
        if key not in self._oversize:
            log.error("%s status.state would have %d bytes, at most %d are kept: left as it was", key, size, STATE_BYTES)
            self._oversize.add(key)
        return claim.state


def _held(claim: Claim, answer: Body) -> Claim | None:
    """The claim after a write, from what the server says is stored now; None if that is not ours."""
    state = (answer.get("status") or {}).get("state") or {}
    if not claim.ours or state.get("epoch") != claim.term:
        return None
    stored = {"/metadata/uid": claim.uid, "/status/state/epoch": claim.term, "/status/state/format": FORMAT}
    return Claim(claim.uid, claim.term, state, tuple(_test(path, value) for path, value in stored.items()))


def _untrue(fault: ApiFault) -> bool:
    """Whether it failed because something stored is not what we took it for: 422 without a named field is a `test`."""
    return fault.status == 409 or (fault.status == 422 and not fault.causes)


def _format(state: State, kept: Kept) -> str:
    found = f"status.state has format {state['format']}, this release knows up to {FORMAT}: a newer one wrote it"
    return f"{found}; nothing is scaled before that runs again, or the state is removed: {_removal(kept)}"


def _later(epoch: int, term: int, kept: Kept) -> str:
    """Said by a leader of the past, whom nobody heeds; but also where terms began anew, or somebody wrote one by hand."""
    return f"a later leader (term {epoch}) has taken over from term {term}; if there is none, under no Lease: {_removal(kept)}"


def _removal(kept: Kept) -> str:
    """How an operator takes a state away that stands in the way. What is lost are the moves that cooldowns count."""
    patch = """'[{"op":"remove","path":"/status/state"}]'"""
    return f"kubectl patch pda {kept.name} -n {kept.namespace} --subresource=status --type=json -p {patch}"


def _path(kept: Kept) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{kept.namespace}/{PLURAL}/{quote(kept.name)}"


def _add(path: str, value: Any) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _test(path: str, value: Any) -> Operation:
    return {"op": "test", "path": path, "value": value}
