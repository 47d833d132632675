"""At which of its writes does a controller die, or stand still?

Every write passes here one by one, whatever it goes to: the API server (proxy.py) or an engine (`gated`). Something happens at
the n-th, counted over all processes of a case, renewals of Leases left out:

    before        SIGKILL before it is sent
    answer lost   SIGKILL when it was carried out and nobody has heard so
    late          SIGSTOP; it is under way while a successor leads and ends everything, and arrives after that

Between the first two is every moment in which a process can die, for a write that is neither done nor not done does not exist.
The third is what the term of a leader is for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from tests.e2e.plane.chaos.driver import Leader
from tests.engines.contract import Switching
from tests.engines.engine import StubEngine
from tests.engines.loopback import Answer, Request
from tests.engines.sglang import Sglang

T = TypeVar("T")


class Fate(StrEnum):
    """What happens to a process at a write."""

    BEFORE = "before"
    UNANSWERED = "answer lost"
    LATE = "late"


class Gate:
    """Counts the writes of one case. `fates`: of which of them, from 0. `leader` is whose turn it is; `late`: it stands still."""

    def __init__(self, fates: Mapping[int, Fate] | None = None) -> None:
        self.writes: list[str] = []
        self.struck = 0
        self.leader: Leader | None = None
        self.late = threading.Event()
        self._fates, self._lock, self._released = dict(fates or {}), threading.Lock(), threading.Event()

    def passing(self, what: str, do: Callable[[], T]) -> T | None:
        """Let it be done; None where nobody is left to be told."""
        with self._lock:
            fate, leader = self._fates.get(len(self.writes)), self.leader
            self.writes.append(what if fate is None else f"{what}: {fate}")
            self.struck += fate is not None
            if leader is not None and fate is Fate.BEFORE:
                leader.kill()
                return None
            if leader is not None and fate is Fate.LATE:
                leader.pause()
        if fate is Fate.LATE:
            self.late.set()
            self._released.wait()
        done = do()
        if leader is not None and fate is Fate.UNANSWERED:
            leader.kill()
            return None
        return done

    def release(self) -> None:
        """Let a late write arrive."""
        self._released.set()


def gated(gate: Gate, switching: Switching) -> type[Sglang]:
    """SGLang's contract, whose role switch is a write, of which this comes."""

    class Gated(Sglang):
        def __init__(self, engine: StubEngine) -> None:
            super().__init__(engine)
            engine.switching = switching

        def answer(self, request: Request) -> Answer | None:
            """The same through the gate."""
            answered = super().answer
            if request.path != "/pd_role_switch":
                return answered(request)
            return gate.passing(f"POST {request.path}", lambda: answered(request))

    return Gated
