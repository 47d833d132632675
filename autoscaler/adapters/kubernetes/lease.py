"""Which of several controllers may act?

The one that holds a Lease, and only while it knows that it holds it. The election shipped with the Kubernetes client
keeps its work running after it lost the API server (reference/python.md 1.6), so this is our own loop of two rules:

    acting      now - last successful renewal < `renew_deadline_s`, on the monotonic clock, taken before the request
    taking over the record has not changed for its whole duration, as seen by our own clock since we first saw it

A write begun at the last moment of the deadline may take as long as a request may take before it reaches the server.
So deadline + request time-out must stay under the duration: 7 + 8 < 16 s. Nobody compares clocks of two machines.

The term is the Lease's count of transitions: it grows with every change of holder and names whose writes are whose. Where
terms are written down elsewhere too (ledger.py), a Lease that somebody deleted must not begin again at 0: its writer would
be taken for a leader of long ago, for ever. `count_on_from` tells where to begin.

The holder may say something of itself to the others, in an annotation of the Lease (`say`): where it tells of fleets, so that
they can ask it. It is read with the Lease, and written with each renewal.

Without a Lease nothing is ever scaled, so what keeps us from it (a Role that is missing, a namespace that is not there) is
told, once each time that it changes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from autoscaler.adapters.kubernetes.api import CONNECT_S, READ_S, ApiFault, Body
from autoscaler.errands import attempt

SAID = "pdautoscaler.io/"
PATIENCE_S = 0.5  # for the try in flight, when stopping

log = logging.getLogger(__name__)


class LeaseApi(Protocol):
    """What an election needs of an API server."""

    def get(self, path: str, **query: str) -> Body | ApiFault:
        """One object."""
        ...

    def create(self, path: str, body: Body) -> Body | ApiFault:
        """A new object in a collection."""
        ...

    def replace(self, path: str, body: Body) -> Body | ApiFault:
        """A whole object; refused with 409 if its resourceVersion is not the current one."""
        ...


@dataclass(frozen=True, slots=True)
class Timing:
    """`duration_s` others wait; `renew_deadline_s` we act on one renewal; `retry_s` between two tries."""

    duration_s: float = 16.0
    renew_deadline_s: float = 7.0
    retry_s: float = 2.0

    def __post_init__(self) -> None:
        if self.renew_deadline_s + CONNECT_S + READ_S >= self.duration_s:
            request_s = CONNECT_S + READ_S
            raise ValueError(f"renew_deadline_s {self.renew_deadline_s:g} + {request_s:g} s is not < {self.duration_s:g}")


class Election:
    """One candidate for one Lease. `step` tries once; `start` does so in a thread of its own until `stop`."""

    def __init__(
        self,
        api: LeaseApi,
        namespace: str,
        name: str,
        identity: str,
        timing: Timing = Timing(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api, self._identity, self._timing, self._monotonic = api, identity, timing, monotonic
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._metadata = {"name": name, "namespace": namespace}
        self._seen_version, self._seen_at_s = "", monotonic()
        self._held: tuple[int, float] | None = None  # (term, when last renewed), replaced as a whole
        self._last_term: Callable[[], int] = lambda: -1
        self._own_words: Mapping[str, str] = {}
        self._holders_words: Mapping[str, str] = {}  # of another one, replaced as a whole
        self._trouble = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def term(self) -> int | None:
        """The term in which we may act right now; None while we may not. Safe to call from any thread."""
        held = self._held
        if held is None or self._stopping.is_set():
            return None
        term, renewed_s = held
        return term if self._monotonic() - renewed_s < self._timing.renew_deadline_s else None

    def count_on_from(self, last_term: Callable[[], int]) -> None:
        """The first term of a Lease made anew is the one after `last_term()`; -1 if there was none."""
        self._last_term = last_term

    def say(self, **words: str) -> None:
        """What others may read of us while we hold the Lease, by name; before `start`."""
        self._own_words = {f"{SAID}{name}": word for name, word in words.items()}

    def said(self, name: str) -> str:
        """What the holder says of itself under this name; empty where it is us, or nobody, or says nothing."""
        return self._holders_words.get(f"{SAID}{name}", "")

    def start(self) -> None:
        """Be a candidate until `stop`."""
        self._thread.start()

    def stop(self, *, hand_over: bool = True) -> None:
        """Stop acting, then give the Lease up, so that a successor need not wait for it to run out.

        Not with a write of ours still under way (`hand_over=False`), and an API server that does not answer is not waited
        for: then the Lease runs out by itself, which is longer than any request may take.
        """
        was_leading = hand_over and self.term() is not None
        self._stopping.set()
        self._thread.join(PATIENCE_S)
        lease = self._api.get(self._path) if was_leading and not self._thread.is_alive() else None
        if isinstance(lease, dict) and _spec(lease).get("holderIdentity") == self._identity:
            given_up = _spec(lease) | {"holderIdentity": "", "leaseDurationSeconds": 1}
            self._api.replace(self._path, lease | {"spec": given_up})

    def step(self) -> None:
        """Look at the Lease; renew it if it is ours, take it if it is free or has run out."""
        began_s = self._monotonic()
        lease = self._api.get(self._path)
        if isinstance(lease, ApiFault):
            if lease.status == 404:
                metadata = self._metadata | {"annotations": self._own_words}
                first = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
                claim = self._claim(self._last_term() + 1, acquired=True)
                self._written(self._api.create(self._collection, first | {"spec": claim}), began_s)
            else:
                self._tell(lease)
            return
        spec, version = _spec(lease), str(lease["metadata"].get("resourceVersion", ""))
        if version != self._seen_version:
            self._seen_version, self._seen_at_s = version, began_s
        term = int(spec.get("leaseTransitions") or 0)
        if spec.get("holderIdentity") == self._identity:
            self._written(self._api.replace(self._path, self._ours(lease, self._claim(term))), began_s)
            return
        self._lose()
        self._holders_words = _annotations(lease) if spec.get("holderIdentity") else {}
        runs_s = float(spec.get("leaseDurationSeconds") or self._timing.duration_s)
        if not spec.get("holderIdentity") or began_s - self._seen_at_s >= runs_s:
            claim = self._claim(term + 1, acquired=True)
            self._written(self._api.replace(self._path, self._ours(lease, claim)), began_s)

    def _ours(self, lease: Body, claim: Mapping[str, Any]) -> Body:
        """The Lease with our claim, and our words in place of those of who had it before."""
        others = {key: word for key, word in _annotations(lease).items() if not key.startswith(SAID)}
        metadata = {**lease["metadata"], "annotations": {**others, **self._own_words}}
        return lease | {"metadata": metadata, "spec": {**_spec(lease), **claim}}

    def _claim(self, term: int, *, acquired: bool = False) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # MicroTime, for people; nobody decides by it
        claim = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": round(self._timing.duration_s),
            "renewTime": now,
            "leaseTransitions": term,
        }
        return claim | {"acquireTime": now} if acquired else claim

    def _written(self, answer: Body | ApiFault, began_s: float) -> None:
        self._tell(answer)
        if isinstance(answer, ApiFault):
            if answer.status == 409:  # somebody was faster
                self._lose()
            return
        term = int(_spec(answer)["leaseTransitions"])
        if self._held is None or self._held[0] != term:
            log.info("leading in term %d as %s", term, self._identity)
        self._held, self._holders_words = (term, began_s), {}

    def _tell(self, answer: Body | ApiFault) -> None:
        """Log what keeps us from the Lease, and that nothing does any more."""
        fault = answer if isinstance(answer, ApiFault) and answer.status != 409 else None
        trouble = fault.reason if fault else ""
        if trouble != self._trouble:
            self._trouble = trouble
            log.warning("%s: %s", self._path, f"{fault}; nothing is scaled without this Lease" if fault else "answers again")

    def _lose(self) -> None:
        if self._held is not None:
            log.warning("no longer leading: term %d is over", self._held[0])
        self._held = None

    def _run(self) -> None:
        while True:
            # A bug, or an answer that is no Lease: who stops trying is no candidate any more and tells nobody.
            attempt(f"trying for {self._path}", "", self.step, lambda _: None)
            if self._stopping.wait(self._timing.retry_s):
                return


def _annotations(lease: Body) -> Mapping[str, str]:
    told = lease["metadata"].get("annotations")
    return told if isinstance(told, dict) else {}


def _spec(lease: Body) -> dict[str, Any]:
    spec = lease.get("spec")
    return spec if isinstance(spec, dict) else {}
